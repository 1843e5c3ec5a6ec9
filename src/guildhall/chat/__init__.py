"""`/api/stream/token`: the way into the chat service. Messages never pass through here."""
