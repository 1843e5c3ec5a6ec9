"""Many clients at once who send or read nothing: they keep nobody else from being served."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest_asyncio

from guildhall.web.edge import MAX_IN_FLIGHT, Edge
from guildhall.web.waiting import MOST_EACH, MOST_OF_GUESTS
from guildhall.wiring import build_edge
from tests.world import Person, World, scope_of

Send = Callable[[Any], Awaitable[None]]
JSON = ("content-type", "application/json")
NOTE = msgspec.json.encode({"title": "Seeds", "type": "feature", "priority": "low", "session": "api"})


def scope(path: str, address: str, *headers: tuple[str, str], method: str = "GET") -> dict[str, Any]:
    return {**scope_of(method, path, *headers), "client": (address, 1)}


async def never(_: Any = None) -> Any:
    await asyncio.Event().wait()


async def answer(edge: Edge, asked: dict[str, Any], body: bytes = b"") -> tuple[int, dict[bytes, bytes], Any]:
    """Status, headers and body of what is answered within two seconds."""
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    async with asyncio.timeout(2):
        await edge(cast("Any", asked), receive, send)
    return said[0]["status"], dict(said[0]["headers"]), msgspec.json.decode(said[1]["body"])


async def is_answered(edge: Edge) -> bool:
    """Whether somebody hears how the service is, well or not, as on a busy machine."""
    _, _, body = await answer(edge, scope("/api/health", "198.51.100.1"))
    return body["status"] in ("ok", "degraded")


@asynccontextmanager
async def unfinished(edge: Edge, asked: Sequence[dict[str, Any]], send: Send) -> AsyncIterator[None]:
    """These requests, of which no body comes and no answer is read."""
    tasks = [asyncio.ensure_future(edge(cast("Any", each), never, send)) for each in asked]
    await asyncio.sleep(0.1)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest_asyncio.fixture
async def edge(world: World) -> Edge:
    return build_edge(world.house)


def posting(address: str, *headers: tuple[str, str]) -> dict[str, Any]:
    length = ("content-length", str(len(NOTE)))
    return scope("/api/backlog", address, JSON, length, *headers, method="POST")


def session(person: Person) -> tuple[str, str]:
    return "authorization", f"Bearer {person.token}"


async def test_bodies_that_do_not_come_keep_nobody_from_being_served(world: World, edge: Edge) -> None:
    ada, bo = await world.people("ada", "bo")
    crowd = [posting(f"198.51.100.{n // MOST_EACH}") for n in range(MOST_OF_GUESTS)]
    crowd += [posting("203.0.113.1", session(bo)) for _ in range(MOST_EACH)]
    async with unfinished(edge, crowd, never):
        assert await is_answered(edge)
        assert (await answer(edge, scope("/api/backlog", "198.51.100.1")))[0] == 200
        # They are as many as there may be, so one more is refused, at once and whoever sends it …
        status, headers, body = await answer(edge, posting("198.51.100.1"), NOTE)
        assert (status, body["code"], headers[b"retry-after"]) == (429, "rate_limited", b"1")
        status, headers, body = await answer(edge, posting("203.0.113.2"), NOTE)
        assert (status, body["code"], headers[b"retry-after"]) == (503, "unavailable", b"1")
        assert (await answer(edge, posting("203.0.113.1", session(bo)), NOTE))[0] == 429
        # … but people with a session have places of their own.
        assert (await answer(edge, posting("198.51.100.1", session(ada)), NOTE))[0] == 201
    # Who has gone is not counted any more.
    assert (await answer(edge, posting("198.51.100.1"), NOTE))[0] == 201
    assert (await answer(edge, posting("203.0.113.1", session(bo)), NOTE))[0] == 201


async def test_more_requests_than_can_be_served_are_refused_and_health_still_answers(edge: Edge) -> None:
    begun = 0

    async def unread(message: Any) -> None:
        nonlocal begun
        begun += 1
        await never()

    crowd = [scope("/.well-known/jwks.json", "198.51.100.1") for _ in range(MAX_IN_FLIGHT)]
    async with unfinished(edge, crowd, unread):
        async with asyncio.timeout(20):
            while begun < MAX_IN_FLIGHT:
                await asyncio.sleep(0.05)
        status, headers, body = await answer(edge, scope("/api/backlog", "198.51.100.1"))
        assert (status, body["code"], headers[b"retry-after"]) == (503, "unavailable", b"1")
        tries: list[float] = []
        for _ in range(5):
            began = asyncio.get_running_loop().time()
            assert await is_answered(edge)
            tries.append(asyncio.get_running_loop().time() - began)
        assert min(tries) < 0.2
    assert (await answer(edge, scope("/api/backlog", "198.51.100.1")))[0] == 200


async def test_long_answers_that_are_not_read_take_no_place_of_others(world: World, edge: Edge) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    begun = 0

    async def unread(message: Any) -> None:
        nonlocal begun
        begun += 1
        await never()

    crowd = [scope(f"{club.url}/members", "203.0.113.1", session(ada)) for _ in range(MOST_EACH)]
    async with unfinished(edge, crowd, unread):
        async with asyncio.timeout(20):
            while begun < MOST_EACH:
                await asyncio.sleep(0.05)
        assert edge._in_flight == 0
        status, _, body = await answer(edge, crowd[0] | {"state": {}})
        assert (status, body["code"]) == (429, "rate_limited")
        assert (await answer(edge, scope(club.url, "203.0.113.1", session(ada))))[0] == 200


async def test_a_large_body_is_read_only_of_somebody_who_is_known(edge: Edge) -> None:
    length = ("content-length", str(1024 * 1024))
    asked = scope("/v1/memories", "198.51.100.1", JSON, length, method="POST")
    status, headers, _ = await answer(edge, asked)
    assert status == 401 and b"www-authenticate" in headers
