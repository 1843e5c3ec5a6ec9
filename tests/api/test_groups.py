"""Groups: who sees, changes, joins and leaves them, and what follows from it."""

import asyncio
from typing import Any

import pytest

from tests.world import Community, Person, World

NOBODY = "018f0000-0000-7000-8000-000000000000"


async def make(owner: Person, club: Community, name: str = "Tomatoes", **fields: Any) -> dict[str, Any]:
    return (await owner.post("/api/groups", {"communityId": club.id, "name": name, **fields})).ok(201)


async def names(person: Person, club: Community) -> list[str]:
    return [g["name"] for g in (await person.get(f"/api/groups?communityId={club.id}")).ok()["items"]]


async def jobs_of(world: World, club: Community) -> int:
    async with world.db.reading() as read:
        return await read.value(
            "SELECT count(*) FROM pgqueuer WHERE entrypoint = 'space.changed'"
            " AND convert_from(payload, 'UTF8')::jsonb ->> 'space_id' = $1",
            club.id,
        )


async def audited(world: World, club: Community) -> list[str]:
    async with world.db.reading() as read:
        rows = await read.connection.fetch(
            "SELECT action FROM audit WHERE space_id = $1::uuid AND action LIKE 'group.%' ORDER BY id",
            club.id,
        )
    return [row["action"] for row in rows]


def same(reply: Any, missing: Any) -> bool:
    return reply.json | {"requestId": ""} == missing.json | {"requestId": ""}


async def test_a_new_group_has_its_maker_as_admin_and_a_channel_of_its_own(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)

    made = await make(ada, club, "  Tomatoes ", description="", isPrivate=True)
    assert made == {
        "id": made["id"],
        "communityId": club.id,
        "name": "Tomatoes",
        "description": None,
        "isPrivate": True,
        "role": "admin",
        "memberCount": 1,
        "streamChannelId": made["id"],
        "streamChannelType": "guildhall-group",
        "createdBy": ada.id,
        "createdAt": made["createdAt"],
        "updatedAt": made["createdAt"],
    }
    assert made["createdAt"].endswith("Z")
    assert (await ada.get(f"/api/groups/{made['id']}")).ok() == made
    assert (await ada.get(f"/api/groups?communityId={club.id}")).ok() == {"items": [made]}


async def test_only_the_owner_and_admins_make_groups(world: World) -> None:
    ada, bo, cy, dan, eve = await world.people("ada", "bo", "cy", "dan", "eve")
    club = await world.community(ada, admins=[bo], moderators=[cy], members=[dan])
    wanted = {"communityId": club.id, "name": "Beans"}

    for person in (cy, dan, eve):
        assert (await person.post("/api/groups", wanted)).error == "forbidden"
        # Who may not make a group does not learn what is wrong with it.
        assert (await person.post("/api/groups", wanted | {"name": ""})).error == "forbidden"
    assert (await bo.post("/api/groups", wanted)).ok(201)["role"] == "admin"
    assert (await world.nobody.post("/api/groups", wanted)).status == 401
    assert await names(dan, club) == ["Beans"]


async def test_a_private_community_has_no_groups_to_a_stranger(world: World) -> None:
    ada, eve = await world.people("ada", "eve")
    hidden = await world.community(ada, isPrivate=True)
    group = await make(ada, hidden)
    url = f"/api/groups/{group['id']}"

    missing = await eve.get(f"/api/groups/{NOBODY}")
    assert missing.status == 404
    for reply in (
        await eve.get(f"/api/groups?communityId={hidden.id}"),
        await eve.get(f"/api/groups?communityId={NOBODY}"),
        await eve.post("/api/groups", {"communityId": hidden.id, "name": "x"}),
        await eve.get(url),
        await eve.patch(url, {"name": "Mine"}),
        await eve.delete(url),
        await eve.post(url, {"targetUserId": eve.id}),
        await eve.post(f"{url}/join"),
        await eve.get(f"{url}/members"),
        await eve.get(f"{url}/members?limit=2"),
        await eve.delete(f"{url}/members?targetUserId={ada.id}"),
    ):
        assert reply.status == 404, reply
        assert same(reply, missing)


async def test_strangers_to_a_public_community_see_no_group_of_it(world: World) -> None:
    ada, eve = await world.people("ada", "eve")
    club = await world.community(ada)
    group = await make(ada, club)

    assert (await eve.get(f"/api/groups?communityId={club.id}")).error == "forbidden"
    assert (await eve.get(f"/api/groups/{group['id']}")).error == "not_found"
    assert (await eve.post(f"/api/groups/{group['id']}/join")).error == "not_found"


async def test_a_private_group_is_seen_by_its_members_and_by_the_owner_and_admins(world: World) -> None:
    ada, bo, cy, dan, eve = await world.people("ada", "bo", "cy", "dan", "eve")
    club = await world.community(ada, admins=[bo], moderators=[cy], members=[dan, eve])
    secret = await make(bo, club, "Secret", isPrivate=True)
    await make(bo, club, "Open")
    url = f"/api/groups/{secret['id']}"
    (await bo.post(url, {"targetUserId": dan.id})).ok(201)

    for person in (ada, bo, dan):
        assert await names(person, club) == ["Open", "Secret"]
        assert (await person.get(url)).ok()["memberCount"] == 2
        assert len((await person.get(f"{url}/members")).ok()["items"]) == 2
    missing = await eve.get(f"/api/groups/{NOBODY}")
    for person in (cy, eve):
        assert await names(person, club) == ["Open"]
        for reply in (
            await person.get(url),
            await person.patch(url, {"name": ""}),
            await person.delete(url),
            await person.post(url, {"targetUserId": person.id}),
            await person.post(f"{url}/join"),
            await person.get(f"{url}/members"),
            await person.get(f"{url}/members?page=1"),
            await person.delete(f"{url}/members?targetUserId={dan.id}"),
        ):
            assert same(reply, missing), reply


async def test_a_group_is_managed_by_its_admins_and_by_the_owner_and_admins(world: World) -> None:
    ada, bo, cy, dan, eve = await world.people("ada", "bo", "cy", "dan", "eve")
    club = await world.community(ada, admins=[bo], moderators=[cy], members=[dan, eve])
    group = await make(ada, club)
    url = f"/api/groups/{group['id']}"
    (await ada.post(url, {"targetUserId": dan.id, "role": "admin"})).ok(201)
    (await ada.post(url, {"targetUserId": eve.id})).ok(201)

    for person in (cy, eve):
        assert (await person.patch(url, {"name": "x"})).error == "forbidden"
        assert (await person.delete(url)).error == "forbidden"
        assert (await person.post(url, {"targetUserId": "?"})).error == "forbidden"
        refused = await person.delete(f"{url}/members?targetUserId={dan.id}")
        assert refused.error == "forbidden"
    for person, name in ((ada, "First"), (bo, "Second"), (dan, "Third")):
        changed = (await person.patch(url, {"name": name, "description": "All about it"})).ok()
        assert (changed["name"], changed["description"]) == (name, "All about it")
    assert (await dan.patch(url, {"description": None})).ok()["description"] is None
    assert (await dan.patch(url, {})).ok()["name"] == "Third"
    reply = await dan.patch(url, {"name": "x", "isPrivate": None, "memberCount": 9, "createdBy": dan.id})
    assert reply.fields == {"/name": "too_short", "/isPrivate": "type"}
    assert (await dan.delete(url)).status == 204
    assert (await ada.get(url)).error == "not_found"


async def test_adding_twice_changes_nothing_and_adding_a_stranger_is_refused(world: World) -> None:
    ada, bo, eve = await world.people("ada", "bo", "eve")
    club = await world.community(ada, members=[bo])
    group = await make(ada, club)
    url = f"/api/groups/{group['id']}"

    added = await ada.post(url, {"targetUserId": bo.id})
    assert added.ok(201) == {
        "userId": bo.id,
        "displayName": "bo",
        "avatarUrl": None,
        "bio": None,
        "role": "member",
        "status": "active",
        "joinedAt": added.json["joinedAt"],
    }
    assert (await ada.post(url, {"targetUserId": bo.id, "role": "admin"})).ok(200) == added.json
    assert (await bo.post(f"{url}/join")).ok(200)["role"] == "member"
    assert (await ada.post(url, {"targetUserId": eve.id})).error == "not_a_member"
    assert (await ada.post(url, {"targetUserId": "user_unknown"})).error == "not_a_member"
    assert (await ada.post(url, {"role": "owner"})).fields == {
        "/targetUserId": "required",
        "/role": "not_allowed",
    }
    assert (await ada.get(url)).ok()["memberCount"] == 2


async def test_members_of_the_community_join_public_groups_only(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo], admins=[])
    public, private = await make(ada, club), await make(ada, club, isPrivate=True)
    (await ada.delete(f"/api/groups/{private['id']}/members?targetUserId={ada.id}")).ok(204)

    joined = (await bo.post(f"/api/groups/{public['id']}/join")).ok(200)
    assert (joined["role"], joined["memberCount"]) == ("member", 2)
    assert (await bo.post(f"/api/groups/{public['id']}/join")).ok(200)["memberCount"] == 2
    # The owner sees the private group, and comes in the way everybody does.
    assert (await ada.post(f"/api/groups/{private['id']}/join")).error == "forbidden"
    assert (await ada.post(f"/api/groups/{private['id']}", {"targetUserId": ada.id})).status == 201


async def test_the_last_admin_may_leave_and_the_community_still_manages_the_group(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    club = await world.community(ada, members=[bo, cy])
    group = await make(ada, club)
    url = f"/api/groups/{group['id']}"
    (await ada.post(url, {"targetUserId": bo.id})).ok(201)

    assert (await bo.delete(f"{url}/members", {"targetUserId": ada.id})).error == "forbidden"
    assert (await ada.delete(f"{url}/members", {"targetUserId": ada.id})).status == 204
    assert (await ada.delete(f"{url}/members", {"targetUserId": ada.id})).error == "not_found"
    assert (await ada.delete(f"{url}/members", {"targetUserId": cy.id})).error == "not_found"
    assert (await ada.delete(f"{url}/members")).fields == {"/targetUserId": "required"}
    both = await ada.delete(f"{url}/members?targetUserId={bo.id}", {"targetUserId": cy.id})
    assert both.fields == {"/targetUserId": "ambiguous"}
    assert (await bo.delete(f"{url}/members?targetUserId={bo.id}")).status == 204
    assert (await ada.get(f"{url}/members")).ok() == {"items": []}
    assert (await ada.patch(url, {"name": "Still here"})).ok()["memberCount"] == 0


async def test_the_members_of_a_group_are_listed_admins_first_and_pages_make_the_whole(world: World) -> None:
    people = await world.people("zoe", "Bo", "cy", "Ada", "dan")
    owner, rest = people[0], people[1:]
    club = await world.community(owner, members=rest)
    group = await make(owner, club)
    url = f"/api/groups/{group['id']}"
    for person in rest:
        role = "admin" if person.name == "dan" else "member"
        (await owner.post(url, {"targetUserId": person.id, "role": role})).ok(201)

    whole = (await rest[0].get(f"{url}/members")).ok()["items"]
    assert [m["displayName"] for m in whole] == ["dan", "zoe", "Ada", "Bo", "cy"]
    by_page: list[Any] = []
    for number in (1, 2, 3):
        page = (await owner.get(f"{url}/members?limit=2&page={number}")).ok()
        assert (page["total"], page["page"], page["limit"]) == (5, number, 2)
        by_page += page["items"]
    seen: list[Any] = []
    cursor = ""
    while cursor is not None:
        page = (await owner.get(f"{url}/members?limit=2{cursor}")).ok()
        seen += page["items"]
        assert page["hasMore"] == (page["nextCursor"] is not None)
        cursor = page["nextCursor"] and f"&cursor={page['nextCursor']}"
    assert seen == by_page == whole
    assert (await owner.get(f"{url}/members?cursor=AAAA")).fields == {"?cursor": "invalid_cursor"}


async def test_leaving_the_community_leaves_its_groups(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])
    group = await make(ada, club, isPrivate=True)
    url = f"/api/groups/{group['id']}"
    (await ada.post(url, {"targetUserId": bo.id, "role": "admin"})).ok(201)

    (await ada.delete(f"{club.url}/members?targetUserId={bo.id}")).ok(204)
    for reply in (await bo.get(url), await bo.patch(url, {"name": "Mine"}), await bo.delete(url)):
        assert reply.error == "not_found"
    await world.join(club.id, bo, "member")
    assert (await bo.get(url)).error == "not_found"
    assert (await ada.get(url)).ok()["memberCount"] == 1


async def test_a_suspended_member_sees_no_group_and_cannot_be_put_into_one(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])
    group = await make(ada, club)
    url = f"/api/groups/{group['id']}"
    async with world.db.writing() as tx:
        await tx.run(
            "UPDATE members SET status = 'suspended' WHERE space_id = $1::uuid AND user_id = $2",
            club.id,
            bo.id,
        )

    assert (await bo.get(url)).error == "not_found"
    assert (await bo.post(f"{url}/join")).error == "not_found"
    assert (await ada.post(url, {"targetUserId": bo.id})).error == "not_a_member"


async def test_a_community_has_at_most_500_groups_also_when_asked_at_once(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    async with world.db.writing() as tx:
        await tx.run(
            "INSERT INTO groups (id, space_id, name, created_by)"
            " SELECT gen_random_uuid(), $1::uuid, 'g', $2 FROM generate_series(1, 498)",
            club.id,
            ada.id,
        )

    wanted = {"communityId": club.id, "name": "One more"}
    replies = await asyncio.gather(*(ada.post("/api/groups", wanted) for _ in range(6)))
    assert sorted(r.status for r in replies) == [201, 201, 409, 409, 409, 409]
    assert {r.error for r in replies} == {None, "too_many_groups"}


async def test_every_change_of_a_group_is_audited_and_leaves_a_job_for_its_channel(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])
    before = await jobs_of(world, club)
    group = await make(ada, club)
    url = f"/api/groups/{group['id']}"

    steps = [
        ada.patch(url, {"name": "Other"}),
        ada.patch(url, {"isPrivate": True}),
        ada.post(url, {"targetUserId": bo.id}),
        ada.post(url, {"targetUserId": bo.id}),
        bo.delete(f"{url}/members?targetUserId={bo.id}"),
        ada.patch(url, {"isPrivate": False}),
        bo.post(f"{url}/join"),
        ada.delete(f"{url}/members?targetUserId={bo.id}"),
        ada.delete(url),
    ]
    for step in steps:
        (await step).ok()
    assert await audited(world, club) == [
        "group.create",
        "group.visibility",
        "group.member.add",
        "group.member.leave",
        "group.visibility",
        "group.member.join",
        "group.member.remove",
        "group.delete",
    ]
    # The repeated addition changed nothing; everything else did.
    assert await jobs_of(world, club) == before + len(steps)


@pytest.mark.parametrize("bad", ["nonsense", "018F0000-0000-7000-8000-000000000000", "1", "%2e"])
async def test_an_id_that_is_none_is_not_found_in_a_path_and_malformed_elsewhere(
    world: World, bad: str
) -> None:
    ada = await world.person("ada")

    assert (await ada.get(f"/api/groups/{bad}")).error == "not_found"
    assert (await ada.delete(f"/api/groups/{bad}")).error == "not_found"
    assert (await ada.get(f"/api/groups?communityId={bad}")).fields == {"?communityId": "format"}
    reply = await ada.post("/api/groups", {"communityId": bad, "name": "x"})
    assert reply.status == 400
    assert reply.fields.keys() == {"/communityId", "/name"}


async def test_reading_groups_takes_one_round_trip(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    group = await make(ada, club)

    for path in (
        f"/api/groups/{group['id']}",
        f"/api/groups?communityId={club.id}",
        f"/api/groups/{group['id']}/members?limit=5",
    ):
        before = world.db.trips
        (await ada.get(path)).ok()
        assert world.db.trips - before == 1, path
