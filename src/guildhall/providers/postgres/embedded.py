"""The embedded database: PostgreSQL and pgvector out of a wheel, with its data under the data directory."""

import contextlib
import fcntl
import os
import pwd
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import msgspec

from guildhall.providers.postgres import keeper
from guildhall.providers.postgres.account import choose_account, make_readable, open_the_way
from guildhall.providers.postgres.errors import EmbeddedPostgresFailed
from guildhall.providers.postgres.sockets import fits_a_socket, new_socket_folder, temporary_folders
from guildhall.providers.postgres.wheel import MAJOR, program, software

DATABASE, OWNER, APP, SUPERUSER = "guildhall", "guildhall_owner", "guildhall_app", "postgres"

# A recovery after a crash may have a good deal of log to read on a slow disk.
READY_S = 120.0

# Written into postgresql.conf when the cluster is made, for the operator to change afterwards.
SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "160MB",
    "work_mem": "8MB",
    "random_page_cost": "1.1",
    "jit": "off",
    # Parallel workers share memory through /dev/shm, which containers keep too small for them.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    # Bounds what has to be read again after a crash, so that the service is ready within seconds.
    "max_wal_size": "512MB",
    "wal_compression": "on",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "password_encryption": "scram-sha-256",
    # A query whose client was killed ends soon, and does not keep a crashed server from starting again.
    "client_connection_check_interval": "1s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    # One file per weekday, each overwritten a week later. Terse, because details quote the values of rows.
    "log_directory": "log",
    "log_filename": "postgres-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_error_verbosity": "terse",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}

# What a new cluster needs before it is ours; harmless to repeat, since it may be interrupted anywhere. Not
# for PostgreSQL's single-user mode, which numbers objects as if they were its own: no dump would have them.
# The extension needs a superuser and is therefore put into the template, so that every new database has it.
FURNISHING = f"""\
CREATE EXTENSION IF NOT EXISTS vector;
\\connect postgres
SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY['{OWNER}', '{APP}']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \\gexec
GRANT {APP} TO {OWNER};
SELECT 'CREATE DATABASE {DATABASE} OWNER {OWNER}'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}') \\gexec
"""


class Cluster(msgspec.Struct, frozen=True):
    """How to reach the database: as the owner of its tables, who migrates, and as the application."""

    owner_url: str
    app_url: str


class EmbeddedPostgres:
    """The PostgreSQL of one data directory, shared by every command that uses it at the same time.

    `start` makes the cluster the first time, finds the server another command has started or starts it, and
    recovers after a crash. `stop` ends the server when this was its last user; a user that is killed is
    noticed by the keeper, which also starts the server again should it die. Both block; neither minds Ctrl-C
    or threads.

    Who may connect: there is no TCP port. The socket lies in a folder of mode 0700, and PostgreSQL asks the
    kernel who is calling (peer authentication): only the account the server runs under, and root, are let in,
    and they may act as any role. There are no passwords, so none can leak. The socket is in the cluster's own
    folder unless that path is too long or unusual for a socket; then it is in a fresh private folder under
    the temporary directory.

    `settings` go over SETTINGS into a cluster that is made now.
    """

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        self._settings = SETTINGS | dict(settings or {})
        self.data_dir = data_dir.resolve()
        self.pgdata = self.data_dir / "postgres"
        self._run = self.data_dir / "postgres.run"
        self._users: int | None = None

    def __enter__(self) -> Cluster:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Cluster:
        """Have the server ready and count as one of its users. Raises EmbeddedPostgresFailed."""
        if self._users is None:
            try:
                self._users = self._join()
            except (OSError, TimeoutError) as error:
                raise EmbeddedPostgresFailed(
                    f"The database in {self.data_dir} could not be started: {error}"
                ) from error
        return Cluster(owner_url=self.url(OWNER), app_url=self.url(APP))

    def stop(self) -> bool:
        """Leave; the last user ends the server and gets True."""
        if self._users is None:
            return False
        users, self._users = self._users, None
        try:
            with keeper.through_door(self._run):
                return keeper.try_lock(users) and self._end()
        except TimeoutError:
            # The keeper will see to it.
            return False
        finally:
            os.close(users)

    def url(self, role: str, database: str = DATABASE) -> str:
        """The address of any role and database in the running cluster."""
        lines = keeper.read_postmaster(self.pgdata)
        if len(lines) < 5:
            raise EmbeddedPostgresFailed(f"The database in {self.data_dir} is not running.")
        return (
            f"postgresql://{quote(role, '')}@/{quote(database, '')}?host={quote(lines[4])}&port={keeper.PORT}"
        )

    def _join(self) -> int:
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        account = choose_account(self.data_dir, self.pgdata)
        self._run.mkdir(exist_ok=True, mode=0o700)
        for name in (keeper.DOOR, keeper.USERS, keeper.SERVER):
            os.close(keeper.open_lock(self._run, name))
        self._give_to_owner(self._run, *self._run.iterdir())
        users = keeper.open_lock(self._run, keeper.USERS)
        try:
            with keeper.through_door(self._run, READY_S):
                fcntl.flock(users, fcntl.LOCK_SH)
                self._ensure_running(account)
                self._ensure_furnished()
        except BaseException:
            os.close(users)
            raise
        return users

    def _ensure_running(self, account: pwd.struct_passwd) -> None:
        deadline = time.monotonic() + READY_S
        while not keeper.is_ready(self.pgdata):
            server = keeper.open_lock(self._run, keeper.SERVER)
            try:
                if keeper.try_lock(server):
                    self._launch(account, server)
                    break
            finally:
                os.close(server)
            # It is still starting, stopping, or its processes have not yet noticed the death of their parent.
            self._wait(deadline)
        while not keeper.is_ready(self.pgdata):
            if keeper.nobody_holds(self._run, keeper.SERVER):
                raise EmbeddedPostgresFailed(
                    f"PostgreSQL did not start in {self.pgdata}:\n{self._last_words()}"
                )
            self._wait(deadline)

    def _wait(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise EmbeddedPostgresFailed(
                f"PostgreSQL was not ready in {self.pgdata} after {READY_S:.0f} s:\n{self._last_words()}"
            )
        time.sleep(0.01)

    def _launch(self, account: pwd.struct_passwd, server: int) -> None:
        """Start the keeper, which starts PostgreSQL and gives it the lock `server` to hold."""
        as_root = os.geteuid() == 0
        if as_root:
            for folder in software():
                if not _readable_by_all(folder):
                    make_readable(folder)
                open_the_way(folder, account)
            open_the_way(self.pgdata, account)
        if not self.pgdata.exists():
            self._make_cluster(account)
        self._check_version()
        self._write_access_rules(account)
        with (self._run / "start.log").open("wb") as log:
            self._give_to_owner(self._run / "start.log")
            subprocess.run(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    keeper.__file__,
                    str(self._run),
                    str(self.pgdata),
                    f"{account.pw_uid}:{account.pw_gid}" if as_root else "-",
                    str(server),
                    str(program("postgres")),
                    *("-D", str(self.pgdata)),
                    *("-c", "listen_addresses="),
                    *("-c", f"port={keeper.PORT}"),
                    *("-c", "unix_socket_permissions=0700"),
                    *("-c", f"unix_socket_directories={self._socket_folder(account)}"),
                ],
                cwd="/",
                env=keeper.CLEAN_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(server,),
                check=True,
            )

    def _make_cluster(self, account: pwd.struct_passwd) -> None:
        """Make the cluster beside its place and move it there when whole: half of one is never used."""
        making = self.data_dir / "postgres.making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(making, account.pw_uid, account.pw_gid)
        settings = [word for name, value in self._settings.items() for word in ("--set", f"{name}={value}")]
        _run_as(
            account,
            [
                str(program("initdb")),
                f"--pgdata={making}",
                f"--username={SUPERUSER}",
                "--auth=peer",
                "--encoding=UTF8",
                # Sorts by code point, the same on every machine, so that no system update disorders an index.
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--no-instructions",
                *settings,
            ],
        )
        making.rename(self.pgdata)
        _make_durable(self.data_dir)

    def _ensure_furnished(self) -> None:
        """Make the database and the roles in a new cluster, once."""
        done = self.pgdata / "guildhall.furnished"
        if not done.exists():
            target = self.url(SUPERUSER, "template1")
            _run_as(
                None, [str(program("psql")), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", target], FURNISHING
            )
            done.touch()
            self._give_to_owner(done)
            _make_durable(self.pgdata)

    def _check_version(self) -> None:
        found = (self.pgdata / "PG_VERSION").read_text().strip()
        if found != str(MAJOR):
            raise EmbeddedPostgresFailed(
                f"The data in {self.pgdata} was written by PostgreSQL {found}; this release carries {MAJOR}."
                " Make a backup with the release that wrote it and restore that backup with this one."
            )

    def _write_access_rules(self, account: pwd.struct_passwd) -> None:
        # At every start, because the data may have come from a machine where the account had another name.
        rules = "local all all peer map=guildhall\nlocal replication all peer map=guildhall\n"
        names = dict.fromkeys((account.pw_name, pwd.getpwuid(0).pw_name))
        people = "".join(f'guildhall "{name}" all\n' for name in names)
        for file, content in (("pg_hba.conf", rules), ("pg_ident.conf", people)):
            path = self.pgdata / file
            if path.read_text() != content:
                path.write_text(content)

    def _socket_folder(self, account: pwd.struct_passwd) -> Path:
        if fits_a_socket(self.pgdata):
            return self.pgdata
        self._drop_socket_folder(keeper.read_postmaster(self.pgdata))
        folder = new_socket_folder()
        os.chown(folder, account.pw_uid, account.pw_gid)
        return folder

    def _end(self) -> bool:
        lines = keeper.read_postmaster(self.pgdata)
        ended = keeper.end_server(self._run, self.pgdata)
        if ended:
            self._drop_socket_folder(lines)
        return ended

    def _drop_socket_folder(self, lines: list[str]) -> None:
        """Remove the temporary folder a server, now gone, had its socket in."""
        if (
            len(lines) < 5
            or (folder := Path(lines[4])) == self.pgdata
            or folder.parent not in temporary_folders()
        ):
            return
        with contextlib.suppress(OSError):
            for name in (f".s.PGSQL.{keeper.PORT}", f".s.PGSQL.{keeper.PORT}.lock"):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()

    def _last_words(self) -> str:
        """The end of what PostgreSQL has written: to its newest log, and before it could open one."""
        logs = sorted((self.pgdata / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
        lines: list[str] = []
        for path in (*logs[-1:], self._run / "start.log"):
            if path.exists():
                lines += path.read_text(errors="replace").splitlines()[-8:]
        return "\n".join(lines)

    def _give_to_owner(self, *paths: Path) -> None:
        """What root makes in somebody's data directory stays usable for that person."""
        owner = self.data_dir.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            for path in paths:
                os.chown(path, owner.st_uid, owner.st_gid)


def _readable_by_all(folder: Path) -> bool:
    sample = folder / "bin" / "postgres"
    mode = (sample if sample.exists() else folder).stat().st_mode
    return mode & 0o005 == 0o005 and bool(mode & stat.S_IXOTH)


def _make_durable(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _run_as(account: pwd.struct_passwd | None, command: list[str], text: str = "") -> None:
    """Run one of PostgreSQL's programs, as another account where we can change to it."""
    other = account if os.geteuid() == 0 else None
    done = subprocess.run(
        command,
        input=text,
        text=True,
        capture_output=True,
        cwd="/",
        env=keeper.CLEAN_ENVIRONMENT,
        umask=0o077,
        user=other.pw_uid if other else None,
        group=other.pw_gid if other else None,
        extra_groups=[] if other else None,
        check=False,
        start_new_session=True,
    )
    if done.returncode != 0:
        words = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise EmbeddedPostgresFailed(f"{Path(command[0]).name} failed while making the database:\n{words}")
