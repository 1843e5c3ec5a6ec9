"""A connection that keeps the statements it is asked for most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from asyncpg.prepared_stmt import PreparedStatement

    _Base = asyncpg.Connection[asyncpg.Record]
else:
    _Base = asyncpg.Connection

# What these say is that the tables changed under a statement. The driver's own way tries again by itself.
_CHANGED = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)


class Connection(_Base):
    """The driver remembers statements too, but takes long to find them again: of a short read, a sixth."""

    __slots__ = ("_kept",)

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._kept: dict[str, PreparedStatement[asyncpg.Record]] = {}

    async def fetchrow_kept(self, sql: str, *args: object) -> asyncpg.Record | None:
        """As `fetchrow`, for the few statements of the busiest routes: what is kept is kept to the end."""
        try:
            statement = self._kept[sql]
        except KeyError:
            statement = self._kept[sql] = await self.prepare(sql)
        try:
            return await statement.fetchrow(*args)
        except _CHANGED:
            self._kept.pop(sql, None)
            return await self.fetchrow(sql, *args)
