"""One function per statement about memories. Each that serves a person starts from me()."""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Read, Write
from guildhall.spaces.rules import HubRole
from guildhall.spaces.seats import Place
from guildhall.web.caller import Caller


class Pushed(msgspec.Struct, frozen=True):
    """What became of a push. `memory` is JSON, None where it was refused."""

    user_id: str
    hub_id: UUID | None
    is_personal: bool | None
    outcome: str
    memory_id: UUID | None
    memory_count: int | None
    memory: str | None


async def push(
    tx: Write,
    caller: Caller,
    wanted: Place,
    given: str,
    pieces: str,
    *,
    most: int | None,
    receipt: UUID | None,
) -> Pushed | None:
    """Store a memory, given as JSON of its columns, or find the one that it repeats.

    None when the caller is nobody.
    """
    return await tx.maybe_kept(
        Pushed,
        "SELECT user_id, hub_id, is_personal, outcome, memory_id, memory_count, memory"
        " FROM push_memory($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb, $8, $9)",
        *caller.me,
        wanted.space_id,
        wanted.slug,
        given,
        pieces,
        most,
        receipt,
    )


async def find_writer(read: Read, caller: Caller, wanted: Place) -> str | None:
    """The caller's role where a write would go; None where it would go nowhere."""
    return await read.value(
        "SELECT role FROM hub_seat($1, $2, $3,"
        " CASE WHEN $4::uuid IS NULL AND $5::text IS NULL THEN usual_hub($1, $3) ELSE $4 END, $5)",
        *caller.me,
        wanted.space_id,
        wanted.slug,
    )


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """`agent` and `author` are names; `own` asks for what the caller wrote without an agent."""

    kind: str | None = None
    created_after: datetime | None = None
    topic: UUID | None = None
    agent: str | None = None
    author: str | None = None
    own: bool = False

    @property
    def any(self) -> bool:
        return self != Filters()


class Page(msgspec.Struct, frozen=True):
    """`rows` are the JSON of the memories with their sort keys; `space_id` is None for nobody's hub."""

    user_id: str
    space_id: UUID | None
    total: int | None
    actors: str | None
    ids: list[UUID] | None
    created: list[datetime] | None
    used: list[int] | None
    rows: list[str] | None


_FILTERED: LiteralString = """
           AND m.state <> 'archived'
           AND ($6::text IS NULL OR m.kind = $6) AND ($7::timestamptz IS NULL OR m.created_at >= $7)
           AND ($8::uuid IS NULL OR m.topic_id = $8)
           AND ($9::text IS NULL OR m.source_agent = $9)
           AND ($10::text IS NULL OR (m.source_agent IS NULL AND m.author_id IN (
                SELECT u.id FROM users u WHERE u.display_name = $10)))
           AND (NOT $11 OR (m.author_id = hub.user_id AND m.source_agent IS NULL))"""


def _page(order: LiteralString, after: LiteralString) -> LiteralString:
    return (
        """
        WITH hub AS MATERIALIZED (SELECT user_id, space_id FROM reading_hub($1, $2, $3, $4, $5)),
        page AS MATERIALIZED (
            SELECT m AS row, m.id, m.created_at, m.access_count
              FROM hub JOIN memories m ON m.space_id = hub.space_id WHERE true"""
        + _FILTERED
        + after
        + " ORDER BY "
        + order
        + """ LIMIT $12)
        SELECT hub.user_id, hub.space_id,
               CASE WHEN $17 THEN (SELECT count(*) FROM memories m WHERE m.space_id = hub.space_id"""
        + _FILTERED
        + """)::integer ELSE s.memory_count END AS total,
               CASE WHEN $13 THEN (
                    SELECT json_object_agg(name, n) FROM (
                        SELECT coalesce(a.display_name, latest.source_agent, u.display_name) AS name,
                               count(*) AS n
                          FROM (SELECT m.author_id, m.source_agent FROM memories m
                                 WHERE m.space_id = hub.space_id"""
        + _FILTERED
        + """ ORDER BY m.created_at DESC LIMIT 5000) AS latest
                          JOIN users u ON u.id = latest.author_id
                          LEFT JOIN agents a
                            ON a.user_id = latest.author_id AND a.agent_name = latest.source_agent
                         GROUP BY 1) AS counted)::text END AS actors,
               (SELECT array_agg(m.id ORDER BY """
        + order
        + """) FROM page m) AS ids,
               (SELECT array_agg(m.created_at ORDER BY """
        + order
        + """) FROM page m) AS created,
               (SELECT array_agg(m.access_count ORDER BY """
        + order
        + """) FROM page m) AS used,
               (SELECT array_agg(memory_json(m.row)::text ORDER BY """
        + order
        + """) FROM page m) AS rows
          FROM hub LEFT JOIN spaces s ON s.id = hub.space_id"""
    )


_NEWEST = _page(
    "m.created_at DESC, m.id DESC",
    " AND ($14::timestamptz IS NULL OR (m.created_at, m.id) < ($14, $15)) AND $16::integer IS NULL",
)
_MOST_USED = _page(
    "m.access_count DESC, m.created_at DESC, m.id DESC",
    " AND ($14::timestamptz IS NULL OR (m.access_count, m.created_at, m.id) < ($16::integer, $14, $15))",
)


async def list_memories(
    read: Read,
    caller: Caller,
    hub: UUID | None,
    otherwise: UUID | None,
    filters: Filters,
    limit: int,
    *,
    by_use: bool,
    after: tuple[int, datetime, UUID] | None,
) -> Page | None:
    """One row more than a page, of the hub the caller reads. None when they are nobody."""
    used, created, id = after or (None, None, None)
    return await read.maybe(
        Page,
        _MOST_USED if by_use else _NEWEST,
        *caller.me,
        hub,
        otherwise,
        filters.kind,
        filters.created_after,
        filters.topic,
        filters.agent,
        filters.author,
        filters.own,
        limit + 1,
        after is None,
        created,
        id,
        used if by_use else None,
        filters.any,
    )


class Found(msgspec.Struct, frozen=True):
    """A memory for whoever may read it; all but `user_id` is None where there is none for them."""

    user_id: str
    memory: str | None
    lifecycle: str | None


async def find_memory(read: Read, caller: Caller, memory: UUID) -> Found | None:
    """None when the caller is nobody."""
    return await read.maybe(
        Found,
        """
        SELECT asking.user_id, memory_json(m)::text AS memory, memory_lifecycle(m.id)::text AS lifecycle
          FROM me($1, $2, $3) AS asking
          LEFT JOIN (memories m JOIN read_hubs($1, $2, $3) AS hub ON hub.space_id = m.space_id) ON m.id = $4
        """,
        *caller.me,
        memory,
    )


async def read_memory(read: Read, memory: UUID) -> str:
    """As JSON, for whoever holds it."""
    return await read.value("SELECT memory_json(m)::text FROM memories m WHERE m.id = $1", memory)


class Seen(msgspec.Struct, frozen=True):
    user_id: str
    known: bool


async def note_access(tx: Write, caller: Caller, memory: UUID) -> Seen | None:
    """Count that the caller opened a memory, unless they did a moment ago. None when they are nobody."""
    return await tx.maybe(
        Seen,
        """
        WITH seen AS MATERIALIZED (
            SELECT m.id, m.space_id, hub.user_id
              FROM memories m JOIN read_hubs($1, $2, $3) AS hub ON hub.space_id = m.space_id WHERE m.id = $4),
        visited AS (
            INSERT INTO memory_visits (space_id, memory_id, user_id, visited_at)
            SELECT space_id, id, user_id, now() FROM seen
            ON CONFLICT (memory_id, user_id) DO UPDATE SET visited_at = excluded.visited_at
             WHERE memory_visits.visited_at <= now() - interval '30 seconds'
            RETURNING memory_id),
        counted AS (
            UPDATE memories SET access_count = access_count + 1, accessed_at = now()
             WHERE id IN (SELECT memory_id FROM visited))
        SELECT asking.user_id, EXISTS (SELECT FROM seen) AS known FROM me($1, $2, $3) AS asking
        """,
        *caller.me,
        memory,
    )


class Held(msgspec.Struct, frozen=True):
    """A memory whose hub is locked, and what the caller is there."""

    id: UUID
    space_id: UUID
    user_id: str
    role: HubRole
    author_id: str
    policy: str
    is_personal: bool
    frozen: bool
    topics_allowed: bool
    topic_id: UUID | None
    state: str
    content_type: str
    title: str
    content: str

    @property
    def own(self) -> bool:
        return self.author_id == self.user_id


async def lock_memories(
    tx: Write, caller: Caller, memories: Sequence[UUID], hubs: Sequence[UUID] = ()
) -> list[Held]:
    """Those of the memories that the caller may read, with their hubs, and `hubs`, locked in one order."""
    await tx.run(
        """
        SELECT FROM spaces WHERE id IN (
            SELECT hub.space_id FROM read_hubs($1, $2, $3) AS hub
             WHERE hub.space_id = ANY ($5)
                OR hub.space_id IN (SELECT m.space_id FROM memories m WHERE m.id = ANY ($4)))
         ORDER BY id FOR NO KEY UPDATE
        """,
        *caller.me,
        list(memories),
        list(hubs),
    )
    return await tx.many(
        Held,
        """
        SELECT m.id, m.space_id, hub.user_id, hub.role, m.author_id, s.contributor_delete_policy AS policy,
               s.is_personal, s.frozen_at IS NOT NULL AS frozen, s.allow_contributor_topics AS topics_allowed,
               m.topic_id, m.state, m.content_type, m.title, m.content
          FROM read_hubs($1, $2, $3) AS hub
          JOIN memories m ON m.space_id = hub.space_id AND m.id = ANY ($4)
          JOIN spaces s ON s.id = hub.space_id
         ORDER BY m.id FOR UPDATE OF m
        """,
        *caller.me,
        list(memories),
    )


async def update_memory(tx: Write, held: Held, changes: dict[str, object], pieces: str | None) -> str:
    """Set the columns in `changes`, and the chunks where `pieces` are given; answers the memory as JSON."""
    if pieces is not None:
        await tx.run("DELETE FROM memory_chunks WHERE memory_id = $1", held.id)
    await tx.run(
        """
        WITH parts AS (
            INSERT INTO memory_chunks (space_id, memory_id, chunk, heading_chain, content)
            SELECT $2, $1, p.chunk, p.heading_chain, p.content
              FROM jsonb_to_recordset($14::jsonb) AS p (chunk smallint, heading_chain text, content text))
        UPDATE memories
           SET title = CASE WHEN 'title' = ANY ($3) THEN $4 ELSE title END,
               content = CASE WHEN 'content' = ANY ($3) THEN $5 ELSE content END,
               content_type = CASE WHEN 'content_type' = ANY ($3) THEN $6 ELSE content_type END,
               content_hash = CASE WHEN 'content_hash' = ANY ($3) THEN $7 ELSE content_hash END,
               summary = CASE WHEN 'summary' = ANY ($3) THEN $8 ELSE summary END,
               hint = CASE WHEN 'hint' = ANY ($3) THEN $9 ELSE hint END,
               kind = CASE WHEN 'kind' = ANY ($3) THEN $10 ELSE kind END,
               stability = CASE WHEN 'stability' = ANY ($3) THEN $11 ELSE stability END,
               tags = CASE WHEN 'tags' = ANY ($3) THEN $12 ELSE tags END,
               chunk_count = CASE WHEN 'chunk_count' = ANY ($3) THEN $13 ELSE chunk_count END,
               pinned = CASE WHEN 'pinned' = ANY ($3) THEN $15 ELSE pinned END,
               state = CASE WHEN 'state' = ANY ($3) THEN $16 ELSE state END,
               updated_by = $17, updated_at = now()
         WHERE id = $1
        """,
        held.id,
        held.space_id,
        list(changes),
        changes.get("title"),
        changes.get("content"),
        changes.get("content_type"),
        changes.get("content_hash"),
        changes.get("summary"),
        changes.get("hint"),
        changes.get("kind"),
        changes.get("stability"),
        changes.get("tags"),
        changes.get("chunk_count"),
        pieces or "[]",
        changes.get("pinned"),
        changes.get("state"),
        held.user_id,
    )
    return await read_memory(tx, held.id)


async def delete_memories(tx: Write, memories: Sequence[UUID]) -> bool:
    """Delete them with all that hangs from them; answers whether files are left to be removed."""
    files: bool = await tx.value(
        "SELECT EXISTS (SELECT FROM memory_attachments WHERE memory_id = ANY ($1))", list(memories)
    )
    await tx.run("DELETE FROM memories WHERE id = ANY ($1)", list(memories))
    return files


async def move_memories(tx: Write, memories: Sequence[UUID], hub: UUID, topic: UUID | None) -> None:
    """Put them into the hub and topic. A path that the author uses there already goes from what is moved."""
    await tx.run(
        """
        UPDATE memories m
           SET space_id = $2, topic_id = $3, topic_confidence = CASE WHEN $3::uuid IS NOT NULL THEN 0.85 END,
               updated_at = now(),
               source_path = CASE WHEN m.space_id = $2 OR NOT EXISTS (
                   SELECT FROM memories o WHERE o.space_id = $2 AND o.author_id = m.author_id
                      AND o.source_path = m.source_path) THEN m.source_path END
         WHERE m.id = ANY ($1)
        """,
        list(memories),
        hub,
        topic,
    )


class Target(msgspec.Struct, frozen=True):
    """A hub as somewhere to move to; `role` is the caller's."""

    space_id: UUID
    user_id: str
    role: HubRole
    is_personal: bool
    frozen: bool
    topics_allowed: bool
    memory_count: int


async def find_target(read: Read, caller: Caller, hub: UUID) -> Target | None:
    return await read.maybe(
        Target,
        """
        SELECT hub.space_id, hub.user_id, hub.role, s.is_personal, s.frozen_at IS NOT NULL AS frozen,
               s.allow_contributor_topics AS topics_allowed, s.memory_count
          FROM read_hubs($1, $2, $3) AS hub JOIN spaces s ON s.id = hub.space_id WHERE hub.space_id = $4
        """,
        *caller.me,
        hub,
    )


class Topic(msgspec.Struct, frozen=True):
    id: UUID
    space_id: UUID
    archived: bool


async def find_topic(read: Read, caller: Caller, topic: UUID) -> Topic | None:
    """A topic of a hub that the caller reads."""
    return await read.maybe(
        Topic,
        "SELECT t.id, t.space_id, t.archived_at IS NOT NULL AS archived FROM read_hubs($1, $2, $3) AS hub"
        " JOIN topics t ON t.space_id = hub.space_id WHERE t.id = $4",
        *caller.me,
        topic,
    )


async def usual_hub(read: Read, caller: Caller) -> UUID | None:
    """The hub that writes go to where they name none."""
    return await read.value("SELECT usual_hub($1, $2)", caller.user, caller.session)


class Versions(msgspec.Struct, frozen=True):
    """`versions` is JSON, None where there is no such memory for the caller."""

    user_id: str
    versions: str | None


async def list_versions(read: Read, caller: Caller, memory: UUID) -> Versions | None:
    """All versions of a memory, the newest first. None when the caller is nobody."""
    return await read.maybe(
        Versions,
        """
        SELECT asking.user_id, CASE WHEN m.id IS NOT NULL THEN (
                   SELECT json_agg(json_build_object(
                              'memory_id', v.memory_id, 'version', v.version,
                              'is_current', v.version = m.version, 'title', v.title, 'content', v.content,
                              'content_type', v.content_type, 'content_hash', encode(v.content_hash, 'hex'),
                              'hint', v.hint, 'kind', v.kind, 'stability', v.stability, 'tags', v.tags,
                              'saved_at', rfc3339(v.saved_at), 'saved_by', v.saved_by,
                              'saved_by_name', u.display_name) ORDER BY v.version DESC)
                     FROM (SELECT memory_id, version, title, content, content_type, content_hash, hint, kind,
                                  stability, tags, saved_at, saved_by
                             FROM memory_versions WHERE memory_id = m.id
                           UNION ALL
                           SELECT m.id, m.version, m.title, m.content, m.content_type, m.content_hash, m.hint,
                                  m.kind, m.stability, m.tags, m.updated_at,
                                  coalesce(m.updated_by, m.author_id)) AS v
                     JOIN users u ON u.id = v.saved_by) END::text AS versions
          FROM me($1, $2, $3) AS asking
          LEFT JOIN (memories m JOIN read_hubs($1, $2, $3) AS hub ON hub.space_id = m.space_id) ON m.id = $4
        """,
        *caller.me,
        memory,
    )


class Version(msgspec.Struct, frozen=True):
    title: str
    content: str
    content_type: str
    hint: str
    kind: str
    stability: str
    tags: list[str]


async def find_version(read: Read, memory: UUID, version: int) -> Version | None:
    """What a memory was at this version, of those before the present one."""
    return await read.maybe(
        Version,
        "SELECT title, content, content_type, hint, kind, stability, tags FROM memory_versions"
        " WHERE memory_id = $1 AND version = $2",
        memory,
        version,
    )


async def delete_own(tx: Write, user: str, before: datetime, most: int) -> list[UUID]:
    """Delete some of what somebody wrote in hubs they are in; answers the hubs of what went."""
    return await tx.value(
        """
        WITH written AS (
            SELECT m.id
              FROM members seat
              JOIN memories m ON m.space_id = seat.space_id AND m.author_id = seat.user_id
             WHERE seat.user_id = $1 AND seat.kind = 'hub' AND m.created_at <= $2 LIMIT $3),
        gone AS (DELETE FROM memories WHERE id IN (SELECT id FROM written) RETURNING space_id)
        SELECT coalesce(array_agg(space_id), '{}') FROM gone
        """,
        user,
        before,
        most,
    )


async def delete_own_topics(tx: Write, user: str) -> None:
    """Delete the topics of somebody's personal hub."""
    await tx.run(
        "DELETE FROM topics WHERE space_id = (SELECT id FROM spaces WHERE owner_id = $1 AND is_personal)",
        user,
    )


class Names(msgspec.Struct, frozen=True):
    """Topics and hubs, as JSON."""

    topics: str
    hubs: str


async def find_names(read: Read, caller: Caller, query: str) -> Names:
    """Topics and hubs of the caller's that have this in their name, those that begin with it first."""
    return await read.one(
        Names,
        """
        WITH hub AS MATERIALIZED (
            SELECT h.space_id, s.name FROM read_hubs($1, $2, $3) AS h JOIN spaces s ON s.id = h.space_id)
        SELECT (SELECT coalesce(json_agg(json_strip_nulls(json_build_object(
                           'id', id, 'name', name, 'description', nullif(description, ''),
                           'hub_id', space_id))), '[]')
                  FROM (SELECT t.id, t.name, t.description, t.space_id FROM hub
                          JOIN topics t ON t.space_id = hub.space_id AND t.archived_at IS NULL
                         WHERE position(lower($4) IN lower(t.name)) > 0
                         ORDER BY starts_with(lower(t.name), lower($4)) DESC, t.name, t.id LIMIT 5) AS named
               )::text AS topics,
               (SELECT coalesce(json_agg(json_build_object('id', space_id, 'name', name)), '[]')
                  FROM (SELECT space_id, name FROM hub WHERE position(lower($4) IN lower(name)) > 0
                         ORDER BY starts_with(lower(name), lower($4)) DESC, name, space_id LIMIT 5) AS named
               )::text AS hubs
        """,
        *caller.me,
        query,
    )


class Near(msgspec.Struct, frozen=True):
    """A memory like another one; `known` says whether the caller may read that one."""

    user_id: str
    known: bool
    memory: str | None
    similarity: float | None


async def list_related(read: Read, caller: Caller, memory: UUID) -> list[Near]:
    """Active memories of its hub with the rarest words of this one. One row at least for a live account."""
    return await read.many(
        Near,
        """
        WITH source AS MATERIALIZED (
            SELECT m.id, m.space_id, m.state, s.memory_count
              FROM memories m JOIN read_hubs($1, $2, $3) AS hub ON hub.space_id = m.space_id
              JOIN spaces s ON s.id = m.space_id WHERE m.id = $4),
        words AS MATERIALIZED (
            SELECT w.lexeme, (SELECT count(*) FROM (
                       SELECT FROM memory_terms t WHERE t.space_id = w.space_id AND t.lexeme = w.lexeme
                        LIMIT 1001) AS few) AS n
              FROM (SELECT DISTINCT t.space_id, t.lexeme FROM source
                      JOIN memory_terms t ON t.memory_id = source.id LIMIT 400) AS w),
        special AS MATERIALIZED (
            SELECT lexeme, ln(1 + (greatest(source.memory_count, n) - n + 0.5) / (n + 0.5))::float8 AS idf
              FROM words CROSS JOIN source ORDER BY n, lexeme LIMIT 25),
        like_it AS MATERIALIZED (
            SELECT t.memory_id, sum(special.idf) AS score
              FROM special CROSS JOIN source
             CROSS JOIN LATERAL (
                SELECT DISTINCT t.memory_id FROM memory_terms t
                 WHERE t.space_id = source.space_id AND t.lexeme = special.lexeme AND t.memory_id <> source.id
                 LIMIT 1000) AS t
             GROUP BY t.memory_id ORDER BY score DESC, t.memory_id DESC LIMIT 3)
        SELECT asking.user_id, EXISTS (SELECT FROM source) AS known, memory_json(m)::text AS memory,
               like_it.score / nullif((SELECT sum(idf) FROM special), 0) AS similarity
          FROM me($1, $2, $3) AS asking
          LEFT JOIN (like_it JOIN memories m ON m.id = like_it.memory_id AND m.state = 'active') ON true
         ORDER BY like_it.score DESC NULLS LAST, m.id DESC
        """,
        *caller.me,
        memory,
    )
