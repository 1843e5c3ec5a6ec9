"""A connection that keeps the statements it is asked for most."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.protocol import NO_TIMEOUT

if TYPE_CHECKING:
    from asyncpg.prepared_stmt import PreparedStatement

    _Base = asyncpg.Connection[asyncpg.Record]
else:
    _Base = asyncpg.Connection

# What these say is that the tables changed under a statement. The driver's own way tries again by itself.
CHANGED = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)


# What the driver takes for "none", where None means the connection's own.
_BY_CALLER: Any = NO_TIMEOUT


class Connection(_Base):
    """The driver remembers statements too, but takes long to find them again: of a short read, a sixth."""

    __slots__ = ("_kept",)

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._kept: dict[str, PreparedStatement[asyncpg.Record]] = {}

    def fetchrow_kept(self, sql: str, *args: object) -> Awaitable[asyncpg.Record | None]:
        """As `fetchrow`, for the few statements of the busiest routes: what is kept is kept to the end.

        It sets no time limit of its own; a request has one, and the server's for statements is shorter.
        Raises one of CHANGED when the tables have changed under the statement; `fetchrow_again` is for that.
        """
        statement = self._kept.get(sql)
        if statement is None:
            return self._fetchrow_first(sql, args)
        return statement.fetchrow(*args, timeout=_BY_CALLER)

    async def _fetchrow_first(self, sql: str, args: tuple[object, ...]) -> asyncpg.Record | None:
        statement = self._kept[sql] = await self.prepare(sql)
        return await statement.fetchrow(*args)

    async def fetchrow_again(self, sql: str, *args: object) -> asyncpg.Record | None:
        self._kept.pop(sql, None)
        return await self.fetchrow(sql, *args)
