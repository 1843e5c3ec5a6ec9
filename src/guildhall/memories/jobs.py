"""What the worker does for memories."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from guildhall import outbox
from guildhall.memories import queries
from guildhall.outbox import Handlers, Job, Scheduled
from guildhall.providers.blobs import is_name
from guildhall.worker.work import Work

BATCH = 200


class StrayBlobsLeft(Job, frozen=True, kw_only=True):
    """Files of memories that are gone lie in the store still."""

    entrypoint = "memories.stray_blobs"


class OwnMemoriesLeft(Job, frozen=True, kw_only=True):
    """Somebody wants all they wrote before `before` gone, and one request could not take it all."""

    entrypoint = "memories.own_left"
    user_id: str
    before: datetime


class ReceiptsDue(Job, frozen=True, kw_only=True):
    """Forget what was shown to whom long ago."""

    entrypoint = "memories.receipts_due"


class _Name(msgspec.Struct, frozen=True):
    name: str


async def clear_stray_blobs(work: Work, _: StrayBlobsLeft) -> None:
    while True:
        async with work.db.reading() as read:
            rows = await read.many(_Name, "SELECT name FROM stray_blobs ORDER BY since LIMIT $1", BATCH)
        for row in rows:
            if is_name(row.name):
                await work.blobs.delete(row.name)
            async with work.db.single() as tx:
                await tx.run(
                    "WITH upload AS (DELETE FROM uploads WHERE name = $1)"
                    " DELETE FROM stray_blobs WHERE name = $1",
                    row.name,
                )
        if len(rows) < BATCH:
            return


async def delete_own(work: Work, job: OwnMemoriesLeft) -> None:
    while True:
        async with work.db.writing() as tx:
            gone = await queries.delete_own(tx, job.user_id, job.before, BATCH)
            if not gone:
                await outbox.put(tx, StrayBlobsLeft())
                return


async def forget_receipts(work: Work, _: ReceiptsDue) -> None:
    async with work.db.single() as tx:
        await tx.run("DELETE FROM recall_receipts WHERE created_at < now() - interval '1 day'")


def now() -> datetime:
    return datetime.now(UTC)


HANDLERS: Handlers = {
    StrayBlobsLeft: clear_stray_blobs,
    OwnMemoriesLeft: delete_own,
    ReceiptsDue: forget_receipts,
}

SCHEDULES: Sequence[Scheduled] = (
    Scheduled("32 * * * *", StrayBlobsLeft(), at_start=True),
    Scheduled("37 * * * *", ReceiptsDue()),
)
