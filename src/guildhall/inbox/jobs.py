"""What is out of time leaves the inbox, and its people are told."""

from collections.abc import Sequence

from guildhall.inbox import queries
from guildhall.outbox import Handlers, Job, Scheduled
from guildhall.spaces.notices import tell
from guildhall.worker.work import Work

BATCH = 500


class InboxDue(Job, frozen=True, kw_only=True):
    entrypoint = "inbox.due"


async def expire(work: Work, _: InboxDue) -> None:
    full = True
    while full:
        async with work.db.single() as tx:
            rows = await queries.expire(tx, BATCH)
            for row in rows:
                tell(tx, "", row, change="expired")
        full = len(rows) == BATCH


HANDLERS: Handlers = {InboxDue: expire}
SCHEDULES: Sequence[Scheduled] = (Scheduled("*/10 * * * *", InboxDue(), at_start=True),)
