"""One PostgreSQL for the run, one database and one application for each test process."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from guildhall.db.migrate import migrate
from tests import cluster as clusters
from tests.world import World, open_world, settings_for


@pytest.fixture(scope="session")
def cluster() -> clusters.Cluster:
    return clusters.test_cluster()


@pytest_asyncio.fixture(scope="session")
async def template(cluster: clusters.Cluster) -> str:
    """The name of a database with the schema of this release and nothing in it."""

    async def prepare(url: str) -> None:
        migrate(url)

    return await clusters.template_database(cluster, "guildhall_template", prepare)


@pytest_asyncio.fixture(scope="session")
async def database(cluster: clusters.Cluster, template: str) -> AsyncIterator[str]:
    """The owner's address of this process's own database."""
    url = await clusters.clone_database(cluster, template)
    yield url
    await clusters.drop_database(cluster, url)


@pytest_asyncio.fixture(scope="session")
async def world(
    cluster: clusters.Cluster, database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("data")
    settings = settings_for(folder, clusters.app_url(cluster, database), database)
    async with open_world(settings) as world:
        yield world


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what tests have measured, by `record_property`: figures to read, never to pass or fail by."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            shown = f"{value:.2f}" if isinstance(value, float) else value
            terminalreporter.write_line(f"{name}: {shown}")
