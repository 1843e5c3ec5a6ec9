"""Members of hubs: joining, ranks, leaving, and whose a hub is."""

import asyncio

import pytest

from tests.world import World

MISSING = "018f0000-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("word", "role"),
    [
        ("admin", "admin"),
        ("contributor", "contributor"),
        ("member", "contributor"),
        ("viewer", "viewer"),
        ("reader", "viewer"),
        ("", "contributor"),
        (None, "contributor"),
    ],
)
async def test_a_role_has_its_aliases_wherever_it_is_given(world: World, word: str | None, role: str) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hub = await world.hub(ada, contributors=[cy])
    body = {} if word is None else {"role": word}

    added = await ada.post(f"{hub.url}/members", {"user_id": bo.id} | body)
    assert added.data(200) == {"status": "added", "user_id": bo.id, "role": role}
    changed = (await ada.patch(f"{hub.url}/members/{cy.id}", body)).data()
    assert changed == {"status": "updated", "user_id": cy.id, "role": role}
    assert (await ada.post(f"{hub.url}/invites", body)).data(201)["role"] == role
    assert await hub.roles() == {"ada": "owner", "bo": role, "cy": role}


async def test_nobody_is_made_owner_by_a_word(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hub = await world.hub(ada, admins=[bo])

    for role in ("owner", "Admin", "moderator", " viewer"):
        for reply in (
            await ada.post(f"{hub.url}/members", {"user_id": cy.id, "role": role}),
            await ada.patch(f"{hub.url}/members/{bo.id}", {"role": role}),
            await bo.post(f"{hub.url}/invites", {"role": role}),
        ):
            assert (reply.status, reply.error) == (400, "invalid_role")
            assert [e["pointer"] for e in reply.details["errors"]] == ["/role"]
    assert await hub.roles() == {"ada": "owner", "bo": "admin"}


async def test_who_is_added_must_exist_and_be_new(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, viewers=[bo])

    for user_id, status, code in (
        ("", 400, "missing_user_id"),
        ("user_nobody", 404, "not_found"),
        ("no such person!", 404, "not_found"),
        ("x" * 70, 404, "not_found"),
        (bo.id, 409, "already_member"),
        (ada.id, 409, "already_member"),
        (7, 400, "invalid_json"),
    ):
        reply = await ada.post(f"{hub.url}/members", {"user_id": user_id, "role": "admin"})
        assert (reply.status, reply.error) == (status, code), user_id
    assert (await ada.post(f"{hub.url}/members", {})).error == "missing_user_id"
    assert await hub.roles() == {"ada": "owner", "bo": "viewer"}


async def test_admins_manage_each_other_and_nobody_touches_the_owner(world: World) -> None:
    ada, ben, cy, dee = await world.people("ada", "ben", "cy", "dee")
    hub = await world.hub(ada, admins=[ben, cy], viewers=[dee])

    for who in (ada, ben):
        assert (await who.patch(f"{hub.url}/members/{ada.id}", {"role": 5})).error == "cannot_change_owner"
        assert (await who.delete(f"{hub.url}/members/{ada.id}")).error == "cannot_remove_owner"
        for missing in ("user_nobody", MISSING, "x" * 100):
            for reply in (
                await who.patch(f"{hub.url}/members/{missing}", {"role": 5}),
                await who.delete(f"{hub.url}/members/{missing}"),
            ):
                assert (reply.status, reply.error) == (404, "not_found")
    assert (await ben.patch(f"{hub.url}/members/{cy.id}", {"role": "viewer"})).data()["role"] == "viewer"
    assert (await ben.delete(f"{hub.url}/members/{dee.id}")).data() == {
        "status": "removed",
        "user_id": dee.id,
    }
    assert (await ben.delete(f"{hub.url}/members/{dee.id}")).error == "not_found"
    assert (await ben.patch(f"{hub.url}/members/{ben.id}", {"role": "viewer"})).data()["role"] == "viewer"
    assert (await ben.patch(f"{hub.url}/members/{ben.id}", {"role": "admin"})).error == "forbidden"
    assert await hub.roles() == {"ada": "owner", "ben": "viewer", "cy": "viewer"}


async def test_all_but_the_owner_may_leave_and_then_have_no_rights(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, admins=[bo])

    assert (await ada.post(f"{hub.url}/leave", {})).error == "ownership_transfer_required"
    assert (await bo.post(f"{hub.url}/leave", {})).data() == {"status": "left", "hub_id": hub.id}
    assert (await bo.post(f"{hub.url}/leave", {})).error == "not_member"
    assert [row["hub"]["id"] for row in (await bo.get("/v1/hubs")).data()].count(hub.id) == 0
    refused = await ada.post(f"{hub.url}/leave", {})
    assert (refused.status, refused.error) == (400, "last_owner_delete_required")


async def test_ownership_goes_to_a_member_who_accepts_it(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hub = await world.hub(ada, viewers=[bo], contributors=[cy])
    url = f"{hub.url}/ownership-transfer"

    for body, code in (
        ({}, "missing_target_user_id"),
        ({"target_user_id": ""}, "missing_target_user_id"),
        ({"target_user_id": 1}, "invalid_json"),
        ({"target_user_id": ada.id}, "invalid_target"),
        ({"target_user_id": "user_nobody"}, "invalid_target"),
    ):
        reply = await ada.post(url, body)
        assert (reply.status, reply.error) == (400, code)
    offer = (await ada.post(url, {"target_user_id": bo.id})).data(201)
    assert (offer["hub_id"], offer["initiated_by"], offer["target_user_id"]) == (hub.id, ada.id, bo.id)
    assert offer["target_user_name"] == "bo"
    assert "accepted_at" not in offer and "cancelled_at" not in offer
    # Somebody's address is theirs: the target sees it here, the others do not.
    assert "target_user_email" not in offer
    for who, email in ((ada, None), (bo, bo.email), (cy, None)):
        pending = (await who.get(hub.url)).data()["pending_transfer"]
        assert (pending["id"], pending.get("target_user_email")) == (offer["id"], email)
    again = await ada.post(url, {"target_user_id": cy.id})
    assert (again.status, again.error) == (409, "transfer_exists")

    accept = f"{url}/{offer['id']}/accept"
    for who in (ada, cy):
        assert (await who.post(accept, {})).error == "not_found"
    done = (await bo.post(accept, {})).data(200)
    assert done["accepted_at"] and done["target_user_email"] == bo.email
    assert await hub.roles() == {"bo": "owner", "ada": "admin", "cy": "contributor"}
    detail = (await bo.get(hub.url)).data()
    assert (detail["hub"]["owner_id"], detail["pending_transfer"]) == (bo.id, None)
    for reply in (await bo.post(accept, {}), await ada.post(f"{url}/{offer['id']}/cancel", {})):
        assert (reply.status, reply.error) == (409, "accepted")
    assert (await ada.delete(hub.url)).error == "forbidden"


async def test_an_offer_is_cancelled_or_declined_by_its_two_people(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hub = await world.hub(ada, viewers=[bo], admins=[cy])
    url = f"{hub.url}/ownership-transfer"

    for who in (ada, bo):
        offer = (await ada.post(url, {"target_user_id": bo.id})).data(201)
        assert (await cy.post(f"{url}/{offer['id']}/cancel", {})).error == "forbidden"
        canceled = (await who.post(f"{url}/{offer['id']}/cancel", {})).data(200)
        assert canceled == {"status": "canceled", "transfer_id": offer["id"]}
        for path in ("accept", "cancel"):
            reply = await bo.post(f"{url}/{offer['id']}/{path}", {})
            assert (reply.status, reply.error) == (410, "canceled")
    other = await world.hub(ada, viewers=[bo])
    offer = (await ada.post(f"{other.url}/ownership-transfer", {"target_user_id": bo.id})).data(201)
    for path in ("accept", "cancel"):
        for transfer in (offer["id"], MISSING, "nonsense"):
            reply = await bo.post(f"{url}/{transfer}/{path}", {})
            assert (reply.status, reply.error) == (404, "not_found")


async def test_an_offer_ends_with_its_week_and_with_its_targets_membership(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, viewers=[bo])
    url = f"{hub.url}/ownership-transfer"

    offer = (await ada.post(url, {"target_user_id": bo.id})).data(201)
    async with world.db.writing() as tx:
        await tx.run("UPDATE transfers SET expires_at = now() WHERE id = $1::text::uuid", offer["id"])
    assert (await ada.get(hub.url)).data()["pending_transfer"] is None
    late = await bo.post(f"{url}/{offer['id']}/accept", {})
    assert (late.status, late.error) == (410, "expired")
    fresh = (await ada.post(url, {"target_user_id": bo.id})).data(201)
    (await bo.post(f"{hub.url}/leave", {})).data()
    assert (await ada.get(hub.url)).data()["pending_transfer"] is None
    await world.join(hub.id, bo, "contributor")
    assert (await bo.post(f"{url}/{fresh['id']}/accept", {})).error == "not_found"
    assert (await ada.post(url, {"target_user_id": bo.id})).status == 201


async def test_an_expired_offer_may_still_be_cancelled(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, viewers=[bo])
    offer = (await ada.post(f"{hub.url}/ownership-transfer", {"target_user_id": bo.id})).data(201)
    async with world.db.writing() as tx:
        await tx.run("UPDATE transfers SET expires_at = now() WHERE id = $1::text::uuid", offer["id"])
    assert (await bo.post(f"{hub.url}/ownership-transfer/{offer['id']}/cancel", {})).status == 200


async def test_whoever_is_in_a_full_hub_hears_that_they_are_in_it(limited: World) -> None:
    ada, bo, cy, eve = await limited.people("ada", "bo", "cy", "eve")
    hub = await limited.hub(ada, viewers=[bo, cy])
    link = (await ada.post(f"{hub.url}/invites", {})).data(201)["token"]
    assert (await bo.post(f"/v1/invites/{link}/accept", {})).error == "already_member"
    refused = await eve.post(f"/v1/invites/{link}/accept", {})
    assert (refused.error, refused.details["limit"]) == ("member_cap_exceeded", 3)
    # Neither has used the link up.
    (await cy.post(f"{hub.url}/leave", {})).data(200)
    (await eve.post(f"/v1/invites/{link}/accept", {})).data(200)


async def test_a_hub_takes_no_more_members_than_the_operator_lets_it(limited: World) -> None:
    ada, *rest = await limited.people("ada", "bo", "cy", "dan", "eve")
    hub = await limited.hub(ada)
    links = [(await ada.post(f"{hub.url}/invites", {})).data(201)["token"] for _ in range(2)]

    replies = await asyncio.gather(
        *(person.post(f"/v1/invites/{token}/accept", {}) for person, token in zip(rest, links, strict=False)),
        *(ada.post(f"{hub.url}/members", {"user_id": person.id}) for person in rest[2:]),
    )
    assert sorted(reply.status for reply in replies) == [200, 200, 403, 403]
    full = [reply for reply in replies if reply.status == 403]
    assert {reply.error for reply in full} == {"member_cap_exceeded"}
    assert all(reply.details == {"hub_id": hub.id, "limit": 3} for reply in full)
    assert len(await hub.roles()) == 3
    members = await hub.roles()
    inside = next(person for person in rest if person.name in members)
    assert (await ada.post(f"{hub.url}/members", {"user_id": inside.id})).error == "already_member"
    async with limited.db.reading() as read:
        spent = await read.value(
            "SELECT count(*) FROM invites WHERE space_id = $1::uuid AND accepted_at IS NOT NULL", hub.id
        )
    assert spent == sum(reply.status == 200 for reply in replies[:2])
