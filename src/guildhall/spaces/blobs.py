"""Files as the database knows them: all that are stored, and those that nothing names any more."""

from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import msgspec

from guildhall import outbox
from guildhall.providers.blobs import is_name
from guildhall.spaces.jobs import BlobUnused, FilesDue
from guildhall.worker.work import GiveUp, Work

if TYPE_CHECKING:
    import asyncpg

    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


BATCH = 500
FIRST = UUID(int=0)


async def names_at(connection: "Connection") -> list[str]:
    """The names of all stored files, as the connection's transaction sees them."""
    rows = await connection.fetch(
        "SELECT name FROM uploads WHERE stored_at IS NOT NULL"
        " UNION SELECT blob FROM exports WHERE blob IS NOT NULL ORDER BY 1"
    )
    return [row[0] for row in rows]


async def delete_unused_blob(work: Work, job: BlobUnused) -> None:
    """Delete a stored file, unless a picture or an attachment names it still: a person may use one twice.

    A file without its row cannot be read any more, as after its person was erased, whoever names it.
    """
    if not is_name(job.name):
        raise GiveUp("this is no name of a stored file")
    url = f"{work.service.public_url}/blobs/{job.name}"
    async with work.db.single() as tx:
        used = await tx.value(
            "SELECT EXISTS (SELECT FROM uploads WHERE name = $2) AND ("
            " EXISTS (SELECT FROM posts p JOIN spaces s ON s.id = p.space_id"
            "   WHERE cardinality(p.attachments) > 0 AND p.attachments @> ARRAY[$1])"
            " OR EXISTS (SELECT FROM users WHERE avatar_url = $1)"
            " OR EXISTS (SELECT FROM spaces WHERE logo_url = $1 OR cover_image_url = $1))",
            url,
            job.name,
        )
    if used:
        return
    await work.blobs.delete(job.name)
    async with work.db.single() as tx:
        await tx.run("DELETE FROM uploads WHERE name = $1", job.name)


class _File(msgspec.Struct, frozen=True):
    id: UUID
    name: str


async def leave_unused_blobs(work: Work, _: FilesDue) -> None:
    """Leave a job for each file that was sent a day ago and that no picture or attachment names.

    Files of memories hang from their memories, and are looked after there.
    """
    last = FIRST
    while True:
        async with work.db.reading() as read:
            files = await read.many(
                _File,
                "SELECT id, name FROM uploads WHERE id > $1 AND purpose <> 'memory'"
                " AND created_at < now() - interval '1 day' ORDER BY id LIMIT $2",
                last,
                BATCH,
            )
            unused = await read.value(
                "SELECT array_agg(file.name)"
                " FROM (SELECT name, $2::text || name AS url FROM unnest($1::text[]) AS name) AS file"
                " WHERE NOT EXISTS (SELECT FROM posts WHERE cardinality(attachments) > 0"
                "                      AND attachments @> ARRAY[file.url])"
                " AND NOT EXISTS (SELECT FROM users WHERE avatar_url = file.url)"
                " AND NOT EXISTS (SELECT FROM spaces WHERE logo_url = file.url)"
                " AND NOT EXISTS (SELECT FROM spaces WHERE cover_image_url = file.url)",
                [file.name for file in files],
                f"{work.service.public_url}/blobs/",
            )
        if unused:
            async with work.db.writing() as tx:
                await outbox.put(tx, *(BlobUnused(name=name) for name in unused))
        if len(files) < BATCH:
            return
        last = files[-1].id
