"""The service as it is run, over a database of its own, and the people who use it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests import cluster as clusters
from tests.commands.serving import serving
from tests.servers.stream_server import stream_server
from tests.wire.served import ALLOWED_ORIGIN, Served
from tests.world import open_world, read_settings, variables_for


@pytest_asyncio.fixture(scope="package")
async def served(
    cluster: clusters.Cluster, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    folder: Path = tmp_path_factory.mktemp("wire")
    database = await clusters.clone_database(cluster, template)
    variables = variables_for(folder / "data", clusters.app_url(cluster, database), database)
    async with stream_server() as chat:
        variables |= {
            "WORKERS": "2",
            "LOG_LEVEL": "info",
            "LOG_FORMAT": "json",
            "ALLOWED_ORIGINS": ALLOWED_ORIGIN,
            "CHAT_URL": chat.base_url,
            "CHAT_KEY": chat.api_key,
            "CHAT_SECRET": chat.secret,
        }
        given: dict[str, Any] = {name.lower(): text for name, text in variables.items() if name != "DATA_DIR"}
        async with (
            open_world(read_settings({}, variables)) as world,
            serving(folder / "data", **given) as service,
        ):
            yield Served(service, world)
    await clusters.drop_database(cluster, database)
