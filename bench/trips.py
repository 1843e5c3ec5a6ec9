"""Counts round trips to the database where they happen: on the way between the service and PostgreSQL."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

# What a client sends when it wants an answer before it goes on: a simple query, or the end of a batch.
ASKS = (b"Q", b"S")


class Counter:
    """`asked` is how often the service has waited for the database so far."""

    def __init__(self, url: str) -> None:
        self.url = url
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
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    host, port = query["host"][0], query["port"][0]
    target = f"{host}/.s.PGSQL.{port}"
    counter = Counter(urlunsplit(parts._replace(query=f"host={folder}&port={port}")))
    tasks: set[asyncio.Task[None]] = set()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(target)
        frames = _Frames()

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, count: bool) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    if count:
                        counter.asked += sum(kind in ASKS for kind in frames.feed(data))
                    sink.write(data)
                    await sink.drain()
            sink.close()

        for task in (
            asyncio.create_task(carry(reader, up_writer, count=True)),
            asyncio.create_task(carry(up_reader, writer, count=False)),
        ):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_unix_server(connect, f"{folder}/.s.PGSQL.{port}")
    try:
        yield counter
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
