"""News: what happened in a space, handed on with the change to whom it concerns.

The kernel and the rooms over it say what happened; who is told, in an inbox or on an open stream, is decided
here alone. Whatever is told is committed with the change, or rolled back with it.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec

from guildhall.db import Write
from guildhall.events.event import tell_members, tell_people
from guildhall.spaces import notices
from guildhall.spaces.notices import Closing, Notice, ToWhom
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


class AccountClosed(_News, frozen=True, kw_only=True):
    """A member's account was closed: the membership stays, what they offered is dead."""


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
    | AccountClosed
    | Visited
    | Invited
    | InvitesClosed
    | TransferOffered
    | TransferClosed
    | OwnerChanged
)


async def announce(tx: Write, by: Caller | str, *news: News) -> None:
    """Tell those whom `news` concern, in this order, when the transaction commits.

    `by` is who did it: a caller, or just their id, which is empty for the operator. Called last in the
    transaction, when every row is as it will be.
    """
    actor = by if isinstance(by, str) else by.user
    closings: list[Closing] = []
    told: list[Notice] = []
    stale: list[UUID] = []
    for item in news:
        if item.kind == "hub":
            _tell(tx, actor, item)
        closings += _closings(item)
        told += _notices(actor, item)
        if isinstance(item, Left | RoleGiven | AccountClosed):
            stale.append(item.space)
    await notices.settle(tx, actor, closings, told, stale)
    for item in news:
        if isinstance(item, Visited):
            await notices.see_space(tx, actor, item.space)


def write(actor: str, *news: News) -> notices.Draft:
    """What `news` change in inboxes, for a statement that makes the change and settles both at once; then
    `tell` them with the rows that it answers.
    """
    closings = [closing for item in news for closing in _closings(item)]
    return notices.write(closings, [notice for item in news for notice in _notices(actor, item)])


def tell(tx: Write, actor: str, news: Sequence[News], changed: Sequence[notices.Changed]) -> None:
    """Leave the events of news that a statement of their own has settled."""
    for item in news:
        if item.kind == "hub":
            _tell(tx, actor, item)
    for row in changed:
        notices.tell(tx, actor, row)


def _closings(item: News) -> list[Closing]:
    """What no longer waits in an inbox."""
    match item:
        case InvitesClosed():
            how = "dismissed" if item.how == "revoked" else item.how
            return [
                Closing(source_kind=f"{item.kind}_invite", source_id=str(invite), resolution=how)
                for invite in item.invites
            ]
        case TransferClosed():
            how = "dismissed" if item.how == "canceled" else item.how
            kind = f"{item.kind}_ownership_transfer"
            return [Closing(source_kind=kind, source_id=str(item.transfer), resolution=how)]
        case _:
            return []


def _notices(actor: str, item: News) -> list[Notice]:
    """What is told to whom in their inbox."""
    match item:
        case Invited():
            return [
                Notice(
                    kind=f"{item.kind}_invite",
                    source_kind=f"{item.kind}_invite",
                    source_id=str(item.invite),
                    space=item.space,
                    to="invitee",
                    invite=item.invite,
                    bound=False,
                    person=actor,
                    priority=1,
                    payload={"role": item.role},
                    expires_at=item.expires_at,
                )
            ]
        case Joined(invite=UUID()):
            return _notices_of_joining(item, str(item.invite))
        case InvitesClosed(how="declined"):
            return [
                notice for invite in item.invites for notice in _notices_of_declining(actor, item, invite)
            ]
        case TransferOffered():
            kind = f"{item.kind}_ownership_transfer"
            return [
                Notice(
                    kind=kind,
                    source_kind=kind,
                    source_id=str(item.transfer),
                    space=item.space,
                    user=item.target,
                    # It stays for a moment when the membership ends, to be told as closed.
                    bound=False,
                    person=actor,
                    priority=2,
                    expires_at=item.expires_at,
                )
            ]
        case OwnerChanged():
            return [
                _receipt(
                    item,
                    "ownership_transferred",
                    f"{item.transfer}:{side}",
                    user=user,
                    person=other,
                    priority=1,
                    payload={"side": side},
                )
                for side, user, other in (
                    ("old_owner", item.before, item.after),
                    ("new_owner", item.after, item.before),
                )
            ]
        case RoleGiven(kind="community"):
            return [
                Notice(
                    kind="community_role_changed",
                    source_kind="community_role",
                    source_id=f"{item.space}:{item.user}",
                    space=item.space,
                    user=item.user,
                    but=actor,
                    person=actor,
                    payload={"role": item.after, "before": item.before},
                )
            ]
        case _:
            return []


def _receipt(item: News, name: str, source_id: str, source_kind: str | None = None, **more: Any) -> Notice:
    kind = f"{item.kind}_{name}"
    return Notice(kind=kind, source_kind=source_kind or kind, source_id=source_id, space=item.space, **more)


def _notices_of_joining(item: Joined, invite: str) -> list[Notice]:
    """To the hub's owner, or to who invited into the community; and to who joined."""
    role = {"role": item.role}
    whom: ToWhom = "owner" if item.kind == "hub" else "inviter"
    return [
        _receipt(
            item,
            "member_joined",
            invite,
            f"{item.kind}_member",
            to=whom,
            invite=item.invite,
            but=item.user,
            person=item.user,
            payload=role,
        ),
        _receipt(item, "invite_accepted", invite, user=item.user, payload=role),
    ]


def _notices_of_declining(actor: str, item: InvitesClosed, invite: UUID) -> list[Notice]:
    return [
        _receipt(item, "invite_declined", str(invite), to="inviter", invite=invite, person=actor),
        _receipt(item, "invite_declined_by_you", str(invite), user=actor, bound=False),
    ]


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
        case AccountClosed() | Visited() | Invited() | InvitesClosed() | TransferOffered() | TransferClosed():
            pass


def _tell_list(tx: Write, actor: str, hub: UUID, state: str, *people: str) -> None:
    """Tell these that something in their list of hubs is different."""
    tell_people(tx, people, "hub.list.changed", actor=actor, about=hub, entity_id=str(hub), state=state)
