"""Dreams as people read them: one function per statement, each starting from me()."""

from datetime import datetime
from uuid import UUID

import msgspec

from guildhall.db import Read
from guildhall.web.caller import Caller

MOST_ACTIONS = 500


class Page(msgspec.Struct, frozen=True):
    """One row more than a page. `space_id` is None where a hub is named that the caller is not in."""

    user_id: str
    space_id: UUID | None
    started: list[datetime] | None
    ids: list[UUID] | None
    rows: list[str] | None


async def list_runs(
    read: Read, caller: Caller, hub: UUID | None, limit: int, after: tuple[datetime, UUID] | None
) -> Page | None:
    """The runs of a hub, or of all hubs the caller reads, the latest first. None when they are nobody."""
    started, last = after or (None, None)
    return await read.maybe(
        Page,
        """
        WITH hub AS MATERIALIZED (
            SELECT space_id FROM read_hubs($1, $2, $3) WHERE $4::uuid IS NULL OR space_id = $4),
        page AS MATERIALIZED (
            SELECT r.id, r.started_at, dream_run_json(r.run)::text AS row
              FROM hub CROSS JOIN LATERAL (
                   SELECT r AS run, r.id, r.started_at FROM dream_runs r
                    WHERE r.space_id = hub.space_id
                      AND ($6::timestamptz IS NULL OR (r.started_at, r.id) < ($6, $7::uuid))
                    ORDER BY r.started_at DESC, r.id DESC LIMIT $5) AS r
             ORDER BY r.started_at DESC, r.id DESC LIMIT $5)
        SELECT asking.user_id, (SELECT space_id FROM hub LIMIT 1) AS space_id,
               (SELECT array_agg(started_at ORDER BY started_at DESC, id DESC) FROM page) AS started,
               (SELECT array_agg(id ORDER BY started_at DESC, id DESC) FROM page) AS ids,
               (SELECT array_agg(row ORDER BY started_at DESC, id DESC) FROM page) AS rows
          FROM me($1, $2, $3) AS asking
        """,
        *caller.me,
        hub,
        limit + 1,
        started,
        last,
    )


class Detail(msgspec.Struct, frozen=True):
    """A run with its actions, as JSON; None where there is none for the caller."""

    user_id: str
    run: str | None
    actions: str | None


async def find_run(read: Read, caller: Caller, run: UUID) -> Detail | None:
    """None when the caller is nobody."""
    return await read.maybe(
        Detail,
        """
        WITH seen AS MATERIALIZED (
            SELECT r AS row, r.id, r.space_id FROM read_hubs($1, $2, $3) AS hub
              JOIN dream_runs r ON r.space_id = hub.space_id WHERE r.id = $4)
        SELECT asking.user_id, (SELECT dream_run_json(row)::text FROM seen) AS run,
               (SELECT dream_actions_json(space_id, id, $5)::text FROM seen) AS actions
          FROM me($1, $2, $3) AS asking
        """,
        *caller.me,
        run,
        MOST_ACTIONS,
    )


class Report(msgspec.Struct, frozen=True):
    """The latest run of the hub the caller reads, and what waits in it for anybody."""

    user_id: str
    space_id: UUID | None
    run: str | None
    actions: str | None
    contradictions: int
    joins: int
    nests: int


async def read_report(read: Read, caller: Caller, hub: str | None, otherwise: str | None) -> Report | None:
    """None when the caller is nobody."""
    return await read.maybe(
        Report,
        """
        WITH hub AS MATERIALIZED (SELECT user_id, space_id FROM reading_hub($1, $2, $3, $4, $5)),
        latest AS MATERIALIZED (
            SELECT r.row, r.id, r.space_id FROM hub CROSS JOIN LATERAL (
                SELECT r AS row, r.id, r.space_id FROM dream_runs r
                 WHERE r.space_id = hub.space_id AND r.status <> 'skipped'
                 ORDER BY r.started_at DESC, r.id DESC LIMIT 1) AS r)
        SELECT hub.user_id, hub.space_id, (SELECT dream_run_json(row)::text FROM latest) AS run,
               (SELECT dream_actions_json(space_id, id, $6)::text FROM latest) AS actions,
               count(a) FILTER (WHERE a.operation = 'contradiction')::integer AS contradictions,
               count(a) FILTER (WHERE a.operation = 'join')::integer AS joins,
               count(a) FILTER (WHERE a.operation = 'nest')::integer AS nests
          FROM hub LEFT JOIN dream_actions a ON a.space_id = hub.space_id AND a.status = 'waiting'
         GROUP BY hub.user_id, hub.space_id
        """,
        *caller.me,
        hub,
        otherwise,
        MOST_ACTIONS,
    )


class Used(msgspec.Struct, frozen=True):
    """How often a hub was tidied up this month; `space_id` is None where the caller is not in it."""

    user_id: str
    space_id: UUID | None
    is_personal: bool | None
    used: int
    period_start: str
    period_end: str


async def read_usage(read: Read, caller: Caller, hub: UUID | None) -> Used | None:
    """Of one's own hub where none is named. None when the caller is nobody."""
    return await read.maybe(
        Used,
        """
        SELECT asking.user_id, s.id AS space_id, s.is_personal,
               (SELECT count(*) FROM dream_runs r WHERE r.space_id = s.id AND r.status <> 'skipped'
                   AND r.started_at >= this_month()::timestamp AT TIME ZONE 'UTC')::integer AS used,
               rfc3339(this_month()::timestamp AT TIME ZONE 'UTC') AS period_start,
               rfc3339((this_month() + interval '1 month') AT TIME ZONE 'UTC') AS period_end
          FROM me($1, $2, $3) AS asking
          LEFT JOIN (read_hubs($1, $2, $3) AS hub JOIN spaces s ON s.id = hub.space_id)
            ON s.id = coalesce($4::uuid, usual_hub($1, $3))
        """,
        *caller.me,
        hub,
    )
