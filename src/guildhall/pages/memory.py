"""What a hub knows, in a browser: found by words or leafed through, one by one with their versions."""

import asyncio
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from guildhall.db import Read
from guildhall.errors import NotFound
from guildhall.memories import lists, recall, rules
from guildhall.memories import queries as memory_queries
from guildhall.memories.asking import snippet_of, words_of
from guildhall.memories.context import read_topic
from guildhall.memories.engine import Hit, Sought
from guildhall.memories.routes import next_cursor, read_cursor
from guildhall.memories.rules import Kind
from guildhall.pages import queries
from guildhall.pages.frame import page_facts
from guildhall.pages.hubs import View, read_view
from guildhall.pages.render import markdown, page
from guildhall.pages.texts import Line, Piece, difference, marked
from guildhall.pages.topics import options
from guildhall.spaces.seats import as_uuid
from guildhall.topics import queries as topic_queries
from guildhall.web.app import Answer
from guildhall.web.caller import Caller, explain_absence
from guildhall.web.wire import clean_query

LIMIT = 20
SNIPPET = 500

Words = Annotated[str | None, Parameter(query="q", max_length=512)]
Cursor = Annotated[str | None, Parameter(max_length=512)]
TopicId = Annotated[str | None, Parameter(max_length=64)]
VersionNumber = Annotated[int | None, Parameter(ge=1, le=10**9)]


class Shown(msgspec.Struct, frozen=True):
    """A memory in a list. `text` is a part of it, with the words marked that it was found by."""

    id: str
    title: str
    text: list[Piece]
    kind: str
    tags: list[str]
    author_name: str
    at: str
    topic_name: str | None = None
    heading: str = ""
    pinned: bool = False
    hit: Hit | None = None


@get("/h/{hub_id:str}", opt=page_facts())
async def show_memories(
    caller: NamedDependency[Caller],
    hub_id: str,
    words: Words = None,
    kind: Kind | Literal[""] | None = None,
    who: Literal["self", ""] | None = None,
    sort: Literal["newest", "relevant", ""] | None = None,
    topic: TopicId = None,
    cursor: Cursor = None,
) -> Answer:
    """What is found by the words, the best first; without any, what the filters leave."""
    query = clean_query(words, "q") or ""
    if query:
        caller.service.limiter.take("search", caller.user)
    wanted_topic = read_topic(topic)
    filters = lists.Filters(kind=kind or None, topic=wanted_topic, own=who == "self")
    by_use = sort == "relevant"
    after = read_cursor(cursor, by_use=by_use)
    async with caller.db.reading() as read:
        view = await read_view(read, caller, hub_id)
        topics = await _topics(read, caller, view)
        found = None if query else await _listed(read, caller, view, filters, by_use=by_use, after=after)
    following = None
    if found is None:
        memories = await _recalled(caller, view, query, wanted_topic)
    else:
        memories, following = found
    return page(
        caller.service,
        "hubs/memory",
        view.me,
        view=view,
        tab="memory",
        memories=memories,
        q=query,
        kind=kind or "",
        who=who or "",
        sort=sort or "",
        topic=str(wanted_topic or ""),
        topics=topics,
        next=following,
    )


async def _topics(read: Read, caller: Caller, view: View) -> list[tuple[str, str]]:
    forest = await topic_queries.list_topics(read, caller, str(view.space), None)
    return options(forest.topics or "[]") if forest is not None else []


async def _listed(
    read: Read, caller: Caller, view: View, filters: lists.Filters, *, by_use: bool, after: Any
) -> tuple[list[Shown], str | None]:
    found = await lists.list_memories(
        read, caller, str(view.space), None, filters, LIMIT, by_use=by_use, after=after
    )
    if found is None:
        raise await explain_absence(read, caller)
    rows = (found.rows or [])[:LIMIT]
    following = next_cursor(found, len(rows), by_use=by_use) or None
    return [_of_list(msgspec.json.decode(row)) for row in rows], following


def _of_list(memory: dict[str, Any]) -> Shown:
    text = snippet_of(memory["summary"] or memory["content"][:4000], (), SNIPPET)
    return Shown(
        id=memory["id"],
        title=memory["title"],
        text=[Piece(text, met=False)] if text != memory["title"] else [],
        kind=memory["kind"],
        tags=memory["tags"],
        author_name=memory["author_name"],
        at=memory.get("occurred_at") or memory["created_at"],
        pinned=memory["pinned"],
    )


async def _recalled(caller: Caller, view: View, query: str, topic: UUID | None) -> list[Shown]:
    """As `POST /v1/recall` finds it, in this hub alone. Looking at a page changes nothing, so nothing is
    noted as shown."""
    wanted = Sought(query=query, words=words_of(query), limit=LIMIT, hubs=[str(view.space)], topic=topic)
    outcome = await recall.find(caller, wanted)
    return [
        Shown(
            id=str(hit.id),
            title=hit.title,
            text=marked(snippet_of(hit.text, hit.terms, SNIPPET), hit.terms),
            kind=hit.kind,
            tags=hit.tags,
            author_name=hit.author_name,
            at=recall.spelled(hit.occurred_at or hit.created_at),
            topic_name=hit.topic_name,
            heading=hit.heading_chain,
            hit=hit,
        )
        for hit in outcome.hits
    ]


@get("/h/{hub_id:str}/m/{memory_id:str}", opt=page_facts())
async def show_memory(
    caller: NamedDependency[Caller], hub_id: str, memory_id: str, version: VersionNumber = None
) -> Answer:
    """A memory in full, with its versions; `version` shows what was changed by it."""
    id = as_uuid(memory_id)
    async with caller.db.reading() as read:
        view = await read_view(read, caller, hub_id)
        found = None if id is None else await memory_queries.find_memory(read, caller, id)
        if id is None or found is None or found.memory is None:
            raise NotFound
        memory: dict[str, Any] = msgspec.json.decode(found.memory)
        if memory["hub_id"] != view.hub["id"]:
            raise NotFound
        versions = await queries.list_saved(read, id)
        topics = await _topics(read, caller, view) if view.arranges else []
        texts = None
        if version is not None:
            texts = await _texts(read, id, memory, [saved.version for saved in versions], version)
    changed: list[Line] | None = None
    if texts is not None:
        changed = await asyncio.to_thread(difference, *texts)
    html = None
    if memory["content_type"] == "markdown":
        html = await asyncio.to_thread(markdown, memory["content"])
    own = memory["owner_id"] == view.me.id
    return page(
        caller.service,
        "hubs/memory_page",
        view.me,
        view=view,
        tab="memory",
        memory=memory,
        html=html,
        own=own,
        deletes=own or view.deletes,
        versions=versions,
        shown_version=version,
        changed=changed,
        topics=topics,
        topic_name=dict(topics).get(memory.get("topic_id", "")),
        kinds=rules.KINDS,
        stabilities=rules.STABILITIES,
    )


async def _texts(
    read: Read, id: UUID, memory: dict[str, Any], known: list[int], version: int
) -> tuple[str, str]:
    """A memory before the version came to be, and with it. Raises NotFound."""
    if version not in known:
        raise NotFound
    before = next((number for number in known if number < version), None)
    return (
        "" if before is None else await _text(read, id, memory, before),
        await _text(read, id, memory, version),
    )


async def _text(read: Read, id: UUID, memory: dict[str, Any], version: int) -> str:
    """All that a version holds, as text."""
    if version == memory["version"]:
        title, content, tags = memory["title"], memory["content"], memory["tags"]
    else:
        kept = await memory_queries.find_version(read, id, version)
        if kept is None:
            raise NotFound
        title, content, tags = kept.title, kept.content, kept.tags
    return "\n".join([title, "", content, *(["", " ".join(f"#{tag}" for tag in tags)] if tags else [])])


ROUTES: list[HTTPRouteHandler] = [show_memories, show_memory]
