"""The service under mixed load for as long as one likes: it grows nowhere, mixes nothing up, loses nothing.

Some seconds of it each time; by `make test-long` as many minutes as GUILDHALL_SOAK_MINUTES says.
"""

import asyncio
import os
import random
import secrets
import signal
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest
import pytest_asyncio

from guildhall.spaces.invariants import find_broken
from tests import cluster as clusters
from tests.commands.serving import Serving, serving
from tests.world import Person, World, open_world, read_settings, variables_for

pytestmark = pytest.mark.xdist_group("commands")

LONG = os.environ.get("GUILDHALL_LONG") == "1"
MINUTES = float(os.environ.get("GUILDHALL_SOAK_MINUTES", "10")) if LONG else 0.1
ROUNDS = 12 if LONG else 2
# What is at rest after a round may be no more than after an early one; some descriptors come and go.
MOST_GROWTH, MORE = 1.05, 12
POOL = 5
# A busy neighbour may make one this much slower, but for what a machine does beside.
MOST_SLOWER, NOISE_S = 2.0, 0.02


class Tenant:
    """Some people with a community and a hub. What they write has a mark that no other's answer has."""

    def __init__(self, people: list[Person], mark: str) -> None:
        self.people = people
        self.mark = mark
        self.community = self.hub = ""
        self.confirmed: set[str] = set()
        self.memories: set[str] = set()


class Load:
    """All tenants at once, each person doing one thing after another."""

    def __init__(self, service: Serving, tenants: Sequence[Tenant]) -> None:
        self.service = service
        self.tenants = tenants
        self.statuses: Counter[int] = Counter()
        self.took: dict[str, list[float]] = defaultdict(list)
        self.wrong: list[str] = []
        self.broken = 0

    async def run(self, seconds: float, *, pause_s: float = 0.05, may_break: bool = False) -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(
            *(
                self._live(tenant, person, until, pause_s, may_break)
                for tenant in self.tenants
                for person in tenant.people
            )
        )

    async def _live(
        self, tenant: Tenant, person: Person, until: float, pause_s: float, may_break: bool
    ) -> None:
        chance = random.Random()
        head = {"Authorization": f"Bearer {person.token}"}
        async with httpx.AsyncClient(base_url=self.service.base_url, headers=head, timeout=30) as client:
            while time.monotonic() < until:
                try:
                    await self._do_something(client, tenant, chance)
                except httpx.TransportError:
                    self.broken += 1
                    assert may_break, self.service.output[-2000:]
                await asyncio.sleep(chance.uniform(0, 2 * pause_s))

    async def _do_something(self, client: httpx.AsyncClient, tenant: Tenant, chance: random.Random) -> None:
        mark, community, hub = tenant.mark, tenant.community, tenant.hub
        other = chance.choice([each for each in self.tenants if each is not tenant])
        text = f"{mark} {secrets.token_hex(8)}"
        match chance.randrange(14):
            case 0 | 1 | 2:
                await self._ask(client, tenant, "GET", f"/api/posts?communityId={community}")
            case 3:
                made = await self._ask(
                    client, tenant, "POST", "/api/posts", {"communityId": community, "content": text}
                )
                if made.status_code == 201:
                    tenant.confirmed.add(made.json()["id"])
            case 4:
                made = await self._ask(
                    client, tenant, "POST", "/v1/memories", {"content": text}, {"X-Hub-ID": hub}
                )
                if made.status_code == 201:
                    tenant.memories.add(made.json()["data"]["id"])
            case 5:
                # Everybody asks for everybody's words.
                await self._ask(client, tenant, "POST", "/v1/recall", {"query": f"{mark} {other.mark}"})
            case 6:
                await self._ask(client, tenant, "GET", "/api/communities")
                await self._ask(client, tenant, "GET", "/v1/hubs")
            case 7:
                await self._ask(client, tenant, "GET", f"/api/communities/{community}/members")
            case 8:
                await self._ask(client, tenant, "GET", "/v1/memories", None, {"X-Hub-ID": hub})
            case 9:
                # What is another's is not there, or not for them.
                for path in (f"/api/posts?communityId={other.community}", f"/v1/hubs/{other.hub}"):
                    answer = await self._ask(client, tenant, "GET", path)
                    if answer.status_code < 400:
                        self.wrong.append(f"{path} was open to a stranger")
            case 10:
                await self._ask(client, tenant, "POST", "/api/posts", {"communityId": community, "x": text})
            case 11:
                # Somebody who loses patience.
                with suppress(httpx.TimeoutException):
                    await client.get(
                        f"/api/posts?communityId={community}", timeout=chance.uniform(0.0005, 0.01)
                    )
            case 12:
                async with client.stream("GET", f"/v1/events/stream?hub_id={hub}") as stream:
                    self.statuses[stream.status_code] += 1
            case _:
                await self._ask(client, tenant, "GET", f"/v1/hubs/{hub}/summary")

    async def _ask(
        self,
        client: httpx.AsyncClient,
        tenant: Tenant,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        began = time.perf_counter()
        answer = await client.request(method, path, json=body, headers=headers)
        self.took[tenant.mark].append(time.perf_counter() - began)
        self.statuses[answer.status_code] += 1
        if answer.status_code >= 500 and answer.status_code != 503:
            self.wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        # What was asked for may be said back, but nothing of what is stored.
        shown = str(_memories(answer)) if "recall" in path else answer.text
        for other in self.tenants:
            if other is not tenant and other.mark in shown:
                self.wrong.append(f"{method} {path} told {tenant.mark} of {other.mark}")
        return answer


def _memories(answer: httpx.Response) -> Any:
    return answer.json().get("data", {}).get("memories")


class Sizes(NamedTuple):
    """What a service takes at rest: of each of its processes the memory, and of all the rest the sum."""

    memory_kib: dict[int, int]
    descriptors: int
    threads: int
    connections: int


async def look(service: Serving, owner: Any, name: str) -> Sizes:
    memory: dict[int, int] = {}
    descriptors = threads = 0
    for pid in service.processes():
        status = Path(f"/proc/{pid}/status").read_text()
        found = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        memory[pid] = int(found["VmRSS"].split()[0])
        threads += int(found["Threads"])
        descriptors += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    connections = await owner.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()", name
    )
    return Sizes(memory, descriptors, threads, connections)


class Site(NamedTuple):
    service: Serving
    world: World
    owner: Any
    name: str


@pytest_asyncio.fixture
async def site(cluster: clusters.Cluster, template: str, tmp_path: Path) -> AsyncIterator[Site]:
    database = await clusters.clone_database(cluster, template)
    variables = variables_for(tmp_path / "data", clusters.app_url(cluster, database), database)
    variables |= {"WORKERS": "2", "DATABASE_POOL": str(POOL)}
    given: dict[str, Any] = {name.lower(): text for name, text in variables.items() if name != "DATA_DIR"}
    owner = await asyncpg.connect(database)
    try:
        async with (
            open_world(read_settings({}, variables)) as world,
            serving(tmp_path / "data", **given) as service,
        ):
            yield Site(service, world, owner, clusters.database_of(database))
    finally:
        await owner.close()
        await clusters.drop_database(cluster, database)


async def settle(world: World, many: int, people: int) -> list[Tenant]:
    tenants: list[Tenant] = []
    for _ in range(many):
        mark = "m" + secrets.token_hex(8)
        tenant = Tenant(await world.people(*[f"p{number}" for number in range(people)]), mark)
        owner, *others = tenant.people
        community = await world.community(owner, members=others, name=f"Club {mark}", isPrivate=True)
        hub = await world.hub(owner, contributors=others, name=f"Hub {mark}")
        tenant.community, tenant.hub = community.id, hub.id
        tenants.append(tenant)
    return tenants


async def check_all_is_there(site: Site, tenants: Sequence[Tenant]) -> None:
    assert await find_broken(site.owner) == []
    for tenant in tenants:
        posts = await site.owner.fetch(
            "SELECT id::text, content FROM posts WHERE space_id = $1::uuid", tenant.community
        )
        assert tenant.confirmed <= {row["id"] for row in posts}
        assert all(tenant.mark in row["content"] for row in posts)
        memories = await site.owner.fetch(
            "SELECT id::text, content FROM memories WHERE space_id = $1::uuid", tenant.hub
        )
        assert tenant.memories <= {row["id"] for row in memories}
        assert all(tenant.mark in row["content"] for row in memories)


@pytest.mark.timeout(300 + 90 * MINUTES)
async def test_it_grows_nowhere_and_mixes_nothing_up(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    service = site.service
    tenants = await settle(site.world, 3, 2)
    load = Load(service, tenants)
    rounds: list[Sizes] = []
    for _ in range(ROUNDS):
        await load.run(MINUTES * 60 / ROUNDS)
        # What was begun is over, and what is kept for a moment is let go.
        await asyncio.sleep(5 if LONG else 1)
        rounds.append(await look(service, site.owner, site.name))
    assert not load.wrong
    # By a third of it everything is there that is made at first use.
    early, last = rounds[(ROUNDS - 1) // 3], rounds[-1]
    assert last.descriptors - last.connections <= early.descriptors - early.connections + MORE, rounds
    assert last.threads <= early.threads + 4, rounds
    # Two pools in each of three processes and in this one, which fill with demand, and what listens.
    assert last.connections <= 4 * (2 * POOL + 3), rounds
    assert early.memory_kib.keys() == last.memory_kib.keys(), service.output
    grown = {pid: last.memory_kib[pid] / before for pid, before in early.memory_kib.items()}
    if LONG:
        assert max(grown.values()) <= MOST_GROWTH, [sorted(each.memory_kib.values()) for each in rounds]
    await check_all_is_there(site, tenants)

    # Parts of it die, and all of it starts anew, while everybody goes on.
    going_on = asyncio.create_task(load.run(45 if LONG else 8, may_break=True))
    await asyncio.sleep(1)
    for _ in range(3 if LONG else 1):
        family = [pid for pid in service.processes() if pid != service.process.pid]
        os.kill(random.choice(family), signal.SIGKILL)
        # What dies again as soon as it lives is given up, as it should be.
        await asyncio.sleep(8 if LONG else 2)
    assert await service.stop() == 0, service.output
    await service.start()
    await going_on
    assert not load.wrong
    assert load.statuses[200] and load.statuses[201]
    await check_all_is_there(site, tenants)
    assert "Traceback" not in service.output
    record_property(f"Requests of {MINUTES:g} minutes by status", dict(sorted(load.statuses.items())))
    record_property("Memory of a process at the end, in part of what it was early", max(grown.values()))
    record_property("Descriptors, threads, connections early", early[1:])
    record_property("Descriptors, threads, connections at the end", last[1:])


@asynccontextmanager
async def at_its_limits(service: Serving, tenant: Tenant) -> AsyncIterator[Counter[int]]:
    """Everybody of a tenant does all they may, and a little more."""
    seen: Counter[int] = Counter()

    async def push(person: Person) -> None:
        head = {"Authorization": f"Bearer {person.token}"}
        async with httpx.AsyncClient(base_url=service.base_url, headers=head, timeout=30) as client:
            while True:
                for method, path, body in (
                    ("POST", "/v1/recall", {"query": tenant.mark}),
                    ("GET", f"/api/posts?communityId={tenant.community}", None),
                    ("POST", "/api/posts", {"communityId": tenant.community, "content": tenant.mark}),
                    ("GET", f"/api/communities/{tenant.community}/members", None),
                ):
                    answer = await client.request(method, path, json=body)
                    seen[answer.status_code] += 1
                    if answer.status_code == 429:
                        await asyncio.sleep(min(2.0, float(answer.headers["retry-after"])))

    tasks = [asyncio.create_task(push(person)) for person in tenant.people]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.long
@pytest.mark.skipif(not LONG, reason="measures for some minutes")
@pytest.mark.timeout(3600)
async def test_a_tenant_at_its_limits_slows_no_other_much(
    cluster: clusters.Cluster,
    template: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    database = await clusters.clone_database(cluster, template)
    variables = variables_for(tmp_path / "data", clusters.app_url(cluster, database), database)
    variables |= {"WORKERS": "2", "RATE_LIMIT_SCALE": "1"}
    given: dict[str, Any] = {name.lower(): text for name, text in variables.items() if name != "DATA_DIR"}
    seconds = float(os.environ.get("GUILDHALL_TENANT_S", "30"))
    async with (
        open_world(read_settings({}, variables)) as world,
        serving(tmp_path / "data", **given) as service,
    ):
        *quiet, busy = await settle(world, 4, 4)
        alone: list[float] = []
        beside: list[float] = []
        refused = 0
        for _ in range(3):
            load = Load(service, quiet)
            await load.run(seconds, pause_s=0.4)
            alone.append(_p99(load))
            async with at_its_limits(service, busy) as seen:
                load = Load(service, quiet)
                await load.run(seconds, pause_s=0.4)
            beside.append(_p99(load))
            refused += seen[429]
            assert not load.wrong
            # In turns, since a machine has slow minutes.
            if min(beside) <= MOST_SLOWER * max(alone) + NOISE_S:
                break
        assert refused
        record_property(
            "p99 in ms alone, and beside a tenant at its limits",
            f"{min(alone) * 1000:.1f}, {min(beside) * 1000:.1f}",
        )
        assert min(beside) <= MOST_SLOWER * max(alone) + NOISE_S, (alone, beside)
    await clusters.drop_database(cluster, database)


def _p99(load: Load) -> float:
    return statistics.quantiles([each for took in load.took.values() for each in took], n=100)[98]
