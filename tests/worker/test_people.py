"""What follows a change of a person: their code by mail, and who they are at the chat service."""

import re
from datetime import UTC, datetime

from guildhall.providers.chat import SPACE
from guildhall.users.accounts import set_status
from guildhall.worker import list_failed
from tests.servers.stream_server import Die
from tests.worker.benches import Hall

CODE = "/api/auth/code"


async def test_a_code_is_mailed_once_though_its_job_is_tried_twice(hall: Hall) -> None:
    world = hall.world
    hall.mail.fault = "accepts, then dies"
    (await world.nobody.post(CODE, {"email": "ada@example.org"})).ok(202)
    worker = await hall.start_worker()
    try:
        while not hall.mail.requests:
            await hall.hurry()
        hall.mail.fault = None
        while await hall.waiting():
            await hall.hurry()
    finally:
        worker.terminate()
        await worker.wait()

    (mail,) = hall.mail.by_key.values()
    assert mail.recipients == ["ada@example.org"] and len(hall.mail.requests) >= 2
    found = re.search(r"\b\d{6}\b", mail.text)
    assert found is not None and found[0] in mail.html
    (await world.nobody.post("/api/auth/session", {"email": "ada@example.org", "code": found[0]})).ok(201)


async def test_only_the_newest_code_that_is_still_good_is_mailed(hall: Hall) -> None:
    nobody = hall.world.nobody
    for _ in range(3):
        (await nobody.post(CODE, {"email": "ada@example.org"})).ok(202)
    (await nobody.post(CODE, {"email": "late@example.org"})).ok(202)
    await hall.run("UPDATE sign_in_codes SET expires_at = now() WHERE email_key = 'late@example.org'")

    await hall.world.drain()
    assert [mail.recipients for mail in hall.mail.by_key.values()] == [["ada@example.org"]]
    assert await hall.value("SELECT count(*) FROM sign_in_codes") == 1


async def test_a_code_that_nobody_can_get_is_given_up(hall: Hall) -> None:
    hall.mail.fault = "refuses"
    (await hall.world.nobody.post(CODE, {"email": "ada@example.org"})).ok(202)

    await hall.world.drain()
    assert await list_failed(hall.world.db) == []


async def test_a_changed_name_or_picture_shows_at_the_chat_service(hall: Hall) -> None:
    ada, bo = await hall.world.people("Ada", "Bo")
    await hall.world.community(ada)
    await hall.world.drain()

    for person in (ada, bo):
        (await person.patch(f"/api/members/{person.id}/profile", {"displayName": "Changed"})).ok()
    await hall.world.drain()
    assert hall.chat.users[ada.id]["name"] == "Changed"
    # Who never was at the chat service is not made known there by a new name.
    assert bo.id not in hall.chat.users


async def test_a_closed_account_is_in_no_channel_and_its_chat_tokens_end(hall: Hall) -> None:
    ada, bo = await hall.world.people("Ada", "Bo")
    club = await hall.world.community(ada, members=[bo])
    token = (await bo.post("/api/stream/token")).ok()["token"]
    await hall.world.drain()
    assert hall.chat.may_read(token, SPACE, club.id)

    async with hall.world.db.writing() as tx:
        await set_status(tx, bo.id, "disabled")
    await hall.world.drain()
    assert hall.chat.members(SPACE, club.id) == {ada.id: "channel_moderator"}
    revoked = datetime.fromisoformat(hall.chat.users[bo.id]["revoke_tokens_issued_before"])
    assert abs((datetime.now(UTC) - revoked).total_seconds()) < 60
    assert (await bo.get("/api/communities")).status == 401

    async with hall.world.db.writing() as tx:
        await set_status(tx, bo.id, "active")
    await hall.world.drain()
    assert set(hall.chat.members(SPACE, club.id) or {}) == {ada.id, bo.id}
    # What was open before it was closed stays closed.
    assert (await bo.get("/api/communities")).status == 401


async def test_an_erased_person_leaves_the_chat_service_however_long_it_is_away(hall: Hall) -> None:
    ada, bo = await hall.world.people("Ada", "Bo")
    club = await hall.world.community(ada, members=[bo])
    (await bo.post("/api/stream/token")).ok()
    await hall.world.drain()

    hall.chat.faults.on("POST", "/users/delete", Die(), 2)
    (await bo.delete("/api/users/me")).ok(204)
    await hall.world.drain()
    assert bo.id in hall.chat.deleted_users
    assert hall.chat.members(SPACE, club.id) == {ada.id: "channel_moderator"}
    assert await hall.value("SELECT count(*) FROM chat_members WHERE user_id = $1", bo.id) == 0
    assert await list_failed(hall.world.db) == []
