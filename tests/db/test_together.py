"""Reads that come at the same time go together, and nobody notices but the database."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import msgspec
import pytest_asyncio

from guildhall.db import Db, open_db
from tests import cluster as clusters

SUMS = "SELECT n, 12 / v AS v FROM unnest($1::integer[]) WITH ORDINALITY AS asked (v, n) WHERE v < 100"
NAPS = "SELECT n, v FROM unnest($1::float8[]) WITH ORDINALITY AS asked (v, n), LATERAL pg_sleep(v)"


class Row(msgspec.Struct, frozen=True):
    n: int
    v: float


@pytest_asyncio.fixture
async def db(cluster: clusters.Cluster, database: str) -> AsyncIterator[Db]:
    db = await open_db(clusters.app_url(cluster, database))
    yield db
    await db.close()


async def test_many_at_once_are_one_round_trip_or_two_and_each_has_its_own_row(db: Db) -> None:
    before = db.trips
    rows = await asyncio.gather(*(db.read_together(Row, SUMS, v) for v in (1, 2, 500, 3, 2)))
    assert [None if row is None else row.v for row in rows] == [12, 6, None, 4, 6]
    assert db.trips - before <= 2


async def test_who_gives_up_disturbs_nobody(db: Db) -> None:
    async def ask(v: int) -> Row | None:
        return await db.read_together(Row, SUMS, v)

    asking = [asyncio.ensure_future(ask(v)) for v in (1, 2, 3)]
    await asyncio.sleep(0)
    asking[1].cancel()
    rows = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(rows[1], asyncio.CancelledError)
    assert [row.v for row in rows if isinstance(row, Row)] == [12, 4]


async def test_what_fails_is_told_to_all_who_asked_and_to_none_later(db: Db) -> None:
    async def ask(v: int) -> Row | None:
        return await db.read_together(Row, SUMS, v)

    found = await asyncio.gather(ask(0), ask(0), return_exceptions=True)
    assert [type(each) for each in found] == [asyncpg.DivisionByZeroError] * 2
    assert await ask(4) == Row(1, 3)


async def test_a_slow_one_holds_up_only_those_who_came_with_it(db: Db) -> None:
    async def nap(seconds: float) -> Row | None:
        return await db.read_together(Row, NAPS, seconds)

    slow = asyncio.ensure_future(nap(2))
    await asyncio.sleep(0.1)
    assert await nap(0) == Row(1, 0)
    assert not slow.done()
    assert await slow == Row(1, 2)
