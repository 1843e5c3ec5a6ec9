"""Invites: one link that makes one person a member, once, for a week.

A token is derived from the invite's id, so nothing secret is stored. An invite with an address is for the
person who has that address verified; it dies with its inviter's right to make it.
"""

from datetime import timedelta
from uuid import UUID

import msgspec

from guildhall import outbox
from guildhall.db import Db, Read, Write, new_id
from guildhall.errors import AppError, Conflict, Forbidden, NotFound, TooManyRequests, Unauthorized
from guildhall.spaces import audit, members
from guildhall.spaces.jobs import InviteMade, SpaceChanged
from guildhall.spaces.rules import AlreadyMember, May, check_grant, require
from guildhall.spaces.seats import Seat
from guildhall.web.caller import Caller, NotSynced
from guildhall.web.service import Service

MAX_OPEN = 500
RESEND_EVERY = timedelta(minutes=10)
MAX_RESENDS = 5

INVITE = """
    i.id, i.space_id, i.kind, i.role, i.email, i.token_hash, i.invited_by,
    rfc3339(i.created_at) AS created_at,
    rfc3339(i.expires_at) AS expires_at, rfc3339(i.sent_at) AS sent_at, i.resends, invite_status(i) AS status
"""


class Invite(msgspec.Struct, frozen=True):
    """`status` is open, accepted, revoked or expired, by the database's clock when it was read."""

    id: UUID
    space_id: UUID
    kind: str
    role: str
    email: str | None
    token_hash: bytes
    invited_by: str
    created_at: str
    expires_at: str
    sent_at: str | None
    resends: int
    status: str

    def token(self, service: Service) -> str | None:
        """The token again; None when the key that made it was retired."""
        return service.invite_tokens.make_again(self.id, self.token_hash)


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


class WrongInvitee(Forbidden):
    code = "wrong_invitee"
    title = "This invite is for another address. Sign in with the one it was sent to, verified."


class Used(Conflict):
    code = "used"
    title = "This invite was used already. Ask for a new one."


class Revoked(AppError):
    status, code = 410, "revoked"
    title = "This invite was taken back. Ask for a new one."


class Expired(AppError):
    status, code = 410, "expired"
    title = "This invite is out of time. Ask for a new one."


class TooManyInvites(Conflict):
    code = "invite_limit"
    title = "There are too many open invites here. Revoke some first."


DEAD: dict[str, type[AppError]] = {"accepted": Used, "revoked": Revoked, "expired": Expired}


async def create(tx: Write, caller: Caller, seat: Seat, *, email: str, role: str) -> Invite:
    """Invite an address. An open invite to it is replaced. `seat` holds the space's lock.

    Raises Forbidden, AlreadyMember, TooManyInvites, TooManyRequests.
    """
    require(seat, May.INVITE)
    check_grant(seat, role)
    member = await tx.value(
        "SELECT EXISTS (SELECT FROM members m JOIN users u ON u.id = m.user_id"
        ' WHERE m.space_id = $1 AND u.email_verified AND u.email_key = lower($2::text COLLATE "C"))',
        seat.space,
        email,
    )
    if member:
        raise AlreadyMember
    await caller.service.limiter.take_exact(
        tx,
        ("invites by a user", caller.user),
        ("invites of a space", str(seat.space)),
        ("invites to an address", email.lower()),
    )
    await tx.run(
        "UPDATE invites SET revoked_at = now(), revoked_by = $3 WHERE space_id = $1"
        ' AND email_key = lower($2::text COLLATE "C") AND accepted_at IS NULL AND revoked_at IS NULL',
        seat.space,
        email,
        seat.user,
    )
    invite = await _insert(tx, caller, seat, email=email, role=role)
    await audit.record(tx, caller, "invite.create", space=seat.space, target=invite.id, after={"role": role})
    return invite


async def _insert(tx: Write, caller: Caller, seat: Seat, *, email: str | None, role: str) -> Invite:
    invite_id = new_id()
    token = caller.service.invite_tokens.make(invite_id)
    invite = await tx.maybe(
        Invite,
        "WITH i AS (INSERT INTO invites (id, space_id, kind, role, email, token_hash, invited_by)"
        " SELECT $1, $2, $3, $4, $5, $6, $7 WHERE (SELECT count(*) FROM invites"
        " WHERE space_id = $2 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > now()) < $8"
        " RETURNING *) SELECT " + INVITE + " FROM i",
        invite_id,
        seat.space,
        seat.kind,
        role,
        email,
        caller.service.invite_tokens.hash(token),
        seat.user,
        MAX_OPEN,
    )
    if invite is None:
        raise TooManyInvites
    if email is not None:
        await outbox.put(tx, InviteMade(invite_id=invite_id))
    return invite


async def list_open(read: Read, space: UUID) -> list[Invite]:
    """Open invites, newest first."""
    return await read.many(
        Invite,
        "SELECT " + INVITE + " FROM invites i WHERE i.space_id = $1 AND i.accepted_at IS NULL"
        " AND i.revoked_at IS NULL AND i.expires_at > now() AND invite_status(i) = 'open'"
        " ORDER BY i.created_at DESC, i.id DESC",
        space,
    )


async def find(read: Read, seat: Seat, invite_id: UUID | None) -> Invite:
    """An invite of the seat's space. Raises NotFound."""
    found = None
    if invite_id is not None:
        found = await read.maybe(
            Invite,
            "SELECT " + INVITE + " FROM invites i WHERE i.space_id = $1 AND i.id = $2",
            seat.space,
            invite_id,
        )
    if found is None:
        raise NotFound("No such invite.")
    return found


async def revoke(tx: Write, caller: Caller, seat: Seat, invite_id: UUID | None) -> Invite:
    """Take an invite back. Raises Forbidden, NotFound, Used, and Revoked as a conflict."""
    require(seat, May.INVITE)
    invite = await find(tx, seat, invite_id)
    if invite.status == "accepted":
        raise Used
    await tx.run(
        "UPDATE invites SET revoked_at = now(), revoked_by = $3 WHERE space_id = $1 AND id = $2"
        " AND accepted_at IS NULL AND revoked_at IS NULL",
        seat.space,
        invite.id,
        seat.user,
    )
    await audit.record(tx, caller, "invite.revoke", space=seat.space, target=invite.id)
    return invite


async def regenerate(tx: Write, caller: Caller, seat: Seat, invite_id: UUID | None) -> Invite:
    """Kill the link and make a new one for the same person and role. Raises Forbidden, NotFound, Used."""
    require(seat, May.INVITE)
    old = await find(tx, seat, invite_id)
    check_grant(seat, old.role)
    if old.status == "accepted":
        raise Used
    await caller.service.limiter.take_exact(
        tx, ("invites by a user", caller.user), ("invites of a space", str(seat.space))
    )
    await tx.run(
        "UPDATE invites SET revoked_at = now(), revoked_by = $3 WHERE space_id = $1 AND revoked_at IS NULL"
        " AND accepted_at IS NULL AND (id = $2 OR ($4::text IS NOT NULL AND kind = 'community'"
        ' AND email_key = lower($4::text COLLATE "C")))',
        seat.space,
        old.id,
        seat.user,
        old.email,
    )
    invite = await _insert(tx, caller, seat, email=old.email, role=old.role)
    await audit.record(
        tx,
        caller,
        "invite.regenerate",
        space=seat.space,
        target=invite.id,
        before={"invite": str(old.id)},
    )
    return invite


async def resend(tx: Write, caller: Caller, seat: Seat, invite_id: UUID | None) -> Invite:
    """Mail the same link again; its expiry stays.

    Raises Forbidden, NotFound, what it died of, TooManyRequests.
    """
    require(seat, May.INVITE)
    invite = await find(tx, seat, invite_id)
    if invite.status != "open":
        raise DEAD[invite.status]
    sent = await tx.run(
        "UPDATE invites SET resends = resends + 1, resent_at = now() WHERE space_id = $1 AND id = $2"
        " AND ($5 OR (resends < $3 AND coalesce(resent_at, created_at) <= now() - $4::interval))",
        seat.space,
        invite.id,
        MAX_RESENDS,
        RESEND_EVERY,
        caller.service.limiter.scale == 0,
    )
    if not sent:
        raise TooManyRequests(
            "An invite is mailed again at most every 10 minutes and 5 times in all.",
            retry_after_s=int(RESEND_EVERY.total_seconds()),
        )
    await audit.record(tx, caller, "invite.resend", space=seat.space, target=invite.id)
    await outbox.put(tx, InviteMade(invite_id=invite.id, attempt=invite.resends + 1))
    return invite


async def look_up(read: Read, service: Service, token: str) -> Card:
    """What the holder of a token may know. Raises NotFound, the same for malformed and for unknown ones."""
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
        service.limiter.take("invite misses", "all")
        raise NotFound("No such invite.")
    return card


class _Opened(msgspec.Struct, frozen=True):
    id: UUID
    role: str
    status: str
    addressed: bool
    for_the_caller: bool


async def accept(tx: Write, caller: Caller, token: str, *, kind: str) -> Accepted:
    """Become a member by an invite. Raises NotFound, what it died of, WrongInvitee, AlreadyMember.

    The space is locked first, so that revoking, leaving and deleting come wholly before or wholly after.
    """
    space = None
    token_hash = caller.service.invite_tokens.hash(token)
    if caller.service.invite_tokens.well_formed(token):
        space = await tx.value(
            "SELECT space_id FROM invites WHERE token_hash = $1 AND kind = $2", token_hash, kind
        )
    if space is None:
        caller.service.limiter.take("invite misses", "all")
        raise NotFound("No such invite.")
    place = await tx.maybe(
        _Place,
        "SELECT role, user_id FROM lock_space($1, $2, $3, $4)",
        *caller.me,
        space,
    )
    if place is None:
        known = await tx.value("SELECT EXISTS (SELECT FROM users WHERE id = $1)", caller.user)
        raise Unauthorized() if known else NotSynced()
    invite = await tx.one(
        _Opened,
        "SELECT i.id, i.role, invite_status(i) AS status,"
        " i.email IS NOT NULL OR i.invitee_user_id IS NOT NULL AS addressed,"
        " coalesce(i.invitee_user_id = u.id, false)"
        "  OR coalesce(u.email_verified AND i.email_key = u.email_key, false) AS for_the_caller"
        " FROM invites i JOIN users u ON u.id = $2 WHERE i.token_hash = $1",
        token_hash,
        place.user_id,
    )
    if invite.status != "open":
        raise DEAD[invite.status]
    if invite.addressed and not invite.for_the_caller:
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
    if not await members.add(tx, space, kind, place.user_id, invite.role):
        raise AlreadyMember
    await audit.record(
        tx,
        caller,
        "invite.accept",
        space=space,
        target=place.user_id,
        after={"role": invite.role, "invite": str(invite.id)},
    )
    await outbox.put(tx, SpaceChanged(space_id=space))
    return Accepted(space, kind, invite.role)


class _Place(msgspec.Struct, frozen=True):
    role: str | None
    user_id: str


async def revoke_all(db: Db) -> int:
    """Take back every open invite of the installation, by the operator's hand; answers how many."""
    count = 0
    while True:
        async with db.single() as tx:
            revoked = await tx.run(
                "WITH revoked AS (UPDATE invites SET revoked_at = now() WHERE id IN"
                " (SELECT id FROM invites WHERE accepted_at IS NULL AND revoked_at IS NULL"
                "   AND expires_at > now() LIMIT 1000 FOR UPDATE) RETURNING id, space_id)"
                " INSERT INTO audit (action, actor, space_id, target)"
                " SELECT 'invite.revoke', 'operator', space_id, id::text FROM revoked"
            )
        count += revoked
        if revoked == 0:
            return count
