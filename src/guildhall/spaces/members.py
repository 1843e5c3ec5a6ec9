"""Members: joining, ranks, removal and leaving. Every change happens with the space locked."""

import re
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Read, Write
from guildhall.errors import NotFound
from guildhall.spaces import UserId, audit, key_lists, news
from guildhall.spaces.jobs import note_change
from guildhall.spaces.rules import LastOwner, MemberCapExceeded, check_grant, check_manage
from guildhall.spaces.seats import Kind, Seat
from guildhall.web.caller import Caller

_LIKE = re.compile(r"([\\%_])")


class Member(msgspec.Struct, frozen=True):
    user_id: str
    display_name: str
    avatar_url: str | None
    bio: str | None
    role: str
    status: str
    joined_at: str


MEMBER: LiteralString = """
    u.id AS user_id, u.display_name, u.avatar_url, u.bio, m.role, m.status, rfc3339(m.joined_at) AS joined_at
"""


async def find_member(read: Read, space: UUID, user: str) -> Member | None:
    return await read.maybe(
        Member,
        "SELECT " + MEMBER + " FROM members m JOIN users u ON u.id = m.user_id"
        " WHERE m.space_id = $1 AND m.user_id = $2",
        space,
        user,
    )


async def member(read: Read, space: UUID, user: str) -> Member:
    """A member of the space. Raises NotFound."""
    found = await find_member(read, space, user)
    if found is None:
        raise NotFound("No such member.")
    return found


class _Added(msgspec.Struct, frozen=True):
    has_room: bool
    added: bool


async def add(tx: Write, space: UUID, kind: str, user: str, role: str, *, most: int | None = None) -> bool:
    """Make `user` a member; False when they are one already, whose role then stays.

    The caller holds the space's lock. Raises MemberCapExceeded where there are `most` members.
    """
    done = await tx.one(
        _Added,
        """
        WITH room AS (
            SELECT coalesce(member_count < $5, true) AS has_room FROM spaces WHERE id = $1),
        added AS (
            INSERT INTO members (space_id, kind, user_id, role)
            SELECT $1, $2, $3, $4 FROM room WHERE has_room
            ON CONFLICT (space_id, user_id) DO NOTHING RETURNING user_id)
        SELECT has_room, EXISTS (SELECT FROM added) AS added FROM room
        """,
        space,
        kind,
        user,
        role,
        most,
    )
    if not done.has_room:
        raise MemberCapExceeded(details={"hub_id": str(space), "limit": most})
    return done.added


async def change_role(tx: Write, caller: Caller, seat: Seat, user: UserId, role: str) -> Member:
    """Give a member another rank. Raises Forbidden, NotFound, LastOwner. `seat` holds the space's lock."""
    return await give_role(tx, caller, seat, await member(tx, seat.space, user), role)


async def give_role(tx: Write, caller: Caller, seat: Seat, target: Member, role: str) -> Member:
    """As `change_role`, for a member read since the lock was taken."""
    check_manage(seat, target.role)
    check_grant(seat, role)
    if target.role == role:
        return target
    if target.role == "owner":
        await _pass_on_ownership(tx, seat, target.user_id)
    await tx.run(
        "UPDATE members SET role = $3 WHERE space_id = $1 AND user_id = $2", seat.space, target.user_id, role
    )
    await audit.record(
        tx,
        caller,
        "member.role",
        space=seat.space,
        target=target.user_id,
        before={"role": target.role},
        after={"role": role},
    )
    await note_change(tx, seat.kind, seat.space)
    given = news.RoleGiven(
        kind=seat.kind, space=seat.space, user=target.user_id, before=target.role, after=role
    )
    await news.announce(tx, caller, given)
    return msgspec.structs.replace(target, role=role)


async def remove(tx: Write, caller: Caller, seat: Seat, user: UserId) -> None:
    """Take a member out, or leave. What the membership granted goes too, by foreign key.

    Raises Forbidden, NotFound, LastOwner. `seat` holds the space's lock.
    """
    target = await member(tx, seat.space, user)
    if user != seat.user:
        check_manage(seat, target.role)
    if target.role == "owner":
        await _pass_on_ownership(tx, seat, user)
    if seat.kind == "hub":
        await key_lists.end_keys(tx, caller, seat.space, user)
    await tx.run("DELETE FROM members WHERE space_id = $1 AND user_id = $2", seat.space, user)
    action = "member.leave" if user == seat.user else "member.remove"
    await audit.record(tx, caller, action, space=seat.space, target=user, before={"role": target.role})
    await note_change(tx, seat.kind, seat.space)
    await news.announce(tx, caller, news.Left(kind=seat.kind, space=seat.space, user=user))


class _Concerned(msgspec.Struct, frozen=True):
    space_id: UUID
    kind: Kind


async def close_offers(tx: Write, user: str) -> list[news.AccountClosed]:
    """End what somebody whose account closes has offered, or was offered to own; answers the news of it.

    The caller holds the locks of the spaces that they are in.
    """
    rows = await tx.many(
        _Concerned,
        """
        WITH dead AS (
            UPDATE invites SET revoked_at = now()
             WHERE invited_by = $1 AND accepted_at IS NULL AND revoked_at IS NULL RETURNING space_id, kind),
        void AS (
            UPDATE transfers t SET cancelled_at = now() FROM members m
             WHERE m.user_id = $1 AND t.space_id = m.space_id AND $1 IN (t.initiated_by, t.target_user_id)
               AND t.accepted_at IS NULL AND t.cancelled_at IS NULL RETURNING t.space_id, m.kind)
        SELECT space_id, kind FROM dead UNION SELECT space_id, kind FROM void ORDER BY space_id
        """,
        user,
    )
    return [news.AccountClosed(kind=row.kind, space=row.space_id) for row in rows]


async def _pass_on_ownership(tx: Write, seat: Seat, user: str) -> None:
    """Before an owner goes: the space's recorded owner becomes the longest-serving other one."""
    heir = await tx.value(
        "SELECT user_id FROM members WHERE space_id = $1 AND role = 'owner' AND user_id <> $2"
        " ORDER BY joined_at, user_id LIMIT 1",
        seat.space,
        user,
    )
    if heir is None:
        raise LastOwner
    if seat.owner == user:
        await tx.run("UPDATE spaces SET owner_id = $2 WHERE id = $1", seat.space, heir)


def like(text: str) -> str:
    """A pattern for LIKE that means exactly these characters, anywhere."""
    return "%" + _LIKE.sub(r"\\\1", text) + "%"
