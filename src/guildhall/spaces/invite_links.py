"""What the holder of an invite's link can do with it: look at it, and accept it."""

from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Read, Write
from guildhall.errors import Forbidden, NotFound
from guildhall.spaces import audit, news, notices
from guildhall.spaces.invites import DEAD, Expired
from guildhall.spaces.jobs import note_change
from guildhall.spaces.rules import AlreadyMember, MemberCapExceeded
from guildhall.spaces.seats import Kind
from guildhall.web.caller import Caller, check_alive, explain_absence
from guildhall.web.service import Service


class WrongInvitee(Forbidden):
    code = "wrong_invitee"
    title = "This invite is for somebody else. Sign in with the account or the verified address it is for."


class Card(msgspec.Struct, frozen=True):
    """What an invite tells to whoever holds it."""

    space_id: UUID
    space_name: str
    kind: str
    inviter_name: str
    role: str
    expires_at: str
    status: str


class Accepted(msgspec.Struct, frozen=True):
    space_id: UUID
    role: str
    shown: str | None


def no_such_invite(service: Service) -> NotFound:
    """The same for malformed and for unknown tokens. Raises TooManyRequests when too many were guessed."""
    service.limiter.take("invite misses", "all")
    return NotFound("No such invite.")


async def look_up(read: Read, service: Service, token: str) -> Card:
    """What the holder of a token may know. Raises NotFound."""
    card = None
    if service.invite_tokens.well_formed(token):
        card = await read.maybe(
            Card,
            "SELECT s.id AS space_id, s.name AS space_name, s.kind, u.display_name AS inviter_name, i.role,"
            " rfc3339(i.expires_at) AS expires_at, invite_status(i) AS status"
            " FROM invites i JOIN spaces s ON s.id = i.space_id JOIN users u ON u.id = i.invited_by"
            " WHERE i.token_hash = $1",
            service.invite_tokens.hash(token),
        )
    if card is None:
        raise no_such_invite(service)
    return card


class _Opened(msgspec.Struct, frozen=True):
    """An invite and who holds it: `held_role` is what they are in the space already."""

    user_id: str
    space_id: UUID | None
    held_role: str | None
    id: UUID | None
    role: str | None
    status: str | None
    expired: bool | None
    for_the_caller: bool


class _Live(msgspec.Struct, frozen=True):
    """An open invite that the caller may use."""

    user_id: str
    space_id: UUID
    held_role: str | None
    id: UUID
    role: str


class _Taken(_Opened, frozen=True):
    """What came of it. `changed` is JSON."""

    has_room: bool
    taken: bool
    changed: str | None
    shown: str | None


# What stands for an invite in news of it that are written before it is known.
_LATER = UUID(int=0)


async def accept(
    tx: Write,
    caller: Caller,
    token: str,
    *,
    kind: Kind,
    most: int | None = None,
    shown: LiteralString = "NULL::text",
) -> Accepted:
    """Become a member by an invite, in one statement. `most` is how many members the space may have; `shown`
    says in SQL what to answer of the space `s`, as it was right before.

    Raises NotFound, what the invite died of, WrongInvitee, AlreadyMember, MemberCapExceeded.
    """
    tokens = caller.service.invite_tokens
    if not tokens.well_formed(token):
        await check_alive(tx, caller)
        raise no_such_invite(caller.service)
    return await _accept(tx, caller, None, tokens.hash(token), kind, most, shown)


async def accept_from_inbox(
    tx: Write, caller: Caller, invite_id: UUID, *, kind: Kind, most: int | None = None
) -> Accepted:
    """As `accept`, by the id of an invite that the caller was told of."""
    return await _accept(tx, caller, invite_id, None, kind, most, "NULL::text")


async def _accept(
    tx: Write,
    caller: Caller,
    invite_id: UUID | None,
    token_hash: bytes | None,
    kind: Kind,
    most: int | None,
    shown: LiteralString,
) -> Accepted:
    """The space is locked first, so that revoking, leaving and deleting come wholly before or after."""
    draft = news.write(caller.user, *_told(caller, kind, _LATER, _LATER, ""))
    done = await tx.maybe(
        _Taken,
        "SELECT user_id, space_id, held_role, id, role, status, expired, for_the_caller, has_room, taken,"
        " changed::text, CASE WHEN taken THEN (SELECT "
        + shown
        + " FROM spaces s WHERE s.id = space_id) END AS shown"
        " FROM take_invite($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb, $12::text::jsonb)",
        *caller.me,
        invite_id,
        token_hash,
        kind,
        most,
        *audit.acting(caller),
        caller.request_id,
        draft.closings,
        draft.notices,
    )
    live = await _usable(tx, caller, done)
    assert done is not None
    if not done.taken:
        if live.held_role is not None:
            raise AlreadyMember
        if not done.has_room:
            raise MemberCapExceeded(details={"hub_id": str(live.space_id), "limit": most})
        # Its time ended while this waited for the lock.
        raise Expired
    news.tell(
        tx,
        caller.user,
        _told(caller, kind, live.space_id, live.id, live.role),
        msgspec.json.decode(done.changed or "[]", type=list[notices.Changed]),
    )
    await note_change(tx, kind, live.space_id)
    return Accepted(live.space_id, live.role, done.shown)


def _told(
    caller: Caller, kind: Kind, space: UUID, invite: UUID, role: str
) -> tuple[news.InvitesClosed, news.Joined]:
    return (
        news.InvitesClosed(kind=kind, space=space, invites=[invite], how="accepted"),
        news.Joined(kind=kind, space=space, user=caller.user, role=role, invite=invite),
    )


async def decline(tx: Write, caller: Caller, invite_id: UUID, *, kind: Kind) -> None:
    """Say no to an invite that is for the caller: it is worth nothing any more.

    Raises NotFound, what the invite died of, WrongInvitee.
    """
    opened = await _open(tx, caller, invite_id, kind)
    await tx.run(
        "UPDATE invites SET revoked_at = now(), revoked_by = $3 WHERE space_id = $1 AND id = $2"
        " AND accepted_at IS NULL AND revoked_at IS NULL",
        opened.space_id,
        opened.id,
        opened.user_id,
    )
    await audit.record(tx, caller, "invite.decline", space=opened.space_id, target=opened.id)
    await news.announce(
        tx,
        caller,
        news.InvitesClosed(kind=kind, space=opened.space_id, invites=[opened.id], how="declined"),
    )


async def _open(tx: Write, caller: Caller, invite_id: UUID, kind: Kind) -> _Live:
    """Lock the space, then look at the invite: it is live, and the caller may use it."""
    opened = await tx.maybe(
        _Opened, "SELECT * FROM open_invite($1, $2, $3, $4, $5)", *caller.me, invite_id, kind
    )
    return await _usable(tx, caller, opened)


async def _usable(tx: Write, caller: Caller, opened: _Opened | None) -> _Live:
    """The invite, where it is one the caller could use. Raises what is in the way."""
    if opened is None:
        raise await explain_absence(tx, caller)
    if opened.space_id is None or opened.id is None or opened.role is None or opened.status is None:
        # There never was such an invite, or its space was deleted while this waited for the lock.
        raise no_such_invite(caller.service)
    if opened.status != "open":
        # One that was used, and whose time is over by now, counts as out of time.
        raise Expired if opened.status == "accepted" and opened.expired else DEAD[opened.status]
    if not opened.for_the_caller:
        raise WrongInvitee
    return _Live(opened.user_id, opened.space_id, opened.held_role, opened.id, opened.role)
