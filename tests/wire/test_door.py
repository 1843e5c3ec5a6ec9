"""Nothing is read of nobody: where a route wants somebody, a body is refused before it comes."""

import asyncio
import re
from typing import Any, cast

import msgspec
import pytest
import pytest_asyncio

from guildhall.web.caller import WRITES
from guildhall.web.door import PASSING_BYTES, Door
from guildhall.web.edge import Edge
from guildhall.web.limits import Limiter
from guildhall.wiring import PAGES, ROUTES, build_edge
from tests.servers.door import open_door
from tests.wire.served import ANSWER_S, Served, request
from tests.world import World, scope_of

pytestmark = pytest.mark.xdist_group("wire")

WRITING = [
    (method, path)
    for route in (*ROUTES, *PAGES)
    for method in sorted(route.http_methods & WRITES - {"PUT"})
    for path in sorted(route.paths)
]
WANT_SOMEBODY = {
    (method, path)
    for route in (*ROUTES, *PAGES)
    if "caller" in route.fn.__annotations__
    for method in route.http_methods
    for path in route.paths
}
BAD = ("authorization", "Bearer no.such.token")


@pytest_asyncio.fixture
async def edge(world: World) -> Edge:
    return build_edge(world.house)


class Said:
    """What a request was answered, and how often its body had been asked for by then."""

    def __init__(self) -> None:
        self.reads = 0
        self.reads_at_answer = -1
        self.start: Any = None
        self.body = b""
        self.ended = False

    async def receive(self) -> Any:
        self.reads += 1
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.start, self.reads_at_answer = message, self.reads
        else:
            self.body += message.get("body", b"")
            self.ended = not message.get("more_body", False)

    def told(self) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """The answer but for the id of its request."""
        own = dict(self.start["headers"])[b"x-request-id"]
        headers = [header for header in self.start["headers"] if header[0] != b"x-request-id"]
        return self.start["status"], headers, self.body.replace(own, b"")


async def ask(edge: Edge, method: str, path: str, *headers: tuple[str, str]) -> Said:
    said = Said()
    sent = (("content-type", "application/json"), ("content-length", "2"), *headers)
    named = re.sub(r"{[^}]*}", "7", path)
    await edge(cast("Any", scope_of(method, named, *sent)), said.receive, said.send)
    assert said.ended
    return said


def test_there_are_routes_of_both_kinds() -> None:
    closed = WANT_SOMEBODY & set(WRITING)
    assert len(closed) > 60 and len(WRITING) - len(closed) > 10


@pytest.mark.parametrize("headers", [[], [BAD]], ids=["no credential", "a bad one"])
async def test_every_route_that_wants_somebody_refuses_nobody_before_it_reads_as_it_would_after(
    edge: Edge, headers: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for method, path in WRITING:
        said = await ask(edge, method, path, *headers, ("idempotency-key", "one"))
        if (method, path) not in WANT_SOMEBODY:
            assert said.reads_at_answer == 1, (method, path)
            continue
        assert said.reads_at_answer == 0, (method, path)
        assert (said.start["status"], said.reads) == (401, 1), (method, path)
        with monkeypatch.context() as opened:
            opened.setattr(Door, "check", lambda *_: None)
            after = await ask(edge, method, path, *headers)
        assert after.reads_at_answer == 1
        assert said.told() == after.told(), (method, path)


async def test_nobody_is_counted_at_the_door_as_at_the_route(world: World) -> None:
    service = msgspec.structs.replace(world.house.service, limiter=Limiter())
    edge = build_edge(msgspec.structs.replace(world.house, service=service))
    answers = [await ask(edge, "POST", "/api/communities", BAD) for _ in range(122)]
    assert [said.start["status"] for said in answers] == [401] * 120 + [429] * 2


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What a client of some patience sees on one connection."""

    async def head() -> bytes:
        async with asyncio.timeout(ANSWER_S):
            return (await reader.readuntil(b"\r\n\r\n")).lower()

    async def rest(head: bytes) -> Any:
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        async with asyncio.timeout(ANSWER_S):
            return msgspec.json.decode(await reader.readexactly(length))

    for size in (2, 200_000, PASSING_BYTES):
        body = b"{" + b" " * (size - 1)
        writer.write(request("POST", "/api/posts", body=body)[: -size // 2])
        # The refusal is there before the body is …
        refused = await head()
        assert refused.startswith(b"http/1.1 401 ") and b"\r\nconnection:" not in refused
        await asyncio.sleep(0.05)
        # … which is let pass, so that what is asked next is answered.
        writer.write(body[size - size // 2 :] + request("GET", "/api/nothing"))
        assert (await rest(refused))["code"] == "unauthorized"
        assert (await rest(await head()))["code"] == "not_found"
    # Whoever asks before sending is told so at once, and need not send.
    writer.write(request("POST", "/api/posts", "Expect: 100-continue", body=b"{}")[:-2])
    refused = await head()
    assert refused.startswith(b"http/1.1 401 ") and b"\r\nconnection: close" in refused
    assert (await rest(refused))["code"] == "unauthorized"
    assert await reader.read() == b""
    writer.close()


async def test_a_connection_goes_on_after_a_refusal_at_the_door(served: Served, edge: Edge) -> None:
    await talk(*await asyncio.open_connection("127.0.0.1", served.service.port))
    async with open_door(edge) as door:
        await talk(*await asyncio.open_connection("127.0.0.1", door.port))


async def test_a_huge_body_of_nobody_is_refused_unread_and_ends_the_connection(served: Served) -> None:
    for path in ("/v1/memories", "/mcp", "/api/posts"):
        async with served.connection() as connection:
            kind = "Content-Type: application/json"
            await connection.write(request("POST", path, kind, "Content-Length: 1000000000"))
            refused = await connection.answer()
            assert (refused.status, refused.headers["connection"]) == (401, "close"), path
            assert await connection.is_closed()


async def test_a_refused_body_that_does_not_come_holds_nothing_for_long(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guildhall.web.door.PASSING_S", 0.05)
    said = Said()

    async def never() -> Any:
        # Somebody who has not sent what he promised takes no place of others.
        assert said.start["status"] == 401 and edge._in_flight == 0
        await asyncio.Event().wait()

    asked = scope_of("POST", "/api/posts", ("content-type", "application/json"), ("content-length", "9"))
    async with asyncio.timeout(5):
        await edge(cast("Any", asked), never, said.send)
    assert said.ended and not edge.waiting._guests
