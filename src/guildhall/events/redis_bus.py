"""Events by way of Redis, or what speaks its protocol: PUBLISH and SUBSCRIBE.

For installations in which many processes tell each other more than one database should carry. What is told,
to whom, and that it is told after the commit alone, is as with the other bus.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from guildhall.errors import Unavailable
from guildhall.events.bus import Waiting
from guildhall.web.log import logger

CONNECT_S = 2
SEND_S = 2

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
        # Told again after a failure, since those who listen may have come back before.
        self._waiting = Waiting(self._publish, _FAILED)
        self._listening: asyncio.Task[None] | None = None

    def send(self, messages: list[bytes]) -> None:
        self._waiting.send(messages)

    async def _publish(self, batch: list[bytes]) -> None:
        async with self._sender.pipeline(transaction=False) as pipe:
            for message in batch:
                pipe.publish(self._channel, message)
            await pipe.execute()

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
        await self._waiting.aclose()
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
        for client in (self._sender, self._listener):
            with contextlib.suppress(*_FAILED):
                await client.aclose()
