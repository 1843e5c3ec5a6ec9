"""The real thing as an operator runs it: `guildhall serve` as processes of its own, on a free port."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

READY_S = 30.0
STOP_S = 30.0


def environment(data_dir: Path, **settings: object) -> dict[str, str]:
    """A bare environment with these settings, given by name: `workers=2`, `log_level="error"`."""
    given = {"data_dir": data_dir, "rate_limit_scale": 0, "log_level": "error", **settings}
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        **{f"GUILDHALL_{name.upper()}": str(value) for name, value in given.items()},
    }


class Done:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return f"<exit {self.code}\n{self.out}\n--\n{self.err}>"


async def guildhall(*arguments: str, env: dict[str, str], timeout: float = 60) -> Done:
    """Run one command to its end."""
    process = await asyncio.create_subprocess_exec(
        *command(),
        *arguments,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    return Done(process.returncode or 0, out.decode(), err.decode())


def command() -> list[str]:
    return [sys.executable, "-P", "-m", "guildhall"]


class Serving:
    """A service that runs. `base_url` is where it answers; `output` all it has said so far."""

    def __init__(self, data_dir: Path, port: int, env: dict[str, str], arguments: tuple[str, ...]) -> None:
        self.data_dir = data_dir
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}"
        self.env = env
        self.ready_after_s = 0.0
        self._arguments = arguments
        self._log = data_dir.parent / f"{data_dir.name}.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    async def start(self) -> None:
        """Start it and wait for the first answer."""
        began = time.monotonic()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command(),
                "serve",
                *self._arguments,
                env=self.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A group of its own, so that a test can signal all of it and nothing else.
                start_new_session=True,
            )
        async with httpx.AsyncClient() as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"{self.base_url}/api/health", timeout=2)).status_code == 200:
                        break
                assert self.process.returncode is None, self.output
                assert time.monotonic() - began < READY_S, self.output
                await asyncio.sleep(0.02)
        self.ready_after_s = time.monotonic() - began

    async def stop(self, how: signal.Signals | None = signal.SIGTERM) -> int:
        """Ask it to stop, as a service manager does, and wait; answers its exit code. None asks nothing."""
        if self.process.returncode is None and how is not None:
            self.process.send_signal(how)
        async with asyncio.timeout(STOP_S):
            return await self.process.wait()

    async def token(self, email: str, *more: str) -> str:
        """A session of the person with this address, from the command that operators use."""
        done = await guildhall("token", "--email", email, *more, env=self.env)
        assert done.code == 0, done
        return done.out.strip()

    def processes(self) -> list[int]:
        """All that belong to it and live: the service's own and the database's."""
        return sorted({*self._family(), *processes_of_database(self.data_dir)})

    async def gone(self) -> None:
        """Wait until no process is left; fails the test when one stays."""
        # The database's keeper looks twice a second whether its server has ended.
        deadline = time.monotonic() + 2
        while left := self.processes():
            assert time.monotonic() < deadline, [_command_line(pid) for pid in left]
            await asyncio.sleep(0.05)

    def _family(self) -> Iterator[int]:
        parents = dict(_all_processes())
        for pid in parents:
            above = pid
            while above and above != self.process.pid:
                above = parents.get(above, 0)
            if above:
                yield pid

    async def kill_group(self) -> None:
        """Kill the service's process group at once. The database, in its own, has to notice."""
        os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()

    async def kill(self) -> None:
        """Kill every process at once, the database's too, as a power cut would end them."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self.process.wait()

    def kill_leftovers(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@asynccontextmanager
async def serving(
    data_dir: Path, *arguments: str, port: int | None = None, **settings: object
) -> AsyncIterator[Serving]:
    """Run `guildhall serve` over `data_dir` for the length of the block.

    `settings` are given by name, as `workers=2`; `arguments` go on the command line.
    """
    port = port or free_port()
    service = Serving(data_dir, port, environment(data_dir, port=port, **settings), arguments)
    await service.start()
    try:
        yield service
        if service.process.returncode is None:
            assert await service.stop() == 0, service.output
    finally:
        if service.process.returncode is None or service.processes():
            service.kill_leftovers()
            await service.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def processes_of_database(data_dir: Path) -> list[int]:
    """The embedded database's processes and its keeper: those that name its folder, and their children."""
    mark = os.fsencode(data_dir / "postgres")
    everything = list(_all_processes())
    named = {pid for pid, _ in everything if mark in _command_line(pid)}
    return sorted(named | {pid for pid, parent in everything if parent in named})


def _all_processes() -> Iterator[tuple[int, int]]:
    """Each living process and its parent."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    yield int(folder.name), int(parent)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
