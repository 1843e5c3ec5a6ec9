"""Notices: what news puts into people's inboxes, in the transaction of the change and in one statement.

A notice keeps ids and no names, so that it shows things as they are when it is read, and an erased person in
none.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec

from guildhall.db import Write, new_id
from guildhall.events.event import EventType, tell_members, tell_user

Bucket: TypeAlias = Literal["action", "update"]
ToWhom: TypeAlias = Literal["user", "owner", "inviter", "invitee"]

KINDS: dict[str, Bucket] = {
    "review_contradiction": "action",
    "review_topic_merge": "action",
    "review_topic_restructure": "action",
    "review_stale": "action",
    "review_low_confidence": "action",
    "hub_invite": "action",
    "hub_ownership_transfer": "action",
    "community_invite": "action",
    "community_ownership_transfer": "action",
    "checklist": "action",
    "decision_gate": "action",
    "dream_run_completed": "update",
    "hub_member_joined": "update",
    "hub_invite_accepted": "update",
    "hub_invite_declined": "update",
    "hub_invite_declined_by_you": "update",
    "hub_ownership_transferred": "update",
    "hub_over_limit": "update",
    "hub_frozen": "update",
    "hub_restored": "update",
    "community_member_joined": "update",
    "community_invite_accepted": "update",
    "community_invite_declined": "update",
    "community_invite_declined_by_you": "update",
    "community_ownership_transferred": "update",
    "community_role_changed": "update",
    "system_notice": "update",
    "gift_invite_link": "update",
    "digest": "update",
}
RECEIPT_DAYS = 7


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something to tell one person. Of the same source is only one: telling it again renews it.

    `to` is who: `user`, or whom the space or the invite knows as that; never `but`. `bound` is for members
    alone. It is over at `expires_at`, or after so many days.
    """

    kind: str
    source_kind: str
    source_id: str
    space: UUID
    to: ToWhom = "user"
    user: str | None = None
    but: str | None = None
    invite: UUID | None = None
    bound: bool = True
    person: str | None = None
    priority: int = 0
    payload: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    expires_at: str | None = None
    days: int | None = RECEIPT_DAYS


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """What waited for a decision and has one."""

    source_kind: str
    source_id: str
    resolution: str


class Changed(msgspec.Struct, frozen=True):
    """A row of the inbox that came or changed, as events tell of it."""

    what: Literal["created", "resolved", "updated"]
    id: UUID
    audience: Literal["user", "hub", "hub_member"]
    space_id: UUID | None
    space_kind: str | None
    recipient_user_id: str | None
    hub_member_role: str | None
    kind: str
    source_kind: str
    source_id: str
    resolution: str | None


class _Wanted(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    kind: str
    bucket: Bucket
    source_kind: str
    source_id: str
    space: UUID
    to_whom: ToWhom
    user: str | None
    but: str | None
    invite: UUID | None
    bound: bool
    person: str | None
    priority: int
    payload: dict[str, Any]
    expires_at: str | None
    days: int | None


class Draft(msgspec.Struct, frozen=True):
    """What settle_notices() takes, as JSON."""

    closings: str
    notices: str


def write(closings: Sequence[Closing], notices: Sequence[Notice]) -> Draft:
    wanted = [
        _Wanted(
            id=new_id(),
            kind=notice.kind,
            bucket=KINDS[notice.kind],
            source_kind=notice.source_kind,
            source_id=notice.source_id,
            space=notice.space,
            to_whom=notice.to,
            user=notice.user,
            but=notice.but,
            invite=notice.invite,
            bound=notice.bound,
            person=notice.person,
            priority=notice.priority,
            payload=notice.payload,
            expires_at=notice.expires_at,
            days=notice.days,
        )
        for notice in notices
    ]
    return Draft(msgspec.json.encode(closings).decode(), msgspec.json.encode(wanted).decode())


async def settle(
    tx: Write, actor: str, closings: Sequence[Closing], notices: Sequence[Notice], stale: Sequence[UUID] = ()
) -> None:
    """Close and tell, and leave the events of it. In the spaces of `stale` close also what lost its ground:
    invites and transfers that ended with somebody's right.
    """
    if not (closings or notices or stale):
        return
    draft = write(closings, notices)
    rows = await tx.many(
        Changed,
        "SELECT * FROM settle_notices($1::text::jsonb, $2::text::jsonb, $3)",
        draft.closings,
        draft.notices,
        list(stale),
    )
    for row in rows:
        tell(tx, actor, row)


_EVENTS: dict[str, EventType] = {
    "created": "notification.created",
    "resolved": "notification.resolved",
    "updated": "notification.updated",
}


def tell(
    tx: Write,
    actor: str,
    row: Changed,
    *,
    change: Literal["seen", "dismissed", "expired", "item_updated"] | None = None,
    only: str | None = None,
    **fields: object,
) -> None:
    """Leave the event of a row that changed, for all who have it in their inbox, or for one of them."""
    about = {
        "entity_id": str(row.id),
        "audience": row.audience,
        "kind": row.kind,
        "source_kind": row.source_kind,
        "source_id": row.source_id,
        "resolution": row.resolution,
        "change": change,
        "hub_id": str(row.space_id) if row.space_kind == "hub" else "",
        **fields,
    }
    recipient = only or row.recipient_user_id
    kind = _EVENTS[row.what]
    if recipient is not None:
        tell_user(tx, recipient, kind, actor=actor, about=row.space_id, recipient_user_id=recipient, **about)
    elif row.space_id is not None:
        role = row.hub_member_role
        tell_members(tx, row.space_id, kind, actor=actor, role=role, hub_member_role=role, **about)


async def see_space(tx: Write, user: str, space: UUID) -> None:
    """What needs no decision in this space, and is there up to now, is seen by this person."""
    rows = await tx.many(
        Changed,
        """
        WITH own AS (
            UPDATE notifications SET seen_at = now()
             WHERE recipient_user_id = $1 AND space_id = $2 AND bucket = 'update' AND status = 'pending'
               AND seen_at IS NULL AND created_at <= now() AND coalesce(expires_at > now(), true)
            RETURNING *),
        marked AS (
            INSERT INTO notification_marks (notification_id, user_id, seen_at)
            SELECT n.id, m.user_id, now() FROM members m
              JOIN notifications n ON n.space_id = m.space_id AND n.audience <> 'user'
             WHERE m.space_id = $2 AND m.user_id = $1 AND coalesce(n.hub_member_role = m.role, true)
               AND n.bucket = 'update' AND n.status = 'pending' AND coalesce(n.expires_at > now(), true)
            ON CONFLICT (notification_id, user_id) DO UPDATE SET seen_at = now()
             WHERE notification_marks.seen_at IS NULL
            RETURNING notification_id)
        SELECT 'updated' AS what, n.id, n.audience, n.space_id, s.kind AS space_kind, n.recipient_user_id,
               n.hub_member_role, n.kind, n.source_kind, n.source_id, n.resolution
          FROM (SELECT own.* FROM own UNION ALL
                SELECT n.* FROM marked JOIN notifications n ON n.id = marked.notification_id) AS n
          JOIN spaces s ON s.id = n.space_id
        """,
        user,
        space,
    )
    seen_at = datetime.now(UTC).isoformat()
    for row in rows:
        tell(tx, user, row, change="seen", only=user, seen_at=seen_at)
