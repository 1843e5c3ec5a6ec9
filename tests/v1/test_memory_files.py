"""Files of memories: sent, pushed, read by the worker, found by their text, and gone with the memory."""

import hashlib
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from guildhall.memories.jobs import clear_remains
from guildhall.memories.reading import Unreadable, read_text
from guildhall.spaces.jobs import RemainsLeft
from tests.v1.test_access_keys import make_key
from tests.v1.test_memories import at, push
from tests.v1.test_recall import ids
from tests.world import Hub, Person, Reply, World

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x00" * 48
HTML = (
    b"<html><head><title>x</title><script>secretword()</script></head><body><h1>Compost</h1>"
    b"<p>Turn the heap &amp; wait.</p></body></html>"
)


def pdf(text: str) -> bytes:
    """The smallest PDF that says so."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    made, places = b"%PDF-1.4\n", list[int]()
    for number, body in enumerate(objects, 1):
        places.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return (
        made
        + b"xref\n0 6\n0000000000 65535 f \n"
        + table
        + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % len(made)
    )


async def send(person: Person, data: bytes, content_type: str, filename: str) -> str:
    """Send a file; answers its object key."""
    asked = {
        "filename": filename,
        "content_type": content_type,
        "size_bytes": len(data),
        "purpose": "memory_attachment",
    }
    intent = (await person.post("/v1/uploads", asked)).data(200)
    address = urlsplit(intent["upload_url"])
    sent = await person.world.nobody.call(
        "PUT", f"{address.path}?{address.query}", content=data, headers=intent["headers"]
    )
    sent.ok(204)
    return intent["object_key"]


async def push_file(person: Person, key: str, hub: Hub | None = None, **more: Any) -> Reply:
    body = {"file_ref": {"object_key": key, "filename": "f", "content_type": "x/y"}, **more}
    return await person.post("/v1/memories", body, headers=at(hub) if hub else {})


@pytest.mark.parametrize(
    ("data", "content_type", "query", "content"),
    [
        (pdf("Mulch keeps the soil moist."), "application/pdf", "mulch", "Mulch keeps the soil moist."),
        (HTML, "text/html", "compost heap", "# Compost\n\nTurn the heap & wait."),
        (b'{"plant": "basil"}', "application/json", "basil", '{"plant": "basil"}'),
        ("Grüße".encode(), "text/plain", "grusse", "Grüße"),
    ],
)
async def test_a_file_becomes_a_memory_that_is_found_by_its_text(
    world: World, data: bytes, content_type: str, query: str, content: str
) -> None:
    ada, eve = await world.people("ada", "eve")
    made = (await push_file(ada, await send(ada, data, content_type, "notes.bin"))).data(201)
    assert (made["state"], made["title"]) == ("processing", "notes.bin")
    await world.drain()
    read = (await ada.get(f"/v1/memories/{made['id']}")).data()
    assert (read["state"], read["content"], read["version"]) == ("active", content, 1)
    assert read["content_hash"] == hashlib.sha256(content.encode()).hexdigest()
    assert await ids(ada, query) == [made["id"]]
    assert await ids(ada, "secretword") == []
    (file,) = read["attachments"]
    assert (file["filename"], file["size_bytes"]) == ("notes.bin", len(data))
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    url = f"/v1/memories/{made['id']}/attachments/{file['id']}"
    loaded = await ada.get(f"{url}/download")
    assert loaded.response.content == data
    assert loaded.headers["content-disposition"].startswith("attachment")
    assert (await eve.get(f"{url}/download")).error == "not_found"
    assert (await eve.post(f"{url}/view-url")).error == "not_found"


async def test_an_image_is_seen_by_a_signed_address_alone(world: World) -> None:
    ada = await world.person("ada")
    made = (await push_file(ada, await send(ada, PNG, "image/png", "plan.png"))).data(201)
    await world.drain()
    read = (await ada.get(f"/v1/memories/{made['id']}")).data()
    assert (read["state"], read["title"], read["content_type"]) == ("active", "plan.png", "image")
    assert await ids(ada, "plan.png") == [made["id"]]
    (file,) = read["attachments"]
    assert file["inline_eligible"] is True
    seen = (await ada.post(f"/v1/memories/{made['id']}/attachments/{file['id']}/view-url")).data(200)
    address = urlsplit(seen["url"])
    shown = await world.nobody.get(f"{address.path}?{address.query}")
    assert shown.response.content == PNG and shown.headers["content-disposition"].startswith("inline")
    for wrong in ("sig=" + "0" * 64, "exp=1", "by=" + "0" * 120):
        name = wrong.partition("=")[0]
        query = "&".join(wrong if part.startswith(name) else part for part in address.query.split("&"))
        assert (await world.nobody.get(f"{address.path}?{query}")).error == "forbidden"


async def test_an_address_shows_nothing_after_the_membership_of_who_asked_for_it(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hub = await world.hub(ada, contributors=[bo], viewers=[cy])
    made = (await push_file(bo, await send(bo, PNG, "image/png", "plan.png"), hub)).data(201)
    url = f"/v1/memories/{made['id']}/attachments/{made['attachments'][0]['id']}/view-url"
    by_bo, by_cy = [urlsplit((await person.post(url)).data(200)["url"]) for person in (bo, cy)]
    (await ada.delete(f"{hub.url}/members/{bo.id}")).data(200)
    for address, status in ((by_bo, 404), (by_cy, 200)):
        assert (await world.nobody.get(f"{address.path}?{address.query}")).status == status
    made, key = await make_key(cy, hub_id=hub.id)
    by_key = urlsplit((await key.post(url)).data(200)["url"])
    assert (await world.nobody.get(f"{by_key.path}?{by_key.query}")).status == 200
    (await cy.delete(f"/v1/auth/api-keys/{made['id']}")).data(200)
    assert (await world.nobody.get(f"{by_key.path}?{by_key.query}")).error == "not_found"
    (await ada.delete(hub.url)).data(200)
    assert (await world.nobody.get(f"{by_cy.path}?{by_cy.query}")).error == "not_found"


async def test_a_file_is_its_sender_s_and_one_memory_s_and_goes_with_it(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, contributors=[bo])
    key = await send(ada, b"A text", "text/plain", "a.txt")
    for person, named in ((bo, key), (ada, key[:-1] + ("1" if key[-1] == "0" else "0")), (ada, "x")):
        assert (await push_file(person, named, hub)).error == "invalid_file_ref"
    made = (await push_file(ada, key, hub)).data(201)
    assert (await push_file(ada, key, hub)).error == "invalid_file_ref"
    again = await push_file(ada, await send(ada, b"A text", "text/plain", "b.txt"), hub)
    assert again.data(200)["id"] == made["id"]
    await world.drain()
    async with world.db.reading() as read:
        (name,) = await read.value("SELECT array_agg(name) FROM uploads WHERE user_id = $1", ada.id)
    assert await world.house.service.blobs.exists(name)
    # Whoever knows the name of a memory's file cannot read it by that.
    assert (await world.nobody.get(f"/blobs/{name}")).status == 404
    (await ada.delete(hub.url)).ok(200)
    await clear_remains(world.house.work, RemainsLeft())
    assert not await world.house.service.blobs.exists(name)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"filename": ""}, "missing_filename"),
        ({"content_type": ""}, "missing_content_type"),
        ({"size_bytes": 0}, "invalid_size"),
        ({"purpose": ""}, "missing_purpose"),
        ({"purpose": "avatar"}, "invalid_purpose"),
        ({"content_type": "application/zip"}, "unsupported_content_type"),
        ({"size_bytes": 30_000_000}, "file_too_large"),
        ({"size_bytes": "1"}, "invalid_json"),
    ],
)
async def test_files_that_no_memory_is_made_of_are_refused(
    world: World, change: dict[str, Any], code: str
) -> None:
    ada = await world.person("ada")
    asked = {"filename": "a", "content_type": "text/plain", "size_bytes": 1, "purpose": "memory_attachment"}
    assert (await ada.post("/v1/uploads", asked | change)).error == code


async def test_a_broken_file_stays_and_is_found_by_its_name(world: World) -> None:
    ada = await world.person("ada")
    broken = b"%PDF-1.4\n" + b"nonsense" * 20
    with pytest.raises(Unreadable):
        await read_text("application/pdf", broken)
    made = (await push_file(ada, await send(ada, broken, "application/pdf", "broken.pdf"))).data(201)
    await world.drain()
    read = (await ada.get(f"/v1/memories/{made['id']}")).data()
    assert (read["state"], read["content"], read["title"]) == ("active", "", "broken.pdf")
    assert read["metadata"]["unreadable"]
    await push(ada, "Something else")
    assert await ids(ada, "broken.pdf") == [made["id"]]


async def test_the_text_of_an_html_file_is_not_html(world: World) -> None:
    ada = await world.person("ada")
    page = b"<h1>T</h1><p>&lt;script&gt;alert(1)&lt;/script&gt; and &lt;img src=x onerror=alert(1)&gt;</p>"
    made = (await push_file(ada, await send(ada, page, "text/html", "a.html"))).data(201)
    plain = await send(ada, b"<script>alert(2)</script>", "text/plain", "b.txt")
    claimed = (await push_file(ada, plain, content_type="html")).data(201)
    await world.drain()
    read = (await ada.get(f"/v1/memories/{made['id']}")).data()
    assert (read["content_type"], read["title"]) == ("markdown", "T")
    assert "<script>" in read["content"]
    assert read["attachments"][0]["content_type"] == "text/html"
    assert (await ada.get(f"/v1/memories/{claimed['id']}")).data()["content_type"] == "text"
    changed = (await ada.patch(f"/v1/memories/{made['id']}", {"content_type": "html"})).data()
    assert "<script>" not in changed["content"] and "onerror" not in changed["content"]


async def test_a_file_of_headings_alone_is_found_by_them(world: World) -> None:
    ada = await world.person("ada")
    data = "".join(f"# h{n:07d}x\n" for n in range(120_000)).encode()
    made = (await push_file(ada, await send(ada, data, "text/markdown", "n.md"))).data(201)
    await world.drain()
    assert (await ada.get(f"/v1/memories/{made['id']}")).data()["state"] == "active"
    assert await ids(ada, "h0000007x") == [made["id"]]


async def test_a_file_whose_text_cannot_be_kept_ends_as_unreadable(world: World) -> None:
    ada = await world.person("ada")
    made = (await push_file(ada, await send(ada, b"mandrake", "text/plain", "m.txt"))).data(201)
    owner = await asyncpg.connect(world.owner_url)
    try:
        await owner.execute(
            "CREATE FUNCTION too_much() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE 'too much' USING ERRCODE = 'program_limit_exceeded'; END $$;"
            "CREATE TRIGGER too_much BEFORE UPDATE ON memories FOR EACH ROW"
            " WHEN (NEW.content = 'mandrake') EXECUTE FUNCTION too_much()"
        )
        await world.drain()
    finally:
        await owner.execute("DROP FUNCTION too_much() CASCADE")
        await owner.close()
    read = (await ada.get(f"/v1/memories/{made['id']}")).data()
    assert (read["state"], read["content"], read["title"]) == ("active", "", "m.txt")
    assert read["metadata"]["unreadable"]
    assert await ids(ada, "m.txt") == [made["id"]]


async def test_what_is_written_while_a_file_is_read_stays(world: World) -> None:
    ada = await world.person("ada")
    written = (await push_file(ada, await send(ada, b"From the file", "text/plain", "k.txt"))).data(201)
    named = (await push_file(ada, await send(ada, b"Also a file", "text/plain", "l.txt"))).data(201)
    url = f"/v1/memories/{written['id']}"
    change = {"content": "My own important text", "title": "Mine"}
    changed = (await ada.patch(url, change)).data(200)
    assert (changed["state"], changed["content"], changed["version"]) == ("active", change["content"], 2)
    assert await ids(ada, "important") == [written["id"]]
    assert (
        await ada.patch(f"/v1/memories/{named['id']}", {"state": "archived"})
    ).error == "memory_processing"
    retitled = {"title": "Hers", "tags": ["new"], "content_type": "markdown"}
    assert (await ada.patch(f"/v1/memories/{named['id']}", retitled)).data(200)["state"] == "processing"
    await world.drain()
    read = (await ada.get(url)).data()
    assert (read["content"], read["title"], read["state"]) == (change["content"], "Mine", "active")
    versions = (await ada.get(f"{url}/versions")).data()["versions"]
    assert [(v["version"], v["content"], v["title"]) for v in versions] == [
        (2, change["content"], "Mine"),
        (1, "", "k.txt"),
    ]
    read = (await ada.get(f"/v1/memories/{named['id']}")).data()
    assert (read["content"], read["title"], read["tags"]) == ("Also a file", "Hers", ["new"])
    assert (read["state"], read["content_type"]) == ("active", "markdown")


async def test_a_file_from_the_same_path_takes_the_place_of_the_one_before(world: World) -> None:
    ada = await world.person("ada")
    before = await send(ada, b"Peas in March", "text/plain", "p.txt")
    made = (await push_file(ada, before, source_path="notes/p.txt")).data(201)
    await world.drain()
    after = await send(ada, b"Peas in April", "text/plain", "p.txt")
    again = (await push_file(ada, after, source_path="notes/p.txt")).data(200)
    assert again["id"] == made["id"]
    await world.drain()
    read = (await ada.get(f"/v1/memories/{made['id']}")).data()
    assert (read["state"], read["content"], read["version"]) == ("active", "Peas in April", 2)
    (file,) = read["attachments"]
    loaded = await ada.get(f"/v1/memories/{made['id']}/attachments/{file['id']}/download")
    assert loaded.response.content == b"Peas in April"
    versions = (await ada.get(f"/v1/memories/{made['id']}/versions")).data()["versions"]
    assert [v["content"] for v in versions] == ["Peas in April", "Peas in March"]
    async with world.db.reading() as read_only:
        assert await read_only.value("SELECT count(*) FROM uploads WHERE user_id = $1", ada.id) == 1


async def test_a_file_that_comes_again_is_fetched_back_from_the_archive(world: World) -> None:
    ada = await world.person("ada")
    made = (await push_file(ada, await send(ada, b"A text", "text/plain", "a.txt"))).data(201)
    await world.drain()
    async with world.db.single() as tx:
        await tx.run("UPDATE memories SET state = 'archived' WHERE id = $1::uuid", made["id"])
    again = await push_file(ada, await send(ada, b"A text", "text/plain", "a.txt"), source_path="a.txt")
    assert (again.data(200)["id"], again.data()["state"]) == (made["id"], "active")
    assert again.data()["source_path"] == "a.txt"
    assert await ids(ada, "text") == [made["id"]]
    changed = await push_file(ada, await send(ada, b"B text", "text/plain", "a.txt"), source_path="a.txt")
    assert changed.data(200)["id"] == made["id"]
    await world.drain()
    assert (await ada.get(f"/v1/memories/{made['id']}")).data()["content"] == "B text"
