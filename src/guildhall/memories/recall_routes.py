"""`/v1/recall`, `/v1/ask`, `/v1/bar/search` and what is found beside a memory."""

import time
from collections.abc import Awaitable
from typing import Annotated, TypeVar

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter
from litestar.response.base import ASGIResponse

from guildhall import usage
from guildhall.errors import AppError, NotFound
from guildhall.hubs.schemas import made, sent
from guildhall.memories import beside, recall, rules
from guildhall.memories.asking import beginning_of, best_sentence, grasp_of, snippet_of, words_of
from guildhall.memories.context import HubHeader, TopicQuery, read_topic
from guildhall.memories.engine import Hit, Sought
from guildhall.memories.recall_schemas import (
    Answered,
    Ask,
    AskMetadata,
    BarResults,
    Citation,
    Recall,
    Recalled,
    RelatedMemory,
    SearchResult,
)
from guildhall.spaces.seats import as_hub_name, as_uuid
from guildhall.web.app import Raw
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, check_alive, explain_absence, read_body
from guildhall.web.docs import facts
from guildhall.web.wire import Data

T = TypeVar("T")

MODEL = "local"
QUOTES = 3
# How much of a question a memory must have that it answers it: of its words by their worth, or in meaning.
GRASPED, MEANT = 0.45, 0.45
NOTHING = "Nothing in these hubs answers this."

SearchText = Annotated[str, Parameter(query="q", max_length=512, description="What has been typed so far.")]
SearchLimit = Annotated[
    str | None, Parameter(query="limit", max_length=16, description="How many, up to 50; 10 where absent.")
]
AcceptHeader = Annotated[
    str | None,
    Parameter(
        header="Accept",
        description="`text/event-stream` for a stream of events.",
    ),
]


@post(
    "/v1/recall",
    status_code=200,
    summary="Recall what is known",
    opt=facts(
        rules.MissingQuery,
        rules.InvalidTopicId,
        rules.InvalidKind,
        rules.InvalidCreated,
        rules.InvalidTags,
        usage.QuotaExceeded,
        limits=("search",),
        answers=Data[Recalled],
        atom="memory:read",
    ),
)
async def recall_memories(
    caller: NamedDependency[Caller], data: Sent[Recall], hub: HubHeader = None
) -> ASGIResponse:
    """Out of all hubs one reads, without what is archived. Every hit says why it was found."""
    wanted = await read_body(caller, data)
    return sent(await _checked(caller, recall.recall(caller, wanted, hub)))


async def _checked(caller: Caller, found: Awaitable[T]) -> T:
    """What makes no sense is refused after who asks was looked at."""
    try:
        return await found
    except AppError as error:
        if error.status == 400:
            async with caller.db.reading() as read:
                await check_alive(read, caller)
        raise


@get(
    "/v1/memories/search",
    summary="Search memories while typing",
    opt=facts(
        rules.MissingQuery,
        rules.InvalidTopicId,
        limits=("type-ahead",),
        answers=Data[list[SearchResult]],
        atom="memory:read",
    ),
)
async def search_memories(
    caller: NamedDependency[Caller],
    text: SearchText = "",
    limit: SearchLimit = None,
    topic_id: TopicQuery = None,
    hub: HubHeader = None,
) -> ASGIResponse:
    """In all hubs one reads; the last word may be unfinished."""
    if not text.strip():
        async with caller.db.reading() as read:
            await check_alive(read, caller)
        raise rules.MissingQuery
    return sent(await _checked(caller, _search(caller, text, limit, topic_id, hub)))


async def _search(
    caller: Caller, text: str, limit: str | None, topic_id: str | None, hub: str | None
) -> list[SearchResult]:
    query = text.strip()
    wanted = Sought(
        query=query,
        words=words_of(query),
        limit=rules.read_limit(limit, 10, 50),
        beginning=beginning_of(text),
        topic=read_topic(topic_id),
        active_hub=as_hub_name(hub) if hub else None,
    )
    # Somebody is typing: a word that is half there means nothing yet.
    found = await recall.find(caller, wanted, by_meaning=False)
    return [_result(hit) for hit in found.hits]


def _result(hit: Hit) -> SearchResult:
    more = {
        "heading_chain": hit.heading_chain or None,
        "topic_id": None if hit.topic_id is None else str(hit.topic_id),
        "topic_name": hit.topic_name,
    }
    return SearchResult(
        memory_id=str(hit.id),
        title=hit.title,
        snippet=snippet_of(hit.text, hit.terms),
        kind=hit.kind,  # pyright: ignore[reportArgumentType] - the table's check
        stability=hit.stability,  # pyright: ignore[reportArgumentType] - the table's check
        hub_id=str(hit.space_id),
        hub_name=hit.hub_name,
        **{name: value for name, value in more.items() if value is not None},
    )


@get(
    "/v1/bar/search",
    summary="Search memories, topics and hubs while typing",
    opt=facts(rules.InvalidTopicId, limits=("type-ahead",), answers=Data[BarResults], atom="memory:read"),
)
async def search_bar(
    caller: NamedDependency[Caller],
    text: SearchText = "",
    limit: SearchLimit = None,
    topic_id: TopicQuery = None,
    hub: HubHeader = None,
) -> ASGIResponse:
    """Nothing typed finds nothing."""
    query = text.strip()
    if not query:
        async with caller.db.reading() as read:
            await check_alive(read, caller)
        return sent(BarResults(query=text, memories=[], topics=[], hubs=[]))
    memories = await _checked(caller, _search(caller, text, limit, topic_id, hub))
    async with caller.db.reading() as read:
        names = await beside.find_names(read, caller, query)
    return sent(BarResults(query=text, memories=memories, topics=made(names.topics), hubs=made(names.hubs)))


@get(
    "/v1/memories/{memory_id:str}/related",
    summary="Read what a memory is related to",
    opt=facts(NotFound, answers=Data[list[RelatedMemory]], atom="memory:read"),
)
async def related_memories(caller: NamedDependency[Caller], memory_id: str) -> ASGIResponse:
    """Up to three memories of the same hub that share what is special about it."""
    wanted = as_uuid(memory_id)
    async with caller.db.reading() as read:
        if wanted is None:
            await check_alive(read, caller)
            raise NotFound
        rows = await beside.list_related(read, caller, wanted)
        if not rows:
            raise await explain_absence(read, caller)
    if not rows[0].known:
        raise NotFound
    return sent(
        [
            RelatedMemory(memory=made(row.memory), similarity=round(row.similarity or 0, 4))
            for row in rows
            if row.memory is not None
        ]
    )


@post(
    "/v1/ask",
    status_code=200,
    summary="Ask, and be answered in quotations",
    opt=facts(
        rules.MissingQuery,
        rules.InvalidTopicId,
        rules.InvalidCreated,
        rules.InvalidTags,
        usage.QuotaExceeded,
        limits=("search", "ask"),
        answers=Data[Answered],
        atom="memory:read",
    ),
)
async def ask(
    caller: NamedDependency[Caller], data: Sent[Ask], hub: HubHeader = None, accept: AcceptHeader = None
) -> ASGIResponse:
    """The answer is made of sentences that stand in the cited memories word for word. Where no memory has
    enough of the question it says so, without citations; `sources` are then what comes nearest."""
    wanted = await read_body(caller, data)
    answered = await _checked(caller, answer(caller, wanted, hub))
    if accept is not None and "text/event-stream" in accept:
        return _streamed(answered)
    return sent(answered)


async def answer(caller: Caller, wanted: Ask, hub: str | None = None) -> Answered:
    """Raises MissingQuery, InvalidTopicId, InvalidCreated, InvalidTags, QuotaExceeded."""
    began = time.perf_counter()
    looked_for = recall.sought(
        Recall(
            query=wanted.query,
            limit=wanted.limit,
            hub_ids=wanted.hub_ids,
            tags=wanted.tags,
            topic_id=wanted.topic_id,
            created_after=wanted.created_after,
            created_before=wanted.created_before,
        ),
        hub,
    )
    if caller.service.quotas.asks is not None:
        await usage.take_read(caller, "ask")
    outcome = await recall.find(caller, looked_for)
    await recall.show(caller, outcome.hits)
    if caller.service.quotas.asks is None:
        await usage.take_read(caller, "ask")
    found = time.perf_counter()
    citations = cite(outcome.hits) if _answers(looked_for, outcome.hits) else []
    text = " ".join(f"“{citation.quote}” [{citation.index}]" for citation in citations) or NOTHING
    done = time.perf_counter()
    return Answered(
        answer=text,
        citations=citations,
        sources=recall.recalled(outcome.hits),
        metadata=AskMetadata(
            model=MODEL,
            answer_tokens=len(text.split()),
            retrieval_latency_ms=round((found - began) * 1000),
            synthesis_latency_ms=round((done - found) * 1000),
            total_latency_ms=round((done - began) * 1000),
        ),
    )


def _answers(wanted: Sought, hits: list[Hit]) -> bool:
    """Whether any memory has enough of the question that it is about it, rather than having a word of it."""
    return any(
        (hit.meaning or 0.0) >= MEANT
        or grasp_of(wanted.words, dict(zip(hit.looked_up, hit.weights, strict=True)), hit.terms) >= GRASPED
        for hit in hits
    )


def cite(hits: list[Hit]) -> list[Citation]:
    """The sentences that say most, the best memory's first. `index` counts the sources from 1."""
    quotes: list[Citation] = []
    for index, hit in enumerate(hits, 1):
        quote, _ = best_sentence(hit.text, hit.terms)
        if not quote or any(quote == other.quote for other in quotes):
            continue
        quotes.append(
            Citation(
                index=index,
                memory_id=str(hit.id),
                title=hit.title,
                kind=hit.kind,  # pyright: ignore[reportArgumentType] - the table's check
                quote=quote,
            )
        )
        if len(quotes) == QUOTES:
            break
    return quotes


def _streamed(answered: Answered) -> Raw:
    """The answer as the events that a client reads one by one."""
    encode = msgspec.json.encode
    events: list[tuple[str, bytes]] = [("sources", encode(answered.sources))]
    parts = answered.answer.split("] ")
    for n, part in enumerate(parts):
        text = part + ("] " if n < len(parts) - 1 else "")
        events.append(("delta", encode({"text": text})))
    done = {"tokens": answered.metadata.answer_tokens, "model": MODEL}
    events.append(("done", encode(done)))
    body = b"".join(b"event: " + name.encode() + b"\ndata: " + data + b"\n\n" for name, data in events)
    return Raw(200, ((b"content-type", b"text/event-stream; charset=utf-8"),), body)


ROUTES: list[HTTPRouteHandler] = [
    recall_memories,
    search_memories,
    search_bar,
    related_memories,
    ask,
]
