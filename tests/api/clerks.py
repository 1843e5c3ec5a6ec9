"""A world whose people come from Clerk."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from guildhall.settings import Settings
from tests import cluster as clusters
from tests.servers.clerk_server import ClerkServer, clerk_server
from tests.world import ORIGIN, Browser, World, open_world, settings_for


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkServer]:
    async with clerk_server() as server:
        yield server


@pytest.fixture
async def clerks(
    clerk: ClerkServer, cluster: clusters.Cluster, database: str, tmp_path: Path
) -> AsyncIterator[World]:
    """A world whose people come from Clerk."""
    async with open_world(clerk_settings(clerk, cluster, database, tmp_path)) as world:
        yield world


def clerk_settings(
    clerk: ClerkServer, cluster: clusters.Cluster, database: str, tmp_path: Path, **more: str
) -> Settings:
    variables = {
        "IDENTITY": "clerk",
        "CLERK_ISSUER": clerk.issuer,
        "CLERK_API_URL": clerk.url + "/v1",
        "CLERK_SECRET_KEY": clerk.secret_key,
        "CLERK_WEBHOOK_SECRETS": clerk.webhook_secret,
    }
    return settings_for(tmp_path, clusters.app_url(cluster, database), database, **{**variables, **more})


def visitor(world: World, clerk: ClerkServer, user_id: str, **claims: Any) -> Browser:
    """Somebody with a session of Clerk's."""
    return Browser(world, clerk.token(user_id, azp=ORIGIN, **claims))
