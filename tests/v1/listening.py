"""Reading a stream of events as a client does, over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import msgspec

from tests.world import Browser, World

PATIENCE_S = 15.0


class Listener:
    """An open stream. Events come in order; each `next` waits for one that is no ping."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> tuple[str, dict[str, Any]]:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                name, data, blank = [await anext(self._lines) for _ in range(3)]
                assert name.startswith("event: ") and data.startswith("data: ") and blank == ""
                if name != "event: ping":
                    return name.removeprefix("event: "), msgspec.json.decode(data.removeprefix("data: "))

    async def types_until(self, kind: str, /, **fields: object) -> list[str]:
        """The types of what comes before the first event of this type that has these fields."""
        before: list[str] = []
        while True:
            name, event = await self.next()
            if name == kind and fields.items() <= event.items():
                return before
            before.append(name)

    async def ended(self) -> list[str]:
        """What still comes before the server ends the stream."""
        left: list[str] = []
        try:
            while True:
                left.append((await self.next())[0])
        except StopAsyncIteration:
            return left


@asynccontextmanager
async def listening(who: Browser, query: str = "") -> AsyncIterator[Listener]:
    """A stream that has said it is ready."""
    headers = {"Authorization": f"Bearer {who.token}", "Accept": "text/event-stream"}
    async with who.world.client.stream("GET", f"/v1/events/stream{query}", headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield Listener(response)


@contextmanager
def overhearing(world: World) -> Generator[list[dict[str, Any]]]:
    """All that is told meanwhile, with whom it is told to."""
    told: list[dict[str, Any]] = []
    pass_on = world.db.pass_on
    assert pass_on is not None

    def overhear(messages: list[bytes]) -> None:
        told.extend(msgspec.json.decode(message) for message in messages)
        pass_on(messages)

    world.db.pass_on = overhear
    try:
        yield told
    finally:
        world.db.pass_on = pass_on
