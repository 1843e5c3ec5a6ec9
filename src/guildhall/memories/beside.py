"""What is found beside memories: names of topics and hubs, and memories like one another."""

from uuid import UUID

import msgspec

from guildhall.db import Read
from guildhall.web.caller import Caller


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
