"""Signing in as clients of hubs do it: codes by mail, codes to exchange, refreshed tokens."""

import asyncio
import secrets
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from guildhall.users import sign_in
from tests.world import Browser, Reply, World, open_world

HOME = "http://127.0.0.1:53682/callback?state=7"


def address() -> str:
    return f"{secrets.token_hex(6)}@example.org"


async def ask(world: World, email: str, **more: str) -> Reply:
    return await world.nobody.post("/v1/auth/email/request", {"email": email, **more})


async def mailed(world: World, email: str) -> str:
    """The code that was just mailed to an address."""
    async with world.db.reading() as read:
        found = await read.connection.fetchrow(
            "SELECT id, code_hash FROM sign_in_codes WHERE email_key = lower($1)", email
        )
    assert found is not None
    code = sign_in.code_of(world.house.service.keys, found["id"], found["code_hash"])
    assert code is not None
    return code


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06d}"


async def verify(world: World, email: str, code: str, **extra: Any) -> Reply:
    return await world.nobody.post("/v1/auth/email/verify", {"email": email, "code": code}, **extra)


async def signed_in(world: World, email: str) -> dict[str, Any]:
    (await ask(world, email)).ok(200)
    return (await verify(world, email, await mailed(world, email))).data(200)


async def led(world: World, email: str) -> dict[str, Any]:
    (await ask(world, email, redirect_uri=HOME)).ok(200)
    return (await verify(world, email, await mailed(world, email))).data(200)


async def test_a_mailed_code_signs_a_newcomer_in_and_makes_their_hub(world: World) -> None:
    email = address()
    sent = (await ask(world, email, invite_token="inv_any")).data(200)
    assert sent == {"status": "sent", "expires_in": 600, "email": email, "cooldown": 30}

    pair = (await verify(world, email.upper(), await mailed(world, email))).data(200)
    assert pair.keys() == {"access_token", "refresh_token", "expires_in"}
    me = (await Browser(world, pair["access_token"]).get("/v1/auth/me")).data(200)
    assert me["user"]["email"] == email
    assert [row["hub"]["hub_type"] for row in me["hubs"]] == ["personal"]


async def test_a_code_is_good_once_and_for_six_tries(world: World) -> None:
    email = address()
    assert (await verify(world, email, "123456")).error == "code_expired"
    (await ask(world, email)).ok(200)
    code = await mailed(world, email)
    # A repeat of the same request is a try as well.
    same = {"headers": {"Idempotency-Key": email}}
    for _ in range(5):
        assert (await verify(world, email, wrong(code), **same)).error == "code_invalid"
    locked = await verify(world, email, wrong(code))
    assert (locked.status, locked.error) == (429, "code_locked")
    assert (await verify(world, email, code)).error == "code_locked"

    (await ask(world, email)).ok(200)
    code = await mailed(world, email)
    (await verify(world, email, code)).data(200)
    assert (await verify(world, email, code)).error == "code_expired"


async def test_what_is_no_address_code_or_place_to_go_is_refused(world: World) -> None:
    assert (await ask(world, "Ada <ada@example.org>")).error == "invalid_email"
    assert (await verify(world, "nobody", "123456")).error == "invalid_email"
    for code in ("12345", "1234567", "12345a", "\u0661\u0662\u0663\u0664\u0665\u0666", ""):
        assert (await verify(world, address(), code)).error == "invalid_code_format"
    for place in (
        "https://evil.example/callback",
        "http://127.0.0.1.evil.example/",
        "http://localhost@evil.example/",
        "https://127.0.0.1:1/",
        "http://localhost:3002.evil.example/",
        "http://127.0.0.1:99999/",
        "//evil.example/",
        "javascript:alert(1)",
        "http://127.0.0.1\\@evil.example/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/#x",
    ):
        assert (await ask(world, address(), redirect_uri=place)).error == "invalid_redirect", place
    for place in ("http://localhost:1/", "http://[::1]:8/x", "http://localhost:3002/anywhere"):
        (await ask(world, address(), redirect_uri=place)).ok(200)


async def test_a_program_exchanges_the_code_that_the_person_was_led_to_it_with(world: World) -> None:
    answer = await led(world, address())
    assert answer.keys() == {"status", "code", "redirect", "user_id"}
    assert answer["redirect"].startswith(HOME)
    assert parse_qs(urlsplit(answer["redirect"]).query) == {"state": ["7"], "code": [answer["code"]]}

    codes = [world.nobody.post("/v1/auth/exchange", {"code": answer["code"]}) for _ in range(5)]
    replies = await asyncio.gather(*codes)
    assert sorted(reply.status for reply in replies) == [200, 401, 401, 401, 401]
    assert {reply.error for reply in replies if reply.status == 401} == {"invalid_code"}
    (pair,) = [reply.data() for reply in replies if reply.status == 200]
    me = (await Browser(world, pair["access_token"]).get("/v1/auth/me")).data(200)
    assert me["user"]["id"] == answer["user_id"]


async def test_a_code_to_exchange_lasts_a_minute_and_no_longer_than_its_person(world: World) -> None:
    assert (await world.nobody.post("/v1/auth/exchange", {})).error == "invalid_request"
    for change, error in (
        ("UPDATE exchange_codes SET expires_at = now() WHERE user_id = $1", "expired_code"),
        ("UPDATE users SET status = 'disabled' WHERE id = $1", "account_disabled"),
    ):
        answer = await led(world, address())
        async with world.db.writing() as tx:
            await tx.connection.execute(change, answer["user_id"])
        assert (await world.nobody.post("/v1/auth/exchange", {"code": answer["code"]})).error == error


async def test_a_refresh_token_used_twice_ends_its_session(world: World) -> None:
    first = await signed_in(world, address())

    async def refresh(token: str) -> Reply:
        # With a key as well: a token is never kept to be told again.
        headers = {"Idempotency-Key": token[:40]}
        return await world.nobody.post("/v1/auth/refresh", {"refresh_token": token}, headers=headers)

    assert (await world.nobody.post("/v1/auth/refresh", {})).error == "invalid_request"
    assert (await refresh("rft_nonsense")).error == "invalid_token"
    second = (await refresh(first["refresh_token"])).data(200)
    assert second["expires_in"] == 3600
    assert (await Browser(world, second["access_token"]).get("/v1/auth/me")).status == 200
    again = await refresh(first["refresh_token"])
    assert (again.status, again.error) == (401, "invalid_token")
    assert (await refresh(second["refresh_token"])).error == "invalid_token"
    assert (await Browser(world, second["access_token"]).get("/v1/auth/me")).status == 401


async def test_a_session_that_is_over_is_told_from_one_that_was_ended(world: World) -> None:
    pair = await signed_in(world, address())
    me = (await Browser(world, pair["access_token"]).get("/v1/auth/me")).data(200)
    async with world.db.writing() as tx:
        await tx.run("UPDATE sessions SET expires_at = now() WHERE user_id = $1", me["user"]["id"])
    reply = await world.nobody.post("/v1/auth/refresh", {"refresh_token": pair["refresh_token"]})
    assert (reply.status, reply.error) == (401, "expired_token")


async def test_nothing_of_a_code_to_exchange_is_kept_in_clear(world: World) -> None:
    answer = await led(world, address())
    async with world.db.reading() as read:
        row = await read.value(
            "SELECT to_jsonb(e)::text FROM exchange_codes e WHERE user_id = $1", answer["user_id"]
        )
    assert answer["code"] not in row


@pytest.mark.parametrize(
    ("path", "body", "most"),
    [
        ("/v1/auth/email/request", {"email": "no"}, 5),
        ("/v1/auth/email/verify", {"email": "no"}, 20),
        ("/v1/auth/exchange", {}, 30),
        ("/v1/auth/refresh", {}, 30),
    ],
)
async def test_tries_from_one_address_are_limited(
    world: World, path: str, body: dict[str, str], most: int
) -> None:
    settings = msgspec.structs.replace(world.house.settings, rate_limit_scale=1.0)
    async with open_world(settings) as strict:
        replies = [await strict.nobody.post(path, body) for _ in range(most + 1)]
    assert {reply.status for reply in replies[:-1]} == {400}
    last = replies[-1]
    assert (last.status, last.error) == (429, "rate_limited")
    assert last.details.keys() == {"limit", "current", "retry_after", "reset_at"}
    assert last.headers["x-ratelimit-limit"] == str(most) == str(last.details["limit"])
    assert last.headers["x-ratelimit-remaining"] == "0"
    assert int(last.headers["retry-after"]) == last.details["retry_after"]
