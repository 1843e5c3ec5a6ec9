"""The embedded PostgreSQL, and the tools that dump, restore and check any PostgreSQL."""

from guildhall.providers.postgres.dumps import dump, refuse_unless_empty, restore
from guildhall.providers.postgres.embedded import Cluster, EmbeddedPostgres
from guildhall.providers.postgres.errors import DatabaseToolError, EmbeddedPostgresFailed
from guildhall.providers.postgres.requirements import find_problems, server_version

__all__ = [
    "Cluster",
    "DatabaseToolError",
    "EmbeddedPostgres",
    "EmbeddedPostgresFailed",
    "dump",
    "find_problems",
    "refuse_unless_empty",
    "restore",
    "server_version",
]
