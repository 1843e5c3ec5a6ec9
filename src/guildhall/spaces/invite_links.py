"""What the holder of an invite's link can do with it: look at it, and accept it."""

from uuid import UUID

import msgspec

from guildhall.db import Read, Write
from guildhall.errors import Forbidden, NotFound
from guildhall.spaces import audit, members, news
from guildhall.spaces.invites import DEAD, Expired
from guildhall.spaces.jobs import note_change
from guildhall.spaces.rules import AlreadyMember
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
    kind: str
    role: str


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


class _Place(msgspec.Struct, frozen=True):
    role: str | None
    user_id: str


class _Opened(msgspec.Struct, frozen=True):
    id: UUID
    role: str
    status: str
    expired: bool
    for_the_caller: bool


async def accept(tx: Write, caller: Caller, token: str, *, kind: Kind, most: int | None = None) -> Accepted:
    """Become a member by an invite. `most` is how many members the space may have.

    Raises NotFound, what the invite died of, WrongInvitee, AlreadyMember, MemberCapExceeded.

    The space is locked first, so that revoking, leaving and deleting come wholly before or wholly after.
    """
    space = None
    token_hash = caller.service.invite_tokens.hash(token)
    if caller.service.invite_tokens.well_formed(token):
        space = await tx.value(
            "SELECT space_id FROM invites WHERE token_hash = $1 AND kind = $2", token_hash, kind
        )
    if space is None:
        await check_alive(tx, caller)
        raise no_such_invite(caller.service)
    place = await tx.maybe(_Place, "SELECT role, user_id FROM lock_space($1, $2, $3, $4)", *caller.me, space)
    if place is None:
        raise await explain_absence(tx, caller)
    invite = await tx.maybe(
        _Opened,
        "SELECT i.id, i.role, invite_status(i) AS status, i.expires_at <= now() AS expired,"
        " (i.invitee_user_id IS NULL OR i.invitee_user_id = u.id) AND (i.email_key IS NULL"
        "  OR coalesce(u.email_verified AND u.email_key = i.email_key, false)) AS for_the_caller"
        " FROM invites i JOIN users u ON u.id = $2 WHERE i.token_hash = $1",
        token_hash,
        place.user_id,
    )
    if invite is None:
        # The space was deleted while this waited for its lock.
        raise NotFound("No such invite.")
    if invite.status != "open":
        # One that was used, and whose time is over by now, counts as out of time.
        raise Expired if invite.status == "accepted" and invite.expired else DEAD[invite.status]
    if not invite.for_the_caller:
        raise WrongInvitee
    if place.role is not None:
        raise AlreadyMember
    consumed = await tx.run(
        "UPDATE invites SET accepted_at = now(), accepted_by = $2 WHERE token_hash = $1"
        " AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > clock_timestamp()",
        token_hash,
        place.user_id,
    )
    if not consumed:
        raise Expired
    if not await members.add(tx, space, kind, place.user_id, invite.role, most=most):
        raise AlreadyMember
    await audit.record(
        tx,
        caller,
        "invite.accept",
        space=space,
        target=place.user_id,
        after={"role": invite.role, "invite": str(invite.id)},
    )
    await note_change(tx, kind, space)
    await news.announce(
        tx,
        caller,
        news.InvitesClosed(kind=kind, space=space, invites=[invite.id], how="accepted"),
        news.Joined(kind=kind, space=space, user=place.user_id, role=invite.role, invite=invite.id),
    )
    return Accepted(space, kind, invite.role)
