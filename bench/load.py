"""Load: some connections that stay open, each with its next request as soon as the last was answered."""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import cast

import msgspec

END_OF_HEAD = b"\r\n\r\n"
PATIENCE_S = 60.0


class Burst(msgspec.Struct, frozen=True):
    """What a round of requests came to. Latencies are in seconds."""

    took_s: float
    latencies: list[float]
    statuses: dict[int, int]

    @property
    def requests(self) -> int:
        return len(self.latencies)


class _Connection(asyncio.Protocol):
    """Sends one request after another; of HTTP it knows that an answer has a length."""

    def __init__(self, requests: Iterator[bytes], done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._done = done
        self._received = bytearray()
        self._wanted = 0
        self._sent_at = 0.0
        self.latencies: list[float] = []
        self.statuses: dict[int, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is no subclass of what it stands for.
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        if not self._wanted:
            head = received.find(END_OF_HEAD)
            if head < 0:
                return
            self._wanted = head + len(END_OF_HEAD) + content_length(bytes(received[:head]))
        if len(received) < self._wanted:
            return
        self.latencies.append(time.perf_counter() - self._sent_at)
        status = int(received[9:12])
        self.statuses[status] = self.statuses.get(status, 0) + 1
        received.clear()
        self._wanted = 0
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed the connection"))

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._done.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)


def content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def for_a_while(requests: Sequence[bytes], seconds: float, start: int = 0) -> Iterator[bytes]:
    """`requests` from number `start` on, over and over, until the time is up."""
    end = time.perf_counter() + seconds
    for request in itertools.islice(itertools.cycle(requests), start % len(requests), None):
        yield request
        if time.perf_counter() > end:
            return


async def burst(port: int, requests: Iterator[bytes], connections: int) -> Burst:
    """Ask all of `requests`, `connections` at a time, and wait for the answers."""
    loop = asyncio.get_running_loop()
    opened: list[_Connection] = []
    ends: list[asyncio.Future[None]] = []
    started = time.perf_counter()
    for _ in range(connections):
        end: asyncio.Future[None] = loop.create_future()
        connection = _Connection(requests, end)
        await loop.create_connection(lambda made=connection: made, "127.0.0.1", port)
        opened.append(connection)
        ends.append(end)
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*ends)
    took_s = time.perf_counter() - started
    statuses: dict[int, int] = {}
    for connection in opened:
        for status, count in connection.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    return Burst(took_s, [latency for each in opened for latency in each.latencies], statuses)


class Answer(msgspec.Struct, frozen=True):
    """One answer, whole. `first_s` is when the first byte of its body came, after the request was sent."""

    status: int
    headers: dict[str, str]
    body: bytes
    first_s: float
    took_s: float


async def ask(port: int, request: bytes) -> Answer:
    """One request on a connection of its own, also where the answer comes in chunks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        async with asyncio.timeout(PATIENCE_S):
            sent_at = time.perf_counter()
            writer.write(request)
            head = (await reader.readuntil(END_OF_HEAD)).decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in head[1:] if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            first_s = 0.0
            parts: list[bytes] = []
            while True:
                chunked = headers.get("transfer-encoding") == "chunked"
                size = (
                    int(await reader.readuntil(b"\r\n"), 16)
                    if chunked
                    else int(headers.get("content-length", "0"))
                )
                part = await reader.readexactly(size)
                first_s = first_s or time.perf_counter() - sent_at
                parts.append(part)
                if chunked:
                    await reader.readline()
                if not chunked or not size:
                    break
            return Answer(
                int(head[0].split()[1]), headers, b"".join(parts), first_s, time.perf_counter() - sent_at
            )
    finally:
        writer.close()
