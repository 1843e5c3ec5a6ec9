"""The inbox: what people are told, what they can decide there, and that deciding there is deciding."""

import asyncio
import secrets
from typing import Any, Literal
from uuid import UUID

import msgspec
import pytest

from guildhall.db import Read
from guildhall.inbox.jobs import InboxDue, expire
from guildhall.inbox.queries import Filter, list_rows
from guildhall.spaces.invites import revoke_all
from guildhall.users.accounts import set_status
from guildhall.users.erasure import erase_departed
from guildhall.web.caller import Guest
from tests.api.test_erasure import caller_of
from tests.v1.listening import overhearing
from tests.v1.test_access_keys import make_key
from tests.v1.test_sign_in import mailed
from tests.world import Browser, Community, Hub, Person, World

INBOX = "/v1/notifications"
MISSING = "018f0000-0000-7000-8000-000000000000"


async def inbox(who: Browser, query: str = "") -> list[dict[str, Any]]:
    return (await who.get(f"{INBOX}{query}")).data()["notifications"]


async def kinds(who: Browser, query: str = "") -> list[str]:
    return [row["kind"] for row in await inbox(who, query)]


async def only(who: Browser, kind: str, status: str = "pending") -> dict[str, Any]:
    (row,) = await inbox(who, f"?kind={kind}&status={status}")
    return row


async def resolve(who: Browser, row: dict[str, Any], action: str) -> Any:
    return await who.post(f"{INBOX}/{row['id']}/resolve", {"action": action})


async def invite(owner: Person, space: Hub | Community, who: Person) -> dict[str, Any]:
    if isinstance(space, Hub):
        body = {"invitee": {"user_id": who.id}, "role": "viewer"}
        return (await owner.post(f"{space.url}/invites", body)).data(201)
    return (await owner.post(f"{space.url}/invite", {"email": who.email, "role": "member"})).ok(201)


async def audited(world: World, space: Hub | Community) -> list[str]:
    async with world.db.reading() as read:
        rows = await read.connection.fetch(
            "SELECT action FROM audit WHERE space_id = $1::text::uuid ORDER BY id", space.id
        )
    return [row["action"] for row in rows]


async def of_kind(world: World, kind: str, owner: Person) -> Hub | Community:
    return await world.hub(owner) if kind == "hub" else await world.community(owner, isPrivate=True)


async def test_an_invited_person_is_told_who_invites_them_to_what(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada)
    made = await invite(ada, hub, bo)

    row = await only(bo, "hub_invite")
    assert row == {
        "id": row["id"],
        "audience": "user",
        "hub_id": hub.id,
        "recipient_user_id": bo.id,
        "kind": "hub_invite",
        "status": "pending",
        "priority": 1,
        "source_kind": "hub_invite",
        "source_id": made["id"],
        "payload": {
            "hub": {"id": hub.id, "name": hub.body["name"], "accent": "amber"},
            "inviter": {"id": ada.id, "display": "ada"},
            "role": "viewer",
            "expires_at": made["expires_at"],
        },
        "created_at": row["created_at"],
        "expires_at": made["expires_at"],
    }
    assert await inbox(ada) == []


@pytest.mark.parametrize("kind", ["hub", "community"])
async def test_who_signs_up_finds_what_their_address_was_invited_to(world: World, kind: str) -> None:
    ada, stranger = await world.people("ada", "stranger")
    space = await of_kind(world, kind, ada)
    address = f"new.{secrets.token_hex(6)}@example.org"
    for to in (address.upper(), address.upper(), f"not.{address}"):
        if kind == "hub":
            (await ada.post(f"{space.url}/invites", {"invitee": {"email": to}})).ok(201)
        else:
            (await ada.post(f"{space.url}/invite", {"email": to})).ok(201)

    (await world.nobody.post("/v1/auth/email/request", {"email": address})).data(200)
    code = await mailed(world, address)
    pair = (await world.nobody.post("/v1/auth/email/verify", {"email": address, "code": code})).data(200)
    newcomer = Browser(world, pair["access_token"])
    row = await only(newcomer, f"{kind}_invite")
    assert row["payload"]["inviter"] == {"id": ada.id, "display": "ada"}
    assert await inbox(stranger) == []
    (await resolve(newcomer, row, "accept")).data(200)
    assert len(await space.roles()) == 2


@pytest.mark.parametrize("kind", ["hub", "community"])
async def test_accepting_from_the_inbox_is_accepting(world: World, kind: str) -> None:
    """By the link and from the inbox: the same members, records, and words to everybody."""
    outcomes = []
    for way in ("link", "inbox"):
        ada, bo = await world.people("ada", "bo")
        space = await of_kind(world, kind, ada)
        made = await invite(ada, space, bo)
        row = await only(bo, f"{kind}_invite")
        if way == "inbox":
            reply = (await resolve(bo, row, "accept")).data(200)
            assert reply == {"status": "resolved", "action": "accept", "resolution": "accepted"}
        else:
            prefix = "/v1" if kind == "hub" else "/api"
            (await bo.post(f"{prefix}/invites/{made['token']}/accept", {})).ok(200)
        assert (await resolve(bo, row, "accept")).error == "notification_not_pending"
        outcomes.append(
            {
                "roles": await space.roles(),
                "audit": await audited(world, space),
                "done": [(r["kind"], r["resolution"]) for r in await inbox(bo, "?status=resolved")],
                "joiner": await kinds(bo),
                "owner": [(r["kind"], r["payload"]["member"]["id"] == bo.id) for r in await inbox(ada)],
            }
        )
    assert outcomes[0] == outcomes[1]
    assert outcomes[0]["done"] == [(f"{kind}_invite", "accepted")]
    assert outcomes[0]["joiner"] == [f"{kind}_invite_accepted"]
    assert outcomes[0]["owner"] == [(f"{kind}_member_joined", True)]


@pytest.mark.parametrize("kind", ["hub", "community"])
async def test_a_declined_invite_is_dead_and_both_are_told(world: World, kind: str) -> None:
    ada, bo = await world.people("ada", "bo")
    space = await of_kind(world, kind, ada)
    made = await invite(ada, space, bo)

    row = await only(bo, f"{kind}_invite")
    assert (await resolve(bo, row, "decline")).data()["resolution"] == "declined"
    prefix = "/v1" if kind == "hub" else "/api"
    assert (await bo.post(f"{prefix}/invites/{made['token']}/accept", {})).error == "revoked"
    assert await kinds(bo) == [f"{kind}_invite_declined_by_you"]
    (told,) = await inbox(ada)
    assert (told["kind"], told["payload"]["invitee"]["display"]) == (f"{kind}_invite_declined", "bo")
    assert (await only(bo, f"{kind}_invite", "resolved"))["resolution"] == "declined"
    assert "invite.decline" in await audited(world, space)


@pytest.mark.parametrize("kind", ["hub", "community"])
async def test_who_is_not_in_a_space_learns_no_new_name_of_it(world: World, kind: str) -> None:
    """An invitation that waits names it as it is called now; whatever is over, as it was called then."""
    ada, bo, cy, di = await world.people("ada", "bo", "cy", "di")
    space = await of_kind(world, kind, ada)
    for person in (bo, cy, di):
        await invite(ada, space, person)
    (await ada.patch(space.url, {"name": "Second"})).ok(200)
    assert (await only(bo, f"{kind}_invite"))["payload"][kind]["name"] == "Second"
    for person, answer in ((bo, "decline"), (cy, "accept")):
        (await resolve(person, await only(person, f"{kind}_invite"), answer)).data(200)
    if kind == "hub":
        (await cy.post(f"{space.url}/leave", {})).data(200)
    else:
        (await cy.delete(f"{space.url}/members", {"targetUserId": cy.id})).ok(204)
    (await ada.patch(space.url, {"name": "Third"})).ok(200)
    for person, status, named in (
        (bo, "resolved", space.body["name"]),
        (bo, "pending", "Second"),
        (cy, "resolved", space.body["name"]),
        (di, "pending", "Third"),
    ):
        assert [row["payload"][kind]["name"] for row in await inbox(person, f"?status={status}")] == [named]
    # Nor of the people in it.
    (await ada.patch("/api/members/" + ada.id + "/profile", {"displayName": "Ada the Third"})).ok()
    for person, status, shown in ((bo, "resolved", False), (cy, "resolved", False), (di, "pending", True)):
        row = await only(person, f"{kind}_invite", status)
        assert row["payload"]["inviter"] == {"id": ada.id, **({"display": "Ada the Third"} if shown else {})}


async def test_an_invite_leaves_the_inbox_however_it_ends(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hub = await world.hub(ada, admins=[bo])

    made = await invite(ada, hub, cy)
    (await ada.delete(f"{hub.url}/invites/{made['id']}")).ok()
    assert [row["resolution"] for row in await inbox(cy, "?status=resolved")] == ["dismissed"]
    made = await invite(ada, hub, cy)
    made = (await ada.post(f"{hub.url}/invites/{made['id']}/regenerate", {})).data(201)
    assert (await only(cy, "hub_invite"))["source_id"] == made["id"]
    made = await invite(ada, hub, cy)
    assert (await only(cy, "hub_invite"))["source_id"] == made["id"]
    made = await invite(bo, hub, cy)
    # With the right of who made it.
    (await ada.patch(f"{hub.url}/members/{bo.id}", {"role": "viewer"})).ok()
    assert await inbox(cy) == []
    assert len(await inbox(cy, "?status=resolved")) == 5


@pytest.mark.parametrize("kind", ["hub", "community"])
@pytest.mark.parametrize("how", ["erased", "disabled", "all taken back"])
async def test_what_somebody_offered_leaves_the_inbox_with_their_account(
    world: World, kind: str, how: str
) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    space = await of_kind(world, kind, ada)
    await world.join(space.id, bo, "admin")
    made = await invite(bo, space, cy)
    row = await only(cy, f"{kind}_invite")
    with overhearing(world) as told:
        if how == "erased":
            (await bo.delete("/api/users/me")).ok()
        elif how == "disabled":
            async with world.db.writing() as tx:
                await set_status(tx, bo.id, "disabled")
        else:
            assert await revoke_all(world.db) >= 1

    assert (await inbox(cy), (await only(cy, f"{kind}_invite", "resolved"))["resolution"]) == (
        [],
        "dismissed",
    )
    assert (await cy.get(f"{INBOX}/summary")).data()["needs_action_pending"] == 0
    heard = [(one["type"], (one["people"] or [one["space"]])[0]) for one in told]
    assert heard.count(("notification.resolved", cy.id)) == 1
    assert heard.count(("hub.members.changed", space.id)) == (kind == "hub" and how == "erased")
    prefix = "/v1" if kind == "hub" else "/api"
    assert (await cy.post(f"{prefix}/invites/{made['token']}/accept", {})).error == "revoked"
    assert (await resolve(cy, row, "accept")).error == "notification_not_pending"


@pytest.mark.parametrize("kind", ["hub", "community"])
@pytest.mark.parametrize("how", ["deleted", "erased with its owner"])
async def test_an_invited_person_hears_that_the_space_is_gone(world: World, kind: str, how: str) -> None:
    ada, cy = await world.people("ada", "cy")
    space = await of_kind(world, kind, ada)
    await invite(ada, space, cy)
    row = await only(cy, f"{kind}_invite")
    with overhearing(world) as told:
        if how == "deleted":
            (await ada.delete(space.url)).ok()
        else:
            async with world.db.writing() as tx:
                guest = Guest(world.db, world.house.service, "127.0.0.1", "request", None)
                await erase_departed(tx, guest, caller_of(world, ada).issuer, ada.id)
    heard = [(one["type"], one["event"]["entity_id"]) for one in told if one["people"] == [cy.id]]
    assert heard == [("notification.resolved", row["id"])]
    assert await inbox(cy) == []


@pytest.mark.parametrize("kind", ["hub", "community"])
async def test_nobody_offers_ownership_to_or_in_the_name_of_a_closed_account(world: World, kind: str) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    space = await of_kind(world, kind, ada)
    for person in (bo, cy):
        await world.join(space.id, person, "admin")
    offer = {"target_user_id" if kind == "hub" else "targetUserId": bo.id}

    async def close(person: Person, status: Literal["active", "disabled"] = "disabled") -> None:
        async with world.db.writing() as tx:
            await set_status(tx, person.id, status)

    (await ada.post(f"{space.url}/ownership-transfer", offer)).ok(201)
    await close(bo)
    assert (await ada.post(f"{space.url}/ownership-transfer", offer)).error == "invalid_target"
    await close(bo, "active")
    (await ada.post(f"{space.url}/ownership-transfer", offer)).ok(201)
    await close(ada)
    async with world.db.reading() as read:
        rows = await read.connection.fetch(
            "SELECT status, resolution FROM notifications WHERE recipient_user_id = $1", bo.id
        )
    assert [tuple(row) for row in rows] == [("resolved", "dismissed")] * 2


@pytest.mark.parametrize("kind", ["hub", "community"])
async def test_an_answer_that_comes_too_late_closes_what_has_lost_its_ground(world: World, kind: str) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    space = await of_kind(world, kind, ada)
    await world.join(space.id, bo, "admin")
    await invite(ada, space, cy)
    field = "target_user_id" if kind == "hub" else "targetUserId"
    (await ada.post(f"{space.url}/ownership-transfer", {field: bo.id})).ok(201)
    rows = (await only(cy, f"{kind}_invite"), await only(bo, f"{kind}_ownership_transfer"))
    for person, row, code in ((cy, rows[0], "invite_revoked"), (bo, rows[1], "transfer_canceled")):
        async with world.db.writing() as tx:
            if person is cy:
                await tx.run(
                    "UPDATE invites SET revoked_at = now() WHERE space_id = $1::text::uuid", space.id
                )
            else:
                await tx.run(
                    "UPDATE transfers SET cancelled_at = now() WHERE space_id = $1::text::uuid", space.id
                )
        assert (await resolve(person, row, "decline")).error == code
        assert await inbox(person) == []
        assert (await only(person, row["kind"], "resolved"))["resolution"] == "dismissed"


@pytest.mark.parametrize("kind", ["hub", "community"])
@pytest.mark.parametrize("way", ["direct", "inbox"])
async def test_ownership_is_taken_over_or_declined_in_the_inbox(world: World, kind: str, way: str) -> None:
    ada, bo = await world.people("ada", "bo")
    space = await of_kind(world, kind, ada)
    await world.join(space.id, bo, "admin")
    field = "target_user_id" if kind == "hub" else "targetUserId"

    async def answer(action: str) -> str:
        made = await ada.post(f"{space.url}/ownership-transfer", {field: bo.id})
        offer = made.data(201) if kind == "hub" else made.ok(201)
        row = await only(bo, f"{kind}_ownership_transfer")
        assert (row["source_id"], row["priority"]) == (offer["id"], 2)
        assert row["payload"]["initiator"] == {"id": ada.id, "display": "ada"}
        if way == "inbox":
            (await resolve(bo, row, action)).ok(200)
        else:
            verb = "accept" if action == "accept" else "cancel"
            (await bo.post(f"{space.url}/ownership-transfer/{offer['id']}/{verb}", {})).ok(200)
        (done, *_) = await inbox(bo, f"?kind={kind}_ownership_transfer&status=resolved")
        return done["resolution"]

    assert await answer("decline") == "declined"
    assert (await space.roles(), await inbox(ada)) == ({"ada": "owner", "bo": "admin"}, [])
    assert await answer("accept") == "accepted"
    assert await space.roles() == {"bo": "owner", "ada": "admin"}
    for person, side in ((ada, "old_owner"), (bo, "new_owner")):
        receipt = await only(person, f"{kind}_ownership_transferred")
        assert receipt["source_id"].endswith(f":{side}") and receipt["priority"] == 1
        assert receipt["payload"]["new_owner"] == {"id": bo.id, "display": "bo"}
        assert receipt["payload"]["old_owner"] == {"id": ada.id, "display": "ada"}


async def test_an_offered_hub_leaves_the_inbox_with_the_offer_and_with_the_membership(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, contributors=[bo])

    offer = (await ada.post(f"{hub.url}/ownership-transfer", {"target_user_id": bo.id})).data(201)
    (await ada.post(f"{hub.url}/ownership-transfer/{offer['id']}/cancel", {})).ok()
    assert (await only(bo, "hub_ownership_transfer", "resolved"))["resolution"] == "dismissed"
    (await ada.post(f"{hub.url}/ownership-transfer", {"target_user_id": bo.id})).data(201)
    row = await only(bo, "hub_ownership_transfer")
    (await bo.post(f"{hub.url}/leave", {})).ok()
    for status in ("pending", "resolved"):
        assert await inbox(bo, f"?status={status}") == []
    assert (await resolve(bo, row, "accept")).error == "not_found"
    await world.join(hub.id, bo, "viewer")
    assert {r["resolution"] for r in await inbox(bo, "?status=resolved")} == {"dismissed"}


async def test_a_new_rank_in_a_community_is_told_to_whom_it_was_given(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])

    for role in ("moderator", "admin"):
        (await ada.patch(f"{club.url}/members", {"targetUserId": bo.id, "role": role})).ok()
    row = await only(bo, "community_role_changed")
    assert row["payload"] == {
        "community": {"id": club.id, "name": "Gardeners"},
        "by": {"id": ada.id, "display": "ada"},
        "before": "moderator",
        "role": "admin",
    }
    (await bo.delete(f"{club.url}/members", {"targetUserId": bo.id})).ok()
    assert await inbox(bo) == []


async def test_what_is_no_answer_is_refused_and_changes_nothing(world: World) -> None:
    ada, bo, eve = await world.people("ada", "bo", "eve")
    hub = await world.hub(ada)
    await invite(ada, hub, bo)
    row = await only(bo, "hub_invite")

    assert (await bo.post(f"{INBOX}/{row['id']}/resolve", {"action": 5})).error == "invalid_json"
    for action in ("", "merge", "dismiss"):
        assert (await resolve(bo, row, action)).error == "invalid_action_for_notification_kind"
    assert (await bo.post(f"{INBOX}/{row['id']}/dismiss")).error == "dismiss_not_applicable_to_decision"
    for stranger in (ada, eve):
        for verb in ("resolve", "seen", "dismiss"):
            assert (await stranger.post(f"{INBOX}/{row['id']}/{verb}", {"action": "accept"})).status == 404
    for raw in (MISSING, "mine"):
        assert (await bo.post(f"{INBOX}/{raw}/seen")).error == "not_found"
    (await resolve(bo, row, "accept")).ok()
    (receipt,) = await inbox(ada)
    assert (await resolve(ada, receipt, "accept")).error == "resolve_not_applicable_to_receipt"
    assert (await world.nobody.get(INBOX)).error == "unauthorized"


async def test_many_answers_at_once_are_one(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada)
    await invite(ada, hub, bo)
    row = await only(bo, "hub_invite")

    replies = await asyncio.gather(*(resolve(bo, row, action) for action in ("accept", "decline") * 4))
    assert [reply.status for reply in replies].count(200) == 1
    assert {reply.error for reply in replies} <= {
        *(None, "notification_not_pending", "invite_used", "invite_revoked")
    }
    assert len(await kinds(ada)) == 1


async def test_what_is_out_of_time_is_hidden_at_once_and_closed_by_a_job(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada)
    made = await invite(ada, hub, bo)
    row = await only(bo, "hub_invite")
    async with world.db.writing() as tx:
        await tx.run("UPDATE invites SET expires_at = now() WHERE id = $1::text::uuid", made["id"])
        await tx.run("UPDATE notifications SET expires_at = now() WHERE id = $1::text::uuid", row["id"])

    for _ in range(2):
        assert await inbox(bo) == []
        assert (await bo.get(f"{INBOX}/summary")).data()["needs_action_pending"] == 0
        assert (await only(bo, "hub_invite", "expired"))["id"] == row["id"]
        assert (await resolve(bo, row, "accept")).error == "invite_expired"
        await expire(world.house.work, InboxDue())
    async with world.db.reading() as read:
        status = await read.value("SELECT status FROM notifications WHERE id = $1::text::uuid", row["id"])
    assert status == "expired"


async def put(
    world: World, count: int, to: Person, hub: Hub | None = None, kind: str = "system_notice"
) -> list[str]:
    """Notifications of one moment, past the API; of a hub, to one of its members."""
    async with world.db.writing() as tx:
        rows = await tx.connection.fetch(
            "INSERT INTO notifications (id, space_id, recipient_user_id, member_user_id, kind, bucket,"
            " source_kind, source_id) SELECT gen_random_uuid(), $1::text::uuid, $2,"
            " CASE WHEN $1 IS NOT NULL THEN $2 END, $3, 'update', $3, gen_random_uuid()::text"
            " FROM generate_series(1, $4) RETURNING id::text",
            None if hub is None else hub.id,
            to.id,
            kind,
            count,
        )
    return [row["id"] for row in rows]


async def test_pages_hold_each_row_once_also_of_one_moment(world: World) -> None:
    ada = await world.person("ada")
    made = await put(world, 7, ada)

    seen, cursor = [], ""
    while True:
        page = (await ada.get(f"{INBOX}?limit=3{cursor}")).data()
        seen += [row["id"] for row in page["notifications"]]
        if not page["has_more"]:
            assert "next_cursor" not in page
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert sorted(seen) == sorted(made)
    assert len(await inbox(ada, "?limit=9999")) == 7


@pytest.mark.parametrize(
    ("query", "code"),
    [
        *((f"limit={raw}", "invalid_limit") for raw in ("0", "-1", "x", "1.5", "٣")),
        *((f"since={raw}", "invalid_since") for raw in ("yesterday", "2026-01-01", "0001-01-01T00:00:00Z")),
        ("cursor=nonsense", "invalid_cursor"),
    ],
)
async def test_a_list_that_makes_no_sense_is_refused(world: World, query: str, code: str) -> None:
    ada = await world.person("ada")
    refused = await ada.get(f"{INBOX}?{query}")
    assert (refused.status, refused.error) == (400, code)


async def test_lists_and_counts_are_filtered(world: World) -> None:
    ada, eve = await world.people("ada", "eve")
    hub, other = await world.hub(ada), await world.hub(ada)
    await put(world, 2, ada, hub, kind="dream_run_completed")
    await put(world, 1, ada, other, kind="hub_frozen")
    (notice,) = await put(world, 1, ada)
    (await ada.post(f"{INBOX}/{notice}/seen")).ok()

    assert sorted(await kinds(ada)) == ["dream_run_completed"] * 2 + ["hub_frozen", "system_notice"]
    assert await kinds(ada, f"?hub={hub.id}") == ["dream_run_completed"] * 2
    assert sorted(await kinds(ada, "?kind=hub_frozen&kind=system_notice")) == ["hub_frozen", "system_notice"]
    assert "system_notice" not in await kinds(ada, "?unseen_only=true")
    assert len(await kinds(ada, "?unseen_only=yes")) == 4
    assert await kinds(ada, "?since=2999-01-01T00:00:00Z") == []
    assert await kinds(ada, "?status=resolved&resolution=accepted") == []
    for raw in (hub.id, MISSING, "nonsense"):
        assert await kinds(eve, f"?hub={raw}") == []
    summary = (await ada.get(f"{INBOX}/summary")).data()
    assert (summary["updates_pending"], summary["updates_unseen"]) == (4, 3)
    assert summary["by_kind"]["dream_run_completed"] == {"pending": 2, "unseen": 2}
    assert summary["by_kind"]["checklist"] == {"pending": 0, "unseen": 0}
    of_hub = (await ada.get(f"{INBOX}/summary?hub={other.id}")).data()
    assert (of_hub["updates_pending"], of_hub["needs_action_pending"]) == (1, 0)


class Explained(Read):
    """Runs what it is asked only to see how many notifications that takes: `most` at most."""

    def __init__(self, read: Read, most: int) -> None:
        self.read = read
        self.most = most

    async def many(self, row: Any, sql: Any, *args: object) -> list[Any]:
        connection = self.read.connection
        await connection.execute("PREPARE wanted AS " + sql)
        values = ", ".join("NULL" if arg is None else f"'{arg}'" for arg in args)
        explain = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE wanted ({values})"
        explained = await connection.fetchval(explain)
        await connection.execute("DEALLOCATE wanted")
        assert _looked_at(msgspec.json.decode(explained)[0]["Plan"]) <= self.most, explained
        return []


def _looked_at(plan: dict[str, Any]) -> int:
    count = sum(_looked_at(part) for part in plan.get("Plans", ()))
    if plan.get("Relation Name") == "notifications":
        each = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        count += round(each * plan["Actual Loops"])
    return count


async def test_a_long_inbox_is_read_in_the_order_of_an_index(world: World) -> None:
    """A page, and a hub's count, look at what they show, however much there is for oneself and for others."""
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, viewers=[bo])
    async with world.db.writing() as tx:
        for kind, space, bucket, status in (
            ("system_notice", None, "update", "pending"),
            ("review_stale", hub.id, "action", "resolved"),
            ("dream_run_completed", hub.id, "update", "pending"),
        ):
            await tx.run(
                "INSERT INTO notifications (id, space_id, recipient_user_id, kind, bucket, status,"
                " resolution, source_kind, source_id, created_at)"
                " SELECT gen_random_uuid(), $1::text::uuid, $2, $3, $4, $5,"
                " 'kept', 'test', gen_random_uuid()::text, now() - n * interval '1 second'"
                " FROM generate_series(1, 3000) AS n",
                space,
                ada.id,
                kind,
                bucket,
                status,
            )
        await tx.connection.execute("ANALYZE notifications")
    wanted: dict[str, Any] = {"kinds": None, "resolutions": None, "unseen_only": False, "since": None}
    caller = caller_of(world, ada)
    for plans in ("force_custom_plan", "force_generic_plan"):
        async with world.db.reading() as read:
            await read.connection.execute(f"SET plan_cache_mode = {plans}")
            for status in ("pending", "resolved"):
                for space in (None, UUID(hub.id)):
                    page = Filter(hub=space, status=status, before=None, limit=50, **wanted)
                    await list_rows(Explained(read, 100), caller, page)
            pulse = "SELECT count(*) FROM hub_pulse($1::text::uuid, $2, 'viewer')"
            await Explained(read, 1).many(object, pulse, hub.id, bo.id)
            await read.connection.execute("RESET plan_cache_mode")


async def test_many_are_marked_at_once_but_never_a_decision(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub, other = await world.hub(bo), await world.hub(bo)
    await invite(bo, await world.hub(bo, admins=[]), ada)
    for space in (hub, other):
        await world.join(space.id, ada, "viewer")
    await put(world, 2, ada, hub, kind="hub_restored")
    await put(world, 3, ada, other, kind="hub_restored")
    await put(world, 1, ada)

    async def bulk(verb: str, body: Any = None, **headers: str) -> int:
        return (await ada.post(f"{INBOX}/{verb}", body, headers=headers)).data(200)["affected"]

    for verb in ("seen", "dismiss"):
        for kind in ("hub_invite", "checklist", "decision_gate"):
            refused = await ada.post(f"{INBOX}/{verb}", {"kinds": ["system_notice", kind]})
            assert refused.error == "bulk_not_allowed_for_decision_kind"
        assert (await ada.post(f"{INBOX}/{verb}", {"kinds": [], "since": "x"})).error == "invalid_since"
        assert await bulk(verb, {"kinds": []}, **{"X-Hub-ID": hub.id}) == 2
        assert await bulk(verb, {"kinds": ["hub_restored"], "hub": other.id}, **{"X-Hub-ID": hub.id}) == 3
        assert await bulk(verb, {"kinds": []}, **{"X-Hub-ID": "nonsense"}) == 0
        assert await bulk(verb, {"since": "2999-01-01T00:00:00+01:00"}) == 0
        assert await bulk(verb) == 1
        assert await bulk(verb) == 0
    row = await only(ada, "hub_invite")
    assert "seen_at" not in row
    first = (await ada.post(f"{INBOX}/{row['id']}/seen")).data(200)
    assert first == {"status": "seen"}
    at = (await only(ada, "hub_invite"))["seen_at"]
    (await ada.post(f"{INBOX}/{row['id']}/seen")).ok(200)
    assert (await only(ada, "hub_invite"))["seen_at"] == at


async def test_what_is_seen_is_told_with_the_time_that_is_kept(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    one, other = await put(world, 1, ada, hub), await put(world, 1, ada)
    for see in (ada.post(f"{INBOX}/{one[0]}/seen"), ada.post(f"{INBOX}/seen", {})):
        with overhearing(world) as told:
            (await see).ok(200)
        (heard,) = [each["event"] for each in told]
        assert heard["change"] == "seen" and heard["entity_id"] in one + other
        (row,) = [row for row in await inbox(ada) if row["id"] == heard["entity_id"]]
        assert heard["seen_at"] == row["seen_at"] and row["seen_at"].endswith("Z")
    with overhearing(world) as told:
        await put(world, 1, ada, hub)
        (await ada.post(f"{hub.url}/visit", {})).ok()
    (row,) = [row for row in await inbox(ada) if row["id"] == told[0]["event"]["entity_id"]]
    assert told[0]["event"]["seen_at"] == row["seen_at"]


async def test_many_marks_are_one_hint_for_each_space(world: World) -> None:
    """A stream loses what is more than it can hold, and whoever hears of it looks again anyway."""
    ada = await world.person("ada")
    hub = await world.hub(ada)
    await put(world, 30, ada, hub, "hub_restored")
    await put(world, 30, ada)
    for verb, change in (("seen", "seen"), ("dismiss", "dismissed")):
        with overhearing(world) as told:
            assert (await ada.post(f"{INBOX}/{verb}", {})).data()["affected"] == 60
        assert sorted((one["about"] or "", one["event"]["hub_id"]) for one in told) == [
            ("", ""),
            (hub.id, hub.id),
        ]
        assert {one["event"]["change"] for one in told} == {change}
        assert not any("entity_id" in one["event"] for one in told)


async def test_who_visits_has_seen_what_is_new_there(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub, other = await world.hub(ada, viewers=[bo]), await world.hub(ada, viewers=[bo])
    here = await put(world, 2, bo, hub, kind="hub_restored")
    (there,) = await put(world, 1, bo, other, kind="hub_restored")
    await put(world, 1, ada, hub, kind="hub_restored")
    (await bo.post(f"{hub.url}/visit", {})).ok()

    assert {row["id"]: "seen_at" in row for row in await inbox(bo)} == {
        **dict.fromkeys(here, True),
        there: False,
    }
    assert not any("seen_at" in row for row in await inbox(ada))


async def test_a_hub_counts_the_decisions_that_wait_in_it(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, viewers=[bo])
    (await ada.post(f"{hub.url}/ownership-transfer", {"target_user_id": bo.id})).data(201)

    summary = (await bo.get(f"{hub.url}/summary")).data()
    assert summary["stats"]["pending_review"] == 1
    assert (await ada.get(f"{hub.url}/summary")).data()["stats"]["pending_review"] == 0


async def test_a_key_sees_its_hubs_and_decides_what_it_could_decide_directly(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub, other = await world.hub(ada, viewers=[bo]), await world.hub(ada, viewers=[bo])
    for space in (hub, other):
        (await ada.post(f"{space.url}/ownership-transfer", {"target_user_id": bo.id})).data(201)
    await invite(ada, await world.hub(ada), bo)
    _, blind = await make_key(bo, scopes=["hub:read"])
    _, narrow = await make_key(bo, hub_id=hub.id, scopes=["dream:read"])
    _, reader = await make_key(bo, scopes=["dream:read"])
    _, manager = await make_key(bo, scopes=["dream:read", "hub:manage"])

    assert (await blind.get(INBOX)).error == "permission_denied"
    (row,) = await inbox(narrow)
    assert row["hub_id"] == hub.id
    assert sorted(await kinds(reader)) == ["hub_invite", "hub_ownership_transfer", "hub_ownership_transfer"]
    assert (await resolve(reader, row, "accept")).error == "permission_denied"
    assert (await resolve(reader, await only(bo, "hub_invite"), "decline")).ok(200)
    (await resolve(manager, row, "accept")).ok(200)
    assert await hub.roles() == {"bo": "owner", "ada": "admin"}
    club = await world.community(ada)
    await invite(ada, club, bo)
    assert (await resolve(manager, await only(bo, "community_invite"), "accept")).error == "forbidden"


async def test_nothing_is_left_of_who_was_erased(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada)
    await invite(ada, hub, bo)
    (await resolve(bo, await only(bo, "hub_invite"), "accept")).ok()
    (await bo.delete("/api/users/me")).ok()

    (row,) = await inbox(ada)
    assert row["payload"]["member"] == {"id": bo.id, "display": "Deleted member"}
    async with world.db.reading() as read:
        left = await read.value("SELECT count(*) FROM notifications WHERE recipient_user_id = $1", bo.id)
    assert left == 0
