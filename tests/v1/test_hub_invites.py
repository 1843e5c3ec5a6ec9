"""Invites to hubs: links, addresses and people; what kills them, and that each admits one person once."""

import asyncio
import secrets

import pytest

from tests.world import Hub, Person, World

MISSING = "018f0000-0000-7000-8000-000000000000"


async def invite(who: Person, hub: Hub, **body: object) -> dict:
    return (await who.post(f"{hub.url}/invites", body)).data(201)


async def age(world: World, row: dict) -> None:
    async with world.db.writing() as tx:
        await tx.run("UPDATE invites SET expires_at = now() WHERE id = $1::text::uuid", row["id"])


async def test_a_link_admits_one_person_with_its_role(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hub = await world.hub(ada)

    made = await invite(ada, hub, role="viewer")
    assert made["invite_url"] == f"{world.house.service.public_url}/join/{made['token']}"
    assert (made["hub_id"], made["invited_by"], made["role"]) == (hub.id, ada.id, "viewer")
    assert made.keys() == {
        *("id", "hub_id", "token", "invited_by", "role", "invite_url", "expires_at", "created_at")
    }
    card = (await world.nobody.get(f"/v1/invites/{made['token']}")).data()
    assert card == {
        "invite": {key: value for key, value in made.items() if key != "invite_url"},
        "hub": {key: hub.body[key] for key in ("id", "name", "slug", "hub_type", "owner_id", "accent")},
        "member_count": 1,
        "invited_by": "ada",
    }
    accepted = (await bo.post(f"/v1/invites/{made['token']}/accept", {})).data(200)
    assert accepted == {"hub": (await bo.get(hub.url)).data()["hub"], "role": "viewer"}
    for who in (bo, cy):
        late = await who.post(f"/v1/invites/{made['token']}/accept", {})
        assert (late.status, late.error) == (409, "used")
    looked = await world.nobody.get(f"/v1/invites/{made['token']}")
    assert (looked.status, looked.error) == (410, "used")
    assert await hub.roles() == {"ada": "owner", "bo": "viewer"}


async def test_looking_shows_nothing_of_whom_the_invite_is_for(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada)
    made = await invite(ada, hub, invitee={"email": bo.email})

    looked = await world.nobody.get(f"/v1/invites/{made['token']}")
    assert looked.status == 200 and looked.headers["cache-control"] == "no-store"
    for secret in (bo.email, bo.id, ada.email):
        assert secret not in looked.response.text


async def test_an_invite_by_address_is_for_whoever_has_it_verified(world: World) -> None:
    ada, bo, eve = await world.people("ada", "bo", "eve")
    cy = await world.person("cy", verified=False)
    hub = await world.hub(ada)

    for_bo = await invite(ada, hub, invitee={"email": f"  {bo.email.upper()} "})
    assert (for_bo["invitee_email"], for_bo["invitee_user_id"]) == (bo.email.upper(), bo.id)
    assert for_bo["email_enqueued_at"]
    for_cy = await invite(ada, hub, invitee={"email": cy.email}, role="admin")
    assert "invitee_user_id" not in for_cy
    for who, row in ((eve, for_bo), (cy, for_bo), (cy, for_cy), (bo, for_cy)):
        reply = await who.post(f"/v1/invites/{row['token']}/accept", {})
        assert (reply.status, reply.error) == (403, "wrong_invitee")
    assert (await bo.post(f"/v1/invites/{for_bo['token']}/accept", {})).data()["role"] == "contributor"
    async with world.db.writing() as tx:
        await tx.run("UPDATE users SET email_verified = true WHERE id = $1", cy.id)
    assert (await cy.post(f"/v1/invites/{for_cy['token']}/accept", {})).data()["role"] == "admin"


async def test_an_invite_by_id_is_for_that_person_alone_and_keeps_their_address_theirs(world: World) -> None:
    ada, bo, eve = await world.people("ada", "bo", "eve")
    hub = await world.hub(ada)

    for_bo = await invite(ada, hub, invitee={"user_id": bo.id})
    assert for_bo["invitee_user_id"] == bo.id and "invitee_email" not in for_bo
    assert for_bo["email_enqueued_at"]
    assert (await eve.post(f"/v1/invites/{for_bo['token']}/accept", {})).error == "wrong_invitee"
    assert (await bo.post(f"/v1/invites/{for_bo['token']}/accept", {})).status == 200
    for stranger in ({"user_id": "user_nobody"}, {"user_id": "no one!"}, {"user_id": "", "email": ""}, {}):
        link = await invite(ada, hub, invitee=stranger)
        assert "invitee_user_id" not in link and "email_enqueued_at" not in link


async def test_a_known_person_goes_before_an_address_that_is_not_theirs(world: World) -> None:
    ada, dan, eve = await world.people("ada", "dan", "eve")
    hub = await world.hub(ada)

    for address in (eve.email, "nobody@example.org", dan.email.upper()):
        made = await invite(ada, hub, invitee={"user_id": dan.id, "email": address})
        own = address.lower() == dan.email
        assert (made["invitee_user_id"], made.get("invitee_email")) == (dan.id, address if own else None)
    assert (await eve.post(f"/v1/invites/{made['token']}/accept", {})).error == "wrong_invitee"
    other = await invite(ada, hub, invitee={"user_id": dan.id, "email": eve.email})
    (await dan.post(f"/v1/invites/{other['token']}/accept", {})).data(200)


@pytest.mark.parametrize(
    ("invitee", "code"),
    [
        ({"email": "nobody"}, "invalid_email"),
        ({"email": "Bo <bo@example.org>"}, "invalid_email"),
        ({"email": "a@b@example.org"}, "invalid_email"),
        ({"email": "bo@example.org\u200b"}, "invalid_email"),
        ({"email": "x" * 250 + "@example.org"}, "invalid_email"),
        ({"email": 5}, "invalid_json"),
        ("bo@example.org", "invalid_json"),
    ],
)
async def test_an_address_stands_alone(world: World, invitee: object, code: str) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    reply = await ada.post(f"{hub.url}/invites", {"invitee": invitee})
    assert (reply.status, reply.error) == (400, code)


async def test_members_are_not_invited_and_lose_nothing_by_accepting(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, admins=[bo])

    for invitee in ({"user_id": bo.id}, {"email": bo.email}, {"user_id": ada.id}, {"email": ada.email}):
        reply = await ada.post(f"{hub.url}/invites", {"invitee": invitee})
        assert (reply.status, reply.error) == (409, "invitee_already_member")
    link = await invite(ada, hub, role="viewer")
    taken = await bo.post(f"/v1/invites/{link['token']}/accept", {})
    assert (taken.status, taken.error) == (409, "already_member")
    assert await hub.roles() == {"ada": "owner", "bo": "admin"}
    assert (await world.nobody.get(f"/v1/invites/{link['token']}")).status == 200


async def test_those_who_invite_see_open_invites_newest_first_and_take_them_back(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hub = await world.hub(ada, admins=[bo])
    rows = [await invite(who, hub, invitee=for_) for who, for_ in ((ada, {}), (bo, {"email": cy.email}))]
    expired = await invite(ada, hub)
    await age(world, expired)

    listed = (await bo.get(f"{hub.url}/invites")).data()
    assert listed == [{k: v for k, v in row.items() if k != "invite_url"} for row in reversed(rows)]
    for row in (rows[0], expired):
        revoked = (await bo.delete(f"{hub.url}/invites/{row['id']}")).data(200)
        assert revoked == {"status": "revoked", "invite_id": row["id"]}
        again = await bo.delete(f"{hub.url}/invites/{row['id']}")
        assert (again.status, again.error) == (409, "invite_revoked")
    assert (await world.nobody.get(f"/v1/invites/{rows[0]['token']}")).error == "not_found"
    gone = await cy.post(f"/v1/invites/{rows[0]['token']}/accept", {})
    assert (gone.status, gone.error) == (410, "revoked")
    (await cy.post(f"/v1/invites/{rows[1]['token']}/accept", {})).data()
    for method, path in (("DELETE", ""), ("POST", "/regenerate"), ("POST", "/resend")):
        reply = await ada.call(method, f"{hub.url}/invites/{rows[1]['id']}{path}", {})
        assert (reply.status, reply.error) == (409, "invite_used")
        reply = await ada.call(method, f"{hub.url}/invites/{rows[0]['id']}{path}", {})
        assert (reply.status, reply.error) == (409, "invite_revoked")
        other = await world.hub(ada)
        for missing in (f"{other.url}/invites/{rows[1]['id']}", f"{hub.url}/invites/{MISSING}"):
            reply = await ada.call(method, missing + path, {})
            assert (reply.status, reply.error) == (404, "not_found")
        assert (await ada.call(method, f"{hub.url}/invites/nonsense{path}", {})).error == "not_found"


async def test_a_regenerated_invite_has_another_link_for_the_same_person(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hub = await world.hub(ada, admins=[cy])
    old = await invite(ada, hub, role="admin", invitee={"email": bo.email})
    await age(world, old)
    assert (await world.nobody.get(f"/v1/invites/{old['token']}")).error == "expired"
    late = await bo.post(f"/v1/invites/{old['token']}/accept", {})
    assert (late.status, late.error) == (410, "expired")

    new = (await cy.post(f"{hub.url}/invites/{old['id']}/regenerate", {})).data(201)
    assert (
        new["invite_url"].endswith(new["token"]) and new["token"] != old["token"] and new["id"] != old["id"]
    )
    assert (new["role"], new["invitee_email"], new["invitee_user_id"], new["invited_by"]) == (
        "admin",
        bo.email,
        bo.id,
        cy.id,
    )
    assert (await bo.post(f"/v1/invites/{old['token']}/accept", {})).error == "revoked"
    assert (await bo.post(f"/v1/invites/{new['token']}/accept", {})).data()["role"] == "admin"


async def test_a_resent_invite_keeps_its_link_and_its_end(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada)
    mailed = await invite(ada, hub, invitee={"email": "zoe@example.org"})
    by_id, link = await invite(ada, hub, invitee={"user_id": bo.id}), await invite(ada, hub)

    for row in (mailed, by_id):
        resent = (await ada.post(f"{hub.url}/invites/{row['id']}/resend", {})).data(200)
        assert resent["status"] == "resent" and resent["email_enqueued_at"] > row["email_enqueued_at"]
    listed = {row["id"]: row for row in (await ada.get(f"{hub.url}/invites")).data()}
    assert listed[mailed["id"]]["token"] == mailed["token"]
    assert listed[mailed["id"]]["expires_at"] == mailed["expires_at"]
    nobody = await ada.post(f"{hub.url}/invites/{link['id']}/resend", {})
    assert (nobody.status, nobody.error) == (400, "no_email")
    await age(world, mailed)
    late = await ada.post(f"{hub.url}/invites/{mailed['id']}/resend", {})
    assert (late.status, late.error) == (410, "expired")


async def test_inviting_the_same_again_replaces_the_open_invite(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada)

    first = await invite(ada, hub, invitee={"email": bo.email})
    second = await invite(ada, hub, invitee={"user_id": bo.id}, role="viewer")
    assert [row["id"] for row in (await ada.get(f"{hub.url}/invites")).data()] == [second["id"]]
    assert (await bo.post(f"/v1/invites/{first['token']}/accept", {})).error == "revoked"
    assert (await bo.post(f"/v1/invites/{second['token']}/accept", {})).data()["role"] == "viewer"


async def test_a_hub_has_at_most_20_active_invites(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, admins=[bo])

    replies = await asyncio.gather(*((ada, bo)[n % 2].post(f"{hub.url}/invites", {}) for n in range(25)))
    assert sorted(reply.status for reply in replies) == [201] * 20 + [429] * 5
    refused = next(reply for reply in replies if reply.status == 429)
    assert refused.error == "invite_limit" and "retry-after" not in refused.headers
    rows = (await ada.get(f"{hub.url}/invites")).data()
    assert len(rows) == 20
    assert (await ada.post(f"{hub.url}/invites", {"invitee": {"email": "no"}})).error == "invite_limit"
    # One renewed is one taken back.
    assert (await ada.post(f"{hub.url}/invites/{rows[0]['id']}/regenerate", {})).status == 201
    await age(world, rows[1])
    assert (await ada.post(f"{hub.url}/invites", {})).status == 201


async def test_an_invite_dies_for_good_with_its_makers_right(world: World) -> None:
    ada, ben, cy, dee = await world.people("ada", "ben", "cy", "dee")
    hub = await world.hub(ada, admins=[ben, cy])
    by_ben, by_cy, by_ada = [await invite(who, hub) for who in (ben, cy, ada)]

    (await ada.patch(f"{hub.url}/members/{ben.id}", {"role": "viewer"})).data()
    (await ada.patch(f"{hub.url}/members/{ben.id}", {"role": "admin"})).data()
    (await cy.post(f"{hub.url}/leave", {})).data()
    (await ada.post(f"{hub.url}/members", {"user_id": cy.id, "role": "admin"})).data()
    offer = (await ada.post(f"{hub.url}/ownership-transfer", {"target_user_id": ben.id})).data(201)
    (await ben.post(f"{hub.url}/ownership-transfer/{offer['id']}/accept", {})).data()
    for row in (by_ben, by_cy):
        assert (await dee.post(f"/v1/invites/{row['token']}/accept", {})).error == "revoked"
        assert (await ada.post(f"{hub.url}/invites/{row['id']}/regenerate", {})).error == "invite_revoked"
    assert [row["id"] for row in (await ben.get(f"{hub.url}/invites")).data()] == [by_ada["id"]]
    assert (await dee.post(f"/v1/invites/{by_ada['token']}/accept", {})).status == 200


async def test_a_token_of_nothing_and_one_of_a_deleted_hub_sound_the_same(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada)
    club = await world.community(ada)
    gone = await invite(ada, hub)
    (await ada.delete(hub.url)).data()
    elsewhere = (await ada.post(f"{club.url}/invite", {"email": bo.email, "role": "member"})).ok(201)

    tokens = [gone["token"], elsewhere["token"], "inv_" + secrets.token_urlsafe(32), "x", gone["token"] + "0"]
    for method, path, who in (("GET", "", world.nobody), ("POST", "/accept", bo)):
        replies = [await who.call(method, f"/v1/invites/{token}{path}") for token in tokens]
        assert {(reply.status, reply.error, reply.response.text) for reply in replies} == {
            (404, "not_found", replies[0].response.text)
        }
    assert (await world.nobody.post(f"/v1/invites/{gone['token']}/accept", {})).error == "unauthorized"


async def test_of_many_who_accept_one_link_one_gets_in(world: World) -> None:
    ada, *crowd = await world.people("ada", *"bcdefghij")
    hub = await world.hub(ada)
    link = await invite(ada, hub)

    replies = await asyncio.gather(*(p.post(f"/v1/invites/{link['token']}/accept", {}) for p in crowd))
    assert sorted(reply.status for reply in replies) == [200] + [409] * 8
    assert {reply.error for reply in replies} == {None, "used"}
    assert len(await hub.roles()) == 2


async def test_a_mail_brings_an_invite_to_an_address_and_to_a_person(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada)
    rows = [await invite(ada, hub, invitee=i) for i in ({"email": "zoe@example.org"}, {"user_id": bo.id})]
    await world.drain()
    async with world.db.reading() as read:
        sent = await read.value(
            "SELECT count(*) FROM invites WHERE id::text = ANY ($1) AND sent_at IS NOT NULL",
            [row["id"] for row in rows],
        )
    assert sent == 2


async def test_no_token_is_kept_in_the_database(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    link = await invite(ada, hub, invitee={"email": "zoe@example.org"})
    async with world.db.reading() as read:
        kept = await read.value("SELECT i::text FROM invites i WHERE id = $1::text::uuid", link["id"])
        jobs = await read.value("SELECT string_agg(convert_from(payload, 'UTF8'), ' ') FROM pgqueuer")
    assert link["token"] not in kept and link["token"] not in (jobs or "")
