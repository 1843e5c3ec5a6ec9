"""HTTP as bytes: what clients of good manners cannot send, and what proxies and scanners do."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.commands.serving import Serving
from tests.world import World

ALLOWED_ORIGIN = "https://app.example"
ANSWER_S = 20.0


class Answered:
    """One answer, its headers by lower-case name and as they came."""

    def __init__(self, status: int, pairs: list[tuple[str, str]], body: bytes, *, head: bool = False) -> None:
        self.status = status
        self.pairs = pairs
        self.headers = dict(pairs)
        self.body = body
        self.head = head

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a refusal."""
        body = self.json
        return body["error"]["code"] if "error" in body else body["code"]

    @property
    def fields(self) -> dict[str, str]:
        """The pointers of the bad fields, and what is wrong with each."""
        return {item["pointer"]: item["code"] for item in self.json.get("errors", [])}

    @property
    def is_the_servers(self) -> bool:
        """Whether the HTTP server refused by itself what is no request, with an empty answer."""
        return self.status in (400, 431) and "x-request-id" not in self.headers and not self.body

    def __repr__(self) -> str:
        return f"<{self.status} {self.headers} {self.body[:300]!r}>"


class Connection:
    """One connection to the service. Each answer is held against what all answers have to be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.may_break = False

    async def write(self, raw: bytes) -> None:
        self._writer.write(raw)
        await self._writer.drain()

    async def answer(self, *, head: bool = False) -> Answered:
        """The next answer. Raises EOFError when the service hung up instead."""
        async with asyncio.timeout(ANSWER_S):
            status = 100
            lines: list[str] = []
            while status == 100:
                lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                status = int(lines[0].split()[1])
            parts = [line.partition(":") for line in lines[1:-2]]
            pairs = [(name.lower(), value.strip()) for name, _, value in parts]
            body = b"" if head or status in (204, 304) else await self._body(dict(pairs))
        answered = Answered(status, pairs, body, head=head)
        check(answered)
        assert answered.status < 500 or self.may_break or "checks" in answered.json, answered
        return answered

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self._reader.readexactly(int(headers.get("content-length", 0)))
        body = b""
        while size := int(await self._reader.readline(), 16):
            body += await self._reader.readexactly(size)
            await self._reader.readline()
        await self._reader.readline()
        return body

    async def is_closed(self) -> bool:
        """Whether the service ends the connection, saying nothing more."""
        async with asyncio.timeout(ANSWER_S):
            try:
                return not await self._reader.read(1)
            except ConnectionError:
                return True

    def close(self) -> None:
        self._writer.close()


def check(answer: Answered) -> None:
    """What every answer of the service is: its headers, its content type, and the shape of a refusal."""
    if answer.is_the_servers:
        return
    names = [name for name, _ in answer.pairs]
    assert len(names) == len(set(names)), answer
    headers = answer.headers
    assert headers["x-content-type-options"] == "nosniff", answer
    assert headers["referrer-policy"] == "no-referrer", answer
    assert "default-src 'none'" in headers["content-security-policy"], answer
    assert headers["cache-control"] in (
        "no-store",
        "private, no-cache",
        "public, no-cache",
        "public, max-age=300",
    )
    assert len(headers["x-request-id"]) == 32, answer
    assert not any(digit in headers.get("server", "") for digit in "0123456789"), answer
    assert "x-powered-by" not in headers
    if answer.status not in (204, 304):
        assert headers["content-type"].endswith("; charset=utf-8"), answer
    if answer.status < 400 or answer.head or "checks" in answer.json:
        return
    assert headers["cache-control"] == "no-store", answer
    body = answer.json
    if "error" in body:
        assert headers["content-type"].startswith("application/json"), answer
        assert {"code", "message"} <= body["error"].keys(), answer
        return
    assert headers["content-type"].startswith("application/problem+json"), answer
    assert {"type", "title", "status", "detail", "code", "requestId"} <= body.keys(), answer
    assert body.keys() <= {"type", "title", "status", "detail", "code", "requestId", "errors", "details"}
    assert (body["status"], body["requestId"]) == (answer.status, headers["x-request-id"]), answer
    assert all(item.keys() == {"pointer", "code", "message"} for item in body.get("errors", ())), answer


class Served:
    """A service that runs as two processes, and a world over the same database to make people in."""

    def __init__(self, service: Serving, world: World) -> None:
        self.service = service
        self.world = world

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self.service.port))
        try:
            yield connection
        finally:
            connection.close()

    async def ask(self, raw: bytes) -> Answered:
        """The answer to these bytes on a connection of their own."""
        async with self.connection() as connection:
            await connection.write(raw)
            return await connection.answer(head=raw.startswith(b"HEAD "))

    async def lives(self) -> bool:
        return (await self.ask(request("GET", "/api/health"))).status == 200


def request(
    method: str,
    target: str,
    *headers: str,
    body: bytes | None = None,
    json: object = None,
    token: str | None = None,
) -> bytes:
    """The bytes of a request, with a length where there is a body, and with nothing corrected."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost:3002", *headers]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if json is not None:
        body = _dumps(json)
    if body is not None:
        if not any(line.lower().startswith("content-type:") for line in headers):
            lines.append("Content-Type: application/json")
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def _dumps(value: object) -> bytes:
    return json.dumps(value).encode()
