"""`/v1/topics`: the tree of a hub's topics, and what is in them.

A request is about the hub that X-Hub-ID or `hub_id` names. Where it names none, a topic's id is enough.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from msgspec import UNSET

from guildhall.db import Write
from guildhall.errors import Forbidden, Invalid, NotFound
from guildhall.hubs.schemas import made, sent
from guildhall.inbox.rules import InvalidCursor
from guildhall.memories.context import HubHeader, HubQuery, reading_names
from guildhall.memories.routes import DEFAULT, MOST, CursorQuery, LimitQuery, passed_on
from guildhall.memories.rules import InvalidTopicId, TopicArchived, read_limit
from guildhall.spaces.seats import HubSeat, NotMember, as_uuid
from guildhall.topics import actions, queries, rules
from guildhall.topics.queries import Known, Wanted
from guildhall.topics.schemas import (
    Archived,
    AssignMemory,
    CreateTopic,
    Reorder,
    Reordered,
    Restored,
    Topic,
    TopicForest,
    TopicList,
    TopicMemories,
    TopicPlace,
    TopicVisited,
    UpdateTopic,
)
from guildhall.topics.trees import grow
from guildhall.web.app import Raw
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, check_alive, explain_absence, read_body
from guildhall.web.docs import facts
from guildhall.web.paging import decode_cursor, encode_cursor
from guildhall.web.wire import Data


def _check_hub(query: str | None, found: queries.Forest | queries.Listed) -> None:
    """Refuse a list of topics of a hub that is not the one asked for."""
    if found.space_id is None or (query and not found.is_otherwise):
        raise rules.MissingHub


@get(
    "/v1/topics",
    summary="List a hub's topics as a tree",
    opt=facts(rules.MissingHub, answers=Data[TopicForest], atom="topic:read"),
)
async def list_topics(
    caller: NamedDependency[Caller], hub_id: HubQuery = None, hub: HubHeader = None
) -> ASGIResponse:
    """All of the tree, without what is archived, and how many memories are in no topic."""
    async with caller.db.reading() as read:
        found = await queries.list_topics(read, caller, *reading_names(hub, hub_id))
        if found is None:
            raise await explain_absence(read, caller)
    _check_hub(None if hub else hub_id, found)
    return sent(TopicForest(topics=grow(found.topics or "[]"), unassigned_count=found.unassigned or 0))


@get(
    "/v1/topics/archived",
    summary="List a hub's archived topics",
    opt=facts(rules.MissingHub, answers=Data[TopicList], atom="topic:read"),
)
async def list_archived_topics(
    caller: NamedDependency[Caller], hub_id: HubQuery = None, hub: HubHeader = None
) -> ASGIResponse:
    """The latest first."""
    async with caller.db.reading() as read:
        found = await queries.list_archived(read, caller, *reading_names(hub, hub_id))
        if found is None:
            raise await explain_absence(read, caller)
    _check_hub(None if hub else hub_id, found)
    return sent(TopicList(topics=made(found.topics)))


def _wanted(raw_id: str, hub: str | None, hub_id: str | None) -> Wanted | None:
    topic = as_uuid(raw_id)
    return None if topic is None else Wanted(topic, *reading_names(hub, hub_id), named=bool(hub or hub_id))


@get(
    "/v1/topics/{topic_id:str}",
    summary="Read a topic",
    opt=facts(NotFound, answers=Data[Topic], atom="topic:read"),
)
async def read_topic(
    caller: NamedDependency[Caller], topic_id: str, hub_id: HubQuery = None, hub: HubHeader = None
) -> ASGIResponse:
    wanted = _wanted(topic_id, hub, hub_id)
    async with caller.db.reading() as read:
        if wanted is None:
            await check_alive(read, caller)
            raise NotFound
        found = await queries.find_topic(read, caller, wanted)
        if found is None:
            raise await explain_absence(read, caller)
    if found.topic is None:
        raise NotFound
    return passed_on(found.topic)


@post(
    "/v1/topics",
    summary="Make a topic",
    opt=facts(
        NotMember,
        Forbidden,
        rules.MissingName,
        rules.InvalidName,
        rules.NameTooLong,
        rules.InvalidParent,
        rules.MaxDepth,
        rules.ParentArchived,
        rules.DuplicateName,
        limits=("content",),
        answers=Data[Topic],
        atom="topic:write",
    ),
)
async def create_topic(
    caller: NamedDependency[Caller],
    data: Sent[CreateTopic],
    hub_id: HubQuery = None,
    hub: HubHeader = None,
) -> ASGIResponse:
    """The hub's owner and admins make topics, and contributors where the hub lets them."""
    try:
        place = data.part(TopicPlace)
    except Invalid:
        # Who may not make one there hears that first; who may, all that is wrong.
        async with caller.db.writing() as tx:
            await actions.lock(tx, caller, hub or hub_id)
        data.read()
        raise
    async with caller.db.writing() as tx:
        named = None if place.hub_id is UNSET else place.hub_id
        seat = await actions.lock(tx, caller, named or hub or hub_id)
        topic = await actions.create(tx, seat, data.read())
    return passed_on(topic, 201)


async def _hold(
    tx: Write, caller: Caller, topic_id: str, hub: str | None
) -> tuple[HubSeat, actions.Topics, Known]:
    """A topic to change, its hub locked. Raises NotMember, Forbidden, NotFound."""
    seat = await actions.lock(tx, caller, hub, topic_id)
    topics = await actions.read(tx, seat)
    return seat, topics, topics.find(topic_id)


@patch(
    "/v1/topics/{topic_id:str}",
    summary="Change or move a topic",
    opt=facts(
        NotMember,
        Forbidden,
        NotFound,
        rules.MissingName,
        rules.InvalidName,
        rules.NameTooLong,
        rules.InvalidParent,
        rules.CycleDetected,
        rules.MaxDepthSubtree,
        TopicArchived,
        rules.ParentArchived,
        rules.DuplicateName,
        answers=Data[Topic],
        atom="topic:write",
    ),
)
async def update_topic(
    caller: NamedDependency[Caller],
    topic_id: str,
    data: Sent[UpdateTopic],
    hub_id: HubQuery = None,
    hub: HubHeader = None,
) -> ASGIResponse:
    """A new name, description, icon or parent makes it a person's topic, which dreams do not rearrange."""
    async with caller.db.writing() as tx:
        seat, topics, topic = await _hold(tx, caller, topic_id, hub or hub_id)
        changed = await actions.update(tx, seat, topics, topic, data.read())
    return passed_on(changed)


@delete(
    "/v1/topics/{topic_id:str}",
    status_code=204,
    summary="Delete a topic",
    opt=facts(NotMember, Forbidden, NotFound, rules.DuplicateName, atom="topic:write"),
)
async def delete_topic(
    caller: NamedDependency[Caller], topic_id: str, hub_id: HubQuery = None, hub: HubHeader = None
) -> None:
    """What is inside it goes to its parent; its memories stay and are in no topic."""
    async with caller.db.writing() as tx:
        seat, topics, topic = await _hold(tx, caller, topic_id, hub or hub_id)
        await actions.delete(tx, seat, topics, topic)


@post(
    "/v1/topics/{topic_id:str}/archive",
    status_code=200,
    summary="Archive a topic",
    opt=facts(NotMember, Forbidden, NotFound, atom="topic:write"),
)
async def archive_topic(
    caller: NamedDependency[Caller], topic_id: str, hub_id: HubQuery = None, hub: HubHeader = None
) -> Data[Archived]:
    """With all that is inside it. Its memories stay where they are."""
    async with caller.db.writing() as tx:
        seat, topics, topic = await _hold(tx, caller, topic_id, hub or hub_id)
        count = await actions.archive(tx, seat, topics, topic)
    return Data(Archived(topic_id=str(topic.id), archived_count=count or UNSET))


@post(
    "/v1/topics/{topic_id:str}/restore",
    status_code=200,
    summary="Take a topic out of the archive",
    opt=facts(NotMember, Forbidden, NotFound, rules.DuplicateName, atom="topic:write"),
)
async def restore_topic(
    caller: NamedDependency[Caller], topic_id: str, hub_id: HubQuery = None, hub: HubHeader = None
) -> Data[Restored]:
    """With all that is inside it; to the end of the roots where its parent stays archived."""
    async with caller.db.writing() as tx:
        seat, topics, topic = await _hold(tx, caller, topic_id, hub or hub_id)
        count = await actions.restore(tx, seat, topics, topic)
    return Data(Restored(topic_id=str(topic.id), restored_count=count or UNSET))


@get(
    "/v1/topics/{topic_id:str}/memories",
    summary="List what is in a topic",
    opt=facts(NotFound, InvalidCursor, answers=Data[TopicMemories], atom="topic:read"),
)
async def list_topic_memories(
    caller: NamedDependency[Caller],
    topic_id: str,
    limit: LimitQuery = None,
    cursor: CursorQuery = None,
    hub_id: HubQuery = None,
    hub: HubHeader = None,
) -> ASGIResponse:
    """With what is in the topics inside it, the newest first."""
    wanted = _wanted(topic_id, hub, hub_id)
    most = read_limit(limit, DEFAULT, MOST)
    try:
        after = decode_cursor(cursor, tuple[datetime, UUID]) if cursor else None
        problem = None
    except Invalid:
        after, problem = None, InvalidCursor()
    async with caller.db.reading() as read:
        if wanted is None:
            await check_alive(read, caller)
            raise NotFound
        page = await queries.list_memories(read, caller, wanted, most, after)
        if page is None:
            raise await explain_absence(read, caller)
    if not page.known:
        raise NotFound
    if problem is not None:
        raise problem
    rows, ids, created = page.rows or [], page.ids or [], page.created or []
    more = len(rows) > most
    last = encode_cursor(created[most - 1], ids[most - 1]) if more else ""
    shown: list[Any] = [made(row) for row in rows[:most]]
    return sent(TopicMemories(memories=shown, next_cursor=last, has_more=more))


@post(
    "/v1/topics/{topic_id:str}/memories",
    summary="Put a memory into a topic",
    opt=facts(
        NotMember,
        Forbidden,
        NotFound,
        rules.MissingMemoryId,
        rules.InvalidConfidence,
        rules.InvalidTopic,
        TopicArchived,
        answers=type(None),
        atom="topic:write",
    ),
)
async def assign_memory(
    caller: NamedDependency[Caller],
    topic_id: str,
    data: Sent[AssignMemory],
    hub_id: HubQuery = None,
    hub: HubHeader = None,
) -> ASGIResponse:
    """Whoever arranges the hub's topics puts any of its memories into one, unless it is surer of another."""
    async with caller.db.writing() as tx:
        seat, _, topic = await _hold(tx, caller, topic_id, hub or hub_id)
        await actions.assign(tx, caller, seat, topic, data.read())
    return Raw(201, (), b"")


@delete(
    "/v1/topics/{topic_id:str}/memories/{memory_id:str}",
    status_code=204,
    summary="Take a memory out of a topic",
    opt=facts(NotMember, Forbidden, NotFound, atom="topic:write"),
)
async def unassign_memory(
    caller: NamedDependency[Caller],
    topic_id: str,
    memory_id: str,
    hub_id: HubQuery = None,
    hub: HubHeader = None,
) -> None:
    """Also done where it is not in it."""
    async with caller.db.writing() as tx:
        seat, _, topic = await _hold(tx, caller, topic_id, hub or hub_id)
        await actions.unassign(tx, caller, seat, topic, memory_id)


@post(
    "/v1/topics/{topic_id:str}/visit",
    status_code=200,
    summary="Say that one has looked at a topic",
    opt=facts(NotFound, InvalidTopicId, atom="topic:read"),
)
async def visit_topic(caller: NamedDependency[Caller], topic_id: str) -> Data[TopicVisited]:
    """What dreams do in it is then told from here on."""
    topic = as_uuid(topic_id)
    async with caller.db.single() as tx:
        if topic is None:
            await check_alive(tx, caller)
            raise InvalidTopicId
        seen = await queries.visit(tx, caller, topic)
        if seen is None:
            raise await explain_absence(tx, caller)
    if not seen.known:
        raise NotFound
    return Data(TopicVisited(status="ok", topic_id=str(topic)))


@post(
    "/v1/topics/reorder",
    status_code=200,
    summary="Put topics into an order",
    opt=facts(
        NotMember,
        Forbidden,
        rules.EmptyOperations,
        rules.InvalidTopic,
        rules.InvalidParent,
        rules.CycleDetected,
        rules.MaxDepthSubtree,
        TopicArchived,
        rules.ParentArchived,
        rules.DuplicateName,
        limits=("batch",),
        atom="topic:write",
    ),
)
async def reorder_topics(
    caller: NamedDependency[Caller], data: Sent[Reorder], hub_id: HubQuery = None, hub: HubHeader = None
) -> Data[Reordered]:
    """All of it or nothing. The topics are of one hub; the first one's, where none is named."""
    named = hub or hub_id
    if named:
        async with caller.db.writing() as tx:
            seat = await actions.lock(tx, caller, named)
            await _reorder(tx, seat, data.read())
        return Data(Reordered(status="ok"))
    wanted = await read_body(caller, data)
    async with caller.db.writing() as tx:
        first = wanted.operations[0].topic_id if wanted.operations else None
        try:
            seat = await actions.lock(tx, caller, None, first)
        except NotFound as error:
            raise rules.InvalidTopic from error
        await _reorder(tx, seat, wanted)
    return Data(Reordered(status="ok"))


async def _reorder(tx: Write, seat: HubSeat, wanted: Reorder) -> None:
    if not wanted.operations:
        raise rules.EmptyOperations
    await actions.reorder(tx, seat, wanted.operations)


ROUTES: list[HTTPRouteHandler] = [
    list_topics,
    list_archived_topics,
    reorder_topics,
    create_topic,
    read_topic,
    update_topic,
    delete_topic,
    archive_topic,
    restore_topic,
    list_topic_memories,
    assign_memory,
    unassign_memory,
    visit_topic,
]
