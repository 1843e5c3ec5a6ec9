"""One PostgreSQL for a whole test run, and databases in it for whoever needs one to himself.

Plain functions, for conftest.py to make fixtures of. Do not import `test_cluster` by name into a test module:
pytest would take it for a test.
"""

import atexit
import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import psycopg

from guildhall.providers.postgres import Cluster, EmbeddedPostgres
from guildhall.providers.postgres.keeper import USERS, nobody_holds

PREFIX = "guildhall-tests-"


@functools.cache
def test_cluster() -> Cluster:
    """The server all processes of this test run share; its last user ends it and removes its data.

    Its owner may create databases. GUILDHALL_TEST_DATABASE_URL names another server instead, by the address
    of a role that may create databases and roles.
    """
    elsewhere = os.environ.get("GUILDHALL_TEST_DATABASE_URL")
    if elsewhere:
        return Cluster(owner_url=elsewhere, app_url=os.environ.get("GUILDHALL_TEST_APP_URL", elsewhere))
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"pid{os.getpid()}"
    folder = Path(tempfile.gettempdir())
    _sweep(folder)
    # For many services at once, each with pools of its own.
    postgres = EmbeddedPostgres(folder / f"{PREFIX}{run[:16]}", {"max_connections": "600"})
    cluster = postgres.start()
    atexit.register(_leave, postgres)
    _let_owner_create_databases(postgres)
    return cluster


async def clone_database(cluster: Cluster, template: str | None = None) -> str:
    """The owner's address of a new database, a copy of `template`, to which none may be connected."""
    name = f"t_{os.urandom(8).hex()}"
    await _administer(
        cluster, f'CREATE DATABASE "{name}" TEMPLATE "{template or "template1"}" STRATEGY file_copy'
    )
    return at(cluster.owner_url, name)


async def drop_database(cluster: Cluster, url: str) -> None:
    """Drop the database at `url`, throwing out whoever is connected."""
    drop = f'DROP DATABASE IF EXISTS "{database_of(url)}"'
    try:
        await _administer(cluster, f"{drop} WITH (FORCE)")
    except asyncpg.InsufficientPrivilegeError:
        # A vacuum is the server's own, whom only a plain DROP sends away.
        await _administer(cluster, drop)


async def template_database(cluster: Cluster, name: str, prepare: Callable[[str], Awaitable[object]]) -> str:
    """The name of a template made once for all processes of the run: `prepare` is called with its address."""
    connection = await asyncpg.connect(at(cluster.owner_url, "postgres"))
    try:
        await connection.execute("SELECT pg_advisory_lock(hashtext($1))", name)
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
            making = f"{name}_making"
            await connection.execute(f'DROP DATABASE IF EXISTS "{making}" WITH (FORCE)')
            await connection.execute(f'CREATE DATABASE "{making}"')
            await prepare(at(cluster.owner_url, making))
            await connection.execute(f'ALTER DATABASE "{making}" RENAME TO "{name}"')
    finally:
        await connection.close()
    return name


def at(url: str, database: str) -> str:
    """The same server and role, another database."""
    return urlunsplit(urlsplit(url)._replace(path="/" + quote(database, safe="")))


def app_url(cluster: Cluster, url: str) -> str:
    """The database at `url`, reached as the application."""
    return at(cluster.app_url, database_of(url))


def database_of(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


async def _administer(cluster: Cluster, statement: str) -> None:
    connection = await asyncpg.connect(at(cluster.owner_url, "postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _let_owner_create_databases(postgres: EmbeddedPostgres) -> None:
    with (postgres.data_dir / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with psycopg.connect(postgres.url("postgres", "postgres"), autocommit=True) as connection:
            may = connection.execute(
                "SELECT rolcreatedb FROM pg_roles WHERE rolname = 'guildhall_owner'"
            ).fetchone()
            if may != (True,):
                connection.execute("ALTER ROLE guildhall_owner CREATEDB")


def _leave(postgres: EmbeddedPostgres) -> None:
    if postgres.stop():
        shutil.rmtree(postgres.data_dir, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what runs that were killed have left behind; their servers have ended by themselves."""
    for left in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            # A younger one may belong to a run that is just about to start.
            if time.time() - left.stat().st_mtime < 600:
                continue
            if (
                nobody_holds(left / "postgres.run", USERS)
                and not (left / "postgres" / "postmaster.pid").exists()
            ):
                shutil.rmtree(left, ignore_errors=True)
