"""The queue's way to the database: a small pool, and one connection that listens and comes back by itself."""

import asyncio
import contextlib
from typing import Self

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.ports.driver import NotifyCallback

from guildhall.db.core import SESSION
from guildhall.worker.lease import PASSING

_SESSION = SESSION | {"application_name": "guildhall-worker"}
_AGAIN_S = 1.0


class Driver(AsyncpgPoolDriver):
    """Missed notices are no loss, since the queue is also looked at every few seconds."""

    def __init__(self, url: str, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        super().__init__(pool)
        self._url = url
        self._listening: list[asyncio.Task[None]] = []

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        self._listening.append(asyncio.create_task(self._listen(channel, callback)))

    async def remove_listener(self, channel: str, callback: NotifyCallback) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def aclose(self) -> None:
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        self._pool.terminate()

    async def _listen(self, channel: str, callback: NotifyCallback) -> None:
        def hear(_: object, __: int, ___: str, payload: object) -> None:
            if isinstance(payload, str):
                callback(payload)

        while True:
            connection = None
            try:
                connection = await asyncpg.connect(self._url, timeout=3, server_settings=_SESSION)
                ended = asyncio.Event()
                connection.add_termination_listener(lambda _, ended=ended: ended.set())
                await connection.add_listener(channel, hear)
                await ended.wait()
            except PASSING:
                pass
            finally:
                if connection is not None:
                    with contextlib.suppress(Exception):
                        connection.terminate()
            await asyncio.sleep(_AGAIN_S)


async def open_driver(url: str) -> Driver:
    """Raises what the driver raises when the database cannot be reached."""
    pool = await asyncpg.create_pool(
        url, min_size=1, max_size=4, timeout=3, command_timeout=10, server_settings=_SESSION
    )
    return Driver(url, pool)
