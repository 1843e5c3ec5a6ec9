"""The HTTP edge: who is calling, what they may send, and how refusals look."""
