"""The embedded PostgreSQL, and the tools that dump, restore and check any PostgreSQL."""

from guildhall.providers.postgres.embedded import Cluster, EmbeddedPostgres
from guildhall.providers.postgres.errors import DatabaseToolError, EmbeddedPostgresFailed

__all__ = ["Cluster", "DatabaseToolError", "EmbeddedPostgres", "EmbeddedPostgresFailed"]
