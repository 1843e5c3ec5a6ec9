"""Two processes for all races of a test process, over a database in which nothing else happens."""

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
    """Both processes; after the race all that must be true of the data is."""
    yield pair
    connection = await asyncpg.connect(pair.owner_url)
    try:
        assert await find_broken(connection) == []
    finally:
        await connection.close()
