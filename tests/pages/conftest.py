"""One service with demo content and one browser, shared by all tests of the pages."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.commands.serving import Serving, serving
from tests.pages.browsing import CHROMIUM, open_browser


@pytest_asyncio.fixture(scope="session")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    folder = tmp_path_factory.mktemp("site") / "data"
    async with serving(folder, "--demo", operators="ada@demo.example") as service:
        yield service


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    async with open_browser() as opened:
        yield opened
