"""What carries events from the process that made a change to every process, its own included."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
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


# What is heard in place of messages that were dropped: whoever listens may have missed something.
MISSED = b""
# How long messages wait for a bus that does not carry them, and how often it is tried again meanwhile.
PATIENCE_S = 10.0
AGAIN_S = 0.2
LEAVE_S = 2.0


class Bus(Protocol):
    """Best effort: what cannot be sent is dropped, and who listens is told when something may be missing."""

    def send(self, messages: list[bytes]) -> None:
        """Take messages to send soon. Neither waits nor raises."""
        ...

    async def listen(self, take: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        """Hand every message to `take` from now on, and MISSED for such as were dropped. Raises Unavailable.

        `lost` is called when that ends.
        """
        ...

    async def aclose(self) -> None: ...


class Waiting:
    """What waits to be sent, in batches of a few milliseconds.

    `publish` sends a batch; what it raises of `passing` may be over soon, and it is tried again for a while.
    What came of a batch that failed is not known: told twice does no harm. Instead of all that is dropped,
    MISSED is sent as soon as anything can be.
    """

    def __init__(
        self, publish: Callable[[list[bytes]], Awaitable[None]], passing: tuple[type[Exception], ...]
    ) -> None:
        self._publish = publish
        self._passing = passing
        self._messages: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._missed = False
        self._failing_since: float | None = None
        self._sending: asyncio.Task[None] | None = None

    def send(self, messages: list[bytes]) -> None:
        if len(self._messages) + len(messages) > MOST_WAITING:
            self._missed = True
        self._messages.extend(messages)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        try:
            while self._messages or self._missed:
                await asyncio.sleep(GATHER_S)
                missed, self._missed = self._missed, False
                batch = [self._messages.popleft() for _ in range(min(BATCH, len(self._messages)))]
                try:
                    await self._publish([MISSED, *batch] if missed else batch)
                    self._failing_since = None
                except self._passing as error:
                    self._missed = missed or self._missed
                    self._put_off(batch, error)
                    await asyncio.sleep(AGAIN_S)
                except Exception as error:
                    # It would fail again: what is in it cannot be sent at all.
                    logger().warning("events.not_sent", reason=type(error).__name__)
                    self._missed = True
        finally:
            self._sending = None

    def _put_off(self, batch: list[bytes], error: Exception) -> None:
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if now - self._failing_since <= PATIENCE_S:
            room = MOST_WAITING - len(self._messages)
            self._missed = self._missed or len(batch) > room
            self._messages.extendleft(reversed(batch[-room:] if room else []))
        elif batch:
            logger().warning("events.not_sent", reason=type(error).__name__)
            self._messages.clear()
            self._missed = True

    async def aclose(self) -> None:
        """Send what waits, unless that takes too long."""
        if (sending := self._sending) is not None:
            await asyncio.wait([sending], timeout=LEAVE_S)
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending


class PostgresBus:
    """NOTIFY and LISTEN.

    Not in the transaction of the change: transactions that notify commit one after another, each waiting for
    the disk. So the messages of a few milliseconds go out together in a statement of their own, right after.
    """

    def __init__(self, db: Db, url: str) -> None:
        self._db = db
        self._url = url
        self._waiting = Waiting(self._publish, (AppError, Retryable))
        self._listening: asyncpg.Connection[Any] | None = None

    def send(self, messages: list[bytes]) -> None:
        self._waiting.send(messages)

    async def _publish(self, batch: list[bytes]) -> None:
        async with self._db.single() as tx:
            # Nobody waits for it, so it is no round trip of theirs.
            await tx.connection.execute(
                "SELECT pg_notify($1, message) FROM unnest($2::text[]) AS message",
                CHANNEL,
                [message.decode() for message in batch],
            )

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
        await self._waiting.aclose()
        connection, self._listening = self._listening, None
        if connection is not None:
            with contextlib.suppress(*LOST, TimeoutError):
                await connection.close(timeout=2)
