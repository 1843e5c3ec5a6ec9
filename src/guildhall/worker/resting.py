"""Jobs that rest because trying again was no use: for the operator to see, and to send on their way again."""

from datetime import datetime

import msgspec

from guildhall.db import Db


class RestingJob(msgspec.Struct, frozen=True):
    """`reason` holds no address and no content. `attempts` counts failures that were tried again."""

    id: int
    kind: str
    created_at: datetime
    rests_since: datetime
    attempts: int
    reason: str | None


async def list_failed(db: Db, limit: int = 100) -> list[RestingJob]:
    """The newest first."""
    async with db.reading() as read:
        return await read.many(
            RestingJob,
            "SELECT q.id, q.entrypoint AS kind, q.created AS created_at, q.updated AS rests_since,"
            " q.attempts,"
            " (SELECT l.traceback->>'exception_message' FROM pgqueuer_log l"
            "   WHERE l.job_id = q.id AND l.status = 'failed' ORDER BY l.created DESC LIMIT 1) AS reason"
            " FROM pgqueuer q WHERE q.status = 'failed' ORDER BY q.id DESC LIMIT $1",
            limit,
        )


async def retry_failed(db: Db, job_id: int) -> bool:
    """Try a resting job as if it were new; False when none rests by this id.

    A mail whose last try was more than a day ago may have arrived then, and arrives twice.
    """
    async with db.single() as tx:
        return (
            await tx.run(
                "UPDATE pgqueuer SET status = 'queued', created = now(), updated = now(),"
                " execute_after = now(), attempts = 0, headers = NULL, queue_manager_id = NULL"
                " WHERE id = $1 AND status = 'failed'",
                job_id,
            )
            == 1
        )
