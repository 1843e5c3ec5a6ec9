"""Work that follows a change: a job is written in the transaction that causes it, and runs after it.

A job carries ids and reads fresh rows when it runs. It may run twice, late, or beside its twin, so it
brings things into the state the database then has, or gives the receiver a key to know a repeat by.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, TypeAlias

import msgspec
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from guildhall.db import Write


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all jobs; `entrypoint` names the kind in the queue and never changes once released."""

    entrypoint: ClassVar[str]


async def put(tx: Write, *jobs: Job, after: timedelta | None = None) -> None:
    """Leave `jobs` in this transaction: they exist exactly when the change does. One round trip."""
    if not jobs:
        return
    tx.count()
    queue = Queries(AsyncpgDriver(tx.connection))  # pyright: ignore[reportArgumentType] - a pooled one serves as well
    payloads: list[bytes | None] = [msgspec.json.encode(job) for job in jobs]
    delays: list[timedelta | None] = [after] * len(jobs)
    await queue.enqueue([job.entrypoint for job in jobs], payloads, [0] * len(jobs), delays)


Handler: TypeAlias = Callable[[Any, Any], Awaitable[None]]
Handlers: TypeAlias = Mapping[type[Job], Handler]
