"""What a running service has to itself: its data directory and its port."""

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Generator
from pathlib import Path

import msgspec

from guildhall.commands import Problem
from guildhall.instance import give_to_owner

# What a service that was killed has left behind needs a moment to notice.
PATIENCE_S = 2.5


class Running(msgspec.Struct, frozen=True):
    """A service that runs: its process, where it answers, and since when, in Unix seconds."""

    pid: int
    address: str
    since: float


class Claim:
    """A data directory that only this process serves. The kernel ends the claim with the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self.descriptor = descriptor

    def publish(self, running: Running) -> None:
        """Tell other commands on the same data directory how to reach the service."""
        with self._path.open("wb") as file:
            file.write(msgspec.json.encode(running))


@contextlib.contextmanager
def claim(data_dir: Path) -> Generator[Claim]:
    """Be the only service on `data_dir`. Raises Problem when another one is."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = _file(data_dir)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        give_to_owner(data_dir, path)
        deadline = time.monotonic() + PATIENCE_S
        while not _lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise Problem(_refusal(data_dir))
            time.sleep(0.05)
        os.truncate(descriptor, 0)
        yield Claim(path, descriptor)
        os.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


def find_running(data_dir: Path) -> Running | None:
    """The service that runs on `data_dir`, once it is ready."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        descriptor = os.open(_file(data_dir), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not _lock(descriptor, fcntl.LOCK_SH):
                return msgspec.json.decode(_file(data_dir).read_bytes(), type=Running)
        finally:
            os.close(descriptor)
    return None


def _file(data_dir: Path) -> Path:
    return data_dir / "serving"


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refusal(data_dir: Path) -> str:
    running = find_running(data_dir)
    who = f"process {running.pid}, {running.address}" if running else "it is still starting or stopping"
    return (
        f"Guildhall is already being served from {data_dir} ({who})."
        " Stop that one first, or use another --data-dir."
    )


def reserve(host: str, port: int) -> tuple[str, int]:
    """The numeric address to listen on, with a free port where `port` is 0. Raises Problem."""
    try:
        family, _, _, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise Problem(f"The host {host} has no address: {error.strerror or error}.") from None
    deadline = time.monotonic() + PATIENCE_S
    while True:
        # Without SO_REUSEPORT, which the server sets, so that somebody else's server there is noticed.
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(where)
                return str(where[0]), int(probe.getsockname()[1])
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise Problem(_why_not(error, host, port)) from None
        time.sleep(0.05)


def _why_not(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"Port {port} is in use on {host}. Stop what listens there, or choose another with --port."
        case errno.EACCES:
            return f"Only root may listen on port {port}. Choose one from 1024 upwards with --port."
        case errno.EADDRNOTAVAIL:
            return f"This machine has no address {host}. Choose another with --host."
        case _:
            return f"Nothing can listen on {host}, port {port}: {error.strerror}."
