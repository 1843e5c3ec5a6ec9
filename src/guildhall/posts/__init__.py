"""Posts: what members write, in the community's own feed or in that of one of its groups."""
