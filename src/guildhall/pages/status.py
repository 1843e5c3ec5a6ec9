"""For the operators named in the settings: is the service well, what waits, what failed, what was mailed."""

from datetime import datetime

import anyio.to_thread
import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from guildhall.db import Read
from guildhall.errors import NotFound
from guildhall.pages.frame import Frame, page_facts, require_frame
from guildhall.pages.outbox import latest_mails
from guildhall.pages.render import page
from guildhall.web.app import Answer
from guildhall.web.caller import Caller
from guildhall.web.docs import facts
from guildhall.worker.resting import list_failed, retry_failed

MAILS_SHOWN = 10


class Waiting(msgspec.Struct, frozen=True):
    """How many jobs of a kind wait or run, and since when the oldest of them is due."""

    kind: str
    count: int
    due_since: datetime


async def _operator(read: Read, caller: Caller) -> Frame:
    """Raises NotFound for everybody else: whether there is a status page is not theirs to know."""
    me = await require_frame(read, caller)
    if not me.operator:
        raise NotFound
    return me


@get("/status", opt=page_facts())
async def show_status(caller: NamedDependency[Caller]) -> Answer:
    async with caller.db.reading() as read:
        me = await _operator(read, caller)
        waiting = await read.many(
            Waiting,
            "SELECT entrypoint AS kind, count(*)::int AS count, min(execute_after) AS due_since"
            " FROM pgqueuer WHERE status IN ('queued', 'picked') GROUP BY entrypoint ORDER BY entrypoint",
        )
        database = await read.value("SELECT current_setting('server_version')")
    pulse = await caller.db.pulse()
    failed = await list_failed(caller.db)
    folder = caller.service.outbox
    mails = await anyio.to_thread.run_sync(latest_mails, folder, MAILS_SHOWN) if folder else None
    return page(
        caller.service,
        "status",
        me,
        worker=pulse.worker,
        database=database,
        waiting=waiting,
        failed=failed,
        mails=mails,
        chat=caller.service.chat is not None,
        issuer="embedded" if caller.service.issuer else "clerk",
    )


@post("/status/jobs/{job_id:int}/retry", status_code=204, opt=facts(NotFound))
async def retry_job(caller: NamedDependency[Caller], job_id: int) -> None:
    async with caller.db.reading() as read:
        await _operator(read, caller)
    if not 0 < job_id < 2**31 or not await retry_failed(caller.db, job_id):
        raise NotFound


ROUTES: list[HTTPRouteHandler] = [show_status, retry_job]
