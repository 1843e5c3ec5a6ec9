"""The archive of one's own data: all of it, nothing of anybody else, and by its link alone."""

import json
import secrets
import time
import uuid
from typing import Any

from guildhall.users import exports
from guildhall.users.handlers import make_export
from guildhall.users.jobs import ExportAsked
from tests.api.homes import Home, home
from tests.world import Browser, Person, Reply

__all__ = ["home"]

EXPORT = "/api/users/me/export"


async def ready(home: Home, person: Browser) -> str:
    """The path that opens the person's archive."""
    assert (await person.get(EXPORT)).ok(202)["status"] == "queued"
    await home.world.drain()
    body = (await person.get(EXPORT)).ok(202)
    assert body["status"] == "ready"
    return body["url"].removeprefix(home.world.house.service.public_url)


async def archive(home: Home, person: Browser) -> dict[str, Any]:
    return json.loads((await home.world.nobody.get(await ready(home, person))).response.content)


async def test_an_archive_is_gathered_by_the_worker_and_opened_by_its_link(home: Home) -> None:
    ada = await home.world.person("ada")
    # To look whether one may ask is not to ask.
    head = await ada.call("HEAD", EXPORT)
    assert (head.status, head.response.content) == (202, b"")
    assert await names(home, ada) == []

    asked = (await ada.get(EXPORT)).ok(202)
    assert asked == {"status": "queued", "requestedAt": asked["requestedAt"], "url": None}
    assert (await ada.get(EXPORT)).ok(202) == asked
    await home.world.drain()
    body = (await ada.get(EXPORT)).ok(202)
    assert (body["status"], body["requestedAt"]) == ("ready", asked["requestedAt"])
    path = body["url"].removeprefix(home.world.house.service.public_url)

    reply = await home.world.nobody.get(path)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    assert reply.headers["Content-Disposition"] == 'attachment; filename="guildhall-export.json"'
    assert reply.headers["Content-Length"] == str(len(reply.response.content))
    assert reply.headers["Cache-Control"] == "no-store"
    content = reply.json
    assert content["format"] == "guildhall-export-1"
    assert [one["id"] for one in content["account"]] == [ada.id]
    # It is no upload, so its name opens nothing.
    (name,) = {name for name in home.files() if name.startswith("exports/")}
    assert (await home.world.nobody.get(f"/blobs/{name}")).status == 404
    assert (await home.world.nobody.get(EXPORT)).status == 401


async def test_an_archive_holds_all_of_ones_own_and_nothing_of_others(home: Home) -> None:
    world = home.world
    ada, user = await home.sign_in(f"ada.{secrets.token_hex(6)}@example.org", label="ada's laptop")
    bo, cy = await world.people("bo", "cy")
    me = f"/api/members/{user['id']}/profile"
    (await ada.patch(me, {"displayName": "Ada", "bio": "Ada's bio", "phoneNumber": "+1 555"})).ok()
    club = (await ada.post("/api/communities", {"name": "Ada's club"})).ok(201)
    await world.join(club["id"], bo, "admin")
    url = f"/api/communities/{club['id']}"
    group = (await ada.post("/api/groups", {"communityId": club["id"], "name": "Ada's group"})).ok(201)
    photo = await home.upload(ada, "attachment", "ada's holiday.png")
    post = {"communityId": club["id"], "content": "Ada's post", "attachments": [photo]}
    (await ada.post("/api/posts", post)).ok(201)
    (await ada.post("/api/posts", {**post, "groupId": group["id"], "content": "Ada's secret"})).ok(201)
    invite = (await ada.post(f"{url}/invite", {"email": "guest@example.org"})).ok(201)
    theirs = await world.community(cy, name="Cy's club")
    received = (await cy.post(f"{theirs.url}/invite", {"email": user["email"]})).ok(201)
    # What others do beside her is theirs.
    (await bo.patch(f"/api/members/{bo.id}/profile", {"displayName": "Bo", "bio": "Bo's bio"})).ok()
    (await bo.post("/api/posts", {"communityId": club["id"], "content": "Bo's post"})).ok(201)
    (await bo.post(f"{url}/invite", {"email": "bos.guest@example.org"})).ok(201)
    (await bo.post("/api/groups", {"communityId": club["id"], "name": "Bo's group"})).ok(201)
    await home.upload(bo, "attachment", "bo's holiday.png")

    content = await archive(home, ada)
    assert content.keys() == {"format", *(name for name, _ in exports.SECTIONS)}
    (account,) = content["account"]
    own = (await ada.get(me)).ok()
    assert account == own | {"issuer": account["issuer"]}
    assert [one["label"] for one in content["sessions"]] == ["ada's laptop"]
    assert {(one["kind"], one["name"], one["role"]) for one in content["memberships"]} == {
        ("community", "Ada's club", "owner"),
        ("hub", "Memory Hub", "owner"),
    }
    assert [one["name"] for one in content["groups"]] == ["Ada's group"]
    assert [one["content"] for one in content["posts"]] == ["Ada's post", "Ada's secret"]
    assert content["posts"][0]["attachments"] == [photo]
    assert [one["email"] for one in content["invitesSent"]] == ["guest@example.org"]
    assert [one["id"] for one in content["invitesReceived"]] == [received["id"]]
    assert [one["filename"] for one in content["uploads"]] == ["ada's holiday.png"]
    assert {"community.create", "invite.create"} <= {one["action"] for one in content["history"]}

    text = json.dumps(content).lower()
    foreign = [bo.id, bo.email, cy.id, cy.email, "bo's", "bos.guest", "cy's"]
    secret = [invite["token"], received["token"], "token", "hash", "rft_", "inv_", "blob"]
    assert [word for word in foreign + secret if word.lower() in text.replace("/blobs/", "")] == []


async def test_long_sections_are_whole_and_in_order(home: Home) -> None:
    ada = await home.world.person("ada")
    club = await home.world.community(ada)
    async with home.world.db.writing() as tx:
        await tx.run(
            "INSERT INTO posts (id, space_id, author_id, content)"
            " SELECT gen_random_uuid(), $1::uuid, $2, 'Post ' || n FROM generate_series(1, 450) AS n",
            club.id,
            ada.id,
        )

    posts = (await archive(home, ada))["posts"]
    assert {one["content"] for one in posts} == {f"Post {n}" for n in range(1, 451)}
    assert [one["id"] for one in posts] == sorted(one["id"] for one in posts)


async def test_what_is_no_link_opens_nothing(home: Home) -> None:
    ada = await home.world.person("ada")
    path = await ready(home, ada)
    token = path.rpartition("/")[2]
    keys = home.world.house.service.keys

    trips = home.world.db.trips
    refusals: list[Reply] = []
    for wrong in (
        token[:-1],
        token + "A",
        token[:8] + ("B" if token[8] == "A" else "A") + token[9:],
        token.removeprefix("exp_"),
        "exp_" + "A" * 75,
        "x",
    ):
        refusals.append(await home.world.nobody.get(f"/api/exports/{wrong}"))
    assert home.world.db.trips == trips
    async with home.world.db.reading() as read:
        export_id = await read.value("SELECT id FROM exports WHERE user_id = $1", ada.id)
    out_of_time = export_id.bytes + int(time.time() - 1).to_bytes(8)
    late = exports._links(keys).make(out_of_time)
    unknown = exports.link(keys, "", uuid.uuid4())
    for wrong in (late, unknown.rpartition("/")[2]):
        refusals.append(await home.world.nobody.get(f"/api/exports/{wrong}"))
    assert {reply.status for reply in refusals} == {404}
    assert all(reply.json | {"requestId": ""} == refusals[0].json | {"requestId": ""} for reply in refusals)
    assert (await home.world.nobody.get(path)).status == 200


async def test_an_archive_goes_when_its_link_is_out_of_time(home: Home) -> None:
    ada = await home.world.person("ada")
    path = await ready(home, ada)
    (name,) = await names(home, ada)

    await home.settle()
    assert await names(home, ada) == []
    assert name not in home.files()
    assert (await home.world.nobody.get(path)).status == 404


async def names(home: Home, person: Person) -> list[str]:
    async with home.world.db.reading() as read:
        rows = await read.connection.fetch("SELECT blob FROM exports WHERE user_id = $1", person.id)
    return [row["blob"] for row in rows]


async def test_a_newer_archive_replaces_the_older(home: Home) -> None:
    ada = await home.world.person("ada")
    await ready(home, ada)
    (old,) = await names(home, ada)
    async with home.world.db.writing() as tx:
        await tx.run(
            "UPDATE exports SET requested_at = now() - interval '2 hours' WHERE user_id = $1", ada.id
        )

    await ready(home, ada)
    (new,) = await names(home, ada)
    assert old != new
    assert old not in home.files() and new in home.files()


async def test_a_worker_that_died_over_an_archive_leaves_no_file_behind(home: Home) -> None:
    ada = await home.world.person("ada")
    (await ada.get(EXPORT)).ok(202)
    async with home.world.db.reading() as read:
        export_id = await read.value("SELECT id FROM exports WHERE user_id = $1", ada.id)
    # As far as a worker comes that dies right after storing the file.
    work = home.world.house.work
    half = exports.new_name()
    await work.blobs.put(half, exports.gather(work.db, ada.id), "text/plain", exports.MAX_BYTES)
    async with home.world.db.writing() as tx:
        await tx.run("UPDATE exports SET blob = $2 WHERE id = $1", export_id, half)

    await make_export(work, ExportAsked(export_id=export_id))
    await home.world.drain()
    (name,) = await names(home, ada)
    assert half not in home.files() and name in home.files()
    # The job again, late: there is nothing left to do.
    await make_export(work, ExportAsked(export_id=export_id))
    assert await names(home, ada) == [name]


async def test_nobody_opens_the_archive_of_a_closed_account(home: Home) -> None:
    ada = await home.world.person("ada")
    path = await ready(home, ada)
    async with home.world.db.writing() as tx:
        await tx.run("UPDATE users SET status = 'disabled' WHERE id = $1", ada.id)

    assert (await home.world.nobody.get(path)).status == 404


async def test_an_archive_tells_of_ones_topics_and_dreams(home: Home) -> None:
    ada, bo = await home.world.people("ada", "bo")
    hub = await home.world.hub(ada, admins=[bo])
    for person, name in ((ada, "Ada's"), (bo, "Bo's")):
        body = {"name": name, "hub_id": hub.id}
        topic = (await person.post("/v1/topics", body)).data(201)["id"]
        (await person.post(f"/v1/topics/{topic}/visit")).data(200)
    (await ada.post("/v1/dreams/trigger", headers={"X-Hub-ID": hub.id})).data(200)
    await home.world.drain()
    content = await archive(home, ada)
    assert [one["name"] for one in content["topics"]] == ["Ada's"]
    assert len(content["topicVisits"]) == len(content["dreams"]) == 1
    content = await archive(home, bo)
    assert ([one["name"] for one in content["topics"]], content["dreams"]) == (["Bo's"], [])
