"""The database as its owner, for the few statements that change what tables have and run for long.

They block nobody, run outside a transaction, and have no time limit but the caller's own.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import LiteralString

import asyncpg

from guildhall.db.core import AGAIN, BUSY, LOST, SESSION, T
from guildhall.db.pool import WAIT_S
from guildhall.errors import Unavailable

_SESSION = SESSION | {
    "application_name": "guildhall-owner",
    "statement_timeout": "0",
    # What builds an index waits for older transactions, and nobody waits for it meanwhile.
    "lock_timeout": "0",
    # Several processes share memory through /dev/shm, which containers keep too small for an index.
    "max_parallel_maintenance_workers": "0",
}


class Owner:
    """One connection. What the server has put into words for us, with `format`, may be run as it is."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    async def many(self, row: type[T], sql: LiteralString, *args: object) -> list[T]:
        return [row(**record) for record in await self._connection.fetch(sql, *args)]

    async def value(self, sql: LiteralString, *args: object) -> object:
        return await self._connection.fetchval(sql, *args)

    async def run(self, statement: str) -> None:
        await self._connection.execute(statement)


@asynccontextmanager
async def owning(url: str) -> AsyncGenerator[Owner]:
    """A connection for the length of a block; cancelling what runs there ends it on the server too.

    Raises Unavailable.
    """
    try:
        connection = await asyncpg.connect(url, timeout=WAIT_S, server_settings=_SESSION)
        try:
            yield Owner(connection)
        finally:
            connection.terminate()
    except (*LOST, *BUSY, *AGAIN, TimeoutError) as error:
        raise Unavailable(retry_after_s=60) from error
