"""One name for many, and one request sent many times."""

import secrets
from collections import Counter
from functools import partial

import pytest

from tests.races.calls import insist, race
from tests.races.pair import at_once
from tests.world import Person, Reply, World

pytestmark = pytest.mark.xdist_group("races")


@pytest.mark.parametrize("path", ["/api/communities", "/v1/hubs"])
async def test_a_slug_that_a_hundred_want_goes_to_one(
    racing: World, crowd: list[Person], rounds: int, path: str
) -> None:
    for _ in range(rounds):
        slug = f"slug-{secrets.token_hex(6)}"
        replies = await race(partial(person.post, path, {"name": "Ours", "slug": slug}) for person in crowd)
        assert Counter(reply.error for reply in replies) == {None: 1, "slug_taken": 99}


@pytest.mark.parametrize("kind", ["community", "hub"])
async def test_a_slug_that_many_change_to_goes_to_one(
    racing: World, crowd: list[Person], rounds: int, kind: str
) -> None:
    people = crowd[:20]
    spaces = [await (racing.community if kind == "community" else racing.hub)(person) for person in people]
    for _ in range(rounds):
        slug = f"slug-{secrets.token_hex(6)}"
        replies = await race(
            partial(person.patch, space.url, {"slug": slug})
            for person, space in zip(people, spaces, strict=True)
        )
        assert Counter(reply.error for reply in replies) == {None: 1, "slug_taken": 19}


async def test_a_name_that_many_have_gives_each_a_slug_of_its_own(racing: World, crowd: list[Person]) -> None:
    name = f"Garden {secrets.token_hex(6)}"
    replies = await race(partial(person.post, "/api/communities", {"name": name}) for person in crowd)
    assert len({reply.ok(201)["slug"] for reply in replies}) == len(crowd)


async def test_a_key_sent_twenty_times_at_once_has_one_effect_and_one_answer(
    racing: World, rounds: int
) -> None:
    for _ in range(rounds):
        ada = await racing.person("ada")
        club = await racing.community(ada)
        hub = await racing.hub(ada)
        for path, body, status in (
            ("/api/posts", {"communityId": club.id, "content": "Beans"}, 201),
            ("/api/communities", {"name": "Gardeners"}, 201),
            (f"{club.url}/invite", {"email": "bo@example.org"}, 201),
            (f"{hub.url}/invites", {}, 201),
            (f"{club.url}/visit", {}, 204),
        ):
            key = {"Idempotency-Key": secrets.token_hex(8)}

            replies = await at_once(ask(ada, path, body, key) for _ in range(20))
            assert {(reply.status, reply.response.content) for reply in replies} == {
                (status, replies[0].response.content)
            }
            assert Counter(reply.headers.get("idempotency-replayed") for reply in replies) == {
                None: 1,
                "true": 19,
            }
            other = await ada.post(path, {"name": "Another"}, headers=key)
            assert (other.status, other.error) == (422, "idempotency_key_reused")
        assert await made_by(racing, ada) == {"posts": 1, "communities": 2, "invites": 2}


async def ask(who: Person, path: str, body: object, headers: dict[str, str]) -> Reply:
    """What a client gets that asks until it is answered: a twin that is being served is no answer."""
    while True:
        reply = await insist(partial(who.post, path, body, headers=headers))
        if reply.error != "idempotency_in_flight":
            return reply
        assert int(reply.headers["retry-after"]) == 1


async def made_by(world: World, person: Person) -> dict[str, int]:
    async with world.db.reading() as read:
        (row,) = await read.connection.fetch(
            "SELECT (SELECT count(*) FROM posts WHERE author_id = $1) AS posts,"
            " (SELECT count(*) FROM spaces WHERE owner_id = $1 AND kind = 'community') AS communities,"
            " (SELECT count(*) FROM invites WHERE invited_by = $1) AS invites",
            person.id,
        )
    return dict(row)
