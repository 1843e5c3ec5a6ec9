"""What other sites' pages can make a visitor's browser do, and what every answer tells the browser."""

import json

import pytest

from guildhall.web.caller import WRITES
from guildhall.web.openapi import Operation
from tests.wire.furnished import OPERATIONS, Furnished, furnish
from tests.wire.served import ALLOWED_ORIGIN, Answered, Served, request
from tests.world import Person

pytestmark = pytest.mark.xdist_group("wire")

ELSEWHERE = (
    ("Origin: https://evil.example",),
    ("Origin: null",),
    ("Origin: https://app.example.evil.example",),
    ("Origin: http://app.example",),
    ("Origin: https://app.example:8443",),
    ("Origin: HTTPS://APP.EXAMPLE",),
    ("Origin: https://evil.example", "Sec-Fetch-Site: same-origin"),
    ("Sec-Fetch-Site: cross-site",),
    ("Sec-Fetch-Site: same-site",),
)
AT_HOME = (
    (),
    (f"Origin: {ALLOWED_ORIGIN}", "Sec-Fetch-Site: cross-site"),
    ("Sec-Fetch-Site: same-origin",),
    ("Sec-Fetch-Site: none",),
)
COOKIES = ("__session", "__Host-session")
# One that reads by its method leaves a job for the worker; where agents call, no cookie counts at all.
WRITING = [
    each for each in OPERATIONS if (each.method in WRITES or each.name == "export_me") and each.path != "/mcp"
]


def with_cookie(home: Furnished, person: Person, operation: Operation, name: str, *headers: str) -> bytes:
    body = json.dumps(home.body(operation)).encode() if operation.body is not None else None
    cookie = f"Cookie: theme=dark; {name}={person.token}; other=1"
    return request(operation.method, home.path(operation), cookie, *headers, body=body)


async def test_no_writing_route_takes_a_cookie_from_another_sites_page(served: Served) -> None:
    home = await furnish(served.world)
    before = await state(served, home)
    for number, operation in enumerate(WRITING):
        for headers in ELSEWHERE:
            sent = with_cookie(home, home.ada, operation, COOKIES[number % 2], *headers)
            answer = await served.ask(sent)
            assert (answer.status, answer.code) == (403, "forbidden"), (operation.name, headers, answer)
            assert "allowed origin" in answer.body.decode(), operation.name
    assert await state(served, home) == before


async def test_every_writing_route_takes_a_cookie_from_its_own_pages(served: Served) -> None:
    home = await furnish(served.world)
    # To sign out comes last, since the others are about who is signed in.
    in_order = sorted(WRITING, key=lambda operation: operation.name == "end_session")
    for number, operation in enumerate(in_order):
        headers = AT_HOME[number % len(AT_HOME)]
        answer = await served.ask(with_cookie(home, home.ada, operation, COOKIES[number % 2], *headers))
        assert b"allowed origin" not in answer.body, (operation.name, headers, answer)
        # These two are about another credential, which is none of anybody's here.
        if operation.name not in ("exchange_code", "refresh_tokens"):
            assert answer.status != 401, (operation.name, answer)


async def test_a_bearer_token_is_nothing_a_page_elsewhere_has(served: Served) -> None:
    ada = await served.world.person("ada")
    for headers in ELSEWHERE:
        sent = request("POST", "/api/communities", *headers, json={"name": "Gardeners"}, token=ada.token)
        assert (await served.ask(sent)).status == 201


async def test_two_credentials_are_none(served: Served) -> None:
    ada, bo = await served.world.people("ada", "bo")
    bad = (
        (f"Cookie: __session={ada.token}; __session={bo.token}",),
        (f"Cookie: __session={ada.token}; __Host-session={ada.token}",),
        (f"Cookie: __session={ada.token}", f"Cookie: __session={bo.token}"),
        (f"Authorization: Bearer {ada.token}", f"Authorization: Bearer {bo.token}"),
        # The header decides alone, also when it holds nothing that could.
        (f"Cookie: __session={ada.token}", "Authorization: Bearer x"),
        (f"Cookie: __session={ada.token}", "Authorization: Basic YTpi"),
        (f"Cookie: __session={ada.token}", "Authorization:"),
        (f"Cookie: session={ada.token}",),
        (f"X-Authorization: Bearer {ada.token}",),
        ("Authorization: " + ada.token,) if ada.token else (),
    )
    answers = [await served.ask(request("GET", "/api/communities", *headers)) for headers in bad]
    # Nor does what is in an address count, and a good one beside it does not either.
    answers.append(await served.ask(request("GET", f"/api/communities?token={ada.token}")))
    for name in (*COOKIES, "access_token"):
        for path in (f"/api/communities?{name}={ada.token}", f"/v1/hubs?limit=2&{name}=x"):
            answer = await served.ask(request("GET", path, token=ada.token))
            assert (answer.status, answer.code) == (401, "unauthorized"), answer
        answers.append(await served.ask(request("GET", f"/api/communities?{name}=x", token=ada.token)))
    bodies = set()
    for answer in answers:
        assert answer.status == 401, answer
        assert answer.headers["www-authenticate"] == 'Bearer realm="guildhall"'
        bodies.add(answer.body.replace(answer.json["requestId"].encode(), b""))
    assert len(bodies) == 1


def cors(answer: Answered) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("path", ["/api/communities", "/api/backlog", "/api/nothing", "/api/health"])
async def test_only_allowed_origins_read_answers_and_each_by_its_name(served: Served, path: str) -> None:
    own = f"http://localhost:{served.service.port}"
    for origin in (ALLOWED_ORIGIN, own):
        answer = await served.ask(request("GET", path, f"Origin: {origin}"))
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "Origin"
    for headers in ELSEWHERE:
        if headers[0].startswith("Origin"):
            answer = await served.ask(request("GET", path, headers[0]))
            assert cors(answer) == {}
            assert answer.headers["vary"] == "Origin"
    assert cors(await served.ask(request("GET", path))) == {}


async def test_a_preflight_is_answered_to_allowed_origins_alone(served: Served) -> None:
    ask = "Access-Control-Request-Method: DELETE", "Access-Control-Request-Headers: authorization"
    for path in ("/api/communities", "/api/nothing", "*"):
        answer = await served.ask(request("OPTIONS", path, f"Origin: {ALLOWED_ORIGIN}", *ask))
        assert answer.status == 204
        assert "DELETE" in answer.headers["access-control-allow-methods"]
        assert "Authorization" in answer.headers["access-control-allow-headers"]
        answer = await served.ask(request("OPTIONS", path, "Origin: https://evil.example", *ask))
        assert (answer.status, cors(answer)) == (204, {})


async def test_any_page_reads_v1_but_never_with_a_cookie(served: Served) -> None:
    ada = await served.world.person("ada")
    answer = await served.ask(request("GET", "/v1/openapi.json", "Origin: https://anywhere.example"))
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    sent = request(
        "GET", "/v1/auth/api-keys", f"Cookie: __session={ada.token}", "Origin: https://evil.example"
    )
    assert (await served.ask(sent)).code == "forbidden"


async def test_whoever_asks_for_what_gets_the_headers_of_every_answer(served: Served) -> None:
    """The checks are `check`'s; here is what is asked."""
    home = await furnish(served.world)
    for operation in OPERATIONS:
        path = home.path(operation)
        statuses = [
            (await served.ask(request(operation.method, path, token=token, body=b"[")))
            for token in (None, "x", home.bo.token, home.ada.token)
            if operation.method != "DELETE" or token not in (home.ada.token, home.bo.token)
        ]
        assert statuses[0].status == 401 or operation.guest, (operation.name, statuses[0])
        private = [answer for answer in statuses if not operation.guest]
        for answer in private:
            assert answer.headers["cache-control"] in ("no-store", "private, no-cache"), operation.name
        if "invites" in path:
            assert {answer.headers["cache-control"] for answer in statuses} == {"no-store"}
        assert all("strict-transport-security" not in answer.headers for answer in statuses)


async def test_a_request_id_is_ours_and_new_for_every_request(served: Served) -> None:
    ids = []
    async with served.connection() as connection:
        for _ in range(5):
            await connection.write(request("GET", "/api/nothing", "X-Request-Id: " + "a" * 32))
            ids.append((await connection.answer()).headers["x-request-id"])
    assert len(set(ids)) == 5
    assert "a" * 32 not in ids
    assert ids == sorted(ids)


async def test_links_come_from_the_public_address_whatever_host_was_asked(served: Served) -> None:
    home = await furnish(served.world)
    for headers in (("Host: evil.example",), ("X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https")):
        body = json.dumps({"email": f"fay{len(headers)}@example.org"}).encode()
        path = f"/api/communities/{home.named['community_id']}/invite"
        lines = [f"POST {path} HTTP/1.1", *headers, f"Authorization: Bearer {home.ada.token}"]
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
        answer = await served.ask("\r\n".join(lines).encode() + body)
        assert answer.status == 201, answer
        assert answer.json["url"].startswith(f"http://localhost:{served.service.port}/"), answer.json


async def state(served: Served, home: Furnished) -> list[object]:
    """What the home holds, as its owner sees it."""
    seen: list[object] = []
    community = home.named["community_id"]
    for path in (
        f"/api/communities/{community}",
        f"/api/communities/{community}/members",
        f"/api/communities/{community}/invites",
        f"/api/groups?communityId={community}",
        f"/api/posts?communityId={community}",
        f"/api/members/{home.ada.id}/profile",
        "/api/backlog?limit=1",
        "/api/auth/sessions",
    ):
        found = (await served.ask(request("GET", path, token=home.ada.token))).json
        for item in found.get("items", []):
            # The worker is at work beside this.
            item.pop("sentAt", None)
        seen.append(found)
    return seen
