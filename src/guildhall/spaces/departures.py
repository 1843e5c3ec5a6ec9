"""The last of what was deleted: communities after their 30 days, files nobody finished or needs any more."""

from uuid import UUID

import msgspec

from guildhall import outbox
from guildhall.db import Write
from guildhall.providers.blobs import is_name
from guildhall.spaces.jobs import BlobUnused, DeparturesDue, SpaceChanged
from guildhall.web.log import logger
from guildhall.worker.work import Work

BATCH = 500


class _Name(msgspec.Struct, frozen=True):
    name: str | None


class _Url(msgspec.Struct, frozen=True):
    url: str


async def clear_departures(work: Work, _: DeparturesDue) -> None:
    await _clear_files(work)
    while (space := await _find_deleted(work)) is not None:
        await _remove_space(work, space)
        logger().info("housekeeping.space_removed", space=str(space))


async def _clear_files(work: Work) -> None:
    for statement in (
        "DELETE FROM uploads WHERE id IN (SELECT id FROM uploads WHERE stored_at IS NULL"
        " AND created_at < now() - interval '1 day' LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING name",
        "DELETE FROM exports WHERE id IN (SELECT id FROM exports"
        " WHERE requested_at < now() - interval '3 days' LIMIT $1 FOR UPDATE SKIP LOCKED)"
        " RETURNING blob AS name",
    ):
        full = True
        while full:
            async with work.db.writing() as tx:
                gone = await tx.many(_Name, statement, BATCH)
                names = [row.name for row in gone if row.name is not None and is_name(row.name)]
                await outbox.put(tx, *(BlobUnused(name=name) for name in names))
            full = len(gone) == BATCH


async def _find_deleted(work: Work) -> UUID | None:
    async with work.db.single() as tx:
        return await tx.value(
            "SELECT id FROM spaces WHERE deleted_at < now() - interval '30 days' ORDER BY deleted_at LIMIT 1"
        )


async def _remove_space(work: Work, space: UUID) -> None:
    """Children first and in batches, since a large community is more than one statement may take.

    The owner goes with the space's own row, which cannot be without one.
    """
    prefix = f"{work.service.public_url}/blobs/"
    removed = BATCH
    while removed == BATCH:
        async with work.db.writing() as tx:
            urls = await tx.many(
                _Url,
                "WITH gone AS (DELETE FROM posts WHERE space_id = $1 AND id IN"
                " (SELECT id FROM posts WHERE space_id = $1 LIMIT $2) RETURNING attachments)"
                " SELECT DISTINCT unnest(attachments) AS url FROM gone",
                space,
                BATCH,
            )
            await _leave_blobs(tx, prefix, [row.url for row in urls])
            removed = BATCH if await _any_posts(tx, space) else 0
    removed = BATCH
    while removed == BATCH:
        async with work.db.writing() as tx:
            removed = await tx.run(
                "DELETE FROM members WHERE space_id = $1 AND user_id IN (SELECT m.user_id FROM members m"
                " JOIN spaces s ON s.id = m.space_id AND s.owner_id <> m.user_id"
                " WHERE m.space_id = $1 LIMIT $2)",
                space,
                BATCH,
            )
    async with work.db.writing() as tx:
        urls = await tx.many(
            _Url,
            "SELECT url FROM spaces"
            " CROSS JOIN LATERAL (VALUES (logo_url), (cover_image_url)) AS pictures (url)"
            " WHERE id = $1 AND url IS NOT NULL",
            space,
        )
        await tx.run("DELETE FROM spaces WHERE id = $1", space)
        await _leave_blobs(tx, prefix, [row.url for row in urls])
        await outbox.put(tx, SpaceChanged(space_id=space))


async def _any_posts(tx: Write, space: UUID) -> bool:
    return bool(await tx.value("SELECT EXISTS (SELECT FROM posts WHERE space_id = $1)", space))


async def _leave_blobs(tx: Write, prefix: str, urls: list[str]) -> None:
    names = [url.removeprefix(prefix) for url in urls if url.startswith(prefix)]
    await outbox.put(tx, *(BlobUnused(name=name) for name in names if is_name(name)))
