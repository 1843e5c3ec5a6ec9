"""Recall: what is known about a query, out of all hubs that the caller reads."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from guildhall import usage
from guildhall.db import new_id
from guildhall.memories import engine, rules
from guildhall.memories.asking import age_of, intent_of, words_of
from guildhall.memories.context import read_topic
from guildhall.memories.engine import Hit, Sought
from guildhall.memories.meaning import vector_of
from guildhall.memories.recall_schemas import (
    QueryMetadata,
    Reasons,
    Recall,
    Recalled,
    RecalledMemory,
)
from guildhall.spaces.seats import as_hub_name
from guildhall.web.caller import Caller, explain_absence

DEFAULT, MOST = 10, 100


class Outcome(msgspec.Struct, frozen=True):
    """`hits` are the best first; `candidates` were looked at."""

    hits: list[Hit]
    candidates: int


def sought(wanted: Recall, hub: str | None) -> Sought:
    """What a request looks for.

    Raises MissingQuery, InvalidKind, InvalidTopicId, InvalidCreated, InvalidTags.
    """
    query = wanted.query.strip()
    if query == "":
        raise rules.MissingQuery
    if wanted.kind and wanted.kind not in rules.KINDS:
        raise rules.InvalidKind
    context = {} if wanted.project_context is UNSET else wanted.project_context
    return Sought(
        query=query,
        words=words_of(query),
        limit=rules.read_limit(wanted.limit, DEFAULT, MOST),
        hubs=_named(wanted.hub_ids),
        topic=read_topic(wanted.topic_id),
        tags=rules.clean_tags(wanted.tags),
        created_after=rules.read_since(wanted.created_after),
        created_before=rules.read_since(wanted.created_before),
        archived=wanted.include_archived,
        kind=wanted.kind or None,
        active_hub=as_hub_name(hub) if hub else None,
        repo=context.get("repo") or None,
        folder=wanted.working_dir or context.get("dir") or None,
        recency=wanted.recency,
    )


def _named(hubs: list[str] | UnsetType) -> list[str] | None:
    """To name none is to look nowhere; to say nothing is to look everywhere."""
    return None if hubs is UNSET else [name for raw in hubs if (name := as_hub_name(raw))]


async def find(caller: Caller, wanted: Sought, *, by_meaning: bool = True) -> Outcome:
    """By words and, where there is a model for it, by meaning.

    Raises TooManyRequests, and what explains a caller who is nobody.
    """
    with caller.service.limiter.place("search", caller.user):
        vector = None
        if by_meaning:
            service = caller.service
            vector = await vector_of(service.embedder, service.embedder_pause, wanted.query)
        async with caller.db.reading() as read:
            rows = await engine.find(read, caller, wanted, vector)
            if not rows:
                raise await explain_absence(read, caller)
    hits = [row for row in rows if row.id is not None]
    return Outcome(hits, rows[0].candidates)


async def recall(caller: Caller, wanted: Recall, hub: str | None = None) -> Recalled:
    """Find, count, and remember what was shown. Two statements, the second short.

    Raises what `sought` does, and QuotaExceeded.
    """
    began = time.perf_counter()
    looked_for = sought(wanted, hub)
    if caller.service.quotas.recalls is not None:
        await usage.take_read(caller, "recall")
    outcome = await find(caller, looked_for)
    receipt = await show(caller, outcome.hits)
    if caller.service.quotas.recalls is None:
        await usage.take_read(caller, "recall")
    return Recalled(
        memories=recalled(outcome.hits),
        query_metadata=QueryMetadata(
            intent=intent_of(looked_for.query),
            kinds_searched=[looked_for.kind] if looked_for.kind else ["all"],
            total_candidates=outcome.candidates,
            latency_ms=round((time.perf_counter() - began) * 1000),
            reranked=False,
            filters=_filters(looked_for) or UNSET,
        ),
        receipt_id=str(receipt),
    )


async def show(caller: Caller, hits: Sequence[Hit]) -> UUID:
    """Note that the caller sees these now; answers the receipt's id."""
    receipt = new_id()
    shown = [hit.id for hit in hits if hit.id is not None]
    if shown:
        async with caller.db.single() as tx:
            await engine.note_shown(tx, caller, receipt, shown)
    return receipt


def _filters(wanted: Sought) -> dict[str, str | list[str]]:
    found: dict[str, str | list[str]] = {}
    if wanted.hubs is not None:
        found["hub_ids"] = list(wanted.hubs)
    if wanted.topic is not None:
        found["topic_id"] = str(wanted.topic)
    if wanted.tags:
        found["tags"] = list(wanted.tags)
    for name, moment in (("created_after", wanted.created_after), ("created_before", wanted.created_before)):
        if moment is not None:
            found[name] = spelled(moment)
    if wanted.archived:
        found["include_archived"] = "true"
    return found


def spelled(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def recalled(hits: Sequence[Hit]) -> list[RecalledMemory]:
    now = datetime.now(UTC)
    return [_shown(hit, now) for hit in hits]


def _shown(hit: Hit, now: datetime) -> RecalledMemory:
    more: dict[str, Any] = {
        "summary": hit.summary or None,
        "project_repo": hit.project_repo,
        "hint": hit.hint or None,
        "topic_id": None if hit.topic_id is None else str(hit.topic_id),
        "topic_name": hit.topic_name,
        "occurred_at": None if hit.occurred_at is None else spelled(hit.occurred_at),
        "speaker": hit.speaker,
        "thread_id": hit.thread_id,
        "tags": hit.tags or None,
    }
    reasons = Reasons(
        terms=hit.terms,
        speaker=hit.named,
        meaning=UNSET if hit.meaning is None else round(hit.meaning, 3),
        fits=hit.fits,  # pyright: ignore[reportArgumentType] - the statement's own words
        neighbour_id=UNSET if hit.neighbour is None else str(hit.neighbour),
    )
    return RecalledMemory(
        id=str(hit.id),
        title=hit.title,
        chunk_content=hit.text,
        heading_chain=hit.heading_chain,
        relevance_score=round(hit.score, 6),
        kind=hit.kind,  # pyright: ignore[reportArgumentType] - the table's check
        stability=hit.stability,  # pyright: ignore[reportArgumentType] - the table's check
        source=hit.source,
        age=age_of(hit.occurred_at or hit.created_at, now),
        created_at=spelled(hit.created_at),
        author_name=hit.author_name,
        hub_id=str(hit.space_id),
        hub_name=hit.hub_name,
        reasons=reasons,
        **{name: value for name, value in more.items() if value is not None},
    )
