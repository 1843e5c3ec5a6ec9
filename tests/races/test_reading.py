"""What readers and members of parts see while others write."""

import asyncio
from functools import partial

import pytest

from tests.races.calls import insist, play, race
from tests.v1.test_memories import push
from tests.world import Community, Person, World

pytestmark = pytest.mark.xdist_group("races")


async def test_nobody_stays_in_a_group_of_a_community_they_are_out_of(racing: World, rounds: int) -> None:
    for turn in range(8 * rounds):
        ada, bo = await racing.people("ada", "bo")
        club = await racing.community(ada, members=[bo])
        groups = [
            (await ada.post("/api/groups", {"communityId": club.id, "name": f"Group {n}"})).ok(201)["id"]
            for n in range(3)
        ]
        (await bo.post(f"/api/groups/{groups[2]}/join")).ok()
        who = ada if turn % 2 else bo
        calls = [
            partial(bo.post, f"/api/groups/{groups[0]}/join"),
            partial(ada.post, f"/api/groups/{groups[1]}", {"targetUserId": bo.id, "role": "admin"}),
            partial(bo.delete, f"/api/groups/{groups[2]}/members", {"targetUserId": bo.id}),
            partial(bo.post, "/api/posts", {"communityId": club.id, "groupId": groups[2], "content": "Hi"}),
            partial(ada.delete, f"/api/groups/{groups[0]}"),
        ]
        calls.insert(turn % 6, partial(who.delete, f"{club.url}/members", {"targetUserId": bo.id}))
        replies = await race(calls)
        left = replies[turn % 6]
        assert left.status == 204
        assert all(reply.status < 500 for reply in replies)
        async with racing.db.reading() as read:
            assert await read.value("SELECT count(*) FROM group_members WHERE user_id = $1", bo.id) == 0
        for group in groups:
            assert (await bo.get(f"/api/groups/{group}")).error == "not_found"


async def write(club: Community, people: list[Person], each: int) -> list[str]:
    """The ids of what all of them post, each one after the other."""

    async def post(person: Person) -> list[str]:
        made: list[str] = []
        for number in range(each):
            body = {"communityId": club.id, "content": f"{person.name} {number}"}
            made.append((await insist(partial(person.post, "/api/posts", body))).ok(201)["id"])
        return made

    return [post_id for made in await asyncio.gather(*map(post, people)) for post_id in made]


async def read_down(reader: Person, club: Community, until: str | None = None) -> list[str]:
    """The ids in the feed from the newest down, by cursor, to the end or to one that is known."""
    seen: list[str] = []
    cursor = ""
    while True:
        path = f"/api/posts?communityId={club.id}&limit=7{cursor}"
        page = (await insist(partial(reader.get, path))).ok()
        for item in page["items"]:
            if item["id"] == until:
                return seen
            seen.append(item["id"])
        if page["nextCursor"] is None:
            return seen
        cursor = f"&cursor={page['nextCursor']}"


async def test_who_reads_by_cursor_misses_nothing_and_sees_nothing_twice(
    racing: World, crowd: list[Person], rounds: int
) -> None:
    writers = crowd[:8]
    for _ in range(rounds):
        ada = await racing.person("ada")
        club = await racing.community(ada, members=writers)
        before = await write(club, writers, 4)
        writing = asyncio.create_task(write(club, writers, 6))
        caught_up: list[str] = []
        while not writing.done():
            seen = await read_down(ada, club)
            assert len(seen) == len(set(seen))
            assert set(seen) >= set(before)
            # Whoever reads down to the newest they know has then read all there is: nothing comes in below.
            newer = await read_down(ada, club, until=caught_up[0] if caught_up else None)
            caught_up = newer + caught_up
        made = before + await writing
        caught_up = await read_down(ada, club, until=caught_up[0]) + caught_up
        assert len(caught_up) == len(made)
        assert set(caught_up) == set(made)
        assert caught_up == await read_down(ada, club)
        assert (await ada.get(f"{club.url}/summary")).ok()["postCount"] == len(made)


@pytest.mark.parametrize("etag", [True, False], ids=["asking whether it changed", "asking anew"])
async def test_who_polls_sees_what_was_answered_before(racing: World, rounds: int, etag: bool) -> None:
    ada = await racing.person("ada")
    club = await racing.community(ada)
    path = f"/api/posts?communityId={club.id}&limit=100"
    known: dict[str, str] = {}
    for number in range(10 * rounds):
        posted = (await ada.post("/api/posts", {"communityId": club.id, "content": str(number)})).ok(201)[
            "id"
        ]
        # Each goes to the other process: what one has answered, the other knows.
        page = await ada.get(path, headers=known)
        assert page.status == 200
        assert page.json["items"][0]["id"] == posted
        if etag:
            known = {"If-None-Match": page.headers["etag"]}
            assert (await ada.get(path, headers=known)).status == 304


@pytest.mark.parametrize("end", ["remove", "leave", "delete the hub", "delete", "move"])
async def test_who_looks_at_what_goes_is_told_so_or_was_there(racing: World, many: int, end: str) -> None:
    async def one(turn: int) -> None:
        ada, bo = await racing.people("ada", "bo")
        hub, other = await racing.hub(ada, viewers=[bo]), await racing.hub(ada, viewers=[bo])
        topic = (await ada.post("/v1/topics", {"name": "Beans", "hub_id": hub.id})).data(201)["id"]
        memory = await push(ada, "Beans climb.", hub)
        item = f"/v1/memories/{memory['id']}"
        ends = {
            "remove": [partial(ada.delete, f"{hub.url}/members/{bo.id}")],
            "leave": [partial(bo.post, f"{hub.url}/leave", {})],
            "delete the hub": [partial(ada.delete, hub.url)],
            "delete": [partial(ada.delete, item), partial(ada.delete, f"/v1/topics/{topic}")],
            "move": [partial(ada.post, f"{item}/share", {"target_hub_id": other.id})],
        }[end]
        looks = [
            partial(bo.post, f"{item}/access"),
            partial(bo.post, f"/v1/topics/{topic}/visit", {}),
            partial(bo.post, f"{hub.url}/visit", {}),
            partial(bo.post, "/v1/recall", {"query": "beans"}),
        ]
        replies = await race([*looks, *ends] if turn % 2 else [*ends, *looks])
        done = replies[-len(ends) :] if turn % 2 else replies[: len(ends)]
        assert all(reply.status < 300 for reply in done), done
        assert {reply.status for reply in replies} <= {200, 204, 403, 404}, replies

    await play(many, one)
