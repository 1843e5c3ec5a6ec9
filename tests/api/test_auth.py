"""Signing in by a mailed code, and sessions until their end, where people sign in here."""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from guildhall.providers.email.outbox import OutboxOnlyEmail
from guildhall.users import sign_in
from tests import cluster as clusters
from tests.api.scan import find_everywhere
from tests.servers.token_maker import PARTY
from tests.world import ORIGIN, Browser, Person, Reply, World, open_world, settings_for

CODE = "/api/auth/code"
SESSION = "/api/auth/session"
REFRESH = "/api/auth/session/refresh"
SESSIONS = "/api/auth/sessions"
ME = "/api/communities"


@pytest.fixture
async def limited(cluster: clusters.Cluster, database: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world that keeps to its limits, behind a proxy that says whose request it is."""
    settings = settings_for(
        tmp_path,
        clusters.app_url(cluster, database),
        database,
        RATE_LIMIT_SCALE="1",
        TRUSTED_PROXIES="127.0.0.1",
    )
    async with open_world(settings) as world:
        yield world


def new_address() -> str:
    return f"Ada.{secrets.token_hex(6)}@Example.org"


async def code_of(world: World, email: str) -> str | None:
    """The code that the mail would bring."""
    async with world.db.reading() as read:
        row = await read.connection.fetchrow(
            "SELECT id, code_hash FROM sign_in_codes WHERE email_key = lower($1)", email
        )
    return sign_in.code_of(world.house.service.keys, row["id"], row["code_hash"]) if row else None


async def ask(world: World, email: str, **extra: Any) -> str:
    (await world.nobody.post(CODE, {"email": email}, **extra)).ok(202)
    code = await code_of(world, email)
    assert code is not None
    return code


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06d}"


async def signed_in(world: World, email: str | None = None, label: str = "laptop") -> dict[str, Any]:
    email = email or new_address()
    code = await ask(world, email)
    return (await world.nobody.post(SESSION, {"email": email, "code": code, "label": label})).ok(201)


def alike(reply: Reply) -> tuple[int, Any, dict[str, str]]:
    """All of an answer but its request's id."""
    headers = {name: value for name, value in reply.headers.items() if name != "x-request-id"}
    return reply.status, reply.json | {"requestId": ""}, headers


async def test_a_mailed_code_makes_an_account_and_opens_a_session(world: World) -> None:
    email = new_address()
    mails = world.house.work.email
    assert isinstance(mails, OutboxOnlyEmail)

    assert (await world.nobody.post(CODE, {"email": f" {email} "})).ok(202) == {
        "status": "sent",
        "expiresIn": 600,
    }
    await world.drain()
    mail = next(mail for mail in await mails.list_messages(10) if mail.to == email)
    codes = re.findall(r"\b\d{6}\b", mail.text)
    assert len(codes) == 1 and codes[0] in mail.html
    made = (await world.nobody.post(SESSION, {"email": email.lower(), "code": codes[0]})).ok(201)

    assert made.keys() == {"token", "expiresAt", "refreshToken", "user"}
    assert (made["user"]["email"], made["user"]["emailVerified"]) == (email, True)
    assert made["user"]["displayName"] not in email
    ada = Browser(world, made["token"])
    assert (await ada.post("/api/users/sync")).ok(200) == made["user"]
    assert (await signed_in(world, email.upper()))["user"]["id"] == made["user"]["id"]


async def test_an_address_is_answered_alike_whether_it_is_known_or_not(world: World) -> None:
    known = (await signed_in(world))["user"]["email"]

    first = await world.nobody.post(CODE, {"email": known})
    second = await world.nobody.post(CODE, {"email": new_address()})
    assert first.status == 202
    assert alike(first) == alike(second)


async def test_no_answer_tells_what_is_wrong_with_a_code(world: World) -> None:
    email = new_address()
    used, replaced = await ask(world, email), await ask(world, email)
    code = await ask(world, email)
    attempts = [(new_address(), code), (email, wrong(code))]
    attempts += [(email, old) for old in {used, replaced} - {code}]
    refusals = [await world.nobody.post(SESSION, {"email": who, "code": what}) for who, what in attempts]
    (await world.nobody.post(SESSION, {"email": email, "code": code})).ok(201)
    refusals.append(await world.nobody.post(SESSION, {"email": email, "code": code}))
    late = await ask(world, email)
    async with world.db.writing() as tx:
        await tx.run("UPDATE sign_in_codes SET expires_at = now() WHERE email_key = lower($1)", email)
    refusals.append(await world.nobody.post(SESSION, {"email": email, "code": late}))

    assert refusals[0].error == "invalid_code"
    assert all(alike(reply) == alike(refusals[0]) for reply in refusals)


async def test_a_code_may_be_tried_six_times(world: World) -> None:
    email = new_address()
    code = await ask(world, email)

    async def attempt(code: str, **extra: Any) -> Reply:
        return await world.nobody.post(SESSION, {"email": email, "code": code}, **extra)

    for number in range(5):
        # A key does not make a try free.
        reply = await attempt(wrong(code), headers={"Idempotency-Key": f"{email} {number}"})
        assert (reply.status, reply.error) == (403, "invalid_code")
    repeated = await attempt(wrong(code), headers={"Idempotency-Key": f"{email} 0"})
    assert repeated.headers["Idempotency-Replayed"] == "true"
    (await attempt(code)).ok(201)

    code = await ask(world, email)
    for _ in range(6):
        assert (await attempt(wrong(code))).error == "invalid_code"
    assert (await attempt(code)).error == "invalid_code"


async def test_of_many_uses_of_a_code_at_once_one_counts(world: World) -> None:
    email = new_address()
    code = await ask(world, email)

    replies = await asyncio.gather(
        *(world.nobody.post(SESSION, {"email": email, "code": code}) for _ in range(8))
    )
    assert sorted(reply.status for reply in replies) == [201] + [403] * 7
    async with world.db.reading() as read:
        assert await read.value("SELECT count(*) FROM users WHERE email_key = lower($1)", email) == 1


async def test_bad_fields_of_signing_in_are_named(world: World) -> None:
    reply = await world.nobody.post(SESSION, {"email": "ada", "code": "12345", "label": ""})
    assert reply.fields == {"/email": "format", "/code": "too_short", "/label": "too_short"}
    assert (await world.nobody.post(SESSION)).fields == {"/email": "required", "/code": "required"}
    for code in ("12345a", "１２３４５６", "1234 5", "123456\n"):
        assert (await world.nobody.post(SESSION, {"email": "a@b.cd", "code": code})).status == 400, code
    for email in ("ada@example", "a b@example.org", "<ada@example.org>", "ada@example.org\u200b", "a" * 250):
        assert (await world.nobody.post(CODE, {"email": email})).fields.keys() == {"/email"}, email


async def test_a_closed_account_cannot_be_signed_in_to(world: World) -> None:
    made = await signed_in(world)
    email = made["user"]["email"]
    async with world.db.writing() as tx:
        await tx.run("UPDATE users SET status = 'disabled' WHERE id = $1", made["user"]["id"])

    refused = await world.nobody.post(SESSION, {"email": email, "code": await ask(world, email)})
    assert (refused.status, refused.error) == (403, "account_disabled")
    assert (await Browser(world, made["token"]).get(ME)).status == 401
    again = await world.nobody.post(REFRESH, {"refreshToken": made["refreshToken"]})
    assert again.error == "invalid_refresh_token"


async def test_codes_are_limited_by_address_and_by_sender(limited: World) -> None:
    def from_somebody() -> dict[str, Any]:
        return {"headers": {"X-Forwarded-For": f"2001:db8:{secrets.token_hex(2)}::1"}}

    email = new_address()
    code = await ask(limited, email, **from_somebody())
    for _ in range(4):
        code = await ask(limited, email, **from_somebody())
    sixth = await limited.nobody.post(CODE, {"email": email.swapcase()}, **from_somebody())
    assert (sixth.status, sixth.error) == (429, "rate_limited")
    assert int(sixth.headers["Retry-After"]) >= 1
    assert await code_of(limited, email) == code

    somebody = from_somebody()
    for _ in range(20):
        await ask(limited, new_address(), **somebody)
    assert (await limited.nobody.post(CODE, {"email": new_address()}, **somebody)).status == 429

    guesser = from_somebody()
    guess, tries = {"email": new_address(), "code": "000000"}, 0
    while (await limited.nobody.post(SESSION, guess, **guesser)).error == "invalid_code":
        tries += 1
    assert 60 <= tries < 70
    refused = await limited.nobody.post(SESSION, {"email": email, "code": code}, **guesser)
    assert (refused.status, refused.error) == (429, "rate_limited")
    (await limited.nobody.post(SESSION, {"email": email, "code": code}, **from_somebody())).ok(201)


async def test_a_refresh_token_is_good_once(world: World) -> None:
    first = await signed_in(world)
    second = (await world.nobody.post(REFRESH, {"refreshToken": first["refreshToken"]})).ok(200)
    third = (await world.nobody.post(REFRESH, {"refreshToken": second["refreshToken"]})).ok(200)

    assert second.keys() == {"token", "expiresAt", "refreshToken"}
    listed = (await Browser(world, third["token"]).get(SESSIONS)).ok()["items"]
    assert [session["current"] for session in listed] == [True]
    assert (await Browser(world, first["token"]).get(ME)).status == 200

    # Two people hold the token, and nobody can tell which of them is the right one.
    for held in (second, third, first):
        reply = await world.nobody.post(REFRESH, {"refreshToken": held["refreshToken"]})
        assert (reply.status, reply.error) == (403, "invalid_refresh_token")
        assert (await Browser(world, held["token"]).get(ME)).status == 401


async def test_of_two_refreshes_at_once_one_counts_and_the_session_ends(world: World) -> None:
    made = await signed_in(world)

    replies = await asyncio.gather(
        *(world.nobody.post(REFRESH, {"refreshToken": made["refreshToken"]}) for _ in range(2))
    )
    good, bad = sorted(replies, key=lambda reply: reply.status)
    assert (good.status, bad.error) == (200, "invalid_refresh_token")
    assert (await Browser(world, good.json["token"]).get(ME)).status == 401


async def test_what_is_no_refresh_token_gets_nothing_and_asks_the_database_nothing(world: World) -> None:
    made = await signed_in(world)
    good: str = made["refreshToken"]
    foreign = (await signed_in(world))["refreshToken"]
    changed = "A" if good[10] != "A" else "B"
    refusals: list[Reply] = []

    before = world.db.trips
    for token in (
        "x",
        "rft_",
        good[:-1],
        good + "A",
        good[:10] + changed + good[11:],
        good.removeprefix("rft_"),
        good.replace("rft_", "inv_"),
        good[:20] + foreign[20:],
        made["token"][:128],
        "rft_" + "é" * 70,
    ):
        refusals.append(await world.nobody.post(REFRESH, {"refreshToken": token}))
    assert world.db.trips == before
    assert {(reply.status, reply.error) for reply in refusals} == {(403, "invalid_refresh_token")}
    assert all(alike(reply) == alike(refusals[0]) for reply in refusals)
    (await world.nobody.post(REFRESH, {"refreshToken": good})).ok(200)


async def test_signing_out_takes_effect_at_once(world: World) -> None:
    made, other = await signed_in(world), await signed_in(world)
    ada = Browser(world, made["token"])
    (await ada.get(ME)).ok()

    out = await ada.delete(SESSION)
    assert out.status == 204
    assert out.headers["Set-Cookie"].startswith("__Host-session=; Path=/; Max-Age=0;")
    assert (await ada.get(ME)).status == 401
    assert (await ada.post(ME, {"name": "Gardeners"})).status == 401
    assert (await ada.delete(SESSION)).status == 401
    ended = await world.nobody.post(REFRESH, {"refreshToken": made["refreshToken"]})
    assert ended.error == "invalid_refresh_token"
    (await Browser(world, other["token"]).get(ME)).ok()


async def test_a_session_ends_by_the_clock_of_the_database(world: World) -> None:
    made = await signed_in(world)
    async with world.db.writing() as tx:
        await tx.run("UPDATE sessions SET expires_at = now() WHERE user_id = $1", made["user"]["id"])

    assert (await Browser(world, made["token"]).get(ME)).status == 401
    late = await world.nobody.post(REFRESH, {"refreshToken": made["refreshToken"]})
    assert late.error == "invalid_refresh_token"


async def test_people_see_and_end_their_own_sessions_and_nobody_elses(world: World) -> None:
    email = new_address()
    old = await signed_in(world, email, label="An old telephone")
    new = await signed_in(world, email, label="laptop")
    eve = Browser(world, (await signed_in(world))["token"])
    ada = Browser(world, new["token"])

    laptop, telephone = (await ada.get(SESSIONS)).ok()["items"]
    assert laptop.keys() == {"id", "label", "current", "createdAt", "refreshedAt", "expiresAt"}
    assert (laptop["label"], laptop["current"]) == ("laptop", True)
    assert (telephone["label"], telephone["current"]) == ("An old telephone", False)

    missing = await eve.delete(f"{SESSIONS}/sess_nobody")
    assert missing.status == 404
    assert alike(await eve.delete(f"{SESSIONS}/{telephone['id']}")) == alike(missing)
    (await Browser(world, old["token"]).get(ME)).ok()
    assert (await ada.delete(f"{SESSIONS}/{telephone['id']}")).status == 204
    assert (await Browser(world, old["token"]).get(ME)).status == 401
    assert alike(await ada.delete(f"{SESSIONS}/{telephone['id']}")) == alike(missing)
    assert (await ada.get(SESSIONS)).ok()["items"] == [laptop]


async def test_disabled_and_erased_people_are_refused_from_the_next_request_on(world: World) -> None:
    for status in ("disabled", "erased"):
        ada = await world.person("ada")
        (await ada.get(ME)).ok()
        async with world.db.writing() as tx:
            await tx.run(
                "UPDATE users SET status = $2, email = NULL, erased_at = now() WHERE id = $1", ada.id, status
            )

        refusals = [
            await ada.get(ME),
            await ada.post(ME, {"name": "Gardeners"}),
            await ada.post("/api/users/sync"),
            await ada.get(f"/api/members/{ada.id}/profile"),
            await ada.patch(f"/api/members/{ada.id}/profile", {"bio": "Still here."}),
            await ada.get("/api/users/me/export"),
            await ada.delete("/api/users/me"),
            await ada.get(SESSIONS),
            await ada.delete(SESSION),
        ]
        forged = await Browser(world, "forged").get(ME)
        assert all(alike(reply) == alike(forged) for reply in refusals), (status, refusals)


# One credential, in a cookie or as Bearer.


def with_cookie(person: Person, **headers: str) -> dict[str, Any]:
    return {"headers": {"Cookie": f"theme=dark; __Host-session={person.token}", **headers}}


async def test_the_cookie_of_a_new_session_is_for_this_host_and_no_script(world: World) -> None:
    email = new_address()
    made = await world.nobody.post(SESSION, {"email": email, "code": await ask(world, email)})

    value, *attributes = made.headers["Set-Cookie"].split("; ")
    assert value.startswith("__Host-session=")
    token = value.removeprefix("__Host-session=")
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} < set(attributes)
    assert any(29 * 86400 < int(one[8:]) <= 30 * 86400 for one in attributes if one.startswith("Max-Age="))
    cookie = {"headers": {"Cookie": f"__Host-session={token}"}}
    (await world.nobody.get(ME, **cookie)).ok()
    # It lives as long as the session, and not a moment longer.
    assert jwt.decode(token, options={"verify_signature": False})["exp"] > time.time() + 29 * 86400
    (await Browser(world, made.json["token"]).delete(SESSION)).ok(204)
    assert (await world.nobody.get(ME, **cookie)).status == 401


async def test_a_cookie_and_a_bearer_token_are_the_same_person(world: World) -> None:
    ada = await world.person("ada")

    by_bearer = (await ada.get(f"/api/members/{ada.id}/profile")).ok()
    path = f"/api/members/{ada.id}/profile"
    assert (await world.nobody.get(path, **with_cookie(ada))).ok() == by_bearer
    named_as_clerk_does = {"headers": {"Cookie": f"__session={ada.token}"}}
    assert (await world.nobody.get(path, **named_as_clerk_does)).ok() == by_bearer


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"Origin": ORIGIN}, 201),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}, 201),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}, 201),
        ({"Sec-Fetch-Site": "none"}, 201),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ORIGIN + ".evil.example"}, 403),
        ({"Origin": ORIGIN.upper()}, 403),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
async def test_a_change_by_cookie_comes_from_our_own_pages(
    world: World, headers: dict[str, str], status: int
) -> None:
    ada = await world.person("ada")
    before = world.db.trips

    reply = await world.nobody.post(ME, {"name": "Gardeners"}, **with_cookie(ada, **headers))
    assert reply.status == status
    if status == 403:
        assert (reply.error, world.db.trips - before) == ("forbidden", 0)
    # A token in a header is put there by a script of ours, whatever page it runs on; reading changes nothing.
    (await ada.post(ME, {"name": "Gardeners"}, headers=headers)).ok(201)
    (await world.nobody.get(ME, **with_cookie(ada, **headers))).ok(200)


async def test_one_request_has_one_credential(world: World) -> None:
    ada, eve = await world.people("ada", "eve")
    good, cookie = f"Bearer {ada.token}", f"__Host-session={ada.token}"
    forged = await Browser(world, "forged").get(ME)

    refused: list[list[tuple[str, str]]] = [
        [("Authorization", "Bearer forged"), ("Cookie", cookie)],
        [("Authorization", ""), ("Cookie", cookie)],
        [("Authorization", f"Basic {ada.token}"), ("Cookie", cookie)],
        [("Authorization", str(ada.token))],
        [("Authorization", f"Bearer {ada.token} {ada.token}")],
        [("Authorization", good), ("Authorization", good)],
        [("Authorization", good), ("Authorization", f"Bearer {eve.token}")],
        [("Cookie", f"{cookie}; __Host-session={eve.token}")],
        [("Cookie", f"{cookie}; __session={ada.token}")],
        [("Cookie", cookie), ("Cookie", f"__Host-session={eve.token}")],
        [("Cookie", f"session={ada.token}; token={ada.token}")],
        [("X-Authorization", good)],
    ]
    for headers in refused:
        reply = Reply(await world.client.get(ME, headers=headers))
        assert alike(reply) == alike(forged), headers
    for query in ("access_token", "token", "__session", "__Host-session", "authorization"):
        assert alike(await world.nobody.get(f"{ME}?{query}={ada.token}")) == alike(forged)
    split = [("Cookie", "theme=dark"), ("Cookie", cookie)]
    assert (await world.client.get(ME, headers=split)).status_code == 200


async def test_the_published_keys_verify_a_session_and_hold_no_secret(world: World) -> None:
    made = await signed_in(world)

    reply = await world.nobody.get("/.well-known/jwks.json")
    (key,) = reply.ok(200)["keys"]
    assert key.keys() == {"kty", "crv", "x", "kid", "use", "alg"}
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")
    assert reply.headers["Cache-Control"] == "public, max-age=300"
    assert jwt.get_unverified_header(made["token"])["kid"] == key["kid"]
    claims = jwt.decode(made["token"], jwt.PyJWK(key), algorithms=["EdDSA"])
    assert claims.keys() == {"iss", "sub", "sid", "iat", "nbf", "exp"}
    assert claims["sub"] == made["user"]["id"]


async def test_nothing_that_opens_a_session_is_in_the_database(world: World) -> None:
    email = new_address()
    code = await ask(world, email)
    reply = await world.nobody.post(
        SESSION, {"email": email, "code": code}, headers={"Idempotency-Key": "once"}
    )
    made = reply.ok(201)
    cookie = reply.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    waiting = await ask(world, email)

    signatures = [made["token"].rpartition(".")[2], cookie.rpartition(".")[2]]
    secret = [made["refreshToken"].removeprefix("rft_")[30:], *signatures]
    assert await find_everywhere(world.owner_url, secret) == []
    # Six digits may stand in any number, so the code itself is looked for where it could be.
    assert await find_everywhere(world.owner_url, [code, waiting], only={"sign_in_codes", "pgqueuer"}) == []


async def test_an_impersonation_is_recorded_beside_whom_it_acts_for(world: World) -> None:
    ada = await world.person("ada")
    issuer = world.house.service.issuer
    assert issuer is not None
    session = jwt.decode(ada.token or "", options={"verify_signature": False})["sid"]
    token = issuer.issue(ada.id, session, now=time.time(), lifetime_s=60, actor="user_support")

    made = (await Browser(world, token).post(ME, {"name": "Gardeners"})).ok(201)
    async with world.db.reading() as read:
        who = await read.connection.fetchrow(
            "SELECT actor, acting_as FROM audit WHERE space_id = $1::uuid", made["id"]
        )
    assert who is not None and tuple(who) == (ada.id, "user_support")


async def test_where_clerk_signs_people_in_there_is_no_signing_in_here(
    cluster: clusters.Cluster, database: str, tmp_path: Path
) -> None:
    settings = settings_for(
        tmp_path,
        clusters.app_url(cluster, database),
        database,
        IDENTITY="clerk",
        CLERK_ISSUER="https://clerk.example.org",
        CLERK_AUTHORIZED_PARTIES=PARTY,
    )
    async with open_world(settings) as clerks:
        assert (await clerks.nobody.get("/.well-known/jwks.json")).status == 404
        for path, body in (
            (CODE, {"email": "ada@example.org"}),
            (SESSION, {"email": "ada@example.org", "code": "123456"}),
            (REFRESH, {"refreshToken": "rft_x"}),
        ):
            assert (await clerks.nobody.post(path, body)).status == 404
