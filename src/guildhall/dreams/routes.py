"""`/v1/dreams`: having a hub tidied up, what came of it, and taking it back."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter
from litestar.response.base import ASGIResponse
from msgspec import UNSET

from guildhall import outbox
from guildhall.db import Write, new_id
from guildhall.dreams import operations, queries, reading
from guildhall.dreams.jobs import DreamAsked, tell_of
from guildhall.dreams.schemas import (
    DreamDetail,
    DreamList,
    DreamReport,
    DreamUsage,
    Intelligence,
    LatestRun,
    NotUndone,
    PendingReview,
    Queued,
    UndoDream,
    Undone,
)
from guildhall.errors import Conflict, Forbidden, NotFound
from guildhall.events.event import tell_members
from guildhall.hubs.schemas import made, sent
from guildhall.inbox.routes import read_cursor, read_limit
from guildhall.inbox.rules import InvalidCursor, InvalidLimit
from guildhall.memories.context import HubHeader, HubQuery, reading_names
from guildhall.memories.routes import CursorQuery
from guildhall.memories.rules import HubNotFound
from guildhall.spaces.notices import tell_settled
from guildhall.spaces.seats import HubSeat, NotMember, as_uuid, lock_hub_seat
from guildhall.topics.rules import MissingHub
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, check_alive, explain_absence
from guildhall.web.docs import facts
from guildhall.web.paging import encode_cursor
from guildhall.web.wire import Data

DEFAULT, MOST = 20, 100

LimitQuery = Annotated[
    str | None, Parameter(max_length=16, description="How many at most, up to 100; 20 where absent.")
]


class HubFrozen(Conflict):
    code = "hub_frozen"
    title = "This hub is frozen: nothing in it is changed."


class DreamsDisabled(Conflict):
    code = "dreams_disabled"
    title = "Dreams are switched off in this hub's settings."


class DreamRunning(Conflict):
    code = "dream_running"
    title = "The run is still going on. Take it back when it has ended."


async def _lock(tx: Write, caller: Caller, hub: str) -> HubSeat:
    """The seat in a hub of somebody who may have it tidied up, the hub locked. Raises Forbidden."""
    seat = await lock_hub_seat(tx, caller, hub)
    allowed = seat.role in ("owner", "admin") or (
        seat.role == "contributor"
        and await tx.value("SELECT allow_contributor_dreams FROM spaces WHERE id = $1", seat.space)
    )
    if not allowed:
        raise Forbidden("Your role here does not let you have this hub tidied up.")
    return seat


@post(
    "/v1/dreams/trigger",
    status_code=200,
    summary="Have a hub tidied up",
    opt=facts(
        NotMember,
        MissingHub,
        HubNotFound,
        Forbidden,
        HubFrozen,
        DreamsDisabled,
        limits=("batch",),
        atom="dream:run",
    ),
)
async def trigger_dream(
    caller: NamedDependency[Caller], hub_id: HubQuery = None, hub: HubHeader = None
) -> Data[Queued]:
    """Soon, by a worker. Where a run is going on, this one is noted as skipped."""
    async with caller.db.writing() as tx:
        wanted = hub or hub_id
        if not wanted:
            await check_alive(tx, caller)
            usual: UUID | None = await tx.value("SELECT usual_hub($1, $2)", caller.user, caller.session)
            if usual is None:
                raise MissingHub
            wanted = str(usual)
        try:
            seat = await _lock(tx, caller, wanted)
        except NotMember as error:
            if hub:
                raise
            raise HubNotFound from error
        found = await queries.lock_hub(tx, seat.space)
        assert found is not None
        if found.frozen:
            raise HubFrozen
        if not found.allows("dreams_enabled"):
            raise DreamsDisabled
        await outbox.put(tx, DreamAsked(run_id=new_id(), space_id=seat.space, asked_by=seat.user))
        tell_members(tx, seat.space, "hub.dreams.changed", actor=seat.user)
    return Data(Queued(status="queued"))


@get(
    "/v1/dreams",
    summary="List the runs of one's hubs",
    opt=facts(Forbidden, InvalidLimit, InvalidCursor, answers=Data[DreamList], atom="dream:read"),
)
async def list_dreams(
    caller: NamedDependency[Caller],
    hub_id: HubQuery = None,
    limit: LimitQuery = None,
    cursor: CursorQuery = None,
    hub: HubHeader = None,
) -> ASGIResponse:
    """Of the hub that is named, else of all one is in; the latest first."""
    wanted = as_uuid(hub_id) if hub_id else None
    async with caller.db.reading() as read:
        await check_alive(read, caller)
        if hub_id and wanted is None:
            raise Forbidden
        size, after = read_limit(limit, DEFAULT, MOST), read_cursor(cursor)
        page = await reading.list_runs(read, caller, wanted, size, after)
        if not hub_id and hub and (active := as_uuid(hub)) is not None:
            narrowed = await reading.list_runs(read, caller, active, size, after)
            # A client may hold the id of a hub that is gone.
            page = narrowed if narrowed is not None and narrowed.space_id is not None else page
        if page is None:
            raise await explain_absence(read, caller)
    if hub_id and page.space_id is None:
        raise Forbidden
    rows, ids, started = page.rows or [], page.ids or [], page.started or []
    shown: list[Any] = [made(row) for row in rows[:size]]
    if len(rows) > size:
        return sent(DreamList(runs=shown, next_cursor=encode_cursor(started[size - 1], ids[size - 1])))
    return sent(DreamList(runs=shown))


@get(
    "/v1/dreams/report",
    summary="Read what the latest run of a hub did",
    opt=facts(MissingHub, answers=Data[DreamReport], atom="dream:read"),
)
async def read_dream_report(
    caller: NamedDependency[Caller], hub_id: HubQuery = None, hub: HubHeader = None
) -> ASGIResponse:
    """And what waits for decisions in it."""
    async with caller.db.reading() as read:
        found = await reading.read_report(read, caller, *reading_names(hub, hub_id))
        if found is None:
            raise await explain_absence(read, caller)
    if found.space_id is None:
        raise MissingHub
    pending = PendingReview(
        contradictions=found.contradictions,
        topic_merges=found.joins,
        topic_restructures=found.nests,
        total=found.contradictions + found.joins + found.nests,
    )
    if found.run is None:
        return sent(
            DreamReport(
                has_run=False,
                message="This hub was not tidied up yet.",
                intelligence=Intelligence(pending_review=pending),
            )
        )
    latest = _latest(found.run)
    return sent(
        DreamReport(
            has_run=True,
            run=made(found.run),
            actions=made(found.actions),
            intelligence=Intelligence(pending_review=pending, latest_run=latest),
        )
    )


def _latest(run: str) -> LatestRun:
    counts: dict[str, Any] = msgspec.json.decode(run)
    return LatestRun(
        merged=counts["duplicates_merged"],
        contradictions_found=counts["contradictions_found"],
        archived=counts["memories_archived"],
        organized=counts["memories_organized"],
        restructured=counts["topics_restructured"],
    )


@get(
    "/v1/dreams/{run_id:str}",
    summary="Read a run and all it did",
    opt=facts(NotFound, answers=Data[DreamDetail], atom="dream:read"),
)
async def read_dream(caller: NamedDependency[Caller], run_id: str) -> ASGIResponse:
    wanted = as_uuid(run_id)
    async with caller.db.reading() as read:
        if wanted is None:
            await check_alive(read, caller)
            raise NotFound
        found = await reading.find_run(read, caller, wanted)
        if found is None:
            raise await explain_absence(read, caller)
    if found.run is None:
        raise NotFound
    return sent(DreamDetail(run=made(found.run), actions=made(found.actions)))


async def _hold(tx: Write, caller: Caller, run_id: str) -> tuple[HubSeat, queries.Run]:
    """A run to take back, its hub locked. Raises NotFound, Forbidden."""
    wanted = as_uuid(run_id)
    if wanted is None:
        await check_alive(tx, caller)
        raise NotFound
    seen = await queries.find_run(tx, wanted)
    # Of a run that never was as much is asked, or the time that takes would tell which runs there are.
    hub = new_id() if seen is None else seen.space_id
    try:
        seat = await _lock(tx, caller, str(hub))
    except NotMember as error:
        raise NotFound from error
    run = await queries.find_run(tx, wanted)
    if run is None:
        raise NotFound
    return seat, run


async def _undo(tx: Write, seat: HubSeat, run: queries.Run, wanted: list[UUID] | None) -> Undone:
    if run.status == "running":
        raise DreamRunning
    actions = await queries.list_applied(tx, seat.space, run.id, wanted)
    undone: list[str] = []
    skipped: list[NotUndone] = []
    for action in actions:
        # Another one of the same run may have changed what is known of it.
        problem = await operations.undo(tx, action)
        if problem is not None:
            skipped.append(NotUndone(id=str(action.id), reason=problem))  # pyright: ignore[reportArgumentType]
            continue
        await queries.note_undone(tx, action, seat.user)
        tell_of(tx, action, seat.user, personal=seat.personal)
        undone.append(str(action.id))
    known = {action.id for action in actions}
    skipped += [NotUndone(id=str(id), reason="not_applied") for id in wanted or () if id not in known]
    # A topic that went with it may have waited for somebody's decision.
    await tell_settled(tx, seat.user)
    if undone:
        tell_members(tx, seat.space, "hub.dreams.changed", actor=seat.user)
    return Undone(undone=undone, skipped=skipped)


@post(
    "/v1/dreams/{run_id:str}/undo",
    status_code=200,
    summary="Take back what a run did",
    opt=facts(NotFound, Forbidden, DreamRunning, limits=("batch",), atom="dream:run", bodiless=True),
)
async def undo_dream(caller: NamedDependency[Caller], run_id: str, data: Sent[UndoDream]) -> Data[Undone]:
    """All of it, or what is named, the last first. What somebody changed since stays as they left it."""
    async with caller.db.writing() as tx:
        seat, run = await _hold(tx, caller, run_id)
        wanted = data.read().action_ids
        ids = None if wanted is UNSET else [id for raw in dict.fromkeys(wanted) if (id := as_uuid(raw))]
        return Data(await _undo(tx, seat, run, ids))


@post(
    "/v1/dreams/{run_id:str}/actions/{action_id:str}/undo",
    status_code=200,
    summary="Take back one thing that a run did",
    opt=facts(NotFound, Forbidden, DreamRunning, atom="dream:run"),
)
async def undo_dream_action(caller: NamedDependency[Caller], run_id: str, action_id: str) -> Data[Undone]:
    async with caller.db.writing() as tx:
        seat, run = await _hold(tx, caller, run_id)
        wanted = as_uuid(action_id)
        found = None if wanted is None else await queries.find_action(tx, seat.space, wanted)
        if found is None or found.run_id != run.id:
            raise NotFound
        return Data(await _undo(tx, seat, run, [found.id]))


@get(
    "/v1/usage/dreams",
    summary="Read how often a hub was tidied up",
    opt=facts(Forbidden, answers=Data[DreamUsage], atom="dream:read"),
)
async def read_dream_usage(caller: NamedDependency[Caller], hub_id: HubQuery = None) -> ASGIResponse:
    """In this month; there is no limit."""
    wanted = as_uuid(hub_id) if hub_id else None
    async with caller.db.reading() as read:
        if hub_id and wanted is None:
            await check_alive(read, caller)
            raise Forbidden
        found = await reading.read_usage(read, caller, wanted)
        if found is None:
            raise await explain_absence(read, caller)
    if found.space_id is None:
        raise Forbidden
    return sent(
        DreamUsage(
            scope="personal" if found.is_personal else "hub",
            hub_id=str(found.space_id),
            tier="basic",
            mode="soft",
            limit=-1,
            used=found.used,
            allowed=True,
            period_start=found.period_start,
            period_end=found.period_end,
            quota_source="none",
        )
    )


ROUTES: list[HTTPRouteHandler] = [
    trigger_dream,
    list_dreams,
    read_dream_report,
    read_dream,
    undo_dream,
    undo_dream_action,
    read_dream_usage,
]
