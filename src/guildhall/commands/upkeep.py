"""Small commands that keep an installation well."""

import asyncio
from collections.abc import Callable

from guildhall.commands import DataDir, Problem, database, owner_url, read, say, uninterrupted
from guildhall.settings import Settings


def bring_up_to_date(settings: Settings, say: Callable[[str], None], *, allowed: bool) -> int:
    """Apply the migrations that are missing, if `allowed`; answers how many. Raises Problem."""
    import asyncpg

    from guildhall.db.migrate import MigrationFailed, migrate, pending

    url = owner_url(settings)
    try:
        missing = asyncio.run(pending(url))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Problem(
            f"The database cannot be reached: {error or type(error).__name__}."
            " Start it, or correct GUILDHALL_DATABASE_URL."
        ) from None
    if not missing:
        return 0
    if not allowed:
        raise Problem(f"The database lacks {len(missing)} migrations of this release. Run: guildhall migrate")
    try:
        return uninterrupted(lambda: migrate(url, say))
    except MigrationFailed as error:
        raise Problem(str(error)) from error


def migrate(*, data_dir: DataDir = None) -> None:
    """Bring the database's tables up to this release. Safe to repeat, and while the service runs."""
    with database(read(data_dir)) as settings:
        applied = bring_up_to_date(settings, say, allowed=True)
    print(f"{applied} migrations applied." if applied else "Nothing to do: the tables are up to date.")
