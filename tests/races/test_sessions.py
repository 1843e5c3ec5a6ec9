"""Sessions over two processes: what the one says, the other knows at once."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
import pytest

from guildhall.users import sign_in
from tests import cluster as clusters
from tests.races.pair import at_once, two_processes
from tests.world import Browser, World

ME = "/api/communities"


@pytest.fixture
async def pair(cluster: clusters.Cluster, database: str, tmp_path: Path) -> AsyncIterator[World]:
    async with two_processes(tmp_path, clusters.app_url(cluster, database), database) as world:
        yield world


async def ask(world: World, email: str) -> dict[str, str]:
    """A code as the mail would bring it, with its address."""
    (await world.nobody.post("/api/auth/code", {"email": email})).ok(202)
    async with world.db.reading() as read:
        row = await read.connection.fetchrow(
            "SELECT id, code_hash FROM sign_in_codes WHERE email_key = $1", email
        )
    assert row is not None
    code = sign_in.code_of(world.house.service.keys, row["id"], row["code_hash"])
    assert code is not None
    return {"email": email, "code": code}


async def test_a_session_is_one_in_every_process(pair: World) -> None:
    email = f"ada.{secrets.token_hex(6)}@example.org"
    asked = await ask(pair, email)

    # Of many uses of a code in both processes one counts.
    replies = await at_once(pair.nobody.post("/api/auth/session", asked) for _ in range(10))
    assert sorted(reply.status for reply in replies) == [201] + [403] * 9
    made = next(reply.json for reply in replies if reply.status == 201)
    ada = Browser(pair, made["token"])

    # Whoever verifies, in this process or elsewhere, does it with the same published key.
    for _ in range(2):
        (key,) = (await pair.nobody.get("/.well-known/jwks.json")).ok()["keys"]
        assert jwt.decode(made["token"], jwt.PyJWK(key), algorithms=["EdDSA"])["sub"] == made["user"]["id"]
        (await ada.get(ME)).ok()

    # Of two refreshes at once one counts, and the session ends, in both processes from the next request on.
    old = {"refreshToken": made["refreshToken"]}
    replies = await at_once(pair.nobody.post("/api/auth/session/refresh", old) for _ in range(2))
    assert sorted(reply.status for reply in replies) == [200, 403]
    assert [(await ada.get(ME)).status for _ in range(2)] == [401, 401]


async def test_signing_out_in_one_process_is_signing_out_in_all(pair: World) -> None:
    ada = await pair.person("ada")
    assert [(await ada.get(ME)).status for _ in range(2)] == [200, 200]

    (await ada.delete("/api/auth/session")).ok(204)
    assert [(await ada.get(ME)).status for _ in range(4)] == [401] * 4


async def test_many_first_sign_ins_of_one_address_make_one_person(pair: World) -> None:
    email = f"ada.{secrets.token_hex(6)}@example.org"

    # Each with the code it asked for last, whichever process gave it: one at a time is good.
    asked = [await ask(pair, email) for _ in range(6)]
    replies = await at_once(pair.nobody.post("/api/auth/session", one) for one in asked)
    assert [reply.status for reply in replies].count(201) == 1
    async with pair.db.reading() as read:
        people = await read.value("SELECT count(*) FROM users WHERE email_key = $1", email)
        hubs = await read.value(
            "SELECT count(*) FROM spaces s JOIN users u ON u.id = s.owner_id"
            " WHERE u.email_key = $1 AND s.is_personal",
            email,
        )
    assert (people, hubs) == (1, 1)
