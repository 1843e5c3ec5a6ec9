"""`python -m bench.recall`: recall and push over HTTP, in hubs of a thousand to a hundred thousand memories.

The words are made up, and as unevenly common as words are; one of them is in every second memory.
"""

import argparse
import asyncio
import itertools
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import uvloop

from bench import load, process, servers
from bench.__main__ import environment, say
from bench.measure import MIB
from bench.results import OURS, Figures, Found
from guildhall.db.migrate import migrate
from guildhall.instance import embedded_issuer, instance_keys
from guildhall.memories.jobs import TermCountsDue, count_terms
from guildhall.providers.postgres import Cluster, EmbeddedPostgres
from guildhall.settings import read_settings
from guildhall.wiring import open_house

RESULTS = Path(__file__).parent / "recall.json"
COMMON = "everywhere"
VOCABULARY = 30_000
WORDS = 12
QUESTIONS = 400
# The 95th percentile of recall that is promised for a hub of this size, in milliseconds.
BARS = {1_000: 12.0, 10_000: 20.0, 100_000: 60.0}
PUSH_BAR = 500.0
# As many hubs of a thousand memories each, of which the person who asks is in some.
HUBS, OWN_HUBS = 1_000, 50


def vocabulary(chance: random.Random) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < VOCABULARY:
        syllables = chance.randint(2, 4)
        word = "".join(chance.choice("bcdfghklmnprstvz") + chance.choice("aeiou") for _ in range(syllables))
        found[word] = None
    return list(found)


class Texts:
    """Sentences of made-up words, each word the rarer the later it is in the vocabulary."""

    def __init__(self, seed: int = 1) -> None:
        self.chance = random.Random(seed)
        self.words = vocabulary(self.chance)
        self.weights = list(itertools.accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))

    def some(self, count: int) -> list[str]:
        return self.chance.choices(self.words, cum_weights=self.weights, k=count)

    def memory(self, number: int) -> str:
        return " ".join([*self.some(WORDS), *([COMMON] if number % 2 else [])])

    def question(self, *, common: bool) -> str:
        return " ".join([*self.some(6), *([COMMON] if common else [])])


async def fill(connection: Any, hub: UUID, size: int, texts: Texts, author: str = "user_bench") -> None:
    """Put that many memories into the hub, in conversations of fifty."""
    for start in range(0, size, 2_000):
        batch = [texts.memory(n) for n in range(start, min(size, start + 2_000))]
        await connection.execute(
            """
            INSERT INTO memories (id, space_id, author_id, content, content_hash, thread_id, seq, speaker)
            SELECT uuid7(), $1, $4, text, sha256(text::bytea), 't' || (n + $3) / 50, n + $3,
                   CASE n % 2 WHEN 0 THEN 'Ada' ELSE 'Bo' END
              FROM unnest($2::text[]) WITH ORDINALITY AS made (text, n)
            """,
            hub,
            batch,
            start,
            author,
        )


async def make_hub(connection: Any, name: str, owner: str = "user_bench") -> UUID:
    return await connection.fetchval(
        """
        WITH hub AS (
            INSERT INTO spaces (id, kind, owner_id, name, slug) VALUES (uuid7(), 'hub', $2, $1, $1)
            RETURNING id),
        owner AS (INSERT INTO members (space_id, kind, user_id, role)
                  SELECT id, 'hub', $2, 'owner' FROM hub)
        SELECT id FROM hub
        """,
        name,
        owner,
    )


async def fill_many(url: str, texts: Texts) -> None:
    """HUBS hubs of somebody else with a thousand memories each; user_bench is in every twentieth."""

    async def fill_some(numbers: range) -> None:
        connection: Any = await asyncpg.connect(url)
        try:
            for number in numbers:
                hub = await make_hub(connection, f"bench-one-of-many-{number}", "user_other")
                if number % (HUBS // OWN_HUBS) == 0:
                    await connection.execute(
                        "INSERT INTO members (space_id, kind, user_id, role)"
                        " VALUES ($1, 'hub', 'user_bench', 'contributor')",
                        hub,
                    )
                await fill(connection, hub, 1_000, texts, author="user_other")
                if number % 100 == 99:
                    say(f"  {number + 1} of {HUBS} hubs")
        finally:
            await connection.close()

    await asyncio.gather(fill_some(range(0, HUBS, 2)), fill_some(range(1, HUBS, 2)))


def request(token: str, path: str, body: object, hub: UUID | None = None) -> bytes:
    content = msgspec.json.encode(body)
    at = "" if hub is None else f"X-Hub-ID: {hub}\r\n"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{at}"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def percentile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


async def ask_all(
    port: int,
    token: str,
    hubs: str,
    within: Sequence[UUID],
    texts: Texts,
    bar: float | None,
) -> list[Figures]:
    """Recall in the hubs `within`, in all of one's own where there are none."""
    found: list[Figures] = []
    for common in (False, True):
        ids = {"hub_ids": [str(hub) for hub in within]} if within else {}
        bodies = [
            {"query": texts.question(common=common), "limit": 10, **ids} for _ in range(QUESTIONS + 100)
        ]
        asked = [request(token, "/v1/recall", body) for body in bodies]
        # The first ones find out how each connection to the database does it best.
        await load.burst(port, iter(asked[:100]), 4)
        burst = await load.burst(port, iter(asked[100:]), 1)
        assert burst.statuses == {200: QUESTIONS}, burst.statuses
        ms = [latency * 1000 for latency in burst.latencies]
        words = "one in every second memory" if common else "as they come"
        found.append(Figures(hubs, words, percentile(ms, 0.5), percentile(ms, 0.95), bar))
        say(f"{hubs}, {words}: p50 {found[-1].p50:.1f} ms, p95 {found[-1].p95:.1f} ms")
    return found


def pushes(token: str, hubs: Sequence[UUID], texts: Texts, count: int) -> Iterator[bytes]:
    for number in range(count):
        body = {"content": texts.memory(number), "source": "bench"}
        yield request(token, "/v1/memories", body, hubs[number % len(hubs)])


async def push_all(port: int, token: str, hubs: Sequence[UUID], texts: Texts, count: int) -> float:
    made = list(pushes(token, hubs, texts, count))
    burst = await load.burst(port, iter(made), 8)
    assert set(burst.statuses) <= {200, 201}, burst.statuses
    return burst.statuses.get(201, 0) / burst.took_s


async def measured(
    cluster: Cluster, folder: Path, token: str, sizes: Sequence[int], pushed: int, *, many: bool
) -> Found:
    texts = Texts()
    connection: Any = await asyncpg.connect(cluster.owner_url)
    hubs: dict[int, UUID] = {}
    for size in sizes:
        say(f"Filling a hub with {size} memories …")
        hubs[size] = await make_hub(connection, f"bench-{size}")
        await fill(connection, hubs[size], size, texts)
    empty = [await make_hub(connection, f"bench-empty-{n}") for n in range(8)]
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    told = environment(folder / "data", cluster.app_url)
    async with open_house(
        read_settings({}, {k.removeprefix("GUILDHALL_"): v for k, v in told.items()})
    ) as house:
        await count_terms(house.work, TermCountsDue())
    with servers.running(OURS, told, folder / "ours.log") as server:
        recall: list[Figures] = []
        memory = [process.memory_bytes(server.pid) / MIB]
        for size, hub in hubs.items():
            name = f"one hub of {size:,}"
            recall += await ask_all(server.port, token, name, [hub], texts, BARS[size])
            memory.append(process.memory_bytes(server.pid) / MIB)
        rates = {
            "one hub": await push_all(server.port, token, empty[:1], texts, pushed),
            "eight hubs": await push_all(server.port, token, empty, texts, pushed),
        }
        memory.append(process.memory_bytes(server.pid) / MIB)
        if many:
            say(f"Filling {HUBS:,} hubs with 1,000 memories each …")
            await fill_many(cluster.owner_url, texts)
            connection = await asyncpg.connect(cluster.owner_url)
            await connection.execute("VACUUM ANALYZE")
            one = await connection.fetchval("SELECT id FROM spaces WHERE slug = 'bench-one-of-many-0'")
            own = await connection.fetch(
                "SELECT m.space_id AS id FROM members m JOIN spaces s ON s.id = m.space_id"
                " WHERE m.user_id = 'user_bench' AND s.slug LIKE 'bench-one-of-many-%'"
            )
            await connection.close()
            name = f"one of {HUBS:,} hubs of 1,000"
            recall += await ask_all(server.port, token, name, [one], texts, BARS[1_000])
            name = f"{len(own)} of {HUBS:,} hubs of 1,000"
            recall += await ask_all(server.port, token, name, [row["id"] for row in own], texts, None)
            memory.append(process.memory_bytes(server.pid) / MIB)
    for name, rate in rates.items():
        say(f"pushes into {name}: {rate:.0f}/s")
    return Found(recall, rates, PUSH_BAR, memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small hubs, for a look at whether it runs")
    quick = parser.parse_args().quick
    sizes = [1_000] if quick else list(BARS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        issuer = embedded_issuer(instance_keys(read_settings(environment(folder / "data"))))
        with EmbeddedPostgres(folder / "data") as cluster:
            migrate(cluster.owner_url, lambda _: None)
            token = asyncio.run(_sign_in(cluster.owner_url, issuer))
            found = uvloop.run(
                measured(cluster, folder, token, sizes, 500 if quick else 4_000, many=not quick)
            )
    missed = [f"{each.hubs}, {each.words}" for each in found.recall if each.bar and each.p95 > each.bar]
    missed += [name for name, rate in found.pushes_per_s.items() if rate < PUSH_BAR]
    say("Every bar is reached." if not missed else "Not reached: " + ", ".join(missed) + ".")
    if not quick:
        RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")


async def _sign_in(url: str, issuer: Any) -> str:
    """Somebody with a session; answers its token."""
    connection: Any = await asyncpg.connect(url)
    await connection.execute(
        "INSERT INTO users (id, issuer, display_name)"
        " VALUES ('user_bench', $1, 'Bench'), ('user_other', $1, 'Somebody else')",
        issuer.issuer,
    )
    await connection.execute(
        "INSERT INTO sessions (id, user_id, label, expires_at)"
        " VALUES ('sess_bench', 'user_bench', 'bench', now() + interval '1 day')"
    )
    await connection.close()
    return issuer.issue("user_bench", "sess_bench", now=time.time(), lifetime_s=86_400)


if __name__ == "__main__":
    main()
