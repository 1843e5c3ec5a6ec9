"""Large hubs have an index over their vectors: it finds what a look at each would find, and blocks nobody."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec
import pytest

from guildhall.errors import Unavailable
from guildhall.memories.vector_indexes import tend
from tests.servers.embedding_server import vector_of
from tests.v1.test_memories import push
from tests.v1.test_recall import ids
from tests.world import Hub, Person, World

pytestmark = pytest.mark.xdist_group("meaning")

LINE = 200
QUERY = "car"
SOUGHT = json.dumps(vector_of(QUERY))


async def indexes(world: World, hub: Hub) -> list[tuple[str, bool]]:
    """The names of a hub's indexes, and whether each is whole."""
    async with world.db.reading() as read:
        rows = await read.connection.fetch(
            "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE c.relname LIKE 'memory_vectors_' || replace($1, '-', '') || '%'",
            hub.id,
        )
    return [(row["relname"], row["indisvalid"]) for row in rows]


async def stock(world: World, hub: Hub, author: Person, count: int, seed: float = 0.5) -> None:
    """Put memories with vectors into the hub. Every fiftieth has a tag, and is far from what is asked for."""
    embedder = world.house.service.embedder
    assert embedder is not None
    async with world.db.writing() as tx:
        await tx.value("SELECT setseed($1)", seed)
        await tx.run(
            "INSERT INTO memories (id, space_id, author_id, content, content_hash, tags)"
            " SELECT uuid7(), $1::uuid, $2, 'Note ' || n, sha256(uuid_send(gen_random_uuid())),"
            "        CASE WHEN n % 50 = 0 THEN ARRAY['far'] ELSE '{}' END FROM generate_series(1, $3) AS n",
            hub.id,
            author.id,
            count,
        )
        await tx.run(
            "INSERT INTO memory_vectors (space_id, memory_id, chunk, model, version, vector)"
            " SELECT space_id, id, 0, $2, 1,"
            "        (SELECT array_agg(CASE WHEN i > 1 THEN random() - 0.5 WHEN tags = '{}' THEN 4 * random()"
            "                               ELSE -9 END) FROM generate_series(1, 384) AS i)::halfvec"
            "   FROM memories WHERE space_id = $1::uuid",
            hub.id,
            embedder.name,
        )


async def exact(world: World, hub: Hub, most: int) -> list[str]:
    async with world.db.reading() as read:
        rows = await read.connection.fetch(
            "SELECT memory_id::text FROM memory_vectors WHERE space_id = $1::uuid"
            " ORDER BY (vector <=> $2::text::halfvec) + 0 LIMIT $3",
            hub.id,
            SOUGHT,
            most,
        )
    return [row["memory_id"] for row in rows]


async def scans(world: World, name: str) -> int:
    """How often the index was looked into, by whatever connection the last request used."""
    async with world.db.reading() as read:
        await read.value("SELECT pg_stat_force_next_flush()")
        await read.value("SELECT pg_stat_clear_snapshot()")
        return await read.value("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = $1", name)


def alike(found: Sequence[str], wanted: Sequence[str]) -> float:
    return len(set(found) & set(wanted)) / len(wanted)


async def test_a_large_hub_gets_an_index_and_recall_finds_the_same_by_it(meaning: World) -> None:
    ada, bo = await meaning.people("ada", "bo")
    hub, small = await meaning.hub(ada, viewers=[bo]), await meaning.hub(ada)
    await stock(meaning, hub, ada, 400)
    await stock(meaning, small, ada, LINE)
    before = await ids(bo, QUERY, limit=50, hub_ids=[hub.id])
    assert before == await exact(meaning, hub, 50)
    await tend(meaning.house.work, LINE)
    [(name, whole)] = await indexes(meaning, hub)
    assert whole
    assert await indexes(meaning, small) == []
    looked = await scans(meaning, name)
    after = await ids(bo, QUERY, limit=50, hub_ids=[hub.id])
    assert await scans(meaning, name) > looked
    assert alike(after, before) >= 0.95
    # What is asked of several hubs comes from all of them, by whatever way.
    both = await ids(ada, QUERY, limit=100)
    assert alike(both, [*await exact(meaning, hub, 100), *await exact(meaning, small, 100)]) >= 0.45
    assert set(both) & set(await exact(meaning, small, 20))
    # What is pushed later is in it as well.
    closest = await push(ada, "My automobile broke down.", hub)
    async with meaning.db.single() as tx:
        await tx.run(
            "INSERT INTO memory_vectors SELECT $1::uuid, $2::uuid, 0, $3, 1, $4::text::halfvec",
            hub.id,
            closest["id"],
            meaning.house.service.embedder.name,  # pyright: ignore[reportOptionalMemberAccess]
            SOUGHT,
        )
    assert (await ids(bo, QUERY, limit=1))[0] == closest["id"]
    # Once more changes nothing.
    await tend(meaning.house.work, LINE)
    assert await indexes(meaning, hub) == [(name, True)]


async def test_filters_and_rights_bind_and_few_that_fit_are_all_found(meaning: World) -> None:
    ada, bo, eve = await meaning.people("ada", "bo", "eve")
    hub, hidden = await meaning.hub(ada, viewers=[bo]), await meaning.hub(ada)
    await stock(meaning, hub, ada, 400)
    await stock(meaning, hidden, ada, 400, seed=0.1)
    await tend(meaning.house.work, LINE)
    ours = set(await exact(meaning, hub, 1000))
    found = await ids(bo, QUERY, limit=100)
    assert len(found) == 100 and set(found) <= ours
    assert await ids(eve, QUERY, hub_ids=[hub.id, hidden.id]) == []
    assert await ids(bo, QUERY, hub_ids=[hidden.id]) == []
    # Those with the tag are the last of 400, and still found, all of them.
    far = await ids(bo, QUERY, limit=100, tags=["far"])
    assert set(far) == set((await exact(meaning, hub, 400))[-8:])
    assert await ids(bo, QUERY, created_before="2020-01-01T00:00:00Z") == []
    # The archive is where it is asked for. What lies before all others must not crowd them out.
    async with meaning.db.single() as tx:
        await tx.run(
            "UPDATE memories SET state = 'archived' WHERE id = ANY ($1::text[]::uuid[])",
            archived := (await exact(meaning, hub, 320)),
        )
    left = await ids(bo, QUERY, limit=100)
    assert set(left) == ours - set(archived)
    assert (await ids(bo, QUERY, limit=1, include_archived=True))[0] == archived[0]
    (await ada.delete(f"{hub.url}/members/{bo.id}")).ok()
    assert await ids(bo, QUERY) == []


@asynccontextmanager
async def as_owner(world: World) -> AsyncIterator[Any]:
    connection: Any = await asyncpg.connect(world.owner_url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def looking_on(world: World) -> AsyncIterator[None]:
    """Somebody reads for long, for whom every build of an index waits at its end."""
    async with as_owner(world) as connection:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await connection.execute("SELECT FROM spaces LIMIT 1")
        yield


async def until(connection: Any, sql: str) -> Any:
    async with asyncio.timeout(20):
        while (value := await connection.fetchval(sql)) is None:
            await asyncio.sleep(0.02)
    return value


WAITS = (
    "SELECT pid FROM pg_stat_progress_create_index"
    " WHERE datname = current_database() AND phase = 'waiting for old snapshots'"
)
NOBODY_BUILDS = (
    "SELECT true WHERE NOT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
    " WHERE l.locktype = 'advisory' AND d.datname = current_database())"
)


@pytest.mark.parametrize("how", ["its connection is lost", "it is told to stop"])
async def test_a_build_holds_nobody_up_and_what_a_broken_one_leaves_is_mended(
    meaning: World, how: str
) -> None:
    ada = await meaning.person("ada")
    hub = await meaning.hub(ada)
    await stock(meaning, hub, ada, 300)
    async with as_owner(meaning) as owner, looking_on(meaning):
        building = asyncio.create_task(tend(meaning.house.work, LINE))
        pid = await until(owner, WAITS)
        # Meanwhile everything goes on.
        memory = await push(ada, "The zebra crossed the road.", hub)
        assert memory["id"] in await ids(ada, "zebra")
        before = await ids(ada, QUERY, limit=50)
        assert before == await exact(meaning, hub, 50)
        (await ada.delete(f"/v1/memories/{before[0]}")).ok()
        assert await ids(ada, QUERY, limit=49) == before[1:]
        # Another worker sees that it is being done.
        await tend(meaning.house.work, LINE)
        if how == "its connection is lost":
            await owner.execute("SELECT pg_terminate_backend($1)", pid)
            with pytest.raises(Unavailable):
                await building
        else:
            building.cancel()
            with pytest.raises(asyncio.CancelledError):
                await building
        await until(owner, NOBODY_BUILDS)
    [(name, whole)] = await indexes(meaning, hub)
    assert not whole
    assert await ids(ada, QUERY, limit=49) == before[1:]
    await tend(meaning.house.work, LINE)
    assert await indexes(meaning, hub) == [(name, True)]
    assert alike(await ids(ada, QUERY, limit=49), before[1:]) >= 0.95


async def test_an_index_goes_when_its_hub_does_or_has_shrunk_to_half(meaning: World) -> None:
    ada = await meaning.person("ada")
    hub, doomed = await meaning.hub(ada), await meaning.hub(ada)
    for each in (hub, doomed):
        await stock(meaning, each, ada, 300)
    await tend(meaning.house.work, LINE)
    assert await indexes(meaning, hub) and await indexes(meaning, doomed)
    (await ada.delete(doomed.url)).ok()
    for left, kept in ((150, True), (90, False)):
        async with meaning.db.single() as tx:
            await tx.run(
                "DELETE FROM memories WHERE space_id = $1::uuid AND id NOT IN"
                " (SELECT id FROM memories WHERE space_id = $1::uuid ORDER BY id LIMIT $2)",
                hub.id,
                left,
            )
        await tend(meaning.house.work, LINE)
        assert bool(await indexes(meaning, hub)) is kept
        assert await ids(ada, QUERY, limit=80) == await exact(meaning, hub, 80)
    assert await indexes(meaning, doomed) == []


async def test_a_worker_that_does_not_know_the_owner_leaves_everything_as_it_is(meaning: World) -> None:
    ada = await meaning.person("ada")
    hub = await meaning.hub(ada)
    await stock(meaning, hub, ada, 300)
    work = msgspec.structs.replace(meaning.house.work, owner_url=meaning.house.database_url)
    await tend(work, LINE)
    assert await indexes(meaning, hub) == []
    assert await ids(ada, QUERY, limit=50) == await exact(meaning, hub, 50)
