"""A way to PostgreSQL that sees what is sent to it, and may take its time."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

# Called with what came in on one connection, before it is passed on.
Before = Callable[[bytes], Awaitable[object]]


@contextlib.asynccontextmanager
async def relayed(url: str, folder: Path, before: Callable[[], Before]) -> AsyncGenerator[str]:
    """The address of a way to the database at `url`. `before()` is called for each connection.

    Its socket is made in `folder`, whose name must be short.
    """
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    host, port = query.get("host", [""])[0], query.get("port", ["5432"])[0]
    tasks: set[asyncio.Task[None]] = set()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if host:
            up_reader, up_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            up_reader, up_writer = await asyncio.open_connection(parts.hostname, parts.port or 5432)
        seen = before()

        async def carry(
            source: asyncio.StreamReader, sink: asyncio.StreamWriter, first: Before | None
        ) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    if first is not None:
                        await first(data)
                    sink.write(data)
                    await sink.drain()
            sink.close()

        for task in (
            asyncio.create_task(carry(reader, up_writer, seen)),
            asyncio.create_task(carry(up_reader, writer, None)),
        ):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_unix_server(connect, f"{folder}/.s.PGSQL.{port}", backlog=256)
    user = parts.netloc.rpartition("@")[0]
    try:
        yield urlunsplit(
            parts._replace(netloc=f"{user}@" if user else "", query=f"host={folder}&port={port}")
        )
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
