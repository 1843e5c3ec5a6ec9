"""The servers that are measured: started, found among the processes, asked, and stopped."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path

import msgspec

from bench import process

READY_S = 60.0
STOP_S = 30.0


class Server(msgspec.Struct, frozen=True):
    """One that answers. `pid` is the process that runs the application."""

    name: str
    port: int
    pid: int


@contextlib.contextmanager
def running(name: str, environment: Mapping[str, str], log: Path) -> Generator[Server]:
    """Run one of `bench.serve`'s applications for the length of the block."""
    port = free_port()
    with log.open("wb") as file:
        parent = subprocess.Popen(
            [sys.executable, "-m", "bench.serve", name, str(port)],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        wait_for(port, parent, log)
        workers = list(process.children(parent.pid))
        if len(workers) != 1:
            raise RuntimeError(f"{name} runs {len(workers)} processes instead of one")
        yield Server(name, port, workers[0])
    finally:
        stop(parent)


def wait_for(port: int, parent: subprocess.Popen[bytes], log: Path) -> None:
    """Return once something listens on the port."""
    deadline = time.monotonic() + READY_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if parent.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"a server did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.005)


def stop(parent: subprocess.Popen[bytes]) -> None:
    if parent.poll() is None:
        parent.send_signal(signal.SIGTERM)
        try:
            parent.wait(STOP_S)
        except subprocess.TimeoutExpired:
            parent.kill()
            parent.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
