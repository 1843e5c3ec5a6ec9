"""Groups: parts of a community with members of their own, a feed and a channel. A private one is seen by its
members and by the community's owner and admins; whoever posts in a group belongs to it."""
