"""With every provider dead, in whichever way, the service answers as it does otherwise, and as soon."""

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from guildhall.providers.pause import MOST_IN_VAIN, Pause
from guildhall.worker import run_worker
from tests import cluster as clusters
from tests.providers.email_benches import API_KEY, SENDER, ResendServer
from tests.providers.http_server import serve_http
from tests.providers.s3_server import ACCESS_KEY, BUCKET, S3Server
from tests.servers.clerk_server import clerk_server
from tests.servers.embedding_server import embedding_server
from tests.servers.gate import DEAD, Gate, State, gate_before
from tests.servers.stream_server import stream_server
from tests.servers.token_maker import PARTY
from tests.wire.furnished import OPERATIONS, furnish
from tests.world import Browser, Person, Reply, World, open_world, settings_for

LONG = os.environ.get("GUILDHALL_LONG") == "1"
# Far more than an answer takes, on a machine that is busy as well; a provider that hangs does so for ever.
ANSWER_S = 30.0
# Within it a p99 may grow, and what a busy machine may add to it.
MOST_GROWTH, NOISE_S = 1.2, 0.005


class Site:
    """A world whose providers are all behind gates, by name."""

    def __init__(self, world: World, gates: dict[str, Gate]) -> None:
        self.world = world
        self.gates = gates

    def met(self) -> dict[str, int]:
        return {name: gate.met for name, gate in self.gates.items()}

    async def turn(self, state: State) -> None:
        for gate in self.gates.values():
            await gate.turn(state)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """A worker beside, in the same process and with the same connections."""
        ended = asyncio.Event()
        running = asyncio.create_task(run_worker(self.world.house, ended))
        try:
            yield
        finally:
            # What it waits for would come to an end by itself, in ten seconds.
            await self.turn("open")
            ended.set()
            await running


@pytest_asyncio.fixture
async def site(cluster: clusters.Cluster, template: str, tmp_path: Path) -> AsyncIterator[Site]:
    owner_url = await clusters.clone_database(cluster, template)
    mail, store = ResendServer(), S3Server()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(clusters.drop_database, cluster, owner_url)
        enter = stack.enter_async_context
        chat, vectors = await enter(stream_server()), await enter(embedding_server())
        gates = {
            "mail": await enter(gate_before(await enter(serve_http(mail.handle)))),
            "files": await enter(gate_before(await enter(serve_http(store.handle)))),
            "chat": await enter(gate_before(chat.base_url)),
            "vectors": await enter(gate_before(vectors.url)),
        }
        settings = settings_for(
            tmp_path,
            clusters.app_url(cluster, owner_url),
            owner_url,
            DATABASE_POOL="4",
            EMAIL="resend",
            EMAIL_FROM=SENDER,
            RESEND_API_KEY=API_KEY,
            RESEND_URL=gates["mail"].url,
            BLOBS_URL=f"s3://{BUCKET}/hall",
            BLOBS_ENDPOINT=gates["files"].url,
            BLOBS_REGION="local",
            BLOBS_ACCESS_KEY_ID=ACCESS_KEY,
            BLOBS_SECRET_ACCESS_KEY="secret",
            CHAT_URL=gates["chat"].url,
            CHAT_KEY=chat.api_key,
            CHAT_SECRET=chat.secret,
            EMBEDDINGS="server",
            EMBEDDINGS_URL=gates["vectors"].url,
            EMBEDDINGS_MODEL="some-model",
        )
        yield Site(await enter(open_world(settings)), gates)


# Whoever sends or fetches a file waits for where it is kept, and for nothing else.
OF_FILES = ("/api/uploads/", "/blobs/", "/api/exports/", "/v1/attachments/")
# These wait for a moment: nobody gets a token before the chat knows them, and words are given a direction.
WAITING = {"create_chat_token": "chat", "ask": "vectors", "recall_memories": "vectors"}


async def ask(who: Browser, method: str, path: str, body: object = None) -> Reply:
    async with asyncio.timeout(ANSWER_S):
        while True:
            reply = await who.call(method, path, body)
            # A machine on which a connection is waited for too long has other things to do than this.
            if reply.status != 503 or reply.error != "unavailable" or path == "/api/users/sync":
                return reply


async def test_no_request_waits_for_a_provider_that_hangs(site: Site) -> None:
    home = await furnish(site.world)
    await site.turn("hangs")
    asked = 0
    for operation in sorted(OPERATIONS, key=lambda each: each.method == "DELETE"):
        path = home.path(operation)
        if operation.method == "PUT" or path.startswith(OF_FILES):
            continue
        body = home.body(operation) if operation.body is not None else None
        before = site.met()
        answer = await ask(home.ada, operation.method, path, body)
        known = answer.error == "chat_unavailable" or (answer.status == 503 and "checks" in answer.json)
        assert answer.status < 500 or known, (operation.name, answer)
        if operation.name in WAITING:
            # Whoever gave up may have done so before the gate has counted them.
            await asyncio.sleep(0.1)
        new = {name for name, count in site.met().items() if count != before[name]}
        assert new <= {WAITING.get(operation.name)}, (operation.name, new)
        asked += 1
    assert asked > 100


@pytest.mark.parametrize("state", DEAD)
async def test_dead_in_any_way_they_hold_up_neither_requests_nor_what_these_need(
    site: Site, state: State
) -> None:
    world = site.world
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])
    for number in range(8):
        (await ada.post(f"{club.url}/invite", {"email": f"p{number}@example.org"})).ok(201)
    (await ada.post("/v1/memories", {"content": "A zebra crossed the road."})).data(201)
    await site.turn(state)
    # There are four connections to the database of each kind, and more than that waits for providers.
    files = [
        asyncio.create_task(ada.get(f"/blobs/aa/{number:032x}.png", headers={"X-Try": "1"}))
        for number in range(8)
    ]
    async with site.working():
        for number in range(10):
            for reply in (
                await ask(ada, "GET", f"/api/posts?communityId={club.id}"),
                await ask(bo, "POST", "/api/posts", {"communityId": club.id, "content": f"{number}"}),
                await ask(ada, "POST", f"{club.url}/invite", {"email": f"q{number}@example.org"}),
                await ask(ada, "POST", "/v1/recall", {"query": "zebra"}),
            ):
                assert reply.status in (200, 201), reply
            assert len(reply.data()["memories"]) == 1
        if state in ("hangs", "fails slowly"):
            # By now it is known that nobody need wait for the vectors; the worker asks when it will.
            assert not world.house.service.embedder_pause.may_ask()
    for file in files:
        file.cancel()
    await asyncio.gather(*files, return_exceptions=True)


async def test_a_token_for_a_chat_that_hangs_is_refused_soon_and_then_at_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guildhall.chat.routes.CHAT_S", 0.2)
    ada = await site.world.person("ada")
    gate = site.gates["chat"]
    await gate.turn("hangs")
    for _ in range(MOST_IN_VAIN + 2):
        refused = await ask(ada, "POST", "/api/stream/token")
        assert (refused.status, refused.error) == (503, "chat_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
    assert gate.met == MOST_IN_VAIN
    await gate.turn("open")
    monkeypatch.setattr(site.world.house.service.chat_pause, "_until", 0.0)
    for _ in range(2):
        (await ask(ada, "POST", "/api/stream/token")).ok(200)


async def test_who_is_known_is_served_without_the_provider_that_knew_them(
    cluster: clusters.Cluster, template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner_url = await clusters.clone_database(cluster, template)
    async with clerk_server() as clerk, gate_before(clerk.url) as gate:
        settings = settings_for(
            tmp_path,
            clusters.app_url(cluster, owner_url),
            owner_url,
            IDENTITY="clerk",
            CLERK_ISSUER=clerk.issuer,
            CLERK_JWKS_URL=clerk.jwks_url,
            CLERK_AUTHORIZED_PARTIES=PARTY,
            CLERK_SECRET_KEY=clerk.secret_key,
            CLERK_API_URL=gate.url + "/v1",
        )
        async with open_world(settings) as world:
            clerk.put_user("user_ada")
            ada, eve = Browser(world, clerk.token("user_ada")), Browser(world, clerk.token("user_eve"))
            (await ada.post("/api/users/sync")).ok(201)
            monkeypatch.setattr("guildhall.users.sync.PROFILE_S", 0.2)
            for state in DEAD:
                await gate.turn(state)
                for _ in range(2):
                    assert (await ask(ada, "POST", "/api/users/sync")).status == 200
                    refused = await ask(eve, "POST", "/api/users/sync")
                    assert (refused.status, refused.error) == (503, "unavailable")
            met = gate.met
            await gate.turn("hangs")
            for _ in range(4):
                (await ask(ada, "POST", "/api/users/sync")).ok(200)
                (await ask(ada, "GET", "/api/communities")).ok(200)
            assert gate.met <= met + MOST_IN_VAIN
    await clusters.drop_database(cluster, owner_url)


def test_one_at_a_time_finds_out_whether_a_provider_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("guildhall.providers.pause.time.monotonic", lambda: now)
    pause = Pause(15.0)

    def fail(took_s: float) -> None:
        nonlocal now
        with pytest.raises(TimeoutError), pause.asking(TimeoutError):
            now += took_s
            raise TimeoutError

    for _ in range(10):
        # What fails at once keeps nobody waiting.
        assert pause.may_ask()
        fail(0.01)
    for _ in range(MOST_IN_VAIN):
        assert pause.may_ask()
        fail(0.3)
    assert not pause.may_ask()
    now += 15
    assert [pause.may_ask() for _ in range(3)] == [True, False, False]
    fail(0.3)
    assert not pause.may_ask()
    now += 15
    assert pause.may_ask()
    with pause.asking(TimeoutError):
        pass
    assert [pause.may_ask() for _ in range(3)] == [True] * 3


async def p99(site: Site, ada: Person, seconds: float) -> float:
    """Of what people do all day, four of them at once."""
    club = (await site.world.community(ada)).id
    took: list[float] = []
    until = time.monotonic() + seconds

    async def use() -> None:
        while time.monotonic() < until:
            for method, path, body in (
                ("GET", f"/api/posts?communityId={club}", None),
                ("GET", "/api/communities", None),
                ("POST", "/api/posts", {"communityId": club, "content": "Beans"}),
                ("POST", "/v1/recall", {"query": "zebra"}),
                ("POST", f"/api/communities/{club}/invite", {"email": f"{time.monotonic_ns()}@example.org"}),
            ):
                began = time.perf_counter()
                reply = await ask(ada, method, path, body)
                took.append(time.perf_counter() - began)
                assert reply.status < 300 or reply.error == "invite_limit", reply

    await asyncio.gather(*(use() for _ in range(4)))
    return statistics.quantiles(took, n=100)[98]


@pytest.mark.long
@pytest.mark.skipif(not LONG, reason="measures for some minutes")
@pytest.mark.timeout(3600)
async def test_a_dead_provider_does_not_slow_the_rest(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    ada = await site.world.person("ada")
    (await ada.post("/v1/memories", {"content": "A zebra crossed the road."})).data(201)
    seconds = float(os.environ.get("GUILDHALL_DEAD_S", "20"))
    async with site.working():
        await p99(site, ada, 3)
        for state in DEAD:
            healthy: list[float] = []
            dead: list[float] = []
            # In turns, since a machine has slow minutes; what is in the code is there in every one.
            for _ in range(3):
                await site.turn("open")
                healthy.append(await p99(site, ada, seconds))
                await site.turn(state)
                dead.append(await p99(site, ada, seconds))
                if min(dead) <= MOST_GROWTH * max(healthy) + NOISE_S:
                    break
            record_property(
                f"p99 in ms with providers that are well, and with ones of which each {state}",
                f"{min(healthy) * 1000:.1f}, {min(dead) * 1000:.1f}",
            )
            assert min(dead) <= MOST_GROWTH * max(healthy) + NOISE_S, state
