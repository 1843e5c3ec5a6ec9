"""A dump is one instant of the database; it restores as a whole or not at all, and tells no secrets."""

import asyncio
import contextlib
import os
import stat
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from guildhall.providers.postgres import DatabaseToolError, dump, find_problems, restore, server_version
from tests import cluster as databases
from tests.providers.other_postgres import PASSWORD, behind_tls, older_server

SCHEMA = """
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TABLE people (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, name text NOT NULL, mood mood);
CREATE TABLE memories (
    id int PRIMARY KEY, owner bigint NOT NULL REFERENCES people, at vector(3), words text,
    size int GENERATED ALWAYS AS (length(words)) STORED
);
CREATE INDEX memories_nearest ON memories USING hnsw (at vector_l2_ops);
CREATE FUNCTION shout(t text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT upper(t) $$;
CREATE VIEW loud AS SELECT shout(name) AS name FROM people;
COMMENT ON TABLE people IS 'Who is here.';
INSERT INTO people (name, mood) VALUES ('Ada', 'glad'), ('Bo', NULL), (E'odd\\t\\\\.\\n''name', 'sad');
INSERT INTO memories VALUES (1, 1, '[1,2,3]', 'first'), (2, 3, NULL, repeat('long ', 20000));
"""
RIGHTS = """
GRANT SELECT, INSERT ON people TO guildhall_app;
GRANT SELECT (words) ON memories TO guildhall_app;
"""


@pytest.fixture
async def database() -> AsyncGenerator[str]:
    cluster = databases.test_cluster()
    url = await databases.clone_database(cluster)
    yield url
    await databases.drop_database(cluster, url)


@pytest.fixture
async def empty() -> AsyncGenerator[str]:
    cluster = databases.test_cluster()
    url = await databases.clone_database(cluster)
    yield url
    await databases.drop_database(cluster, url)


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def _run(url: str, sql: str) -> None:
    async with _connected(url) as connection:
        await connection.execute(sql)


async def _value(url: str, sql: str) -> object:
    async with _connected(url) as connection:
        return await connection.fetchval(sql)


async def _everything(url: str) -> list[object]:
    async with _connected(url) as connection:
        return [
            [tuple(row) for row in await connection.fetch(query)]
            for query in (
                "SELECT * FROM people ORDER BY id",
                "SELECT id, owner, at::text, words, size FROM memories ORDER BY id",
                "SELECT * FROM loud ORDER BY name",
                "SELECT obj_description('people'::regclass)",
                "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
            )
        ]


async def test_what_is_dumped_is_what_is_restored(database: str, empty: str, tmp_path: Path) -> None:
    await _run(database, SCHEMA + RIGHTS)
    said: list[str] = []
    await dump(database, tmp_path / "all.dump", said.append)
    await restore(empty, tmp_path / "all.dump", said.append)
    assert await _everything(empty) == await _everything(database)
    assert "Dumping public.people …" in said
    assert "Restoring public.people …" in said
    assert stat.S_IMODE((tmp_path / "all.dump").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["all.dump"]
    # The sequence goes on where it was.
    assert await _value(empty, "INSERT INTO people (name) VALUES ('next') RETURNING id") == 4


async def test_the_application_may_do_after_a_restore_what_it_might_before(
    database: str, empty: str, tmp_path: Path
) -> None:
    await _run(database, SCHEMA + RIGHTS)
    await dump(database, tmp_path / "all.dump")
    await restore(empty, tmp_path / "all.dump")
    app = databases.app_url(databases.test_cluster(), empty)
    assert await _value(app, "SELECT count(*) FROM people") == 3
    assert await _value(app, "SELECT words FROM memories WHERE words = 'first'") == "first"
    for refused in ("DELETE FROM people", "SELECT at FROM memories", "CREATE TABLE mine ()"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await _run(app, refused)


async def test_a_dump_taken_while_everybody_writes_is_one_instant(
    database: str, empty: str, tmp_path: Path
) -> None:
    await _run(
        database,
        """
        CREATE TABLE a_purse (id int PRIMARY KEY, coins bigint NOT NULL, rest text DEFAULT repeat('x', 500));
        CREATE TABLE z_purse (id int PRIMARY KEY, coins bigint NOT NULL);
        CREATE TABLE b_parent (id int PRIMARY KEY);
        CREATE TABLE y_child (id int PRIMARY KEY, parent int NOT NULL REFERENCES b_parent);
        INSERT INTO a_purse SELECT n, 100 FROM generate_series(1, 20000) AS n;
        INSERT INTO z_purse SELECT n, 100 FROM generate_series(1, 20000) AS n;
        """,
    )
    stop = asyncio.Event()
    written = 0

    async def write(which: int) -> None:
        nonlocal written
        async with _connected(database) as connection:
            n = which * 10_000_000
            while not stop.is_set():
                n += 1
                async with connection.transaction():
                    await connection.execute(
                        "UPDATE a_purse SET coins = coins - 1 WHERE id = $1", n % 20000 + 1
                    )
                    await connection.execute("INSERT INTO b_parent VALUES ($1)", n)
                    await connection.execute("INSERT INTO y_child VALUES ($1, $1)", n)
                    await connection.execute(
                        "UPDATE z_purse SET coins = coins + 1 WHERE id = $1", n % 20000 + 1
                    )
                written += 1

    writers = [asyncio.create_task(write(which)) for which in range(3)]
    while written < 50:
        await asyncio.sleep(0.01)
    before = written
    await dump(database, tmp_path / "busy.dump")
    during = written - before
    stop.set()
    await asyncio.gather(*writers)
    assert during > 0
    await restore(empty, tmp_path / "busy.dump")
    total = "SELECT (SELECT sum(coins) FROM a_purse) + (SELECT sum(coins) FROM z_purse)"
    assert await _value(empty, total) == 4_000_000
    counts = "SELECT (SELECT count(*) FROM b_parent) - (SELECT count(*) FROM y_child)"
    assert await _value(empty, counts) == 0
    restored = await _value(empty, "SELECT count(*) FROM y_child")
    assert isinstance(restored, int)
    assert before <= restored + 3
    assert restored <= written


async def test_a_dump_is_of_the_instant_that_a_transaction_exported(
    database: str, empty: str, tmp_path: Path
) -> None:
    await _run(database, SCHEMA)
    async with _connected(database) as connection, connection.transaction(isolation="repeatable_read"):
        snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
        await _run(database, "DELETE FROM memories; INSERT INTO people (name) VALUES ('late')")
        await dump(database, tmp_path / "then.dump", snapshot=snapshot)
    await restore(empty, tmp_path / "then.dump")
    assert await _value(empty, "SELECT count(*) FROM people") == 3
    assert await _value(empty, "SELECT count(*) FROM memories") == 2


async def test_what_is_to_be_done_with_a_restore_happens_in_the_same_instant(
    database: str, empty: str, tmp_path: Path
) -> None:
    await _run(database, SCHEMA)
    await dump(database, tmp_path / "all.dump")
    with pytest.raises(DatabaseToolError, match="nowhere"):
        await restore(empty, tmp_path / "all.dump", finally_run="DELETE FROM public.nowhere")
    assert await _value(empty, "SELECT to_regclass('people')") is None
    await restore(empty, tmp_path / "all.dump", finally_run="DELETE FROM public.memories")
    assert await _value(empty, "SELECT count(*) FROM memories") == 0


@pytest.mark.parametrize(
    "already",
    [
        "CREATE TABLE kept (n int)",
        "CREATE FUNCTION kept() RETURNS int RETURN 1",
        "CREATE TYPE kept AS ENUM ('a')",
    ],
)
async def test_a_database_that_holds_anything_is_not_restored_into(
    database: str, empty: str, tmp_path: Path, already: str
) -> None:
    await _run(database, SCHEMA)
    await dump(database, tmp_path / "all.dump")
    await _run(empty, already)
    with pytest.raises(DatabaseToolError, match=r"not empty: it has public\.kept"):
        await restore(empty, tmp_path / "all.dump")
    assert await _value(empty, "SELECT to_regclass('people')") is None


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
async def test_a_damaged_dump_changes_nothing(database: str, empty: str, tmp_path: Path, kept: float) -> None:
    await _run(database, SCHEMA)
    await _run(database, "CREATE TABLE noise AS SELECT md5(n::text) AS t FROM generate_series(1, 20000) AS n")
    whole = tmp_path / "all.dump"
    await dump(database, whole)
    damaged = tmp_path / "damaged.dump"
    damaged.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * kept)])
    with pytest.raises(DatabaseToolError):
        await restore(empty, damaged)
    await restore(empty, whole)


async def test_a_restore_that_stops_at_an_error_changes_nothing_and_says_what_stopped_it(
    database: str, empty: str, tmp_path: Path
) -> None:
    await _run(database, SCHEMA)
    # Valid where it was written, and nowhere else: what a dump cannot carry over.
    name = databases.database_of(database)
    await _run(database, "CREATE TABLE zz (n int); INSERT INTO zz VALUES (1)")
    await _run(database, f"ALTER TABLE zz ADD CONSTRAINT only_here CHECK (current_database() = '{name}')")
    await dump(database, tmp_path / "all.dump")
    with pytest.raises(DatabaseToolError, match="only_here"):
        await restore(empty, tmp_path / "all.dump")
    assert await _value(empty, "SELECT to_regclass('people')") is None


async def test_files_that_are_no_dumps_are_told_so(empty: str, tmp_path: Path) -> None:
    with pytest.raises(DatabaseToolError, match="cannot be read"):
        await restore(empty, tmp_path / "missing")
    (tmp_path / "note.txt").write_text("not a dump")
    with pytest.raises(DatabaseToolError, match="is not a dump"):
        await restore(empty, tmp_path / "note.txt")


async def test_a_dump_overwrites_nothing_and_leaves_nothing_behind_when_it_fails(
    database: str, tmp_path: Path
) -> None:
    (tmp_path / "kept.dump").write_text("precious")
    with pytest.raises(DatabaseToolError, match="exists already"):
        await dump(database, tmp_path / "kept.dump")
    assert (tmp_path / "kept.dump").read_text() == "precious"
    with pytest.raises(DatabaseToolError, match="could not be written"):
        await dump(database, tmp_path / "no such folder" / "x.dump")
    await _run(database, SCHEMA)
    app = databases.app_url(databases.test_cluster(), database)
    with pytest.raises(DatabaseToolError, match="permission denied"):
        await dump(app, tmp_path / "denied.dump")
    task = asyncio.create_task(dump(database, tmp_path / "cancelled.dump"))
    await asyncio.sleep(0.1)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
        (tmp_path / "cancelled.dump").unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["kept.dump"]


async def test_databases_move_to_an_older_server_and_back(database: str, empty: str, tmp_path: Path) -> None:
    await _run(database, SCHEMA + RIGHTS)
    await dump(database, tmp_path / "new.dump")
    with older_server() as other:
        said: list[str] = []
        await restore(other, tmp_path / "new.dump", said.append)
        assert await _everything(other) == await _everything(database)
        assert any("no role guildhall_app" in line for line in said)

        shown: set[str] = set()

        def look(_: str) -> None:
            found = subprocess.run(["ps", "-ww", "-eo", "args="], capture_output=True, text=True, check=True)
            shown.update(line for line in found.stdout.splitlines() if "pg_dump" in line)

        await dump(other, tmp_path / "old.dump", look)
        assert shown
        for line in shown:
            assert "s3cret" not in line
    await restore(empty, tmp_path / "old.dump")
    assert await _everything(empty) == await _everything(database)


async def test_servers_behind_tls_are_dumped_and_restored_as_strictly_as_the_address_asks(
    database: str, tmp_path: Path
) -> None:
    await _run(database, SCHEMA)
    await dump(database, tmp_path / "all.dump")
    with older_server() as plain:
        user = plain.rpartition("@")[0]
        async with behind_tls(urlsplit(plain).port or 0, tmp_path) as port:
            for query in (
                "",
                "?sslmode=require",
                f"?sslmode=verify-ca&sslrootcert={quote(str(tmp_path))}/localhost.pem",
            ):
                await _run(plain, f'CREATE DATABASE "d{len(query)}"')
                url = f"{user}@127.0.0.1:{port}/d{len(query)}{query}"
                await restore(url, tmp_path / "all.dump")
                await dump(url, tmp_path / f"{len(query)}.dump")
                assert await _value(url, "SELECT count(*) FROM people") == 3
            strict = f"sslmode=verify-full&sslrootcert={quote(str(tmp_path))}/localhost.pem"
            await dump(f"{user}@localhost:{port}/d0?{strict}", tmp_path / "strict.dump")
            for url in (
                f"{user}@127.0.0.1:{port}/d0?{strict}",
                f"{user}@localhost:{port}/d0?sslmode=verify-full&sslrootcert=system",
            ):
                with pytest.raises(DatabaseToolError) as refused:
                    await dump(url, tmp_path / "refused.dump")
                assert (
                    "certificate" in refused.value.message.lower()
                    or "cannot be reached" in refused.value.message
                )
        with pytest.raises(DatabaseToolError):
            await dump(f"{plain}?sslmode=require", tmp_path / "refused.dump")
        assert not (tmp_path / "refused.dump").exists()


async def test_no_message_gives_the_password_away(tmp_path: Path) -> None:
    with older_server() as other:
        wrong = other.replace("admin:", "admin:x")
        for url in (
            wrong,
            other.replace("/postgres", "/missing"),
            other + "?nonsense=1",
            "postgresql://a:s3cret@[x",
        ):
            with pytest.raises(DatabaseToolError) as failed:
                await dump(url, tmp_path / "x.dump")
            assert "s3cret" not in str(failed.value)
            assert PASSWORD not in str(failed.value)
    for problem in (await find_problems(other), await find_problems(wrong)):
        assert len(problem) == 1
        assert "s3cret" not in problem[0]


async def test_a_good_server_has_no_problems(database: str) -> None:
    await _run(database, SCHEMA)
    app = databases.app_url(databases.test_cluster(), database)
    assert await find_problems(database, app) == []
    if not os.environ.get("GUILDHALL_TEST_DATABASE_URL"):
        assert (await server_version(database)).startswith("18.")


async def test_problems_of_a_server_are_told_in_words() -> None:
    with older_server("fsync=off", "synchronous_commit=off") as other:
        await _run(other, "CREATE ROLE plain LOGIN PASSWORD 'plain'")
        await _run(other, "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        found = await find_problems(other.replace("/postgres", "/latin"), other)
        assert [problem.split(";")[0] for problem in found] == [
            "The database is encoded as LATIN1",
            "The server's setting fsync is off, so a crash of the machine can ruin the whole database",
            "The server's setting synchronous_commit is off, so a crash can lose what was already confirmed",
            "The application's role admin is a superuser",
        ]
        plain = f"postgresql://plain:plain@{other.rpartition('@')[2]}"
        assert any("CREATE EXTENSION vector" in problem for problem in await find_problems(plain))
        await _run(other, "CREATE EXTENSION vector; CREATE TABLE t (n int); ALTER TABLE t OWNER TO plain")
        assert not any("pgvector" in problem for problem in await find_problems(plain))
        assert any("plain owns tables" in problem for problem in await find_problems(other, plain))
