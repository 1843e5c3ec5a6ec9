"""Communities: people with ranks, invites, groups and posts, over the shared kernel of spaces."""
