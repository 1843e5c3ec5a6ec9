"""Reading a stream of events as a client does, over a real socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from tests.world import Browser

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
