"""Bring the schema up to this release: numbered, forward only, one migrator at a time.

Each migration is a transaction with a short lock timeout, so that a busy table delays the migration and not
the service; it is then tried again. An interrupted run goes on where it stopped.
"""

import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    import psycopg

MIGRATIONS = Path(__file__).parent / "migrations"
APP_ROLE = "guildhall_app"
TRIES = 30
WAIT_S = 60
_LOCK = 0x6775696C64

# What the application may do: rows, not tables. Repeated after every run, since it is harmless.
GRANTS = b"""
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'guildhall_app') THEN
        CREATE ROLE guildhall_app NOLOGIN;
        EXECUTE format('GRANT guildhall_app TO %I', current_user);
    END IF;
END $$;
GRANT USAGE ON SCHEMA public TO guildhall_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO guildhall_app;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO guildhall_app;
REVOKE INSERT, UPDATE, DELETE ON _yoyo_migration, _yoyo_log, _yoyo_version, yoyo_lock FROM guildhall_app;
"""


class MigrationFailed(Exception):
    """The schema could not be brought up to date; says why and what to do."""


def names() -> list[str]:
    """The migrations of this release, oldest first."""
    return sorted(
        path.stem
        for path in MIGRATIONS.iterdir()
        if path.suffix in {".sql", ".py"} and path.stem[0].isdigit()
    )


async def applied(url: str) -> list[str]:
    """The migrations the database has had, also those of a newer release. Raises what the driver does."""
    connection = await asyncpg.connect(url, timeout=5)
    try:
        if await connection.fetchval("SELECT to_regclass('public._yoyo_migration')") is None:
            return []
        rows = await connection.fetch("SELECT migration_id FROM _yoyo_migration ORDER BY migration_id")
        return [row["migration_id"] for row in rows]
    finally:
        await connection.close()


async def pending(url: str) -> list[str]:
    """The migrations of this release that the database has not had yet."""
    done = set(await applied(url))
    return [name for name in names() if name not in done]


def migrate(url: str, say: Callable[[str], None] = lambda _: None) -> int:
    """Apply what is pending as the owner of the tables; answers how many were applied. Blocks.

    Raises MigrationFailed.
    """
    # The library and its driver take a third of a second to import, and most starts have nothing to migrate.
    import psycopg

    count = 0
    try:
        # The lock goes with the connection, so that a migrator that was killed leaves nothing to clear away.
        with psycopg.connect(url, autocommit=True) as guard:
            _wait_in_line(guard, say)
            for attempt in range(1, TRIES + 1):
                try:
                    for name in _apply(url):
                        say(f"Applied {name}.")
                        count += 1
                except psycopg.errors.LockNotAvailable:
                    say(f"The tables are busy; trying again ({attempt} of {TRIES}) …")
                    time.sleep(1)
                else:
                    return count
    except psycopg.Error as error:
        raise MigrationFailed(f"The migration stopped: {str(error).strip()}") from error
    raise MigrationFailed("The tables stayed busy; stop what holds long transactions and start again.")


def _wait_in_line(guard: "psycopg.Connection[Any]", say: Callable[[str], None]) -> None:
    for second in range(WAIT_S):
        row = guard.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK]).fetchone()
        if row == (True,):
            return
        if second == 1:
            say("Another migration is running; waiting for it …")
        time.sleep(1)
    raise MigrationFailed(
        f"Another migration has been running for {WAIT_S} s. Start again when it has ended."
    )


def _apply(url: str) -> Generator[str]:
    """Apply one migration after another, each whole with its mark and with the application's rights."""
    from yoyo import (  # pyright: ignore[reportMissingTypeStubs]
        get_backend,  # pyright: ignore[reportUnknownVariableType]
        read_migrations,  # pyright: ignore[reportUnknownVariableType]
    )

    with get_backend("postgresql+psycopg" + url[url.index("://") :]) as backend:
        # We hold the lock that counts, so a row in the library's own can only be left from one that died.
        backend.break_lock()
        backend.ensure_internal_schema_updated()
        connection: psycopg.Connection[Any] = backend.connection
        connection.execute("SET lock_timeout = '2s'")
        connection.commit()
        for migration in backend.to_apply(read_migrations(str(MIGRATIONS))):
            connection.rollback()
            with backend.transaction():
                migration.process_steps(backend, "apply")
                backend.mark_one(migration)
                connection.execute(GRANTS)
            yield migration.id
        connection.rollback()
        connection.execute(GRANTS)
        connection.commit()
