"""How often anybody may do what: each limit by its number, at every route that has it, over all processes."""

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

import guildhall
from guildhall.errors import TooManyRequests
from guildhall.web.caller import WRITES
from guildhall.web.limits import EXACT, LOCAL, MOST_BUCKETS, Limiter
from guildhall.web.openapi import Operation
from tests import cluster as clusters
from tests.races.pair import at_once, two_processes
from tests.servers.stream_server import stream_server
from tests.wire.furnished import OPERATIONS, Furnished, furnish
from tests.wire.served import Served, request
from tests.world import Browser, Reply, World, open_world, settings_for

pytestmark = pytest.mark.xdist_group("wire")

# How many at once, and how many seconds until one more. These are promises: they are not read from the code.
PROMISED: dict[str, list[tuple[int, float]]] = {
    "user": [(200, 60 / 1200)],
    "user writes": [(240, 60 / 240)],
    "content": [(80, 60 / 80), (500, 3600 / 500)],
    "address": [(120, 60 / 120)],
    "invite look-up": [(30, 60 / 30)],
    "invite misses": [(600, 60 / 600)],
    "accept": [(10, 60 / 10)],
    "slug check": [(30, 60 / 30)],
    "profile": [(120, 60 / 120)],
    "direct add": [(30, 60 / 30)],
    "sync": [(30, 60 / 30)],
    "search": [(60, 60 / 60)],
    "type-ahead": [(300, 60 / 300)],
    "ask": [(30, 60 / 30)],
    "batch": [(15, 60 / 15)],
    "code request": [(5, 60 / 5)],
    "code try": [(20, 60 / 20)],
    "tokens": [(30, 60 / 30)],
    "invites by a user": [(20, 3600 / 20)],
    "invites of a space": [(100, 86400 / 100)],
    "invites to an address": [(3, 86400 / 3)],
    "backlog from an address": [(10, 60 / 10), (200, 86400 / 200)],
    "backlog": [(60, 60 / 60)],
    "chat token": [(20, 60 / 20)],
    "code to an address": [(5, 3600 / 5)],
    "codes from an address": [(20, 3600 / 20)],
    "code tries from an address": [(60, 3600 / 60)],
    "export": [(3, 86400 / 3)],
    "keys by a user": [(30, 3600 / 30)],
    "onboarding restarts": [(3, 86400 / 3)],
}


@pytest_asyncio.fixture(scope="module")
async def url(cluster: clusters.Cluster, template: str) -> AsyncIterator[str]:
    url = await clusters.clone_database(cluster, template)
    yield url
    await clusters.drop_database(cluster, url)


@pytest_asyncio.fixture(scope="module")
async def limited(
    cluster: clusters.Cluster, url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """A world with its limits as they are by default."""
    async with stream_server() as chat:
        settings = settings_for(
            tmp_path_factory.mktemp("limits"),
            clusters.app_url(cluster, url),
            url,
            RATE_LIMIT_SCALE="1",
            TRUSTED_PROXIES="127.0.0.1",
            CHAT_URL=chat.base_url,
            CHAT_KEY=chat.api_key,
            CHAT_SECRET=chat.secret,
        )
        async with open_world(settings) as world:
            yield world


def test_every_limit_is_promised_and_every_promise_is_a_limit() -> None:
    assert PROMISED.keys() == LOCAL.keys() | EXACT.keys()
    assert not LOCAL.keys() & EXACT.keys()


def test_every_limit_holds_somewhere() -> None:
    said = {limit for handler in HANDLERS.values() for limit in handler.get("limits", ())}
    source = "\n".join(path.read_text("utf-8") for path in Path(guildhall.__file__).parent.rglob("*.py"))
    usual = {"user", "user writes", "address"}
    for limit in LOCAL.keys() - said - usual:
        assert f'take("{limit}"' in source, limit
    for limit in EXACT:
        assert f'("{limit}", ' in source, limit


def wait_s(limiter: Limiter, limit: str, at: float) -> int:
    """How long to wait for one more; 0 when it was let through."""
    try:
        limiter.take(limit, "ada", now=at)
    except TooManyRequests as refused:
        assert refused.retry_after_s is not None
        return refused.retry_after_s
    return 0


@pytest.mark.parametrize("limit", LOCAL)
def test_a_limit_in_the_process_lets_the_promised_number_through(limit: str) -> None:
    allowed, each_s = PROMISED[limit][0]
    for scale in (1.0, 2.0):
        limiter, most, each = Limiter(scale), int(allowed * scale), each_s / scale
        assert [wait_s(limiter, limit, 1_000) for _ in range(most)] == [0] * most
        assert each <= wait_s(limiter, limit, 1_000) < each + 1
        # Refusals cost nothing, and one more comes when it is due.
        assert [wait_s(limiter, limit, 1_000 + each * part) > 0 for part in (0.9, 1.01, 1.02)] == [
            True,
            False,
            True,
        ]
        limiter.take(limit, "bo", now=1_000)


def test_who_creates_without_pause_is_held_to_the_hour_as_well() -> None:
    limiter = Limiter()
    created = [
        sum(wait_s(limiter, "content", minute * 60.01) == 0 for _ in range(100)) for minute in range(10)
    ]
    assert created[:6] == [80] * 6
    assert sum(created) == 500 + 9 * 60 * 500 // 3600


def test_a_scale_of_0_is_no_limit_and_forgotten_buckets_bound_the_memory() -> None:
    free = Limiter(0)
    for _ in range(10_000):
        free.take("accept", "ada")
    tracemalloc.start()
    try:
        limiter = Limiter()
        for number in range(MOST_BUCKETS + 1_000):
            # As long as addresses get.
            address = f"2001:0db8:0000:0000:0000:0000:{number >> 16:04x}:{number & 0xFFFF:04x}"
            limiter.take("address", address, now=float(number))
        assert len(limiter._buckets) == MOST_BUCKETS
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
    finally:
        tracemalloc.stop()


async def tokens(world: World, limit: str, subject: str, times: int) -> list[bool]:
    """Which of so many, a few at once, were let through."""
    few = asyncio.Semaphore(5)

    async def take() -> bool:
        try:
            async with few, world.db.writing() as tx:
                await world.house.service.limiter.take_exact(tx, (limit, subject))
        except TooManyRequests as refused:
            assert refused.retry_after_s is not None and refused.retry_after_s >= 1
            return False
        return True

    return await at_once(take() for _ in range(times))


@pytest.mark.parametrize("limit", EXACT)
async def test_an_exact_limit_lets_the_promised_number_through_over_all_processes(
    limited: World, cluster: clusters.Cluster, url: str, tmp_path: Path, limit: str
) -> None:
    allowed, each_s = min(PROMISED[limit])
    async with open_world(
        settings_for(tmp_path, clusters.app_url(cluster, url), url, RATE_LIMIT_SCALE="1")
    ) as other:
        began = time.monotonic()
        found = await at_once(tokens(world, limit, "ada", allowed) for world in (limited, other))
        refilled = int((time.monotonic() - began) / each_s) + 1
    passed = sum(sum(each) for each in found)
    assert allowed <= passed <= allowed + refilled
    assert await tokens(limited, limit, "bo", 1) == [True]


async def drained(limited: World, limit: str, subject: str) -> None:
    """Use up the limit for a while."""
    if limit in LOCAL:
        limiter = limited.house.service.limiter
        with pytest.raises(TooManyRequests):
            for _ in range(1_000):
                limiter.take(limit, subject, now=time.monotonic() + 30)
        return
    while any(await tokens(limited, limit, subject, 10)):
        pass


ADDRESS = "203.0.113.9"


def limits_of(operation: Operation) -> set[str]:
    """The limits a route has beside those of all routes."""
    found = set(OWN.get(operation.name, ()))
    handler = HANDLERS[operation.name]
    if not handler.get("unlimited"):
        found |= set(handler.get("limits", ()))
        found.add("address" if operation.guest else "user")
        if not operation.guest and operation.method in WRITES:
            found.add("user writes")
    return found


def _handlers() -> dict[str, Any]:
    from guildhall.wiring import ROUTES

    return {handler.fn.__name__: handler.opt for handler in ROUTES}


HANDLERS = _handlers()
# What is promised of routes by name; the rest they say themselves.
OWN: dict[str, tuple[str, ...]] = {
    "create_community": ("content",),
    "create_group": ("content",),
    "create_post": ("content",),
    "create_upload": ("content",),
    "look_up_invite": ("invite look-up",),
    "accept_invite": ("accept",),
    "read_profile": ("profile",),
    "add_to_group": ("direct add",),
    "sync_user": ("sync",),
    "create_invite": ("invites by a user", "invites of a space", "invites to an address"),
    "regenerate_invite": ("invites by a user", "invites of a space"),
    "create_item": ("backlog from an address", "backlog"),
    "update_item": ("backlog from an address", "backlog"),
    "delete_item": ("backlog from an address", "backlog"),
    "create_chat_token": ("chat token",),
    "ask_for_code": ("code to an address", "codes from an address"),
    "create_session": ("code tries from an address",),
    "export_me": ("export",),
}
SERVED = [operation for operation in OPERATIONS if operation.path.startswith("/api/")]


def subject(home: Furnished, limit: str) -> str:
    if limit in ("address", "invite look-up", "codes from an address", "code tries from an address"):
        return ADDRESS
    return {
        "backlog from an address": ADDRESS,
        "backlog": "everybody",
        "invites of a space": home.named["community_id"],
        "invites to an address": "eve@example.org",
        "code to an address": "eve@example.org",
        "invite misses": "all",
    }.get(limit, home.ada.id)


@pytest.mark.parametrize("operation", SERVED, ids=lambda operation: operation.name)
async def test_every_route_has_the_limits_it_should(limited: World, operation: Operation) -> None:
    for limit in sorted(limits_of(operation)):
        await unlimit(limited)
        home = await furnish(limited)
        who = subject(home, limit)
        await drained(limited, limit, who)
        refused = await ask(home, operation, home.ada)
        assert (refused.status, refused.error) == (429, "rate_limited"), (limit, refused)
        assert refused.headers["retry-after"].isdigit() and int(refused.headers["retry-after"]) >= 1
        await unlimit(limited)
        served = await ask(home, operation, home.ada)
        # An invite has a limit of its own for being sent again.
        assert served.status != 429 or operation.name == "resend_invite", (limit, served)


async def ask(home: Furnished, operation: Operation, who: Browser) -> Reply:
    body = home.body(operation) if operation.body is not None else None
    if body is not None and "email" in body:
        body["email"] = "eve@example.org"
    headers = {"X-Forwarded-For": f"10.0.0.1, {ADDRESS}"}
    browser = home.ada.world.nobody if operation.guest else who
    return await browser.call(operation.method, home.path(operation), body, headers=headers)


async def unlimit(limited: World) -> None:
    """As if nobody had asked for anything for a long time."""
    limited.house.service.limiter._buckets.clear()
    owner = await asyncpg.connect(limited.owner_url)
    await owner.execute("DELETE FROM rate_buckets")
    await owner.close()


async def test_a_refused_change_uses_nothing_up(limited: World) -> None:
    await unlimit(limited)
    home = await furnish(limited)
    await unlimit(limited)
    url = f"/api/communities/{home.named['community_id']}/invite"
    for _ in range(25):
        assert (await home.ada.post(url, {"email": home.bo.email})).error == "already_member"
        limited.house.service.limiter._buckets.clear()
    made = [await home.ada.post(url, {"email": f"gus{number}@example.org"}) for number in range(21)]
    assert [reply.status for reply in made] == [201] * 20 + [429]


@pytest.mark.parametrize(("scale", "seconds", "times"), [(1, 600, 5), (2, 300, 10)])
async def test_an_invite_is_sent_again_once_in_ten_minutes_and_five_times_in_all(
    limited: World, monkeypatch: pytest.MonkeyPatch, scale: int, seconds: int, times: int
) -> None:
    monkeypatch.setattr(limited.house.service.limiter, "scale", scale)
    await unlimit(limited)
    home = await furnish(limited)
    url = f"/api/communities/{home.named['community_id']}/invites/{home.named['invite_id']}/resend"
    owner = await asyncpg.connect(limited.owner_url)
    try:
        statuses: list[int] = []
        for wait_s in (seconds - 60, *[seconds + 1] * (times + 2)):
            await unlimit(limited)
            await owner.execute(
                "UPDATE invites SET created_at = created_at - make_interval(secs => $2),"
                " resent_at = resent_at - make_interval(secs => $2) WHERE id = $1",
                home.named["invite_id"],
                wait_s,
            )
            statuses += [(await home.ada.post(url)).status for _ in range(2)]
    finally:
        await owner.close()
    assert statuses[:2] == [429, 429]
    assert statuses.count(200) == times, statuses
    assert set(statuses) <= {200, 429}


async def test_the_address_is_the_nearest_proxys_word_and_nobody_elses(
    limited: World, served: Served, cluster: clusters.Cluster, url: str, tmp_path: Path
) -> None:
    await unlimit(limited)
    await drained(limited, "address", ADDRESS)

    async def status(world: World, *forwarded: str) -> int:
        headers = [("X-Forwarded-For", text) for text in forwarded]
        return (await world.client.get("/api/backlog", headers=headers)).status_code

    assert await status(limited, ADDRESS) == 429
    assert await status(limited, f"10.0.0.1, {ADDRESS}") == 429
    assert await status(limited, "10.0.0.1", ADDRESS) == 429
    assert await status(limited, f"{ADDRESS}, 10.0.0.1") == 200
    assert await status(limited) == 200
    # Where no proxy is trusted the header is a stranger's claim.
    settings = settings_for(tmp_path, clusters.app_url(cluster, url), url, RATE_LIMIT_SCALE="1")
    async with open_world(settings) as world:
        await drained(world, "address", ADDRESS)
        assert await status(world, ADDRESS) == 200
        await drained(world, "address", "127.0.0.1")
        assert await status(world, "10.0.0.1") == 429
        assert (await world.nobody.get("/api/health")).status == 200
    assert (await served.ask(request("GET", "/api/backlog", f"X-Forwarded-For: {ADDRESS}"))).status == 200


async def test_ipv6_addresses_of_one_network_are_one(limited: World) -> None:
    async def status(address: str) -> int:
        return (await limited.client.get("/api/backlog", headers={"X-Forwarded-For": address})).status_code

    await unlimit(limited)
    await drained(limited, "address", "2001:db8:0:7::/64")
    for address in ("2001:db8:0:7::1", "2001:DB8::7:ffff:0:0:1", "2001:db8:0:7:1:2:3:4"):
        assert await status(address) == 429
    for address in ("2001:db8:0:8::1", "::1", "fe80::1%eth0", "nonsense:"):
        assert await status(address) == 200
    await drained(limited, "address", ADDRESS)
    assert await status(f"::ffff:{ADDRESS}") == 429


async def test_two_processes_keep_an_exact_limit_together(
    cluster: clusters.Cluster, url: str, tmp_path: Path
) -> None:
    async with two_processes(tmp_path, clusters.app_url(cluster, url), url, RATE_LIMIT_SCALE="1") as world:
        ada = await world.person("ada")
        community = await world.community(ada)

        async def invite(number: int) -> int:
            # On a busy machine some wait too long for the others and are told to come again.
            while (
                reply := await ada.post(f"{community.url}/invite", {"email": f"hal{number}@example.org"})
            ).status == 503:
                pass
            return reply.status

        statuses = sorted(await at_once(invite(number) for number in range(40)))
    assert statuses == [201] * 20 + [429] * 20


async def test_looking_for_words_is_a_search_of_which_a_person_has_four_at_once(limited: World) -> None:
    home = await furnish(limited)
    community = home.named["community_id"]
    await unlimit(limited)
    await drained(limited, "search", home.ada.id)
    await drained(limited, "search", "127.0.0.1")
    for path in (f"/api/communities/{community}/members", "/api/backlog"):
        for query in ("?q=a", "?q=a&limit=5"):
            assert (await home.ada.get(path + query)).error == "rate_limited", path
        (await home.ada.get(path)).ok()
    await unlimit(limited)
    place = limited.house.service.limiter.place
    recall = partial(home.ada.post, "/v1/recall", {"query": "seeds"})
    with place("search", home.ada.id), place("search", home.ada.id), place("search", home.ada.id):
        (await recall()).ok()
        with place("search", home.ada.id):
            for refused in (await recall(), await home.ada.get(f"/api/communities/{community}/members?q=a")):
                assert (refused.status, refused.error) == (429, "rate_limited")
                assert refused.headers["retry-after"] == "1"
            (await home.bo.post("/v1/recall", {"query": "seeds"})).ok()
    (await recall()).ok()


async def test_repeats_count_as_requests(limited: World) -> None:
    await unlimit(limited)
    ada = await limited.person("ada")
    headers = {"Idempotency-Key": "once"}
    body = {"name": "Gardeners"}
    (await ada.post("/api/communities", body, headers=headers)).ok(201)
    await drained(limited, "user", ada.id)
    assert (await ada.post("/api/communities", body, headers=headers)).status == 429
    assert (await ada.post("/api/communities", {"name": "Others"}, headers=headers)).status == 429
