"""The mail that brings an invite."""

import asyncio
import re

from guildhall import outbox
from guildhall.spaces.jobs import InvitesDue
from guildhall.worker import list_failed, retry_failed
from tests.providers.email_benches import Arrived
from tests.worker.benches import Hall


def the_only(hall: Hall) -> Arrived:
    assert len(hall.mail.by_key) == 1
    return next(iter(hall.mail.by_key.values()))


async def test_an_invite_is_mailed_once_with_a_link_that_works(hall: Hall) -> None:
    world = hall.world
    ada, bo = await world.people("Ada", "Bo")
    community = await world.community(ada, name="Gardeners")
    invite = (await ada.post(f"{community.url}/invite", {"email": bo.email, "role": "moderator"})).ok(201)

    await world.drain()

    mail = the_only(hall)
    assert mail.recipients == [bo.email]
    assert mail.subject == "Ada invites you to Gardeners"
    link = re.search(r"http://localhost:3002/join/(\S+)", mail.text)
    assert link is not None
    assert f'href="{link[0]}"' in mail.html
    assert "Ada invites you to join the community" in mail.text
    assert "as a moderator" in mail.text
    assert re.search(r"until \d+ \w+ \d{4}, \d\d:\d\d UTC", mail.text)
    (await bo.post(f"/api/invites/{link[1]}/accept")).ok()
    assert (await community.roles())["Bo"] == "moderator"
    assert list(hall.mail.by_key) == [f"invite:{invite['id']}:0"]
    assert await hall.value("SELECT sent_at IS NOT NULL FROM invites WHERE id = $1::uuid", invite["id"])


async def test_names_in_a_mail_are_neither_links_nor_lines_nor_markup(hall: Hall) -> None:
    world = hall.world
    ada = await world.person("Ada")
    community = await world.community(ada, name="Gardeners")
    await hall.run(
        "UPDATE users SET display_name = $2 WHERE id = $1",
        ada.id,
        "Win at https://evil.example\r\nBcc: x@evil.example <b>\u202e\u200bnow",
    )
    await hall.run("UPDATE spaces SET name = 'www.evil.example/join' WHERE id = $1::uuid", community.id)
    (await ada.post(f"{community.url}/invite", {"email": "bo@example.org", "role": "member"})).ok(201)

    await world.drain()

    mail = the_only(hall)
    assert "\n" not in mail.subject
    for part in (mail.text, mail.html, mail.subject):
        assert not set(part) & set("\u202e\u200b\r")
        assert "evil.example" not in part
        assert "https://evil" not in part
        assert "x@evil" not in part
    assert "<b>" not in mail.html
    assert set(re.findall(r'href="([^"]*)"', mail.html)) == set(re.findall(r"http://localhost\S+", mail.text))


async def test_an_invite_taken_back_before_its_mail_went_is_not_mailed(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    community = await hall.world.community(ada)
    invite = (await ada.post(f"{community.url}/invite", {"email": "bo@example.org", "role": "member"})).ok(
        201
    )
    (await ada.delete(f"{community.url}/invites/{invite['id']}")).ok()

    await hall.world.drain()

    assert hall.mail.requests == []


async def test_a_resend_is_a_mail_of_its_own_with_the_same_link(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    community = await hall.world.community(ada)
    invite = (await ada.post(f"{community.url}/invite", {"email": "bo@example.org", "role": "member"})).ok(
        201
    )
    await hall.world.drain()
    (await ada.post(f"{community.url}/invites/{invite['id']}/resend")).ok()
    await hall.world.drain()

    assert list(hall.mail.by_key) == [f"invite:{invite['id']}:{attempt}" for attempt in (0, 1)]
    first, second = hall.mail.by_key.values()
    assert first.text == second.text


async def test_a_provider_that_takes_a_mail_and_dies_gets_the_same_key_again(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    community = await hall.world.community(ada)
    hall.mail.fault = "accepts, then dies"
    (await ada.post(f"{community.url}/invite", {"email": "bo@example.org", "role": "member"})).ok(201)

    async def recover() -> None:
        while not hall.mail.requests:
            await asyncio.sleep(0.02)
        hall.mail.fault = None

    await asyncio.gather(hall.world.drain(), recover())

    assert len(hall.mail.requests) >= 2
    the_only(hall)


async def test_a_mail_the_provider_refuses_rests_until_the_operator_sends_it_on(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    community = await hall.world.community(ada)
    hall.mail.fault = "refuses"
    (await ada.post(f"{community.url}/invite", {"email": "bo@example.org", "role": "member"})).ok(201)
    await hall.world.drain()

    (resting,) = await list_failed(hall.world.db)
    assert resting.kind == "invite.made"
    assert resting.reason == "Rejected: Resend refused the message (422)"
    hall.mail.fault = None
    assert await retry_failed(hall.world.db, resting.id)
    assert not await retry_failed(hall.world.db, resting.id)
    await hall.world.drain()

    the_only(hall)
    assert await list_failed(hall.world.db) == []


async def test_a_mail_is_tried_for_twenty_hours_and_then_rests(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    community = await hall.world.community(ada)
    (await ada.post(f"{community.url}/invite", {"email": "bo@example.org", "role": "member"})).ok(201)
    await hall.run(
        "UPDATE pgqueuer SET attempts = 40, created = now() - interval '20 hours 1 minute'"
        " WHERE entrypoint = 'invite.made'"
    )
    await hall.world.drain()

    assert hall.mail.requests == []
    (resting,) = await list_failed(hall.world.db)
    assert resting.reason == "it has been tried for 20 hours"


async def test_neither_the_queue_nor_its_log_holds_an_address_or_a_token(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    community = await hall.world.community(ada)
    hall.mail.fault = "refuses"
    (await ada.post(f"{community.url}/invite", {"email": "bo@example.org", "role": "member"})).ok(201)
    await hall.world.drain()

    kept = await hall.value(
        "SELECT string_agg(whole, ' ') FROM (SELECT q::text || convert_from(q.payload, 'UTF8') AS whole"
        " FROM pgqueuer q UNION ALL SELECT l::text FROM pgqueuer_log l) AS rows"
    )
    assert "example.org" not in kept
    assert "example.com" not in kept
    assert "inv_" not in kept


async def test_whoever_was_mailed_an_invite_to_a_hub_is_reminded_once_before_its_end(hall: Hall) -> None:
    world = hall.world
    ada, bo = await world.people("Ada", "Bo")
    hub = await world.hub(ada, name="Orchard")

    async def invite(**invitee: str) -> str:
        return (await ada.post(f"{hub.url}/invites", {"invitee": invitee})).data(201)["id"]

    by_mail, by_id, early = (
        await invite(email="cy@example.org"),
        await invite(user_id=bo.id),
        await invite(email="dan@example.org"),
    )
    taken = await invite(email="eve@example.org")
    await invite()
    await world.drain()
    (await ada.delete(f"{hub.url}/invites/{taken}")).data()
    await hall.run(
        "UPDATE invites SET expires_at = now() + interval '47 hours' WHERE id::text <> ALL ($1)", [early]
    )
    hall.mail.by_key.clear()
    for _ in range(2):
        async with world.db.writing() as tx:
            await outbox.put(tx, InvitesDue())
        await world.drain()

    assert hall.mail.by_key.keys() == {f"invite:{id_}:reminder" for id_ in (by_mail, by_id)}
    mail = hall.mail.by_key[f"invite:{by_id}:reminder"]
    assert (mail.recipients, mail.subject) == ([bo.email], "Your invitation to Orchard ends soon")
    link = re.search(r"http://localhost:3002/join/(\S+)", mail.text)
    assert link is not None and f'href="{link[0]}"' in mail.html
    (await bo.post(f"/v1/invites/{link[1]}/accept", {})).data()
