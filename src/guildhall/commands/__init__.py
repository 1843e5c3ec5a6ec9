"""The commands of `guildhall`, and what they share: settings, the database, and how to complain."""

import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

import msgspec
from cyclopts import Parameter

from guildhall.commands.progress import say, telling
from guildhall.settings import Settings, SettingsError, read_settings

__all__ = [
    "DataDir",
    "Problem",
    "Stopped",
    "at",
    "current_database",
    "database",
    "interruptible",
    "operating",
    "own_name",
    "owner_url",
    "read",
    "refuse_nothing",
    "say",
    "telling",
    "try_to_read",
    "uninterrupted",
]

if TYPE_CHECKING:
    from guildhall.db import Db

T = TypeVar("T")

DataDir: TypeAlias = Annotated[
    Path | None,
    Parameter(
        name="--data-dir",
        help="Where the data is. The setting GUILDHALL_DATA_DIR unless given; .data when that is not set.",
    ),
]


class Problem(Exception):
    """What keeps a command from doing its work, in words for the person at the terminal."""


class Stopped(BaseException):
    """Somebody asked the command to stop before it had anything to finish."""


def own_name() -> str:
    """How this program was called, so that what we tell people to type works where they stand."""
    called = Path(sys.argv[0])
    if called.name != "guildhall":
        return "guildhall"
    return os.path.relpath(called) if called.resolve().is_relative_to(Path.cwd()) else sys.argv[0]


def read(data_dir: Path | None = None, **overrides: object) -> Settings:
    """The settings with the command line's own over them. Raises Problem naming everything that is wrong."""
    try:
        return try_to_read(data_dir, **overrides)
    except SettingsError as error:
        raise Problem("\n  - ".join(["The settings are not complete:", *error.problems])) from None


def try_to_read(data_dir: Path | None = None, **overrides: object) -> Settings:
    """The same, for a command that goes on. Raises SettingsError."""
    given = {"DATA_DIR": data_dir, **{name.upper(): value for name, value in overrides.items()}}
    return read_settings(os.environ, {name: str(value) for name, value in given.items() if value is not None})


@contextmanager
def interruptible() -> Generator[None]:
    """SIGTERM and Ctrl-C end the command where it stands, and what it has begun is cleared away."""

    def stop(*_: object) -> None:
        raise Stopped

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    yield


def uninterrupted(work: Callable[[], T]) -> T:
    """Do what must not stop half way: a signal is answered when it has ended."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@contextmanager
def database(settings: Settings, meanwhile: Callable[[], object] = lambda: None) -> Generator[Settings]:
    """The settings with the address of a database that runs: the one they name, or the embedded one.

    `meanwhile` is done in this thread while the embedded one starts. Raises Problem when that cannot start.
    """
    if settings.database.url is not None:
        meanwhile()
        yield settings
        return
    from guildhall.providers.postgres import EmbeddedPostgres, EmbeddedPostgresFailed

    postgres = EmbeddedPostgres(settings.data_dir)
    try:
        making = "Making the database …" if not postgres.pgdata.exists() else "Starting the database …"
        with telling(making), ThreadPoolExecutor(1) as pool:
            starting = pool.submit(postgres.start)
            meanwhile()
            cluster = starting.result()
        yield at(settings, app_url=cluster.app_url, owner_url=cluster.owner_url)
    except EmbeddedPostgresFailed as error:
        raise Problem(str(error)) from error
    finally:
        postgres.stop()


@contextmanager
def current_database(data_dir: Path | None, *, make: bool = False) -> Generator[Settings]:
    """A running database with the tables of this release, and the settings that lead to it.

    An embedded one is made only where the command can be the first of all.
    """
    from guildhall.commands.upkeep import bring_up_to_date

    embedded = read(data_dir)
    if not make:
        refuse_nothing(embedded)
    with database(embedded) as settings:
        bring_up_to_date(settings, say, allowed=embedded.database.url is None)
        yield settings


def refuse_nothing(settings: Settings) -> None:
    """Raises Problem where no installation is, which a mistyped folder would otherwise become."""
    if settings.database.url is None and not (settings.data_dir / "postgres").exists():
        raise Problem(f"There is no installation in {settings.data_dir}. Is this the right --data-dir?")


@asynccontextmanager
async def operating(settings: Settings) -> AsyncGenerator["Db"]:
    """The database as the application uses it, for a command with little to do.

    Whoever listens to a running service hears of what is changed.
    """
    from guildhall.db import open_db

    assert settings.database.app_url is not None
    db = await open_db(settings.database.app_url, size=2)
    left: list[bytes] = []
    db.pass_on = left.extend
    try:
        yield db
    finally:
        try:
            if left:
                await _pass_on(settings, db, left)
        finally:
            await db.close()


async def _pass_on(settings: Settings, db: "Db", left: list[bytes]) -> None:
    from guildhall.wiring import open_bus

    assert settings.database.app_url is not None
    bus = open_bus(settings, db, settings.database.app_url)
    bus.send(left)
    await bus.aclose()


def at(settings: Settings, *, app_url: str, owner_url: str) -> Settings:
    """The same settings with this database."""
    where = msgspec.structs.replace(settings.database, url=app_url, owner_url=owner_url)
    return msgspec.structs.replace(settings, database=where)


def owner_url(settings: Settings) -> str:
    """Where migrations and backups go: the owner of the tables, who may be the application itself."""
    url = settings.database.owner_url or settings.database.url
    assert url is not None, "the embedded database is started before"
    return url
