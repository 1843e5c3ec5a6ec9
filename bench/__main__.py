"""`python -m bench`: seed, serve, measure, write."""

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import uvloop
from tests.servers.stream_server import stream_server

from bench import accepts, measure, process, questions, servers
from bench.document import document
from bench.load import Answer, ask
from bench.measure import MIB, Contender, Plan, Round
from bench.results import (
    BARE,
    FLOOR,
    ORM,
    OURS,
    UNCHANGED,
    Found,
    Results,
    machine,
    speed_table,
    target_table,
)
from bench.seed import SMALL, Scale, Seeded, askers, seed
from bench.servers import Server
from bench.trips import counted
from guildhall.db.migrate import migrate
from guildhall.instance import ISSUER, embedded_issuer, instance_keys
from guildhall.providers.postgres import Cluster, EmbeddedPostgres
from guildhall.settings import read_settings
from guildhall.tokens import Tokens

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results.json"
# Written by `bench.recall`.
RECALL = ROOT / "bench" / "recall.json"
DOCUMENT = ROOT / "docs" / "performance.md"
ASKERS = 1_000
SECRET = "a secret for measurements alone, 32 bytes and more"


class Size(msgspec.Struct, frozen=True):
    """How much is measured."""

    scale: Scale
    feed: Plan
    others: Plan
    directories: int
    starts: int


WHOLE = Size(Scale(), Plan(20, 0.75, 8), Plan(8, 0.5, 8), 5, 3)
QUICK = Size(SMALL, Plan(3, 0.3, 8), Plan(2, 0.3, 8), 2, 1)


def say(line: str) -> None:
    print(line, flush=True)


def environment(data_dir: Path, database_url: str | None = None) -> dict[str, str]:
    """What every server is told. Limits are on, and wide enough for one client to be everybody."""
    told = {
        "GUILDHALL_DATA_DIR": str(data_dir),
        "GUILDHALL_SECRET": SECRET,
        "GUILDHALL_RATE_LIMIT_SCALE": "100000",
        "GUILDHALL_LOG_FORMAT": "json",
    }
    return told | ({"GUILDHALL_DATABASE_URL": database_url} if database_url else {})


class Bench:
    """One run over one data directory."""

    def __init__(self, size: Size, folder: Path) -> None:
        self.size = size
        self.folder = folder
        self.data_dir = folder / "data"
        self.issuer = embedded_issuer(instance_keys(read_settings(environment(self.data_dir))))

    def run(self) -> Results:
        before = os.getloadavg()[0]
        with EmbeddedPostgres(self.data_dir) as cluster:
            migrate(cluster.owner_url, lambda _: None)
            say("Seeding …")
            asyncio.run(seed(cluster.owner_url, ISSUER, self.size.scale, say))
            seeded = asyncio.run(askers(cluster.owner_url, self.issuer, ASKERS))
            found = uvloop.run(self.measured(cluster, seeded))
        say("Starting on the data directory that was made …")
        starts = [self.start(seeded) for _ in range(self.size.starts)]
        return Results(
            taken_on=datetime.now(UTC).strftime("%Y-%m-%d"),
            machine=machine(found.pop("postgresql"), (before, os.getloadavg()[0])),
            scale=self.size.scale,
            plan=self.size.feed,
            askers=len(seeded.members),
            starts_s=starts,
            **found,
        )

    async def measured(self, cluster: Cluster, seeded: Seeded) -> dict[str, Any]:
        connection: Any = await asyncpg.connect(cluster.owner_url)
        try:
            postgresql: str = await connection.fetchval("SELECT current_setting('server_version')")
            with self.served(cluster) as (ours, floor, bare, orm):
                asked = questions.questions(seeded)
                await self.check(asked, seeded, (ours, floor, bare, orm))
                rounds = await self.speeds(asked, seeded, ours, floor, bare, orm)
                memory = {each.name: process.memory_bytes(each.pid) / MIB for each in (ours, floor, orm)}
                directories = await self.directories(seeded, (ours, floor, orm))
                accepted = await self.accepts(cluster, seeded, (ours, floor))
            trips, commits = await self.trips(cluster, seeded, connection)
        finally:
            await connection.close()
        feed = rounds[questions.FEED]
        return {
            "postgresql": postgresql.split()[0],
            "speeds": {kind: measure.by_name(each) for kind, each in rounds.items()},
            "accepts": measure.by_name(accepted),
            "ratios": {
                "feed to floor": measure.ratio(feed[OURS], feed[FLOOR]),
                "orm to feed": measure.ratio(feed[ORM], feed[OURS]),
                "unchanged to floor": measure.ratio(feed[UNCHANGED], feed[FLOOR]),
                "feed to bare floor": measure.ratio(feed[OURS], feed[BARE]),
                "unchanged to bare floor": measure.ratio(feed[UNCHANGED], feed[BARE]),
                **{
                    f"{kind} to floor": measure.ratio(rounds[kind][OURS], rounds[kind][FLOOR])
                    for kind in questions.OF_HUBS
                },
                "summary to detail": measure.ratio(
                    rounds[questions.SUMMARY][OURS], rounds[questions.DETAIL][OURS]
                ),
                "accept to floor": measure.ratio(accepted[OURS], accepted[FLOOR]),
            },
            "memory_mib": memory,
            "directories": directories,
            "round_trips": trips,
            "commits_per_post": commits,
        }

    @contextlib.contextmanager
    def served(self, cluster: Cluster) -> Generator[list[Server]]:
        say("Starting the servers …")
        with contextlib.ExitStack() as stack:
            told = environment(self.data_dir, cluster.app_url)
            yield [
                stack.enter_context(servers.running(name, told, self.folder / f"{name}.log"))
                for name in (OURS, FLOOR, BARE, ORM)
            ]

    async def check(self, asked: dict[str, list[bytes]], seeded: Seeded, all_of: tuple[Server, ...]) -> None:
        """What is compared must answer the same."""
        asker = seeded.members[0]
        whole = questions.request(asker, questions.directory_path(asker.community))
        for kind, requests in (*asked.items(), (questions.DIRECTORY, [whole])):
            if kind == questions.CREATE:
                continue
            # The other one that is measured knows of no hubs.
            those = all_of[:2] if kind in questions.OF_HUBS else all_of
            for request in requests[:5]:
                answers = {each.name: (await ask(each.port, request)).body for each in those}
                questions.check_same(kind, answers, OURS)

    async def speeds(
        self,
        asked: dict[str, list[bytes]],
        seeded: Seeded,
        ours: Server,
        floor: Server,
        bare: Server,
        orm: Server,
    ) -> dict[str, dict[str, list[Round]]]:
        known = [
            questions.request(member, questions.feed_path(member), etag=await self.etag(ours, member))
            for member in seeded.members
        ]
        found: dict[str, dict[str, list[Round]]] = {}
        for kind, requests in asked.items():
            made = 201 if kind == questions.CREATE else 200
            contenders = [
                Contender(OURS, ours, requests, made),
                Contender(FLOOR, floor, requests, 200),
            ]
            if kind not in questions.OF_HUBS:
                contenders.append(Contender(ORM, orm, requests, made))
            plan = self.size.others
            if kind == questions.FEED:
                contenders.insert(1, Contender(UNCHANGED, ours, known, 304))
                contenders.insert(3, Contender(BARE, bare, requests, 200))
                plan = self.size.feed
            say(f"Measuring {kind}: {plan.rounds} rounds of {len(contenders)} …")
            found[kind] = await measure.compare(contenders, plan)
            for name, each in measure.by_name(found[kind]).items():
                say(f"  {name}: {each.cpu_us:.0f} µs, {each.requests_per_s:.0f} requests/s")
        return found

    async def etag(self, ours: Server, member: Any) -> str:
        answer = await ask(ours.port, questions.request(member, questions.feed_path(member)))
        return answer.headers["etag"]

    async def directories(self, seeded: Seeded, all_of: tuple[Server, ...]) -> dict[str, measure.Directory]:
        question = questions.request(seeded.members[0], questions.directory_path(seeded.large))
        found: dict[str, measure.Directory] = {}
        for each in all_of:
            say(f"Reading the whole directory: {each.name} …")
            found[each.name] = await measure.directory(each, question, self.size.directories, _count)
        return found

    async def accepts(
        self, cluster: Cluster, seeded: Seeded, those: tuple[Server, ...]
    ) -> dict[str, list[Round]]:
        tokens = Tokens(instance_keys(read_settings(environment(self.data_dir))), "invites", "inv_")
        requests = await accepts.invite(cluster.owner_url, tokens, seeded.members)
        say(f"Accepting {len(requests)} invites, {accepts.AT_ONCE} at once …")
        found = await accepts.compare(those, requests)
        for name, each in measure.by_name(found).items():
            say(f"  {name}: {each.cpu_us:.0f} µs, p99 {each.p99_ms:.1f} ms")
        return found

    async def trips(
        self, cluster: Cluster, seeded: Seeded, connection: Any
    ) -> tuple[dict[str, float], float]:
        say("Counting round trips …")
        kinds = questions.questions(seeded, seed=2)
        kinds["chat token"] = [
            questions.request(member, "/api/stream/token", method="POST") for member in seeded.members
        ]
        async with self.watched(cluster) as (port, counter):
            found = {
                kind: await measure.trips(port, requests[:20], lambda: counter.asked, {200, 201})
                for kind, requests in kinds.items()
            }
            posts = kinds[questions.CREATE][20:40]
            before = await _transactions(connection)
            for request in posts:
                await ask(port, request)
            commits = (await _transactions(connection) - before) / len(posts)
        return found, commits

    @contextlib.asynccontextmanager
    async def watched(self, cluster: Cluster) -> AsyncGenerator[tuple[int, Any]]:
        """The service once more, its way to the database counted, with a chat service to talk to."""
        # Sockets have short names.
        with tempfile.TemporaryDirectory(prefix="gb-") as folder:
            async with stream_server() as chat, counted(cluster.app_url, Path(folder)) as counter:
                told = environment(self.data_dir, counter.url) | {
                    "GUILDHALL_CHAT_URL": chat.base_url,
                    "GUILDHALL_CHAT_KEY": chat.api_key,
                    "GUILDHALL_CHAT_SECRET": chat.secret,
                }
                stack = contextlib.ExitStack()
                log = self.folder / "watched.log"
                # Its start waits for the counter, which runs here.
                server = await asyncio.to_thread(stack.enter_context, servers.running(OURS, told, log))
                try:
                    yield server.port, counter
                finally:
                    await asyncio.to_thread(stack.close)

    def start(self, seeded: Seeded) -> float:
        """Seconds from the command to the first feed it answers."""
        port = servers.free_port()
        log = self.folder / "start.log"
        question = questions.request(seeded.members[0], questions.feed_path(seeded.members[0]))
        with log.open("wb") as file:
            began = time.monotonic()
            parent = subprocess.Popen(
                [sys.executable, "-P", "-m", "guildhall", "serve", "--port", str(port)],
                env={**os.environ, **environment(self.data_dir)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
            try:
                servers.wait_for(port, parent, log)
                answer = asyncio.run(_patiently(port, question))
                took_s = time.monotonic() - began
                if answer.status != 200:
                    raise measure.Unexpected(f"the first answer was {answer.status}")
            finally:
                servers.stop(parent)
        say(f"  {took_s:.2f} s")
        return took_s


async def _patiently(port: int, question: bytes) -> Answer:
    """Ask until somebody answers: what listens may not serve yet."""
    while True:
        try:
            return await ask(port, question)
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.005)


async def _transactions(connection: Any) -> int:
    """How many transactions have written so far."""
    return int(await connection.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"))


def _count(body: bytes) -> int:
    return len(msgspec.json.decode(body)["items"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a small database and few rounds; writes nothing"
    )
    wanted = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="guildhall-bench-") as folder:
        results = Bench(QUICK if wanted.quick else WHOLE, Path(folder)).run()
    say("\n" + speed_table(results) + "\n\n" + target_table(results))
    if not wanted.quick:
        RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")
        recall = msgspec.json.decode(RECALL.read_bytes(), type=Found)
        DOCUMENT.write_text(document(results, recall), "utf-8")
        say(f"\nWritten: {RESULTS.relative_to(ROOT)} and {DOCUMENT.relative_to(ROOT)}.")
    say(f"It took {time.monotonic() - began:.0f} s.")


if __name__ == "__main__":
    main()
