"""A POST with an Idempotency-Key takes effect once, whichever process it reaches and however often."""

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from guildhall.web.idempotency import NEVER_KEPT
from tests import cluster as clusters
from tests.races.pair import at_once, two_processes
from tests.wire.furnished import OPERATIONS, furnish
from tests.world import Browser, Reply, World, open_world, settings_for

pytestmark = pytest.mark.xdist_group("wire")

SECRET = "another secret for tests alone, 32 bytes and more"


@pytest_asyncio.fixture(scope="module")
async def url(cluster: clusters.Cluster, template: str) -> AsyncIterator[str]:
    url = await clusters.clone_database(cluster, template)
    yield url
    await clusters.drop_database(cluster, url)


@pytest_asyncio.fixture(scope="module")
async def pair(
    cluster: clusters.Cluster, url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """Two processes of the service, of which each request goes to the next."""
    folder: Path = tmp_path_factory.mktemp("pair")
    async with two_processes(folder, clusters.app_url(cluster, url), url) as world:
        yield world


def new_key() -> str:
    return secrets.token_hex(16)


async def post(browser: Browser, path: str, body: Any, key: str, **headers: str) -> Reply:
    return await browser.post(path, body, headers={"Idempotency-Key": key, **headers})


def kept(reply: Reply) -> tuple[int, bytes, dict[str, str]]:
    """What a repeat has to be the same in."""
    names = ("content-type", "set-cookie", "etag", "cache-control")
    return reply.status, reply.response.content, {n: reply.headers[n] for n in names if n in reply.headers}


def is_repeat(reply: Reply) -> bool:
    return reply.headers.get("idempotency-replayed") == "true"


async def count(world: World, table: str) -> int:
    async with world.db.reading() as read:
        return await read.connection.fetchval(f"SELECT count(*) FROM {table}")


POSTS = [operation for operation in OPERATIONS if operation.method == "POST"]


@pytest.mark.parametrize("operation", POSTS, ids=lambda operation: operation.name)
async def test_every_post_answers_a_repeat_as_it_answered_first(pair: World, operation: Any) -> None:
    home = await furnish(pair)
    path = home.path(operation)
    body = home.body(operation) if operation.body is not None else None
    key = new_key()
    first, second = [await post(home.ada, path, body, key) for _ in range(2)]
    assert not is_repeat(first)
    if first.status in (400, 401, 429) or first.status >= 500 or path in NEVER_KEPT:
        # Sent again it may well be answered otherwise.
        assert not is_repeat(second)
    else:
        assert is_repeat(second), second
        assert kept(second) == kept(first)
        assert second.headers["x-request-id"] != first.headers["x-request-id"]


async def test_of_many_twins_at_once_one_takes_effect(pair: World) -> None:
    home = await furnish(pair)
    body = {"communityId": home.named["community_id"], "content": "Once"}
    before = await count(pair, "posts")
    key = new_key()
    replies = await at_once(post(home.ada, "/api/posts", body, key) for _ in range(40))
    assert await count(pair, "posts") == before + 1
    statuses = Counter(reply.status for reply in replies)
    assert statuses.keys() <= {201, 409}
    assert len({reply.json["id"] for reply in replies if reply.status == 201}) == 1
    assert {reply.error for reply in replies if reply.status == 409} <= {"idempotency_in_flight"}
    assert sum(reply.status == 201 and not is_repeat(reply) for reply in replies) == 1


@asynccontextmanager
async def held(world: World, community: str) -> AsyncIterator[asyncpg.Connection]:
    """Makes every change in the community wait."""
    owner = await asyncpg.connect(world.owner_url)
    try:
        await owner.execute("BEGIN")
        await owner.execute("SELECT FROM spaces WHERE id = $1 FOR UPDATE", community)
        yield owner
        await owner.execute("ROLLBACK")
    finally:
        await owner.close()


async def waiting(owner: asyncpg.Connection) -> int:
    """The process of the database that serves the request which waits for the lock."""
    async with asyncio.timeout(5):
        while True:
            found = await owner.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()"
            )
            if found is not None:
                return found
            await asyncio.sleep(0.01)


async def test_a_twin_is_told_that_the_first_is_being_served(pair: World) -> None:
    home = await furnish(pair)
    body = {"communityId": home.named["community_id"], "name": "Once"}
    key = new_key()
    async with held(pair, home.named["community_id"]) as owner:
        first = asyncio.create_task(post(home.ada, "/api/groups", body, key))
        await waiting(owner)
        twin = await post(home.ada, "/api/groups", body, key)
        assert (twin.status, twin.error) == (409, "idempotency_in_flight")
        assert twin.headers["retry-after"] == "1"
        # Also with another body: nothing is known of the first yet.
        assert (await post(home.ada, "/api/groups", {**body, "name": "Twice"}, key)).status == 409
    made = (await first).ok(201)
    assert (await post(home.ada, "/api/groups", body, key)).ok(201) == made


async def test_what_dies_with_its_connection_leaves_nothing_and_can_be_sent_again(pair: World) -> None:
    home = await furnish(pair)
    body = {"communityId": home.named["community_id"], "name": "Once"}
    key = new_key()
    before = await count(pair, "groups")
    async with held(pair, home.named["community_id"]) as owner:
        first = asyncio.create_task(post(home.ada, "/api/groups", body, key))
        await owner.execute("SELECT pg_terminate_backend($1)", await waiting(owner))
        lost = await first
        assert (lost.status, lost.error) == (503, "unavailable")
        assert int(lost.headers["retry-after"]) >= 1
    assert await count(pair, "groups") == before
    again = await post(home.ada, "/api/groups", body, key)
    again.ok(201)
    assert not is_repeat(again)
    assert await count(pair, "groups") == before + 1


async def test_a_key_used_for_something_else_is_refused(pair: World) -> None:
    ada = await pair.person("ada")
    key = new_key()
    made = await post(ada, "/api/communities", {"name": "First"}, key)
    made.ok(201)
    other = await post(ada, "/api/communities", {"name": "Second"}, key)
    assert (other.status, other.error) == (422, "idempotency_key_reused")
    assert kept(await post(ada, "/api/communities", {"name": "First"}, key)) == kept(made)
    assert len((await ada.get("/api/communities")).ok()["items"]) == 1


async def test_a_key_is_ones_own_and_for_one_path(pair: World) -> None:
    home = await furnish(pair)
    key = new_key()
    here = {"communityId": home.named["community_id"], "content": "Same", "name": "Same"}
    made = [
        await post(who, path, here, key)
        for who in (home.ada, home.bo)
        for path in ("/api/posts", "/api/communities")
    ]
    assert len({reply.ok(201)["id"] for reply in made}) == 4
    assert not any(is_repeat(reply) for reply in made)


async def test_refusals_about_the_state_are_kept_and_about_the_request_are_not(pair: World) -> None:
    ada, bo = await pair.people("ada", "bo")
    community = await pair.community(ada, isPrivate=True)
    key = new_key()
    hidden = await post(bo, f"{community.url}/join", None, key)
    assert hidden.status == 404
    (await ada.patch(community.url, {"isPrivate": False})).ok()
    assert kept(await post(bo, f"{community.url}/join", None, key)) == kept(hidden)
    (await post(bo, f"{community.url}/join", None, new_key())).ok(201)

    key = new_key()
    assert (await post(ada, "/api/communities", {"name": "x"}, key)).status == 400
    (await post(ada, "/api/communities", {"name": "Gardeners"}, key)).ok(201)

    key = new_key()
    assert (await post(pair.nobody, "/api/communities", {"name": "Gardeners"}, key)).status == 401
    (await post(ada, "/api/communities", {"name": "Gardeners"}, key)).ok(201)


async def test_nothing_is_kept_of_a_route_that_is_not_there(pair: World) -> None:
    ada = await pair.person("ada")
    before = await count(pair, "idempotency_keys")
    for browser in (pair.nobody, ada):
        for path in ("/api/nothing", "/api/health", f"/api/{'x' * 60}", "/"):
            assert (await post(browser, path, {}, new_key())).status in (404, 405)
    assert await count(pair, "idempotency_keys") == before


async def test_after_a_day_a_key_is_forgotten(pair: World) -> None:
    ada = await pair.person("ada")
    key = new_key()
    first = (await post(ada, "/api/communities", {"name": "First"}, key)).ok(201)

    async def age(interval: str) -> None:
        owner = await asyncpg.connect(pair.owner_url)
        await owner.execute(f"UPDATE idempotency_keys SET created_at = now() - interval '{interval}'")
        await owner.close()

    await age("23 hours 59 minutes")
    assert (await post(ada, "/api/communities", {"name": "First"}, key)).ok(201) == first
    await age("24 hours 1 second")
    second = (await post(ada, "/api/communities", {"name": "Second"}, key)).ok(201)
    assert second["id"] != first["id"]
    assert (await post(ada, "/api/communities", {"name": "Second"}, key)).ok(201) == second


async def test_who_was_signed_out_is_not_told_again(pair: World) -> None:
    home = await furnish(pair)
    path, key = f"/api/communities/{home.named['community_id']}/invite", new_key()
    body = {"email": "gus@example.org"}
    assert "token" in (await post(home.ada, path, body, key)).ok(201)
    (await home.ada.delete("/api/auth/session")).ok(204)
    again = await post(home.ada, path, body, key)
    assert (again.status, again.error) == (401, "unauthorized")


async def test_who_has_left_is_not_told_again(pair: World) -> None:
    ada, bo = await pair.people("ada", "bo")
    hub, other = await pair.hub(ada, contributors=[bo]), await pair.hub(bo)
    at = {"X-Hub-ID": hub.id}
    (await ada.post("/v1/memories", {"content": "The canary sings at dawn."}, headers=at)).data(201)
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    asked["params"] = {"name": "recall", "arguments": {"query": "canary"}}
    calls: list[tuple[str, dict[str, Any], str, dict[str, str]]] = [
        ("/v1/recall", {"query": "canary"}, new_key(), {}),
        ("/v1/ask", {"query": "canary"}, new_key(), {}),
        ("/v1/memories", {"content": "It sleeps at noon."}, new_key(), at),
        ("/mcp", asked, new_key(), {"Accept": "application/json, text/event-stream"}),
    ]
    elsewhere = ("/v1/topics", {"name": "Beans", "hub_id": other.id}, new_key())
    for path, body, key, headers in calls:
        first = await post(bo, path, body, key, **headers)
        assert hub.id in first.response.text, first
        assert kept(await post(bo, path, body, key, **headers)) == kept(first)
    made = await post(bo, *elsewhere)
    (await ada.delete(f"{hub.url}/members/{bo.id}")).data(200)
    for path, body, key, headers in calls:
        for _ in range(2):
            again = await post(bo, path, body, key, **headers)
            assert (again.status, again.error, is_repeat(again)) == (403, "forbidden", False)
            assert hub.id not in again.response.text
    assert kept(await post(bo, *elsewhere)) == kept(made)


async def test_who_is_put_out_while_they_are_answered_is_told_once(pair: World) -> None:
    """The membership ends after the answer was made, and before it is kept."""
    ada, bo = await pair.people("ada", "bo")
    hub = await pair.hub(ada)
    at = {"X-Hub-ID": hub.id}
    (await ada.post("/v1/memories", {"content": "The canary sings at dawn."}, headers=at)).data(201)
    body = {"query": "canary"}
    while True:
        key = new_key()
        (await ada.post(f"{hub.url}/members", {"user_id": bo.id, "role": "viewer"})).data(200)
        async with nothing_is_noted_as_shown(pair) as somebody_waits:
            asking = asyncio.create_task(post(bo, "/v1/recall", body, key))
            await somebody_waits(asking)
            (await ada.delete(f"{hub.url}/members/{bo.id}")).data(200)
        first = await asking
        # On a busy machine it may have waited for longer than it may.
        if first.status != 503:
            break
    assert "sings at dawn" in first.response.text, first
    again = await post(bo, "/v1/recall", body, key)
    assert (again.status, again.error) == (403, "forbidden")


@asynccontextmanager
async def nothing_is_noted_as_shown(
    pair: World,
) -> AsyncIterator[Callable[[asyncio.Task[Reply]], Awaitable[None]]]:
    """A recall waits in here with its last statement; what is given waits until one does, or has ended."""
    blocker, watcher = [await asyncpg.connect(pair.owner_url) for _ in range(2)]

    async def somebody_waits(asking: asyncio.Task[Reply]) -> None:
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'recall_receipts'::regclass"
        while not asking.done() and not await watcher.fetchval(waiting):
            await asyncio.sleep(0.01)

    try:
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE recall_receipts IN SHARE MODE")
            yield somebody_waits
    finally:
        await blocker.close()
        await watcher.close()


async def test_leaving_is_told_again(pair: World) -> None:
    ada, bo = await pair.people("ada", "bo")
    hub = await pair.hub(ada, viewers=[bo])
    key = new_key()
    first = await post(bo, f"{hub.url}/leave", {}, key)
    assert first.data(200) == {"status": "left", "hub_id": hub.id}
    again = await post(bo, f"{hub.url}/leave", {}, key)
    assert is_repeat(again) and kept(again) == kept(first)


@pytest.mark.parametrize("key", ["", "a" * 256, "caf\u00e9", "a\tb"])
async def test_a_key_is_1_to_255_printable_characters(pair: World, key: str) -> None:
    ada = await pair.person("ada")
    answer = await ada.post(
        "/api/communities", {"name": "Gardeners"}, headers=[("Idempotency-Key", key.encode("latin-1"))]
    )
    assert (answer.status, answer.fields) == (400, {"Idempotency-Key": "format"})
    assert (await ada.get("/api/communities")).ok()["items"] == []
    # Also where nothing is kept of an answer.
    again = await ada.post("/api/stream/token", headers=[("Idempotency-Key", key.encode("latin-1"))])
    assert again.fields == {"Idempotency-Key": "format"}


async def test_the_longest_key_is_a_key_and_other_methods_need_none(pair: World) -> None:
    ada = await pair.person("ada")
    (await post(ada, "/api/communities", {"name": "First"}, "~" * 255)).ok(201)
    again = await post(ada, "/api/communities", {"name": "First"}, "~" * 255)
    assert is_repeat(again)
    url = f"/api/communities/{again.json['id']}"
    for name in ("Second", "Third"):
        answer = await ada.patch(url, {"name": name}, headers={"Idempotency-Key": "same"})
        assert answer.ok()["name"] == name
    for status in (204, 404):
        assert (await ada.delete(url, headers={"Idempotency-Key": "same"})).status == status


async def test_what_is_kept_cannot_be_read_from_the_database(pair: World) -> None:
    home = await furnish(pair)
    key = new_key()
    email = f"{new_key()}@example.org"
    path = f"/api/communities/{home.named['community_id']}/invite"
    made = (await post(home.ada, path, {"email": email}, key)).ok(201)
    owner = await asyncpg.connect(pair.owner_url)
    rows = await owner.fetch("SELECT idempotency_keys::text AS row, * FROM idempotency_keys")
    await owner.close()
    # The hash of a short body could be tried out, and that of a key as well where it is a plain number.
    sent = b'{"email":"' + email.encode() + b'"}'
    for secret in (made["token"], made["token"][4:], email, key, home.ada.id):
        for row in rows:
            assert secret not in row["row"]
            assert secret.encode() not in row["answer"]
    hashes = {hashlib.sha256(value).hexdigest() for value in (sent, key.encode())}
    assert not any(found in row["row"] for found in hashes for row in rows)
    # Not even that two answers are alike.
    assert len({row["answer"] for row in rows}) == len(rows)


async def test_a_changed_secret_opens_what_the_previous_one_sealed(
    pair: World, cluster: clusters.Cluster, url: str, tmp_path: Path
) -> None:
    ada = await pair.person("ada")
    key = new_key()
    first = await post(ada, "/api/communities", {"name": "First"}, key)
    previous = pair.house.settings.secrets[0].reveal().decode()
    app_url = clusters.app_url(cluster, url)
    for more, status in (({"SECRET_PREVIOUS": previous}, 201), ({}, 401)):
        settings = settings_for(tmp_path, app_url, url, **{**more, "SECRET": SECRET})
        async with open_world(settings) as world:
            again = await post(Browser(world, ada.token), "/api/communities", {"name": "First"}, key)
            assert again.status == status
            assert is_repeat(again) == (status == 201)
            assert kept(again) == kept(first) or status == 401
