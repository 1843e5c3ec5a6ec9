"""Small commands that keep an installation well."""

import asyncio
from collections.abc import Callable
from typing import Annotated

from cyclopts import Parameter

from guildhall.commands import (
    DataDir,
    Problem,
    current_database,
    database,
    operating,
    own_name,
    owner_url,
    read,
    say,
    telling,
    uninterrupted,
)
from guildhall.commands.claims import claim
from guildhall.commands.tables import several
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


def release(*, data_dir: DataDir = None) -> None:
    """Let mail go out and channels be matched again, which a restore has held."""
    with current_database(data_dir) as settings:
        print(asyncio.run(_release(settings)))


async def _release(settings: Settings) -> str:
    from guildhall.worker import is_held, release_sending

    async with operating(settings) as db:
        if not await is_held(db):
            return "Nothing is held."
        async with db.reading() as read:
            waiting = await read.value("SELECT count(*) FROM pgqueuer WHERE status IN ('queued', 'picked')")
        await release_sending(db)
    return f"Released. {several(waiting, 'job')} to do, by the service or when it starts."


def revoke_invites(*, data_dir: DataDir = None) -> None:
    """Take back every open invite, so that no link that was ever sent opens anything."""
    with current_database(data_dir) as settings, telling("Taking invites back …"):
        count = asyncio.run(_revoke_invites(settings))
    print(f"{count} open {'invite was' if count == 1 else 'invites were'} taken back.")


async def _revoke_invites(settings: Settings) -> int:
    from guildhall.spaces.invites import revoke_all

    async with operating(settings) as db:
        return await revoke_all(db)


def rotate_secret(
    *,
    finish: Annotated[
        bool, Parameter(negative="", help="Give up the secret before: what it made is worth nothing.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make a new instance secret; the one before it stays good for what it made until you finish.

    The service must be stopped, since its processes have to change over together. Sessions, invite links and
    sign-in codes that the old secret made go on working. Give it up with --finish: after 30 days nobody will
    notice, or at once when it has leaked, and then everybody signs in anew.
    """
    from guildhall.instance import kept_secrets, new_secret, previous_secret_file, secret_file, write_secret

    settings = read(data_dir)
    if settings.secrets:
        raise Problem(_HOW_TO_ROTATE)
    kept = kept_secrets(settings.data_dir)
    if not kept:
        raise Problem(f"There is no secret in {settings.data_dir}. Is this the right --data-dir?")
    current, previous = secret_file(settings.data_dir), previous_secret_file(settings.data_dir)
    with claim(settings.data_dir):
        # Two alike are left from a rotation that was broken off; it is begun again.
        under_way = len(set(kept)) > 1
        if finish:
            previous.unlink(missing_ok=True)
            print("Only the newest secret is good now." if under_way else "There was no other secret.")
            return
        if under_way:
            raise Problem(
                "The secret was changed before, and the one before it still holds."
                f" End that first: {own_name()} rotate-secret --finish"
            )
        write_secret(previous, kept[0], replace=True)
        write_secret(current, new_secret(), replace=True)
    print(
        f"There is a new secret in {current}; the one before it stays good until you run:"
        f" {own_name()} rotate-secret --finish\nBackups made from now on have both."
    )


_HOW_TO_ROTATE = (
    "The secret comes from the settings, so change it there: move GUILDHALL_SECRET to"
    " GUILDHALL_SECRET_PREVIOUS, set GUILDHALL_SECRET to what `openssl rand -hex 32` prints, and start every"
    " process anew. After 30 days, or at once when it has leaked, remove GUILDHALL_SECRET_PREVIOUS and start"
    " them anew."
)
