"""One function per statement about dreams."""

from collections.abc import Sequence
from typing import Any, LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Read, Write
from guildhall.dreams.rules import Mode, Phase


class Hub(msgspec.Struct, frozen=True):
    """A hub as dreams find it. `settings` are its own, `wishes` its owner's; both JSON."""

    space_id: UUID
    owner_id: str
    is_personal: bool
    frozen: bool
    language: str
    settings: str
    wishes: str | None
    unsorted: int

    def allows(self, what: str) -> bool:
        """Whether one of the hub's switches is on; all are, until somebody turns them off."""
        own: dict[str, bool] = msgspec.json.decode(self.settings)
        return own.get(what, True)

    def wish(self, name: str, default: Any) -> Any:
        own: dict[str, Any] = msgspec.json.decode(self.wishes or "{}")
        return own.get(name, default)


HUB_ROW: LiteralString = """
    SELECT s.id AS space_id, s.owner_id, s.is_personal, s.frozen_at IS NOT NULL AS frozen, s.language,
           s.settings::text AS settings, p.settings::text AS wishes, s.unsorted_count AS unsorted
      FROM spaces s LEFT JOIN person_settings p ON p.user_id = s.owner_id
     WHERE s.id = $1 AND s.kind = 'hub' AND s.deleted_at IS NULL
"""


async def lock_hub(tx: Write, space: UUID) -> Hub | None:
    """Lock a hub; None where it is gone."""
    return await tx.maybe(Hub, HUB_ROW + " FOR NO KEY UPDATE OF s", space)


class Run(msgspec.Struct, frozen=True):
    id: UUID
    space_id: UUID
    asked_by: str | None
    mode: Mode
    status: str
    planned: list[Phase]
    failed: list[Phase]
    abandoned: bool


_RUN: LiteralString = """
    SELECT id, space_id, asked_by, mode, status, planned, failed,
           status = 'running' AND heartbeat_at < now() - interval '30 minutes' AS abandoned FROM dream_runs
"""


async def find_run(read: Read, run: UUID) -> Run | None:
    return await read.maybe(Run, _RUN + " WHERE id = $1", run)


async def find_running(read: Read, space: UUID) -> Run | None:
    return await read.maybe(Run, _RUN + " WHERE space_id = $1 AND status = 'running'", space)


async def insert_run(
    tx: Write, space: UUID, run: UUID, asked_by: str | None, mode: Mode, *, report: str | None = None
) -> None:
    """Begin a run; with a report, one that is over before it began."""
    await tx.run(
        """
        INSERT INTO dream_runs (id, space_id, asked_by, mode, status, finished_at, report)
        VALUES ($2, $1, $3, $4, CASE WHEN $5::text IS NULL THEN 'running' ELSE 'skipped' END,
                CASE WHEN $5::text IS NOT NULL THEN now() END, coalesce($5, ''))
        """,
        space,
        run,
        asked_by,
        mode,
        report,
    )


async def give_up(tx: Write, space: UUID, run: UUID) -> None:
    """End a run that nobody goes on with; what it had not done yet is dropped."""
    await tx.run(
        "UPDATE dream_actions SET status = 'dropped', decided_at = now()"
        " WHERE space_id = $1 AND run_id = $2 AND status = 'proposed'",
        space,
        run,
    )
    await tx.run(
        "UPDATE dream_runs SET status = 'failed', finished_at = now() WHERE space_id = $1 AND id = $2",
        space,
        run,
    )


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule wants done, why, and how sure it is."""

    operation: str
    action_type: Phase
    automatic: bool
    confidence: float
    similarity: float
    reason: str
    evidence: dict[str, Any]
    memories: Sequence[UUID] = ()
    result: UUID | None = None
    from_topic: UUID | None = None
    to_topic: UUID | None = None


async def insert_proposals(
    tx: Write, run: Run, phase: Phase, ids: Sequence[UUID], proposals: Sequence[Proposal]
) -> None:
    """Write down all that a phase proposes, and that it has proposed."""
    if proposals:
        await tx.run(
            """
            INSERT INTO dream_actions (id, space_id, run_id, position, action_type, operation, automatic,
                                       confidence, similarity, reason, evidence, source_memory_ids,
                                       result_memory_id, from_topic_id, to_topic_id)
            SELECT p.id, $1, $2, p.n + coalesce((SELECT max(position) FROM dream_actions
                                                  WHERE space_id = $1 AND run_id = $2), 0),
                   p.action_type, p.operation, p.automatic, p.confidence, p.similarity, p.reason, p.evidence,
                   p.memories, p.result, p.from_topic, p.to_topic
              FROM jsonb_to_recordset($3::text::jsonb) AS p (
                   id uuid, n integer, action_type text, operation text, automatic boolean, confidence real,
                   similarity real, reason text, evidence jsonb, memories uuid[], result uuid,
                   from_topic uuid, to_topic uuid)
            """,
            run.space_id,
            run.id,
            msgspec.json.encode(
                [
                    {"id": id, "n": n, **msgspec.structs.asdict(proposal)}
                    for n, (id, proposal) in enumerate(zip(ids, proposals, strict=True), 1)
                ]
            ).decode(),
        )
    await tx.run(
        "UPDATE dream_runs SET planned = planned || $3::text, heartbeat_at = now()"
        " WHERE space_id = $1 AND id = $2",
        run.space_id,
        run.id,
        phase,
    )


class Action(msgspec.Struct, frozen=True):
    """An action as it is stored; `evidence` and `before` are JSON."""

    id: UUID
    space_id: UUID
    run_id: UUID
    action_type: Phase
    operation: str
    status: str
    automatic: bool
    evidence: str
    source_memory_ids: list[UUID]
    result_memory_id: UUID | None
    from_topic_id: UUID | None
    to_topic_id: UUID | None
    before: str

    @property
    def why(self) -> dict[str, Any]:
        return msgspec.json.decode(self.evidence)

    @property
    def earlier(self) -> dict[str, Any]:
        return msgspec.json.decode(self.before)


_ACTION: LiteralString = """
    SELECT id, space_id, run_id, action_type, operation, status, automatic, evidence::text AS evidence,
           source_memory_ids, result_memory_id, from_topic_id, to_topic_id, before::text AS before
      FROM dream_actions
"""


async def next_proposed(read: Read, run: Run) -> Action | None:
    return await read.maybe(
        Action,
        _ACTION + " WHERE space_id = $1 AND run_id = $2 AND status = 'proposed' ORDER BY position LIMIT 1",
        run.space_id,
        run.id,
    )


async def find_action(read: Read, space: UUID, action: UUID) -> Action | None:
    return await read.maybe(Action, _ACTION + " WHERE space_id = $1 AND id = $2", space, action)


async def list_applied(read: Read, space: UUID, run: UUID, wanted: Sequence[UUID] | None) -> list[Action]:
    """What a run has done, the last first; all of it, or those wanted."""
    return await read.many(
        Action,
        _ACTION + " WHERE space_id = $1 AND run_id = $2 AND ($3::uuid[] IS NULL OR id = ANY ($3))"
        " AND status = 'applied' ORDER BY decided_at DESC, position DESC",
        space,
        run,
        None if wanted is None else list(wanted),
    )


async def settle(
    tx: Write,
    action: Action,
    status: str,
    *,
    by: str | None = None,
    before: dict[str, Any] | None = None,
    memories: Sequence[UUID] | None = None,
) -> None:
    """Note what became of an action, and what taking it back needs; the run is alive."""
    await tx.run(
        """
        WITH alive AS (UPDATE dream_runs SET heartbeat_at = now() WHERE space_id = $1 AND id = $7)
        UPDATE dream_actions
           SET status = $3, decided_at = CASE WHEN $3 = 'waiting' THEN decided_at ELSE clock_timestamp() END,
               decided_by = $4, before = coalesce($5::text::jsonb, before),
               source_memory_ids = coalesce($6::uuid[], source_memory_ids)
         WHERE space_id = $1 AND id = $2
        """,
        action.space_id,
        action.id,
        status,
        by,
        None if before is None else msgspec.json.encode(before).decode(),
        None if memories is None else list(memories),
        action.run_id,
    )


async def note_undone(tx: Write, action: Action, by: str) -> None:
    await tx.run(
        "UPDATE dream_actions SET status = 'undone', undone_at = now(), undone_by = $3"
        " WHERE space_id = $1 AND id = $2",
        action.space_id,
        action.id,
        by,
    )


async def note_failed(tx: Write, run: Run, phase: Phase) -> None:
    """A phase came to nothing; what it proposed is dropped."""
    await tx.run(
        "UPDATE dream_runs SET failed = failed || $3::text, heartbeat_at = now(),"
        " planned = CASE WHEN $3::text = ANY (planned) THEN planned ELSE planned || $3::text END"
        " WHERE space_id = $1 AND id = $2",
        run.space_id,
        run.id,
        phase,
    )
    await tx.run(
        "UPDATE dream_actions SET status = 'dropped', decided_at = now()"
        " WHERE space_id = $1 AND run_id = $2 AND status = 'proposed' AND action_type = $3",
        run.space_id,
        run.id,
        phase,
    )


async def note_metrics(
    tx: Write, run: Run, phase: Phase, metrics: object, budget: object, scanned: int, *, more: bool
) -> None:
    await tx.run(
        "UPDATE dream_runs SET phase_metrics = phase_metrics"
        " || jsonb_build_object($3::text, $4::text::jsonb),"
        " phase_budgets = phase_budgets || jsonb_build_object($3::text, $5::text::jsonb),"
        " memories_scanned = greatest(memories_scanned, $6), more_to_compare = more_to_compare OR $7,"
        " heartbeat_at = now()"
        " WHERE space_id = $1 AND id = $2",
        run.space_id,
        run.id,
        phase,
        msgspec.json.encode(metrics).decode(),
        msgspec.json.encode(budget).decode(),
        scanned,
        more,
    )


class Counts(msgspec.Struct, frozen=True):
    """What a run has come to."""

    merged: int
    contradictions: int
    archived: int
    organized: int
    restructured: int
    waiting: int
    scanned: int
    failed: int
    finished_at: str
    topics: list[str]


async def finish(tx: Write, run: Run, status: str) -> Counts:
    """End a run with its numbers."""
    return await tx.one(
        Counts,
        """
        WITH n AS MATERIALIZED (
            SELECT count(*) FILTER (WHERE action_type = 'merge' AND status = 'applied')::integer AS merged,
                   count(*) FILTER (WHERE action_type = 'contradiction' AND status <> 'dropped')::integer
                   AS contradictions,
                   count(*) FILTER (WHERE action_type = 'archive' AND status = 'applied')::integer
                   AS archived,
                   coalesce(sum(cardinality(source_memory_ids))
                            FILTER (WHERE action_type = 'organize' AND status = 'applied'), 0)::integer
                   AS organized,
                   count(*) FILTER (WHERE action_type = 'restructure' AND status = 'applied')::integer
                   AS restructured,
                   count(*) FILTER (WHERE status = 'waiting')::integer AS waiting,
                   coalesce(array_agg(DISTINCT to_topic_id::text)
                            FILTER (WHERE status = 'applied' AND to_topic_id IS NOT NULL), '{}') AS topics
              FROM dream_actions WHERE space_id = $1 AND run_id = $2)
        UPDATE dream_runs r
           SET status = $3, finished_at = now(), heartbeat_at = now(), duplicates_merged = n.merged,
               contradictions_found = n.contradictions, memories_archived = n.archived,
               memories_organized = n.organized, topics_restructured = n.restructured
          FROM n WHERE r.space_id = $1 AND r.id = $2
        RETURNING n.merged, n.contradictions, n.archived, n.organized, n.restructured, n.waiting,
                  r.memories_scanned AS scanned, cardinality(r.failed) AS failed,
                  rfc3339(r.finished_at) AS finished_at, n.topics
        """,
        run.space_id,
        run.id,
        status,
    )


async def note_report(tx: Write, run: Run, report: str) -> None:
    await tx.run(
        "UPDATE dream_runs SET report = $3 WHERE space_id = $1 AND id = $2", run.space_id, run.id, report
    )


class Faded(msgspec.Struct, frozen=True):
    id: UUID
    stability: str
    age_days: float


async def list_unused(read: Read, space: UUID, excluded: Sequence[str], days: int, most: int) -> list[Faded]:
    """What nobody opened, recalled or changed for so long, the oldest first; not what was fetched back."""
    return await read.many(
        Faded,
        """
        SELECT m.id, m.stability, extract(epoch FROM now() - m.updated_at)::float8 / 86400 AS age_days
          FROM memories m
         WHERE m.space_id = $1 AND m.state = 'active' AND NOT m.pinned AND m.access_count = 0
           AND m.stability <> 'stable' AND m.kind <> ALL ($2)
           AND m.created_at < now() - make_interval(days => $3)
           AND m.updated_at < now() - make_interval(days => $3)
           AND coalesce((SELECT s.shown FROM memory_shows s WHERE s.memory_id = m.id), 0) = 0
           AND NOT EXISTS (SELECT FROM dream_actions a WHERE a.source_memory_ids @> ARRAY[m.id]
                              AND a.space_id = $1 AND a.operation = 'archive' AND a.status = 'undone')
         ORDER BY m.created_at, m.id LIMIT $4
        """,
        space,
        list(excluded),
        days,
        most,
    )


class Unsorted(msgspec.Struct, frozen=True):
    """A memory in no topic: the stems of its words, and the words themselves."""

    id: UUID
    lexemes: list[str]
    words: str


async def list_unsorted(read: Read, space: UUID, excluded: Sequence[str], most: int) -> list[Unsorted]:
    """The latest. What somebody has taken out of where a dream had put it is left to people: another topic
    may be much like the one it was in."""
    return await read.many(
        Unsorted,
        """
        SELECT m.id, ARRAY(SELECT DISTINCT t.lexeme FROM memory_terms t WHERE t.memory_id = m.id
                            ORDER BY t.lexeme LIMIT 500) AS lexemes,
               concat_ws(' ', m.title, array_to_string(m.tags, ' '), left(m.content, 2000)) AS words
          FROM memories m
         WHERE m.space_id = $1 AND m.state = 'active' AND m.topic_id IS NULL AND m.kind <> ALL ($2)
           AND NOT EXISTS (SELECT FROM dream_actions a
                            WHERE a.source_memory_ids @> ARRAY[m.id] AND a.space_id = $1
                              AND a.operation = 'organize' AND a.status = 'undone')
         ORDER BY m.created_at DESC, m.id DESC LIMIT $3
        """,
        space,
        list(excluded),
        most,
    )


class Stem(msgspec.Struct, frozen=True):
    word: str
    lexemes: list[str]


async def list_stems(read: Read, language: str, words: Sequence[str]) -> list[Stem]:
    """The stem of each word, by the hub's language."""
    return await read.many(
        Stem,
        "SELECT word, lexemes($1, word) AS lexemes FROM unnest($2::text[]) AS word",
        language,
        list(words),
    )


class Topic(msgspec.Struct, frozen=True):
    """An active topic: the stems of its name, and those that most of what is in it shares."""

    id: UUID
    parent_id: UUID | None
    name: str
    user_modified: bool
    pinned: bool
    memory_count: int
    lexemes: list[str]


async def list_topics(read: Read, space: UUID, language: str) -> list[Topic]:
    return await read.many(
        Topic,
        "SELECT id, parent_id, name, user_modified, pinned, memory_count, lexemes($2, name) AS lexemes"
        " FROM topics WHERE space_id = $1 AND archived_at IS NULL ORDER BY created_at, id",
        space,
        language,
    )


class Rearranged(msgspec.Struct, frozen=True):
    operation: str
    from_topic_id: UUID | None
    to_topic_id: UUID | None


async def list_rearranged(read: Read, space: UUID) -> list[Rearranged]:
    """Moves of topics that were proposed before and refused, taken back, or still wait."""
    return await read.many(
        Rearranged,
        "SELECT operation, from_topic_id, to_topic_id FROM dream_actions"
        " WHERE space_id = $1 AND operation IN ('nest', 'join')"
        " AND status IN ('waiting', 'rejected', 'undone')",
        space,
    )


async def list_deciders(read: Read, action: Action) -> list[str]:
    """Members who may decide about an action: by their rank and what the hub lets contributors do, and who
    wrote one of the memories."""
    return await read.value(
        """
        SELECT coalesce(array_agg(m.user_id ORDER BY m.rank, m.user_id), '{}')
          FROM members m JOIN spaces s ON s.id = m.space_id
         WHERE m.space_id = $1 AND m.status = 'active'
           AND (m.role IN ('owner', 'admin')
                OR m.role = 'contributor' AND CASE WHEN $3 THEN s.contributor_delete_policy = 'any'
                                                   ELSE s.allow_contributor_topics END
                OR $3 AND EXISTS (SELECT FROM memories w WHERE w.space_id = $1 AND w.id = ANY ($2)
                                     AND w.author_id = m.user_id))
        """,
        action.space_id,
        action.source_memory_ids,
        action.operation == "contradiction",
    )
