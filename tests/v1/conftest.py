"""An installation whose operator keeps hubs small."""

from collections.abc import AsyncIterator

import msgspec
import pytest_asyncio

from tests.world import World, open_world


@pytest_asyncio.fixture(scope="session")
async def limited(world: World) -> AsyncIterator[World]:
    """Over the same database: at most two hubs of one's own, and three members in each."""
    settings = msgspec.structs.replace(world.house.settings, most_owned_hubs=2, most_hub_members=3)
    async with open_world(settings) as small:
        yield small
