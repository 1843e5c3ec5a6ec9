"""Pages of a hub's memories, in one statement with what is counted of them."""

from datetime import datetime
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Read
from guildhall.web.caller import Caller


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """`agent` and `author` are names; `own` asks for what the caller wrote without an agent.

    `state` is one, or `all`; where there is none, what is archived is left out. All `tags` must be there.
    """

    kind: str | None = None
    state: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    tags: tuple[str, ...] = ()
    topic: UUID | None = None
    agent: str | None = None
    author: str | None = None
    own: bool = False

    @property
    def any(self) -> bool:
        return self != Filters()


class Page(msgspec.Struct, frozen=True):
    """`rows` are the JSON of the memories; `space_id` is None for nobody's hub.

    The sort keys are of all that was asked for, the rows only of as many as one answer may hold.
    """

    user_id: str
    space_id: UUID | None
    total: int | None
    actors: str | None
    ids: list[UUID] | None
    created: list[datetime] | None
    used: list[int] | None
    rows: list[str] | None


_FILTERED: LiteralString = """
           AND CASE WHEN $18::text IS NULL THEN m.state <> 'archived' ELSE $18 IN ('all', m.state) END
           AND ($6::text IS NULL OR m.kind = $6) AND ($7::timestamptz IS NULL OR m.created_at >= $7)
           AND ($19::timestamptz IS NULL OR m.created_at < $19) AND ($20::text[] = '{}' OR m.tags @> $20)
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
            -- What the rows before weigh: an answer ends with the row that makes it heavy.
            SELECT m.*, sum(m.size) OVER (ORDER BY """
        + order
        + """) - m.size AS weight
              FROM hub CROSS JOIN LATERAL (
                SELECT m.id, m.created_at, m.access_count, octet_length(m.content) AS size
                  FROM memories m WHERE m.space_id = hub.space_id"""
        + _FILTERED
        + after
        + " ORDER BY "
        + order
        + """ LIMIT $12) AS m)
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
        + """ ORDER BY m.created_at DESC LIMIT 1000) AS latest
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
               (SELECT array_agg((SELECT memory_json(e) FROM memories e WHERE e.id = m.id)::text ORDER BY """
        + order
        + """) FROM page m WHERE m.weight < 8000000) AS rows
          FROM hub LEFT JOIN spaces s ON s.id = hub.space_id"""
    )


_NEWEST = _page(
    "m.created_at DESC, m.id DESC",
    " AND (m.created_at, m.id)"
    " < (coalesce($14::timestamptz, 'infinity'), coalesce($15::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))"
    " AND $16::integer IS NULL",
)
_MOST_USED = _page(
    "m.access_count DESC, m.created_at DESC, m.id DESC",
    " AND (m.access_count, m.created_at, m.id) < (coalesce($16::integer, 2147483647),"
    " coalesce($14::timestamptz, 'infinity'), coalesce($15::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))",
)


async def list_memories(
    read: Read,
    caller: Caller,
    hub: str | None,
    otherwise: str | None,
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
        filters.state,
        filters.created_before,
        list(filters.tags),
    )
