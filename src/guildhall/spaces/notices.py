"""Notices: what news puts into people's inboxes, in the transaction of the change and in one statement.

A notice keeps ids and no names, so that it shows things as they are when it is read, and an erased person in
none.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec

from guildhall.db import Write, new_id
from guildhall.events.event import EventType, tell_user

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
# So many are marked at once, the newest first, and of more than a few it is not told one by one.
MOST_MARKED = 10_000
FEW = 20


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
    space_id: UUID | None
    space_kind: str | None
    recipient_user_id: str
    kind: str
    source_kind: str
    source_id: str
    resolution: str | None
    seen_at: str | None


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


async def close_all(tx: Write, actor: str, space: UUID) -> None:
    """Close what is offered in a space that is about to be deleted, so that whom it is for, who may be no
    member, hears that it is gone.
    """
    rows = await tx.many(
        Changed,
        """
        WITH own AS (
            UPDATE notifications n SET status = 'resolved', resolution = 'dismissed', resolved_at = now()
             WHERE n.space_id = $1 AND n.status = 'pending'
               AND n.kind IN ('hub_invite', 'community_invite', 'hub_ownership_transfer',
                              'community_ownership_transfer')
            RETURNING n AS row)
        SELECT c.* FROM own CROSS JOIN LATERAL as_change(own.row, 'resolved') AS c
        """,
        space,
    )
    for row in rows:
        tell(tx, actor, row)


async def tell_settled(tx: Write, actor: str) -> None:
    """Leave the events of what the database itself has closed in this transaction, as its ground was gone."""
    rows = await tx.many(
        Changed,
        """
        SELECT 'resolved' AS what, n.id, n.space_id, s.kind AS space_kind, n.recipient_user_id, n.kind,
               n.source_kind, n.source_id, n.resolution, rfc3339(n.seen_at) AS seen_at
          FROM notifications n JOIN spaces s ON s.id = n.space_id
         WHERE n.id = ANY (string_to_array(
               nullif(current_setting('guildhall.settled', true), ''), ',')::uuid[])
        """,
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
    **fields: object,
) -> None:
    """Leave the event of a row that changed, for whose it is."""
    tell_user(
        tx,
        row.recipient_user_id,
        _EVENTS[row.what],
        actor=actor,
        about=row.space_id,
        recipient_user_id=row.recipient_user_id,
        audience="user",
        entity_id=str(row.id),
        kind=row.kind,
        source_kind=row.source_kind,
        source_id=row.source_id,
        resolution=row.resolution,
        change=change,
        hub_id=_hub_of(row),
        **fields,
    )


def _hub_of(row: Changed) -> str:
    return str(row.space_id) if row.space_kind == "hub" else ""


def tell_marked(tx: Write, user: str, rows: Sequence[Changed], change: Literal["seen", "dismissed"]) -> None:
    """Leave the events of what somebody has marked: of each row, or of many one for each space."""
    if len(rows) <= FEW:
        for row in rows:
            tell(tx, user, row, change=change, seen_at=row.seen_at if change == "seen" else None)
        return
    for row in {row.space_id: row for row in rows}.values():
        tell_user(
            tx,
            user,
            "notification.updated",
            actor=user,
            about=row.space_id,
            recipient_user_id=user,
            audience="user",
            change=change,
            hub_id=_hub_of(row),
            seen_at=row.seen_at if change == "seen" else None,
        )


async def see_space(tx: Write, user: str, space: UUID) -> None:
    """What needs no decision in this space, and is there up to now, is seen by this person."""
    rows = await tx.many(
        Changed,
        """
        WITH own AS (
            UPDATE notifications n SET seen_at = now()
             WHERE id IN (SELECT id FROM notifications
                           WHERE recipient_user_id = $1 AND space_id = $2 AND bucket = 'update'
                             AND status = 'pending' AND seen_at IS NULL AND created_at <= now()
                             AND coalesce(expires_at > now(), true)
                           ORDER BY created_at DESC, id DESC LIMIT $3)
               AND seen_at IS NULL
            RETURNING n AS row)
        SELECT c.* FROM own CROSS JOIN LATERAL as_change(own.row, 'updated') AS c
        """,
        user,
        space,
        MOST_MARKED,
    )
    tell_marked(tx, user, rows, "seen")
