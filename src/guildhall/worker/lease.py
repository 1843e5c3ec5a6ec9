"""The queue's statements, stricter than the library's: only who holds a job may end it, and a lost database
is waited for instead of losing what was done.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from pgqueuer.domain import models, types
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.queries import Queries

from guildhall.db.core import AGAIN, BUSY, LOST
from guildhall.outbox import DUE_AFTER
from guildhall.web.log import logger

T = TypeVar("T")

PASSING = (*LOST, *BUSY, *AGAIN, TimeoutError)
PAUSE_S = 0.5
WAIT_FOR_DATABASE_S = 15.0

_FINISH = """
WITH ended AS (
    SELECT unnest($1::bigint[]) AS id, unnest($2::text[]) AS status, unnest($3::jsonb[]) AS traceback
), done AS (
    DELETE FROM pgqueuer q USING ended e
     WHERE q.id = e.id AND e.status = 'successful' AND q.status = 'picked' AND q.queue_manager_id = $4
    RETURNING q.id, q.entrypoint, q.priority
), resting AS (
    UPDATE pgqueuer q SET status = 'failed', updated = now(), queue_manager_id = NULL FROM ended e
     WHERE q.id = e.id AND e.status IN ('failed', 'exception')
       AND q.status = 'picked' AND q.queue_manager_id = $4
    RETURNING q.id, q.entrypoint, q.priority
), back AS (
    UPDATE pgqueuer q SET status = 'queued', updated = now(), queue_manager_id = NULL FROM ended e
     WHERE q.id = e.id AND e.status NOT IN ('successful', 'failed', 'exception')
       AND q.status = 'picked' AND q.queue_manager_id = $4
    RETURNING q.id, q.entrypoint, q.priority
)
INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority, traceback)
SELECT moved.id, e.status::pgqueuer_status, moved.entrypoint, moved.priority, e.traceback
  FROM (TABLE done UNION ALL TABLE resting UNION ALL TABLE back) AS moved JOIN ended e USING (id)
"""

_RETRY = """
WITH back AS (
    UPDATE pgqueuer SET status = 'queued', execute_after = now() + $2::interval, attempts = attempts + 1,
                        updated = now(), queue_manager_id = NULL
     WHERE id = $1 AND status = 'picked' AND queue_manager_id = $4
    RETURNING id, entrypoint, priority
)
INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority, traceback)
SELECT id, 'queued', entrypoint, priority, $3::jsonb FROM back
"""

_PUT_BACK = """
UPDATE pgqueuer SET status = 'queued', updated = now(), queue_manager_id = NULL
 WHERE queue_manager_id = $1 AND status = 'picked' AND NOT id = ANY($2)
"""

_STAY = (
    "UPDATE pgqueuer SET heartbeat = now() WHERE id = ANY($1) AND status = 'picked' AND queue_manager_id = $2"
)

_COME_FORWARD = """
UPDATE pgqueuer SET execute_after = now() + random() * $2::interval
 WHERE status = 'queued' AND attempts > 0 AND entrypoint = ANY($1) AND execute_after > now() + $2::interval
"""

_PROBE = """
UPDATE pgqueuer SET execute_after = now(), updated = now()
 WHERE id = (SELECT id FROM pgqueuer
              WHERE status = 'queued' AND attempts > 0 AND entrypoint = ANY($1) AND execute_after > now()
              ORDER BY updated, id LIMIT 1 FOR UPDATE SKIP LOCKED)
"""


# Work that is due, or becomes so within a moment; what was put off on purpose for longer is not for now.
_DUE_SOON = """
SELECT count(*) FROM pgqueuer
 WHERE status = 'queued' AND entrypoint = ANY($1)
   AND NOT (attempts = 0 AND headers ? $2 AND execute_after > now() + interval '1 minute')
"""


@dataclasses.dataclass
class Leased(Queries):
    """`holder` is the queue manager whose jobs may be ended through this."""

    holder: UUID | None = None
    _claimed: set[int] = dataclasses.field(default_factory=set[int], init=False)
    _unsure: bool = dataclasses.field(default=False, init=False)

    async def log_jobs(
        self, job_status: list[tuple[models.Job, types.JOB_STATUS, models.TracebackRecord | None]]
    ) -> None:
        # A job that was broken off goes back: the library would take it for cancelled and drop it.
        ids = [job.id for job, _, _ in job_status]
        states = [status for _, status, _ in job_status]
        traces = [trace.model_dump_json() if trace else None for _, _, trace in job_status]
        await self._insist(lambda: self.driver.execute(_FINISH, ids, states, traces, self.holder))
        self._claimed.difference_update(ids)

    async def retry_job(
        self, job: models.Job, delay: timedelta, traceback_record: models.TracebackRecord | None
    ) -> None:
        trace = traceback_record.model_dump_json() if traceback_record else None
        try:
            await self._insist(lambda: self.driver.execute(_RETRY, job.id, delay, trace, self.holder))
        except PASSING:
            # The lease runs out and the job is claimed again; the library would have put it to rest.
            logger().warning("worker.retry_not_noted", job=job.id)
        self._claimed.discard(job.id)

    async def update_heartbeat(self, job_ids: list[types.JobId]) -> None:
        await self.driver.execute(_STAY, list(set(job_ids)), self.holder)

    async def come_forward(self, entrypoints: list[str], within: timedelta) -> None:
        """Let all that wait after a failure come soon, not all at once."""
        await self._or(None, lambda: self.driver.execute(_COME_FORWARD, entrypoints, within))

    async def probe(self, entrypoints: list[str]) -> None:
        """Let the one that has waited longest since it was looked at come now."""
        await self._or(None, lambda: self.driver.execute(_PROBE, entrypoints))

    async def put_back(self) -> None:
        """Give back all that is still held, at the end: nobody here runs it any more."""
        await self._or(None, lambda: self.driver.execute(_PUT_BACK, self.holder, []))

    # A database that goes away must not end the loop: that would wait for every job under way first.

    async def dequeue(
        self,
        batch_size: int,
        entrypoints: dict[types.QueueEntrypoint, EntrypointExecutionParameter],
        queue_manager_id: types.QueueManagerId,
        global_concurrency_limit: int | None,
        heartbeat_timeout: timedelta,
    ) -> list[models.Job]:
        async def claim() -> list[models.Job]:
            if self._unsure:
                # The answer to the last claim was lost, so jobs may be ours that nobody here runs.
                await self.driver.execute(_PUT_BACK, self.holder, list(self._claimed))
            self._unsure = True
            jobs = await super(Leased, self).dequeue(
                batch_size, entrypoints, queue_manager_id, global_concurrency_limit, heartbeat_timeout
            )
            self._unsure = False
            self._claimed.update(job.id for job in jobs)
            return jobs

        return await self._or([], claim)

    async def queued_work(self, entrypoints: list[types.QueueEntrypoint]) -> int:
        return await self._or(1, lambda: super(Leased, self).queued_work(entrypoints))

    async def eligible_queued_work(self, entrypoints: list[types.QueueEntrypoint]) -> int:
        return await self._or(0, lambda: super(Leased, self).eligible_queued_work(entrypoints))

    async def next_deferred_eta(self, entrypoints: list[types.QueueEntrypoint]) -> timedelta | None:
        return await self._or(None, lambda: super(Leased, self).next_deferred_eta(entrypoints))

    async def fetch_schedule(
        self, entrypoints: dict[models.CronExpressionEntrypoint, timedelta]
    ) -> list[models.Schedule]:
        return await self._or([], lambda: super(Leased, self).fetch_schedule(entrypoints))

    async def _or(self, otherwise: T, ask: Callable[[], Awaitable[T | str]]) -> T:
        try:
            return await ask()  # pyright: ignore[reportReturnType] - commands answer their status, unused
        except PASSING as error:
            logger().warning("worker.database_lost", error=type(error).__name__)
            await asyncio.sleep(PAUSE_S)
            return otherwise

    async def _insist(self, act: Callable[[], Awaitable[object]]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAIT_FOR_DATABASE_S
        while True:
            try:
                await act()
            except PASSING:
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(PAUSE_S)
            else:
                return


@dataclasses.dataclass
class Draining(Leased):
    """Counts no work that was put off for longer than a minute, so that draining ends without it."""

    async def queued_work(self, entrypoints: list[types.QueueEntrypoint]) -> int:
        async def count() -> int:
            rows = await self.driver.fetch(_DUE_SOON, entrypoints, DUE_AFTER)
            return int(str(rows[0]["count"]))

        return await self._or(1, count)
