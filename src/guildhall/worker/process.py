"""The process that runs jobs: claims, keeps its lease, runs, and stops in time. Any number may run."""

import asyncio
import contextlib
import functools
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol
from uuid import UUID, uuid4

from pgqueuer import PgQueuer
from pgqueuer.domain import models
from pgqueuer.domain.types import QueueExecutionMode

from guildhall.db import Db
from guildhall.errors import AppError
from guildhall.outbox import Chore, Handlers, Scheduled, put_chores
from guildhall.web.log import logger
from guildhall.worker.driver import open_driver
from guildhall.worker.hold import is_held
from guildhall.worker.lease import Draining, Leased
from guildhall.worker.runner import Runner
from guildhall.worker.work import Work

LEASE = timedelta(seconds=60)
AT_ONCE = 10
BATCH = 5
LOOK_EVERY = timedelta(seconds=2)
FINISH_WITHIN_S = 13.0
ABORT_WITHIN_S = 3.0
BEAT_EVERY_S = 10.0
RESTART_PAUSE_S = 1.0


class Crew(Protocol):
    """What the worker needs of the house."""

    @property
    def work(self) -> Work: ...
    @property
    def handlers(self) -> Handlers: ...
    @property
    def schedules(self) -> Sequence[Scheduled]: ...
    @property
    def database_url(self) -> str: ...


async def run_worker(house: Crew, stop: asyncio.Event) -> None:
    """Run jobs until `stop` is set; returns within 20 s then, and what was not finished goes back.

    While sending is held nothing is claimed. A database that is away is waited for.
    """
    me = uuid4()
    beating = asyncio.create_task(_beat(house.work.db, me))
    logger().info("worker.started", worker=str(me))
    try:
        while not stop.is_set():
            if await _may_send(house.work.db):
                try:
                    await _serve(house, stop)
                except Exception as error:
                    logger().warning("worker.restarts", error=type(error).__name__, exc_info=error)
            await _pause(stop, RESTART_PAUSE_S)
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        with contextlib.suppress(AppError):
            async with house.work.db.single() as tx:
                await tx.run("DELETE FROM workers WHERE id = $1", me)
        logger().info("worker.stopped", worker=str(me))


async def drain(house: Crew) -> None:
    """Run jobs until none is left but those put off for more than a minute; for tests and for maintenance."""
    driver = await open_driver(house.database_url)
    try:
        queue, runner = _open_queue(house, Draining(driver))
        probing = asyncio.create_task(runner.probe())
        try:
            await queue.run(
                dequeue_timeout=timedelta(milliseconds=200),
                batch_size=BATCH,
                mode=QueueExecutionMode.drain,
                max_concurrent_tasks=AT_ONCE,
                heartbeat_timeout=LEASE,
                log_aggregation_interval=timedelta(0),
            )
        finally:
            probing.cancel()
    finally:
        await driver.aclose()


async def _serve(house: Crew, stop: asyncio.Event) -> None:
    driver = await open_driver(house.database_url)
    try:
        queries = Leased(driver)
        queue, runner = _open_queue(house, queries)
        for scheduled in house.schedules:
            queue.schedule(scheduled.job.entrypoint, scheduled.cron)(
                functools.partial(_due, house, scheduled)
            )
            if scheduled.at_start:
                await _leave(house, scheduled)
        running = asyncio.create_task(
            queue.run(
                dequeue_timeout=LOOK_EVERY,
                batch_size=BATCH,
                max_concurrent_tasks=AT_ONCE,
                heartbeat_timeout=LEASE,
            )
        )
        probing = asyncio.create_task(runner.probe())
        watching = asyncio.create_task(_until_told(house.work.db, stop))
        try:
            await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            probing.cancel()
            watching.cancel()
            queue.shutdown.set()
            await _wind_down(running, runner)
            await queries.put_back()
        if not running.cancelled() and (error := running.exception()) is not None:
            raise error
    finally:
        await driver.aclose()


async def _wind_down(running: asyncio.Task[None], runner: Runner) -> None:
    """Let jobs under way finish, then send them back to the queue, then leave them to their lease."""
    await asyncio.wait({running}, timeout=FINISH_WITHIN_S)
    if not running.done():
        runner.abort()
        await asyncio.wait({running}, timeout=ABORT_WITHIN_S)
    if not running.done():
        running.cancel()
        await asyncio.wait({running}, timeout=1)


def _open_queue(house: Crew, queries: Leased) -> tuple[PgQueuer, Runner]:
    queue = PgQueuer(queries.driver, queries=queries)
    queries.holder = queue.qm.queue_manager_id
    runner = Runner(house.work, house.handlers, queries)
    for entrypoint in runner.entrypoints:

        async def run(row: models.Job) -> None:
            await runner.run(row)

        queue.entrypoint(entrypoint, on_failure="hold", accepts_context=False)(run)
    return queue, runner


async def _due(house: Crew, scheduled: Scheduled, _: models.Schedule) -> None:
    await _leave(house, scheduled)


async def _leave(house: Crew, scheduled: Scheduled) -> None:
    async with house.work.db.single() as tx:
        await put_chores(tx, [Chore(scheduled.job, f"due:{scheduled.job!r}")])


async def _until_told(db: Db, stop: asyncio.Event) -> None:
    """Returns when the worker is to stop, or the operator holds sending."""
    while not stop.is_set():
        await _pause(stop, LOOK_EVERY.total_seconds())
        try:
            if await is_held(db):
                logger().warning("worker.sending_held")
                return
        except AppError:
            continue


async def _may_send(db: Db) -> bool:
    try:
        return not await is_held(db)
    except AppError:
        return False


async def _beat(db: Db, me: UUID) -> None:
    """Say that this worker lives. A worker whose loop is stuck falls silent too."""
    while True:
        try:
            async with db.single() as tx:
                await tx.run(
                    "INSERT INTO workers (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET seen_at = now()", me
                )
        except AppError:
            pass
        await asyncio.sleep(BEAT_EVERY_S)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
