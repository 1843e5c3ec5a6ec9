"""One function per statement about memories. Each that serves a person starts from me()."""

from collections.abc import Sequence
from datetime import datetime
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
            -- Where it is now, and there until this is noted.
            SELECT m.id, m.space_id, hub.user_id
              FROM memories m JOIN read_hubs($1, $2, $3) AS hub ON hub.space_id = m.space_id WHERE m.id = $4
               FOR KEY SHARE OF m),
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


class Text(msgspec.Struct, frozen=True):
    content: str
    content_type: str
    content_hash: bytes


async def find_own_text(read: Read, caller: Caller, memory: UUID) -> Text | None:
    """The content of a memory that the caller wrote, in a hub that they read."""
    return await read.maybe(
        Text,
        "SELECT m.content, m.content_type, m.content_hash FROM read_hubs($1, $2, $3) AS hub"
        " JOIN memories m ON m.space_id = hub.space_id AND m.author_id = hub.user_id WHERE m.id = $4",
        *caller.me,
        memory,
    )


class Held(msgspec.Struct, frozen=True):
    """A memory whose hub is locked, and what the caller is there. Without its content, which may be long."""

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
    content_hash: bytes
    title_is_made: bool

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
               m.topic_id, m.state, m.content_type, m.content_hash, m.title_is_made
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
               title_is_made = CASE WHEN 'title' = ANY ($3) THEN $18 ELSE title_is_made END,
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
               occurred_at = CASE WHEN 'occurred_at' = ANY ($3) THEN $19 ELSE occurred_at END,
               speaker = CASE WHEN 'speaker' = ANY ($3) THEN $20 ELSE speaker END,
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
        changes.get("title_is_made", False),
        changes.get("occurred_at"),
        changes.get("speaker"),
    )
    return await read_memory(tx, held.id)


async def delete_memories(tx: Write, memories: Sequence[UUID]) -> bool:
    """Delete them with all that hangs from them; answers whether files are left to be removed."""
    return await tx.value(
        "WITH files AS MATERIALIZED ("
        "     SELECT EXISTS (SELECT FROM memory_attachments WHERE memory_id = ANY ($1)) AS are_left),"
        " gone AS (DELETE FROM memories WHERE id = ANY ($1))"
        " SELECT are_left FROM files",
        list(memories),
    )


async def move_memories(tx: Write, memories: Sequence[UUID], hub: UUID, topic: UUID | None) -> None:
    """Put them into the hub and topic. A path that the author uses there already goes from what is moved."""
    await tx.run(
        """
        UPDATE memories m
           SET space_id = $2, topic_id = $3, topic_confidence = CASE WHEN $3::uuid IS NOT NULL THEN 0.85 END,
               updated_at = now(),
               source_path = CASE WHEN m.space_id = $2 OR NOT EXISTS (
                   SELECT FROM memories o WHERE o.space_id = $2 AND o.author_id = m.author_id
                      AND md5(o.source_path) = md5(m.source_path) AND o.source_path IS NOT NULL)
                   THEN m.source_path END
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
    """`versions` is JSON, None where there is no such memory for the caller; `last` is the oldest of them."""

    user_id: str
    versions: str | None
    last: int | None


async def list_versions(read: Read, caller: Caller, memory: UUID, before: int, limit: int) -> Versions | None:
    """The versions of a memory before that one, the newest first, as many as one answer may hold.

    None when the caller is nobody.
    """
    return await read.maybe(
        Versions,
        """
        WITH page AS MATERIALIZED (
            SELECT v.*, sum(v.size) OVER (ORDER BY v.version DESC) - v.size AS weight
              FROM (SELECT m.id, m.space_id, m.version, octet_length(m.content) AS size
                      FROM read_hubs($1, $2, $3) AS hub
                      JOIN memories m ON m.space_id = hub.space_id AND m.id = $4 AND m.version < $5
                    UNION ALL
                    SELECT v.memory_id, v.space_id, v.version, octet_length(v.content)
                      FROM read_hubs($1, $2, $3) AS hub
                      JOIN memory_versions v ON v.space_id = hub.space_id AND v.memory_id = $4
                                            AND v.version < $5
                     ORDER BY version DESC LIMIT $6) AS v),
        shown AS MATERIALIZED (SELECT id, version FROM page WHERE weight < 4000000)
        SELECT asking.user_id, (SELECT min(version) FROM shown) AS last,
               CASE WHEN m.id IS NOT NULL THEN coalesce((
                   SELECT json_agg(json_build_object(
                              'memory_id', v.memory_id, 'version', v.version,
                              'is_current', v.version = m.version, 'title', v.title, 'content', v.content,
                              'content_type', v.content_type, 'content_hash', encode(v.content_hash, 'hex'),
                              'hint', v.hint, 'kind', v.kind, 'stability', v.stability, 'tags', v.tags,
                              'saved_at', rfc3339(v.saved_at), 'saved_by', v.saved_by,
                              'saved_by_name', u.display_name) ORDER BY v.version DESC)
                     FROM (SELECT memory_id, version, title, content, content_type, content_hash, hint, kind,
                                  stability, tags, saved_at, saved_by
                             FROM memory_versions
                            WHERE memory_id = m.id AND version IN (SELECT version FROM shown)
                           UNION ALL
                           SELECT m.id, m.version, m.title, m.content, m.content_type, m.content_hash, m.hint,
                                  m.kind, m.stability, m.tags, m.updated_at,
                                  coalesce(m.updated_by, m.author_id)
                            WHERE m.version IN (SELECT version FROM shown)) AS v
                     JOIN users u ON u.id = v.saved_by), '[]') END::text AS versions
          FROM me($1, $2, $3) AS asking
          LEFT JOIN (memories m JOIN read_hubs($1, $2, $3) AS hub ON hub.space_id = m.space_id) ON m.id = $4
        """,
        *caller.me,
        memory,
        before,
        limit,
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
        WITH locked AS MATERIALIZED (
            -- As everybody who changes what is in a hub, the hub first.
            SELECT s.id FROM spaces s JOIN members seat ON seat.space_id = s.id
             WHERE seat.user_id = $1 AND seat.kind = 'hub' ORDER BY s.id FOR NO KEY UPDATE OF s),
        written AS (
            SELECT m.id
              FROM members seat JOIN locked ON locked.id = seat.space_id
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
    """Delete the topics of somebody's personal hub, and what dreams did and proposed in it."""
    await tx.run(
        "WITH hub AS MATERIALIZED (SELECT id FROM spaces WHERE owner_id = $1 AND is_personal),"
        " dreams AS (DELETE FROM dream_runs WHERE space_id IN (SELECT id FROM hub)),"
        " told AS (DELETE FROM notifications WHERE space_id IN (SELECT id FROM hub)"
        "   AND source_kind IN ('contradiction', 'topic_review', 'dream_run'))"
        " DELETE FROM topics WHERE space_id IN (SELECT id FROM hub)",
        user,
    )


class Finished(msgspec.Struct, frozen=True):
    space_id: UUID
    author_id: str


async def finish_file(
    tx: Write,
    memory: UUID,
    *,
    title: str,
    content: str,
    kind: str,
    summary: str,
    pieces: str,
    count: int,
    problem: str | None,
) -> Finished | None:
    """Put the text of its file into a memory that is being processed; None when it is not any more.

    A title that somebody gave it stays. The text of HTML is not HTML: it is of its `kind`.
    """
    return await tx.maybe(
        Finished,
        """
        WITH done AS (
            UPDATE memories
               SET title = CASE WHEN title_is_made AND $2 <> '' THEN $2 ELSE title END, content = $3,
                   content_type = CASE WHEN content_type = 'html' AND $3 <> '' THEN $8 ELSE content_type END,
                   summary = $4, chunk_count = $6, state = 'active',
                   content_hash = CASE WHEN $3 = '' THEN content_hash ELSE sha256(convert_to($3, 'UTF8')) END,
                   metadata = CASE WHEN $7::text IS NULL THEN metadata
                              ELSE coalesce(metadata, '{}') || jsonb_build_object('unreadable', $7) END
             WHERE id = $1 AND state = 'processing'
            RETURNING space_id, author_id),
        parts AS (
            INSERT INTO memory_chunks (space_id, memory_id, chunk, heading_chain, content)
            SELECT done.space_id, $1, p.chunk, p.heading_chain, p.content
              FROM done, jsonb_to_recordset($5::jsonb)
                         AS p (chunk smallint, heading_chain text, content text))
        SELECT space_id, author_id FROM done
        """,
        memory,
        title,
        content,
        summary,
        pieces,
        count,
        problem,
        kind,
    )
