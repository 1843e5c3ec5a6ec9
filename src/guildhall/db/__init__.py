"""The database: plain reads, transactions for writes, rows as structs. SQL stays in each room's queries."""

from guildhall.db.core import Db, Duplicate, Joined, Read, Retryable, Unkeepable, Write, open_db
from guildhall.db.ids import new_id
from guildhall.db.owner import owning

__all__ = [
    "Db",
    "Duplicate",
    "Joined",
    "Read",
    "Retryable",
    "Unkeepable",
    "Write",
    "new_id",
    "open_db",
    "owning",
]
