"""Dump any database of ours into one file, and restore such a file into an empty database."""

import asyncio
import contextlib
import os
import pwd
import re
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import LiteralString

from guildhall.providers.postgres.errors import DatabaseToolError, EmbeddedPostgresFailed
from guildhall.providers.postgres.requirements import Connection, connect
from guildhall.providers.postgres.tls import without_tls
from guildhall.providers.postgres.wheel import MAJOR, program

Say = Callable[[str], None]

# Names in SQL as PostgreSQL's programs write them: quoted only where they have to be.
_NAME = r'("(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)'
_GRANTEE = re.compile(rf"^.*\b(?:TO|FROM) {_NAME}(?: WITH GRANT OPTION)?;$", re.MULTILINE)
_GRANTOR = re.compile(rf"^ALTER DEFAULT PRIVILEGES FOR ROLE {_NAME} ", re.MULTILINE)
_ENTRY = re.compile(r"^\d+; \d+ \d+ (DEFAULT ACL|ACL|EXTENSION|COMMENT) (\S+) (.*)$")
_HEADER_LINES = 60

_WHAT_IS_THERE = """
SELECT format('%I.%I', nspname, name)
  FROM (SELECT relnamespace AS room, relname AS name, oid, 'pg_class'::regclass AS class
          FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
         UNION ALL
        SELECT pronamespace, proname, oid, 'pg_proc'::regclass FROM pg_proc
         UNION ALL
        SELECT typnamespace, typname, oid, 'pg_type'::regclass FROM pg_type WHERE typtype IN ('e', 'd', 'r')
       ) AS things
  JOIN pg_namespace ON pg_namespace.oid = room
 WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_depend
                    WHERE classid = class AND objid = things.oid AND deptype = 'e')
 ORDER BY 1 LIMIT 3
"""


def _silent(_: str) -> None:
    pass


async def dump(url: str, path: Path, say: Say = _silent, *, snapshot: str | None = None) -> None:
    """Write the database at `url`, as it is at one instant, to the new file `path`, readable by us alone.

    The service may go on working meanwhile. The file holds everything: also who owned and who may do what.
    `snapshot` is the instant that an open transaction has exported, where it is not to be now.
    Raises DatabaseToolError; then there is no file.
    """
    async with connect(url) as connection:
        server = connection.get_server_version().major
    if server > MAJOR:
        raise DatabaseToolError(f"The server is PostgreSQL {server}; this release can dump up to {MAJOR}.")
    try:
        with _appearing_whole(path) as partial:
            async with _reach(url) as (address, environment):
                await _draw(partial, address, environment, snapshot, say)
    except OSError as error:
        raise DatabaseToolError(f"The dump could not be written: {error}") from error


async def refuse_unless_empty(url: str) -> None:
    """Raises DatabaseToolError when the database holds anything."""
    async with connect(url) as connection:
        await _refuse_unless_empty(connection)


async def _refuse_unless_empty(connection: Connection) -> None:
    there = [str(row[0]) for row in await connection.fetch(_WHAT_IS_THERE)]
    if there:
        raise DatabaseToolError(
            f"The database is not empty: it has {', '.join(there)}{' …' if len(there) == 3 else ''}."
            " Restore into a new, empty database."
        )


async def restore(url: str, path: Path, say: Say = _silent, *, finally_run: LiteralString = "") -> None:
    """Fill the empty database at `url` with what `dump` wrote to `path`: all of it, or nothing.

    Everything will belong to the role in `url`. Rights are restored when this server has the roles they name,
    and are left out otherwise; applying the migrations afterwards grants the application's again.
    `finally_run` is SQL that takes effect with the content, so that nobody sees one without the other; its
    names say their schema. Raises DatabaseToolError.
    """
    _check_is_dump(path)
    async with connect(url) as connection:
        server = connection.get_server_version().major
        await _refuse_unless_empty(connection)
        with tempfile.NamedTemporaryFile("w", prefix="gh-", suffix=".list") as contents:
            contents.write(await _choose(connection, path, say))
            contents.flush()
            async with _reach(url) as (address, environment):
                await _pour(path, Path(contents.name), address, environment, server, finally_run, say)
        say("Gathering statistics …")
        await connection.execute("ANALYZE", timeout=3600)


@contextlib.contextmanager
def _appearing_whole(path: Path) -> Generator[Path]:
    """A file beside `path` to write to, which gets that name when the block ended well and else goes away."""
    if path.exists():
        raise DatabaseToolError(f"{path} exists already and is not overwritten.")
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        yield partial
        _make_durable(partial)
        partial.rename(path)
        _make_durable(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _make_durable(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


async def _draw(
    path: Path, address: str, environment: dict[str, str], snapshot: str | None, say: Say
) -> None:
    command = ["pg_dump", "--format=custom", "--verbose", f"--file={path}", f"--dbname={address}"]
    process = await _start(command if snapshot is None else [*command, f"--snapshot={snapshot}"], environment)
    words = _Words(say, re.compile(r"dumping contents of table \"(.+)\""), "Dumping {} …")
    async with _killed_if_left(process):
        await words.read(process.stderr)
        if await process.wait() != 0:
            raise words.error("The dump did not work")


def _check_is_dump(path: Path) -> None:
    try:
        with path.open("rb") as file:
            begins = file.read(5)
    except OSError as error:
        raise DatabaseToolError(f"The dump cannot be read: {error}") from error
    if begins != b"PGDMP":
        raise DatabaseToolError(f"{path} is not a dump.")


async def _choose(connection: Connection, path: Path, say: Say) -> str:
    """The table of contents of what is to be restored, as pg_restore takes it."""
    lines = (await _output(["pg_restore", "--list", str(path)])).splitlines()
    installed = {str(row[0]) for row in await connection.fetch("SELECT extname FROM pg_extension")}
    available = {str(row[0]) for row in await connection.fetch("SELECT name FROM pg_available_extensions")}
    chosen: list[str] = []
    rights: list[str] = []
    for line in lines:
        entry = _ENTRY.match(line)
        kind, tag = (entry[1], entry[3].strip()) if entry else ("", "")
        if kind == "EXTENSION":
            if tag not in installed | available:
                raise DatabaseToolError(f"The dump needs the extension {tag}, which this server lacks.")
            if tag not in installed:
                chosen.append(line)
        elif kind in {"ACL", "DEFAULT ACL"}:
            rights.append(line)
        elif kind == "COMMENT" and tag.startswith("EXTENSION "):
            # Only the extension's owner may say it, and here that is seldom us.
            pass
        else:
            chosen.append(line)
    return "\n".join([*chosen, *await _choose_rights(connection, path, rights, say)]) + "\n"


async def _choose_rights(connection: Connection, path: Path, rights: list[str], say: Say) -> list[str]:
    if not rights:
        return []
    with tempfile.NamedTemporaryFile("w", prefix="gh-", suffix=".list") as contents:
        contents.write("\n".join(rights) + "\n")
        contents.flush()
        sql = await _output(["pg_restore", f"--use-list={contents.name}", "--file=-", str(path)])
    named = {_unquoted(name) for name in _GRANTEE.findall(sql)} - {"public", "PUBLIC"}
    missing = await connection.fetch(
        "SELECT name FROM unnest($1::text[]) AS name WHERE name NOT IN (SELECT rolname FROM pg_roles)"
        " ORDER BY name",
        sorted(named),
    )
    if missing:
        names = ", ".join(str(row[0]) for row in missing)
        say(f"Rights are left out, since this server has no role {names}.")
        return []
    ours = await connection.fetchval(
        "SELECT count(*) FILTER (WHERE pg_has_role(rolname, 'MEMBER')) = cardinality($1::text[])"
        "  FROM pg_roles WHERE rolname = ANY ($1::text[])",
        sorted({_unquoted(name) for name in _GRANTOR.findall(sql)}),
    )
    return rights if ours else [line for line in rights if " DEFAULT ACL " not in line]


async def _pour(
    path: Path,
    contents: Path,
    address: str,
    environment: dict[str, str],
    server: int,
    finally_run: str,
    say: Say,
) -> None:
    """Let pg_restore write SQL and psql execute it."""
    source = await _start(
        [
            "pg_restore",
            "--no-owner",
            "--verbose",
            f"--use-list={contents}",
            "--file=-",
            str(path),
        ],
        {},
        stdout=True,
    )
    async with _killed_if_left(source):
        sink = await _start(
            [
                "psql",
                "--no-psqlrc",
                "--quiet",
                "--set=ON_ERROR_STOP=1",
                f"--dbname={address}",
            ],
            environment,
            stdin=True,
        )
        async with _killed_if_left(sink):
            said = _Words(say, re.compile(r"processing data for table \"(.+)\""), "Restoring {} …")
            answered = _Words(_silent)
            async with asyncio.TaskGroup() as group:
                group.create_task(said.read(source.stderr))
                group.create_task(answered.read(sink.stderr))
                copying = group.create_task(_copy(source, sink, server, finally_run))
            if not copying.result():
                raise said.error("The dump could not be read, and nothing was changed")
            if await sink.wait() != 0:
                raise answered.error("The restore did not work, and nothing was changed")


async def _copy(
    source: asyncio.subprocess.Process, sink: asyncio.subprocess.Process, server: int, finally_run: str
) -> bool:
    """Pass the script on as one transaction. False when the source failed by itself; then nothing commits."""
    assert source.stdout is not None
    assert sink.stdin is not None
    try:
        sink.stdin.write(b"BEGIN;\n")
        for _ in range(_HEADER_LINES):
            line = await source.stdout.readline()
            # Written for the newest server; older ones do not know the setting and would stop at it.
            if server >= 17 or not line.startswith(b"SET transaction_timeout"):
                sink.stdin.write(line)
            if line.startswith(b"SET row_security"):
                break
        while data := await source.stdout.read(1 << 16):
            sink.stdin.write(data)
            await sink.stdin.drain()
        # Ours is the last word, COMMIT: a script that ends before, however it came to, changes nothing.
        well = await source.wait() == 0
        if well:
            sink.stdin.write(f"\n{finally_run};\nCOMMIT;\n".encode())
            await sink.stdin.drain()
        sink.stdin.close()
        return well
    except (BrokenPipeError, ConnectionResetError):
        # psql stopped at an error and says which; pg_restore need not go on.
        with contextlib.suppress(ProcessLookupError):
            source.kill()
        return True


class _Words:
    """What a program says: progress in our words, and its complaints for the error."""

    def __init__(self, say: Say, progress: re.Pattern[str] | None = None, phrase: str = "{}") -> None:
        self.say = say
        self.progress = progress
        self.phrase = phrase
        self.lines: list[str] = []

    async def read(self, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None
        while raw := await stream.readline():
            line = raw.decode(errors="replace").strip()
            if self.progress and (found := self.progress.search(line)):
                self.say(self.phrase.format(found[1]))
            self.lines = [*self.lines[-99:], line]

    def error(self, what: str) -> DatabaseToolError:
        complaints = re.compile(r"(error|fatal|detail|hint|warning):", re.IGNORECASE)
        spoken = [line for line in self.lines if complaints.search(line)] or self.lines
        return DatabaseToolError(f"{what}:\n" + "\n".join(spoken[-6:]))


@contextlib.asynccontextmanager
async def _reach(url: str) -> AsyncGenerator[tuple[str, dict[str, str]]]:
    """The address without the password, since all users of a machine see command lines; and the password."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    try:
        address = {key: str(value) for key, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.Error:
        # Its message may quote the address, password and all.
        raise DatabaseToolError(
            "The database address is not one that PostgreSQL's own programs take."
        ) from None
    async with without_tls(address) as reachable:
        password = reachable.pop("password", None)
        environment = {} if password is None else {"PGPASSWORD": password}
        yield make_conninfo(**{"connect_timeout": "10", **reachable}), environment


async def _start(
    command: list[str], environment: dict[str, str], *, stdin: bool = False, stdout: bool = False
) -> asyncio.subprocess.Process:
    try:
        name = str(program(command[0]))
    except EmbeddedPostgresFailed as error:
        raise DatabaseToolError(str(error)) from error
    return await asyncio.create_subprocess_exec(
        name,
        *command[1:],
        # Settings of libpq in our environment are not meant for this database.
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": _home(), **environment},
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if stdout else asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        limit=1 << 20,
    )


@contextlib.asynccontextmanager
async def _killed_if_left(process: asyncio.subprocess.Process) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _output(command: list[str]) -> str:
    process = await _start(command, {}, stdout=True)
    async with _killed_if_left(process):
        output, complaints = await process.communicate()
    if process.returncode != 0:
        last = "\n".join(complaints.decode(errors="replace").strip().splitlines()[-6:])
        raise DatabaseToolError(f"The dump could not be read:\n{last}")
    return output.decode()


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/nonexistent"
