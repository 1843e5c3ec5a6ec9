"""One function per statement about the inbox. Each starts from inbox(): what the caller may see of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Read, Write
from guildhall.spaces.notices import Bucket, Changed
from guildhall.web.caller import Caller


class Row(msgspec.Struct, frozen=True):
    """A notification with what it is about, as that is called now. `payload` is JSON."""

    id: UUID
    audience: str
    space_id: UUID | None
    space_kind: str | None
    recipient_user_id: str | None
    hub_member_role: str | None
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


_ROW: LiteralString = """
    SELECT n.id, n.audience, n.space_id, n.space_kind, n.recipient_user_id, n.hub_member_role, n.kind,
           n.bucket, n.status, n.resolution, n.priority, n.source_kind, n.source_id,
           n.payload::text AS payload, n.created_at, rfc3339(n.expires_at) AS expires_at,
           rfc3339(n.resolved_at) AS resolved_at,
           rfc3339(n.seen_at) AS seen_at, coalesce(s.name, n.payload ->> 'space_name') AS space_name,
           s.icon, s.accent, s.logo_url, n.person_id,
           p.display_name AS person_name, p.avatar_url AS person_avatar, own.display_name AS own_name,
           own.avatar_url AS own_avatar,
           review_json(n.space_id, n.kind, n.payload)::text AS review,
           (n.payload ->> 'run_id')::uuid AS dream_run_id,
           (n.payload ->> 'action_id')::uuid AS dream_action_id
      FROM inbox($1, $2, $3) AS n
      -- Who is not in a space sees what it is called now for as long as they are invited.
      LEFT JOIN spaces s ON s.id = n.space_id
       AND (n.kind IN ('hub_invite', 'community_invite') AND n.status = 'pending'
            OR EXISTS (SELECT FROM members m
                        WHERE m.space_id = n.space_id AND m.user_id = $1 AND m.status = 'active'))
      LEFT JOIN users p ON p.id = n.person_id
      LEFT JOIN users own ON own.id = $1
"""
# Where a hub is named, what concerns it and is shown only to its members.
_IN_HUB: LiteralString = """
    ($4::uuid IS NULL OR (n.space_id = $4 AND EXISTS (
        SELECT FROM members m WHERE m.space_id = $4 AND m.user_id = $1 AND m.status = 'active')))
"""


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
    """Newest first."""
    at, last = wanted.before or (None, None)
    return await read.many(
        Row,
        _ROW + " WHERE " + _IN_HUB + " AND n.status = $5 AND ($6::text[] IS NULL OR n.kind = ANY ($6))"
        " AND ($7::text[] IS NULL OR n.resolution = ANY ($7)) AND (NOT $8 OR n.seen_at IS NULL)"
        " AND ($9::timestamptz IS NULL OR n.created_at >= $9)"
        " AND ($10::timestamptz IS NULL OR (n.created_at, n.id) < ($10, $11::uuid))"
        " ORDER BY n.created_at DESC, n.id DESC LIMIT $12",
        *caller.me,
        wanted.hub,
        wanted.status,
        wanted.kinds,
        wanted.resolutions,
        wanted.unseen_only,
        wanted.since,
        at,
        last,
        wanted.limit,
    )


async def find_row(read: Read, caller: Caller, notification: UUID) -> Row | None:
    return await read.maybe(Row, _ROW + " WHERE n.id = $4", *caller.me, notification)


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
        " FROM inbox($1, $2, $3) AS n WHERE n.status = 'pending' AND "
        + _IN_HUB
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


_WHICH: LiteralString = """
    SELECT n.id, n.audience FROM inbox($1, $2, $3) AS n
     WHERE ($4::uuid IS NULL OR n.space_id = $4) AND ($5::uuid IS NULL OR n.id = $5)
       AND ($6::text[] IS NULL OR n.kind = ANY ($6)) AND ($7::timestamptz IS NULL OR n.created_at >= $7)
"""
_CHANGED: LiteralString = """
    SELECT 'updated' AS what, n.id, n.audience, n.space_id, s.kind AS space_kind, n.recipient_user_id,
           n.hub_member_role, n.kind, n.source_kind, n.source_id, n.resolution
      FROM (SELECT id FROM own UNION ALL SELECT id FROM marked) AS changed
      JOIN notifications n ON n.id = changed.id LEFT JOIN spaces s ON s.id = n.space_id
"""


def _bounds(which: Which) -> tuple[object, ...]:
    kinds = None if which.kinds is None else list(which.kinds)
    return which.hub, which.id, kinds, which.since


async def see(tx: Write, caller: Caller, which: Which) -> list[Changed]:
    """Mark as seen what is not yet; answers these. The first time is kept."""
    return await tx.many(
        Changed,
        "WITH mine AS MATERIALIZED (" + _WHICH + " AND n.seen_at IS NULL"
        "   AND ($5 IS NOT NULL OR (n.bucket = 'update' AND n.status = 'pending'))),"
        " own AS (UPDATE notifications SET seen_at = now() FROM mine"
        "   WHERE notifications.id = mine.id AND mine.audience = 'user' AND notifications.seen_at IS NULL"
        "   RETURNING notifications.id),"
        " marked AS (INSERT INTO notification_marks (notification_id, user_id, seen_at)"
        "   SELECT id, $1, now() FROM mine WHERE audience <> 'user'"
        "   ON CONFLICT (notification_id, user_id) DO UPDATE SET seen_at = now()"
        "   WHERE notification_marks.seen_at IS NULL RETURNING notification_id AS id)" + _CHANGED,
        *caller.me,
        *_bounds(which),
    )


async def dismiss(tx: Write, caller: Caller, which: Which) -> list[Changed]:
    """Put away what needs no decision; answers what was not yet."""
    return await tx.many(
        Changed,
        "WITH mine AS MATERIALIZED (" + _WHICH + " AND n.bucket = 'update' AND n.status = 'pending'),"
        " own AS (UPDATE notifications SET status = 'dismissed', resolved_at = now() FROM mine"
        "   WHERE notifications.id = mine.id AND mine.audience = 'user' AND notifications.status = 'pending'"
        "   RETURNING notifications.id),"
        " marked AS (INSERT INTO notification_marks (notification_id, user_id, dismissed_at)"
        "   SELECT id, $1, now() FROM mine WHERE audience <> 'user'"
        "   ON CONFLICT (notification_id, user_id) DO UPDATE SET dismissed_at = now()"
        "   WHERE notification_marks.dismissed_at IS NULL RETURNING notification_id AS id)" + _CHANGED,
        *caller.me,
        *_bounds(which),
    )


async def expire(tx: Write, limit: int) -> list[Changed]:
    """Close what is out of time, so many at once."""
    return await tx.many(
        Changed,
        "WITH own AS (UPDATE notifications SET status = 'expired', resolved_at = now() WHERE id IN"
        "   (SELECT id FROM notifications WHERE status = 'pending' AND expires_at <= now()"
        "     ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING id),"
        " marked AS (SELECT id FROM own WHERE false)" + _CHANGED,
        limit,
    )
