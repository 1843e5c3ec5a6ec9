"""Many accept at once, or while what they accept is taken away."""

import secrets
from collections import Counter
from collections.abc import Mapping
from functools import partial

import pytest

from tests.races.calls import Call, accepts, audited, ends, invited, play, race
from tests.races.conftest import MOST_MEMBERS
from tests.world import Community, Hub, Person, World

pytestmark = pytest.mark.xdist_group("races")


async def test_one_person_who_accepts_a_hundred_times_is_one_member(
    racing: World, crowd: list[Person], rounds: int
) -> None:
    bo = crowd[0]
    for _ in range(rounds):
        ada = await racing.person("ada")
        club, hub = await racing.community(ada), await racing.hub(ada)
        for space, surface in ((club, "/api"), (hub, "/v1")):
            token = await invited(ada, space, bo.email, role="admin")
            replies = await race(accepts([bo] * 100, surface, token))
            count = ends(replies)
            assert count["done"] == 1
            assert count.total() - 1 == count["used"] + count["already_member"]
            assert await space.roles() == {"ada": "owner", bo.name: "admin"}
            assert await audited(racing, space.id, "invite.accept") == 1


async def test_of_a_hundred_who_have_one_link_one_becomes_a_member(
    racing: World, crowd: list[Person], rounds: int
) -> None:
    shared = f"shared.{secrets.token_hex(6)}@example.org"
    await address(racing, dict.fromkeys((person.id for person in crowd), shared))
    for _ in range(rounds):
        ada = await racing.person("ada")
        club, hub = await racing.community(ada), await racing.hub(ada)
        for space, surface, email in ((club, "/api", shared), (hub, "/v1", None)):
            token = await invited(ada, space, email)
            assert ends(await race(accepts(crowd, surface, token))) == {"done": 1, "used": 99}
            assert len(await space.roles()) == 2
            assert await audited(racing, space.id, "invite.accept") == 1
    await address(racing, {person.id: person.email for person in crowd})


async def address(world: World, emails: Mapping[str, str]) -> None:
    """Give these people these addresses, by their ids."""
    async with world.db.writing() as tx:
        await tx.run(
            "UPDATE users SET email = wanted.email FROM unnest($1::text[], $2::text[]) AS wanted (id, email)"
            " WHERE users.id = wanted.id",
            list(emails),
            list(emails.values()),
        )


async def test_a_hub_never_has_more_members_than_it_may(
    racing: World, crowd: list[Person], rounds: int
) -> None:
    for _ in range(rounds):
        ada = await racing.person("ada")
        hub = await racing.hub(ada)
        tokens = [await invited(ada, hub) for _ in range(12)]
        calls = [accepts([person], "/v1", token)[0] for person, token in zip(crowd[:12], tokens, strict=True)]
        for person in crowd[12:24]:
            calls.append(partial(ada.post, f"{hub.url}/members", {"user_id": person.id, "role": "viewer"}))
        count = ends(await race(calls))
        assert count == {"done": MOST_MEMBERS - 1, "member_cap_exceeded": 24 - MOST_MEMBERS + 1}
        assert len(await hub.roles()) == MOST_MEMBERS


@pytest.mark.parametrize("surface", ["/api", "/v1"])
@pytest.mark.parametrize("how", ["revoke", "regenerate", "expire", "delete", "demote", "remove"])
async def test_an_invite_that_ends_while_it_is_accepted_did_one_or_the_other(
    racing: World, crowd: list[Person], many: int, surface: str, how: str
) -> None:
    async def one(number: int) -> None:
        bo = crowd[number % len(crowd)]
        ada, cy = await racing.people("ada", "cy")
        space: Community | Hub
        space = await (racing.community if surface == "/api" else racing.hub)(ada, admins=[cy])
        token = await invited(cy, space, bo.email)
        accepting = accepts([bo], surface, token)
        if how == "expire":
            await expire(racing, space, after_ms=6 * number % 60)
            accepted, ended = (await race(accepting))[0], None
        else:
            ending = await endings(ada, space, cy, how)
            # Which of them is sent first is turned, so that each comes first now and then.
            turned = number % 2
            replies = await race([ending, *accepting] if turned else [*accepting, ending])
            accepted, ended = replies[::-1] if turned else replies
        roles = await space.roles()
        inside = bo.name in roles
        if how == "delete" and isinstance(space, Hub):
            # Of a hub nothing stays, also not of somebody who came in just before.
            assert ended is not None and (roles, ended.status) == ({}, 200)
            assert accepted.status in (200, 404)
            return
        assert (accepted.status == 200) == inside, (accepted, roles)
        if how in ("revoke", "regenerate"):
            assert ended is not None and inside == (ended.status >= 400), (accepted, ended)
            assert ended.error in (None, "used", "invite_used", "conflict")
        else:
            assert ended is None or ended.status < 300
        if not inside:
            assert accepted.status in (404, 409, 410)
        async with racing.db.reading() as read:
            rows = await read.value(
                "SELECT count(*) FROM invites WHERE space_id = $1::uuid AND accepted_at IS NOT NULL", space.id
            )
        assert rows == inside

    await play(many, one)


async def endings(ada: Person, space: Community | Hub, inviter: Person, how: str) -> Call:
    """What Ada can do so that an invite of hers or of this inviter is good no longer."""
    if how == "delete":
        return partial(ada.delete, space.url)
    if how == "demote":
        if isinstance(space, Hub):
            return partial(ada.patch, f"{space.url}/members/{inviter.id}", {"role": "viewer"})
        return partial(ada.patch, f"{space.url}/members", {"targetUserId": inviter.id, "role": "member"})
    if how == "remove":
        if isinstance(space, Hub):
            return partial(ada.delete, f"{space.url}/members/{inviter.id}")
        return partial(ada.delete, f"{space.url}/members", {"targetUserId": inviter.id})
    listed = (await ada.get(f"{space.url}/invites")).json
    invite = f"{space.url}/invites/{listed['data' if isinstance(space, Hub) else 'items'][0]['id']}"
    return partial(ada.delete, invite) if how == "revoke" else partial(ada.post, f"{invite}/regenerate", {})


async def expire(world: World, space: Community | Hub, *, after_ms: int) -> None:
    """Let the space's invites end that soon."""
    async with world.db.writing() as tx:
        await tx.run(
            "UPDATE invites SET expires_at = clock_timestamp() + $2 * interval '1 ms'"
            " WHERE space_id = $1::uuid",
            space.id,
            after_ms,
        )


async def test_a_hub_never_has_more_open_invites_than_it_may(racing: World, rounds: int) -> None:
    for _ in range(rounds):
        ada = await racing.person("ada")
        hub = await racing.hub(ada)
        count = ends(await race([partial(ada.post, f"{hub.url}/invites", {})] * 40))
        assert count == {"done": 20, "invite_limit": 20}
        assert len((await ada.get(f"{hub.url}/invites")).data()) == 20


async def test_of_a_hundred_hubs_of_one_slug_one_is_made(
    racing: World, crowd: list[Person], rounds: int
) -> None:
    for _ in range(rounds):
        wanted = {"name": "Orchard", "slug": f"orchard-{secrets.token_hex(6)}"}
        count = ends(await race(partial(person.post, "/v1/hubs", wanted) for person in crowd))
        assert count == {"done": 1, "slug_taken": 99}


@pytest.mark.parametrize(
    ("rows", "path", "body"),
    [
        pytest.param(
            "INSERT INTO groups (id, space_id, name, created_by)"
            " SELECT gen_random_uuid(), $1::uuid, n::text, $2 FROM generate_series(1, 495) AS n",
            "/api/groups",
            {"name": "Seeds"},
            id="groups of a community",
        ),
        pytest.param(
            "INSERT INTO invites (id, space_id, kind, role, email, token_hash, invited_by)"
            " SELECT gen_random_uuid(), $1::text::uuid, 'community', 'member', n || '@example.org',"
            "        sha256((n || $1::text)::bytea), $2 FROM generate_series(1, 495) AS n",
            "/api/communities/{id}/invite",
            {"email": "{n}.more@example.org"},
            id="open invites of a community",
        ),
        pytest.param(
            "WITH made AS (INSERT INTO spaces (id, kind, owner_id, name, slug)"
            " SELECT gen_random_uuid(), 'community', $2, 'x', gen_random_uuid()::text"
            "   FROM generate_series(1, 94) AS n WHERE $1::uuid IS NOT NULL RETURNING id)"
            " INSERT INTO members (space_id, kind, user_id, role)"
            " SELECT id, 'community', $2, 'owner' FROM made",
            "/api/communities",
            {"name": "One more"},
            id="communities of a person",
        ),
    ],
)
async def test_a_limit_on_how_many_holds_when_many_come_at_once(
    racing: World, rows: str, path: str, body: dict[str, str]
) -> None:
    ada = await racing.person("ada")
    club = await racing.community(ada)
    async with racing.db.writing() as tx:
        await tx.connection.execute(rows, club.id, ada.id)
    bodies = [{name: text.format(n=n) for name, text in body.items()} for n in range(20)]
    place = path.format(id=club.id)
    replies = await race(partial(ada.post, place, {"communityId": club.id, **body}) for body in bodies)
    assert Counter(reply.status for reply in replies) == {201: 5, 409: 15}


@pytest.mark.parametrize("end", ["remove", "leave", "delete"])
async def test_a_key_for_a_hub_is_made_for_who_is_in_it_then(racing: World, many: int, end: str) -> None:
    async def one(turn: int) -> None:
        ada, bo = await racing.people("ada", "bo")
        hub = await racing.hub(ada, viewers=[bo])
        calls: dict[str, Call] = {
            "remove": partial(ada.delete, f"{hub.url}/members/{bo.id}"),
            "leave": partial(bo.post, f"{hub.url}/leave", {}),
            "delete": partial(ada.delete, hub.url),
        }
        make = partial(bo.post, "/v1/auth/api-keys", {"name": "Key", "hub_id": hub.id})
        wanted = [calls[end], make, make] if turn % 2 else [make, calls[end], make]
        assert {reply.status for reply in await race(wanted)} <= {200, 201, 403}
        async with racing.db.reading() as read:
            live = "SELECT count(*) FROM api_keys WHERE user_id = $1 AND revoked_at IS NULL"
            assert await read.value(live, bo.id) == 0

    await play(many, one)
