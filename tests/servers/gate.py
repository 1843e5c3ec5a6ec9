"""A way to a provider that can be shut in each of the ways in which providers die."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator
from typing import Literal, get_args
from urllib.parse import urlsplit

State = Literal["open", "refuses", "hangs", "fails slowly", "dies"]
DEAD: tuple[State, ...] = get_args(State)[1:]
# So long a failing one takes for its 500.
SLOWLY_S = 0.5


class Gate:
    """`url` is the provider's address by way of this; `met` is how many connections have come."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.url = ""
        self.state: State = "open"
        self.met = 0

    async def turn(self, state: State) -> None:
        """Be so from now on; connections that are open end."""
        self.state = state
        await self._end_all()
        if state == "refuses":
            await self._close()
        elif self._server is None:
            await self.listen(urlsplit(self.url).port or 0)

    async def listen(self, port: int = 0) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        return self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        await self._close()
        await self._end_all()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _end_all(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.met += 1
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.state == "hangs":
            await asyncio.Event().wait()
        elif self.state == "fails slowly":
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(SLOWLY_S)
            writer.write(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        elif self.state == "dies":
            await reader.read(1)
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            await self._pass(reader, writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry(reader, up_writer))
                both.create_task(_carry(up_reader, writer))
        except* OSError:
            pass
        finally:
            up_writer.transport.abort()


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


@contextlib.asynccontextmanager
async def gate_before(url: str) -> AsyncGenerator[Gate]:
    """A gate before the provider at this address, open at first."""
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    gate = Gate(parts.hostname, parts.port)
    gate.url = parts._replace(netloc=f"127.0.0.1:{await gate.listen()}").geturl()
    try:
        yield gate
    finally:
        await gate.aclose()
