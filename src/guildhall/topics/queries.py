"""One function per statement about topics. Each that serves a person starts from me()."""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Read, Write
from guildhall.web.caller import Caller

# Which hub a read of topics is about: the one named, else the usual one.
_HUB: LiteralString = "SELECT user_id, space_id FROM reading_hub($1, $2, $3, $4, $5)"


class Forest(msgspec.Struct, frozen=True):
    """A hub's topics, each as JSON with its numbers. `space_id` is None where there is no hub; `is_otherwise`
    says that it is the one named second."""

    user_id: str
    space_id: UUID | None
    is_otherwise: bool
    unassigned: int | None
    topics: str | None


async def list_topics(read: Read, caller: Caller, hub: str | None, otherwise: str | None) -> Forest | None:
    """The active ones in their order. None when the caller is nobody."""
    return await read.maybe(
        Forest,
        "WITH hub AS MATERIALIZED (" + _HUB + ")"
        """
        SELECT hub.user_id, hub.space_id, (hub.space_id = hub_named($5)) IS TRUE AS is_otherwise,
               s.unsorted_count AS unassigned,
               (SELECT json_agg(json_build_object(
                           'topic', topic_json(t, hub.user_id), 'memories', t.memory_count,
                           'kinds', (SELECT json_agg(kind ORDER BY n DESC, kind)
                                       FROM (SELECT lately.kind, count(*) AS n
                                               FROM (SELECT m.kind FROM memories m
                                                      WHERE m.space_id = t.space_id AND m.topic_id = t.id
                                                        AND m.state <> 'archived'
                                                      ORDER BY m.created_at DESC LIMIT 50) AS lately
                                              GROUP BY lately.kind ORDER BY n DESC, lately.kind LIMIT 3
                                            ) AS most))
                       ORDER BY t.position, t.created_at, t.id)
                  FROM topics t WHERE t.space_id = hub.space_id AND t.archived_at IS NULL)::text AS topics
          FROM hub LEFT JOIN spaces s ON s.id = hub.space_id
        """,
        *caller.me,
        hub,
        otherwise,
    )


class Listed(msgspec.Struct, frozen=True):
    user_id: str
    space_id: UUID | None
    is_otherwise: bool
    topics: str | None


async def list_archived(read: Read, caller: Caller, hub: str | None, otherwise: str | None) -> Listed | None:
    """The archived ones as JSON, the latest first. None when the caller is nobody."""
    return await read.maybe(
        Listed,
        "WITH hub AS MATERIALIZED (" + _HUB + ")"
        """
        SELECT hub.user_id, hub.space_id, (hub.space_id = hub_named($5)) IS TRUE AS is_otherwise,
               coalesce((SELECT json_agg(topic_json(t, hub.user_id) ORDER BY t.archived_at DESC, t.id DESC)
                           FROM topics t WHERE t.space_id = hub.space_id AND t.archived_at IS NOT NULL), '[]'
                       )::text AS topics
          FROM hub
        """,
        *caller.me,
        hub,
        otherwise,
    )


# The topic `$6` in the hub that is named, or in any that the caller reads where none is.
_SEEN: LiteralString = """
    WITH asking AS MATERIALIZED (SELECT user_id FROM me($1, $2, $3)),
    seen AS MATERIALIZED (
        SELECT t AS topic, t.id, t.space_id, t.archived_at FROM topics t
         WHERE t.id = $6
           AND CASE WHEN $4::text IS NULL AND $5::text IS NULL AND NOT $7
                    THEN t.space_id IN (SELECT space_id FROM read_hubs($1, $2, $3))
                    ELSE t.space_id = (SELECT space_id FROM reading_hub($1, $2, $3, $4, $5)) END)
"""


class Wanted(msgspec.Struct, frozen=True):
    """The topic a request is about; `named` says that it names a hub, be it one that there is."""

    topic: UUID
    hub: str | None
    otherwise: str | None
    named: bool


class Found(msgspec.Struct, frozen=True):
    """A topic as JSON, None where there is none for the caller."""

    user_id: str
    topic: str | None


async def find_topic(read: Read, caller: Caller, wanted: Wanted) -> Found | None:
    """None when the caller is nobody."""
    return await read.maybe(
        Found,
        _SEEN + "SELECT asking.user_id,"
        " CASE WHEN seen.id IS NOT NULL THEN topic_json(seen.topic, asking.user_id) END::text AS topic"
        " FROM asking LEFT JOIN seen ON true",
        *caller.me,
        wanted.hub,
        wanted.otherwise,
        wanted.topic,
        wanted.named,
    )


class Page(msgspec.Struct, frozen=True):
    """One row more than a page of a topic's memories. `known` says whether there is the topic."""

    user_id: str
    known: bool
    ids: list[UUID] | None
    created: list[datetime] | None
    rows: list[str] | None


async def list_memories(
    read: Read, caller: Caller, wanted: Wanted, limit: int, after: tuple[datetime, UUID] | None
) -> Page | None:
    """What is in a topic and below, the newest first. None when the caller is nobody."""
    created, last = after or (None, None)
    return await read.maybe(
        Page,
        _SEEN.replace("WITH", "WITH RECURSIVE", 1) + ", "
        """
        inside AS (
            SELECT seen.space_id, seen.id FROM seen
            UNION ALL
            SELECT t.space_id, t.id FROM inside JOIN topics t
                ON t.space_id = inside.space_id AND t.parent_id = inside.id
               AND (t.archived_at IS NULL OR (SELECT archived_at FROM seen) IS NOT NULL)),
        page AS MATERIALIZED (
            SELECT m AS row, m.id, m.created_at
              FROM inside CROSS JOIN LATERAL (
                   SELECT m.* FROM memories m
                    WHERE m.space_id = inside.space_id AND m.topic_id = inside.id AND m.state <> 'archived'
                      AND ($9::timestamptz IS NULL OR (m.created_at, m.id) < ($9, $10::uuid))
                    ORDER BY m.created_at DESC, m.id DESC LIMIT $8) AS m
             ORDER BY m.created_at DESC, m.id DESC LIMIT $8)
        SELECT asking.user_id, EXISTS (SELECT FROM seen) AS known,
               (SELECT array_agg(p.id ORDER BY p.created_at DESC, p.id DESC) FROM page p) AS ids,
               (SELECT array_agg(p.created_at ORDER BY p.created_at DESC, p.id DESC) FROM page p) AS created,
               (SELECT array_agg((SELECT memory_json(m) FROM memories m WHERE m.id = p.id)::text
                                 ORDER BY p.created_at DESC, p.id DESC) FROM page p) AS rows
          FROM asking
        """,
        *caller.me,
        wanted.hub,
        wanted.otherwise,
        wanted.topic,
        wanted.named,
        limit + 1,
        created,
        last,
    )


async def find_hub_of(read: Read, caller: Caller, topic: UUID) -> UUID | None:
    """The hub of a topic, of those that the caller reads."""
    return await read.value(
        "SELECT t.space_id FROM read_hubs($1, $2, $3) AS hub"
        " JOIN topics t ON t.space_id = hub.space_id WHERE t.id = $4",
        *caller.me,
        topic,
    )


async def may_contributors(read: Read, space: UUID) -> bool:
    """Whether a hub's contributors arrange its topics."""
    return await read.value("SELECT allow_contributor_topics FROM spaces WHERE id = $1", space)


class Known(msgspec.Struct, frozen=True):
    """A topic of a hub that is locked."""

    id: UUID
    parent_id: UUID | None
    name: str
    position: int
    user_modified: bool
    archived: bool


async def read_all(read: Read, space: UUID) -> list[Known]:
    """Every topic of a hub, archived ones too."""
    return await read.many(
        Known,
        "SELECT id, parent_id, name, position, user_modified, archived_at IS NOT NULL AS archived"
        " FROM topics WHERE space_id = $1",
        space,
    )


async def insert(
    tx: Write,
    space: UUID,
    topic: UUID,
    *,
    owner: str,
    parent: UUID | None,
    name: str,
    description: str,
    icon: str,
    by_person: bool,
) -> None:
    """Make a topic, after those that are in the same place."""
    await tx.run(
        """
        INSERT INTO topics (
            id, space_id, owner_id, parent_id, name, description, icon, user_modified, position)
        SELECT $2, $1, $3, $4, $5, $6, $7, $8,
               coalesce((SELECT max(t.position) + 1 FROM topics t
                          WHERE t.space_id = $1 AND t.parent_id IS NOT DISTINCT FROM $4
                            AND t.archived_at IS NULL), 0)
        """,
        space,
        topic,
        owner,
        parent,
        name,
        description,
        icon,
        by_person,
    )


async def show(read: Read, space: UUID, topic: UUID, person: str) -> str:
    """A topic as JSON, for whoever holds it."""
    return await read.value(
        "SELECT topic_json(t, $3)::text FROM topics t WHERE t.space_id = $1 AND t.id = $2",
        space,
        topic,
        person,
    )


async def update(tx: Write, space: UUID, topic: UUID, changes: dict[str, object]) -> None:
    """Set the columns in `changes`; any of the first four makes it a person's."""
    await tx.run(
        """
        UPDATE topics
           SET name = CASE WHEN 'name' = ANY ($3) THEN $4 ELSE name END,
               description = CASE WHEN 'description' = ANY ($3) THEN $5 ELSE description END,
               icon = CASE WHEN 'icon' = ANY ($3) THEN $6 ELSE icon END,
               parent_id = CASE WHEN 'parent_id' = ANY ($3) THEN $7::uuid ELSE parent_id END,
               position = CASE WHEN 'position' = ANY ($3) THEN $8 ELSE position END,
               pinned = CASE WHEN 'pinned' = ANY ($3) THEN $9 ELSE pinned END,
               user_modified = user_modified OR $3 && '{name,description,icon,parent_id}',
               updated_at = now()
         WHERE space_id = $1 AND id = $2
        """,
        space,
        topic,
        list(changes),
        changes.get("name"),
        changes.get("description"),
        changes.get("icon"),
        changes.get("parent_id"),
        changes.get("position"),
        changes.get("pinned"),
    )


async def place(
    tx: Write,
    space: UUID,
    topics: Sequence[UUID],
    parents: Sequence[UUID | None],
    positions: Sequence[int],
) -> None:
    """Put each of them under its parent and at its position, all at once."""
    # Names are kept apart row by row: two that change places would meet on the way, unless they are put away.
    await tx.run(
        "UPDATE topics SET archived_at = now() WHERE space_id = $1 AND id = ANY ($2)", space, list(topics)
    )
    await tx.run(
        """
        UPDATE topics t
           SET archived_at = NULL,
               user_modified = t.user_modified OR t.parent_id IS DISTINCT FROM wanted.parent_id,
               parent_id = wanted.parent_id, position = wanted.position, updated_at = now()
          FROM unnest($2::uuid[], $3::uuid[], $4::integer[]) AS wanted (id, parent_id, position)
         WHERE t.space_id = $1 AND t.id = wanted.id
        """,
        space,
        list(topics),
        list(parents),
        list(positions),
    )


async def archive(tx: Write, space: UUID, topics: Sequence[UUID]) -> int:
    """Archive those that are not; answers how many."""
    return await tx.run(
        "UPDATE topics SET archived_at = now(), updated_at = now()"
        " WHERE space_id = $1 AND id = ANY ($2) AND archived_at IS NULL",
        space,
        list(topics),
    )


async def restore(tx: Write, space: UUID, topics: Sequence[UUID], to_root: UUID | None) -> int:
    """Take those out of the archive that are in it, `to_root` to the end of the roots; answers how many."""
    return await tx.run(
        """
        UPDATE topics t
           SET archived_at = NULL, updated_at = now(),
               parent_id = CASE WHEN t.id = $3 THEN NULL ELSE t.parent_id END,
               position = CASE WHEN t.id = $3 THEN coalesce((
                              SELECT max(o.position) + 1 FROM topics o
                               WHERE o.space_id = $1 AND o.parent_id IS NULL AND o.archived_at IS NULL), 0)
                               ELSE t.position END
         WHERE t.space_id = $1 AND t.id = ANY ($2) AND t.archived_at IS NOT NULL
        """,
        space,
        list(topics),
        to_root,
    )


async def delete(tx: Write, space: UUID, topic: UUID, parent: UUID | None) -> None:
    """Delete a topic; what is inside it goes to its parent's end, and its memories are in none."""
    await tx.run(
        "UPDATE memories SET topic_id = NULL, topic_confidence = NULL WHERE space_id = $1 AND topic_id = $2",
        space,
        topic,
    )
    await tx.run(
        """
        UPDATE topics t SET parent_id = $3, updated_at = now(),
               position = t.position + coalesce((
                   SELECT max(o.position) + 1 FROM topics o
                    WHERE o.space_id = $1 AND o.parent_id IS NOT DISTINCT FROM $3), 0)
         WHERE t.space_id = $1 AND t.parent_id = $2
        """,
        space,
        topic,
        parent,
    )
    await tx.run("DELETE FROM topics WHERE space_id = $1 AND id = $2", space, topic)


class Linked(msgspec.Struct, frozen=True):
    """A memory that the caller reads, and where it is."""

    space_id: UUID
    topic_id: UUID | None
    confidence: float | None
    state: str
    is_personal: bool


async def find_memory(read: Read, caller: Caller, memory: UUID) -> Linked | None:
    return await read.maybe(
        Linked,
        "SELECT m.space_id, m.topic_id, m.topic_confidence AS confidence, m.state, s.is_personal"
        " FROM read_hubs($1, $2, $3) AS hub JOIN memories m ON m.space_id = hub.space_id"
        " JOIN spaces s ON s.id = m.space_id WHERE m.id = $4",
        *caller.me,
        memory,
    )


async def link(tx: Write, space: UUID, memory: UUID, topic: UUID | None, confidence: float | None) -> None:
    """Put a memory into a topic, or into none."""
    await tx.run(
        "UPDATE memories SET topic_id = $3, topic_confidence = $4 WHERE space_id = $1 AND id = $2",
        space,
        memory,
        topic,
        confidence,
    )


class Visit(msgspec.Struct, frozen=True):
    user_id: str
    known: bool


async def visit(tx: Write, caller: Caller, topic: UUID) -> Visit | None:
    """Note that the caller was there now. None when they are nobody."""
    return await tx.maybe(
        Visit,
        """
        WITH seen AS MATERIALIZED (
            -- Both are there until this is noted.
            SELECT t.space_id, t.id, hub.user_id FROM read_hubs($1, $2, $3) AS hub
              JOIN members seat ON seat.space_id = hub.space_id AND seat.user_id = hub.user_id
              JOIN topics t ON t.space_id = hub.space_id WHERE t.id = $4 FOR KEY SHARE OF seat, t),
        noted AS (
            INSERT INTO topic_visits (space_id, topic_id, user_id)
            SELECT space_id, id, user_id FROM seen
            ON CONFLICT (topic_id, user_id) DO UPDATE SET visited_at = excluded.visited_at)
        SELECT asking.user_id, EXISTS (SELECT FROM seen) AS known FROM me($1, $2, $3) AS asking
        """,
        *caller.me,
        topic,
    )
