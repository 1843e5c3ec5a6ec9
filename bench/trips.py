"""Counts round trips to the database where they happen: on the way between the service and PostgreSQL."""

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from tests.relay import Before, relayed

# What a client sends when it wants an answer before it goes on: a simple query, or the end of a batch.
ASKS = (b"Q", b"S")


class Counter:
    """`asked` is how often the service has waited for the database so far."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = 0


class _Frames:
    """Reads the kinds of messages off a client's bytes. The first message has no kind."""

    def __init__(self) -> None:
        self._rest = b""
        self._started = False

    def feed(self, data: bytes) -> list[bytes]:
        found: list[bytes] = []
        rest = self._rest + data
        while True:
            head = 1 if self._started else 0
            if len(rest) < head + 4:
                break
            size = head + int.from_bytes(rest[head : head + 4])
            if len(rest) < size:
                break
            if self._started:
                found.append(rest[:1])
            self._started = True
            rest = rest[size:]
        self._rest = rest
        return found


@contextlib.asynccontextmanager
async def counted(url: str, folder: Path) -> AsyncGenerator[Counter]:
    """A way to the database at `url`, which counts. Its socket is made in `folder`."""
    counter = Counter()

    def before() -> Before:
        frames = _Frames()

        async def count(data: bytes) -> None:
            counter.asked += sum(kind in ASKS for kind in frames.feed(data))

        return count

    async with relayed(url, folder, before) as counter.url:
        yield counter
