"""Bring the schema up to this release: numbered, forward only, one migrator at a time.

Each migration is a transaction with a short lock timeout, so that a busy table delays the migration and not
the service; it is then tried again. An interrupted run goes on where it stopped.
"""

import time
from collections.abc import Callable
from pathlib import Path

import asyncpg

MIGRATIONS = Path(__file__).parent / "migrations"
APP_ROLE = "guildhall_app"
TRIES = 30

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


async def pending(url: str) -> list[str]:
    """The migrations of this release that the database has not had yet."""
    connection = await asyncpg.connect(url, timeout=5)
    try:
        if await connection.fetchval("SELECT to_regclass('public._yoyo_migration')") is None:
            return names()
        rows = await connection.fetch("SELECT migration_id FROM _yoyo_migration")
        done = {row["migration_id"] for row in rows}
        return [name for name in names() if name not in done]
    finally:
        await connection.close()


def migrate(url: str, say: Callable[[str], None] = lambda _: None) -> int:
    """Apply what is pending as the owner of the tables; answers how many were applied. Blocks.

    Raises MigrationFailed.
    """
    # The library and its driver take a third of a second to import, and most starts have nothing to migrate.
    import psycopg
    from yoyo import (  # pyright: ignore[reportMissingTypeStubs]
        get_backend,  # pyright: ignore[reportUnknownVariableType]
        read_migrations,  # pyright: ignore[reportUnknownVariableType]
    )
    from yoyo.exceptions import LockTimeout  # pyright: ignore[reportMissingTypeStubs]

    address = "postgresql+psycopg" + url[url.index("://") :]
    for attempt in range(1, TRIES + 1):
        applied = 0
        try:
            with get_backend(address) as backend, backend.lock(timeout=60):
                with backend.connection.cursor() as cursor:
                    cursor.execute("SET lock_timeout = '2s'")
                for migration in backend.to_apply(read_migrations(str(MIGRATIONS))):
                    say(f"Applying {migration.id} …")
                    backend.apply_one(migration)
                    applied += 1
            with psycopg.connect(url, autocommit=False) as connection:
                connection.execute("SET LOCAL lock_timeout = '2s'")
                connection.execute(GRANTS)
        except psycopg.errors.LockNotAvailable:
            say(f"The tables are busy; trying again ({attempt} of {TRIES}) …")
            time.sleep(1)
        except LockTimeout as error:
            raise MigrationFailed(
                "Another migration has held the lock for a minute. If none is running any more, "
                "delete the row of the table yoyo_lock and start again."
            ) from error
        except psycopg.Error as error:
            raise MigrationFailed(f"The migration stopped: {str(error).strip()}") from error
        else:
            return applied
    raise MigrationFailed("The tables stayed busy; stop what holds long transactions and start again.")
