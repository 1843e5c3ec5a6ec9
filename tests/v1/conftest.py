"""Installations of their own: one whose operator keeps hubs small, one that recalls by meaning too."""

from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from tests import cluster as clusters
from tests.servers.embedding_server import EmbeddingServer, embedding_server
from tests.world import World, open_world, settings_for


@pytest_asyncio.fixture(scope="session")
async def limited(world: World) -> AsyncIterator[World]:
    """Over the same database: at most two hubs of one's own, and three members in each."""
    settings = msgspec.structs.replace(world.house.settings, most_owned_hubs=2, most_hub_members=3)
    async with open_world(settings) as small:
        yield small


@pytest_asyncio.fixture(scope="session")
async def server() -> AsyncIterator[EmbeddingServer]:
    async with embedding_server() as server:
        yield server


@pytest_asyncio.fixture(scope="session")
async def meaning(
    cluster: clusters.Cluster,
    template: str,
    server: EmbeddingServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[World]:
    """An installation that has a server make vectors, over a database of its own."""
    url = await clusters.clone_database(cluster, template)
    settings = settings_for(
        tmp_path_factory.mktemp("meaning"),
        clusters.app_url(cluster, url),
        url,
        EMBEDDINGS="server",
        EMBEDDINGS_URL=server.url,
        EMBEDDINGS_MODEL="some-model",
    )
    async with open_world(settings) as world:
        yield world
    await clusters.drop_database(cluster, url)
