"""What carries events from the process that made a change to every process, its own included."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import asyncpg

from guildhall.db import Db, Retryable
from guildhall.db.core import LOST
from guildhall.errors import AppError
from guildhall.web.log import logger

CHANNEL = "guildhall_events"
GATHER_S = 0.005
MOST_WAITING = 10_000
BATCH = 500


class Bus(Protocol):
    """Best effort: what cannot be sent is dropped, and who listens is told when something may be missing."""

    def send(self, messages: list[bytes]) -> None:
        """Take messages to send soon. Neither waits nor raises."""
        ...

    async def listen(self, take: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        """Hand every message to `take` from now on; call `lost` when that ends. Raises Unavailable."""
        ...

    async def aclose(self) -> None: ...


class PostgresBus:
    """NOTIFY and LISTEN.

    Not in the transaction of the change: transactions that notify commit one after another, each waiting for
    the disk. So the messages of a few milliseconds go out together in a statement of their own, right after.
    """

    def __init__(self, db: Db, url: str) -> None:
        self._db = db
        self._url = url
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._sending: asyncio.Task[None] | None = None
        self._listening: asyncpg.Connection[Any] | None = None

    def send(self, messages: list[bytes]) -> None:
        self._waiting.extend(messages)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(GATHER_S)
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                async with self._db.single() as tx:
                    # Nobody waits for it, so it is no round trip of theirs.
                    await tx.connection.execute(
                        "SELECT pg_notify($1, message) FROM unnest($2::text[]) AS message",
                        CHANNEL,
                        [message.decode() for message in batch],
                    )
        except (AppError, Retryable) as error:
            logger().warning("events.not_sent", reason=str(error))
        finally:
            self._sending = None

    async def listen(self, take: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        def heard(_: object, __: int, ___: str, payload: object) -> None:
            take(str(payload).encode())

        def ended(connection: object) -> None:
            if self._listening is connection:
                self._listening = None
                lost()

        connection: asyncpg.Connection[Any] = await asyncpg.connect(
            self._url,
            timeout=2,
            command_timeout=10,
            server_settings={
                "application_name": "guildhall events",
                "tcp_keepalives_idle": "5",
                "tcp_keepalives_interval": "3",
                "tcp_keepalives_count": "3",
            },
        )
        self._listening = connection
        connection.add_termination_listener(ended)
        await connection.add_listener(CHANNEL, heard)

    async def aclose(self) -> None:
        """Send what waits, then stop listening."""
        if self._sending is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._sending
        connection, self._listening = self._listening, None
        if connection is not None:
            with contextlib.suppress(*LOST, TimeoutError):
                await connection.close(timeout=2)
