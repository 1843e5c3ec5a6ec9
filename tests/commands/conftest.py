"""One service for all tests of commands that may run beside each other."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.commands.serving import Serving, serving


@pytest_asyncio.fixture(scope="session")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    """Runs with two processes for requests, and embedded everything."""
    folder = tmp_path_factory.mktemp("serve")
    async with serving(folder / "data", workers=2, log_level="info") as service:
        yield service
