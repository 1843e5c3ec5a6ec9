"""Work that follows a change: a job is written in the transaction that causes it, and runs after it.

A job carries ids and reads fresh rows when it runs. It may run twice, late, or beside its twin, so it
brings things into the state the database then has, or gives the receiver a key to know a repeat by.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from guildhall.db import Write

BEHIND_THE_REST = -10
DUE_AFTER = "due_after_s"


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all jobs; `entrypoint` names the kind in the queue and never changes once released.

    `calls` is the provider the job speaks to: when that is down, its jobs wait for it together. What has not
    ended after `limit_s` is broken off, and tried again.
    """

    entrypoint: ClassVar[str]
    calls: ClassVar[Literal["chat", "email"] | None] = None
    limit_s: ClassVar[float] = 15 * 60.0


class Chore(msgspec.Struct, frozen=True):
    """A job that nobody waits for. While one with the same key is waiting or running, another is not left."""

    job: Job
    key: str
    after: timedelta | None = None


class Scheduled(msgspec.Struct, frozen=True):
    """A job that time causes: when the cron expression says so, in UTC, and at a worker's start if asked."""

    cron: str
    job: Job
    at_start: bool = False


async def put(tx: Write, *jobs: Job, after: timedelta | None = None) -> None:
    """Leave `jobs` in this transaction: they exist exactly when the change does. One round trip."""
    if not jobs:
        return
    tx.count()
    payloads: list[bytes | None] = [msgspec.json.encode(job) for job in jobs]
    await _queue(tx).enqueue(
        [job.entrypoint for job in jobs],
        payloads,
        [0] * len(jobs),
        [after] * len(jobs),
        headers=[_headers(after)] * len(jobs),
    )


async def put_chores(tx: Write, chores: Sequence[Chore]) -> None:
    """Leave chores behind all other work, each unless its like is there already. One round trip."""
    if not chores:
        return
    tx.count()
    payloads: list[bytes | None] = [msgspec.json.encode(chore.job) for chore in chores]
    await _queue(tx).enqueue(
        [chore.job.entrypoint for chore in chores],
        payloads,
        [BEHIND_THE_REST] * len(chores),
        [chore.after for chore in chores],
        [chore.key for chore in chores],
        [_headers(chore.after) for chore in chores],
        on_conflict="skip",
    )


def _queue(tx: Write) -> Queries:
    return Queries(AsyncpgDriver(tx.connection))  # pyright: ignore[reportArgumentType] - a pooled one serves as well


def _headers(after: timedelta | None) -> dict[str, str] | None:
    # Whoever judges how long a job has been tried must know how long it was meant to wait.
    return {DUE_AFTER: str(after.total_seconds())} if after else None


Handler: TypeAlias = Callable[[Any, Any], Awaitable[bool | None]]
"""Takes the worker's `Work` and the job. False says that the provider the job `calls` was not asked."""
Handlers: TypeAlias = Mapping[type[Job], Handler]
