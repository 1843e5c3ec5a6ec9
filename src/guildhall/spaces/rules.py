"""Ranks and what each may do. Decisions as plain functions: no I/O, no clock, no SQL."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, TypeAlias

from guildhall.errors import AppError, Conflict, Forbidden

if TYPE_CHECKING:
    from guildhall.spaces.seats import Seat

CommunityRole: TypeAlias = Literal["owner", "admin", "moderator", "member"]
HubRole: TypeAlias = Literal["owner", "admin", "contributor", "viewer"]
Role: TypeAlias = Literal["owner", "admin", "moderator", "member", "contributor", "viewer"]

# 1 is the highest. The database computes the same for `members.rank`.
RANK: Mapping[str, int] = {
    "owner": 1,
    "admin": 2,
    "moderator": 3,
    "contributor": 3,
    "member": 4,
    "viewer": 4,
}


class May(StrEnum):
    """What a member may do in a space; reads like the end of "you may not …"."""

    READ = "read here"
    POST = "post here"
    PUSH = "push memories here"
    PIN = "pin posts"
    MODERATE = "remove what others wrote"
    MANAGE_GROUPS = "manage groups"
    INVITE = "invite people"
    MANAGE_MEMBERS = "manage members"
    EDIT = "change the settings"
    MANAGE_OWNERS = "grant or take ownership"
    DELETE = "delete this"


_READ = frozenset({May.READ})
_MANAGE = frozenset({May.INVITE, May.MANAGE_MEMBERS, May.EDIT})

COMMUNITY_GRANTS: Mapping[str, frozenset[May]] = {
    "member": _READ | {May.POST},
    "moderator": _READ | {May.POST, May.PIN, May.MODERATE},
    "admin": _READ | _MANAGE | {May.POST, May.PIN, May.MODERATE, May.MANAGE_GROUPS},
    "owner": frozenset(May) - {May.PUSH},
}

HUB_GRANTS: Mapping[str, frozenset[May]] = {
    "viewer": _READ,
    "contributor": _READ | {May.PUSH},
    "admin": _READ | _MANAGE | {May.PUSH},
    "owner": _READ | _MANAGE | {May.PUSH, May.MANAGE_OWNERS, May.DELETE},
}


class LastOwner(Conflict):
    code = "last_owner"
    title = "A community keeps at least one owner. Make somebody else an owner first, or delete it."


class MemberCapExceeded(Forbidden):
    code = "member_cap_exceeded"
    title = "There is no room for another member here."


class AlreadyMember(Conflict):
    code = "already_member"
    title = "This person is a member already; nothing was changed."


def require(seat: "Seat", may: May, refusal: type[AppError] = Forbidden) -> None:
    """Refuse unless the seat's rank grants this."""
    if may not in seat.grants:
        raise refusal(f"Your role here, {seat.role}, does not let you {may}.")


def check_grant(seat: "Seat", role: str) -> None:
    """Refuse to give a role above one's own, or ownership by anybody but an owner."""
    if role == "owner":
        require(seat, May.MANAGE_OWNERS)
    if RANK[role] < RANK[seat.role]:
        raise Forbidden("Nobody may give a role above their own.")


def check_manage(seat: "Seat", target_role: str) -> None:
    """Refuse to change or remove somebody above one's own rank; only owners touch owners."""
    require(seat, May.MANAGE_MEMBERS)
    if target_role == "owner":
        require(seat, May.MANAGE_OWNERS)
