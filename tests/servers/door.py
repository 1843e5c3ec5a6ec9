"""An application of this process behind a real socket, and a client that sends bytes as they are."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import uvicorn


class Answer(NamedTuple):
    """Header names are in lower case. The one header that differs each time is left out: `date`."""

    status: int
    headers: dict[str, str]
    body: bytes


class Door:
    """One connection at a time, opened again whenever the server closed it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, path: str, *headers: bytes) -> Answer:
        return await self.send("GET", path, *headers)

    async def post(self, path: str, *headers: bytes) -> Answer:
        return await self.send("POST", path, *headers, b"Content-Length: 0")

    async def send(self, method: str, path: str, *headers: bytes) -> Answer:
        """Headers are whole lines without their end, sent as they are."""
        request = b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), b"Host: localhost:3002", *headers])
        if self._writer is None or self._writer.is_closing():
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        assert self._reader is not None
        self._writer.write(request + b"\r\n\r\n")
        answer = await _read(self._reader)
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ")[1])
    pairs = [line.partition(":")[::2] for line in head[1:] if line]
    headers = {name.lower(): value.strip() for name, value in pairs}
    headers.pop("date", None)
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
        return Answer(status, headers, body)
    return Answer(status, headers, await reader.readexactly(int(headers.get("content-length", 0))))


@asynccontextmanager
async def open_door(app: Any) -> AsyncIterator[Door]:
    """Serves an application that is open already."""
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="critical"))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    serving = asyncio.create_task(server.serve([listener]))
    door = Door(listener.getsockname()[1])
    try:
        yield door
    finally:
        door.close()
        server.should_exit = True
        await serving
