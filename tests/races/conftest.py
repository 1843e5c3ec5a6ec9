"""Two processes for all races of a test process, over a database in which nothing else happens."""

import asyncio
import os
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from guildhall.spaces.invariants import find_broken
from tests import cluster as clusters
from tests.races.pair import two_processes
from tests.world import Person, World

MOST_MEMBERS = 7
CROWD = 100


@pytest.fixture
def rounds() -> int:
    """How often a race is run: chance decides what it meets."""
    return 100 if os.environ.get("GUILDHALL_LONG") else 1


@pytest.fixture
def many() -> int:
    """How often a race of two is run, several at a time."""
    return 200 if os.environ.get("GUILDHALL_LONG") else 10


@pytest_asyncio.fixture(scope="session")
async def pair(
    cluster: clusters.Cluster, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    url = await clusters.clone_database(cluster, template)
    folder = tmp_path_factory.mktemp("pair")
    settings = {"MAX_HUB_MEMBERS": str(MOST_MEMBERS)}
    async with two_processes(folder, clusters.app_url(cluster, url), url, **settings) as pair:
        yield pair
    await clusters.drop_database(cluster, url)


@pytest_asyncio.fixture(scope="session")
async def crowd(pair: World) -> list[Person]:
    """People enough for any race."""
    return [await pair.person(f"racer{number}") for number in range(CROWD)]


@pytest_asyncio.fixture
async def racing(pair: World) -> AsyncIterator[World]:
    """Both processes. At every instant another connection can see, each space has its owner, a hub just one;
    after the race all that must be true of the data is.
    """
    connection = await asyncpg.connect(pair.owner_url)
    over = asyncio.Event()
    watching = asyncio.create_task(_watch_owners(connection, over))
    try:
        yield pair
        over.set()
        assert await watching > 0
        assert await find_broken(connection) == []
    finally:
        watching.cancel()
        await connection.close()


async def _watch_owners(connection: "asyncpg.Connection[asyncpg.Record]", over: asyncio.Event) -> int:
    """How often it was looked. Fails at the first moment at which something is wrong."""
    looks = 0
    while not over.is_set():
        wrong = await connection.fetch(
            "SELECT s.id FROM spaces s LEFT JOIN members m"
            "    ON m.space_id = s.id AND m.role = 'owner' AND m.status = 'active'"
            " GROUP BY s.id, s.kind, s.owner_id"
            " HAVING count(m.user_id) FILTER (WHERE m.user_id = s.owner_id) <> 1"
            "     OR s.kind = 'hub' AND count(m.user_id) <> 1"
        )
        assert wrong == [], "a space is without its owner"
        looks += 1
        await asyncio.sleep(0.005)
    return looks
