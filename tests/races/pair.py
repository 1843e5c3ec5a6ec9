"""Two processes of the service over one database, for races that no lock inside one process could decide.

`two_processes()` gives a `World` whose requests go over real sockets to the one and the other in turn; all
that it does without a request it does in the test's own process. Run as a program, this is one of the two.
"""

import asyncio
import os
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import TypeVar

import httpx
import uvicorn

from guildhall.settings import read_settings
from guildhall.web.log import configure_logs
from guildhall.wiring import Application
from tests.relay import relayed
from tests.world import ORIGIN, World, open_world, variables_for

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
START_S = 30.0
STOP_S = 30.0
DELAY_S = 0.01


@asynccontextmanager
async def two_processes(data_dir: Path, app_url: str, owner_url: str, **more: str) -> AsyncIterator[World]:
    """Both processes and this one have the same settings, but that each round trip of theirs to the database
    takes DELAY_S longer, so that what they do at once overlaps; `more` as for `settings_for`.
    """
    variables = variables_for(data_dir, app_url, owner_url, **more)
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(read_settings({}, variables)))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gr-"))
        variables["DATABASE_URL"] = await stack.enter_async_context(
            relayed(app_url, Path(folder), lambda: lambda _: asyncio.sleep(DELAY_S))
        )
        processes = [await stack.enter_async_context(_process(variables)) for _ in range(2)]
        ports = [await _port(process) for process in processes]
        async with httpx.AsyncClient(transport=_InTurn(ports), base_url=ORIGIN, timeout=30) as client:
            yield World(world.house, client, owner_url)


async def at_once(calls: Iterable[Awaitable[T]]) -> list[T]:
    """All of them begun before any is waited for."""
    return await asyncio.gather(*calls)


class _InTurn(httpx.AsyncBaseTransport):
    """Sends each request to the next of these ports."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = cycle(ports)
        # As many connections as a test makes requests at once: none may wait here instead of there.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
        self._transport = httpx.AsyncHTTPTransport(limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=next(self._ports))
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()


@asynccontextmanager
async def _process(variables: dict[str, str]) -> AsyncIterator[Process]:
    """A process that serves until the block ends. It ends with this one, however that ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **{f"GUILDHALL_{k}": v for k, v in variables.items()}},
        stdin=PIPE,
        stdout=PIPE,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            raise
    assert process.returncode == 0


async def _port(process: Process) -> int:
    assert process.stdout is not None
    async with asyncio.timeout(START_S):
        return int(await process.stdout.readline())


async def _serve() -> None:
    settings = read_settings(os.environ)
    configure_logs(settings.log_level)
    # An idle connection must not be closed from here in the moment in which the client uses it again.
    config = uvicorn.Config(
        Application(settings), log_level="error", timeout_graceful_shutdown=10, timeout_keep_alive=75
    )
    server = uvicorn.Server(config)
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    door.listen(1024)
    serving = asyncio.create_task(server.serve([door]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    print(door.getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    # Whoever started us closes our input when we should end, and so does their death.
    ended = loop.run_in_executor(None, sys.stdin.read)
    await asyncio.wait([ended, serving], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(_serve())
