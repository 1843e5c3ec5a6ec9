"""Keeps one PostgreSQL server: starts it, starts it again if it dies, and ends it when nobody uses it any
more.

Run by file name as a program of its own, in its own session and with the standard library alone: it must
outlive a user that is killed, must not hear the terminal's Ctrl-C, and should cost little while it waits.

Three files, each locked with flock, say who is alive. The kernel drops a lock when its last holder dies,
however it dies, so nothing here can be left stale:

- `door` is held while somebody decides to start or end the server, so the two cannot cross.
- `users` is shared by every process that uses the server; who can have it alone is the last one.
- `server` is held by PostgreSQL, which inherits it into each of its processes: free means that none is left.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

DOOR, USERS, SERVER = "door", "users", "server"
PORT = 5432
TICK_S = 0.5
# Long enough for a service that was killed to come back and find its database still running.
GRACE_S = 3.0
# A server that keeps dying this young is not started for ever.
YOUNG_S = 10.0
TRIES = 5
# A fast shutdown writes a checkpoint; after an immediate one the next start recovers from the log instead.
FAST_SHUTDOWN_S, IMMEDIATE_SHUTDOWN_S = 12.0, 8.0
# PostgreSQL gets none of our environment, where secrets may be.
CLEAN_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def open_lock(folder: Path, name: str) -> int:
    return os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(fd: int, *, shared: bool = False) -> bool:
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def through_door(folder: Path, patience_s: float = 60.0) -> Generator[None]:
    """Hold the door. Raises TimeoutError when somebody else holds it for longer than `patience_s`."""
    fd = open_lock(folder, DOOR)
    try:
        deadline = time.monotonic() + patience_s
        while not try_lock(fd):
            if time.monotonic() > deadline:
                raise TimeoutError("another command has been starting or stopping the database for too long")
            time.sleep(0.02)
        yield
    finally:
        os.close(fd)


def nobody_holds(folder: Path, name: str) -> bool:
    """Only to be asked from behind the door, since asking takes the lock for an instant."""
    fd = open_lock(folder, name)
    try:
        return try_lock(fd)
    finally:
        os.close(fd)


def read_postmaster(pgdata: Path) -> list[str]:
    """What PostgreSQL writes about itself, by line: pid, data, start, port, socket folder, …, state."""
    try:
        return (pgdata / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def is_ready(pgdata: Path) -> bool:
    lines = read_postmaster(pgdata)
    return len(lines) >= 8 and lines[7].strip() == "ready" and answers(pgdata)


def answers(pgdata: Path) -> bool:
    """Whether a server listens where the file says, so that the pid in the file is that server's."""
    lines = read_postmaster(pgdata)
    if len(lines) < 5 or not lines[4]:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(f"{lines[4]}/.s.PGSQL.{PORT}")
        except OSError:
            return False
    return True


def end_server(folder: Path, pgdata: Path) -> bool:
    """Shut the server down, gently and then at once. For use behind the door. False if it still lives."""
    for kind, patience_s in ((signal.SIGINT, FAST_SHUTDOWN_S), (signal.SIGQUIT, IMMEDIATE_SHUTDOWN_S)):
        if answers(pgdata):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(read_postmaster(pgdata)[0]), kind)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if nobody_holds(folder, SERVER):
                return True
            time.sleep(0.01)
    return False


def forget_reused_pid(pgdata: Path) -> None:
    """Remove the pid file of a dead server when its pid now belongs to another program.

    In a container pids are small and come again, and PostgreSQL refuses to start while the pid in its file is
    alive. To be called with `server` locked: then no process of ours works on this data.
    """
    lines = read_postmaster(pgdata)
    if len(lines) < 5 or answers(pgdata):
        return
    try:
        words = Path(f"/proc/{int(lines[0])}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return
    if os.fsencode(pgdata) not in words:
        Path(lines[4], f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
        (pgdata / "postmaster.pid").unlink(missing_ok=True)


class Keeper:
    def __init__(self, folder: Path, pgdata: Path, user: tuple[int, int] | None, command: list[str]) -> None:
        self.folder = folder
        self.pgdata = pgdata
        self.inode = pgdata.stat().st_ino
        self.user = user
        self.command = command

    def launch(self, server_fd: int) -> subprocess.Popen[bytes]:
        """Start PostgreSQL and hand it the lock."""
        forget_reused_pid(self.pgdata)
        try:
            return subprocess.Popen(
                self.command,
                cwd=self.pgdata,
                env=CLEAN_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                pass_fds=(server_fd,),
                umask=0o077,
                user=None if self.user is None else self.user[0],
                group=None if self.user is None else self.user[1],
                extra_groups=None if self.user is None else [],
            )
        finally:
            os.close(server_fd)

    def launch_again(self) -> subprocess.Popen[bytes] | None:
        """Start the server that died, unless nobody uses it or somebody else started it meanwhile."""
        while True:
            with through_door(self.folder, patience_s=3600):
                if not self.data_is_there() or nobody_holds(self.folder, USERS) or answers(self.pgdata):
                    return None
                fd = open_lock(self.folder, SERVER)
                if try_lock(fd):
                    return self.launch(fd)
                os.close(fd)
            # Processes orphaned by the death of their parent need a moment to notice it.
            time.sleep(0.05)

    def data_is_there(self) -> bool:
        try:
            return self.pgdata.stat().st_ino == self.inode
        except FileNotFoundError:
            return False

    def is_used(self) -> bool:
        fd = open_lock(self.folder, DOOR)
        try:
            return not try_lock(fd) or not nobody_holds(self.folder, USERS)
        finally:
            os.close(fd)

    def end_if_unused(self) -> bool:
        with through_door(self.folder, patience_s=3600):
            return nobody_holds(self.folder, USERS) and end_server(self.folder, self.pgdata)

    def keep(self, server_fd: int) -> None:
        child = self.launch(server_fd)
        born = last_used = time.monotonic()
        died_young = 0
        while True:
            time.sleep(TICK_S)
            now = time.monotonic()
            if child.poll() is not None:
                died_young = died_young + 1 if now - born < YOUNG_S else 0
                again = self.launch_again() if died_young < TRIES else None
                if again is None:
                    return
                child, born, last_used = again, time.monotonic(), time.monotonic()
            elif not self.data_is_there():
                # Whoever deletes the data wants the server gone, and a new one may be started in the same
                # place.
                child.send_signal(signal.SIGQUIT)
                child.wait()
                return
            elif self.is_used():
                last_used = now
            elif now - last_used > GRACE_S and self.end_if_unused():
                child.wait()
                return


def main(arguments: list[str]) -> None:
    """FOLDER PGDATA UID:GID|- SERVER_FD COMMAND…; leaves for the background at once."""
    folder, pgdata, user, server_fd, *command = arguments
    if os.fork():
        os._exit(0)
    os.setsid()
    # Handlers, not SIG_IGN, which PostgreSQL would inherit. A service manager that signals the whole group at
    # once must not take the database from a service that is still finishing requests.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    uid, _, gid = user.partition(":")
    Keeper(Path(folder), Path(pgdata), None if user == "-" else (int(uid), int(gid)), command).keep(
        int(server_fd)
    )


if __name__ == "__main__":
    main(sys.argv[1:])
