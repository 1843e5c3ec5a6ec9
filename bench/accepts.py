"""Many people who accept invites at once, each into a hub of their own."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import asyncpg

from bench import measure, process, questions
from bench.load import burst
from bench.measure import Round
from bench.seed import Member
from bench.servers import Server
from guildhall.tokens import Tokens

AT_ONCE = 50
ROUNDS = 6


async def invite(owner_url: str, tokens: Tokens, askers: Sequence[Member]) -> list[bytes]:
    """An open invite to each of the hubs named for it, as the request of somebody who accepts it."""
    connection: Any = await asyncpg.connect(owner_url)
    try:
        rows = await connection.fetch("SELECT id, owner_id FROM spaces WHERE slug LIKE 'door-%' ORDER BY id")
        ids = [uuid4() for _ in rows]
        made = [tokens.make(each) for each in ids]
        await connection.executemany(
            "INSERT INTO invites (id, space_id, kind, role, token_hash, invited_by)"
            " VALUES ($1, $2, 'hub', 'contributor', $3, $4)",
            [
                (each, row["id"], tokens.hash(token), row["owner_id"])
                for each, token, row in zip(ids, made, rows, strict=True)
            ],
        )
        await connection.execute("VACUUM ANALYZE invites")
    finally:
        await connection.close()
    return [
        questions.request(_guest(askers, number, row["owner_id"]), f"/v1/invites/{token}/accept", {})
        for number, (row, token) in enumerate(zip(rows, made, strict=True))
    ]


def _guest(askers: Sequence[Member], number: int, owner: str) -> Member:
    """Somebody who is not in the hub yet."""
    found = askers[number % len(askers)]
    return askers[(number + 1) % len(askers)] if found.user == owner else found


async def compare(servers: Sequence[Server], requests: Sequence[bytes]) -> dict[str, list[Round]]:
    """Rounds of each in turn. Every invite is used once."""
    each = len(requests) // (len(servers) * ROUNDS)
    left = iter(requests)
    rounds: dict[str, list[Round]] = {server.name: [] for server in servers}
    for number in range(ROUNDS):
        for server in servers if number % 2 else servers[::-1]:
            mine = [next(left) for _ in range(each)]
            before = process.processor_s(server.pid)
            done = await burst(server.port, iter(mine), AT_ONCE)
            used_s = process.processor_s(server.pid) - before
            if set(done.statuses) != {200}:
                raise measure.Unexpected(f"{server.name} answered an accept with {done.statuses}")
            # The first of each only warms it up.
            if number:
                rounds[server.name].append(Round(used_s / done.requests * 1e6, done))
    return rounds
