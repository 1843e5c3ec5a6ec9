"""API keys, by which an agent acts for its person with no more rights than were named, and the agents."""
