"""The way into the chat service: for oneself, for an hour, and never before the service knows one."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
import pytest

from tests import cluster as clusters
from tests.servers.stream_server import Die, Fail, StreamServer, stream_server
from tests.world import World, open_world, settings_for

PATH = "/api/stream/token"


@pytest.fixture
async def chat() -> AsyncIterator[StreamServer]:
    async with stream_server() as server:
        yield server


@pytest.fixture
async def talking(
    chat: StreamServer, cluster: clusters.Cluster, database: str, tmp_path: Path
) -> AsyncIterator[World]:
    """A world with a chat service."""
    settings = settings_for(
        tmp_path,
        clusters.app_url(cluster, database),
        database,
        CHAT_URL=chat.base_url,
        CHAT_KEY=chat.api_key,
        CHAT_SECRET=chat.secret,
        RATE_LIMIT_SCALE="1",
    )
    async with open_world(settings) as world:
        yield world


async def test_a_token_is_for_oneself_and_the_chat_service_knows_one(
    chat: StreamServer, talking: World
) -> None:
    ada = await talking.person("ada")
    async with talking.db.writing() as tx:
        await tx.run("UPDATE users SET avatar_url = 'https://a.example/a.png' WHERE id = $1", ada.id)

    before = time.time()
    body = (await ada.post(PATH, {"userId": "user_other", "user_id": "user_other"})).ok(200)
    assert body.keys() == {"token", "userId", "apiKey", "expiresAt", "baseUrl"}
    assert (body["userId"], body["apiKey"], body["baseUrl"]) == (ada.id, chat.api_key, chat.base_url)
    claims = jwt.decode(body["token"], chat.secret, algorithms=["HS256"])
    assert claims.keys() == {"user_id", "iat", "exp"}
    assert claims["user_id"] == ada.id
    assert before + 3500 < claims["exp"] <= time.time() + 3600
    assert body["expiresAt"].endswith("Z")
    assert chat.users[ada.id] == {
        "id": ada.id,
        "name": "ada",
        "image": "https://a.example/a.png",
        "role": "user",
    }


async def test_a_token_takes_two_round_trips(talking: World) -> None:
    ada = await talking.person("ada")

    before = talking.db.trips
    (await ada.post(PATH)).ok(200)
    assert talking.db.trips - before == 2


async def test_twenty_tokens_a_minute_are_given_out(chat: StreamServer, talking: World) -> None:
    ada, bo = await talking.people("ada", "bo")

    for _ in range(20):
        (await ada.post(PATH)).ok(200)
    calls = len(chat.calls)
    refused = await ada.post(PATH)
    assert (refused.status, refused.error) == (429, "rate_limited")
    assert refused.headers["Retry-After"].isdigit()
    assert len(chat.calls) == calls
    (await bo.post(PATH)).ok(200)


async def test_no_token_is_given_out_before_the_chat_service_knows_the_person(
    chat: StreamServer, talking: World
) -> None:
    ada = await talking.person("ada")

    for fault in (Die(), Fail(500), Fail(429, 9, (("retry-after", "7"),)), Fail(403, 17)):
        chat.faults.on("POST", "/users", fault, None)
        reply = await ada.post(PATH)
        assert (reply.status, reply.error) == (503, "chat_unavailable"), fault
        assert int(reply.headers["Retry-After"]) >= 1
        assert ada.id not in chat.users
        chat.faults.clear()
    (await ada.post(PATH)).ok(200)


async def test_nobody_gets_a_token_without_a_living_account(chat: StreamServer, talking: World) -> None:
    ada = await talking.person("ada")
    async with talking.db.writing() as tx:
        await tx.run("UPDATE users SET status = 'disabled' WHERE id = $1", ada.id)

    assert (await ada.post(PATH)).status == 401
    assert (await talking.nobody.post(PATH)).status == 401
    assert chat.calls_to("POST", "/users") == []


async def test_a_token_is_never_kept_in_the_database(talking: World) -> None:
    ada = await talking.person("ada")

    (await ada.post(PATH, headers={"Idempotency-Key": "k"})).ok(200)
    async with talking.db.reading() as read:
        kept = await read.value(
            "SELECT count(*) FROM idempotency_keys WHERE position('apiKey'::bytea IN answer) > 0"
        )
    assert kept == 0


async def test_without_a_chat_service_it_says_so(world: World) -> None:
    ada = await world.person("ada")

    reply = await ada.post(PATH)
    assert (reply.status, reply.error) == (503, "chat_not_configured")


async def test_clients_of_the_vendors_cloud_need_no_address(
    cluster: clusters.Cluster, database: str, tmp_path: Path
) -> None:
    from guildhall.chat.routes import _base_url

    assert _base_url("https://chat.stream-io-api.com") is None
    assert _base_url("https://chat-us-east-1.stream-io-api.com") is None
    assert _base_url("https://notstream-io-api.com") == "https://notstream-io-api.com"
    assert _base_url("http://localhost:3033") == "http://localhost:3033"
