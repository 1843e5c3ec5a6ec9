"""Guildhall: a self-hosted home for communities and their hubs."""

__version__ = "0.1.0"
