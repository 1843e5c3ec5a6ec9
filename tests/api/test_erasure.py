"""Leaving for good: nothing personal stays, nobody loses a space, and no race brings anything back."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from guildhall.users import erasure
from guildhall.web.caller import Caller
from tests.api.homes import Home, home
from tests.world import Browser, Community, Person, Reply, World

__all__ = ["home"]

ME = "/api/users/me"


def caller_of(world: World, person: Person) -> Caller:
    """The person as a request of theirs would bring them."""
    issuer = world.house.service.issuer
    assert issuer is not None
    return Caller(
        world.db,
        world.house.service,
        "127.0.0.1",
        "request",
        person.id,
        issuer.issuer,
        person.id.replace("user_", "sess_"),
        None,
    )


async def test_nothing_personal_stays_anywhere(home: Home) -> None:
    world, mark = home.world, secrets.token_hex(6)
    email = f"ada.{mark}@example.org"
    ada, user = await home.sign_in(email, label=f"laptop {mark}")
    bo, cy = await world.people("bo", "cy")
    me = user["id"]
    avatar = await home.upload(ada, "avatar", f"face-{mark}.png")
    text = f"I am {mark}.".encode()
    attached = await home.upload(ada, "attachment", f"notes-{mark}.txt", text)
    logo = await home.upload(ada, "logo", f"logo-{mark}.png")
    profile = {
        "displayName": f"Ada {mark}",
        "bio": mark,
        "phoneNumber": "+49 30 5550123",
        "avatarUrl": avatar,
    }
    (await ada.patch(f"/api/members/{me}/profile", profile)).ok()

    made = (await ada.post("/api/communities", {"name": "Gardeners"})).ok(201)
    club = Community(world, made)
    (await ada.patch(club.url, {"logoUrl": logo})).ok()
    await world.join(club.id, bo, "owner")
    group = (await ada.post("/api/groups", {"communityId": club.id, "name": "Roses"})).ok(201)
    post = {"communityId": club.id, "content": "How do roses grow?", "attachments": [attached]}
    (await ada.post("/api/posts", post, headers={"Idempotency-Key": mark})).ok(201)
    (await ada.post("/api/posts", post | {"groupId": group["id"]})).ok(201)
    # Others may show a file of hers, and still it is hers.
    (await bo.post("/api/posts", post)).ok(201)
    (await ada.post(f"{club.url}/invite", {"email": "guest@example.org"})).ok(201)
    theirs = [await world.community(cy, name=name) for name in ("One", "Two", "Three")]
    tokens = [(await cy.post(f"{one.url}/invite", {"email": email.upper()})).ok(201) for one in theirs]
    await world.drain()
    (await ada.post(f"/api/invites/{tokens[0]['token']}/accept")).ok(200)
    (await cy.delete(f"{theirs[1].url}/invites/{tokens[1]['id']}")).ok(204)
    key = {"name": f"key {mark}", "agent_name": f"agent-{mark}", "scopes": ["hub:manage"]}
    agent = Browser(world, (await ada.post("/v1/auth/api-keys", key)).data(201)["key"])
    hub = (await agent.post("/v1/hubs", {"name": "Orchard", "slug": f"orchard-{mark[:6]}"})).data(201)
    (await ada.patch("/v1/settings", {"chat_default_persona_id": mark})).data(200)
    (await ada.post("/v1/onboarding/restart")).data(200)
    (await ada.post("/api/stream/token")).ok()
    (await ada.get(f"{ME}/export")).ok(202)
    (await world.nobody.post("/api/auth/code", {"email": email})).ok(202)
    await world.drain()
    assert {where.partition(".")[0] for where in await home.find(mark)} >= {
        "users",
        "person_settings",
        "members",
        "sign_in_codes",
        "email_logins",
        "sessions",
        "invites",
        "uploads",
        "api_keys",
        "agents",
        "audit",
    }
    assert me in home.chat.users and len(home.files()) == 4
    assert len(await home.mails(email)) == 5

    assert (await ada.delete(ME)).error == "sole_owner"
    (await ada.delete(f"/v1/hubs/{hub['id']}")).ok()
    erased = await ada.delete(ME)
    assert erased.status == 204 and erased.headers["Set-Cookie"].startswith("__Host-session=;")
    assert (await ada.delete(ME)).status == 401
    assert (await agent.post("/v1/hubs", {"name": "Late", "slug": f"late-{mark[:6]}"})).status == 401
    await home.settle()

    assert await home.find(mark, "5550123") == []
    assert await home.mails(email) == await home.mails("guest@example.org") == []
    # What the community shows of itself stays with the community; nothing else of hers is left.
    assert home.files() == {logo.partition("/blobs/")[2]}
    assert me in home.chat.deleted_users and me not in home.chat.users
    assert all(me not in channel.members for channel in home.chat.channels.values())
    assert (await club.roles()) == {"bo": "owner"}
    assert (await bo.get(club.url)).ok()["ownerId"] == bo.id
    (posted,) = [
        one
        for one in (await bo.get(f"/api/posts?communityId={club.id}")).ok()["items"]
        if one["author"]["id"] is None
    ]
    assert posted["author"] == {"id": None, "displayName": None, "avatarUrl": None}
    assert (posted["content"], posted["attachments"]) == ("How do roses grow?", [])
    assert (await bo.get(f"/api/members/{me}/profile")).status == 404
    for token in tokens:
        card = (await world.nobody.get(f"/api/invites/{token['token']}")).ok()
        assert mark not in repr(card)


async def test_who_is_the_only_owner_hands_over_or_deletes_first(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    shared = await world.community(ada, name="Shared", members=[bo])
    lonely = await world.community(ada, name="Lonely")
    deleted = await world.community(ada, name="Deleted", members=[bo])
    team = await world.hub(ada, name="Team", viewers=[bo])
    (await ada.delete(deleted.url)).ok(204)

    refused = await ada.delete(ME)
    assert (refused.status, refused.error) == (409, "sole_owner")
    assert refused.json["details"]["spaces"] == [
        {"id": one.id, "name": one.body["name"]} for one in (lonely, shared, team)
    ]
    assert await shared.roles() == {"ada": "owner", "bo": "member"}
    (await ada.get(ME.replace("users/me", f"members/{ada.id}/profile"))).ok()

    (await ada.delete(lonely.url)).ok(204)
    (await ada.delete(team.url)).ok()
    (await ada.patch(f"{shared.url}/members", {"targetUserId": bo.id, "role": "owner"})).ok()
    assert (await ada.delete(ME)).status == 204
    assert await shared.roles() == {"bo": "owner"}
    async with world.db.reading() as read:
        left = await read.value(
            "SELECT count(*) FROM spaces WHERE owner_id = $1 OR id = ANY ($2::text[]::uuid[])",
            ada.id,
            [lonely.id, deleted.id, team.id],
        )
    assert left == 0


async def test_what_a_person_had_offered_or_was_offered_ends_with_them(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    club = await world.community(ada, admins=[bo])
    sent = (await bo.post(f"{club.url}/invite", {"email": cy.email})).ok(201)
    (await ada.post(f"{club.url}/ownership-transfer", {"targetUserId": bo.id})).ok(201)

    assert (await bo.delete(ME)).status == 204
    accepted = await cy.post(f"/api/invites/{sent['token']}/accept")
    assert (accepted.status, accepted.error) == (410, "revoked")
    async with world.db.reading() as read:
        assert await read.value("SELECT count(*) FROM transfers WHERE space_id = $1::uuid", club.id) == 0
    assert await club.roles() == {"ada": "owner"}


async def test_an_erasure_is_recorded_once_without_a_name(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(bo, members=[ada])

    replies = await asyncio.gather(*(ada.delete(ME) for _ in range(4)))
    assert sorted(reply.status for reply in replies) == [204, 401, 401, 401]
    async with world.db.reading() as read:
        rows = await read.connection.fetch(
            "SELECT action, actor, space_id::text FROM audit WHERE target = $1 ORDER BY id", ada.id
        )
    assert {tuple(row) for row in rows} >= {
        ("user.erase", ada.id, None),
        ("member.leave", ada.id, club.id),
    }
    assert [row["action"] for row in rows].count("user.erase") == 1


async def test_who_comes_back_is_somebody_new(home: Home) -> None:
    world, email = home.world, f"ada.{secrets.token_hex(6)}@example.org"
    ada, user = await home.sign_in(email)
    bo = await world.person("bo")
    club = await world.community(bo, isPrivate=True)
    invite = (await bo.post(f"{club.url}/invite", {"email": email})).ok(201)
    again = (await bo.post(f"{club.url}/invite", {"email": f"x{email}"})).ok(201)
    assert (await ada.delete(ME)).status == 204

    back, new = await home.sign_in(email)
    assert new["id"] != user["id"]
    assert (new["displayName"], new["bio"]) == ("New member", None)
    assert (await back.get("/api/communities")).ok()["items"] == []
    assert len((await back.get("/v1/hubs")).data()) == 1
    dead = await back.post(f"/api/invites/{invite['token']}/accept")
    assert (dead.status, dead.error) == (410, "revoked")
    assert (await back.post(f"/api/invites/{again['token']}/accept")).error == "wrong_invitee"
    fresh = (await bo.post(f"{club.url}/invite", {"email": email})).ok(201)
    (await back.post(f"/api/invites/{fresh['token']}/accept")).ok(200)
    assert (await ada.get("/api/communities")).status == 401


# What anybody might be at while they, or the identity provider, have them erased.


async def _accept(world: World, ada: Person, bo: Person) -> Callable[[], Awaitable[Reply]]:
    club = await world.community(bo, isPrivate=True)
    invite = (await bo.post(f"{club.url}/invite", {"email": ada.email})).ok(201)
    return lambda: ada.post(f"/api/invites/{invite['token']}/accept")


async def _join(world: World, ada: Person, bo: Person) -> Callable[[], Awaitable[Reply]]:
    club = await world.community(bo)
    return lambda: ada.post(f"{club.url}/join")


async def _be_added_to_a_group(world: World, ada: Person, bo: Person) -> Callable[[], Awaitable[Reply]]:
    club = await world.community(bo, members=[ada])
    group = (await bo.post("/api/groups", {"communityId": club.id, "name": "Roses"})).ok(201)
    return lambda: ada.post(f"/api/groups/{group['id']}/join")


async def _post(world: World, ada: Person, bo: Person) -> Callable[[], Awaitable[Reply]]:
    club = await world.community(bo, members=[ada])
    return lambda: ada.post("/api/posts", {"communityId": club.id, "content": "Late."})


async def _found(world: World, ada: Person, bo: Person) -> Callable[[], Awaitable[Reply]]:
    return lambda: ada.post("/api/communities", {"name": "Late gardeners"})


async def _invite(world: World, ada: Person, bo: Person) -> Callable[[], Awaitable[Reply]]:
    club = await world.community(bo, admins=[ada])
    return lambda: ada.post(f"{club.url}/invite", {"email": "late@example.org"})


async def _change_profile(world: World, ada: Person, bo: Person) -> Callable[[], Awaitable[Reply]]:
    return lambda: ada.patch(f"/api/members/{ada.id}/profile", {"displayName": "Ada again"})


async def _upload(world: World, ada: Person, bo: Person) -> Callable[[], Awaitable[Reply]]:
    asked = {"filename": "late.png", "contentType": "image/png", "sizeBytes": 9, "purpose": "avatar"}
    return lambda: ada.post("/api/uploads", asked)


async def _export(world: World, ada: Person, bo: Person) -> Callable[[], Awaitable[Reply]]:
    return lambda: ada.get(f"{ME}/export")


async def _make_a_key(world: World, ada: Person, bo: Person) -> Callable[[], Awaitable[Reply]]:
    return lambda: ada.post("/v1/auth/api-keys", {"name": "late"})


async def _sync(world: World, ada: Person, bo: Person) -> Callable[[], Awaitable[Reply]]:
    return lambda: ada.post("/api/users/sync")


async def _erase(world: World, ada: Person, bo: Person) -> Callable[[], Awaitable[Reply]]:
    return lambda: ada.delete(ME)


DOINGS = [
    _accept,
    _join,
    _be_added_to_a_group,
    _post,
    _found,
    _invite,
    _change_profile,
    _upload,
    _export,
    _make_a_key,
    _sync,
    _erase,
]


async def traces(world: World, user_id: str) -> dict[str, int]:
    """What there is of an erased person beside the bare row, by kind; nothing when all is well."""
    async with world.db.reading() as read:
        rows = await read.connection.fetch(
            "SELECT 'members' AS what, count(*) AS n FROM members WHERE user_id = $1"
            " UNION ALL SELECT 'groups', count(*) FROM group_members WHERE user_id = $1"
            " UNION ALL SELECT 'spaces', count(*) FROM spaces WHERE owner_id = $1"
            " UNION ALL SELECT 'sessions', count(*) FROM sessions WHERE user_id = $1"
            " UNION ALL SELECT 'keys', count(*) FROM api_keys WHERE user_id = $1"
            " UNION ALL SELECT 'logins', count(*) FROM email_logins WHERE user_id = $1"
            " UNION ALL SELECT 'uploads', count(*) FROM uploads WHERE user_id = $1"
            " UNION ALL SELECT 'exports', count(*) FROM exports WHERE user_id = $1"
            " UNION ALL SELECT 'open invites', count(*) FROM invites WHERE invited_by = $1"
            "    AND invite_status(invites) = 'open'"
            " UNION ALL SELECT 'name', count(*) FROM users WHERE id = $1 AND"
            "    (status, display_name) IS DISTINCT FROM ('erased', 'Deleted member')",
            user_id,
        )
    return {row["what"]: row["n"] for row in rows if row["n"]}


async def waiting(world: World) -> int:
    """How many transactions wait for a lock."""
    async with world.db.reading() as read:
        return await read.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )


@pytest.mark.parametrize("doing", DOINGS, ids=lambda doing: re.sub(r"_", " ", doing.__name__).strip())
async def test_what_comes_while_a_person_is_being_erased_comes_too_late(
    world: World, doing: Callable[[World, Person, Person], Awaitable[Callable[[], Awaitable[Reply]]]]
) -> None:
    ada, bo = await world.people("ada", "bo")
    act = await doing(world, ada, bo)

    async with world.db.writing() as tx:
        await erasure.erase(tx, caller_of(world, ada))
        late = asyncio.ensure_future(act())
        while not late.done() and not await waiting(world):
            await asyncio.sleep(0.01)
    reply = await late
    # A sync with nothing to take over only reads, and may come before.
    assert reply.status == 401 or doing is _sync, reply
    assert await traces(world, ada.id) == {}


async def test_whatever_is_done_at_once_with_an_erasure_leaves_nothing(world: World) -> None:
    for _ in range(4):
        ada, bo = await world.people("ada", "bo")
        acts = [await doing(world, ada, bo) for doing in DOINGS]

        replies: list[Any] = await asyncio.gather(*(act() for act in acts))
        # So much at once may be told to come again, and then has done nothing.
        assert {reply.status for reply in replies} <= {200, 201, 202, 204, 401, 409, 503}, replies
        last = replies[-1]
        if last.error == "sole_owner":
            # She founded a community first, is its only owner, and stays.
            (await ada.delete(f"/api/communities/{replies[DOINGS.index(_found)].json['id']}")).ok(204)
        while last.status != 204:
            assert last.status in (409, 503), last
            last = await ada.delete(ME)
        assert await traces(world, ada.id) == {}
