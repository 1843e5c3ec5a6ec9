"""Channels match the communities and groups: exactly one each, with exactly the people entitled."""

import asyncio
import os
import random
import secrets
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from guildhall.db import new_id
from guildhall.outbox import put
from guildhall.providers.chat import open_chat
from guildhall.spaces import chat_people
from guildhall.spaces.jobs import ChannelsDue, SpaceChanged, SpaceSwept
from guildhall.web.service import Service
from guildhall.wiring import House
from guildhall.worker import drain, list_failed
from tests import cluster as clusters
from tests.servers.stream_server import ActThenDie, ActTwice, Die, Fail, Slow, rate_limited
from tests.worker.benches import Hall, open_hall
from tests.world import Community, Person

SPACE, GROUP = "guildhall-space", "guildhall-group"
LONG = os.environ.get("GUILDHALL_LONG") == "1"


async def changed(hall: Hall, community: Community) -> None:
    async with hall.world.db.single() as tx:
        await put(tx, SpaceChanged(space_id=UUID(community.id)))


async def make_group(hall: Hall, community: Community, name: str, *people: Person) -> str:
    group_id = new_id()
    async with hall.world.db.writing() as tx:
        await tx.run(
            "INSERT INTO groups (id, space_id, name, created_by) VALUES ($1, $2::uuid, $3, $4)",
            group_id,
            community.id,
            name,
            people[0].id if people else "nobody",
        )
        for number, person in enumerate(people):
            await tx.run(
                "INSERT INTO group_members (space_id, group_id, user_id, role) VALUES ($1::uuid, $2, $3, $4)",
                community.id,
                group_id,
                person.id,
                "member" if number else "admin",
            )
        await put(tx, SpaceChanged(space_id=UUID(community.id)))
    return str(group_id)


async def test_a_community_has_one_channel_with_its_members_and_their_ranks(hall: Hall) -> None:
    ada, bo, cy, dee = await hall.world.people("Ada", "Bo", "Cy", "Dee")
    community = await hall.world.community(ada, admins=[bo], moderators=[cy], members=[dee])
    await hall.world.drain()

    assert hall.chat.members(SPACE, community.id) == {
        ada.id: "channel_moderator",
        bo.id: "channel_moderator",
        cy.id: "channel_moderator",
        dee.id: "channel_member",
    }
    channel = hall.chat.channels[SPACE, community.id]
    assert channel.data["name"] == "Gardeners"
    assert hall.chat.users[dee.id]["name"] == "Dee"

    await hall.run("UPDATE members SET role = 'member' WHERE user_id = $1 AND kind = 'community'", bo.id)
    await hall.run("DELETE FROM members WHERE user_id = $1 AND kind = 'community'", dee.id)
    (await ada.patch(community.url, {"name": "Growers"})).ok()
    await hall.world.drain()

    assert hall.there() == await hall.entitled()
    assert hall.chat.channels[SPACE, community.id].data["name"] == "Growers"
    assert hall.chat.created == [(SPACE, community.id)]


async def test_a_group_has_a_channel_of_its_members_alone_and_none_after_it_is_gone(hall: Hall) -> None:
    ada, bo, cy = await hall.world.people("Ada", "Bo", "Cy")
    community = await hall.world.community(ada, members=[bo, cy])
    group = await make_group(hall, community, "Tools", bo)
    await hall.world.drain()
    assert hall.chat.members(GROUP, group) == {bo.id: "channel_moderator"}

    await hall.run("DELETE FROM members WHERE space_id = $1::uuid AND user_id = $2", community.id, bo.id)
    await changed(hall, community)
    await hall.world.drain()
    assert hall.chat.members(GROUP, group) == {}

    await hall.run("DELETE FROM groups WHERE id = $1::uuid", group)
    await changed(hall, community)
    await hall.world.drain()
    assert hall.chat.members(GROUP, group) is None
    assert hall.there() == await hall.entitled()


async def test_a_deleted_community_leaves_no_channel_and_nothing_in_our_books(hall: Hall) -> None:
    (ada,) = await hall.world.people("Ada")
    community = await hall.world.community(ada)
    await make_group(hall, community, "Tools", ada)
    await hall.world.drain()
    assert len(hall.chat.channels) == 2

    (await ada.delete(community.url)).ok()
    await hall.world.drain()

    assert hall.chat.channels == {}
    assert await hall.value("SELECT count(*) FROM chat_spaces") == 0


async def test_a_change_in_a_large_community_costs_a_few_calls(hall: Hall) -> None:
    (ada,) = await hall.world.people("Ada")
    community = await hall.world.community(ada)
    await many_members(hall, community, 450)
    await changed(hall, community)
    await hall.world.drain()
    members = hall.chat.members(SPACE, community.id)
    assert members is not None and len(members) == 451

    bo = await hall.world.person("Bo")
    await hall.world.join(community.id, bo, "member")
    hall.chat.calls.clear()
    await changed(hall, community)
    await hall.world.drain()

    assert bo.id in (hall.chat.members(SPACE, community.id) or {})
    assert len(hall.chat.calls) <= 4


async def test_many_changes_at_once_cost_few_passes(hall: Hall) -> None:
    (ada,) = await hall.world.people("Ada")
    community = await hall.world.community(ada)
    await hall.world.drain()
    hall.chat.calls.clear()
    hall.chat.latency_s = 0.05
    for _ in range(60):
        person = await hall.world.person("Bo")
        await hall.world.join(community.id, person, "member")
        await changed(hall, community)
    await hall.world.drain()

    assert hall.there() == await hall.entitled()
    assert len(hall.chat.calls) <= 20


async def test_disabled_and_erased_people_are_in_no_channel_and_are_never_made_known(hall: Hall) -> None:
    ada, bo, cy = await hall.world.people("Ada", "Bo", "Cy")
    community = await hall.world.community(ada, members=[bo, cy])
    await hall.run("UPDATE users SET status = 'disabled' WHERE id = $1", cy.id)
    await hall.world.drain()
    assert set(hall.chat.members(SPACE, community.id) or {}) == {ada.id, bo.id}
    assert cy.id not in hall.chat.users

    async with hall.world.db.writing() as tx:
        await tx.run("UPDATE users SET status = 'disabled' WHERE id = $1", bo.id)
        await chat_people.entitlement_changed(tx, bo.id)
    await hall.world.drain()
    assert set(hall.chat.members(SPACE, community.id) or {}) == {ada.id}

    await chat_people.forget_person(hall.world.house.work, bo.id)
    assert bo.id in hall.chat.deleted_users


async def test_a_disabled_owner_does_not_keep_a_channel_from_being_made(hall: Hall) -> None:
    ada, bo = await hall.world.people("Ada", "Bo")
    community = await hall.world.community(ada, members=[bo])
    await hall.run("UPDATE users SET status = 'disabled' WHERE id = $1", ada.id)
    await hall.world.drain()

    assert hall.chat.members(SPACE, community.id) == {bo.id: "channel_member"}
    assert ada.id not in hall.chat.users


async def test_one_person_the_service_will_not_have_keeps_nobody_else_out(hall: Hall) -> None:
    ada, bo, cy = await hall.world.people("Ada", "Bo", "Cy")
    hall.chat.deleted_users.add(bo.id)
    community = await hall.world.community(ada, members=[bo, cy])
    await hall.world.drain()

    assert set(hall.chat.members(SPACE, community.id) or {}) == {ada.id, cy.id}
    assert await list_failed(hall.world.db) == []


async def test_the_sweep_repairs_what_was_changed_behind_our_back(hall: Hall) -> None:
    ada, bo, eve = await hall.world.people("Ada", "Bo", "Eve")
    community = await hall.world.community(ada, members=[bo])
    lost = await hall.world.community(ada)
    await hall.world.drain()
    channel = hall.chat.channels[SPACE, community.id]
    hall.chat.users[eve.id] = {"id": eve.id, "role": "user"}
    channel.members[eve.id] = "channel_moderator"
    del channel.members[bo.id]
    channel.data["name"] = "Pwned"
    del hall.chat.channels[SPACE, lost.id]

    async with hall.world.db.single() as tx:
        await put(tx, ChannelsDue(of="all"))
    await hall.world.drain()

    assert hall.there() == await hall.entitled()
    assert channel.data["name"] == "Gardeners"


async def test_a_channel_lost_at_the_service_comes_back_with_the_next_change(hall: Hall) -> None:
    ada, bo = await hall.world.people("Ada", "Bo")
    community = await hall.world.community(ada)
    await hall.world.drain()
    hall.chat.channels.clear()
    await hall.world.join(community.id, bo, "member")
    await changed(hall, community)
    await hall.world.drain()

    assert hall.there() == await hall.entitled()


async def test_what_happened_without_a_chat_service_is_made_up_for_when_there_is_one(
    cluster: clusters.Cluster, template: str, tmp_path: Path
) -> None:
    async with open_hall(cluster, template, tmp_path, with_chat=False) as hall:
        ada, bo = await hall.world.people("Ada", "Bo")
        community = await hall.world.community(ada, members=[bo])
        await make_group(hall, community, "Tools", bo)
        gone = await hall.world.community(ada)
        (await ada.delete(gone.url)).ok()
        await hall.world.drain()
        assert hall.chat.calls == []
        assert await hall.value("SELECT count(*) FROM chat_spaces WHERE again") == 1

        async with hall.world.db.single() as tx:
            await put(tx, ChannelsDue(of="unfinished"))
        await drain(with_chat(hall))

        assert hall.there() == await hall.entitled()
        assert len(hall.chat.channels) == 2


def with_chat(hall: Hall) -> House:
    """The same house, configured with the chat service."""
    house = hall.world.house
    service: Service = msgspec.structs.replace(house.service, chat=open_chat(hall.chat.settings))
    return msgspec.structs.replace(house, work=msgspec.structs.replace(house.work, service=service))


async def test_a_worker_that_died_in_its_turn_leaves_what_it_was_asked_meanwhile_to_others(
    hall: Hall,
) -> None:
    ada, bo = await hall.world.people("Ada", "Bo")
    community = await hall.world.community(ada)
    await hall.world.drain()
    await hall.run(
        "UPDATE chat_spaces SET holder = gen_random_uuid(), held_until = now() + interval '1 second'"
        " WHERE space_id = $1::uuid",
        community.id,
    )
    await hall.world.join(community.id, bo, "member")
    await changed(hall, community)
    await hall.world.drain()
    assert hall.there() != await hall.entitled()

    await asyncio.sleep(1.1)
    async with hall.world.db.single() as tx:
        await put(tx, ChannelsDue(of="stalled"))
    await hall.world.drain()
    assert hall.there() == await hall.entitled()


async def test_a_worker_that_lost_its_turn_trusts_nothing_it_did(hall: Hall) -> None:
    ada, bo = await hall.world.people("Ada", "Bo")
    community = await hall.world.community(ada, members=[bo])
    await hall.world.drain()
    await hall.run("DELETE FROM members WHERE space_id = $1::uuid AND user_id = $2", community.id, bo.id)
    cy = await hall.world.person("Cy")
    await hall.world.join(community.id, cy, "member")
    hall.chat.faults.on("POST", f"/channels/{SPACE}/*", Slow(1.0))
    await changed(hall, community)

    async def usurp() -> None:
        """Another takes the turn while the first is waiting for an answer, and finishes before it comes."""
        await asyncio.sleep(0.5)
        await hall.run(
            "UPDATE chat_spaces SET holder = gen_random_uuid() WHERE space_id = $1::uuid", community.id
        )
        await asyncio.sleep(0.2)
        await hall.run(
            "UPDATE chat_spaces SET holder = NULL, held_until = NULL WHERE space_id = $1::uuid", community.id
        )

    await asyncio.gather(hall.world.drain(), usurp())
    assert hall.there() == await hall.entitled()
    assert any(call.path == "/members" for call in hall.chat.calls)


@pytest.mark.timeout(300 if not LONG else 3600)
async def test_after_any_history_and_any_faults_every_channel_holds_exactly_who_is_entitled(
    hall: Hall,
) -> None:
    seed = int(os.environ.get("GUILDHALL_SEED", secrets.randbits(32)))
    print("seed", seed)
    for round_number in range(20 if LONG else 2):
        history = History(hall, random.Random(seed + round_number))
        await history.begin()
        draining = asyncio.create_task(history.keep_draining())
        for _ in range(120):
            await history.step()
        history.over = True
        await draining
        hall.chat.faults.clear()
        await hall.hurry()
        await hall.world.drain()
        assert hall.there() == await hall.entitled(), seed
        assert await list_failed(hall.world.db) == []


class History:
    """Random joins, leaves, promotions, groups and deletions, while the chat service misbehaves."""

    def __init__(self, hall: Hall, chance: random.Random) -> None:
        self.hall = hall
        self.chance = chance
        self.people: list[Person] = []
        self.communities: list[Community] = []
        self.over = False

    async def begin(self) -> None:
        self.people = await self.hall.world.people(*(f"p{n}" for n in range(12)))
        for _ in range(3):
            self.communities.append(await self.hall.world.community(self.people[0]))

    async def keep_draining(self) -> None:
        while not self.over:
            await self.hall.world.drain()
            await asyncio.sleep(0.05)

    async def step(self) -> None:
        chance = self.chance
        if chance.random() < 0.4:
            fault: Any = chance.choice(
                [Die(), ActThenDie(), ActTwice(), Fail(500), Fail(503), Slow(0.2), rate_limited(1)]
            )
            path = chance.choice(["*", "/users*", "/channels/*", "/members*"])
            self.hall.chat.faults.on("*", path, fault, times=chance.randint(1, 3))
        if not self.communities:
            self.communities.append(await self.hall.world.community(self.people[0]))
        community = chance.choice(self.communities)
        person = chance.choice(self.people[1:])
        run, where = self.hall.run, (community.id, person.id)
        match chance.choice(
            ["join", "join", "leave", "rank", "group", "group join", "group leave", "ungroup", "end"]
        ):
            case "join":
                await run(
                    "INSERT INTO members (space_id, kind, user_id, role)"
                    " VALUES ($1::uuid, 'community', $2, 'member')"
                    " ON CONFLICT DO NOTHING",
                    *where,
                )
            case "leave":
                await run("DELETE FROM members WHERE space_id = $1::uuid AND user_id = $2", *where)
            case "rank":
                await run(
                    "UPDATE members SET role = $3 WHERE space_id = $1::uuid AND user_id = $2",
                    *where,
                    chance.choice(["admin", "moderator", "member"]),
                )
            case "group":
                await make_group(self.hall, community, "Group")
            case "group join":
                await run(
                    "INSERT INTO group_members (space_id, group_id, user_id, role)"
                    " SELECT g.space_id, g.id, m.user_id, 'member'"
                    " FROM groups g JOIN members m USING (space_id)"
                    " WHERE g.space_id = $1::uuid AND m.user_id = $2 ON CONFLICT DO NOTHING",
                    *where,
                )
            case "group leave":
                await run("DELETE FROM group_members WHERE space_id = $1::uuid AND user_id = $2", *where)
            case "ungroup":
                await run(
                    "DELETE FROM groups WHERE id = (SELECT id FROM groups WHERE space_id = $1::uuid LIMIT 1)",
                    community.id,
                )
            case "end":
                if chance.random() < 0.15:
                    self.communities.remove(community)
                    await self.people[0].delete(community.url)
            case _:
                raise AssertionError
        await changed(self.hall, community)
        await asyncio.sleep(chance.choice([0, 0, 0.02, 0.1]))


async def many_members(hall: Hall, community: Community, count: int) -> None:
    async with hall.world.db.writing() as tx:
        await tx.run(
            "INSERT INTO users (id, issuer, display_name) SELECT 'user_many' || n, 'x', 'M' || n"
            " FROM generate_series(1, $1) AS n ON CONFLICT DO NOTHING",
            count,
        )
        await tx.run(
            "INSERT INTO members (space_id, kind, user_id, role)"
            " SELECT $1::uuid, 'community', 'user_many' || n, 'member' FROM generate_series(1, $2) AS n",
            community.id,
            count,
        )


async def test_a_sweep_of_a_large_channel_reads_it_page_by_page_and_changes_only_what_differs(
    hall: Hall,
) -> None:
    (ada,) = await hall.world.people("Ada")
    community = await hall.world.community(ada)
    await many_members(hall, community, 450)
    await changed(hall, community)
    await hall.world.drain()
    hall.chat.calls.clear()
    async with hall.world.db.single() as tx:
        await put(tx, SpaceSwept(space_id=UUID(community.id)))
    await hall.world.drain()

    assert hall.there() == await hall.entitled()
    assert len(hall.chat.calls) <= 12
