"""`/v1/notifications`: the inbox, of hubs and of communities."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar import get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from guildhall.errors import Forbidden, Invalid, NotFound
from guildhall.hubs.rules import OwnershipCapExceeded
from guildhall.inbox import actions, queries, rules
from guildhall.inbox.schemas import (
    Affected,
    Bulk,
    Counts,
    Dismissed,
    Notification,
    NotificationList,
    NotificationSummary,
    Resolve,
    Resolved,
    Seen,
)
from guildhall.spaces.notices import KINDS
from guildhall.spaces.rules import AlreadyMember, MemberCapExceeded
from guildhall.spaces.seats import as_uuid
from guildhall.spaces.transfer import TransferInvalid
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, check_alive, read_body
from guildhall.web.docs import facts
from guildhall.web.paging import decode_cursor, encode_cursor
from guildhall.web.wire import Data

DEFAULT, MOST = 50, 500

HubParam = Annotated[str | None, Parameter(max_length=64, description="Only what concerns this hub.")]
StatusParam = Annotated[
    str | None,
    Parameter(max_length=16, description="pending, resolved, dismissed or expired; pending where absent."),
]
KindParam = Annotated[
    list[str] | None, Parameter(max_items=100, description="Only of these kinds; may be repeated.")
]
ResolutionParam = Annotated[
    list[str] | None, Parameter(max_items=100, description="Only resolved as these; may be repeated.")
]
UnseenParam = Annotated[str | None, Parameter(max_length=16, description="Only unseen ones, if `true`.")]
SinceParam = Annotated[
    str | None, Parameter(max_length=64, description="Only from this time on, with its zone.")
]
LimitParam = Annotated[
    str | None, Parameter(max_length=16, description="How many at most, up to 500; 50 where absent.")
]
CursorParam = Annotated[
    str | None, Parameter(max_length=512, description="The `next_cursor` of the page before.")
]
HubHeader = Annotated[
    str | None, Parameter(header="X-Hub-ID", max_length=64, description="The hub, where the body names none.")
]


def read_hub(raw: str | None) -> tuple[UUID | None, bool]:
    """A hub to look into; False when there cannot be one of this id, so that nothing is found."""
    if not raw:
        return None, True
    hub = as_uuid(raw)
    return hub, hub is not None


def read_since(raw: str | None) -> datetime | None:
    """Raises InvalidSince."""
    if not raw:
        return None
    try:
        since = datetime.fromisoformat(raw)
    except ValueError as error:
        raise rules.InvalidSince from error
    # Of other years the database would make something else.
    if since.tzinfo is None or not 1970 <= since.year < 9999:
        raise rules.InvalidSince
    return since


def read_limit(raw: str | None, default: int, most: int) -> int:
    """How many rows, `most` at most. Raises InvalidLimit."""
    if raw is None:
        return default
    if not (raw.isascii() and raw.isdigit() and int(raw) > 0):
        raise rules.InvalidLimit
    return min(int(raw), most)


def read_cursor(raw: str | None) -> tuple[datetime, UUID] | None:
    """Raises InvalidCursor."""
    try:
        return decode_cursor(raw, tuple[datetime, UUID]) if raw else None
    except Invalid as error:
        raise rules.InvalidCursor from error


@get(
    "/v1/notifications",
    summary="List what one is told",
    opt=facts(rules.InvalidSince, rules.InvalidLimit, rules.InvalidCursor, atom="dream:read"),
)
async def list_notifications(
    caller: NamedDependency[Caller],
    hub: HubParam = None,
    status: StatusParam = None,
    kind: KindParam = None,
    resolution: ResolutionParam = None,
    unseen_only: UnseenParam = None,
    since: SinceParam = None,
    limit: LimitParam = None,
    cursor: CursorParam = None,
) -> Data[NotificationList]:
    """Newest first. Of a hub that one is not in, nothing."""
    size = read_limit(limit, DEFAULT, MOST)
    hub_id, known = read_hub(hub)
    wanted = queries.Filter(
        hub=hub_id,
        status=status or "pending",
        kinds=kind or None,
        resolutions=resolution or None,
        unseen_only=unseen_only == "true",
        since=read_since(since),
        before=read_cursor(cursor),
        limit=size + 1,
    )
    async with caller.db.reading() as read:
        rows = await queries.list_rows(read, caller, wanted) if known else []
        if not rows:
            await check_alive(read, caller)
    shown, more = rows[:size], len(rows) > size
    page = NotificationList(notifications=[Notification.of(row) for row in shown], has_more=more)
    if more:
        last = encode_cursor(shown[-1].created_at, shown[-1].id)
        page = NotificationList(notifications=page.notifications, has_more=True, next_cursor=last)
    return Data(page)


@get(
    "/v1/notifications/summary",
    summary="Count what one is told",
    opt=facts(atom="dream:read"),
)
async def summarise_notifications(
    caller: NamedDependency[Caller], hub: HubParam = None
) -> Data[NotificationSummary]:
    hub_id, known = read_hub(hub)
    async with caller.db.reading() as read:
        counts = await queries.count_rows(read, caller, hub_id) if known else []
        if not counts:
            await check_alive(read, caller)
    updates = [count for count in counts if count.bucket == "update"]
    by_kind = {kind: Counts(pending=0, unseen=0) for kind in KINDS}
    by_kind |= {count.kind: Counts(pending=count.pending, unseen=count.unseen) for count in counts}
    return Data(
        NotificationSummary(
            needs_action_pending=sum(count.pending for count in counts if count.bucket == "action"),
            updates_pending=sum(count.pending for count in updates),
            updates_unseen=sum(count.unseen for count in updates),
            by_kind=by_kind,
        )
    )


@post(
    "/v1/notifications/{notification_id:str}/seen",
    status_code=200,
    summary="Mark a notification as seen",
    opt=facts(NotFound, atom="dream:read"),
)
async def see_notification(caller: NamedDependency[Caller], notification_id: str) -> Data[Seen]:
    async with caller.db.writing() as tx:
        await actions.see(tx, caller, notification_id)
    return Data(Seen(status="seen"))


@post(
    "/v1/notifications/{notification_id:str}/dismiss",
    status_code=200,
    summary="Put a notification away",
    opt=facts(NotFound, rules.DismissNotApplicable, atom="dream:read"),
)
async def dismiss_notification(caller: NamedDependency[Caller], notification_id: str) -> Data[Dismissed]:
    """Only what needs no decision; a decision is resolved."""
    async with caller.db.writing() as tx:
        await actions.dismiss(tx, caller, notification_id)
    return Data(Dismissed(status="dismissed"))


@post(
    "/v1/notifications/seen",
    status_code=200,
    summary="Mark all that need no decision as seen",
    opt=facts(rules.BulkNotAllowed, rules.InvalidSince, atom="dream:read", bodiless=True),
)
async def see_all(
    caller: NamedDependency[Caller], data: Sent[Bulk], active_hub: HubHeader = None
) -> Data[Affected]:
    which, known = _read_bulk(await read_body(caller, data), active_hub)
    async with caller.db.writing() as tx:
        return Data(Affected(affected=await actions.mark_all(tx, caller, which, "seen") if known else 0))


@post(
    "/v1/notifications/dismiss",
    status_code=200,
    summary="Put all away that need no decision",
    opt=facts(rules.BulkNotAllowed, rules.InvalidSince, atom="dream:read", bodiless=True),
)
async def dismiss_all(
    caller: NamedDependency[Caller], data: Sent[Bulk], active_hub: HubHeader = None
) -> Data[Affected]:
    which, known = _read_bulk(await read_body(caller, data), active_hub)
    async with caller.db.writing() as tx:
        return Data(Affected(affected=await actions.mark_all(tx, caller, which, "dismissed") if known else 0))


def _read_bulk(wanted: Bulk, header: str | None) -> tuple[queries.Which, bool]:
    actions.check_kinds(wanted.kinds)
    hub, known = read_hub(wanted.hub or header)
    return queries.Which(hub=hub, kinds=wanted.kinds or None, since=read_since(wanted.since)), known


@post(
    "/v1/notifications/{notification_id:str}/resolve",
    status_code=200,
    summary="Decide about a notification",
    opt=facts(
        NotFound,
        rules.ResolveNotApplicable,
        rules.UnsupportedKind,
        rules.InvalidAction,
        rules.NotPending,
        rules.InviteNotFound,
        rules.InviteExpired,
        rules.InviteUsed,
        rules.InviteRevoked,
        rules.InviteWrongInvitee,
        AlreadyMember,
        MemberCapExceeded,
        rules.TransferNotFound,
        rules.TransferExpired,
        rules.TransferAccepted,
        rules.TransferCanceled,
        TransferInvalid,
        OwnershipCapExceeded,
        Forbidden,
        rules.MergeTargetMissing,
        rules.MergeSourceMissing,
        rules.MergeCycle,
        rules.MergeTopicArchived,
        rules.RestructureChildMissing,
        rules.RestructureParentMissing,
        rules.RestructureCycle,
        rules.RestructureTopicArchived,
        rules.TopicNameTaken,
        atom="dream:read",
    ),
)
async def resolve_notification(
    caller: NamedDependency[Caller], notification_id: str, data: Sent[Resolve]
) -> Data[Resolved]:
    """Does what the direct call does, to an invite or an offered ownership: accept or decline it. Of what a
    dream proposes it does what is said, or nothing, for all who were asked."""
    action = (await read_body(caller, data)).action
    try:
        async with caller.db.writing() as tx:
            resolution = await actions.resolve(tx, caller, notification_id, action)
    except rules.GONE:
        # What it stood for is over, and so is the wait for it.
        async with caller.db.writing() as tx:
            await actions.close_groundless(tx, caller, notification_id)
        raise
    return Data(Resolved(status="resolved", action=action, resolution=resolution))


ROUTES: list[HTTPRouteHandler] = [
    list_notifications,
    summarise_notifications,
    see_all,
    dismiss_all,
    see_notification,
    dismiss_notification,
    resolve_notification,
]
