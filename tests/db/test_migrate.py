"""A database that is brought up to a new release: by one at a time, past who is busy, from where it was."""

import asyncio
import shutil
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from guildhall.db import migrate as migrations
from guildhall.db.migrate import applied, migrate, names, pending
from tests import cluster as clusters

BEFORE = 5


@pytest_asyncio.fixture
async def url(cluster: clusters.Cluster) -> AsyncIterator[str]:
    """The address of a database with nothing in it."""
    url = await clusters.clone_database(cluster)
    yield url
    await clusters.drop_database(cluster, url)


async def test_of_several_migrators_one_works_and_the_others_find_it_done(url: str) -> None:
    counts = await asyncio.gather(*(asyncio.to_thread(migrate, url) for _ in range(3)))
    assert sorted(counts) == [0, 0, len(names())]
    assert await applied(url) == names()
    assert await pending(url) == []


async def test_a_busy_table_and_a_killed_migrator_delay_a_migration_and_harm_nobody(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The release before: it knows the first of them only.
    earlier = tmp_path / "migrations"
    earlier.mkdir()
    done = names()[:BEFORE]
    for path in migrations.MIGRATIONS.iterdir():
        if path.stem in done:
            shutil.copy(path, earlier)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", earlier)
        assert await asyncio.to_thread(migrate, url) == BEFORE

    # It goes on serving meanwhile, and one of its transactions is in no hurry.
    writer, reader = await asyncpg.connect(url), await asyncpg.connect(url)
    await writer.execute("BEGIN; LOCK TABLE spaces IN ROW EXCLUSIVE MODE")
    killed = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"from guildhall.db.migrate import migrate; migrate({url!r}, lambda line: print(line, flush=True))",
        stdout=asyncio.subprocess.PIPE,
    )
    assert killed.stdout is not None
    assert b"busy" in await killed.stdout.readline()
    # Whoever writes waits no longer than the migrator does for its lock.
    await reader.execute("SET lock_timeout = '4s'")
    await reader.execute("UPDATE spaces SET name = name")
    killed.kill()
    await killed.wait()
    assert await applied(url) == done

    said: list[str] = []
    busy = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        if "busy" in line:
            busy.set()

    going = asyncio.create_task(asyncio.to_thread(migrate, url, say))
    assert await asyncio.to_thread(busy.wait, 30)
    assert await applied(url) == done
    await writer.execute("COMMIT")
    assert await going == len(names()) - BEFORE
    assert await applied(url) == names()
    assert await asyncio.to_thread(migrate, url) == 0
    for connection in (writer, reader):
        await connection.close()
