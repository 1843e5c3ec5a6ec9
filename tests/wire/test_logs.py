"""The log: one line for each request, with what an operator needs and nothing that a thief could use."""

import asyncio
import json
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
import pytest

from guildhall.providers.email.outbox import KeptMessage
from tests.wire.furnished import OPERATIONS, Furnished, furnish
from tests.wire.served import Answered, Served, request

pytestmark = pytest.mark.xdist_group("wire")

TEXT = "Content-Type: text/plain"
LINE = {"event", "level", "at", "method", "path", "status", "ms", "request_id"}


class Scenario:
    """Sends requests, and remembers their ids and every secret that went either way."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.asked: dict[str, Answered] = {}
        self.secrets: dict[str, str] = {}
        self._from = len(served.service.output)

    def hide(self, **found: str | None) -> None:
        for name, secret in found.items():
            assert secret is not None and len(secret) >= 6, name
            self.secrets[f"{name} {len(self.secrets)}"] = secret

    def word(self) -> str:
        """A text to put into a body."""
        word = f"zebra{secrets.token_hex(6)}"
        self.hide(word=word)
        return word

    async def ask(self, method: str, path: str, *headers: str, **more: Any) -> Answered:
        answer = await self.served.ask(request(method, path, *headers, **more))
        self.asked[answer.headers["x-request-id"]] = answer
        return answer

    def said(self) -> str:
        """All that the service, its worker with it, has said since the beginning."""
        return self.served.service.output[self._from :]

    def lines(self) -> list[dict[str, Any]]:
        """The events in that."""
        return [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]

    async def logged(self) -> dict[str, dict[str, Any]]:
        """The line of each request, once all of them are written."""
        async with asyncio.timeout(10):
            while True:
                found = [line for line in self.lines() if line["event"] == "request"]
                found = [line for line in found if line["request_id"] in self.asked]
                if len(found) >= len(self.asked):
                    break
                await asyncio.sleep(0.05)
        by_id = {line["request_id"]: line for line in found}
        assert len(by_id) == len(found), "a request has two lines"
        return by_id


async def mail_to(served: Served, address: str, after: int = 0) -> KeptMessage:
    """The mail that the service's worker puts into its outbox."""
    async with asyncio.timeout(15):
        while True:
            for file in (served.service.data_dir / "outbox").glob("*.json"):
                message = msgspec.json.decode(file.read_bytes(), type=KeptMessage)
                if message.to == address:
                    return message
            await asyncio.sleep(0.05)


async def test_a_request_leaves_one_line_that_says_who_what_and_how_it_ended(served: Served) -> None:
    ada = await served.world.person("ada")
    scene = Scenario(served)
    began = datetime.now(UTC)
    kinds = [
        (await scene.ask("GET", "/api/communities", token=ada.token), {"user": ada.id}),
        (await scene.ask("HEAD", "/api/communities", token=ada.token), {"user": ada.id}),
        (await scene.ask("OPTIONS", "/api/communities"), {}),
        (await scene.ask("GET", "/api/communities"), {"code": "unauthorized"}),
        (await scene.ask("GET", "/api/communities", token="x"), {"code": "unauthorized"}),
        (await scene.ask("POST", "/api/communities", token=ada.token, json={}), {"code": "invalid"}),
        (await scene.ask("PUT", "/api/communities", token=ada.token), {"code": "method_not_allowed"}),
        (await scene.ask("GET", "/nothing"), {"code": "not_found"}),
        (await scene.ask("GET", "/api//x"), {"code": "not_found"}),
        (await scene.ask("GET", "/api/health", "Transfer-Encoding: chunked"), {"code": "length_required"}),
        (await scene.ask("GET", "/api/backlog?" + "a" * 9000), {"code": "uri_too_long"}),
        (
            await scene.ask("POST", "/api/backlog", "Content-Type: text/plain"),
            {"code": "unsupported_media_type"},
        ),
    ]
    logged = await scene.logged()
    for answer, more in kinds:
        line = logged[answer.headers["x-request-id"]]
        assert LINE <= line.keys() <= LINE | {"user", "code", "cause"}, line
        assert {name: line.get(name) for name in more} == more, line
        assert ("user" in line) == (
            "user" in more or (line["path"] == "/api/communities" and line["status"] in (400, 405))
        )
        assert (line["level"], line["status"]) == ("info", answer.status)
        assert 0 <= line["ms"] < 60_000
        moment = datetime.fromisoformat(line["at"])
        assert moment.tzinfo is not None and abs((moment - began).total_seconds()) < 60
    # A refused sign-in says why to the operator alone.
    assert logged[kinds[4][0].headers["x-request-id"]]["cause"]
    assert {line["method"] for line in logged.values()} == {"GET", "HEAD", "OPTIONS", "POST", "PUT"}


async def test_what_a_stranger_writes_into_a_path_cannot_make_a_line(served: Served) -> None:
    scene = Scenario(served)
    await scene.ask("GET", "/api/x%0A%7B%22event%22:%22request%22%7D")
    await scene.ask("GET", '/api/"}{"event":"forged')
    logged = await scene.logged()
    assert len(logged) == 2
    assert not [line for line in scene.lines() if line["event"] == "forged"]


async def test_nothing_in_the_log_opens_anything(served: Served) -> None:
    scene = Scenario(served)
    home = await furnish(served.world)
    scene.hide(
        session=home.ada.token, member=home.bo.token, address=home.ada.email, invite=home.named["token"]
    )
    await every_route(scene, home)
    await invites(scene, home)
    await signing_in(scene)
    await files(scene, home)
    await agents(scene, home)
    logged = await scene.logged()
    assert len(logged) == len(scene.asked) > 200
    text = scene.said()
    found = [name for name, secret in scene.secrets.items() if secret in text]
    assert not found
    # Nor does a line hold what looks like one: a signed token, an address, or a token of ours.
    for pattern in (r"eyJ[\w-]+\.", r"[\w.]+@[\w.]+\.\w", r"\b(inv|rft|key|gh)_[\w-]{20,}", r"zebra"):
        assert not re.search(pattern, text), re.search(pattern, text)
    assert "crash" not in text


async def every_route(scene: Scenario, home: Furnished) -> None:
    """Each route with and without a session, with texts of ours wherever a text goes."""
    for operation in OPERATIONS:
        body = dict(texts(scene, home.body(operation))) if operation.body is not None else None
        for token in (None, home.bo.token, home.ada.token):
            if operation.name in ("end_session", "erase_me", "delete_community") and token is not None:
                continue
            path = home.path(operation)
            await scene.ask(operation.method, f"{path}?q={scene.word()}", token=token, json=body)
            cookie = f"Cookie: __session={token}; other={scene.word()}"
            await scene.ask(operation.method, path, cookie, f"Referer: https://x/{scene.word()}", json=body)


def texts(scene: Scenario, body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in body.items():
        free = isinstance(value, str) and name.lower() in (
            "name",
            "title",
            "content",
            "description",
            "bio",
            "filename",
        )
        yield name, scene.word() if free else value


async def invites(scene: Scenario, home: Furnished) -> None:
    email = f"{scene.word()}@example.org"
    scene.hide(invited=email)
    url = f"/api/communities/{home.named['community_id']}/invite"
    made = (await scene.ask("POST", url, token=home.ada.token, json={"email": email})).json
    token = made["token"]
    scene.hide(invite=token, tail=token[4:])
    for path in (
        f"/api/invites/{token}",
        f"/api/invites/{token}/",
        f"/api/invites/{token}/accept",
        f"/api/invites/{token}/nothing",
        f"/api/invites//{token}",
        f"//api/invites/{token}",
        f"/api/./invites/{token}",
        f"/API/Invites/{token}",
        f"/api/invite/{token}",
        f"/api/invites%2F{token}",
        f"/join/{token}",
        f"/{token}",
        f"/nothing?token={token}",
        f"/api/invites/x{token}",
    ):
        await scene.ask("GET", path)
        await scene.ask("POST", path, "Idempotency-Key: " + scene.word(), token=home.bo.token, json={})
    await mail_to(scene.served, email)


async def signing_in(scene: Scenario) -> None:
    email = f"{scene.word()}@example.org"
    scene.hide(address=email)
    await scene.ask("POST", "/api/auth/code", json={"email": email})
    code = re.search(r"\b\d{6}\b", (await mail_to(scene.served, email)).text)
    assert code is not None
    scene.hide(code=code[0])
    await scene.ask("POST", "/api/auth/session", json={"email": email, "code": "000000"})
    signed_in = await scene.ask(
        "POST", "/api/auth/session", json={"email": email, "code": code[0], "label": scene.word()}
    )
    assert signed_in.status == 201, signed_in
    tokens = signed_in.json
    cookie = signed_in.headers["set-cookie"].partition("=")[2].partition(";")[0]
    scene.hide(token=tokens["token"], refresh=tokens["refreshToken"], cookie=cookie)
    renewed = await scene.ask(
        "POST", "/api/auth/session/refresh", json={"refreshToken": tokens["refreshToken"]}
    )
    scene.hide(token=renewed.json["token"], refresh=renewed.json["refreshToken"])
    # The second use of the first ends the session, which the log tells of.
    again = await scene.ask(
        "POST", "/api/auth/session/refresh", json={"refreshToken": tokens["refreshToken"]}
    )
    assert again.status == 403
    assert any(line["event"] == "refresh token used twice" for line in scene.lines())
    refused = await scene.ask("GET", "/api/auth/sessions", f"Cookie: __Host-session={cookie}")
    assert refused.status == 401


async def files(scene: Scenario, home: Furnished) -> None:
    words = {"filename": f"{scene.word()}.txt", "contentType": "text/plain", "purpose": "attachment"}
    made = await scene.ask("POST", "/api/uploads", token=home.ada.token, json={**words, "sizeBytes": 5})
    upload, url = made.json["uploadUrl"], made.json["url"]
    signature = upload.rpartition("signature=")[2]
    name = url.partition("/blobs/")[2]
    scene.hide(signature=signature, name=name.partition("/")[2])
    target = "/api/uploads" + upload.partition("/api/uploads")[2]
    assert (await scene.ask("PUT", target, "Content-Type: text/plain", body=b"hello")).status == 204
    for method in ("GET", "HEAD"):
        assert (await scene.ask(method, f"/blobs/{name}")).status == 200
    await scene.ask("GET", f"/blobs//{name}")
    await scene.ask("GET", "/api/users/me/export", token=home.ada.token)
    async with asyncio.timeout(15):
        while True:
            export = (await scene.ask("GET", "/api/users/me/export", token=home.ada.token)).json
            if export.get("url"):
                break
            await asyncio.sleep(0.2)
    link = "/api/exports/" + export["url"].rpartition("/")[2]
    scene.hide(export=link.rpartition("/")[2])
    assert (await scene.ask("GET", link)).status == 200


async def agents(scene: Scenario, home: Furnished) -> None:
    made = await scene.ask("POST", "/v1/auth/api-keys", token=home.ada.token, json={"name": scene.word()})
    key = next(value for value in made.json["data"].values() if isinstance(value, str) and len(value) > 40)
    scene.hide(key=key, tail=key[8:])
    assert (await scene.ask("GET", "/v1/agents", token=key)).status == 200
    await scene.ask("GET", "/v1/agents", token=key[:-1] + "x")
    await scene.ask("GET", f"/v1/auth/api-keys/{key}", token=key)


async def test_a_crash_is_logged_with_its_trace_but_without_the_values_in_it(served: Served) -> None:
    home = await furnish(served.world)
    scene = Scenario(served)
    word = scene.word()
    owner = await asyncpg.connect(served.world.owner_url)
    try:
        await owner.execute(
            f"""
            CREATE FUNCTION break_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                RAISE unique_violation USING MESSAGE = 'it broke', DETAIL = 'Key ({word}) is here.';
            END $$;
            CREATE TRIGGER break_it BEFORE INSERT ON posts FOR EACH ROW EXECUTE FUNCTION break_it()
            """
        )
        body = {"communityId": home.named["community_id"], "content": word}
        async with served.connection() as connection:
            connection.may_break = True
            await connection.write(request("POST", "/api/posts", token=home.ada.token, json=body))
            answer = await connection.answer()
    finally:
        await owner.execute("DROP TRIGGER break_it ON posts; DROP FUNCTION break_it")
        await owner.close()
    assert (answer.status, answer.code) == (500, "internal")
    assert not any(hint in answer.body.decode() for hint in ("broke", "asyncpg", "Traceback", "posts", word))
    scene.asked[answer.headers["x-request-id"]] = answer
    await scene.logged()
    crash = next(line for line in scene.lines() if line["event"] == "crash")
    assert crash["request_id"] == answer.headers["x-request-id"]
    assert crash["level"] == "error"
    assert "UniqueViolationError: it broke" in crash["exception"]
    assert "insert_post" in crash["exception"]
    assert word not in json.dumps(scene.lines())
