"""Many open streams of events on one process: what they weigh, and how soon each hears.

`python -m bench.streams` starts the service with one process, opens 2,000 streams of 2,000 people, and prints
the memory that process then holds and how long an event takes to reach everybody, and a few.
"""

import asyncio
import contextlib
import resource
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from tests import cluster as clusters
from tests.commands.serving import Serving, serving
from tests.world import World, open_world, settings_for, variables_for

from guildhall.db.migrate import migrate
from guildhall.events.event import tell_members

STREAMS = 2_000
FEW = 3
ROUNDS = 20
LIMIT_MIB = 300


class Result(msgspec.Struct, frozen=True):
    """Memory is the process's resident set in MiB; times are medians and maxima over rounds, in ms."""

    streams: int
    before_mib: float
    after_mib: float
    all_heard_ms: float
    all_heard_most_ms: float
    few_heard_ms: float
    few_heard_most_ms: float
    stopped_ms: float


class _Reader:
    """One open stream."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token
        self.heard = asyncio.Event()

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(
            b"GET /v1/events/stream HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
            b"Authorization: Bearer " + self._token.encode() + b"\r\n\r\n"
        )
        await self._reader.readuntil(b"event: ready")
        await self._reader.readuntil(b"\n\n")
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await self._reader.readuntil(b"event: hub.members.changed")
                self.heard.set()

    async def ended(self) -> None:
        await self._task
        self._writer.close()


async def measure(streams: int = STREAMS) -> Result:
    """Start everything, measure, stop everything."""
    async with _service() as (world, service):
        tokens, big, small = await _seed(world, streams)
        process = _api_process(service)
        readers = [_Reader(service.port, token) for token in tokens]
        await _open(readers[:1])
        before = _memory_mib(process)
        for start in range(1, streams, 100):
            await _open(readers[start : start + 100])
        await asyncio.sleep(2)
        after = _memory_mib(process)
        everybody = [await _tell(world, big, readers) for _ in range(ROUNDS)]
        few = [await _tell(world, small, readers[:FEW]) for _ in range(ROUNDS)]
        began = time.perf_counter()
        assert await service.stop() == 0, service.output
        await asyncio.gather(*(reader.ended() for reader in readers))
        stopped = time.perf_counter() - began
    return Result(
        streams=streams,
        before_mib=before,
        after_mib=after,
        all_heard_ms=_median(everybody),
        all_heard_most_ms=max(everybody),
        few_heard_ms=_median(few),
        few_heard_most_ms=max(few),
        stopped_ms=stopped * 1000,
    )


@asynccontextmanager
async def _service() -> AsyncIterator[tuple[World, Serving]]:
    cluster = clusters.test_cluster()

    async def prepare(url: str) -> None:
        migrate(url)

    template = await clusters.template_database(cluster, "guildhall_bench_template", prepare)
    url = await clusters.clone_database(cluster, template)
    app_url = clusters.app_url(cluster, url)
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        variables: dict[str, Any] = {
            name.lower(): value
            for name, value in variables_for(data_dir, app_url, url).items()
            if name != "DATA_DIR"
        }
        async with serving(data_dir, **variables) as service:
            settings = settings_for(data_dir, app_url, url, PUBLIC_URL=f"http://localhost:{service.port}")
            async with open_world(settings) as world:
                yield world, service
    await clusters.drop_database(cluster, url)


async def _seed(world: World, count: int) -> tuple[list[str], UUID, UUID]:
    """So many people with sessions, all in one hub, a few of them in another."""
    issuer = world.house.service.issuer
    assert issuer is not None
    people = [f"user_{secrets.token_hex(8)}" for _ in range(count)]
    async with world.db.writing() as tx:
        await tx.run(
            "INSERT INTO users (id, issuer, display_name) SELECT id, $2, 'Ada' FROM unnest($1::text[]) AS id",
            people,
            issuer.issuer,
        )
        await tx.run(
            "INSERT INTO sessions (id, user_id, label, expires_at)"
            " SELECT 'sess_' || id, id, 'bench', now() + interval '1 day' FROM unnest($1::text[]) AS id",
            people,
        )
        hubs = [await _make_hub(tx.value, members) for members in (people, people[:FEW])]
    now = time.time()
    tokens = [issuer.issue(user, f"sess_{user}", now=now, lifetime_s=3600) for user in people]
    return tokens, hubs[0], hubs[1]


async def _make_hub(value, members: list[str]) -> UUID:
    return await value(
        "WITH made AS (INSERT INTO spaces (id, kind, owner_id, name, slug)"
        " VALUES (uuid7(), 'hub', $1, 'Bench', gen_random_uuid()::text) RETURNING id),"
        " joined AS (INSERT INTO members (space_id, kind, user_id, role)"
        " SELECT made.id, 'hub', p.id, CASE WHEN p.id = $1 THEN 'owner' ELSE 'viewer' END"
        " FROM made, unnest($2::text[]) AS p (id))"
        " SELECT id FROM made",
        members[0],
        members,
    )


async def _open(readers: list[_Reader]) -> None:
    await asyncio.gather(*(reader.open() for reader in readers))


async def _tell(world: World, hub: UUID, readers: list[_Reader]) -> float:
    """Milliseconds from the commit until the last of these has heard."""
    for reader in readers:
        reader.heard.clear()
    async with world.db.writing() as tx:
        tell_members(tx, hub, "hub.members.changed", actor="bench")
    began = time.perf_counter()
    async with asyncio.timeout(30):
        await asyncio.gather(*(reader.heard.wait() for reader in readers))
    return (time.perf_counter() - began) * 1000


def _api_process(service: Serving) -> int:
    """The one process that answers requests, a fork of the command; the job worker is another program."""
    own = service.process.pid
    for child in Path(f"/proc/{own}/task/{own}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if b"serve" in words:
            return int(child)
    raise LookupError("no process answers requests")


def _memory_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError("no such process")


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def main() -> int:
    # Each stream is a socket here, and one there.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    result = asyncio.run(measure())
    for name, value in msgspec.structs.asdict(result).items():
        print(f"{name:<20}{value:>10.1f}")
    within = result.after_mib <= LIMIT_MIB
    print(f"{result.streams} streams within {LIMIT_MIB} MiB: {'yes' if within else 'no'}")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
