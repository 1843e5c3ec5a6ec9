"""The service as it is run, over a database of its own, and the people who use it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests import cluster as clusters
from tests.commands.serving import serving
from tests.servers.stream_server import StreamServer, stream_server
from tests.wire.served import ALLOWED_ORIGIN, Served
from tests.world import open_world, read_settings, variables_for


@contextmanager
def chat_elsewhere() -> Iterator[StreamServer]:
    """A chat service in a thread of its own, since a test may stop the loop of this one."""
    began: Future[tuple[StreamServer, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        ended = asyncio.Event()
        async with stream_server() as chat:
            began.set_result((chat, asyncio.get_running_loop(), ended))
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    chat, loop, ended = began.result(timeout=10)
    try:
        yield chat
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(timeout=10)


@pytest_asyncio.fixture(scope="package")
async def served(
    cluster: clusters.Cluster, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    folder: Path = tmp_path_factory.mktemp("wire")
    database = await clusters.clone_database(cluster, template)
    variables = variables_for(folder / "data", clusters.app_url(cluster, database), database)
    with chat_elsewhere() as chat:
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
