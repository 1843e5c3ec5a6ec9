"""Guildhall: a self-hosted home for communities and their hubs."""

from importlib.metadata import version

__version__ = version("guildhall")
