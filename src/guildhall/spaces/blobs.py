"""Files as the database knows them: all that are stored, and those that nothing names any more."""

from typing import TYPE_CHECKING, TypeAlias

from guildhall.providers.blobs import is_name
from guildhall.spaces.jobs import BlobUnused
from guildhall.worker.work import GiveUp, Work

if TYPE_CHECKING:
    import asyncpg

    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


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
