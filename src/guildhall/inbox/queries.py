"""One function per statement about the inbox. Each starts from inbox(): what the caller may see of it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Read, Write, new_id
from guildhall.spaces.notices import MOST_MARKED, Bucket, Changed
from guildhall.web.caller import Caller

# What bounds nothing: parameters that may be null would hide the order of the index from the planner.
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9998, 1, 1, tzinfo=UTC)
_LAST = UUID(int=2**128 - 1)


class Row(msgspec.Struct, frozen=True):
    """A notification with what it is about, as that is called now. `payload` is JSON."""

    id: UUID
    space_id: UUID | None
    space_kind: str | None
    recipient_user_id: str
    kind: str
    bucket: Bucket
    status: str
    resolution: str | None
    priority: int
    source_kind: str
    source_id: str
    payload: str
    created_at: datetime
    expires_at: str | None
    resolved_at: str | None
    seen_at: str | None
    space_name: str | None
    icon: str | None
    accent: str | None
    logo_url: str | None
    person_id: str | None
    person_name: str | None
    person_avatar: str | None
    own_name: str | None
    own_avatar: str | None
    review: str | None
    dream_run_id: UUID | None
    dream_action_id: UUID | None


_COLUMNS: LiteralString = """
    n.id, n.space_id, n.space_kind, n.recipient_user_id, n.kind, n.bucket, n.status, n.resolution, n.priority,
    n.source_kind, n.source_id, n.payload::text AS payload, n.created_at, rfc3339(n.expires_at) AS expires_at,
    rfc3339(n.resolved_at) AS resolved_at, rfc3339(n.seen_at) AS seen_at,
    coalesce(s.name, n.payload ->> 'space_name') AS space_name, s.icon, s.accent, s.logo_url, n.person_id,
    p.display_name AS person_name, p.avatar_url AS person_avatar, own.display_name AS own_name,
    own.avatar_url AS own_avatar, review_json(n.space_id, n.kind, n.payload)::text AS review,
    (n.payload ->> 'run_id')::uuid AS dream_run_id, (n.payload ->> 'action_id')::uuid AS dream_action_id
"""
_NAMES: LiteralString = """
      -- Who is not in a space sees what it and its people are called now for as long as they are invited.
      LEFT JOIN spaces s ON s.id = n.space_id
       AND (n.kind IN ('hub_invite', 'community_invite') AND n.status = 'pending'
            OR EXISTS (SELECT FROM members m
                        WHERE m.space_id = n.space_id AND m.user_id = $1 AND m.status = 'active'))
      LEFT JOIN users p ON p.id = n.person_id AND (n.space_id IS NULL OR s.id IS NOT NULL)
      LEFT JOIN users own ON own.id = $1
"""
# Where a hub is named, what concerns it and is shown only to its members.
_IN_HUB: LiteralString = """
    n.space_id = $4 AND EXISTS (
        SELECT FROM members m WHERE m.space_id = $4 AND m.user_id = $1 AND m.status = 'active')
"""
_ANYWHERE: LiteralString = "$4::uuid IS NULL"
# By what an index knows first. What is out of time is not pending any more, though the job has yet to say so.
_OF_STATUS: dict[str, LiteralString] = {
    "pending": "n.stored_status = 'pending' AND n.status = $5",
    "expired": "n.stored_status IN ('pending', 'expired') AND n.status = $5",
}


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    hub: UUID | None
    status: str
    kinds: list[str] | None
    resolutions: list[str] | None
    unseen_only: bool
    since: datetime | None
    before: tuple[datetime, UUID] | None
    limit: int


async def list_rows(read: Read, caller: Caller, wanted: Filter) -> list[Row]:
    """Newest first. So many are picked in the order of an index before anything is looked up for them."""
    at, last = wanted.before or (_LATEST, _LAST)
    return await read.many(
        Row,
        "WITH n AS MATERIALIZED (SELECT * FROM inbox($1, $2, $3) AS n WHERE "
        + (_ANYWHERE if wanted.hub is None else _IN_HUB)
        + " AND "
        + _OF_STATUS.get(wanted.status, "n.stored_status = $5")
        + " AND ($6::text[] IS NULL OR n.kind = ANY ($6)) AND ($7::text[] IS NULL OR n.resolution = ANY ($7))"
        " AND (NOT $8 OR n.seen_at IS NULL) AND n.created_at >= $9"
        " AND (n.created_at, n.id) < ($10, $11) ORDER BY n.created_at DESC, n.id DESC LIMIT $12)"
        " SELECT " + _COLUMNS + " FROM n" + _NAMES + " ORDER BY n.created_at DESC, n.id DESC",
        *caller.me,
        wanted.hub,
        wanted.status,
        wanted.kinds,
        wanted.resolutions,
        wanted.unseen_only,
        wanted.since or _EARLIEST,
        at,
        last,
        wanted.limit,
    )


async def find_row(read: Read, caller: Caller, notification: UUID) -> Row | None:
    return await read.maybe(
        Row,
        "SELECT " + _COLUMNS + " FROM inbox($1, $2, $3) AS n" + _NAMES + " WHERE n.id = $4",
        *caller.me,
        notification,
    )


class Count(msgspec.Struct, frozen=True):
    kind: str
    bucket: Bucket
    pending: int
    unseen: int


async def count_rows(read: Read, caller: Caller, hub: UUID | None) -> list[Count]:
    """What is pending, by kind."""
    return await read.many(
        Count,
        "SELECT n.kind, n.bucket, count(*) AS pending, count(*) FILTER (WHERE n.seen_at IS NULL) AS unseen"
        " FROM inbox($1, $2, $3) AS n WHERE n.stored_status = 'pending' AND n.status = 'pending' AND "
        + (_ANYWHERE if hub is None else _IN_HUB)
        + " GROUP BY n.kind, n.bucket",
        *caller.me,
        hub,
    )


class Which(msgspec.Struct, frozen=True, kw_only=True):
    """One by its id; or those pending that need no decision, within these bounds."""

    id: UUID | None = None
    hub: UUID | None = None
    kinds: Sequence[str] | None = None
    since: datetime | None = None


_WAITS: LiteralString = "n.bucket = 'update' AND n.stored_status = 'pending' AND n.status = 'pending'"
_WHICH: LiteralString = """
    ($4::uuid IS NULL OR n.space_id = $4) AND ($5::uuid IS NULL OR n.id = $5)
    AND ($6::text[] IS NULL OR n.kind = ANY ($6)) AND n.created_at >= $7
"""
_CHANGED: LiteralString = """
    SELECT c.* FROM own CROSS JOIN LATERAL as_change(own.row, 'updated') AS c
"""


def _bounds(which: Which) -> tuple[object, ...]:
    kinds = None if which.kinds is None else list(which.kinds)
    return which.hub, which.id, kinds, which.since or _EARLIEST, MOST_MARKED


async def see(tx: Write, caller: Caller, which: Which) -> list[Changed]:
    """Mark as seen what is not yet, so many at once; answers these. The first time is kept."""
    return await tx.many(
        Changed,
        "WITH mine AS MATERIALIZED (SELECT n.id FROM inbox($1, $2, $3) AS n WHERE "
        + _WHICH
        # One that is named may be seen whatever became of it.
        + " AND n.seen_at IS NULL AND "
        + ("true" if which.id is not None else _WAITS)
        + " ORDER BY n.created_at DESC, n.id DESC LIMIT $8),"
        " own AS (UPDATE notifications n SET seen_at = now() FROM mine"
        "   WHERE n.id = mine.id AND n.seen_at IS NULL RETURNING n AS row)" + _CHANGED,
        *caller.me,
        *_bounds(which),
    )


async def dismiss(tx: Write, caller: Caller, which: Which) -> list[Changed]:
    """Put away what needs no decision, so many at once; answers what was not yet."""
    return await tx.many(
        Changed,
        "WITH mine AS MATERIALIZED (SELECT n.id FROM inbox($1, $2, $3) AS n WHERE "
        + _WHICH
        + " AND "
        + _WAITS
        + " ORDER BY n.created_at DESC, n.id DESC LIMIT $8),"
        " own AS (UPDATE notifications n SET status = 'dismissed', resolved_at = now() FROM mine"
        "   WHERE n.id = mine.id AND n.status = 'pending' RETURNING n AS row)" + _CHANGED,
        *caller.me,
        *_bounds(which),
    )


async def close(tx: Write, notification: UUID, resolution: str) -> Changed | None:
    """Resolve one; None when that is done already."""
    return await tx.maybe(
        Changed,
        "WITH own AS (UPDATE notifications n SET status = 'resolved', resolution = $2, resolved_at = now()"
        "   WHERE n.id = $1 AND n.status = 'pending' RETURNING n AS row)"
        " SELECT c.* FROM own CROSS JOIN LATERAL as_change(own.row, 'resolved') AS c",
        notification,
        resolution,
    )


async def keep_items(tx: Write, notification: UUID, payload: str, resolution: str | None) -> Changed:
    """Keep how the items of a checklist stand; with a resolution, it is done."""
    return await tx.one(
        Changed,
        "WITH own AS (UPDATE notifications n SET payload = $2::text::jsonb,"
        "   status = CASE WHEN $3::text IS NULL THEN n.status ELSE 'resolved' END, resolution = $3,"
        "   resolved_at = CASE WHEN $3 IS NOT NULL THEN now() END WHERE n.id = $1 RETURNING n AS row)"
        + _CHANGED,
        notification,
        payload,
        resolution,
    )


async def begin_steps(tx: Write, user: str, payload: str) -> Changed:
    """Put the checklist of first steps into somebody's inbox, or renew the one that is there."""
    return await tx.one(
        Changed,
        """
        WITH own AS (
            INSERT INTO notifications AS n
                   (id, recipient_user_id, kind, bucket, source_kind, source_id, payload)
            VALUES ($1, $2, 'checklist', 'action', 'onboarding', $2, $3::text::jsonb)
            ON CONFLICT (source_kind, source_id) DO UPDATE
               SET status = 'pending', resolution = NULL, payload = excluded.payload, created_at = now(),
                   resolved_at = NULL, seen_at = NULL
            RETURNING n AS row)
        SELECT c.* FROM own CROSS JOIN LATERAL as_change(own.row, 'created') AS c
        """,
        new_id(),
        user,
        payload,
    )


async def expire(tx: Write, limit: int) -> list[Changed]:
    """Close what is out of time, so many at once."""
    return await tx.many(
        Changed,
        "WITH own AS (UPDATE notifications n SET status = 'expired', resolved_at = now() WHERE n.id IN"
        "   (SELECT id FROM notifications WHERE status = 'pending' AND expires_at <= now()"
        "     ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING n AS row)" + _CHANGED,
        limit,
    )
