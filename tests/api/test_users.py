"""Who people are: known from their identity provider, shown to those they share a space with."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests import cluster as clusters
from tests.api.clerks import clerk, clerk_settings, clerks, visitor
from tests.servers.clerk_server import ClerkServer
from tests.world import Person, World, open_world

__all__ = ["clerk", "clerks"]

SYNC = "/api/users/sync"


def picture(world: World) -> str:
    return f"{world.house.service.public_url}/blobs/ab/{'0' * 32}.png"


def path_of(person: Person) -> str:
    return f"/api/members/{person.id}/profile"


# Sync.


async def test_the_first_sync_makes_the_person_whom_clerk_knows(clerk: ClerkServer, clerks: World) -> None:
    clerk.put_user(
        "user_first",
        email="First@example.org",
        phone_number="+15550100",
        first_name="Ada",
        last_name="Lovelace",
    )
    ada = visitor(clerks, clerk, "user_first", email="claimed@example.org", name="Claimed")

    unknown = await ada.get("/api/communities")
    assert (unknown.status, unknown.error) == (403, "not_synced")
    # Nothing in the body is believed, nor read.
    claims = {"id": "user_other", "email": "eve@example.org", "emailVerified": True, "displayName": "Eve"}
    made = (await ada.post(SYNC, claims)).ok(201)
    assert made == {
        "id": "user_first",
        "displayName": "Ada Lovelace",
        "avatarUrl": "https://img.clerk.test/user_first",
        "bio": None,
        "email": "First@example.org",
        "emailVerified": True,
        "phoneNumber": "+15550100",
        "createdAt": made["createdAt"],
        "updatedAt": made["updatedAt"],
    }
    assert (await ada.post(SYNC)).ok(200) == made
    assert (await ada.get("/api/communities")).ok()["items"] == []


async def test_sync_takes_over_what_changed_at_clerk(clerk: ClerkServer, clerks: World) -> None:
    clerk.put_user("user_changing", email="a@example.org", first_name="Ada", updated_at=1000)
    ada = visitor(clerks, clerk, "user_changing")
    before = (await ada.post(SYNC)).ok(201)

    clerk.put_user(
        "user_changing", email="b@example.org", verified=False, first_name="Augusta", updated_at=2000
    )
    after = (await ada.post(SYNC)).ok(200)
    assert (after["displayName"], after["email"], after["emailVerified"]) == (
        "Augusta",
        "b@example.org",
        False,
    )
    assert after["updatedAt"] > before["updatedAt"]
    # Clerk's own copies do not all learn at once; an older record does not undo a newer.
    clerk.put_user("user_changing", email="a@example.org", first_name="Ada", updated_at=1000)
    assert (await ada.post(SYNC)).ok(200) == after


async def test_what_people_set_here_stays_until_they_clear_it(clerk: ClerkServer, clerks: World) -> None:
    clerk.put_user("user_own", email="own@example.org", first_name="Ada", phone_number="+15550100")
    ada = visitor(clerks, clerk, "user_own")
    (await ada.post(SYNC)).ok(201)
    profile = "/api/members/user_own/profile"
    chosen = {"displayName": "The Countess", "avatarUrl": picture(clerks), "phoneNumber": "+49 30 1"}
    (await ada.patch(profile, chosen)).ok(200)

    clerk.put_user("user_own", email="new@example.org", first_name="Augusta", phone_number="+15550199")
    synced = (await ada.post(SYNC)).ok(200)
    assert synced | chosen == synced
    assert synced["email"] == "new@example.org"

    (await ada.patch(profile, dict.fromkeys(chosen))).ok(200)
    synced = (await ada.post(SYNC)).ok(200)
    assert (synced["displayName"], synced["phoneNumber"]) == ("Augusta", "+15550199")
    assert synced["avatarUrl"] == "https://img.clerk.test/user_own"


async def test_a_name_or_address_that_no_person_may_have_is_not_taken_from_clerk_either(
    clerk: ClerkServer, clerks: World
) -> None:
    clerk.put_user("user_odd", email="o\u200bdd@example.org", first_name="A\u202eda", username="x" * 99)

    made = (await visitor(clerks, clerk, "user_odd").post(SYNC)).ok(201)
    assert (made["displayName"], made["email"], made["emailVerified"]) == ("New member", None, False)


@pytest.mark.parametrize("fault", ["hang_up", "error", "busy", "lie", "lost", "shape", "redirect"])
async def test_when_clerk_is_down_the_known_are_served_and_the_new_told_to_wait(
    clerk: ClerkServer, clerks: World, fault: Any
) -> None:
    known, new = f"user_known_{fault}", f"user_new_{fault}"
    clerk.put_user(known, first_name="Ada")
    clerk.put_user(new, first_name="Bo")
    stored = (await visitor(clerks, clerk, known).post(SYNC)).ok(201)

    clerk.user_fault = fault
    assert (await visitor(clerks, clerk, known).post(SYNC)).ok(200) == stored
    told = await visitor(clerks, clerk, new).post(SYNC)
    assert (told.status, told.error) == (503, "unavailable")
    assert told.headers["Retry-After"] == ("77" if fault == "busy" else "5")
    clerk.user_fault = None
    assert (await visitor(clerks, clerk, new).post(SYNC)).ok(201)["displayName"] == "Bo"


async def test_whom_clerk_does_not_know_any_more_is_not_let_in(clerk: ClerkServer, clerks: World) -> None:
    clerk.put_user("user_known", first_name="Ada")
    ada = visitor(clerks, clerk, "user_known")
    (await ada.post(SYNC)).ok(201)

    del clerk.users["user_known"]
    assert (await ada.post(SYNC)).status == 401
    assert (await visitor(clerks, clerk, "user_never").post(SYNC)).status == 401


async def test_a_person_of_another_issuer_is_somebody_else(
    clerk: ClerkServer, clerks: World, world: World
) -> None:
    ada = await world.person("ada")
    clerk.put_user(ada.id, email="impostor@example.org", first_name="Eve")

    assert (await visitor(clerks, clerk, ada.id).post(SYNC)).status == 401
    assert (await visitor(clerks, clerk, ada.id).get("/api/communities")).status == 401
    assert (await ada.get(path_of(ada))).ok()["email"] == ada.email


async def test_without_a_key_for_clerks_users_the_token_alone_makes_the_person(
    clerk: ClerkServer, cluster: clusters.Cluster, database: str, tmp_path: Path
) -> None:
    settings = clerk_settings(clerk, cluster, database, tmp_path, CLERK_SECRET_KEY="")
    async with open_world(settings) as clerks:
        ada = visitor(clerks, clerk, "user_keyless")
        made = (await ada.post(SYNC)).ok(201)
        assert (made["displayName"], made["email"]) == ("New member", None)
        assert (await ada.post(SYNC)).ok(200) == made
    assert clerk.user_fetches == 0


async def test_many_first_syncs_at_once_make_one_person(clerk: ClerkServer, clerks: World) -> None:
    clerk.put_user("user_many", email="many@example.org")
    ada = visitor(clerks, clerk, "user_many")

    replies = await asyncio.gather(*(ada.post(SYNC) for _ in range(20)))
    assert sorted(reply.status for reply in replies) == [200] * 19 + [201]


async def test_a_repeated_first_sync_with_a_key_answers_as_the_first_did(
    clerk: ClerkServer, clerks: World
) -> None:
    clerk.put_user("user_keyed", email="keyed@example.org")
    ada = visitor(clerks, clerk, "user_keyed")
    key = {"headers": {"Idempotency-Key": "first"}}

    assert (await ada.post(SYNC, **key)).ok(201) == (await ada.post(SYNC, **key)).ok(201)
    (await ada.post(SYNC)).ok(200)


async def test_thirty_syncs_a_minute_are_served(
    clerk: ClerkServer, cluster: clusters.Cluster, database: str, tmp_path: Path
) -> None:
    settings = clerk_settings(clerk, cluster, database, tmp_path, RATE_LIMIT_SCALE="1")
    async with open_world(settings) as clerks:
        clerk.put_user("user_eager")
        ada = visitor(clerks, clerk, "user_eager")
        served = 0
        while (reply := await ada.post(SYNC)).status != 429:
            served += 1
        # A slow machine gives the bucket time to fill again a little.
        assert 30 <= served == clerk.user_fetches < 60
        assert int(reply.headers["Retry-After"]) >= 1


# Profiles.


async def test_a_profile_is_shown_to_oneself_and_in_part_to_those_one_shares_a_space_with(
    world: World,
) -> None:
    ada, bo, eve = await world.people("ada", "bo", "eve")
    club = await world.community(ada, isPrivate=True, members=[bo])
    (await ada.patch(path_of(ada), {"bio": "Counts.", "phoneNumber": "+1 555"})).ok()

    own = (await ada.get(path_of(ada))).ok()
    assert own["email"] == ada.email and own["phoneNumber"] == "+1 555"
    shown = (await bo.get(path_of(ada))).ok()
    assert shown == {"id": ada.id, "displayName": "ada", "avatarUrl": None, "bio": "Counts."}
    missing = await eve.get("/api/members/user_nobody/profile")
    assert missing.status == 404
    for hidden in (await eve.get(path_of(ada)), await ada.get(path_of(eve)), await eve.get(path_of(bo))):
        assert hidden.json | {"requestId": ""} == missing.json | {"requestId": ""}

    await bo.delete(f"{club.url}/members", {"targetUserId": bo.id})
    assert (await bo.get(path_of(ada))).status == 404
    assert (await ada.get(path_of(bo))).status == 404
    assert (await world.nobody.get(path_of(ada))).status == 401


async def test_a_deleted_space_or_a_suspended_member_shows_nobody(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    club, other = await world.community(ada, members=[bo]), await world.community(ada, members=[cy])
    (await ada.delete(club.url)).ok(204)
    async with world.db.writing() as tx:
        await tx.run(
            "UPDATE members SET status = 'suspended' WHERE space_id = $1::uuid AND user_id = $2",
            other.id,
            cy.id,
        )

    for person in (bo, cy):
        assert (await person.get(path_of(ada))).status == 404
        assert (await ada.get(path_of(person))).status == 404


@pytest.mark.parametrize("user_id", ["me", "user_x'--", "u" * 65, "usér", "%2e%2e", "user_x%00"])
async def test_what_is_no_id_of_a_person_is_not_found_without_a_look(world: World, user_id: str) -> None:
    ada = await world.person("ada")

    before = world.db.trips
    assert (await ada.get(f"/api/members/{user_id}/profile")).status == 404
    assert world.db.trips - before <= (1 if user_id == "me" else 0)


async def test_people_change_their_own_profile_and_only_what_they_name(world: World) -> None:
    ada = await world.person("ada")
    before = (await ada.get(path_of(ada))).ok()

    wanted = {
        "displayName": "  Ada\u0301 Lovelace ",
        "bio": "First line.\nSecond.",
        "phoneNumber": "+44 (0)20-7946.0",
        "avatarUrl": picture(world),
    }
    changed = (await ada.patch(path_of(ada), wanted)).ok(200)
    assert changed == before | wanted | {
        "displayName": "Ad\u00e1 Lovelace",
        "updatedAt": changed["updatedAt"],
    }
    assert changed["updatedAt"] > before["updatedAt"]
    unchanged = {"id": "user_x", "email": "eve@example.org", "emailVerified": False, "createdAt": "2020"}
    assert (await ada.patch(path_of(ada), unchanged)).ok(200) == changed
    assert (await ada.patch(path_of(ada), {"bio": ""})).ok(200)["bio"] is None
    cleared = (await ada.patch(path_of(ada), dict.fromkeys(wanted))).ok(200)
    assert cleared["displayName"] == "New member"
    assert (cleared["bio"], cleared["phoneNumber"], cleared["avatarUrl"]) == (None, None, None)
    assert (await ada.get(path_of(ada))).ok() == cleared


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("displayName", "A", "too_short"),
        ("displayName", " A ", "too_short"),
        ("displayName", "A" * 81, "too_long"),
        ("displayName", "A\u202eda", "character"),
        ("displayName", "Ada\nLovelace", "character"),
        ("displayName", 5, "type"),
        ("bio", "b" * 501, "too_long"),
        ("bio", ["b"], "type"),
        ("phoneNumber", "+" * 21, "too_long"),
        ("phoneNumber", "call me", "format"),
        ("phoneNumber", 555, "type"),
        ("avatarUrl", "https://evil.example/a.png", "not_allowed"),
        ("avatarUrl", "javascript:alert(1)", "not_allowed"),
        ("avatarUrl", "http://localhost:3002@evil.example/blobs/a.png", "not_allowed"),
        ("avatarUrl", "h" * 2049, "too_long"),
    ],
)
async def test_a_field_that_cannot_be_is_named_and_nothing_is_changed(
    world: World, field: str, value: Any, code: str
) -> None:
    ada = await world.person("ada")
    before = (await ada.get(path_of(ada))).ok()

    reply = await ada.patch(path_of(ada), {"bio": "Changed."} | {field: value})
    assert (reply.error, reply.fields) == ("invalid", {f"/{field}": code})
    assert (await ada.get(path_of(ada))).ok() == before


async def test_the_longest_that_fits_fits(world: World) -> None:
    ada = await world.person("ada")

    longest = {"displayName": "\U0001f33b" * 80, "bio": "é" * 500, "phoneNumber": "0" * 20}
    assert (await ada.patch(path_of(ada), longest)).ok() | longest == (await ada.get(path_of(ada))).ok()


async def test_nobody_changes_the_profile_of_another(world: World) -> None:
    ada, bo, eve = await world.people("ada", "bo", "eve")
    await world.community(ada, admins=[bo])
    before = (await bo.get(path_of(bo))).ok()

    # Who may know of somebody hears that before hearing what is wrong with the wish.
    refused = await ada.patch(path_of(bo), {"displayName": "B"})
    assert (refused.status, refused.error) == (403, "forbidden")
    assert (await eve.patch(path_of(bo), {"displayName": "B"})).status == 404
    assert (await eve.patch("/api/members/user_nobody/profile", {"bio": "b"})).status == 404
    assert (await world.nobody.patch(path_of(bo), {"bio": "b"})).status == 401
    assert (await bo.get(path_of(bo))).ok() == before


async def test_a_changed_name_shows_and_sorts_wherever_the_person_is(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])
    members = f"{club.url}/members?limit=10"
    tag = (await ada.get(members)).headers["ETag"]

    (await bo.patch(path_of(bo), {"displayName": "Beatrix"})).ok()
    reply = await ada.get(members, headers={"If-None-Match": tag})
    assert [member["displayName"] for member in reply.ok(200)["items"]] == ["ada", "Beatrix"]


async def test_changes_of_one_profile_at_once_all_count(world: World) -> None:
    ada = await world.person("ada")

    wanted = {"displayName": "Ada L.", "bio": "Counts.", "phoneNumber": "+1 555"}
    for reply in await asyncio.gather(
        *(ada.patch(path_of(ada), {name: value}) for name, value in wanted.items())
    ):
        reply.ok(200)
    assert (await ada.get(path_of(ada))).ok() | wanted == (await ada.get(path_of(ada))).ok()
