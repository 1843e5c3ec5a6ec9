"""`/v1/memories`: what hubs know, one by one."""

from datetime import datetime
from typing import Annotated, Any, cast, get_args
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter
from litestar.response.base import ASGIResponse
from litestar.types import Scope
from msgspec import UNSET

from guildhall import outbox, usage
from guildhall.errors import Forbidden, Invalid, NotFound
from guildhall.hubs.rules import BadField
from guildhall.hubs.schemas import json_type, made, sent
from guildhall.inbox.rules import InvalidCursor
from guildhall.memories import actions, files, lists, queries, rules
from guildhall.memories.context import (
    HubHeader,
    HubQuery,
    TopicQuery,
    read_topic,
    reading_names,
    writing_place,
)
from guildhall.memories.rules import State
from guildhall.memories.schemas import (
    Deleted,
    Memory,
    MemoryList,
    PushMemory,
    UpdateMemory,
    VersionList,
)
from guildhall.spaces.jobs import RemainsLeft
from guildhall.spaces.seats import NotMember, as_uuid
from guildhall.web.app import Raw
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, check_alive, explain_absence
from guildhall.web.docs import facts
from guildhall.web.paging import decode_cursor, encode_cursor
from guildhall.web.wire import Data

DEFAULT, MOST = 20, 50

LimitQuery = Annotated[
    str | None, Parameter(max_length=16, description="How many at most, up to 50; 20 where absent.")
]
CursorQuery = Annotated[
    str | None, Parameter(max_length=512, description="The `next_cursor` of the page before.")
]
SortQuery = Annotated[
    str | None, Parameter(max_length=16, description="newest, or relevant for those used most first.")
]
KindQuery = Annotated[str | None, Parameter(max_length=16, description="Only of this kind.")]
CreatedQuery = Annotated[
    str | None,
    Parameter(max_length=64, description="Only from then on: a time with its zone, or as 12h, 7d, 2w ago."),
]
BeforeQuery = Annotated[
    str | None, Parameter(max_length=64, description="Only from before then, said as for created_after.")
]
StateQuery = Annotated[
    str | None,
    # A handler's own `state` is something else to the framework.
    Parameter(
        query="state",
        max_length=16,
        description="active, processing, archived or all; without, all but archived.",
    ),
]
TagsQuery = Annotated[
    list[str] | None, Parameter(max_items=50, description="Only with this tag; with all of several.")
]
ActorQuery = Annotated[
    str | None,
    Parameter(max_length=200, description="Only by: self, agent:NAME, author:NAME; all for everybody."),
]

CLAIM_REJECTED = (b"x-memax-warning", b"agent_identity_claim_rejected")


def passed_on(memory: str, status: int = 200, *more: tuple[bytes, bytes]) -> Raw:
    """A memory that the database has written, in the envelope."""
    return Raw(status, (json_type, *more), b'{"data":' + memory.encode() + b"}")


@post(
    "/v1/memories",
    summary="Push a memory",
    opt=facts(
        NotMember,
        rules.NoWriteAccess,
        rules.MissingContent,
        rules.ContentTooComplex,
        files.InvalidFileRef,
        rules.InvalidTags,
        rules.InvalidOccurredAt,
        rules.InvalidThread,
        rules.InvalidProjectContext,
        rules.ConflictingAttribution,
        rules.AttributionConflict,
        rules.CollaboratorRequiresHuman,
        rules.UnknownCollaborator,
        rules.HubFrozen,
        rules.HubFull,
        rules.PersonalHubFull,
        usage.QuotaExceeded,
        limits=("content",),
        answers=Data[Memory],
        also={200: Data[Memory]},
        atom="memory:write",
    ),
)
async def push_memory(
    caller: NamedDependency[Caller], data: Sent[PushMemory], hub: HubHeader = None
) -> ASGIResponse:
    """201 with a new memory; 200 with the one that was pushed before, from the same path or with the same
    content, or that the sender was just shown. What was pushed is found by the next request."""
    wanted = writing_place(hub)
    try:
        pushed = data.read()
        text = await actions.text_of(pushed) if pushed.file_ref is UNSET else None
        if text is None:
            async with caller.db.writing() as tx:
                kept = await files.push_file(tx, caller, wanted, pushed)
                await usage.take(tx, caller, "push")
        elif caller.service.quotas.pushes is None:
            async with caller.db.single() as tx:
                kept = await actions.push(tx, caller, wanted, pushed, text)
            caller.service.tally.note(caller.user, "push")
        else:
            async with caller.db.writing() as tx:
                kept = await actions.push(tx, caller, wanted, pushed, text)
                await usage.take(tx, caller, "push")
    except (Invalid, BadField):
        await _check_writer(caller, hub)
        raise
    rejected = bool(pushed.source_agent) and not actions.claims_agent(caller, pushed)
    return passed_on(kept.memory, 201 if kept.is_new else 200, *([CLAIM_REJECTED] if rejected else []))


async def _check_writer(caller: Caller, hub: str | None) -> None:
    """Who may not write there hears that, and not what is wrong with what they wrote."""
    wanted = writing_place(hub)
    async with caller.db.reading() as read:
        await actions.check_writer(read, caller, wanted)


@get(
    "/v1/memories",
    summary="List the memories of a hub",
    opt=facts(
        rules.InvalidTopicId,
        rules.InvalidKind,
        rules.InvalidSort,
        rules.InvalidCreated,
        rules.InvalidActor,
        rules.InvalidState,
        rules.InvalidTags,
        rules.UnknownFilter,
        InvalidCursor,
        answers=Data[MemoryList],
        atom="memory:read",
    ),
)
async def list_memories(
    scope: Scope,
    caller: NamedDependency[Caller],
    limit: LimitQuery = None,
    cursor: CursorQuery = None,
    sort: SortQuery = None,
    kind: KindQuery = None,
    created_after: CreatedQuery = None,
    created_before: BeforeQuery = None,
    in_state: StateQuery = None,
    tags: TagsQuery = None,
    actor: ActorQuery = None,
    topic_id: TopicQuery = None,
    hub_id: HubQuery = None,
    hub: HubHeader = None,
) -> ASGIResponse:
    """Of one hub, without what is archived unless `state` asks for it. A filter that makes no sense, or that
    there is not, is refused, never passed over."""
    try:
        _check_names(scope)
        filters = _read_filters(kind, actor, topic_id, in_state, tags)
        since, until = rules.read_since(created_after), rules.read_since(created_before)
        filters = msgspec.structs.replace(filters, created_after=since, created_before=until)
        if sort not in (None, "", "newest", "relevant"):
            raise rules.InvalidSort
        by_use = sort == "relevant"
        after = read_cursor(cursor, by_use=by_use)
    except (rules.AppError, Invalid):
        async with caller.db.reading() as read:
            await check_alive(read, caller)
        raise
    most = rules.read_limit(limit, DEFAULT, MOST)
    wanted, otherwise = reading_names(hub, hub_id)
    async with caller.db.reading() as read:
        page = await lists.list_memories(
            read, caller, wanted, otherwise, filters, most, by_use=by_use, after=after
        )
        if page is None:
            raise await explain_absence(read, caller)
    return sent(shown_page(page, most, by_use=by_use))


_LISTED_BY = frozenset(
    (
        *("limit", "cursor", "sort", "kind", "created_after", "created_before", "state", "tags", "actor"),
        *("topic_id", "hub_id"),
    )
)


def _check_names(scope: Scope) -> None:
    """What is not filtered by is not passed over as if it were. Raises UnknownFilter."""
    query: bytes = cast("Any", scope).get("query_string", b"")
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in _LISTED_BY:
            raise rules.UnknownFilter(f"Memories are not filtered by {name[:50]!r}.")


def _read_filters(
    kind: str | None, actor: str | None, topic_id: str | None, state: str | None, tags: list[str] | None
) -> lists.Filters:
    if kind and kind not in rules.KINDS:
        raise rules.InvalidKind
    side, _, name = (actor or "").partition(":")
    if side not in ("", "all", "self", "agent", "author") or (side in ("agent", "author")) != bool(name):
        raise rules.InvalidActor
    if state and state not in (*get_args(State), "all"):
        raise rules.InvalidState
    return lists.Filters(
        kind=kind or None,
        state=state or None,
        tags=tuple(rules.clean_tags(tags or [])),
        topic=read_topic(topic_id),
        agent=name if side == "agent" else None,
        author=name if side == "author" else None,
        own=side == "self",
    )


def read_cursor(raw: str | None, *, by_use: bool) -> tuple[int, datetime, UUID] | None:
    """The key of the last row of the page before. Raises InvalidCursor."""
    if not raw:
        return None
    try:
        if by_use:
            return decode_cursor(raw, tuple[int, datetime, UUID])
        return (0, *decode_cursor(raw, tuple[datetime, UUID]))
    except Invalid as error:
        raise InvalidCursor from error


def next_cursor(page: lists.Page, shown: int, *, by_use: bool) -> str:
    """Where the page after goes on when so many rows are shown of this; empty at the end."""
    ids, created, used = page.ids or [], page.created or [], page.used or []
    if len(ids) <= shown:
        return ""
    last = (created[shown - 1], ids[shown - 1])
    return encode_cursor(used[shown - 1], *last) if by_use else encode_cursor(*last)


def shown_page(page: lists.Page, limit: int, *, by_use: bool) -> MemoryList:
    """A page as it is sent, of one row more than it has."""
    rows = (page.rows or [])[:limit]
    cursor = next_cursor(page, len(rows), by_use=by_use)
    actors: dict[str, Any] = {} if page.actors is None else {"actors": made(page.actors)}
    return MemoryList(
        memories=[made(row) for row in rows],
        next_cursor=cursor,
        has_more=cursor != "",
        total=page.total or 0,
        **actors,
    )


@get(
    "/v1/memories/{memory_id:str}",
    summary="Read a memory",
    opt=facts(NotFound, answers=Data[Memory], atom="memory:read"),
)
async def read_memory(caller: NamedDependency[Caller], memory_id: str) -> ASGIResponse:
    """Reading it changes nothing; say that it was opened by `…/access`."""
    wanted = as_uuid(memory_id)
    async with caller.db.reading() as read:
        if wanted is None:
            await check_alive(read, caller)
            raise NotFound
        found = await queries.find_memory(read, caller, wanted)
        if found is None:
            raise await explain_absence(read, caller)
    if found.memory is None:
        raise NotFound
    whole = found.memory[:-1] + ',"lifecycle":' + (found.lifecycle or "null") + "}"
    return passed_on(whole)


@post(
    "/v1/memories/{memory_id:str}/access",
    status_code=204,
    summary="Say that a memory was opened",
    opt=facts(NotFound, atom="memory:read"),
)
async def access_memory(caller: NamedDependency[Caller], memory_id: str) -> None:
    """Counts at most once in 30 seconds."""
    wanted = as_uuid(memory_id)
    async with caller.db.single() as tx:
        if wanted is None:
            await check_alive(tx, caller)
            raise NotFound
        seen = await queries.note_access(tx, caller, wanted)
        if seen is None:
            raise await explain_absence(tx, caller)
        if not seen.known:
            raise NotFound


@patch(
    "/v1/memories/{memory_id:str}",
    summary="Change a memory",
    opt=facts(
        NotFound,
        rules.MissingContent,
        rules.ContentTooComplex,
        rules.InvalidTags,
        rules.InvalidKind,
        rules.InvalidStability,
        rules.InvalidOccurredAt,
        rules.InvalidState,
        rules.StillProcessing,
        rules.HubFrozen,
        rules.HubFull,
        rules.PersonalHubFull,
        answers=Data[Memory],
        atom="memory:write",
    ),
)
async def update_memory(
    caller: NamedDependency[Caller], memory_id: str, data: Sent[UpdateMemory]
) -> ASGIResponse:
    """Only its author changes a memory, archives it or fetches it back. What it was before stays among its
    versions."""
    async with caller.db.reading() as read:
        seen = await actions.see_own(read, caller, memory_id)
    wanted = data.read()
    text = await actions.changed_text(seen, wanted)
    async with caller.db.writing() as tx:
        held = await actions.hold_own(tx, caller, memory_id)
        memory = await actions.update(tx, caller, held, wanted, seen, text)
    return passed_on(memory)


@delete(
    "/v1/memories/{memory_id:str}",
    status_code=200,
    summary="Delete a memory",
    opt=facts(NotFound, Forbidden, atom="memory:delete"),
)
async def delete_memory(caller: NamedDependency[Caller], memory_id: str) -> Data[Deleted]:
    """For good, with its versions and files. Its author may, the hub's owner and admins may, and contributors
    where the hub lets them delete any."""
    async with caller.db.writing() as tx:
        if await actions.delete(tx, caller, memory_id):
            await outbox.put(tx, RemainsLeft())
    return Data(Deleted(deleted=True))


@get(
    "/v1/memories/{memory_id:str}/versions",
    summary="Read what a memory was before",
    opt=facts(NotFound, InvalidCursor, answers=Data[VersionList], atom="memory:read"),
)
async def list_versions(
    caller: NamedDependency[Caller], memory_id: str, limit: LimitQuery = None, cursor: CursorQuery = None
) -> ASGIResponse:
    wanted = as_uuid(memory_id)
    try:
        after = decode_cursor(cursor, tuple[int]) if cursor else (2**31 - 1,)
    except Invalid as error:
        async with caller.db.reading() as read:
            await check_alive(read, caller)
        raise InvalidCursor from error
    async with caller.db.reading() as read:
        if wanted is None:
            await check_alive(read, caller)
            raise NotFound
        most = rules.read_limit(limit, DEFAULT, MOST)
        found = await queries.list_versions(read, caller, wanted, after[0], most)
        if found is None:
            raise await explain_absence(read, caller)
    if found.versions is None:
        raise NotFound
    following = encode_cursor(found.last) if found.last is not None and found.last > 1 else ""
    listed = VersionList(versions=made(found.versions), next_cursor=following, has_more=following != "")
    return sent(listed)


@post(
    "/v1/memories/{memory_id:str}/versions/{version:str}/restore",
    status_code=200,
    summary="Make a memory again what it was",
    opt=facts(NotFound, answers=Data[Memory], atom="memory:write"),
)
async def restore_version(caller: NamedDependency[Caller], memory_id: str, version: str) -> ASGIResponse:
    """Only its author does. It is a change like any other: what it was until now is among the versions."""
    async with caller.db.writing() as tx:
        held = await actions.hold_own(tx, caller, memory_id)
        memory = await actions.restore(tx, caller, held, version)
    return passed_on(memory)


ROUTES: list[HTTPRouteHandler] = [
    push_memory,
    list_memories,
    read_memory,
    access_memory,
    update_memory,
    delete_memory,
    list_versions,
    restore_version,
]
