"""Bytes on the socket: where a request begins and ends, how large it may be, and which paths are paths."""

import asyncio
import os
from typing import Any

import pytest

from tests.wire.served import Served, request
from tests.world import World

pytestmark = pytest.mark.xdist_group("wire")

LONG = os.environ.get("GUILDHALL_LONG") == "1"
HEALTH = request("GET", "/api/health")


def raw(*lines: str, body: str = "") -> bytes:
    return ("\r\n".join([*lines, "", ""]) + body).encode("latin-1")


POST = ("POST /api/backlog HTTP/1.1", "Host: x", "Content-Type: application/json")
GET = ("GET /api/health HTTP/1.1", "Host: x")


@pytest.mark.parametrize(
    "sent",
    [
        raw(*POST, "Transfer-Encoding: chunked", body="2\r\n{}\r\n0\r\n\r\n"),
        raw(*POST, "Transfer-Encoding: chunked", "Content-Length: 2", body="2\r\n{}\r\n0\r\n\r\n"),
        raw(*GET, "Transfer-Encoding: chunked", body="0\r\n\r\n"),
        raw(*GET, "Transfer-Encoding: chunked", "Content-Length: 5", body="0\r\n\r\n"),
        raw(*POST, "Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"),
        raw(*POST, "Transfer-Encoding: xchunked", "Content-Length: 2", body="{}"),
        raw(*POST, "Transfer-Encoding : chunked", "Content-Length: 2", body="{}"),
        raw(*POST, "Content-Length: 2", "Content-Length: 40", body="{}"),
        raw(*POST, "Content-Length: 2, 2", body="{}"),
        raw(*POST, "Content-Length: +2", body="{}"),
        raw(*POST, "Content-Length: -2", body="{}"),
        raw(*POST, "Content-Length: 0x2", body="{}"),
        raw(*POST, f"Content-Length: {'9' * 30}", body="{}"),
        raw(*POST, f"Content-Length: {2**63}", body="{}"),
        raw(*POST, "Content-Length: 300000", body="{}"),
        raw(*GET, "X-Folded: one", " two"),
        raw(*GET, "X-Name : spaced"),
        raw(*GET, "X-Nul: a\0b"),
        raw(*GET, "no colon"),
        raw("GET /api/health HTTP/1.1", "Host: x\rX-Bare: cr"),
        raw("GET /api/health HTTP/3.0", "Host: x"),
        raw("GET  /api/health  HTTP/1.1", "Host: x"),
        raw("GET /api/he\x01alth HTTP/1.1", "Host: x"),
        raw("GET /api/he\xe9alth HTTP/1.1", "Host: x"),
        raw("\x16\x03\x01\x02\x00\x01\x00", "\x03\x03"),
        b"GET /api/" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        raw(*GET, f"X-Huge: {'a' * 200_000}"),
        raw(*GET, *[f"X-{n}: 1" for n in range(200)]),
    ],
    ids=lambda sent: repr(sent[:120])[2:-1].replace("\\r\\n", " "),
)
async def test_a_request_of_doubtful_framing_is_refused_and_nothing_after_it_is_read(
    served: Served, sent: bytes
) -> None:
    async with served.connection() as connection:
        await connection.write(sent + HEALTH)
        answer = await connection.answer()
        assert answer.status in (400, 411, 413, 414, 431), answer
        assert answer.headers["connection"] == "close"
        assert await connection.is_closed()


async def test_a_length_told_twice_alike_is_the_length(served: Served) -> None:
    async with served.connection() as connection:
        await connection.write(raw(*POST, "Content-Length: 2", "Content-Length: 2", body="{}") + HEALTH)
        assert "/title" in (await connection.answer()).fields
        assert (await connection.answer()).status == 200


async def test_pipelined_requests_are_answered_in_their_order(served: Served) -> None:
    ada = await served.world.person("ada")
    async with served.connection() as connection:
        await connection.write(
            request("GET", "/api/communities", token=ada.token)
            + request("POST", "/api/communities", token=ada.token, json={"name": "Gardeners"})
            + request("HEAD", "/api/communities", token=ada.token)
            + request("GET", "/api/nothing")
            + request("GET", "/api/communities", token=ada.token)
        )
        statuses = [(await connection.answer(head=n == 2)).status for n in range(4)]
        assert statuses == [200, 201, 200, 404]
        assert len((await connection.answer()).json["items"]) == 1


async def test_the_body_of_a_get_is_not_taken_for_the_next_request(served: Served) -> None:
    async with served.connection() as connection:
        await connection.write(request("GET", "/api/backlog", body=HEALTH) + request("GET", "/api/nothing"))
        assert (await connection.answer()).status == 200
        assert (await connection.answer()).code == "not_found"


async def test_a_request_line_has_8_kib_headers_16_kib_and_a_body_256_kib(served: Served) -> None:
    ada = await served.world.person("ada")

    async def line(length: int) -> int:
        path = "/api/health"
        return (await served.ask(request("GET", f"{path}?{'a' * (length - len(path))}"))).status

    async def headers(length: int) -> int:
        # The edge counts the two characters between name and value and the two at the end.
        used = len("Host: localhost:3002\r\n") + len("X: \r\n")
        return (await served.ask(request("GET", "/api/health", "X: " + "a" * (length - used)))).status

    async def body(length: int) -> int:
        text = b'{"name": "Gardeners"}'
        sent = request("POST", "/api/communities", body=text + b" " * (length - len(text)), token=ada.token)
        return (await served.ask(sent)).status

    assert [await line(8192), await line(8193)] == [200, 414]
    assert [await headers(16384), await headers(16385)] == [200, 431]
    assert [await body(262144), await body(262145)] == [201, 413]
    assert (await served.ask(request("GET", "/api/health", *[f"X-{n}: 1" for n in range(98)]))).status == 200
    assert (await served.ask(request("GET", "/api/health", *[f"X-{n}: 1" for n in range(100)]))).status == 431


async def test_a_body_that_is_far_too_large_is_refused_while_it_is_still_being_sent(served: Served) -> None:
    async with served.connection() as connection:
        await connection.write(raw(*POST, "Content-Length: 1000000000"))
        assert (await connection.answer()).status == 413
        assert await connection.is_closed()


async def test_who_waits_to_be_asked_for_the_body_is_asked(served: Served) -> None:
    ada = await served.world.person("ada")
    head, body = request(
        "POST", "/api/communities", "Expect: 100-continue", json={"name": "Gardeners"}, token=ada.token
    ).split(b"\r\n\r\n")
    async with served.connection() as connection:
        await connection.write(head + b"\r\n\r\n")
        await asyncio.sleep(0.05)
        await connection.write(body)
        assert (await connection.answer()).status == 201


ODD = [
    "/api//communities",
    "//api/communities",
    "/api/communities//",
    "/./api/communities",
    "/api/communities/.",
    "/api/x/../communities",
    "/api/communities/..",
    "/api%2Fcommunities",
    "/api/communities%00",
    "/api/communitie%73",
    "/%61pi/communities",
    "/api/communities%2F",
    "/api/%2e%2e/api/communities",
    "/api/communities;jsessionid=1",
    "/api/communities/;",
    "/api\\communities",
    "/api/communities%5c",
    "/API/communities",
    "/api/Communities",
    "/api/communities%C0%AF",
    "/api/communities%EF%BC%8F",
    "/api/communities%ff",
    "/api/communities/%",
    "/api/communities%20",
    "/api/communities.json",
]


@pytest.mark.parametrize("path", ODD)
async def test_an_odd_path_is_no_path(served: Served, path: str) -> None:
    ada = await served.world.person("ada")
    for method in ("GET", "POST"):
        answer = await served.ask(request(method, path, token=ada.token, json={"name": "Gardeners"}))
        assert (answer.status, answer.code) == (404, "not_found"), answer


async def test_a_slash_at_the_end_of_a_path_makes_no_difference(served: Served) -> None:
    ada = await served.world.person("ada")
    community = await served.world.community(ada)
    for path in ("/api/communities", community.url, f"{community.url}/members"):
        plain, slashed = [
            await served.ask(request("GET", target, token=ada.token)) for target in (path, path + "/")
        ]
        assert (plain.status, plain.body) == (slashed.status, slashed.body) == (200, slashed.body)
    feed = f"/api/posts?communityId={community.id}", f"/api/posts/?communityId={community.id}"
    assert len({(await served.ask(request("GET", path, token=ada.token))).body for path in feed}) == 1


@pytest.mark.parametrize("path", ["/api/health", "/api/communities", "/api/nothing", "/api/openapi.json"])
async def test_head_answers_as_get_does_without_the_body(served: Served, path: str) -> None:
    ada = await served.world.person("ada")
    got, headed = [await served.ask(request(method, path, token=ada.token)) for method in ("GET", "HEAD")]
    assert headed.status == got.status
    changing = {"date", "x-request-id"}
    assert {k: v for k, v in headed.headers.items() if k not in changing} == {
        k: v for k, v in got.headers.items() if k not in changing
    }


async def test_a_method_a_route_does_not_take_is_refused_with_those_it_takes(served: Served) -> None:
    ada = await served.world.person("ada")
    for method in ("PUT", "DELETE", "TRACE", "BREW", "get", "PROPFIND"):
        answer = await served.ask(request(method, "/api/communities", token=ada.token, json={}))
        assert (answer.status, answer.code) == (405, "method_not_allowed"), method
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    # Nor does a header or a parameter make another method of it.
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        sent = request(
            "POST", "/api/communities?_method=DELETE", f"{header}: DELETE", json={}, token=ada.token
        )
        assert (await served.ask(sent)).fields == {"/name": "required"}
    assert (await served.ask(request("CONNECT", "localhost:80"))).status in (404, 405)
    assert (await served.ask(request("OPTIONS", "*"))).status == 204


async def test_a_body_that_stops_coming_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guildhall.web.edge.BODY_S", 0.05)

    async def half() -> Any:
        yield b'{"name":'
        await asyncio.Event().wait()

    ada = await world.person("ada")
    answer = await ada.call(
        "POST",
        "/api/communities",
        content=half(),
        headers={"Content-Type": "application/json", "Content-Length": "20"},
    )
    assert (answer.status, answer.error) == (408, "request_timeout")
    assert answer.headers["connection"] == "close"


@pytest.mark.long
@pytest.mark.skipif(not LONG, reason="waits for 30 seconds")
async def test_one_byte_per_second_does_not_hold_a_connection(served: Served) -> None:
    async def trickle(first: bytes, within_s: float) -> None:
        async with served.connection() as connection:
            await connection.write(first)
            async with asyncio.timeout(within_s):
                while True:
                    # What is written to a closed connection comes back as an error with the next byte.
                    try:
                        await connection.write(b"a")
                    except ConnectionError:
                        return
                    await asyncio.sleep(1)

    await asyncio.gather(
        trickle(b"", 15),
        trickle(b"GET /api/health HTTP/1.1\r\nX-Slow: ", 15),
        trickle(raw(*POST, "Content-Length: 1000"), 35),
    )


async def test_hanging_up_in_the_middle_leaves_no_trace_but_a_line_in_the_log(served: Served) -> None:
    for sent in (b"", b"GET", raw(*GET)[:-2], raw(*POST, "Content-Length: 100", body='{"title"')):
        async with served.connection() as connection:
            await connection.write(sent)
    assert await served.lives()
    await asyncio.sleep(0.2)
    assert "Traceback" not in served.service.output
    assert '"crash"' not in served.service.output
    assert '"status":499' in served.service.output
