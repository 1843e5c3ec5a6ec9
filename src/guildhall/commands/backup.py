"""`guildhall backup` and `guildhall restore`: one file for the database and the uploaded files, and one for
the secret, since whoever holds both holds every account.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated
from urllib.parse import urlsplit

import asyncpg
from cyclopts import Parameter

from guildhall import __version__
from guildhall.commands import (
    DataDir,
    Problem,
    archive,
    database,
    interruptible,
    own_name,
    owner_url,
    read,
    refuse_nothing,
    telling,
)
from guildhall.commands.claims import claim
from guildhall.commands.progress import Say
from guildhall.commands.tables import several
from guildhall.commands.upkeep import bring_up_to_date
from guildhall.errors import AppError, NotFound
from guildhall.instance import give_to_owner, kept_secrets, previous_secret_file, secret_file, write_secret
from guildhall.keys import MINIMUM_BYTES
from guildhall.settings import Settings

SPOOLED_BYTES = 32 * 1024 * 1024


def backup(
    file: Annotated[Path, Parameter(help="The file to make. Its secret goes beside it, into FILE.secret.")],
    /,
    *,
    data_dir: DataDir = None,
) -> None:
    """Write everything people have put in, as it is at one instant, into one file.

    It works while the service runs, and needs as much room again as the file takes while it is made. What
    comes from the settings is not in it, nor are mails in the outbox.
    """
    settings = read(data_dir)
    for path in (file, _secret_beside(file)):
        if path.exists():
            raise Problem(f"{path} exists already and is not overwritten.")
    if not file.absolute().parent.is_dir():
        raise Problem(f"The folder {file.absolute().parent} does not exist.")
    refuse_nothing(settings)
    with interruptible(), database(settings) as running, telling("Backing up …") as tell:
        try:
            with archive.writing(file) as (writer, room):
                counts = asyncio.run(_write(running, writer, room, tell))
            secret = _write_secret(settings, file)
        except OSError as error:
            raise Problem(f"{file} could not be written: {error.strerror or error}.") from None
    print(f"Backed up {counts} into {file}, {_megabytes(file)}.")
    print(secret)


def _secret_beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.secret")


def _write_secret(settings: Settings, file: Path) -> str:
    if settings.secrets:
        return "The secret comes from the settings, and is for you to keep."
    beside = _secret_beside(file)
    write_secret(beside, b"\n".join(kept_secrets(settings.data_dir)) + b"\n")
    return f"The secret is in {beside}. Keep the two apart: together they open every account."


def _megabytes(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.1f} MB"


async def _write(settings: Settings, writer: archive.Writer, room: Path, tell: Say) -> str:
    from guildhall.commands.check_data import count
    from guildhall.db.migrate import applied
    from guildhall.providers.postgres import DatabaseToolError, dump
    from guildhall.providers.postgres.requirements import connect
    from guildhall.spaces.blobs import names_at

    url = owner_url(settings)
    included = urlsplit(settings.blobs.url).scheme == "file"
    try:
        migrations = await applied(url)
        if not migrations:
            raise Problem("There is nothing to back up: the database has no tables yet.")
        async with connect(url) as connection:
            # The transaction stays idle for as long as the dump takes, and holds its instant open.
            await connection.execute("SET idle_in_transaction_session_timeout = 0")
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
                names = await names_at(connection) if included else []
                counts = await count(connection)
                await dump(url, room / "database.dump", tell, snapshot=snapshot)
    except DatabaseToolError as error:
        raise Problem(error.message) from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Problem(f"The database could not be read: {error}") from None
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    about = archive.About(archive.FORMAT, __version__, made_at, migrations, len(names) if included else None)
    writer.add_json(archive.ABOUT, about)
    with (room / "database.dump").open("rb") as source:
        writer.add(archive.DATABASE, source, (room / "database.dump").stat().st_size)
    (room / "database.dump").unlink()
    if not included:
        return f"{counts}, without the files, which are at {settings.blobs.url},"
    return f"{counts} and {several(await _write_files(settings, names, writer, tell), 'file')}"


async def _write_files(settings: Settings, names: list[str], writer: archive.Writer, tell: Say) -> int:
    """Answers how many there were. One that was deleted since the dump is no loss to anybody."""
    from guildhall.providers.blobs import open_blobs

    blobs = open_blobs(settings.blobs)
    count = 0
    try:
        for number, name in enumerate(names, 1):
            tell(f"Copying file {number} of {len(names)} …")
            try:
                opened = await blobs.open(name)
            except NotFound:
                continue
            with tempfile.SpooledTemporaryFile(SPOOLED_BYTES) as spool:
                async for chunk in opened.chunks:
                    spool.write(chunk)
                size_bytes = spool.tell()
                spool.seek(0)
                writer.add(archive.FILES + name, spool, size_bytes)
            count += 1
    except AppError as error:
        raise Problem(f"A file could not be read: {error.message}") from None
    finally:
        await blobs.aclose()
    return count


def restore(
    file: Annotated[Path, Parameter(help="What `guildhall backup` has made, with FILE.secret beside it.")],
    /,
    *,
    data_dir: DataDir = None,
) -> None:
    """Fill an empty data directory, or an empty database of the settings, from a backup.

    All of it is restored or nothing. No mail goes out and no chat channel is touched until you say
    `guildhall release`, since the installation it comes from may still run.
    """
    from guildhall.db.migrate import names

    settings = read(data_dir)
    with interruptible(), telling("Restoring …") as tell, archive.reading(file, tell) as source:
        if unknown := [name for name in source.about.migrations if name not in names()]:
            raise Problem(
                f"{file} was made by a newer release ({source.about.release}), which made {unknown[0]}."
                " Restore it with that release."
            )
        with claim(settings.data_dir):
            notes = _check_secret(settings, file)
            with database(settings) as running:
                _restore(running, source, file, tell)
                bring_up_to_date(running, tell, allowed=True)
                broken = asyncio.run(_find_broken(running))
    print(f"Restored the backup of {source.about.made_at}.")
    for note in notes:
        print(note)
    if source.about.files is None:
        print("Its files are in an object store, and were not part of it.")
    print(
        f"Nothing is sent until you run: {own_name()} release\n"
        f"To make every invite link it knows useless, first run: {own_name()} revoke-invites"
    )
    if broken:
        raise Problem("\n  - ".join(["Not everything in it is as it must be:", *broken]))


def _check_secret(settings: Settings, file: Path) -> list[str]:
    """What to say of the secret. Raises Problem when there is another one in the data directory."""
    ended = "Everybody signs in anew, and links in mails that were sent before do not work."
    wanted = _secrets_of(file)
    if settings.secrets:
        same = not wanted or wanted[0] in [secret.reveal() for secret in settings.secrets]
        return [] if same else [f"The settings' secret is not the one of the backup. {ended}"]
    kept = kept_secrets(settings.data_dir)
    if kept and wanted and kept[0] != wanted[0]:
        raise Problem(
            f"{secret_file(settings.data_dir)} is another secret than the one of the backup."
            " Restore into an empty data directory."
        )
    if not kept and not wanted:
        return [f"Without {_secret_beside(file)} there is a new secret. {ended}"]
    return []


def _secrets_of(file: Path) -> list[bytes]:
    beside = _secret_beside(file)
    try:
        found = beside.read_bytes().split()[:2]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Problem(f"{beside} cannot be read: {error.strerror}.") from None
    if not found or any(len(secret) < MINIMUM_BYTES for secret in found):
        raise Problem(f"{beside} is damaged. Without it, take it away: then there is a new secret.")
    return found


def _keep_secret(settings: Settings, file: Path) -> None:
    if settings.secrets:
        return
    paths = (secret_file(settings.data_dir), previous_secret_file(settings.data_dir))
    for path, secret in zip(paths, _secrets_of(file), strict=False):
        write_secret(path, secret)


def _restore(settings: Settings, source: archive.Archive, file: Path, tell: Say) -> None:
    from guildhall.providers.postgres import DatabaseToolError, refuse_unless_empty
    from guildhall.providers.postgres import restore as restore_database

    url = owner_url(settings)
    try:
        asyncio.run(refuse_unless_empty(url))
        # The secret and files that nothing names do no harm, should this end here; rows without them would.
        _keep_secret(settings, file)
        asyncio.run(_restore_files(settings, source, tell))
        kept = settings.data_dir / "blobs"
        if kept.exists():
            give_to_owner(settings.data_dir, kept, *kept.rglob("*"))
        with tempfile.TemporaryDirectory(prefix="restoring-", dir=settings.data_dir) as room:
            dump = Path(room) / "database.dump"
            source.extract_database(dump)
            asyncio.run(
                restore_database(
                    url, dump, tell, finally_run="UPDATE public.installation SET sending_held = true"
                )
            )
    except DatabaseToolError as error:
        raise Problem(error.message) from None


async def _restore_files(settings: Settings, source: archive.Archive, tell: Say) -> None:
    from guildhall.providers.blobs import is_name, open_blobs
    from guildhall.providers.blobs.content import content_type_of

    files = source.files()
    blobs = open_blobs(settings.blobs)
    try:
        for number, (name, size_bytes) in enumerate(files.items(), 1):
            tell(f"Restoring file {number} of {len(files)} …")
            content_type = content_type_of(name)
            if not is_name(name) or content_type is None:
                raise Problem(f"The backup has a file by a name that is none of ours: {name}")
            if not await blobs.exists(name):
                with source.open_file(name) as content:
                    await blobs.put(name, _chunks(content), content_type, size_bytes)
    except AppError as error:
        raise Problem(f"A file could not be restored: {error.message}") from None
    finally:
        await blobs.aclose()


async def _chunks(source: IO[bytes]) -> AsyncIterator[bytes]:
    while data := source.read(archive.READ_BYTES):
        yield data


async def _find_broken(settings: Settings) -> list[str]:
    from guildhall.providers.postgres.requirements import connect
    from guildhall.spaces.invariants import find_broken

    async with connect(owner_url(settings)) as connection:
        return await find_broken(connection)
