"""What is compared with what: all that changed with all there is, and the rest in turn."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Db, Read, Write
from guildhall.dreams import copies, rules
from guildhall.dreams.queries import Hub, Proposal
from guildhall.dreams.rules import Budget, Phase

# How many texts, with those like them, are held at once.
AT_ONCE = 50


class Plan(msgspec.Struct, frozen=True):
    """What is proposed, and how much was looked at for it. `looked` are the memories that were compared with
    all others, at `seen_at`, with their digests; whether there are `more` that want to be."""

    proposals: list[Proposal]
    candidates: int
    seen_at: datetime | None = None
    looked: Mapping[UUID, bytes | None] = msgspec.field(default_factory=dict[UUID, bytes | None])
    more: bool = False


def excluded_kinds(hub: Hub) -> list[str]:
    """The kinds of memories that the hub's owner wants left alone."""
    return list(hub.wish("dreams_excluded_kinds", []))


class Memory(msgspec.Struct, frozen=True):
    """A memory as rules look at it. `context` is where else it belongs: its project, speaker and time."""

    id: UUID
    author_id: str
    title: str
    content: str
    hash: str
    content_type: str
    hint: str
    tags: list[str]
    kind: str
    stability: str
    topic_id: UUID | None
    source_path: str | None
    access_count: int
    created_at: datetime
    context: str


class Candidate(msgspec.Struct, frozen=True):
    """A memory to compare with all others; `seen_at` is the time now. One that is `fresh` was not compared
    since it changed."""

    id: UUID
    fresh: bool
    seen_at: datetime


# What may say the same as something else: no part of a conversation, no file, nothing that somebody pinned.
_COMPARED: LiteralString = """
    m.state = 'active' AND NOT m.pinned AND m.thread_id IS NULL AND m.kind <> ALL ($2)
    AND length(m.content) <= $3 AND NOT EXISTS (SELECT FROM memory_attachments a WHERE a.memory_id = m.id)
"""


async def list_candidates(
    read: Read, space: UUID, excluded: Sequence[str], longest: int, phase: Phase, most: int
) -> list[Candidate]:
    """What changed since this phase looked at it, the latest first; then what it looked at longest ago."""
    return await read.many(
        Candidate,
        "SELECT m.id, (l.looked_at >= m.updated_at) IS NOT TRUE AS fresh, now() AS seen_at FROM memories m"
        " LEFT JOIN dream_looks l ON l.memory_id = m.id AND l.phase = $4"
        " WHERE m.space_id = $1 AND " + _COMPARED + " ORDER BY 2 DESC,"
        " CASE WHEN (l.looked_at >= m.updated_at) IS NOT TRUE THEN m.updated_at END DESC, l.looked_at, m.id"
        " LIMIT $5",
        space,
        list(excluded),
        longest,
        phase,
        most,
    )


async def list_texts(
    read: Read, space: UUID, excluded: Sequence[str], longest: int, memories: Sequence[UUID]
) -> list[Memory]:
    """Those of these that may still say the same as something else."""
    return await read.many(
        Memory,
        "SELECT m.id, m.author_id, m.title, m.content, encode(m.content_hash, 'hex') AS hash, m.content_type,"
        " m.hint, m.tags, m.kind, m.stability, m.topic_id, m.source_path, m.access_count, m.created_at,"
        " jsonb_build_array(m.project_context, m.metadata, m.speaker, m.occurred_at)::text AS context"
        " FROM memories m WHERE m.space_id = $1 AND m.id = ANY ($4) AND " + _COMPARED,
        space,
        list(excluded),
        longest,
        list(memories),
    )


async def note_looks(
    tx: Write, space: UUID, phase: Phase, seen_at: datetime, looked: Mapping[UUID, bytes | None]
) -> None:
    """These were compared with all others, as they were at that time."""
    await tx.run(
        """
        INSERT INTO dream_looks (space_id, memory_id, phase, looked_at, words)
        SELECT m.space_id, m.id, $2, $3, seen.words
          FROM unnest($4::uuid[], $5::bytea[]) AS seen (id, words)
          JOIN memories m ON m.space_id = $1 AND m.id = seen.id
        ON CONFLICT (memory_id, phase) DO UPDATE SET looked_at = excluded.looked_at, words = excluded.words
        """,
        space,
        phase,
        seen_at,
        list(looked),
        list(looked.values()),
    )


class Near(msgspec.Struct, frozen=True):
    id: UUID


async def list_near(read: Read, space: UUID, memory: UUID, words: bytes | None) -> list[Near]:
    """Up to eight active memories that are most like this one, of all in the hub.

    Those of the same words, as far as they were looked at, then those that share its rarest words: all where
    these are in no more than a thousand memories, of others the latest.
    """
    return await read.many(
        Near,
        """
        WITH words AS MATERIALIZED (
            SELECT w.lexeme, coalesce(
                       (SELECT c.memories FROM memory_term_counts c
                         WHERE c.space_id = $1 AND c.lexeme = w.lexeme),
                       (SELECT count(*) FROM (
                            SELECT FROM memory_terms t WHERE t.space_id = $1 AND t.lexeme = w.lexeme
                             LIMIT 1001) AS few)) AS n
              -- Of a long text the longer words, which are rarer.
              FROM (SELECT DISTINCT lexeme, length(lexeme) FROM memory_terms WHERE memory_id = $2
                     ORDER BY 2 DESC, lexeme LIMIT 64) AS w),
        special AS MATERIALIZED (SELECT lexeme, n FROM words WHERE n > 1 ORDER BY n, lexeme LIMIT 8),
        found AS (
            SELECT same.memory_id AS id, 2.0 AS weight FROM (
                SELECT memory_id FROM dream_looks WHERE space_id = $1 AND words = $3 AND memory_id <> $2
                 ORDER BY memory_id LIMIT 8) AS same
            UNION ALL
            SELECT t.memory_id, 1.0 / special.n FROM special CROSS JOIN LATERAL (
                SELECT DISTINCT t.memory_id FROM memory_terms t
                 WHERE t.space_id = $1 AND t.lexeme = special.lexeme AND t.memory_id <> $2
                 ORDER BY t.memory_id DESC LIMIT 1000) AS t)
        SELECT id FROM found GROUP BY id ORDER BY sum(weight) DESC, id LIMIT 8
        """,
        space,
        memory,
        words,
    )


class Pair(msgspec.Struct, frozen=True):
    """Two memories of which something was proposed before, as they were then."""

    operation: str
    ids: list[UUID]
    hashes: list[str]


async def list_judged(read: Read, space: UUID) -> list[Pair]:
    """Pairs that somebody has decided about, or is to decide about."""
    return await read.many(
        Pair,
        "SELECT operation, source_memory_ids AS ids,"
        " ARRAY(SELECT jsonb_array_elements_text(evidence -> 'hashes')) AS hashes FROM dream_actions"
        " WHERE space_id = $1 AND operation IN ('merge', 'contradiction')"
        "   AND status IN ('waiting', 'applied', 'rejected', 'undone') AND evidence ? 'hashes'",
        space,
    )


class Comparison:
    """Each candidate with those of all memories of the hub that are most like it: a few at a time, so that
    what is held at once does not grow with the hub."""

    def __init__(self, db: Db, hub: Hub, phase: Phase, budget: Budget) -> None:
        self._db, self._hub, self._budget = db, hub, budget
        self._phase: Phase = phase
        self._seen: set[frozenset[UUID]] = set()
        self.candidates: list[Candidate] = []
        self.looked: dict[UUID, bytes | None] = {}

    async def pairs(self) -> AsyncIterator[tuple[Memory, Memory]]:
        """Two by two, each pair once."""
        hub, excluded = self._hub.space_id, excluded_kinds(self._hub)
        most = self._budget.candidate_limit
        async with self._db.reading() as read:
            self.candidates = await list_candidates(read, hub, excluded, rules.LONGEST, self._phase, most + 1)
        wanted = [
            candidate.id
            for n, candidate in enumerate(self.candidates[:most])
            if candidate.fresh or n < rules.LOOKED_AT_AGAIN
        ]
        compared = 0
        for start in range(0, len(wanted), AT_ONCE):
            if compared >= self._budget.characters:
                return
            part = wanted[start : start + AT_ONCE]
            async with self._db.reading() as read:
                texts = await list_texts(read, hub, excluded, rules.LONGEST, part)
                known = {text.id: text for text in texts}
                near: dict[UUID, list[UUID]] = {}
                for id in (id for id in part if id in known):
                    words = self.looked[id] = copies.digest(known[id].content)
                    near[id] = [one.id for one in await list_near(read, hub, id, words)]
                others = {id for each in near.values() for id in each} - known.keys()
                texts = await list_texts(read, hub, excluded, rules.LONGEST, list(others))
                known |= {text.id: text for text in texts}
            for id, each in near.items():
                for other in (known[other] for other in each if other in known):
                    pair = frozenset((id, other.id))
                    if pair not in self._seen:
                        self._seen.add(pair)
                        compared += len(known[id].content) + len(other.content)
                        yield known[id], other
                        # Of long texts many pairs take a while, in which others have their turn.
                        await asyncio.sleep(0)

    def plan(self, proposals: list[Proposal], unfinished: Collection[UUID]) -> Plan:
        """What came of it. What is `unfinished` is looked at again."""
        looked = {id: words for id, words in self.looked.items() if id not in unfinished}
        return Plan(
            proposals,
            len(self.looked),
            self.candidates[0].seen_at if self.candidates else None,
            looked,
            more=bool(unfinished) or any(one.fresh and one.id not in self.looked for one in self.candidates),
        )
