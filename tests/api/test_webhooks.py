"""What Clerk tells of people unasked: believed when signed, recent and new, and taken once."""

import asyncio
import json
import secrets
from typing import Any

import pytest

from tests import cluster as clusters
from tests.api.clerks import clerk, clerk_settings, clerks, visitor
from tests.servers.clerk_server import ClerkServer, clerk_user, webhook_secret
from tests.world import Browser, Reply, World, open_world

__all__ = ["clerk", "clerks"]

HOOK = "/api/webhooks/clerk"
SYNC = "/api/users/sync"


async def deliver(world: World, delivery: tuple[dict[str, str], bytes]) -> Reply:
    headers, body = delivery
    return Reply(await world.client.post(HOOK, headers=headers, content=body))


def signed(clerk: ClerkServer, kind: str, data: dict[str, Any], **more: Any) -> tuple[dict[str, str], bytes]:
    """A delivery that was not made before."""
    more.setdefault("delivery_id", f"msg_{secrets.token_hex(8)}")
    return clerk.webhook(kind, data, **more)


async def known(world: World, clerk: ClerkServer) -> Browser:
    """Somebody who came here from Clerk as `ada@example.org`."""
    user_id = f"user_{secrets.token_hex(6)}"
    clerk.put_user(user_id, email="ada@example.org", first_name="Ada", updated_at=1000)
    ada = visitor(world, clerk, user_id)
    (await ada.post(SYNC)).ok(201)
    return ada


async def profile(person: Browser, user_id: str) -> Any:
    return (await person.get(f"/api/members/{user_id}/profile")).ok(200)


async def id_of(person: Browser) -> str:
    return (await person.post(SYNC)).ok(200)["id"]


async def test_a_changed_person_is_taken_over(clerk: ClerkServer, clerks: World) -> None:
    ada = await known(clerks, clerk)
    user_id = await id_of(ada)

    newer = clerk_user(
        user_id, email="new@example.org", verified=False, first_name="Augusta", updated_at=2000
    )
    reply = await deliver(clerks, signed(clerk, "user.updated", newer))
    assert (reply.status, reply.response.content) == (204, b"")
    now = await profile(ada, user_id)
    assert (now["displayName"], now["email"], now["emailVerified"]) == ("Augusta", "new@example.org", False)


async def test_deliveries_out_of_order_end_in_the_newest_state(clerk: ClerkServer, clerks: World) -> None:
    ada = await known(clerks, clerk)
    user_id = await id_of(ada)
    states = [clerk_user(user_id, first_name=f"Ada {n}", updated_at=1000 + n) for n in (3, 1, 4, 2)]

    for state in states:
        assert (await deliver(clerks, signed(clerk, "user.updated", state))).status == 204
    assert (await profile(ada, user_id))["displayName"] == "Ada 4"
    # What Clerk's API answers later may be older still.
    clerk.put_user(user_id, first_name="Ada", updated_at=1000)
    assert (await ada.post(SYNC)).ok(200)["displayName"] == "Ada 4"


async def test_deliveries_at_once_end_in_the_newest_state(clerk: ClerkServer, clerks: World) -> None:
    ada = await known(clerks, clerk)
    user_id = await id_of(ada)
    states = [clerk_user(user_id, first_name=f"Ada {n}", updated_at=1000 + n) for n in range(8)]

    replies = await asyncio.gather(
        *(deliver(clerks, signed(clerk, "user.updated", state)) for state in states)
    )
    assert {reply.status for reply in replies} == {204}
    assert (await profile(ada, user_id))["displayName"] == "Ada 7"


async def test_a_delivery_is_taken_once(clerk: ClerkServer, clerks: World) -> None:
    ada = await known(clerks, clerk)
    user_id = await id_of(ada)
    delivery = signed(clerk, "user.updated", clerk_user(user_id, first_name="Once", updated_at=None))
    later = signed(clerk, "user.updated", clerk_user(user_id, first_name="Later", updated_at=None))

    for reply in await asyncio.gather(*(deliver(clerks, delivery) for _ in range(4))):
        assert reply.status == 204
    assert (await deliver(clerks, later)).status == 204
    assert (await deliver(clerks, delivery)).status == 204
    assert (await profile(ada, user_id))["displayName"] == "Later"


def spoiled(clerk: ClerkServer, kind: str, data: dict[str, Any]) -> dict[str, tuple[dict[str, str], bytes]]:
    """Deliveries with one thing wrong in each."""
    headers, body = signed(clerk, kind, data)
    signature = headers["svix-signature"]
    other = signed(clerk, kind, {**data, "first_name": "Other"})
    return {
        "another secret": signed(clerk, kind, data, secret=webhook_secret()),
        "too old": signed(clerk, kind, data, age_s=400),
        "from the future": signed(clerk, kind, data, age_s=-400),
        "no signature": ({n: v for n, v in headers.items() if n != "svix-signature"}, body),
        "an empty signature": ({**headers, "svix-signature": ""}, body),
        "no id": ({n: v for n, v in headers.items() if n != "svix-id"}, body),
        "no time": ({n: v for n, v in headers.items() if n != "svix-timestamp"}, body),
        "another id": ({**headers, "svix-id": "msg_other"}, body),
        "another time": ({**headers, "svix-timestamp": str(int(headers["svix-timestamp"]) + 1)}, body),
        "a time in words": ({**headers, "svix-timestamp": "now"}, body),
        "the signature of another": ({**headers, "svix-signature": other[0]["svix-signature"]}, body),
        "another version": ({**headers, "svix-signature": signature.replace("v1,", "v2,")}, body),
        "a cut signature": ({**headers, "svix-signature": signature[:-4]}, body),
        "no base64": ({**headers, "svix-signature": "v1,é"}, body),
        "another body": (headers, other[1]),
        "one byte more": (headers, body + b" "),
        "another spelling": (headers, json.dumps(json.loads(body), indent=1).encode()),
    }


async def test_what_is_not_signed_as_it_must_be_changes_nothing(clerk: ClerkServer, clerks: World) -> None:
    ada = await known(clerks, clerk)
    user_id = await id_of(ada)
    before = await profile(ada, user_id)

    trips = clerks.db.trips
    for kind, data in (
        ("user.updated", clerk_user(user_id, first_name="Eve", updated_at=9000)),
        ("user.deleted", {"id": user_id, "object": "user", "deleted": True}),
    ):
        for fault, delivery in spoiled(clerk, kind, data).items():
            headers = [(name.encode(), value.encode()) for name, value in delivery[0].items()]
            reply = Reply(await clerks.client.post(HOOK, headers=headers, content=delivery[1]))
            assert (reply.status, reply.error) == (400, "bad_webhook"), fault
    assert clerks.db.trips == trips
    assert await profile(ada, user_id) == before


async def test_a_well_signed_body_of_another_shape_is_refused(clerk: ClerkServer, clerks: World) -> None:
    shapes: list[tuple[str, Any]] = [
        ("user.updated", {"object": "user"}),
        ("user.updated", {"id": 7}),
        ("user.updated", clerk_user("user_x") | {"email_addresses": "ada@example.org"}),
        ("user.deleted", {"deleted": True}),
        ("user.deleted", {"id": "user_x' OR 1=1"}),
        ("user.deleted", []),
    ]
    for kind, data in shapes:
        reply = await deliver(clerks, signed(clerk, kind, data))
        assert (reply.status, reply.error) == (400, "bad_webhook"), data


async def test_what_is_told_of_strangers_or_of_other_things_is_let_pass(
    clerk: ClerkServer, clerks: World
) -> None:
    for kind, data in (
        ("user.updated", clerk_user("user_stranger", email="stranger@example.org")),
        ("user.created", clerk_user("user_stranger", email="stranger@example.org")),
        ("user.deleted", {"id": "user_stranger", "deleted": True}),
        ("session.created", {"id": "sess_x"}),
    ):
        assert (await deliver(clerks, signed(clerk, kind, data))).status == 204
    async with clerks.db.reading() as read:
        assert not await read.value("SELECT EXISTS (SELECT FROM users WHERE id = 'user_stranger')")


async def test_a_person_deleted_at_clerk_is_erased_here(clerk: ClerkServer, clerks: World) -> None:
    ada = await known(clerks, clerk)
    user_id = await id_of(ada)
    (await ada.patch(f"/api/members/{user_id}/profile", {"bio": "Counts."})).ok()
    deleted = {"id": user_id, "object": "user", "deleted": True}

    assert (await deliver(clerks, signed(clerk, "user.deleted", deleted))).status == 204
    assert (await ada.get("/api/communities")).status == 401
    # Neither a late change nor a token still in date brings anything back.
    late = clerk_user(user_id, email="ada@example.org", first_name="Ada", updated_at=9000)
    assert (await deliver(clerks, signed(clerk, "user.updated", late))).status == 204
    assert (await deliver(clerks, signed(clerk, "user.deleted", deleted))).status == 204
    assert (await ada.post(SYNC)).status == 401
    async with clerks.db.reading() as read:
        row = await read.connection.fetchrow(
            "SELECT status, display_name, num_nonnulls(email, bio, avatar_url, phone_number) AS kept"
            " FROM users WHERE id = $1",
            user_id,
        )
        erased = await read.value(
            "SELECT count(*) FROM audit WHERE action = 'user.erase' AND target = $1", user_id
        )
    assert row is not None and tuple(row) == ("erased", "Deleted member", 0)
    assert erased == 1


async def test_a_sole_owner_deleted_at_clerk_leaves_the_space_to_those_who_are_in_it(
    clerk: ClerkServer, clerks: World
) -> None:
    ada, bo = await known(clerks, clerk), await known(clerks, clerk)
    user_id = await id_of(ada)
    shared = (await ada.post("/api/communities", {"name": "Shared"})).ok(201)
    lonely = (await ada.post("/api/communities", {"name": "Lonely"})).ok(201)
    (await bo.post(f"/api/communities/{shared['id']}/join")).ok(201)

    deleted = {"id": user_id, "object": "user", "deleted": True}
    assert (await deliver(clerks, signed(clerk, "user.deleted", deleted))).status == 204
    assert (await bo.get(f"/api/communities/{lonely['id']}")).status == 404
    assert (await bo.get(f"/api/communities/{shared['id']}")).ok()["ownerId"] == user_id
    members = (await bo.get(f"/api/communities/{shared['id']}/members")).ok()["items"]
    assert (members[0]["displayName"], members[0]["role"]) == ("Deleted member", "owner")


async def test_both_secrets_count_while_they_are_being_exchanged(
    clerk: ClerkServer, cluster: clusters.Cluster, database: str, tmp_path: Any
) -> None:
    old, new = clerk.webhook_secret, webhook_secret()
    settings = clerk_settings(clerk, cluster, database, tmp_path, CLERK_WEBHOOK_SECRETS=f"{new},{old}")
    data = clerk_user("user_stranger")
    async with open_world(settings) as clerks:
        for secret, status in ((old, 204), (new, 204), (webhook_secret(), 400)):
            reply = await deliver(clerks, signed(clerk, "user.updated", data, secret=secret))
            assert reply.status == status


@pytest.mark.parametrize("secrets_set", ["", None])
async def test_without_a_secret_or_without_clerk_nothing_is_taken(
    clerk: ClerkServer,
    cluster: clusters.Cluster,
    database: str,
    tmp_path: Any,
    world: World,
    secrets_set: str | None,
) -> None:
    delivery = signed(clerk, "user.updated", clerk_user("user_x"))
    if secrets_set is None:
        assert (await deliver(world, delivery)).status == 404
        return
    settings = clerk_settings(clerk, cluster, database, tmp_path, CLERK_WEBHOOK_SECRETS=secrets_set)
    async with open_world(settings) as clerks:
        assert (await deliver(clerks, delivery)).status == 404
