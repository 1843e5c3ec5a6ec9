"""The wire of `/v1/notifications`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from guildhall.inbox.queries import Row
from guildhall.web.wire import OptionalV1, WireV1

Kind = Annotated[str, Meta(examples=["hub_invite"])]


class Notification(OptionalV1, frozen=True, kw_only=True):
    """What a person is told. `payload` says what it is about, as that is called now."""

    id: UUID
    audience: Literal["user"]
    hub_id: UUID | UnsetType = UNSET
    community_id: UUID | UnsetType = UNSET
    recipient_user_id: str
    kind: Kind
    status: Literal["pending", "resolved", "dismissed", "expired"]
    resolution: Annotated[str, Meta(examples=["accepted"])] | UnsetType = UNSET
    priority: int
    source_kind: Kind
    source_id: str | UnsetType = UNSET
    dream_run_id: UUID | UnsetType = UNSET
    payload: Annotated[dict[str, Any], Meta(examples=[{"role": "contributor"}])] | UnsetType = UNSET
    created_at: str
    expires_at: str | UnsetType = UNSET
    resolved_at: str | UnsetType = UNSET
    seen_at: str | UnsetType = UNSET

    @classmethod
    def of(cls, row: Row) -> "Notification":
        optional: dict[str, Any] = {
            "resolution": row.resolution,
            "payload": _payload(row) or None,
            "dream_run_id": row.dream_run_id,
            "expires_at": row.expires_at,
            "resolved_at": row.resolved_at,
            "seen_at": row.seen_at,
            "hub_id": row.space_id if row.space_kind == "hub" else None,
            "community_id": row.space_id if row.space_kind == "community" else None,
        }
        return cls(
            id=row.id,
            audience="user",
            recipient_user_id=row.recipient_user_id,
            kind=row.kind,
            status=row.status,  # pyright: ignore[reportArgumentType] - the table's check
            priority=row.priority,
            source_kind=row.source_kind,
            source_id=row.source_id,
            created_at=row.created_at.isoformat().replace("+00:00", "Z"),
            **{name: value for name, value in optional.items() if value is not None},
        )


# What the other person is to whom, by the end of the kind.
_PEOPLE: Mapping[str, str] = {
    "_invite": "inviter",
    "_ownership_transfer": "initiator",
    "_member_joined": "member",
    "_invite_declined": "invitee",
    "_role_changed": "by",
}


def _payload(row: Row) -> dict[str, Any]:
    payload: dict[str, Any] = msgspec.json.decode(row.review or row.payload)
    payload.pop("space_name", None)
    if row.space_kind == "hub":
        payload["hub"] = _some(id=row.space_id, name=row.space_name, icon=row.icon, accent=row.accent)
    elif row.space_kind == "community":
        payload["community"] = _some(id=row.space_id, name=row.space_name, logo_url=row.logo_url)
    if row.person_id is not None:
        person = _some(id=row.person_id, display=row.person_name, avatar_url=row.person_avatar)
        if row.kind.endswith("_ownership_transferred"):
            own = _some(id=row.recipient_user_id, display=row.own_name, avatar_url=row.own_avatar)
            is_new = payload.pop("side", "") == "new_owner"
            payload |= {"new_owner": own if is_new else person, "old_owner": person if is_new else own}
        for end, word in _PEOPLE.items():
            if row.kind.endswith(end):
                payload[word] = person
    if row.bucket == "action" and row.expires_at is not None:
        payload["expires_at"] = row.expires_at
    return payload


def _some(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


class NotificationList(OptionalV1, frozen=True, kw_only=True):
    """`next_cursor` is absent on the last page."""

    notifications: list[Notification]
    next_cursor: str | UnsetType = UNSET
    has_more: bool


class Counts(WireV1, frozen=True, kw_only=True):
    pending: int
    unseen: int


class NotificationSummary(WireV1, frozen=True, kw_only=True):
    """`by_kind` names every kind there is."""

    needs_action_pending: int
    updates_pending: int
    updates_unseen: int
    by_kind: Annotated[dict[str, Counts], Meta(examples=[{"hub_invite": {"pending": 1, "unseen": 1}}])]


class Seen(WireV1, frozen=True, kw_only=True):
    status: Literal["seen"]


class Dismissed(WireV1, frozen=True, kw_only=True):
    status: Literal["dismissed"]


class Bulk(OptionalV1, frozen=True, kw_only=True):
    """No kinds means all that need no decision. `hub` goes before the header X-Hub-ID."""

    hub: Annotated[str, Meta(examples=["0195e3a1-02b4-7d10-8a6e-1c2d3e4f5a6b"])] | None = None
    kinds: Annotated[list[str], Meta(examples=[["hub_member_joined"]])] | None = None
    since: Annotated[str, Meta(examples=["2026-03-01T09:30:00Z"])] | None = None


class Affected(WireV1, frozen=True, kw_only=True):
    affected: int


class Resolve(OptionalV1, frozen=True, kw_only=True):
    action: Annotated[str, Meta(examples=["accept"])] = ""


class Resolved(WireV1, frozen=True, kw_only=True):
    status: Literal["resolved"]
    action: Annotated[str, Meta(examples=["accept"])]
    resolution: Annotated[str, Meta(examples=["accepted"])]
