"""Events by way of Redis, or what speaks its protocol: PUBLISH and SUBSCRIBE.

For installations in which many processes tell each other more than one database should carry. What is told,
to whom, and that it is told after the commit alone, is as with the other bus.
"""

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from guildhall.errors import Unavailable
from guildhall.events.bus import BATCH, GATHER_S, MOST_WAITING
from guildhall.web.log import logger

CONNECT_S = 2
SEND_S = 2
# How long messages wait for a Redis that does not answer, and how often it is asked again meanwhile.
PATIENCE_S = 10.0
AGAIN_S = 0.2
LEAVE_S = 2.0

_FAILED = (RedisError, OSError, TimeoutError)
# A peer that is gone without a word is noticed in 15 seconds.
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 3), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}


class RedisBus:
    """Whoever shares the Redis but belongs to another installation uses another channel."""

    def __init__(self, url: str, channel: str) -> None:
        self._channel = channel
        # The library must not connect again by itself: what was told meanwhile would be missed unnoticed.
        options: dict[str, Any] = {
            "socket_connect_timeout": CONNECT_S,
            "retry": Retry(NoBackoff(), 0),
            "decode_responses": False,
        }
        if not url.startswith("unix:"):
            options |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
        self._sender: Any = Redis.from_url(url, **options, socket_timeout=SEND_S)  # pyright: ignore[reportUnknownMemberType]
        self._listener: Any = Redis.from_url(url, **options, socket_timeout=None)  # pyright: ignore[reportUnknownMemberType]
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._sending: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    def send(self, messages: list[bytes]) -> None:
        self._waiting.extend(messages)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        failing_since: float | None = None
        try:
            while self._waiting:
                await asyncio.sleep(GATHER_S)
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                try:
                    async with self._sender.pipeline(transaction=False) as pipe:
                        for message in batch:
                            pipe.publish(self._channel, message)
                        await pipe.execute()
                    failing_since = None
                except _FAILED as error:
                    # Told again, since those who listen may have come back before; told twice does no harm.
                    self._waiting.extendleft(reversed(batch))
                    failing_since = failing_since or time.monotonic()
                    if time.monotonic() - failing_since > PATIENCE_S:
                        logger().warning("events.not_sent", reason=type(error).__name__)
                        self._waiting.clear()
                    else:
                        await asyncio.sleep(AGAIN_S)
        finally:
            self._sending = None

    async def listen(self, take: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        pubsub = self._listener.pubsub()
        try:
            async with asyncio.timeout(CONNECT_S + SEND_S):
                await pubsub.subscribe(self._channel)
                # Only what the server has confirmed is heard from now on.
                while (message := await pubsub.get_message(timeout=None)) is None or (
                    message["type"] != "subscribe"
                ):
                    pass
        except BaseException as error:
            with contextlib.suppress(*_FAILED):
                await pubsub.aclose()
            if isinstance(error, _FAILED):
                raise Unavailable("Events cannot be heard just now.", retry_after_s=2) from error
            raise
        self._listening = asyncio.create_task(self._read(pubsub, take, lost))

    async def _read(self, pubsub: Any, take: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        try:
            while True:
                message = await pubsub.get_message(timeout=None)
                if message is not None and message["type"] == "message":
                    take(message["data"])
        except _FAILED as error:
            logger().warning("events.lost", reason=type(error).__name__)
            self._listening = None
            lost()
        finally:
            with contextlib.suppress(*_FAILED):
                await pubsub.aclose()

    async def aclose(self) -> None:
        """Send what waits, unless that takes too long, then stop listening."""
        if self._sending is not None:
            await asyncio.wait([self._sending], timeout=LEAVE_S)
        for task in (self._sending, self._listening):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        for client in (self._sender, self._listener):
            with contextlib.suppress(*_FAILED):
                await client.aclose()
