"""A pool of connections, with nothing between a statement and its connection.

The driver's own pool wraps each connection, and starts a task whenever one is given back: that costs more
than the statement of a short read. What is given back here is used by the next as it is, so whoever leaves a
connection in an unknown state must terminate it first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

import asyncpg

from guildhall.db.kept import Connection

WAIT_S = 2.0
IDLE_S = 300.0
SWEEP_S = 60.0
EXPIRE_S = 0.1


class Pool:
    """At most `size` connections, opened when they are needed, closed after IDLE_S without use."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int) -> None:
        self._connect = connect
        self._size = size
        # The most recently used last, so that the others grow old.
        self._idle: list[tuple[Connection, float]] = []
        self._lent: set[Connection] = set()
        self._opening = 0
        self._waiting: deque[tuple[asyncio.Future[Connection | None], float]] = deque()
        self._expiring: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
        self._farewells: set[asyncio.Task[None]] = set()
        self._closed = False
        self._all_back = asyncio.Event()

    def take(self) -> Connection | None:
        """An idle connection, where there is one and nobody waits: then no timer is needed."""
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                self._lent.add(connection)
                return connection
        return None

    async def acquire(self) -> Connection:
        """A connection, after at most WAIT_S. Raises TimeoutError, or what the driver raises."""
        deadline = self._loop.time() + WAIT_S
        while True:
            if self._closed:
                raise asyncpg.InterfaceError("the pool is closed")
            if (connection := self.take()) is not None:
                return connection
            if len(self._lent) + self._opening < self._size:
                async with asyncio.timeout_at(deadline):
                    return await self._open()
            if (connection := await self._wait(deadline)) is not None:
                return connection

    async def _open(self) -> Connection:
        self._opening += 1
        try:
            connection = await self._connect()
        except BaseException:
            self._opening -= 1
            # Whoever waits may have better luck, or learns the same.
            self._hand_on(None)
            raise
        self._opening -= 1
        self._lent.add(connection)
        return connection

    async def _wait(self, deadline: float) -> Connection | None:
        """The next connection given back; None says that there is room to open one."""
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiting.append((waiter, deadline))
        if self._expiring is None:
            self._expiring = self._loop.call_later(EXPIRE_S, self._expire)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                # It came too late: the next gets it.
                if (connection := waiter.result()) is not None:
                    self.release(connection)
                else:
                    self._hand_on(None)
            raise

    def _expire(self) -> None:
        """Tell those who have waited long enough. One timer for all: a timer each costs more than a wait."""
        now = self._loop.time()
        while self._waiting and (self._waiting[0][0].done() or self._waiting[0][1] <= now):
            waiter, _ = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(TimeoutError())
        self._expiring = self._loop.call_later(EXPIRE_S, self._expire) if self._waiting else None

    def release(self, connection: Connection) -> None:
        """Give a connection back, ready for its next user or closed."""
        if self._closed:
            self._lent.discard(connection)
            connection.terminate()
            if not self._lent:
                self._all_back.set()
        elif connection.is_closed():
            self._lent.discard(connection)
            self._hand_on(None)
        elif not self._hand_on(connection):
            self._lent.discard(connection)
            self._idle.append((connection, self._loop.time()))

    def _hand_on(self, connection: Connection | None) -> bool:
        """Give it to who has waited longest; False when nobody waits."""
        while self._waiting:
            waiter, _ = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    def _sweep(self) -> None:
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
        oldest = self._loop.time() - IDLE_S
        while self._idle and self._idle[0][1] < oldest:
            farewell = self._loop.create_task(_close(self._idle.pop(0)[0]))
            self._farewells.add(farewell)
            farewell.add_done_callback(self._farewells.discard)

    async def close(self) -> None:
        """Close what is idle, and the others when they are given back. Waits for them."""
        self._closed = True
        self._sweeping.cancel()
        if self._expiring is not None:
            self._expiring.cancel()
        while self._waiting:
            self._hand_on(None)
        while self._idle:
            await _close(self._idle.pop()[0])
        if self._lent:
            await self._all_back.wait()

    def terminate(self) -> None:
        """Close everything at once."""
        self._closed = True
        self._sweeping.cancel()
        if self._expiring is not None:
            self._expiring.cancel()
        for connection in (*(connection for connection, _ in self._idle), *self._lent):
            connection.terminate()
        self._idle.clear()
        self._lent.clear()


async def _close(connection: Connection) -> None:
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        await connection.close(timeout=5)
