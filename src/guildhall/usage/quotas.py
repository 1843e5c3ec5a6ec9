"""Counting by calendar months of UTC, and refusing beyond the quota."""

from typing import LiteralString

import msgspec

from guildhall.db import Read, Write
from guildhall.errors import AppError
from guildhall.usage.plans import PERSONAL, quota_of
from guildhall.web.caller import Caller, explain_absence
from guildhall.web.tally import Operation


class QuotaExceeded(AppError):
    status, code = 402, "quota_exceeded"
    title = "The month's quota is used up. It begins anew with the next month."


class Used(msgspec.Struct, frozen=True):
    """What the caller used this month; it ends at `period_end`, which belongs to the next."""

    user_id: str
    period_start: str
    period_end: str
    reset_at: int
    push_count: int
    recall_count: int
    ask_count: int


# One more of it, unless that is beyond the quota. What is refused is not counted.
_TAKE: dict[Operation, LiteralString] = {
    "push": """
        INSERT INTO usage_months (user_id, month, pushes)
        SELECT asking.user_id, this_month(), 1 FROM me($1, $2, $3) AS asking
        ON CONFLICT (user_id, month) DO UPDATE SET pushes = usage_months.pushes + 1
         WHERE coalesce(usage_months.pushes < $4::integer, true)
        RETURNING true""",
    "recall": """
        INSERT INTO usage_months (user_id, month, recalls)
        SELECT asking.user_id, this_month(), 1 FROM me($1, $2, $3) AS asking
        ON CONFLICT (user_id, month) DO UPDATE SET recalls = usage_months.recalls + 1
         WHERE coalesce(usage_months.recalls < $4::integer, true)
        RETURNING true""",
    "ask": """
        INSERT INTO usage_months (user_id, month, asks)
        SELECT asking.user_id, this_month(), 1 FROM me($1, $2, $3) AS asking
        ON CONFLICT (user_id, month) DO UPDATE SET asks = usage_months.asks + 1
         WHERE coalesce(usage_months.asks < $4::integer, true)
        RETURNING true""",
}


async def take(tx: Write, caller: Caller, operation: Operation) -> None:
    """Count one, exactly and with the change itself. Raises QuotaExceeded."""
    quota = quota_of(caller.service, operation)
    if await tx.value(_TAKE[operation], *caller.me, quota):
        return
    used = await find_used(tx, caller)
    counts = {"push": used.push_count, "recall": used.recall_count, "ask": used.ask_count}
    raise QuotaExceeded(
        details={
            "operation": operation,
            "current": counts[operation],
            "limit": quota,
            "plan": PERSONAL.id,
            "plan_name": PERSONAL.display_name,
            "reset_at": used.reset_at,
            "upgrade_plan": "",
        }
    )


async def take_read(caller: Caller, operation: Operation) -> None:
    """Count one of what only reads: for free where there is no quota. Raises QuotaExceeded."""
    if quota_of(caller.service, operation) is None:
        caller.service.tally.note(caller.user, operation)
        return
    async with caller.db.single() as tx:
        await take(tx, caller, operation)


async def find_used(read: Read, caller: Caller) -> Used:
    """Raises what explains a caller who is nobody."""
    used = await read.maybe(
        Used,
        """
        SELECT asking.user_id, rfc3339(period.first AT TIME ZONE 'UTC') AS period_start,
               rfc3339(period.after AT TIME ZONE 'UTC') AS period_end,
               extract(epoch FROM period.after AT TIME ZONE 'UTC')::bigint AS reset_at,
               coalesce(m.pushes, 0) AS push_count, coalesce(m.recalls, 0) AS recall_count,
               coalesce(m.asks, 0) AS ask_count
          FROM me($1, $2, $3) AS asking
         CROSS JOIN (SELECT this_month()::timestamp AS first,
                            this_month() + interval '1 month' AS after) AS period
          LEFT JOIN usage_months m ON m.user_id = asking.user_id AND m.month = this_month()
        """,
        *caller.me,
    )
    if used is None:
        raise await explain_absence(read, caller)
    return used
