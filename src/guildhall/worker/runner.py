"""Running one job: decode it, call its handler, and say what becomes of it."""

import asyncio
import random
import time
from collections.abc import Awaitable, Mapping
from datetime import timedelta

import msgspec
from pgqueuer.domain import models
from pgqueuer.errors import RetryRequested

from guildhall.errors import AppError
from guildhall.outbox import DUE_AFTER, Handlers, Job
from guildhall.providers.chat import ChatRejected, ChatUnavailable
from guildhall.providers.email import Rejected, Unavailable
from guildhall.web.log import logger
from guildhall.worker.lease import Leased
from guildhall.worker.work import GiveUp, Work

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 15 * 60.0
TRIED_FOR = timedelta(hours=20)

DOWN_AFTER = 3
PROBE_EVERY_S = 15.0
COME_BACK_WITHIN = timedelta(seconds=10)

FINAL = (Rejected, ChatRejected, GiveUp)
PROVIDER_DOWN = (Unavailable, ChatUnavailable)


class Rests(Exception):
    """Why a job is left for the operator. It is stored, so it names kinds of errors and never their text."""


def retry_delay_s(attempts: int, retry_after_s: float | None = None) -> float:
    """How long to wait after the failure number `attempts`, counted from 0: exponential, with full jitter."""
    ceiling = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(attempts + 1, 20))
    delay = random.uniform(FIRST_RETRY_S, ceiling)  # noqa: S311 - only spreads the load
    if retry_after_s is not None:
        # Everyone was told the same moment, so nobody comes exactly then.
        delay = max(delay, retry_after_s + random.uniform(0, FIRST_RETRY_S))  # noqa: S311
    return delay


class _Line:
    """How a provider has been answering this worker."""

    def __init__(self) -> None:
        self.failures = 0
        self.not_before = 0.0


class Runner:
    """Runs jobs for one queue. `abort()` breaks off all that are under way; they go back to the queue."""

    def __init__(self, work: Work, handlers: Handlers, queries: Leased) -> None:
        self._work = work
        self._handlers = {kind.entrypoint: (kind, handler) for kind, handler in handlers.items()}
        self._queries = queries
        self._running: set[asyncio.Task[bool | None]] = set()
        self._lines: dict[str, _Line] = {}
        self._callers: dict[str, list[str]] = {}
        for kind in handlers:
            if kind.calls is not None:
                self._lines[kind.calls] = _Line()
                self._callers.setdefault(kind.calls, []).append(kind.entrypoint)

    @property
    def entrypoints(self) -> list[str]:
        return list(self._handlers)

    def abort(self) -> None:
        for task in self._running:
            task.cancel()

    async def run(self, row: models.Job) -> None:
        kind, handler = self._handlers[row.entrypoint]
        try:
            job = msgspec.json.decode(row.payload or b"", type=kind)
        except msgspec.DecodeError:
            raise self._rest(row, "the job cannot be read") from None
        if row.attempts and _tried_for(row) > TRIED_FOR:
            raise self._rest(row, "it has been tried for 20 hours")
        task = asyncio.create_task(_limited(handler(self._work, job), kind.limit_s))
        self._running.add(task)
        try:
            await asyncio.wait({task})
        finally:
            self._running.discard(task)
            task.cancel()
        if task.cancelled():
            raise RetryRequested(timedelta(0), "the worker stops")
        error = task.exception()
        if error is None:
            if task.result() is not False:
                await self._answered(kind)
            return
        await self._judge(row, kind, error)

    async def _judge(self, row: models.Job, kind: type[Job], error: BaseException) -> None:
        name = type(error).__name__
        if isinstance(error, FINAL):
            if not isinstance(error, GiveUp):
                await self._answered(kind)
            raise self._rest(row, f"{name}: {error}") from None
        if not isinstance(error, Exception):
            raise error
        retry_after_s: float | None = None
        known = isinstance(error, (*PROVIDER_DOWN, AppError))
        if known:
            retry_after_s = error.retry_after_s
        if isinstance(error, PROVIDER_DOWN) and kind.calls is not None:
            line = self._lines[kind.calls]
            line.failures += 1
            line.not_before = max(line.not_before, time.monotonic() + (retry_after_s or 0))
        delay_s = retry_delay_s(row.attempts, retry_after_s)
        logger().warning(
            "worker.job_failed",
            job=row.id,
            kind=row.entrypoint,
            attempt=row.attempts + 1,
            error=name,
            again_in_s=round(delay_s, 1),
            exc_info=None if known else error,
        )
        raise RetryRequested(timedelta(seconds=delay_s), name) from None

    def _rest(self, row: models.Job, reason: str) -> Rests:
        logger().error("worker.job_rests", job=row.id, kind=row.entrypoint, reason=reason)
        return Rests(reason)

    async def _answered(self, kind: type[Job]) -> None:
        """The provider is there. If it was not for a while, all that waits for it may come."""
        if kind.calls is None:
            return
        line = self._lines[kind.calls]
        was_down, line.failures, line.not_before = line.failures >= DOWN_AFTER, 0, 0.0
        if was_down:
            logger().warning("worker.provider_is_back", provider=kind.calls)
            await self._queries.come_forward(self._callers[kind.calls], COME_BACK_WITHIN)

    async def probe(self) -> None:
        """Try one waiting job now and then while a provider is down, so that its return is noticed soon.

        Left to their backoff alone, jobs would wait up to a quarter of an hour after it.
        """
        while True:
            await asyncio.sleep(PROBE_EVERY_S)
            for calls, line in self._lines.items():
                if line.failures >= DOWN_AFTER and time.monotonic() >= line.not_before:
                    await self._queries.probe(self._callers[calls])


async def _limited(handling: Awaitable[bool | None], limit_s: float) -> bool | None:
    async with asyncio.timeout(limit_s):
        return await handling


def _tried_for(row: models.Job) -> timedelta:
    """How long since the job was first due, by the database's clock, which wrote both times."""
    headers: Mapping[str, object] = row.headers or {}
    try:
        meant = timedelta(seconds=float(str(headers.get(DUE_AFTER, 0))))
    except ValueError:
        meant = timedelta(0)
    return row.updated - row.created - meant
