"""A seat: proof that the caller is a member of a space, with which rank. Only this module makes one.

`take_…` reads; `lock_…` locks the space's row first and then reads the rank, and is the one for every write.
A space that is missing, deleted, or closed to the caller always sounds the same.
"""

import re
from typing import ClassVar, Literal, Protocol, TypeAlias
from uuid import UUID

import msgspec

from guildhall.db import Read, Write
from guildhall.errors import AppError, Forbidden, NotFound
from guildhall.spaces import SpaceId, UserId
from guildhall.spaces.rules import COMMUNITY_GRANTS, HUB_GRANTS, CommunityRole, HubRole, May
from guildhall.web.caller import Caller, check_alive, explain_absence

Kind: TypeAlias = Literal["community", "hub"]

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{2,48}[a-z0-9]")
_USER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class CommunitySeat(msgspec.Struct, frozen=True):
    kind: ClassVar[Kind] = "community"
    space: SpaceId
    user: UserId
    role: CommunityRole
    name: str
    owner: UserId

    @property
    def grants(self) -> frozenset[May]:
        return COMMUNITY_GRANTS[self.role]


class HubSeat(msgspec.Struct, frozen=True):
    """`personal` is the hub that its owner was given with the account; `members` is how many there are."""

    kind: ClassVar[Kind] = "hub"
    space: SpaceId
    user: UserId
    role: HubRole
    name: str
    owner: UserId
    personal: bool
    slug: str
    members: int

    @property
    def grants(self) -> frozenset[May]:
        return HUB_GRANTS[self.role]


Seat: TypeAlias = CommunitySeat | HubSeat


class _Found(msgspec.Struct, frozen=True):
    user_id: str
    space_id: UUID | None
    kind: Kind | None
    name: str | None
    is_private: bool | None
    owner_id: str | None
    role: str | None


class Place(msgspec.Struct, frozen=True):
    """Where somebody wants to go: a community by id or by slug."""

    space_id: UUID | None
    slug: str | None


def as_uuid(raw: str) -> UUID | None:
    """The id in a path, or None when it is not one of ours, so that no query is made for it."""
    return UUID(raw) if _UUID.fullmatch(raw) else None


def as_hub_name(raw: str) -> str | None:
    """What is like a hub's id or slug, or None when it is not, so that no query is made for it."""
    return raw if _UUID.fullmatch(raw) or _USER_ID.fullmatch(raw) else None


def as_user_id(raw: str) -> UserId | None:
    """The id of a person, or None when it is not like one, so that no query is made for it."""
    return UserId(raw) if _USER_ID.fullmatch(raw) else None


def place(raw_id: str) -> Place:
    """Read a community's id or slug. Raises NotFound for what is neither, before any query."""
    if (space_id := as_uuid(raw_id)) is not None:
        return Place(space_id, None)
    if _SLUG.fullmatch(raw_id) is None:
        raise NotFound
    return Place(None, raw_id)


async def take_community_seat(read: Read, caller: Caller, raw_id: str) -> CommunitySeat:
    """The caller's seat in a community, by id or slug. Raises NotFound, or Forbidden in a public one."""
    wanted = place(raw_id)
    found = await read.maybe(
        _Found,
        "SELECT user_id, space_id, 'community' AS kind, name, is_private, owner_id, role"
        " FROM community_seat($1, $2, $3, $4, $5)",
        *caller.me,
        wanted.space_id,
        wanted.slug,
    )
    return _community(await _known(read, caller, found))


async def lock_community_seat(tx: Write, caller: Caller, raw_id: str) -> CommunitySeat:
    """As `take_community_seat`, with the community locked until the transaction ends."""
    return _community(await _known(tx, caller, await _lock(tx, caller, await resolve(tx, caller, raw_id))))


async def resolve(read: Read, caller: Caller, raw_id: str) -> UUID:
    """The id of a community given by id or slug. Raises NotFound; tells nothing about who may see it."""
    wanted = place(raw_id)
    if wanted.space_id is not None:
        return wanted.space_id
    space_id = await read.value(
        "SELECT id FROM spaces WHERE kind = 'community' AND slug = $1 AND deleted_at IS NULL", wanted.slug
    )
    if space_id is None:
        # Where there is something, whoever is nobody any more is refused for that: so it is here.
        await check_alive(read, caller)
        raise NotFound
    return space_id


async def _lock(tx: Write, caller: Caller, space_id: UUID) -> _Found | None:
    return await tx.maybe(_Found, "SELECT * FROM lock_space($1, $2, $3, $4)", *caller.me, space_id)


async def _known(read: Read, caller: Caller, found: _Found | None) -> _Found:
    if found is None:
        raise await explain_absence(read, caller)
    return found


def _community(found: _Found) -> CommunitySeat:
    if found.kind != "community" or found.space_id is None:
        raise NotFound
    if found.role is None:
        raise absence(found.is_private)
    assert found.name is not None and found.owner_id is not None
    return CommunitySeat(
        SpaceId(found.space_id),
        UserId(found.user_id),
        found.role,  # pyright: ignore[reportArgumentType] - the table's check
        found.name,
        UserId(found.owner_id),
    )


def absence(is_private: bool | None) -> AppError:
    """What somebody without a seat is told: nothing of a private community, the way in to a public one."""
    if is_private is False:
        return Forbidden("Only members may do this. Join the community first.")
    return NotFound()


class Looked(Protocol):
    """What a statement found out about the caller's place while it read its rows."""

    @property
    def space_id(self) -> UUID | None: ...
    @property
    def is_private(self) -> bool | None: ...
    @property
    def role(self) -> str | None: ...


async def seated(read: Read, caller: Caller, found: Looked | None) -> None:
    """Refuse unless the statement that returned `found` gave the caller a seat."""
    if found is None:
        raise await explain_absence(read, caller)
    if found.space_id is None:
        raise NotFound
    if found.role is None:
        raise absence(found.is_private)


class NotMember(Forbidden):
    """Said of a hub that is not there and of one that the caller is not in alike."""

    code = "not_member"
    title = "There is no such hub, or you are not in it."


class _FoundHub(msgspec.Struct, frozen=True):
    user_id: str
    space_id: UUID | None
    role: HubRole | None
    name: str | None
    owner_id: str | None
    is_personal: bool | None
    slug: str | None
    member_count: int | None


_HUB_SEAT = "SELECT user_id, space_id, role, name, owner_id, is_personal, slug, member_count FROM "


def hub_place(raw_id: str, absent: type[AppError] = NotMember) -> Place:
    """Read a hub's id or slug. Raises `absent` for what is neither, before any query."""
    if (space_id := as_uuid(raw_id)) is not None:
        return Place(space_id, None)
    # The slug of a personal hub is its owner's id, which no other slug is longer or wider than.
    if _USER_ID.fullmatch(raw_id) is None:
        raise absent
    return Place(None, raw_id)


async def take_hub_seat(
    read: Read, caller: Caller, raw_id: str, absent: type[AppError] = NotMember
) -> HubSeat:
    """The caller's seat in a hub, by id or by a slug it has or had.

    Raises `absent`, whether there is no such hub or the caller is not in it.
    """
    wanted = hub_place(raw_id, absent)
    found = await read.maybe(
        _FoundHub,
        _HUB_SEAT + "hub_seat($1, $2, $3, $4, $5)",
        *caller.me,
        wanted.space_id,
        wanted.slug,
    )
    return await _hub(read, caller, found, absent)


async def lock_hub_seat(
    tx: Write, caller: Caller, raw_id: str, absent: type[AppError] = NotMember
) -> HubSeat:
    """As `take_hub_seat`, with the hub locked until the transaction ends."""
    wanted = hub_place(raw_id, absent)
    found = await tx.maybe(
        _FoundHub,
        _HUB_SEAT + "lock_hub($1, $2, $3, $4, $5)",
        *caller.me,
        wanted.space_id,
        wanted.slug,
    )
    return await _hub(tx, caller, found, absent)


async def _hub(read: Read, caller: Caller, found: _FoundHub | None, absent: type[AppError]) -> HubSeat:
    if found is None:
        raise await explain_absence(read, caller)
    if found.space_id is None or found.role is None:
        raise absent
    assert found.name is not None and found.owner_id is not None and found.slug is not None
    assert found.is_personal is not None and found.member_count is not None
    return HubSeat(
        SpaceId(found.space_id),
        UserId(found.user_id),
        found.role,
        found.name,
        UserId(found.owner_id),
        found.is_personal,
        found.slug,
        found.member_count,
    )
