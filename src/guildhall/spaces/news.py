"""News: what happened in a space, handed on with the change to whom it concerns.

The kernel and the rooms over it say what happened; who is told, in an inbox or on an open stream, is decided
here alone. Whatever is told is committed with the change, or rolled back with it.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

from guildhall.db import Write
from guildhall.events.event import tell_members, tell_user
from guildhall.spaces.seats import Kind
from guildhall.web.caller import Caller


class _News(msgspec.Struct, frozen=True, kw_only=True):
    kind: Kind
    space: UUID


class Made(_News, frozen=True, kw_only=True):
    """The actor made the space and owns it."""


class Changed(_News, frozen=True, kw_only=True):
    """The space's name, slug, look or settings changed."""


class Deleted(_News, frozen=True, kw_only=True):
    """The space is gone. `members` are those it had, read before it went."""

    name: str
    members: Sequence[str]


class Joined(_News, frozen=True, kw_only=True):
    """`user` became a member: by this invite, or added by the actor where there is none."""

    user: str
    role: str
    invite: UUID | None = None


class Left(_News, frozen=True, kw_only=True):
    """`user` is no member any more. Transfers to them are void, and invites they made are dead."""

    user: str


class RoleGiven(_News, frozen=True, kw_only=True):
    """`user` has another rank. Invites they made may be dead."""

    user: str
    before: str
    after: str


class Visited(_News, frozen=True, kw_only=True):
    """The actor has seen what is new in the space up to now."""


class Invited(_News, frozen=True, kw_only=True):
    """The actor made an invite; `user` is whom it names, None for one that names an address or nobody."""

    invite: UUID
    user: str | None
    role: str
    expires_at: str


class InvitesClosed(_News, frozen=True, kw_only=True):
    """Invites that nobody can accept any more. "accepted" ones come with Joined."""

    invites: Sequence[UUID]
    how: Literal["accepted", "declined", "revoked"]


class TransferOffered(_News, frozen=True, kw_only=True):
    transfer: UUID
    target: str
    expires_at: str


class TransferClosed(_News, frozen=True, kw_only=True):
    """ "declined" by its target, "canceled" by who offered it; "accepted" comes with OwnerChanged."""

    transfer: UUID
    target: str
    how: Literal["accepted", "declined", "canceled"]


class OwnerChanged(_News, frozen=True, kw_only=True):
    transfer: UUID
    before: str
    after: str


News: TypeAlias = (
    Made
    | Changed
    | Deleted
    | Joined
    | Left
    | RoleGiven
    | Visited
    | Invited
    | InvitesClosed
    | TransferOffered
    | TransferClosed
    | OwnerChanged
)


async def announce(tx: Write, caller: Caller, *news: News) -> None:
    """Tell those whom `news` concern, in this order, when the transaction commits.

    Called last in the transaction, when every row is as it will be.
    """
    for item in news:
        if item.kind == "hub":
            _tell(tx, caller.user, item)


def _tell(tx: Write, actor: str, item: News) -> None:
    """Leave the events of a hub."""
    match item:
        case Made():
            _tell_list(tx, actor, item.space, "created", actor)
        case Changed():
            tell_members(
                tx,
                item.space,
                "hub.list.changed",
                actor=actor,
                hub_id="",
                entity_id=str(item.space),
                state="metadata_updated",
            )
            tell_members(tx, item.space, "hub.members.changed", actor=actor)
        case Deleted():
            _tell_list(tx, actor, item.space, "deleted", *item.members)
        case Joined():
            tell_members(tx, item.space, "hub.members.changed", actor=actor)
            _tell_list(tx, actor, item.space, "membership_joined", item.user)
        case Left():
            tell_members(tx, item.space, "hub.members.changed", actor=actor)
            _tell_list(tx, actor, item.space, "membership_left", item.user)
        case RoleGiven():
            tell_members(tx, item.space, "hub.members.changed", actor=actor)
        case OwnerChanged():
            tell_members(tx, item.space, "hub.members.changed", actor=actor)
            _tell_list(tx, actor, item.space, "metadata_updated", item.before, item.after)
        case Visited() | Invited() | InvitesClosed() | TransferOffered() | TransferClosed():
            pass


def _tell_list(tx: Write, actor: str, hub: UUID, state: str, *people: str) -> None:
    """Tell these that something in their list of hubs is different."""
    for person in people:
        tell_user(tx, person, "hub.list.changed", actor=actor, about=hub, entity_id=str(hub), state=state)
