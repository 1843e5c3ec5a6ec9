"""Hubs: what each person has, and who may see, change and delete them."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from guildhall.hubs.queries import BATCH, FORMER_SLUGS
from guildhall.memories.jobs import clear_remains
from guildhall.spaces.jobs import RemainsLeft
from guildhall.wiring import build_edge
from tests.v1.listening import overhearing
from tests.v1.test_access_keys import make_key
from tests.v1.test_memory_files import PNG, push_file, send
from tests.world import Browser, Hub, Person, Reply, World, scope_of

# Where a hub that is in use has rows of its own.
HELD = (
    "members",
    "hub_slugs",
    "invites",
    "transfers",
    "notifications",
    "api_key_hubs",
    "topics",
    "topic_visits",
    "memories",
    "memory_chunks",
    "memory_terms",
    "memory_versions",
    "memory_attachments",
    "dream_runs",
)
MISSING = "018f0000-0000-7000-8000-000000000000"


def alike(*replies: Reply) -> bool:
    """Whether nobody could tell these answers apart."""
    return len({(r.status, r.response.text, r.headers["content-type"]) for r in replies}) == 1


async def test_everybody_has_a_personal_hub_of_their_own(world: World) -> None:
    ada = await world.person("ada")

    (row,) = (await ada.get("/v1/hubs")).data()
    hub = row["hub"]
    assert (row["role"], row["memory_count"]) == ("owner", 0)
    assert (hub["name"], hub["hub_type"], hub["slug"]) == ("Memory Hub", "personal", ada.id)
    assert (hub["accent"], hub["owner_id"]) == ("violet", ada.id)
    assert "plan" not in hub and "icon" not in hub and "settings" not in hub
    detail = (await ada.get(f"/v1/hubs/{hub['id']}")).data()
    assert detail["hub"] == hub
    assert [(m["user_id"], m["role"]) for m in detail["members"]] == [(ada.id, "owner")]
    assert (detail["pending_transfer"], detail["is_frozen"], detail["role"]) == (None, False, "owner")


@pytest.mark.parametrize("how", ["one by one", "all at once"])
async def test_an_account_made_in_any_way_comes_with_its_hub(world: World, how: str) -> None:
    mark = secrets.token_hex(4)
    people = [f"user_{mark}_{n}" for n in range(3)]
    async with world.db.writing() as tx:
        for group in [people] if how == "all at once" else [[person] for person in people]:
            await tx.run(
                "INSERT INTO users (id, issuer, display_name) SELECT unnest($1::text[]), 'elsewhere', 'x'",
                group,
            )
    async with world.db.reading() as read:
        assert await read.value(
            "SELECT count(*) = 3"
            " AND bool_and(m.role = 'owner' AND s.slug = s.owner_id AND s.member_count = 1)"
            " FROM spaces s JOIN members m ON m.space_id = s.id AND m.user_id = s.owner_id"
            " WHERE s.is_personal AND s.owner_id = ANY ($1)",
            people,
        )


async def test_a_personal_hub_cannot_be_shared_left_handed_over_or_deleted(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    (row,) = (await ada.get("/v1/hubs")).data()
    url = f"/v1/hubs/{row['hub']['id']}"

    for reply in (
        await ada.delete(url),
        await ada.post(f"{url}/leave", {}),
        await ada.post(f"{url}/members", {"user_id": bo.id}),
        await ada.patch(f"{url}/members/{ada.id}", {"role": "viewer"}),
        await ada.post(f"{url}/invites", {}),
        await ada.post(f"{url}/ownership-transfer", {"target_user_id": bo.id}),
        await ada.patch(url, {"slug": f"mine-{secrets.token_hex(4)}"}),
    ):
        assert (reply.status, reply.error) == (400, "personal_hub")
    assert (await ada.delete(f"{url}/members/{ada.id}")).error == "cannot_remove_owner"
    assert (await ada.patch(url, {"header_aurora_mode": "time"})).error == "personal_hub_header_mode"
    changed = (await ada.patch(url, {"name": "Mine", "icon": "🌱", "slug": ada.id, "accent": "blue"})).data()
    assert (changed["name"], changed["icon"], changed["accent"]) == ("Mine", "🌱", "blue")
    assert (await ada.patch(url, {"accent": "", "icon": ""})).data()["accent"] == "violet"


async def test_a_new_hub_is_its_makers_and_follows_the_personal_one_by_name(world: World) -> None:
    ada = await world.person("ada")
    mark = secrets.token_hex(4)

    later = (await ada.post("/v1/hubs", {"name": f"zebras {mark}"})).data(201)
    sooner = (await ada.post("/v1/hubs", {"name": f"  Apples   {mark} ", "slug": f"a-{mark}"})).data(201)
    assert later["slug"] == f"zebras-{mark}"
    assert sooner | {"id": "", "created_at": "", "updated_at": ""} == {
        "id": "",
        "name": f"Apples   {mark}",
        "slug": f"a-{mark}",
        "hub_type": "team",
        "accent": "amber",
        "plan": "hub_free_team",
        "owner_id": ada.id,
        "language": "english",
        "allow_contributor_topics": True,
        "allow_contributor_dreams": True,
        "contributor_delete_policy": "own",
        "created_at": "",
        "updated_at": "",
    }
    listed = (await ada.get("/v1/hubs")).data()
    assert [row["hub"] for row in listed[1:]] == [sooner, later]
    assert listed[0]["hub"]["hub_type"] == "personal"
    assert (await ada.get(f"/v1/hubs/a-{mark}")).data()["hub"] == sooner


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "missing_name"),
        ({"name": "  "}, "missing_name"),
        ({"name": "x" * 101}, "invalid_name"),
        ({"name": "a\u202eb"}, "invalid_name"),
        ({"name": 5}, "invalid_json"),
        ({"name": None}, "invalid_json"),
        ({"name": "x", "slug": "abc"}, "invalid_slug"),
        ({"name": "x", "slug": "Orchard"}, "invalid_slug"),
        ({"name": "x", "slug": "-orchard"}, "invalid_slug"),
        ({"name": "x", "slug": "o" * 51}, "invalid_slug"),
        ({"name": "x", "slug": "xn--orchard"}, "invalid_slug"),
        ({"name": "x", "slug": "018f0000-0000-7000-8000-000000000000"}, "invalid_slug"),
        ({"name": "x", "slug": "dashboard"}, "slug_taken"),
        ({"name": "Dashboard"}, "slug_taken"),
        ([], "invalid_json"),
    ],
)
async def test_a_hub_that_cannot_be_is_refused_with_the_reason(world: World, body: object, code: str) -> None:
    ada = await world.person("ada")

    reply = await ada.post("/v1/hubs", body)
    assert (reply.status, reply.error) == (409 if code == "slug_taken" else 400, code)
    if code == "invalid_slug":
        assert [e["pointer"] for e in reply.details["errors"]] == ["/slug"]
    assert len((await ada.get("/v1/hubs")).data()) == 1


async def test_a_slug_is_made_from_any_name(world: World) -> None:
    ada = await world.person("ada")
    mark = secrets.token_hex(6)

    async def slug_of(name: str) -> str:
        return (await ada.post("/v1/hubs", {"name": name})).data(201)["slug"]

    assert await slug_of(f"  Ünder {mark} & Sons ") == f"nder-{mark}--sons"
    assert (await slug_of("日本語")).startswith("hub-")
    assert await slug_of(f"{mark} " + "x" * 60) == f"{mark}-" + "x" * 37


async def test_a_slug_is_free_taken_or_invalid_and_reserved_ones_look_taken(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)

    async def check(slug: str) -> Reply:
        return await ada.get("/v1/hubs/check-slug", params={"slug": slug})

    assert (await check(f"free-{secrets.token_hex(4)}")).ok() == {"data": {"available": True}}
    used, reserved = await check(hub.body["slug"]), await check("check-slug")
    assert used.ok() == {"data": {"available": False, "reason": "taken"}}
    assert alike(used, reserved)
    for slug in ("", "me", "Ab-cd", "a_b_c"):
        assert (await check(slug)).data() == {"available": False, "reason": "invalid"}
    assert (await world.nobody.get("/v1/hubs/check-slug?slug=orchard")).error == "unauthorized"
    taken = await ada.post("/v1/hubs", {"name": "x", "slug": hub.body["slug"]})
    assert alike(taken, await ada.post("/v1/hubs", {"name": "x", "slug": "settings"}))


async def test_of_many_creates_of_one_slug_one_wins(world: World) -> None:
    people = await world.people(*"abcdefgh")
    slug = f"wanted-{secrets.token_hex(6)}"

    replies = await asyncio.gather(*(p.post("/v1/hubs", {"name": "x", "slug": slug}) for p in people))
    assert sorted(reply.status for reply in replies) == [201] + 7 * [409]
    assert {reply.error for reply in replies} == {None, "slug_taken"}


async def test_a_hub_is_as_if_it_were_not_to_whoever_is_not_in_it(world: World) -> None:
    ada, bo, eve = await world.people("ada", "bo", "eve")
    hub = await world.hub(ada, contributors=[bo])
    (await ada.delete(f"{hub.url}/members/{bo.id}")).data()
    calls = [
        ("GET", "", None, "not_member"),
        ("GET", "/summary", None, "not_member"),
        ("POST", "/visit", {}, "not_member"),
        ("POST", "/leave", {}, "not_member"),
        ("PATCH", "", {"name": 5}, "forbidden"),
        ("DELETE", "", None, "forbidden"),
        ("POST", "/members", {"user_id": 5}, "forbidden"),
        ("PATCH", f"/members/{ada.id}", {}, "forbidden"),
        ("DELETE", f"/members/{ada.id}", None, "forbidden"),
        ("POST", "/ownership-transfer", {}, "forbidden"),
        ("POST", f"/ownership-transfer/{MISSING}/accept", {}, "not_member"),
        ("POST", f"/ownership-transfer/{MISSING}/cancel", {}, "forbidden"),
        ("GET", "/invites", None, "insufficient_role"),
        ("POST", "/invites", {"role": 5}, "insufficient_role"),
        ("DELETE", f"/invites/{MISSING}", None, "insufficient_role"),
        ("POST", f"/invites/{MISSING}/regenerate", {}, "insufficient_role"),
        ("POST", f"/invites/{MISSING}/resend", {}, "insufficient_role"),
    ]
    for method, path, body, code in calls:
        replies = [
            await who.call(method, f"/v1/hubs/{which}{path}", body)
            for who in (bo, eve)
            for which in (hub.id, hub.body["slug"], MISSING, "no-such-hub", "..!", "x" * 200)
        ]
        assert (replies[0].status, replies[0].error) == (403, code), (method, path)
        assert alike(*replies), (method, path)
        assert (await world.nobody.call(method, f"{hub.url}{path}", body)).error == "unauthorized"


async def test_ranks_decide_who_may_change_delete_and_invite(world: World) -> None:
    ada, ben, cy, dee = await world.people("ada", "ben", "cy", "dee")
    hub = await world.hub(ada, admins=[ben], contributors=[cy], viewers=[dee])

    for low in (cy, dee):
        assert (await low.get(hub.url)).status == 200
        for reply in (
            await low.patch(hub.url, {"name": "Mine"}),
            await low.delete(hub.url),
            await low.post(f"{hub.url}/members", {"user_id": "somebody"}),
            await low.delete(f"{hub.url}/members/{dee.id}"),
            await low.post(f"{hub.url}/ownership-transfer", {"target_user_id": low.id}),
        ):
            assert (reply.status, reply.error) == (403, "forbidden")
        assert (await low.post(f"{hub.url}/invites", {})).error == "insufficient_role"
    assert (await ben.patch(hub.url, {"name": "Ours"})).data()["name"] == "Ours"
    assert (await ben.delete(hub.url)).error == "forbidden"
    assert (await ben.post(f"{hub.url}/ownership-transfer", {"target_user_id": ben.id})).error == "forbidden"
    assert (await ada.delete(hub.url)).data() == {"deleted": True, "hub_id": hub.id}
    assert [(await p.get(hub.url)).error for p in (ada, ben, cy, dee)] == 4 * ["not_member"]


async def test_a_change_is_made_whole_or_not_at_all(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    good = {
        "name": " Plum  Trees ",
        "icon": " 👩🏽‍🌾 ",
        "accent": "rose",
        "allow_contributor_topics": False,
        "allow_contributor_dreams": False,
        "contributor_delete_policy": "any",
        "header_aurora_mode": "time",
        "settings": {"dreams_enabled": False, "dreams_use_agent_runtime": True},
    }
    for bad, code in (
        ({"slug": "No"}, "invalid_slug"),
        ({"slug": "hubs"}, "slug_taken"),
        ({"name": "x" * 101}, "invalid_name"),
        ({"icon": "123456789"}, "invalid_icon"),
        ({"accent": "pink"}, "invalid_accent"),
        ({"allow_contributor_topics": "no"}, "invalid_json"),
        ({"contributor_delete_policy": "some"}, "invalid_delete_policy"),
        ({"header_aurora_mode": "loud"}, "invalid_header_aurora_mode"),
        ({"settings": {"dreams_enabled": True, "pink": True}}, "unknown_setting"),
        ({"settings": {"dreams_enabled": "yes"}}, "invalid_setting_value"),
        ({"settings": []}, "invalid_json"),
    ):
        reply = await ada.patch(hub.url, good | bad)
        assert (reply.status, reply.error) == (409 if code == "slug_taken" else 400, code)
        if reply.status == 400:
            assert all(
                e["pointer"].startswith("/" + next(iter(bad))) for e in reply.details.get("errors", [])
            )
    no_body = await ada.call("PATCH", hub.url, headers={"Content-Type": "application/json"})
    assert no_body.error == "invalid_json"
    assert (await ada.patch(hub.url, {})).data() == hub.body
    assert (await ada.get(hub.url)).data()["hub"] == hub.body

    changed = (await ada.patch(hub.url, good)).data()
    assert changed | {"updated_at": ""} == hub.body | good | {
        "name": "Plum  Trees",
        "icon": "👩🏽‍🌾",
        "updated_at": "",
    }
    assert changed["updated_at"] > hub.body["updated_at"]
    assert (await ada.get(hub.url)).data()["hub"] == changed
    cleared = {"icon": "", "accent": "", "header_aurora_mode": "", "name": "", "slug": ""}
    back = (await ada.patch(hub.url, cleared | {"settings": {"dreams_use_agent_runtime": None}})).data()
    assert (back["accent"], back["name"], back["slug"]) == ("amber", "Plum  Trees", hub.body["slug"])
    assert "icon" not in back and "header_aurora_mode" not in back
    assert back["settings"] == {"dreams_enabled": False}


async def test_changes_of_different_settings_at_once_all_hold(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, admins=[bo])
    names = ["dreams_enabled", "dreams_merge_enabled", "dreams_archive_enabled", "dreams_organize_enabled"]

    await asyncio.gather(
        *(
            who.patch(hub.url, {"settings": {name: False}})
            for name, who in zip(names, [ada, bo] * 2, strict=True)
        ),
        ada.patch(hub.url, {"accent": "slate"}),
    )
    now = (await ada.get(hub.url)).data()["hub"]
    assert now["settings"] == dict.fromkeys(names, False)
    assert now["accent"] == "slate"


async def test_a_former_slug_leads_to_its_hub_and_is_nobody_elses_for_90_days(world: World) -> None:
    ada, eve = await world.people("ada", "eve")
    hub = await world.hub(ada)
    old, new = hub.body["slug"], f"orchard-{secrets.token_hex(6)}"

    assert (await ada.patch(hub.url, {"slug": new})).data()["slug"] == new
    for slug in (old, new):
        assert (await ada.get(f"/v1/hubs/{slug}")).data()["hub"]["id"] == hub.id
        assert (await eve.post("/v1/hubs", {"name": "x", "slug": slug})).error == "slug_taken"
        assert (await eve.get(f"/v1/hubs/check-slug?slug={slug}")).data()["reason"] == "taken"
    assert (await ada.patch(hub.url, {"slug": old})).data()["slug"] == old
    assert (await ada.patch(hub.url, {"slug": new})).data()["slug"] == new
    async with world.db.writing() as tx:
        await tx.run("UPDATE hub_slugs SET reserved_until = now() WHERE slug = $1", old)
    assert (await ada.get(f"/v1/hubs/{old}")).error == "not_member"
    assert (await eve.post("/v1/hubs", {"name": "x", "slug": old})).data(201)["slug"] == old
    assert (await ada.patch(hub.url, {"slug": old})).error == "slug_taken"
    assert (await ada.get(hub.url)).data()["hub"]["slug"] == new


async def test_a_hub_keeps_the_latest_of_many_former_slugs(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    slugs = [hub.body["slug"], *(f"{hub.body['slug']}-{n}" for n in range(FORMER_SLUGS + 3))]
    for slug in slugs[1:]:
        (await ada.patch(hub.url, {"slug": slug})).data()
    leads_there = [slug for slug in slugs if (await ada.get(f"/v1/hubs/{slug}")).status == 200]
    assert leads_there == slugs[-FORMER_SLUGS - 1 :]


async def test_a_person_owns_no_more_hubs_than_the_operator_lets_them(world: World, limited: World) -> None:
    ada, bo = await limited.people("ada", "bo")

    hubs = [await limited.hub(ada) for _ in range(2)]
    refused = await ada.post("/v1/hubs", {"name": 5})
    assert (refused.status, refused.error) == (403, "ownership_cap_exceeded")
    assert refused.details == {"current_count": 2, "limit": 2, "plan": "hub_free_team"}
    await limited.join(hubs[0].id, bo, "viewer")
    mine = await limited.hub(bo, contributors=[ada])
    offer = (await bo.post(f"{mine.url}/ownership-transfer", {"target_user_id": ada.id})).data(201)
    accept = f"{mine.url}/ownership-transfer/{offer['id']}/accept"
    assert (await ada.post(accept, {})).error == "ownership_cap_exceeded"
    async with limited.db.single() as tx:
        # As a large hub is while a job clears what it held.
        await tx.run("UPDATE spaces SET deleted_at = now() WHERE id = $1::text::uuid", hubs[1].id)
    assert (await ada.get("/v1/auth/me")).data()["user"]["can_create_hub"] is True
    assert (await ada.post(accept, {})).data()["accepted_at"]
    created = await asyncio.gather(*(bo.post("/v1/hubs", {"name": f"{n} of {bo.id}"}) for n in range(5)))
    assert sorted(reply.status for reply in created) == [201, 201, 403, 403, 403]


async def test_everybody_hears_that_a_hub_is_gone_by_few_messages(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    mark = secrets.token_hex(6)
    async with world.db.writing() as tx:
        await tx.run(
            "WITH made AS (INSERT INTO users (id, issuer, display_name)"
            "   SELECT $2 || n, 'test', 'x' FROM generate_series(1, 500) AS n RETURNING id)"
            " INSERT INTO members (space_id, kind, user_id, role)"
            " SELECT $1::text::uuid, 'hub', id, 'viewer' FROM made",
            hub.id,
            f"user_{mark}_",
        )
    with overhearing(world) as told:
        (await ada.delete(hub.url)).data(200)
    heard = [one for one in told if one["event"].get("state") == "deleted"]
    assert {one["type"] for one in heard} == {"hub.list.changed"} and len(heard) < 10
    people = [person for one in heard for person in one["people"]]
    assert sorted(people) == sorted([ada.id, *(f"user_{mark}_{n}" for n in range(1, 501))])


@pytest.mark.parametrize("how", ["left", "removed", "deleted"])
async def test_a_keys_end_with_its_last_hub_is_noted_and_told(world: World, how: str) -> None:
    ada, bo = await world.people("ada", "bo")
    hub, other = await world.hub(ada, viewers=[bo]), await world.hub(bo)
    made, key = await make_key(bo, hub_id=hub.id)
    wider, _ = await make_key(bo, hub_ids=[hub.id, other.id])
    with overhearing(world) as told:
        if how == "left":
            (await bo.post(f"{hub.url}/leave", {})).data(200)
        else:
            (await ada.delete(hub.url if how == "deleted" else f"{hub.url}/members/{bo.id}")).data(200)
    ended = [(one["people"], one["event"]) for one in told if one["type"] == "key.changed"]
    assert [(people, event["entity_id"], event["state"]) for people, event in ended] == [
        ([bo.id], made["id"], "revoked")
    ]
    async with world.db.reading() as read:
        rows = await read.connection.fetch(
            "SELECT actor, target FROM audit WHERE action = 'key.revoke' AND target = ANY ($1)",
            [made["id"], wider["id"]],
        )
    assert [tuple(row) for row in rows] == [((bo if how == "left" else ada).id, made["id"])]
    assert (await key.get("/v1/hubs")).error == "unauthorized"


async def rows_of(world: World, hub: Hub) -> dict[str, int]:
    """How many rows each table has that say of which space they are; the audit stays."""
    async with world.db.reading() as read:
        tables = await read.connection.fetch(
            "SELECT table_name FROM information_schema.columns WHERE column_name = 'space_id'"
            " AND table_schema = 'public' AND table_name <> 'audit'"
        )
        return {
            table: await read.connection.fetchval(
                f'SELECT count(*) FROM "{table}" WHERE space_id = $1::uuid', hub.id
            )
            for (table,) in tables
        }


async def test_a_deleted_hub_leaves_nothing_and_its_slug_is_free(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub, other = await world.hub(ada, contributors=[bo]), await world.hub(bo)
    at = {"X-Hub-ID": hub.id}
    topic = (await ada.post("/v1/topics", {"name": "Soil"}, headers=at)).data(201)["id"]
    (await bo.post(f"/v1/topics/{topic}/visit", headers=at)).ok()
    for text in ("# Soil\n\n" + "Worms turn it over, all year long. " * 200, "Seeds need warmth."):
        memory = (await bo.post("/v1/memories", {"content": text}, headers=at)).data(201)
        (await bo.post(f"/v1/topics/{topic}/memories", {"memory_id": memory["id"]}, headers=at)).ok()
    (await bo.patch(f"/v1/memories/{memory['id']}", {"content": "Seeds need rain."})).data()
    (await push_file(ada, await send(ada, PNG, "image/png", "plan.png"), hub)).data(201)
    (await bo.post("/v1/recall", {"query": "seeds"}, headers=at)).data()
    (await ada.post("/v1/dreams/trigger", {}, headers=at)).ok()
    await world.drain()
    only = (await bo.post("/v1/auth/api-keys", {"name": "k", "hub_id": hub.id})).data(201)["key"]
    both = (await bo.post("/v1/auth/api-keys", {"name": "k", "hub_ids": [hub.id, other.id]})).data(201)["key"]
    (await ada.post(f"{hub.url}/invites", {})).data(201)
    (await ada.post(f"{hub.url}/ownership-transfer", {"target_user_id": bo.id})).data(201)
    renamed = f"orchard-{secrets.token_hex(6)}"
    (await ada.patch(hub.url, {"slug": renamed})).data()

    before = await rows_of(world, hub)
    assert {table for table in HELD if not before[table]} == set()
    async with world.db.reading() as read:
        (file,) = await read.value("SELECT array_agg(name) FROM uploads WHERE user_id = $1", ada.id)
    assert await world.house.service.blobs.exists(file)

    (await ada.delete(hub.url)).data()
    assert {table: left for table, left in (await rows_of(world, hub)).items() if left} == {}
    await clear_remains(world.house.work, RemainsLeft())
    assert not await world.house.service.blobs.exists(file)
    # A key for this hub alone is over; one for others too is left with those.
    assert (await Browser(world, only).get("/v1/hubs")).error == "unauthorized"
    assert [row["hub"]["id"] for row in (await Browser(world, both).get("/v1/hubs")).data()] == [other.id]
    for slug in (hub.body["slug"], renamed):
        assert (await bo.post("/v1/hubs", {"name": "x", "slug": slug})).status == 201


async def crowd(world: World, hub: Hub, size: int) -> None:
    """Put so many strangers into the hub."""
    mark = secrets.token_hex(4)
    async with world.db.writing() as tx:
        await tx.run(
            "INSERT INTO users (id, issuer, display_name)"
            " SELECT 'user_' || $1 || n, 'elsewhere', 'x' FROM generate_series(1, $2) AS n",
            mark,
            size,
        )
        await tx.run(
            "INSERT INTO members (space_id, kind, user_id, role)"
            " SELECT $1::uuid, 'hub', 'user_' || $2 || n, 'viewer' FROM generate_series(1, $3) AS n",
            hub.id,
            mark,
            size,
        )


async def test_a_hub_of_many_members_is_gone_at_once_and_a_job_parts_with_them(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, admins=[bo])
    await crowd(world, hub, 1100)
    key = (await bo.post("/v1/auth/api-keys", {"name": "k", "hub_id": hub.id})).data(201)
    token = (await bo.post(f"{hub.url}/invites", {})).data(201)["token"]

    (await ada.delete(hub.url)).data()
    async with world.db.reading() as read:
        # One statement could not part with a hundred thousand in its time, so it parts with none.
        assert await read.value("SELECT member_count FROM spaces WHERE id = $1::text::uuid", hub.id) == 1102
    for person in (ada, bo):
        assert (await person.get(hub.url)).error == "not_member"
        assert (await person.post(f"{hub.url}/visit", {})).error == "not_member"
        assert (await person.delete(hub.url)).error == "forbidden"
        assert [row["hub"]["hub_type"] for row in (await person.get("/v1/hubs")).data()] == ["personal"]
        assert (await person.get(f"/v1/notifications?hub={hub.id}")).data()["notifications"] == []
        again = await person.post("/v1/auth/api-keys", {"name": "k", "hub_id": hub.id})
        assert again.error == "forbidden"
    assert (await Browser(world, key["key"]).get("/v1/hubs")).status == 401
    assert (await world.nobody.get(f"/v1/invites/{token}")).error == "not_found"
    assert (await bo.post("/v1/hubs", {"name": "x", "slug": hub.body["slug"]})).status == 201
    await clear_remains(world.house.work, RemainsLeft())
    async with world.db.reading() as read:
        assert await read.value("SELECT count(*) FROM spaces WHERE id = $1::text::uuid", hub.id) == 0
        assert await read.value("SELECT count(*) FROM members WHERE space_id = $1::text::uuid", hub.id) == 0


async def parts_of(
    world: World, who: Person, path: str, after_each: Callable[[int], Awaitable[object]] | None = None
) -> list[bytes]:
    """An answer as it is sent, part by part."""
    edge: Any = build_edge(world.house)
    parts: list[bytes] = []
    whole = asyncio.Event()

    async def send(message: Any) -> None:
        if message.get("body"):
            parts.append(message["body"])
            if after_each is not None:
                await after_each(len(parts))
        if not message.get("more_body", True):
            whole.set()

    async def receive() -> Any:
        await whole.wait()
        return {"type": "http.disconnect"}

    await edge(scope_of("GET", path, ("authorization", f"Bearer {who.token}")), receive, send)
    return parts


async def test_a_hub_of_many_members_is_read_whole_and_sent_in_parts(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hub = await world.hub(ada, viewers=[cy])
    await crowd(world, hub, 2_600)
    await world.join(hub.id, bo, "admin")

    parts = await parts_of(world, ada, hub.url)
    detail = msgspec.json.decode(b"".join(parts))["data"]
    assert detail == (await ada.get(hub.url)).data()
    assert detail["hub"] == hub.body and detail.keys() == {
        "hub",
        "members",
        "role",
        "pending_transfer",
        "is_frozen",
    }
    people = [m["user_id"] for m in detail["members"]]
    assert len(people) == len(set(people)) == 2_603
    assert people[:3] == [ada.id, bo.id, cy.id]
    joined = [m["joined_at"] for m in detail["members"][2:]]
    assert joined == sorted(joined)
    # None of the parts is much of the whole, so it never was in one piece.
    assert max(map(len, parts)) < sum(map(len, parts)) / 4
    before = world.db.trips
    (await ada.get(f"{hub.url}/summary")).data()
    assert world.db.trips - before == 1


async def test_who_is_removed_while_a_long_list_is_sent_reads_no_more_of_it(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, viewers=[bo])
    await crowd(world, hub, 1_600)

    async def remove(part: int) -> None:
        if part == 1:
            (await ada.delete(f"{hub.url}/members/{bo.id}")).data()

    sent = msgspec.json.decode(b"".join(await parts_of(world, bo, hub.url, remove)))["data"]
    assert len(sent["members"]) == BATCH


async def test_only_the_own_address_is_shown_and_visits_only_to_those_who_lead(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hub = await world.hub(ada, viewers=[cy], contributors=[bo])
    assert (await bo.post(f"{hub.url}/visit", {})).data() == {"status": "ok", "hub_id": hub.id}

    seen_by_bo = (await bo.get(hub.url)).data()["members"]
    assert [(m["user_name"], m["role"]) for m in seen_by_bo] == [
        ("ada", "owner"),
        ("bo", "contributor"),
        ("cy", "viewer"),
    ]
    assert [m["user_email"] for m in seen_by_bo] == ["", bo.email, ""]
    assert {m["hub_id"] for m in seen_by_bo} == {hub.id}
    assert all(m["user_avatar_url"] == "" and "last_visited_at" not in m for m in seen_by_bo)
    seen_by_ada = {m["user_name"]: m for m in (await ada.get(hub.url)).data()["members"]}
    assert {name for name, m in seen_by_ada.items() if "last_visited_at" in m} == {"bo"}


async def test_a_list_a_hub_and_a_summary_take_one_round_trip_each(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hubs = [await world.hub(ada, contributors=[bo, cy]) for _ in range(5)]
    (await ada.post(f"{hubs[0].url}/ownership-transfer", {"target_user_id": bo.id})).data(201)

    for path in ("/v1/hubs", hubs[0].url, f"{hubs[0].url}/summary", "/v1/hubs/check-slug?slug=free-one"):
        before = world.db.trips
        (await bo.get(path)).data()
        assert world.db.trips - before == 1, path


async def test_the_summary_says_what_is_there_without_the_members(world: World) -> None:
    ada, *others = await world.people("ada lovelace", "bo", "cy", "dan", "eve")
    hub = await world.hub(ada, viewers=others)

    summary = (await ada.get(f"{hub.url}/summary")).data()
    assert summary["hub"] == hub.body
    assert summary["role"] == "owner"
    assert summary["stats"] == {
        "memories": 0,
        "topics": 0,
        "inbox": 0,
        "pending_review": 0,
        "members": 5,
        "dream_topics": 0,
        "team_activity": 0,
    }
    assert [p["user_name"] for p in summary["members_preview"]] == ["ada lovelace", "bo", "cy"]
    assert summary["header"]["state"] == "first_time"
    assert summary["header"]["greeting_key"] in ("firstTimeA", "firstTimeB")
    assert summary["header"]["greeting_params"] == {"name": "ada"}
    (row,) = [r for r in (await ada.get("/v1/hubs")).data() if r["hub"]["hub_type"] == "personal"]
    own = (await ada.get(f"/v1/hubs/{row['hub']['id']}/summary")).data()
    assert "members" not in own["stats"] and "members_preview" not in own
    for zone in ("Pacific/Kiritimati", "Nowhere/At_All", "../../etc/passwd", ""):
        assert (await ada.get(f"{hub.url}/summary", headers={"X-Timezone": zone})).status == 200


async def test_the_greeting_follows_the_numbers_and_the_last_visit(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)

    async def state(**columns: int) -> tuple[str, str | None]:
        async with world.db.writing() as tx:
            await tx.run(
                "UPDATE spaces SET memory_count = $2, topic_count = $3, unsorted_count = $4"
                " WHERE id = $1::uuid",
                hub.id,
                columns.get("memories", 0),
                columns.get("topics", 0),
                columns.get("inbox", 0),
            )
        header = (await ada.get(f"{hub.url}/summary")).data()["header"]
        return header["state"], header["greeting_params"].get("n")

    assert await state() == ("first_time", None)
    assert await state(memories=3, topics=1) == ("clean", None)
    assert await state(memories=30, inbox=19) == ("clean", "19")
    assert await state(memories=30, inbox=20) == ("inbox_overflow", "20")
    (await ada.post(f"{hub.url}/visit")).data()
    assert (await state(memories=1))[0] == "clean"
    async with world.db.writing() as tx:
        await tx.run(
            "UPDATE members SET visited_at = now() - interval '8 days' WHERE space_id = $1::uuid", hub.id
        )
    assert (await state(memories=1))[0] == "return_after_absence"


async def test_every_privileged_change_of_a_hub_is_audited_once(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hub = await world.hub(ada)
    (await ada.post(f"{hub.url}/members", {"user_id": bo.id})).data(200)
    (await ada.patch(f"{hub.url}/members/{bo.id}", {"role": "admin"})).data()
    (await ada.patch(hub.url, {"accent": "rose"})).data()
    invite = (await bo.post(f"{hub.url}/invites", {})).data(201)
    (await ada.delete(f"{hub.url}/invites/{invite['id']}")).data()
    by_mail = (await ada.post(f"{hub.url}/invites", {"invitee": {"user_id": cy.id}})).data(201)
    again = (await ada.post(f"{hub.url}/invites/{by_mail['id']}/regenerate", {})).data(201)
    (await ada.post(f"{hub.url}/invites/{again['id']}/resend", {})).data()
    (await cy.post(f"/v1/invites/{again['token']}/accept", {})).data()
    (await ada.delete(f"{hub.url}/members/{cy.id}")).data()
    (await ada.post(f"{hub.url}/invites", {"invitee": {"user_id": cy.id}})).data(201)
    (row,) = (await cy.get("/v1/notifications?kind=hub_invite")).data()["notifications"]
    (await cy.post(f"/v1/notifications/{row['id']}/resolve", {"action": "decline"})).data()
    for who in (ada, bo):
        tried = (await ada.post(f"{hub.url}/ownership-transfer", {"target_user_id": bo.id})).data(201)
        (await who.post(f"{hub.url}/ownership-transfer/{tried['id']}/cancel", {})).data()
    offer = (await ada.post(f"{hub.url}/ownership-transfer", {"target_user_id": bo.id})).data(201)
    (await bo.post(f"{hub.url}/ownership-transfer/{offer['id']}/accept")).data(200)
    (await ada.post(f"{hub.url}/leave", {})).data()
    (await bo.delete(hub.url)).data()

    async with world.db.reading() as read:
        rows = await read.connection.fetch(
            "SELECT action, actor, target FROM audit WHERE space_id = $1::uuid ORDER BY id", hub.id
        )
    assert [(r["action"], r["actor"]) for r in rows] == [
        ("hub.create", ada.id),
        ("member.add", ada.id),
        ("member.role", ada.id),
        ("hub.update", ada.id),
        ("invite.create", bo.id),
        ("invite.revoke", ada.id),
        ("invite.create", ada.id),
        ("invite.regenerate", ada.id),
        ("invite.resend", ada.id),
        ("invite.accept", cy.id),
        ("member.remove", ada.id),
        ("invite.create", ada.id),
        ("invite.decline", cy.id),
        ("transfer.offer", ada.id),
        ("transfer.cancel", ada.id),
        ("transfer.offer", ada.id),
        ("transfer.cancel", bo.id),
        ("transfer.offer", ada.id),
        ("transfer.accept", bo.id),
        ("member.leave", ada.id),
        ("hub.delete", bo.id),
    ]


async def test_erasing_a_person_takes_their_personal_hub_along(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(bo, contributors=[ada])
    (row,) = [r for r in (await ada.get("/v1/hubs")).data() if r["hub"]["hub_type"] == "personal"]

    assert (await ada.delete("/api/users/me")).status == 204
    async with world.db.reading() as read:
        left = "SELECT count(*) FROM spaces WHERE id = $1::text::uuid"
        assert await read.value(left, row["hub"]["id"]) == 0
    assert await hub.roles() == {"bo": "owner"}


async def test_a_body_is_missed_where_the_call_needs_one(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hub = await world.hub(ada, admins=[bo])

    for method, path in (
        ("POST", "/v1/hubs"),
        ("PATCH", hub.url),
        ("POST", f"{hub.url}/members"),
        ("PATCH", f"{hub.url}/members/{bo.id}"),
        ("POST", f"{hub.url}/ownership-transfer"),
        ("POST", "/v1/auth/api-keys"),
        ("PATCH", "/v1/auth/me"),
        ("PATCH", "/v1/settings"),
        ("POST", "/v1/memories"),
        ("POST", "/v1/recall"),
        ("POST", "/v1/topics"),
    ):
        reply = await ada.call(method, path, headers={"Content-Type": "application/json"})
        assert (reply.status, reply.error) == (400, "invalid_json"), (method, path)
    # Who may not do it hears of that first.
    assert (await cy.post(f"{hub.url}/members")).error == "forbidden"
    assert await hub.roles() == {"ada": "owner", "bo": "admin"}
    # These say all there is to say without one.
    assert (await ada.post(f"{hub.url}/invites")).data(201)["role"] == "contributor"
    for path in ("/v1/notifications/seen", "/v1/notifications/dismiss"):
        assert (await ada.post(path)).data(200)["affected"] >= 0
