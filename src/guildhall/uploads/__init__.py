"""Uploads: an intent names a file's address, one PUT fills it, and who knows the address reads it."""
