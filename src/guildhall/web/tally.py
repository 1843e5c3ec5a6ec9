"""What is counted by calendar months and limited by nobody: gathered here, written now and then.

So what only reads does not write for the sake of a number. What is limited is counted exactly instead.
"""

from collections import Counter
from typing import Literal, TypeAlias

from guildhall.db import Db
from guildhall.web.keeping import keep_writing

FLUSH_S = 10.0
Operation: TypeAlias = Literal["push", "recall", "ask"]


class Tally:
    """Counts of this process that are not written yet."""

    def __init__(self, db: Db) -> None:
        self._db = db
        self._counts: Counter[tuple[str, Operation]] = Counter()

    def note(self, user: str, operation: Operation) -> None:
        self._counts[user, operation] += 1

    async def flush(self) -> None:
        """Write what was counted: one statement for all of it. Raises what the database raises."""
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        users = sorted({user for user, _ in counts})
        try:
            async with self._db.single() as tx:
                # In one order, since another process may write of the same people. The erased are left out.
                await tx.connection.execute(
                    """
                    INSERT INTO usage_months (user_id, month, pushes, recalls, asks)
                    SELECT u.id, this_month(), counted.pushes, counted.recalls, counted.asks
                      FROM unnest($1::text[], $2::integer[], $3::integer[], $4::integer[])
                           AS counted (id, pushes, recalls, asks)
                      JOIN users u ON u.id = counted.id AND u.status <> 'erased'
                     ORDER BY u.id
                    ON CONFLICT (user_id, month) DO UPDATE
                       SET pushes = usage_months.pushes + excluded.pushes,
                           recalls = usage_months.recalls + excluded.recalls,
                           asks = usage_months.asks + excluded.asks
                    """,
                    users,
                    *([counts[user, operation] for user in users] for operation in ("push", "recall", "ask")),
                )
        except BaseException:
            self._counts += counts
            raise

    async def keep(self) -> None:
        """Write now and then, until cancelled; once more then."""
        await keep_writing(self.flush, FLUSH_S, "usage.not_written")
