"""Files: asked for, sent once, judged by their bytes, and served so that no browser runs them."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest

from guildhall.uploads import links, routes
from guildhall.wiring import build_edge
from tests.world import Person, Reply, World, scope_of

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x00" * 64
NOBODY = "018f0000-0000-7000-8000-000000000000"
ASKED = {"filename": "tomato.png", "contentType": "image/png", "sizeBytes": len(PNG), "purpose": "avatar"}


async def ask(person: Person, **fields: Any) -> dict[str, Any]:
    return (await person.post("/api/uploads", ASKED | fields)).ok(201)


def local(world: World, url: str) -> str:
    prefix = world.house.service.public_url
    assert url.startswith(prefix + "/")
    return url.removeprefix(prefix)


async def send(
    world: World, intent: dict[str, Any], content: bytes | AsyncIterator[bytes] = PNG, **headers: str
) -> Reply:
    return await world.nobody.call(
        intent["method"],
        local(world, intent["uploadUrl"]),
        content=content,
        headers=intent["headers"] | headers,
    )


async def stored(world: World, intent: dict[str, Any]) -> bool:
    name = local(world, intent["url"]).removeprefix("/blobs/")
    served = (await world.nobody.get(local(world, intent["url"]))).status == 200
    assert served == await world.house.service.blobs.exists(name)
    return served


async def test_a_file_is_asked_for_sent_and_served(world: World) -> None:
    ada = await world.person("ada")

    intent = await ask(ada)
    assert intent.keys() == {"uploadUrl", "method", "headers", "url", "expiresAt"}
    assert (intent["method"], intent["headers"]) == ("PUT", {"Content-Type": "image/png"})
    assert not await stored(world, intent)
    assert (await send(world, intent)).status == 204
    assert await stored(world, intent)
    reply = await world.nobody.get(local(world, intent["url"]))
    assert reply.response.content == PNG
    assert reply.headers["Content-Type"] == "image/png"
    assert reply.headers["Content-Length"] == str(len(PNG))
    assert reply.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert reply.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert reply.headers.get_list("X-Content-Type-Options") == ["nosniff"]
    assert reply.headers["Content-Disposition"].startswith('inline; filename="tomato.png"')
    assert world.house.service.is_blob_url(intent["url"])
    club = await world.community(ada)
    changed = (await ada.patch(club.url, {"logoUrl": intent["url"]})).ok()
    assert changed["logoUrl"] == intent["url"]


async def test_an_unchanged_file_is_not_sent_again_and_its_head_can_be_read(world: World) -> None:
    ada = await world.person("ada")
    intent = await ask(ada)
    await send(world, intent)
    path = local(world, intent["url"])

    first = await world.nobody.get(path)
    again = await world.nobody.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.response.content) == (304, b"")
    head = await world.nobody.call("HEAD", path)
    assert (head.status, head.response.content) == (200, b"")
    same = ("Content-Length", "Content-Type", "ETag", "Content-Disposition", "Cache-Control")
    assert [head.headers[name] for name in same] == [first.headers[name] for name in same]
    assert (await world.nobody.call("HEAD", "/blobs/aa/unknown.png")).status == 404


async def test_what_is_no_picture_is_a_download(world: World) -> None:
    ada = await world.person("ada")

    for kind, content, name in (
        ("application/pdf", b"%PDF-1.7 and so on", "pdf"),
        ("text/plain", "Grüße".encode(), "txt"),
        ("text/markdown", b"# Hello", "md"),
        ("text/csv", b"a,b\n1,2\n", "csv"),
        ("text/html; charset=utf-8", b"<script>alert(1)</script>", "html"),
        ("image/svg+xml", b"<svg onload=alert(1)>", "svg"),
    ):
        intent = await ask(
            ada,
            filename=f"Über/uns.{name}",
            contentType=kind,
            sizeBytes=len(content),
            purpose="attachment",
        )
        assert intent["url"].endswith("." + name)
        assert (await send(world, intent, content)).status == 204
        reply = await world.nobody.get(local(world, intent["url"]))
        assert reply.response.content == content
        assert reply.headers["Content-Disposition"].startswith("attachment; ")
        assert "sandbox" in reply.headers["Content-Security-Policy"]
        assert reply.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({"contentType": "image/svg+xml"}, 400, {"/contentType": "not_allowed"}),
        ({"contentType": "application/x-msdownload", "purpose": "attachment"}, 415, "unsupported_type"),
        ({"contentType": "application/pdf"}, 400, {"/contentType": "not_allowed"}),
        ({"contentType": "text/html", "purpose": "logo"}, 400, {"/contentType": "not_allowed"}),
        ({"contentType": "nonsense"}, 400, {"/contentType": "format"}),
        ({"contentType": "image/png\r\nx: y"}, 400, {"/contentType": "character"}),
        ({"sizeBytes": 8 * 2**20}, 201, None),
        ({"sizeBytes": 8 * 2**20 + 1}, 413, "too_large"),
        ({"sizeBytes": 25 * 2**20, "purpose": "attachment"}, 201, None),
        ({"sizeBytes": 25 * 2**20 + 1, "purpose": "attachment"}, 413, "too_large"),
        ({"sizeBytes": 0}, 400, {"/sizeBytes": "out_of_range"}),
        ({"sizeBytes": -1}, 400, {"/sizeBytes": "out_of_range"}),
        ({"sizeBytes": "1"}, 400, {"/sizeBytes": "type"}),
        ({"sizeBytes": 2**60}, 400, {"/sizeBytes": "out_of_range"}),
        ({"filename": "", "purpose": "banner"}, 400, {"/filename": "too_short", "/purpose": "not_allowed"}),
        ({"filename": "x" * 256}, 400, {"/filename": "too_long"}),
        ({"filename": "a\u202egnp.exe"}, 400, {"/filename": "character"}),
    ],
)
async def test_the_limits_of_an_upload(
    world: World, fields: dict[str, Any], status: int, problem: Any
) -> None:
    ada = await world.person("ada")

    reply = await ada.post("/api/uploads", ASKED | fields)
    assert reply.status == status, reply
    if isinstance(problem, dict):
        assert reply.fields == problem
    else:
        assert reply.error == problem
    assert (await world.nobody.post("/api/uploads", ASKED | fields)).status == 401
    async with world.db.writing() as tx:
        await tx.run("UPDATE users SET status = 'disabled' WHERE id = $1", ada.id)
    assert (await ada.post("/api/uploads", ASKED | fields)).status == 401


async def test_an_address_takes_one_file(world: World) -> None:
    ada = await world.person("ada")
    intent = await ask(ada)

    replies = await asyncio.gather(*(send(world, intent) for _ in range(4)))
    assert sorted(r.status for r in replies) == [204, 409, 409, 409]
    assert {r.error for r in replies} == {None, "upload_used"}
    assert (await send(world, intent, PNG[:-1] + b"x")).error == "upload_used"
    reply = await world.nobody.get(local(world, intent["url"]))
    assert reply.response.content == PNG


async def test_an_address_that_we_did_not_sign_is_refused(world: World) -> None:
    ada = await world.person("ada")
    intent, other = await ask(ada), await ask(ada)
    parts = urlsplit(local(world, intent["uploadUrl"]))
    query = dict(parse_qsl(parts.query))
    stolen = dict(parse_qsl(urlsplit(other["uploadUrl"]).query))["signature"]

    for change in (
        {"signature": query["signature"][:-1] + ("0" if query["signature"][-1] != "0" else "1")},
        {"signature": stolen},
        {"signature": ""},
        {"signature": "%C3%A9" * 4},
        {"expires": str(int(query["expires"]) + 1)},
        {"expires": "x"},
        {"expires": ""},
    ):
        forged = "&".join(f"{key}={value}" for key, value in (query | change).items())
        reply = await world.nobody.call(
            "PUT", f"{parts.path}?{forged}", content=PNG, headers=intent["headers"]
        )
        assert (reply.status, reply.error) == (403, "upload_link_invalid"), change
    for path in (parts.path, f"/api/uploads/{NOBODY}?{parts.query}"):
        assert (await world.nobody.call("PUT", path, content=PNG)).error == "upload_link_invalid"
    assert (await world.nobody.call("PUT", "/api/uploads/nonsense", content=PNG)).error == "not_found"
    unknown = links.make(world.house.service, UUID(NOBODY), int(time.time()) + 60)
    assert (await world.nobody.call("PUT", local(world, unknown), content=PNG)).error == "not_found"
    # Nothing of it used the address up.
    assert (await send(world, intent)).status == 204


async def test_an_address_is_good_for_fifteen_minutes_and_while_its_person_is(world: World) -> None:
    ada = await world.person("ada")
    late, early, lost = await ask(ada), await ask(ada), await ask(ada)
    expires = int(dict(parse_qsl(urlsplit(late["uploadUrl"]).query))["expires"])
    assert 14 * 60 < expires - time.time() <= 15 * 60

    async def age(intent: dict[str, Any], seconds: int) -> None:
        name = local(world, intent["url"]).removeprefix("/blobs/")
        async with world.db.writing() as tx:
            await tx.run(
                "UPDATE uploads SET created_at = now() - $2 * interval '1 second' WHERE name = $1",
                name,
                seconds,
            )

    await age(late, 901)
    await age(early, 890)
    assert (await send(world, late)).error == "upload_expired"
    assert (await send(world, early)).status == 204
    async with world.db.writing() as tx:
        await tx.run("UPDATE users SET status = 'disabled' WHERE id = $1", ada.id)
    assert (await send(world, lost)).error == "not_found"


async def test_bytes_that_do_not_fit_leave_nothing(world: World) -> None:
    ada = await world.person("ada")

    async def attempt(content: bytes, **fields: Any) -> Reply:
        intent = await ask(ada, **fields)
        reply = await send(world, intent, content)
        assert not await stored(world, intent)
        return reply

    assert (await attempt(b"GIF89a" + b"\x00" * 40)).error == "content_mismatch"
    assert (await attempt(b"<svg onload=alert(1)>" + b" " * 40)).error == "content_mismatch"
    assert (await attempt(PNG + b"x")).error == "too_large"
    text = {"contentType": "text/plain", "purpose": "attachment", "sizeBytes": 100}
    assert (await attempt(b"\xff\xfe", **text)).error == "content_mismatch"
    assert (await attempt(b"a\x00b", **text)).error == "content_mismatch"


async def test_a_body_with_the_wrong_headers_does_not_use_the_address_up(world: World) -> None:
    ada = await world.person("ada")
    intent = await ask(ada)

    async def chunked() -> AsyncIterator[bytes]:
        yield PNG

    unmeasured = await send(world, intent, chunked())
    assert (unmeasured.status, unmeasured.error) == (411, "length_required")
    assert (await send(world, intent, b"")).status in (400, 411)
    assert (await send(world, intent, PNG + b"x")).status == 413
    other = await send(world, intent, PNG, **{"Content-Type": "image/gif"})
    assert other.error == "content_mismatch"
    assert (await send(world, intent)).status == 204


async def put_by_hand(world: World, intent: dict[str, Any], receive: Any, length: int) -> int | None:
    """A PUT whose body comes as `receive` says. The status, None where nobody is left to hear it."""
    edge: Any = build_edge(world.house)
    statuses: list[int] = []

    async def answer(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = (("content-type", "image/png"), ("content-length", str(length)))
    scope = scope_of("PUT", local(world, intent["uploadUrl"]), *headers)
    await edge(scope, receive, answer)
    return statuses[0] if statuses else None


async def test_a_slow_body_is_cut_off_and_leaves_nothing(world: World, monkeypatch: Any) -> None:
    ada = await world.person("ada")
    intent = await ask(ada)
    monkeypatch.setattr(routes, "UPLOAD_S", 0.3)

    async def drip() -> Any:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": PNG[:1], "more_body": True}

    assert await put_by_hand(world, intent, drip, len(PNG)) == 408
    assert not await stored(world, intent)
    assert (await send(world, intent)).error == "upload_used"


async def test_a_connection_that_ends_early_leaves_nothing(world: World) -> None:
    ada = await world.person("ada")
    big = 12 * 2**20
    for parts in (1, 3):
        intent = await ask(ada, purpose="attachment", sizeBytes=big)
        sent = iter([PNG + b"\x00" * (big // 4 - len(PNG)), *[b"\x00" * (big // 4)] * 3][:parts])

        async def breaking(sent: Any = sent) -> Any:
            part = next(sent, None)
            if part is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": part, "more_body": True}

        await put_by_hand(world, intent, breaking, big)
        assert not await stored(world, intent)
    folder = Path(urlsplit(world.house.settings.blobs.url).path)
    assert not list(folder.rglob("*#*"))


@pytest.mark.parametrize(
    "name",
    ["x", "x.png", "aa/x.exe", "aa/../x.png", "..%2fx.png", "aa//x.png", "AA/x.png", "aa/x.png/", ".png", ""],
)
async def test_unknown_names_of_files_sound_alike(world: World, name: str) -> None:
    reply = await world.nobody.get(f"/blobs/{name}")
    assert reply.status == 404
    assert reply.error == "not_found"


async def test_a_file_of_ours_that_nobody_uploaded_is_not_served(world: World) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"private export"

    await world.house.service.blobs.put("exports/secret.txt", chunks(), "text/plain", 100)
    assert (await world.nobody.get("/blobs/exports/secret.txt")).status == 404
