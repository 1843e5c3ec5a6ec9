"""What is kept no longer than promised: every table stays bounded, in short statements that block nobody."""

from collections.abc import Mapping, Sequence
from typing import LiteralString

from guildhall.outbox import Handlers, Job, Scheduled
from guildhall.web.log import logger
from guildhall.worker.work import Work

BATCH = 5_000


class HousekeepingDue(Job, frozen=True, kw_only=True):
    entrypoint = "housekeeping.due"


class BlobSweepDue(Job, frozen=True, kw_only=True):
    entrypoint = "blobs.sweep_due"


# Which rows of which table have had their time.
OUTLIVED: Mapping[LiteralString, LiteralString] = {
    "idempotency_keys": "created_at < now() - interval '24 hours'",
    "rate_buckets": "updated_at < now() - interval '1 day'",
    "sign_in_codes": "expires_at < now()",
    "exchange_codes": "expires_at < now() - interval '1 hour'",
    "usage_months": "month < now() - interval '2 years'",
    "sessions": "least(expires_at, coalesce(revoked_at, expires_at)) < now() - interval '30 days'",
    "api_keys": (
        "least(coalesce(expires_at, 'infinity'), coalesce(revoked_at, 'infinity'))"
        " < now() - interval '90 days'"
    ),
    "notifications": (
        "status <> 'pending' AND coalesce(resolved_at, expires_at, created_at) < now() - interval '90 days'"
    ),
    "webhook_deliveries": "received_at < now() - interval '7 days'",
    "invites": (
        "least(expires_at, coalesce(revoked_at, accepted_at, expires_at)) < now() - interval '90 days'"
    ),
    # A former slug leads to its hub until then.
    "hub_slugs": "reserved_until < now()",
    "audit": "at < now() - interval '1 year'",
    "backlog_items": "deleted_at < now() - interval '30 days'",
    "workers": "seen_at < now() - interval '1 day'",
    "pgqueuer_log": "created < now() - interval '7 days'",
    "pgqueuer_statistics": "created < now() - interval '30 days'",
    # A job that rests is for the operator to see, but not for ever.
    "pgqueuer": "status = 'failed' AND updated < now() - interval '30 days'",
}


async def keep_house(work: Work, _: HousekeepingDue) -> None:
    removed: dict[str, int] = {}
    for table, outlived in OUTLIVED.items():
        if count := await _remove(work, table, outlived):
            removed[table] = count
    if removed:
        logger().info("housekeeping.removed", **removed)


async def _remove(work: Work, table: LiteralString, outlived: LiteralString) -> int:
    count = 0
    while True:
        async with work.db.single() as tx:
            # Rows somebody is at are left for the next time.
            removed = await tx.run(
                "DELETE FROM "
                + table
                + " WHERE ctid IN (SELECT ctid FROM "
                + table
                + " WHERE "
                + outlived
                + " LIMIT $1 FOR UPDATE SKIP LOCKED)",
                BATCH,
            )
        count += removed
        if removed < BATCH:
            return count


async def sweep_blobs(work: Work, _: BlobSweepDue) -> None:
    if swept := await work.blobs.sweep():
        logger().info("housekeeping.blobs_swept", parts=swept)


HANDLERS: Handlers = {HousekeepingDue: keep_house, BlobSweepDue: sweep_blobs}
SCHEDULES: Sequence[Scheduled] = (
    Scheduled("7 * * * *", HousekeepingDue(), at_start=True),
    Scheduled("37 4 * * *", BlobSweepDue()),
)
