"""What an event says, and to whom it is told."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from guildhall.db import Write, new_id

EventType: TypeAlias = Literal[
    "hub.memories.changed",
    "hub.topics.changed",
    "hub.dreams.changed",
    "hub.members.changed",
    "hub.list.changed",
    "notification.created",
    "notification.resolved",
    "notification.updated",
    "agent.changed",
    "key.changed",
]

# What a key must hold to hear of it; nothing for what is left out.
ATOMS: dict[str, str] = {
    "hub.memories.changed": "memory:read",
    "hub.topics.changed": "topic:read",
    "hub.dreams.changed": "dream:read",
    "hub.members.changed": "hub:read",
    "hub.list.changed": "hub:read",
    "notification.created": "dream:read",
    "notification.resolved": "dream:read",
    "notification.updated": "dream:read",
}


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A hint to look again. `hub_id` is empty where it is about no hub's content."""

    id: UUID
    type: EventType
    hub_id: str
    actor_id: str
    entity_id: str | UnsetType = UNSET
    state: str | UnsetType = UNSET
    topic_id: str | UnsetType = UNSET
    private_only: bool | UnsetType = UNSET
    audience: Literal["user"] | UnsetType = UNSET
    recipient_user_id: str | UnsetType = UNSET
    kind: str | UnsetType = UNSET
    source_kind: str | UnsetType = UNSET
    source_id: str | UnsetType = UNSET
    resolution: str | UnsetType = UNSET
    change: Literal["seen", "dismissed", "expired", "item_updated"] | UnsetType = UNSET
    seen_at: str | UnsetType = UNSET
    item_id: str | UnsetType = UNSET
    item_viewed_at: str | UnsetType = UNSET
    item_completed_at: str | UnsetType = UNSET
    item_progress: float | UnsetType = UNSET
    created_at: datetime


class Told(msgspec.Struct, frozen=True):
    """An event on its way. To these people, or to those who are then members of the space, with this role.

    `about` is the space it concerns, by which streams and keys for certain hubs are filtered.
    """

    type: str
    people: list[str] | None
    space: UUID | None
    role: str | None
    about: UUID | None
    event: msgspec.Raw


# An id has 64 characters at most, and a message of PostgreSQL 8,000 bytes.
MOST_PEOPLE = 90

_encode = msgspec.json.Encoder().encode


def tell_user(
    tx: Write, user: str, kind: EventType, /, *, actor: str, about: UUID | None = None, **fields: Any
) -> None:
    """Tell one person, once this is committed. `fields` are those of Event."""
    _leave(tx, kind, actor, people=[user], about=about, fields=fields)


def tell_people(
    tx: Write,
    people: Sequence[str],
    kind: EventType,
    /,
    *,
    actor: str,
    about: UUID | None = None,
    **fields: Any,
) -> None:
    """Tell all of these the same, by as few messages as every bus can carry."""
    for first in range(0, len(people), MOST_PEOPLE):
        some = list(people[first : first + MOST_PEOPLE])
        _leave(tx, kind, actor, people=some, about=about, fields=dict(fields))


def tell_members(
    tx: Write, space: UUID, kind: EventType, /, *, actor: str, role: str | None = None, **fields: Any
) -> None:
    """Tell who is a member of the space when it is told, or those with this role."""
    fields.setdefault("hub_id", str(space))
    _leave(tx, kind, actor, space=space, role=role, about=space, fields=fields)


def _leave(
    tx: Write,
    kind: EventType,
    actor: str,
    *,
    fields: dict[str, Any],
    about: UUID | None,
    people: list[str] | None = None,
    space: UUID | None = None,
    role: str | None = None,
) -> None:
    event = Event(
        id=new_id(),
        type=kind,
        hub_id=fields.pop("hub_id", ""),
        actor_id=actor,
        created_at=datetime.now(UTC),
        **{name: value for name, value in fields.items() if value is not None},
    )
    tx.leave(_encode(Told(kind, people, space, role, about, msgspec.Raw(_encode(event)))))
