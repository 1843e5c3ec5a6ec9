"""The embedded database starts, is shared, survives every kind of killing, and lets nobody else in."""

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import psycopg
import pytest

from guildhall.providers.postgres import Cluster, EmbeddedPostgres, EmbeddedPostgresFailed
from guildhall.providers.postgres.keeper import SERVER, nobody_holds, read_postmaster
from guildhall.providers.postgres.wheel import program

AS_ROOT = os.geteuid() == 0

# A user in a process of its own: says when it is ready, and leaves properly when told to.
USER = """
import sys
from pathlib import Path
from guildhall.providers.postgres import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])) as cluster:
    print(cluster.owner_url, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def data_dir() -> Generator[Path]:
    with _folder() as folder:
        yield folder / "data"


@contextlib.contextmanager
def _folder() -> Generator[Path]:
    # Not pytest's own, whose path is long, and which is kept.
    folder = Path(tempfile.mkdtemp(prefix="gh-"))
    try:
        yield folder
    finally:
        for pgdata in folder.rglob("postgres"):
            _eventually(lambda pgdata=pgdata: _is_over(pgdata.parent), 20)
        shutil.rmtree(folder)


def _eventually(check: Callable[[], bool], within_s: float) -> float:
    begun = time.monotonic()
    while not check():
        assert time.monotonic() - begun < within_s, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - begun


def _is_over(data_dir: Path) -> bool:
    run = data_dir / "postgres.run"
    return not run.exists() or nobody_holds(run, SERVER)


def _postmaster(data_dir: Path) -> int:
    return int(read_postmaster(data_dir / "postgres")[0])


def _ask(url: str, query: str) -> object:
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def _spawn_user(data_dir: Path, **options: bool) -> subprocess.Popen[str]:
    user = subprocess.Popen(
        [sys.executable, "-c", USER, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,  # pyright: ignore[reportArgumentType, reportCallIssue]
    )
    assert user.stdout is not None
    assert user.stdout.readline().startswith("postgresql://")
    return user


def _everyone_of(data_dir: Path) -> list[int]:
    """Every process of the server and its keeper."""
    found = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in found.splitlines()]
    mine = {
        int(pid) for pid, _, words in rows if str(data_dir / "postgres") in words and "ps -eo" not in words
    }
    return [*mine, *(int(pid) for pid, parent, _ in rows if int(parent) in mine and int(pid) not in mine)]


def test_the_first_start_makes_a_database_and_two_roles_with_no_more_rights_than_they_need(
    data_dir: Path,
) -> None:
    with EmbeddedPostgres(data_dir) as cluster:
        assert _ask(cluster.owner_url, "SELECT '[1,2]'::vector <-> '[1,2]'::vector") == 0
        _ask(cluster.owner_url, "CREATE TABLE things (n int)")
        for url in (cluster.owner_url, cluster.app_url):
            assert (
                _ask(
                    url,
                    "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication"
                    " FROM pg_roles WHERE rolname = current_user",
                )
                is False
            )
        assert (
            _ask(
                cluster.owner_url,
                "SELECT pg_get_userbyid(datdba) = current_user FROM pg_database"
                " WHERE datname = current_database()",
            )
            is True
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            _ask(cluster.app_url, "CREATE TABLE mine (n int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            _ask(cluster.app_url, "SELECT * FROM things")
        extensions = _ask(
            cluster.owner_url, "SELECT string_agg(extname, ' ' ORDER BY extname) FROM pg_extension"
        )
        assert extensions == "plpgsql vector"


def test_what_is_committed_is_on_disk(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as cluster:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert _ask(cluster.app_url, f"SHOW {setting}") == "on"


def test_the_data_is_there_at_the_next_start(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    with postgres as cluster:
        _ask(cluster.owner_url, "CREATE TABLE kept AS SELECT 7 AS n")
    assert _is_over(data_dir)
    with postgres as cluster:
        assert _ask(cluster.owner_url, "SELECT n FROM kept") == 7


def test_commands_share_one_server_and_the_last_to_leave_ends_it(data_dir: Path) -> None:
    first, second = EmbeddedPostgres(data_dir), EmbeddedPostgres(data_dir)
    first.start()
    other = _spawn_user(data_dir)
    cluster = second.start()
    pid = _postmaster(data_dir)
    assert first.stop() is False
    other.communicate("\n", timeout=20)
    assert _postmaster(data_dir) == pid
    assert _ask(cluster.app_url, "SELECT 1") == 1
    assert second.stop() is True
    assert _is_over(data_dir)


def test_users_who_come_and_go_at_once_always_have_a_server(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir):
        pass
    program = USER.replace("sys.stdin.readline()", "") + (
        "\n".join(
            [
                "",
                "import psycopg, random, time",
                "for _ in range(12):",
                "    with EmbeddedPostgres(Path(sys.argv[1])) as cluster:",
                "        with psycopg.connect(cluster.app_url) as connection:",
                "            assert connection.execute('SELECT 1').fetchone() == (1,)",
                "        time.sleep(random.random() / 50)",
                "",
            ]
        )
    )
    users = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(data_dir)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for user in users:
        _, complaint = user.communicate(timeout=90)
        assert user.returncode == 0, complaint
    _eventually(lambda: _is_over(data_dir), 10)


def test_a_killed_service_finds_its_database_still_running(data_dir: Path) -> None:
    service = _spawn_user(data_dir)
    pid = _postmaster(data_dir)
    service.kill()
    service.wait()
    with EmbeddedPostgres(data_dir) as cluster:
        assert _postmaster(data_dir) == pid
        assert _ask(cluster.app_url, "SELECT 1") == 1


def test_a_killed_service_leaves_no_server_behind(data_dir: Path) -> None:
    service = _spawn_user(data_dir)
    service.kill()
    service.wait()
    _eventually(lambda: _is_over(data_dir), 15)
    _eventually(lambda: not _everyone_of(data_dir), 5)


def test_after_everything_was_killed_the_service_is_ready_within_five_seconds_and_lost_nothing(
    data_dir: Path,
) -> None:
    for round_ in range(3):
        service = _spawn_user(data_dir)
        assert service.stdin is not None
        with EmbeddedPostgres(data_dir) as cluster:
            _ask(cluster.owner_url, "CREATE TABLE IF NOT EXISTS acknowledged (n int)")
            acknowledged: list[int] = []
            ready = threading.Event()

            def write(
                url: str = cluster.owner_url, into: list[int] = acknowledged, ready: threading.Event = ready
            ) -> None:
                with contextlib.suppress(psycopg.Error), psycopg.connect(url, autocommit=True) as connection:
                    for n in range(1_000_000):
                        connection.execute("INSERT INTO acknowledged VALUES (%s)", [n])
                        into.append(n)
                        if n == 200:
                            ready.set()

            writer = threading.Thread(target=write)
            writer.start()
            assert ready.wait(30)
            for pid in _everyone_of(data_dir):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            service.kill()
            service.wait()
            writer.join(20)
        begun = time.monotonic()
        with EmbeddedPostgres(data_dir) as cluster:
            assert time.monotonic() - begun < 5
            assert _ask(cluster.owner_url, "SELECT count(*) FROM acknowledged") >= len(acknowledged)  # type: ignore[operator]
            _ask(cluster.owner_url, "TRUNCATE acknowledged")
        assert round_ < 3


def test_a_server_that_dies_under_its_users_is_back_within_five_seconds(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as cluster:
        _ask(cluster.owner_url, "CREATE TABLE kept AS SELECT 7 AS n")
        dead = _postmaster(data_dir)
        os.kill(dead, signal.SIGKILL)

        def is_back() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                return _ask(cluster.owner_url, "SELECT n FROM kept") == 7
            return False

        _eventually(is_back, 5)
        assert _postmaster(data_dir) != dead


def test_the_terminals_interrupt_does_not_reach_the_server(data_dir: Path) -> None:
    service = _spawn_user(data_dir, start_new_session=True)
    with EmbeddedPostgres(data_dir) as cluster:
        os.killpg(service.pid, signal.SIGINT)
        service.wait()
        time.sleep(0.3)
        assert _ask(cluster.app_url, "SELECT 1") == 1
    assert os.getpgid(0) != service.pid


@pytest.mark.parametrize(
    "name",
    ["a place with spaces", "long-" * 30, "quoted ' \" % & + , ünïcode"],
    ids=["spaces", "long", "odd"],
)
def test_any_path_will_do(name: str) -> None:
    with _folder() as folder:
        postgres = EmbeddedPostgres(folder / name)
        with postgres as cluster:
            socket_folder = Path(read_postmaster(postgres.pgdata)[4])
            assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
            assert _ask(cluster.owner_url, "SELECT current_user") == "guildhall_owner"
            assert _ask(cluster.app_url, "SELECT current_user") == "guildhall_app"
            _check_with_asyncpg(cluster)
        assert socket_folder == postgres.pgdata or not socket_folder.exists()


def _check_with_asyncpg(cluster: Cluster) -> None:
    import asyncio

    import asyncpg

    async def check() -> None:
        connection = await asyncpg.connect(cluster.app_url)
        assert await connection.fetchval("SELECT current_database()") == "guildhall"
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(check()))
    thread.start()
    thread.join()


def test_a_cluster_left_half_made_is_made_again(data_dir: Path) -> None:
    (data_dir / "postgres.making" / "base").mkdir(parents=True)
    (data_dir / "postgres.making" / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(data_dir) as cluster:
        assert _ask(cluster.owner_url, "SELECT 1") == 1
    assert not (data_dir / "postgres.making").exists()


def test_a_first_start_that_was_interrupted_is_finished_by_the_next(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    with postgres:
        _ask(postgres.url("postgres", "template1"), "DROP EXTENSION vector")
        _ask(postgres.url("postgres", "postgres"), "DROP DATABASE guildhall")
        _ask(postgres.url("postgres", "postgres"), "DROP ROLE guildhall_owner")
    (postgres.pgdata / "guildhall.furnished").unlink()
    with postgres as cluster:
        assert _ask(cluster.owner_url, "SELECT '[1]'::vector::text") == "[1]"
        assert _ask(cluster.app_url, "SELECT 1") == 1


def test_a_pid_that_came_again_does_not_keep_a_crashed_server_down(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir):
        for pid in _everyone_of(data_dir):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    # A process of the same account, as in a container that was started again.
    account = (data_dir / "postgres").stat()
    stranger = subprocess.Popen(
        ["sleep", "60"], user=account.st_uid if AS_ROOT else None, group=account.st_gid if AS_ROOT else None
    )
    try:
        file = data_dir / "postgres" / "postmaster.pid"
        lines = file.read_text().splitlines()
        file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        with EmbeddedPostgres(data_dir) as cluster:
            assert _ask(cluster.app_url, "SELECT 1") == 1
    finally:
        stranger.kill()
        stranger.wait()


def test_a_server_that_cannot_start_says_why(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    with postgres:
        pass
    with (postgres.pgdata / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = on\n")
    with pytest.raises(EmbeddedPostgresFailed, match="no_such_setting"):
        postgres.start()
    (postgres.pgdata / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedPostgresFailed, match="PostgreSQL 17; this release carries 18"):
        postgres.start()


def test_deleting_the_data_ends_the_server(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir)
    postgres.start()
    lock = (data_dir / "postgres.run" / SERVER).open("r+")
    shutil.rmtree(data_dir)

    def is_free() -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    _eventually(is_free, 10)
    lock.close()


@pytest.mark.skipif(not AS_ROOT, reason="only root can act as somebody else")
def test_another_user_of_the_machine_is_not_let_in(data_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    postgres = EmbeddedPostgres(data_dir)
    with postgres as cluster:

        def try_as_nobody() -> str:
            return subprocess.run(
                [str(program("psql")), "-d", cluster.app_url, "-c", "SELECT 1"],
                user=nobody.pw_uid,
                group=nobody.pw_gid,
                extra_groups=[],
                capture_output=True,
                text=True,
                cwd="/",
            ).stderr

        assert "Permission denied" in try_as_nobody()
        # Even with every folder and the socket open to all, the kernel tells PostgreSQL who is calling.
        data_dir.parent.chmod(0o711)
        data_dir.chmod(0o711)
        postgres.pgdata.chmod(0o711)
        (postgres.pgdata / ".s.PGSQL.5432").chmod(0o777)
        assert "Peer authentication failed" in try_as_nobody()
        postgres.pgdata.chmod(0o700)


@pytest.mark.skipif(not AS_ROOT, reason="only root needs another account")
def test_root_opens_the_way_for_the_database_account_and_for_nobody_else() -> None:
    nobody = pwd.getpwnam("nobody")
    with _folder() as folder:
        closed = folder / "closed"
        closed.mkdir(mode=0o700)
        (closed / "open.txt").write_text("readable by all, were it not for the folder")
        with EmbeddedPostgres(closed / "data") as cluster:
            assert _ask(cluster.app_url, "SELECT 1") == 1
        assert closed.stat().st_mode & 0o007 == 0
        look = ["cat", str(closed / "open.txt")]
        seen = subprocess.run(
            look, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], capture_output=True
        )
        assert seen.returncode != 0


def _able_to_read(account: pwd.struct_passwd) -> list[str]:
    """What setpriv needs so that `account` can read our own programs, which root may keep to itself."""
    check = (
        "import subprocess, sys, guildhall, psycopg; subprocess.run([sys.executable, '-c', ''], check=True)"
    )
    identity = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    if subprocess.run([*identity, sys.executable, "-c", check], capture_output=True, cwd="/").returncode == 0:
        return []
    return ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


@pytest.mark.skipif(
    not AS_ROOT or not shutil.which("setpriv"), reason="the other tests run as an ordinary user already"
)
def test_an_ordinary_user_runs_it_beside_root_and_root_uses_it_too() -> None:
    nobody = pwd.getpwnam("nobody")
    with _folder() as folder, contextlib.ExitStack() as stack:
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        data_dir = folder / "data"
        command = [sys.executable, "-c", USER, str(data_dir)]
        ordinary = subprocess.Popen(
            [
                "setpriv",
                "--reuid=nobody",
                f"--regid={nobody.pw_gid}",
                "--clear-groups",
                *_able_to_read(nobody),
                *command,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        stack.callback(ordinary.kill)
        assert ordinary.stdout is not None
        url = ordinary.stdout.readline().strip()
        assert _ask(url, "SELECT current_user") == "guildhall_owner"
        assert (data_dir / "postgres").stat().st_uid == nobody.pw_uid
        postgres = EmbeddedPostgres(data_dir)
        postgres.start()
        assert postgres.stop() is False
        ordinary.communicate("\n", timeout=20)
        assert _is_over(data_dir)
        # What root started in that folder first is that user's as well.
        with postgres as cluster:
            assert _ask(cluster.app_url, "SELECT 1") == 1
        assert {path.stat().st_uid for path in (data_dir / "postgres.run").iterdir()} == {nobody.pw_uid}
