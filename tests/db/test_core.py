"""What a connection to the database promises to readers, writers and those who wait, also when it is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from guildhall.db import Db, Retryable, open_db
from guildhall.errors import Conflict, OutcomeUnknown, Unavailable
from tests import cluster as clusters
from tests.world import open_world, settings_for

# Tries are counted by a sequence, which no rollback takes back. What it says is done `at` the time of the
# insert, or at the commit.
SCENERY = """
    CREATE TABLE notes (at text NOT NULL DEFAULT '', n integer);
    CREATE SEQUENCE tries;
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_NAME = 'statement die' OR TG_NAME = 'commit die' THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
        ELSIF nextval('tries') <= (SELECT n FROM notes WHERE at = 'failures') THEN
            RAISE EXCEPTION 'not yet' USING ERRCODE = 'serialization_failure';
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER "statement die" AFTER INSERT ON notes FOR EACH ROW WHEN (NEW.at = 'statement')
        EXECUTE FUNCTION fail();
    CREATE CONSTRAINT TRIGGER "commit die" AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.at = 'commit') EXECUTE FUNCTION fail();
    CREATE TRIGGER "statement again" AFTER INSERT ON spaces FOR EACH ROW WHEN (NEW.name = 'statement')
        EXECUTE FUNCTION fail();
    CREATE CONSTRAINT TRIGGER "commit again" AFTER INSERT ON spaces DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.name = 'commit') EXECUTE FUNCTION fail();
    GRANT ALL ON notes TO guildhall_app;
    GRANT ALL ON SEQUENCE tries TO guildhall_app;
"""


END_CONNECTIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class Place(msgspec.Struct, frozen=True):
    owner: str
    app: str

    @asynccontextmanager
    async def as_owner(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self.owner)
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def db(self, size: int = 2) -> AsyncIterator[Db]:
        db = await open_db(self.app, size=size)
        try:
            yield db
        finally:
            await db.close()

    async def end_connections(self) -> None:
        """As a restart of the server would."""
        async with self.as_owner() as connection:
            await connection.execute(END_CONNECTIONS)


@pytest_asyncio.fixture(scope="module")
async def place(cluster: clusters.Cluster, template: str) -> AsyncIterator[Place]:
    """A database of this module's own, with triggers that fail when they are asked to."""
    url = await clusters.clone_database(cluster, template)
    place = Place(url, clusters.app_url(cluster, url))
    async with place.as_owner() as connection:
        await connection.execute(SCENERY)
    yield place
    await clusters.drop_database(cluster, url)


async def count(db: Db, note: str) -> int:
    async with db.reading() as read:
        return await read.value("SELECT count(*) FROM notes WHERE at = $1", note)


async def test_who_only_reads_cannot_write(place: Place) -> None:
    async with place.db() as db:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            async with db.reading() as read:
                await read.value("INSERT INTO notes (at) VALUES ('read') RETURNING at")
        assert await count(db, "read") == 0


async def test_a_block_is_kept_whole_or_not_at_all(place: Place) -> None:
    async with place.db() as db:
        with pytest.raises(Conflict):
            async with db.writing() as tx:
                await tx.run("INSERT INTO notes (at) VALUES ('block')")
                raise Conflict
        assert await count(db, "block") == 0
        async with db.writing() as tx:
            assert await tx.run("INSERT INTO notes (at) VALUES ('block'), ('block')") == 2
            assert await count(db, "block") == 0
        assert await count(db, "block") == 2


async def test_round_trips_are_counted(place: Place) -> None:
    async with place.db() as db:
        async with db.reading() as read:
            await read.value("SELECT 1")
        async with db.single() as tx:
            await tx.run("INSERT INTO notes (at) VALUES ('trip')")
        assert db.trips == 2
        async with db.writing() as tx:
            await tx.run("INSERT INTO notes (at) VALUES ('trip')")
        assert db.trips == 5


class Kept(msgspec.Struct, frozen=True):
    n: object


async def test_a_kept_statement_outlives_a_change_of_its_table(place: Place) -> None:
    async with place.as_owner() as owner, place.db(size=1) as db:
        await owner.execute("CREATE TABLE kept AS SELECT 1 AS n; GRANT SELECT ON kept TO guildhall_app")
        found: list[Kept | None] = []
        for change in ("SELECT 1", "ALTER TABLE kept ALTER n TYPE text", "DELETE FROM kept"):
            await owner.execute(change)
            async with db.reading() as read:
                found += [await read.maybe_kept(Kept, "SELECT * FROM kept") for _ in range(2)]
        assert found == [Kept(1), Kept(1), Kept("1"), Kept("1"), None, None]


async def test_who_was_caught_in_a_deadlock_may_try_again(place: Place) -> None:
    async with place.db() as db:
        async with db.single() as tx:
            await tx.run("INSERT INTO notes (at, n) VALUES ('lock', 1), ('lock', 2)")
        met = asyncio.Barrier(2)

        async def lock(first: int, second: int) -> None:
            async with db.writing() as tx:
                await tx.run("SELECT FROM notes WHERE at = 'lock' AND n = $1 FOR UPDATE", first)
                await met.wait()
                await tx.run("SELECT FROM notes WHERE at = 'lock' AND n = $1 FOR UPDATE", second)

        ends = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
        assert [type(end) for end in ends if end is not None] == [Retryable]


@pytest.mark.parametrize("failures", [0, 1, 3, 4], ids="fails {} times".format)
@pytest.mark.parametrize("at", ["statement", "commit"])
@pytest.mark.parametrize("keyed", [False, True], ids=["no key", "key"])
async def test_a_request_that_met_another_is_run_again(
    place: Place, tmp_path: Path, failures: int, at: str, keyed: bool
) -> None:
    async with place.as_owner() as connection:
        await connection.execute("DELETE FROM notes WHERE at = 'failures'")
        await connection.execute("INSERT INTO notes VALUES ('failures', $1)", failures)
        await connection.execute("ALTER SEQUENCE tries RESTART")
    async with open_world(settings_for(tmp_path, place.app, place.owner)) as world:
        ada = await world.person("ada")
        headers = {"Idempotency-Key": ada.id} if keyed else {}
        reply = await ada.post("/api/communities", {"name": at}, headers=headers)
        made = (await ada.get("/api/communities")).ok()["items"]
        if failures < 4:
            assert reply.ok(201) == made[0]
        else:
            assert (reply.status, reply.error, made) == (503, "unavailable", [])
            assert int(reply.headers["retry-after"]) > 0


async def test_no_statement_lock_or_idle_transaction_lasts(place: Place) -> None:
    limits = {
        "statement_timeout": "5s",
        "lock_timeout": "2s",
        "idle_in_transaction_session_timeout": "10s",
        "fsync": "on",
        "synchronous_commit": "on",
    }
    async with place.db() as db, db.reading() as read:
        for name, limit in limits.items():
            assert (name, await read.value("SELECT current_setting($1)", name)) == (name, limit)


async def test_what_took_too_long_is_refused_and_the_connection_goes_on(place: Place) -> None:
    async with place.db(size=1) as db:
        pid = await backend(db)
        with pytest.raises(Unavailable) as late:
            async with db.writing() as tx:
                await tx.run("SET LOCAL statement_timeout = '20ms'")
                await tx.run("SELECT pg_sleep(60)")
        assert late.value.retry_after_s
        async with place.as_owner() as owner, owner.transaction():
            await owner.execute("LOCK TABLE notes")
            with pytest.raises(Unavailable):
                async with db.writing() as tx:
                    await tx.run("SET LOCAL lock_timeout = '20ms'")
                    await tx.run("INSERT INTO notes (at) VALUES ('late')")
        assert await backend(db) == pid


async def backend(db: Db) -> int:
    async with db.single() as tx:
        return await tx.value("SELECT pg_backend_pid()")


async def test_many_share_a_few_connections_and_each_gets_one_in_turn(place: Place) -> None:
    async with place.db(size=2) as db:
        order: list[int] = []
        pids: set[int] = set()

        async def use(number: int) -> None:
            async with db.single() as tx:
                order.append(number)
                pids.add(await tx.value("SELECT pg_backend_pid() FROM pg_sleep(0.001)"))

        async with db.single(), db.single():
            # Both are open now; one that has to be opened first would come later.
            pass
        await asyncio.gather(*(use(number) for number in range(100)))
        assert order == list(range(100))
        assert len(pids) == 2


async def test_who_waits_too_long_for_a_connection_is_told(place: Place) -> None:
    async with place.db(size=1) as db, db.single():
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(Unavailable) as full:
            async with db.single():
                pass
        assert full.value.retry_after_s
        assert loop.time() - began >= 2


async def test_who_gives_up_waiting_or_in_the_middle_takes_nothing_along(place: Place) -> None:
    async with place.db(size=2) as db:

        async def use(number: int, sleep_s: float) -> int:
            async with db.single() as tx:
                return await tx.value("SELECT $1::int FROM pg_sleep($2)", number, sleep_s)

        before = {await backend(db)}
        for _ in range(20):
            tasks = [asyncio.create_task(use(number, 0.002)) for number in range(8)]
            await asyncio.sleep(0.001)
            for task in tasks[::2]:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            # Each has its own row or none, never that of somebody who gave up.
            assert ends[1::2] == [1, 3, 5, 7]
            for number, end in enumerate(ends[::2]):
                assert end == 2 * number or isinstance(end, asyncio.CancelledError)
        # What was broken off in a statement was closed. All the places are there for others.
        async with db.single() as one, db.single() as other:
            now = {await connection.value("SELECT pg_backend_pid()") for connection in (one, other)}
        assert len(now) == 2
        assert not now & before


async def test_connections_that_died_unused_are_replaced_unseen(place: Place) -> None:
    async with place.db() as db:
        pid = await backend(db)
        await place.end_connections()
        await asyncio.sleep(0.05)
        assert await backend(db) != pid
        assert await count(db, "none") == 0


@pytest.mark.parametrize("way", [Db.reading, Db.writing], ids=["read", "transaction"])
async def test_who_loses_the_connection_before_the_commit_knows_that_nothing_was_done(
    place: Place, way: Callable[[Db], Any]
) -> None:
    async with place.db() as db:
        with pytest.raises(Unavailable):
            async with way(db) as tx:
                await tx.value("SELECT pg_terminate_backend(pg_backend_pid())")
        with pytest.raises(Unavailable):
            async with db.writing() as tx:
                await tx.run("INSERT INTO notes (at) VALUES ('statement')")
        assert await count(db, "statement") == 0


async def test_who_loses_the_connection_in_the_commit_is_told_that_it_is_unknown(place: Place) -> None:
    async with place.db() as db:
        for way in (db.writing, db.single):
            with pytest.raises(OutcomeUnknown) as lost:
                async with way() as tx:
                    await tx.run("INSERT INTO notes (at) VALUES ('commit')")
            assert lost.value.retry_after_s
        assert await count(db, "commit") == 0


async def test_a_database_that_takes_nobody_is_unavailable_until_it_does(place: Place) -> None:
    name = clusters.database_of(place.owner)
    async with place.db(size=2) as db:
        async with place.as_owner() as owner:
            await owner.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 0')
            try:
                await owner.execute(END_CONNECTIONS)
                for _ in range(5):
                    with pytest.raises(Unavailable):
                        await count(db, "none")
            finally:
                await owner.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')
        async with db.reading() as one, db.reading() as other:
            assert await one.value("SELECT 1") == await other.value("SELECT 1")


async def test_closing_waits_for_those_inside_and_lets_nobody_in(place: Place) -> None:
    db = await open_db(place.app, size=2)
    async with db.single() as tx:
        closing = asyncio.create_task(db.close())
        await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            async with db.single():
                pass
        await tx.run("INSERT INTO notes (at) VALUES ('closing')")
    await closing
    async with place.db() as other:
        assert await count(other, "closing") == 1


async def test_a_request_that_takes_too_long_is_broken_off(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(settings_for(tmp_path, place.app, place.owner)) as world:
        ada = await world.person("ada")
        monkeypatch.setattr("guildhall.web.edge.REQUEST_S", 0.1)
        async with place.as_owner() as owner, owner.transaction():
            await owner.execute("LOCK TABLE spaces")
            read = await ada.get("/api/communities")
            made = await ada.post("/api/communities", {"name": "Late"})
        assert (read.status, read.error) == (503, "unavailable")
        # Whoever broke it off cannot say whether that was before or in the commit.
        assert (made.status, made.error) == (503, "outcome_unknown")
        assert (await ada.get("/api/communities")).ok()["items"] == []
