"""`/api/backlog`: what people miss or find broken. Anybody may write, unless the operator closed it."""

from datetime import datetime
from typing import Annotated, Any, Literal, LiteralString, NamedTuple, TypeAlias
from uuid import UUID

import msgspec
from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter
from msgspec import UNSET, Meta, UnsetType

from guildhall.db import Read, Write, new_id
from guildhall.errors import Forbidden, NotFound, TooManyRequests
from guildhall.spaces import audit
from guildhall.spaces.members import like
from guildhall.spaces.seats import as_uuid
from guildhall.web.body import Sent
from guildhall.web.caller import Guest
from guildhall.web.docs import facts
from guildhall.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor, offset
from guildhall.web.wire import Optional, Wire, clean_query, text

MAX_OPEN = 10_000

Type: TypeAlias = Literal["feature", "bug", "enhancement", "question"]
Priority: TypeAlias = Literal["high", "medium", "low"]
Session: TypeAlias = Literal["api", "web", "mobile", "onboarding", "account-portal"]
Status: TypeAlias = Literal["open", "in-progress", "done"]
Title = Annotated[str, text(1, 200), Meta(examples=["Show who pinned a post"])]
Description = Annotated[str, text(0, 5_000, "prose"), Meta(examples=["It is hard to tell whom to ask."])]
Endpoint = Annotated[str, text(0, 200), Meta(examples=["GET /api/posts"])]
SearchText = Annotated[str | None, Parameter(max_length=512, description="Part of a title or description.")]


class BacklogClosed(Forbidden):
    code = "backlog_closed"
    title = "The operator of this service has closed the backlog to changes. It can still be read."


class BacklogFull(TooManyRequests):
    code = "backlog_full"
    title = f"There are {MAX_OPEN} open items already. Some have to be done first."


class BacklogItem(Wire, frozen=True, kw_only=True):
    id: UUID
    title: str
    type: Type
    priority: Priority
    session: Session
    description: str | None
    api_endpoint: str | None
    status: Status
    created_at: str
    updated_at: str


class BacklogList(Optional, frozen=True, kw_only=True):
    """Newest first."""

    items: list[BacklogItem]
    page: int
    limit: int
    total: int
    has_more: bool
    next_cursor: str | None


class CreateItem(Wire, frozen=True, kw_only=True):
    title: Title
    type: Type
    priority: Priority
    session: Session
    description: Description | None = None
    api_endpoint: Endpoint | None = None
    status: Status = "open"


class UpdateItem(Wire, frozen=True, kw_only=True):
    """Absent fields stay as they are; null clears the two that may be empty."""

    title: Title | UnsetType = UNSET
    type: Type | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    session: Session | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    api_endpoint: Endpoint | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET


class Row(msgspec.Struct, frozen=True):
    id: UUID
    title: str
    type: Type
    priority: Priority
    session: Session
    description: str | None
    api_endpoint: str | None
    status: Status
    at: datetime
    created_at: str
    updated_at: str


_COLUMNS: LiteralString = (
    "id, title, type, priority, session, description, api_endpoint, status, created_at AS at,"
    " rfc3339(created_at) AS created_at, rfc3339(updated_at) AS updated_at"
)
_WANTED: LiteralString = (
    " deleted_at IS NULL AND ($1::text IS NULL OR status = $1) AND ($2::text IS NULL OR type = $2)"
    " AND ($3::text IS NULL OR priority = $3) AND ($4::text IS NULL OR session = $4)"
    " AND ($5::text IS NULL OR lower(title) LIKE $5 OR lower(description) LIKE $5)"
)


def _item(row: Row) -> BacklogItem:
    return BacklogItem(
        id=row.id,
        title=row.title,
        type=row.type,
        priority=row.priority,
        session=row.session,
        description=row.description,
        api_endpoint=row.api_endpoint,
        status=row.status,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


class Wanted(NamedTuple):
    """What to list: items that match all that is not None. `words` are a part of title or description."""

    status: Status | None
    type: Type | None
    priority: Priority | None
    session: Session | None
    words: str | None

    @property
    def values(self) -> tuple[str | None, ...]:
        """The arguments of the statement's conditions."""
        return (*self[:4], like(self.words.lower()) if self.words else None)


@get("/api/backlog", summary="List the backlog", opt=facts())
async def list_backlog(
    guest: NamedDependency[Guest],
    status: Status | None = None,
    item_type: Annotated[Type | None, Parameter(query="type")] = None,
    priority: Priority | None = None,
    item_session: Annotated[Session | None, Parameter(query="session")] = None,
    q: SearchText = None,
    page: Page = None,
    limit: Limit = None,
    cursor: Cursor = None,
) -> BacklogList:
    """What matches all that is asked for, newest first."""
    words = clean_query(q, "q")
    after = decode_cursor(cursor, tuple[datetime, UUID]) if cursor is not None else None
    number, size = page or 1, limit or 20
    skip = offset(number, size) if after is None else 0
    wanted = Wanted(status, item_type, priority, item_session, words)
    with guest.service.limiter.searching(guest.address, words):
        async with guest.db.reading() as read:
            rows = await list_items(read, wanted, after, size + 1, skip)
            counts = await count_items(read, wanted)
    shown, more = rows[:size], len(rows) > size
    return BacklogList(
        items=[_item(row) for row in shown],
        page=number,
        limit=size,
        total=sum(counts.values()),
        has_more=more,
        next_cursor=encode_cursor(shown[-1].at, shown[-1].id) if more else None,
    )


async def list_items(
    read: Read, wanted: Wanted, after: tuple[datetime, UUID] | None = None, limit: int = 100, skip: int = 0
) -> list[Row]:
    """What matches, newest first."""
    at, item_id = after or (None, None)
    return await read.many(
        Row,
        "SELECT " + _COLUMNS + " FROM backlog_items WHERE" + _WANTED + " AND ($6::timestamptz IS NULL"
        " OR (backlog_items.created_at, id) < ($6, $7::uuid))"
        " ORDER BY backlog_items.created_at DESC, id DESC LIMIT $8 OFFSET $9",
        *wanted.values,
        at,
        item_id,
        limit,
        skip,
    )


class Count(msgspec.Struct, frozen=True):
    status: Status
    items: int


async def count_items(read: Read, wanted: Wanted) -> dict[Status, int]:
    """How many match, by their status; one that none has is left out."""
    rows = await read.many(
        Count,
        "SELECT status, count(*) AS items FROM backlog_items WHERE" + _WANTED + " GROUP BY status",
        *wanted.values,
    )
    return {row.status: row.items for row in rows}


async def find_item(read: Read, raw_id: str) -> Row:
    """Raises NotFound."""
    row = await read.maybe(
        Row, "SELECT " + _COLUMNS + " FROM backlog_items WHERE id = $1 AND deleted_at IS NULL", _id(raw_id)
    )
    if row is None:
        raise NotFound
    return row


@post("/api/backlog", summary="Put something on the backlog", opt=facts(BacklogClosed, BacklogFull))
async def create_item(guest: NamedDependency[Guest], data: Sent[CreateItem]) -> BacklogItem:
    _check_open(guest)
    wanted = data.read()
    async with guest.db.writing() as tx:
        await _take(tx, guest)
        await _check_room(tx)
        row = await tx.one(
            Row,
            "INSERT INTO backlog_items"
            " (id, title, type, priority, session, description, api_endpoint, status)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING " + _COLUMNS,
            new_id(),
            wanted.title,
            wanted.type,
            wanted.priority,
            wanted.session,
            wanted.description or None,
            wanted.api_endpoint or None,
            wanted.status,
        )
        await audit.record(tx, guest, "backlog.create", target=row.id, after={"status": row.status})
    return _item(row)


@patch(
    "/api/backlog/{item_id:str}",
    summary="Change an item of the backlog",
    opt=facts(BacklogClosed, BacklogFull, NotFound),
)
async def update_item(guest: NamedDependency[Guest], item_id: str, data: Sent[UpdateItem]) -> BacklogItem:
    wanted_id = _id(item_id)
    async with guest.db.writing() as tx:
        before = await _lock(tx, guest, wanted_id)
        wanted = data.read()
        await _take(tx, guest)
        if before.status == "done" and wanted.status not in (UNSET, "done"):
            await _check_room(tx)
        changes = {n: v for n, v in msgspec.structs.asdict(wanted).items() if v is not UNSET}
        if not changes:
            return _item(before)
        row = await _update(tx, wanted_id, changes)
        await audit.record(
            tx,
            guest,
            "backlog.update",
            target=row.id,
            before={"status": before.status},
            after={"status": row.status, "fields": sorted(changes)},
        )
    return _item(row)


async def _update(tx: Write, item_id: UUID, changes: dict[str, Any]) -> Row:
    return await tx.one(
        Row,
        """
        UPDATE backlog_items
           SET title = CASE WHEN 'title' = ANY ($2) THEN $3 ELSE title END,
               type = CASE WHEN 'type' = ANY ($2) THEN $4 ELSE type END,
               priority = CASE WHEN 'priority' = ANY ($2) THEN $5 ELSE priority END,
               session = CASE WHEN 'session' = ANY ($2) THEN $6 ELSE session END,
               description = CASE WHEN 'description' = ANY ($2) THEN $7 ELSE description END,
               api_endpoint = CASE WHEN 'api_endpoint' = ANY ($2) THEN $8 ELSE api_endpoint END,
               status = CASE WHEN 'status' = ANY ($2) THEN $9 ELSE status END,
               updated_at = now()
         WHERE id = $1
        RETURNING """
        + _COLUMNS,
        item_id,
        list(changes),
        changes.get("title"),
        changes.get("type"),
        changes.get("priority"),
        changes.get("session"),
        changes.get("description") or None,
        changes.get("api_endpoint") or None,
        changes.get("status"),
    )


@delete(
    "/api/backlog/{item_id:str}",
    summary="Take an item off the backlog",
    opt=facts(BacklogClosed, NotFound),
)
async def delete_item(guest: NamedDependency[Guest], item_id: str) -> None:
    """The operator can bring it back for 30 days."""
    wanted_id = _id(item_id)
    async with guest.db.writing() as tx:
        await _lock(tx, guest, wanted_id)
        await _take(tx, guest)
        await tx.run("UPDATE backlog_items SET deleted_at = now() WHERE id = $1", wanted_id)
        await audit.record(tx, guest, "backlog.delete", target=wanted_id)


def _id(raw_id: str) -> UUID:
    if (item_id := as_uuid(raw_id)) is None:
        raise NotFound
    return item_id


def _check_open(guest: Guest) -> None:
    if not guest.service.backlog_open:
        raise BacklogClosed


async def _lock(tx: Write, guest: Guest, item_id: UUID) -> Row:
    """The item, nobody else's to change until the transaction ends. Raises NotFound, BacklogClosed."""
    found = await tx.maybe(
        Row,
        "SELECT " + _COLUMNS + " FROM backlog_items WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
        item_id,
    )
    if found is None:
        raise NotFound
    _check_open(guest)
    return found


async def _take(tx: Write, guest: Guest) -> None:
    await guest.service.limiter.take_exact(
        tx, ("backlog from an address", guest.address), ("backlog", "everybody")
    )


async def _check_room(tx: Write) -> None:
    """Raises BacklogFull. One at a time, so that two cannot take the last place."""
    await tx.run("SELECT pg_advisory_xact_lock(hashtext('guildhall backlog'))")
    if await tx.value(
        "SELECT count(*) >= $1 FROM backlog_items WHERE deleted_at IS NULL AND status <> 'done'", MAX_OPEN
    ):
        raise BacklogFull(retry_after_s=3600)


class Deleted(msgspec.Struct, frozen=True):
    id: UUID
    type: str
    status: str
    title: str
    deleted_at: str


async def list_deleted(read: Read, limit: int | None) -> list[Deleted]:
    """What can be brought back, the last deleted first."""
    return await read.many(
        Deleted,
        "SELECT id, type, status, title, rfc3339(deleted_at) AS deleted_at FROM backlog_items"
        " WHERE deleted_at > now() - interval '30 days' ORDER BY backlog_items.deleted_at DESC LIMIT $1",
        limit,
    )


async def restore_item(tx: Write, item_id: UUID) -> bool:
    """Bring a deleted item back, for the operator; False when there is none to bring back."""
    restored = await tx.run(
        "UPDATE backlog_items SET deleted_at = NULL"
        " WHERE id = $1 AND deleted_at > now() - interval '30 days'",
        item_id,
    )
    if restored:
        await audit.record(tx, None, "backlog.restore", target=item_id)
    return restored == 1


ROUTES: list[HTTPRouteHandler] = [list_backlog, create_item, update_item, delete_item]
