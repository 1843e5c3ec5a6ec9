"""Invites: one link that makes one person a member, once, for a week.

A token is derived from the invite's id, so nothing secret is stored. An invite with an address is for the
person who has that address verified; it dies with its inviter's right to make it. This is the side of those
who invite; `invite_links` is that of who holds a link.
"""

import math
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from guildhall import outbox
from guildhall.db import Db, Read, Write, new_id
from guildhall.errors import AppError, Conflict, NotFound, TooManyRequests
from guildhall.spaces import audit, news
from guildhall.spaces.jobs import InviteMade
from guildhall.spaces.rules import AlreadyMember, May, check_grant, require
from guildhall.spaces.seats import Kind, Seat
from guildhall.web.caller import Caller
from guildhall.web.service import Service

RESEND_EVERY = timedelta(minutes=10)
MAX_RESENDS = 5

INVITE = """
    i.id, i.space_id, i.kind, i.role, i.email, i.invitee_user_id, i.token_hash, i.invited_by,
    rfc3339(i.created_at) AS created_at, rfc3339(i.expires_at) AS expires_at,
    rfc3339(i.enqueued_at) AS enqueued_at, rfc3339(i.sent_at) AS sent_at, i.resends,
    invite_status(i) AS status
"""


class Invite(msgspec.Struct, frozen=True):
    """`status` is open, accepted, revoked or expired, by the database's clock when it was read.

    `enqueued_at` is when a mail was last put in the queue, `sent_at` when one was last handed over.
    """

    id: UUID
    space_id: UUID
    kind: str
    role: str
    email: str | None
    invitee_user_id: str | None
    token_hash: bytes
    invited_by: str
    created_at: str
    expires_at: str
    enqueued_at: str | None
    sent_at: str | None
    resends: int
    status: str

    def token(self, service: Service) -> str | None:
        """The token again; None when the key that made it was retired."""
        return service.invite_tokens.make_again(self.id, self.token_hash)


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


class HubInviteLimit(TooManyRequests):
    code = "invite_limit"
    title = "A hub has at most 20 active invites. Revoke some first."


class InviteUsed(Conflict):
    code = "invite_used"
    title = "This invite was used already; make a new one."


class InviteRevoked(Conflict):
    code = "invite_revoked"
    title = "This invite was taken back already; make a new one."


class InviteeAlreadyMember(Conflict):
    code = "invitee_already_member"
    title = "This person is a member already; nothing was changed."


class NoEmail(AppError):
    status, code = 400, "no_email"
    title = "This invite is for nobody in particular, so there is no address to mail it to."


DEAD: dict[str, type[AppError]] = {"accepted": Used, "revoked": Revoked, "expired": Expired}


class Terms(msgspec.Struct, frozen=True):
    """What a kind of space says of invites: how many may be open, and how it refuses.

    `closed` are the refusals to take back or renew an invite of that status; `names_people` says that an
    address with an account stands for that person alone.
    """

    most_open: int
    too_many: type[AppError]
    member_already: type[AppError]
    closed: dict[str, type[AppError]]
    names_people: bool


TERMS: dict[Kind, Terms] = {
    "community": Terms(500, TooManyInvites, AlreadyMember, {"accepted": Used}, False),
    "hub": Terms(
        20,
        HubInviteLimit,
        InviteeAlreadyMember,
        {"accepted": InviteUsed, "revoked": InviteRevoked},
        True,
    ),
}


def same_address(one: str, other: str | None) -> bool:
    """As the database compares them: the letters of ASCII in any case, all others as they are."""
    return other is not None and one.encode().lower() == other.encode().lower()


class _Closed(msgspec.Struct, frozen=True):
    id: UUID


class _Revoked(msgspec.Struct, frozen=True):
    id: UUID
    space_id: UUID
    kind: Kind


class _Addressee(msgspec.Struct, frozen=True):
    user_id: str
    email: str | None
    is_member: bool
    is_named: bool


async def create(
    tx: Write, caller: Caller, seat: Seat, *, role: str, email: str | None = None, user: str | None = None
) -> Invite:
    """Invite an address, a person by id, or whoever has the link. An open invite to the same is replaced.

    A `user` nobody knows counts as none; somebody known goes before an address, which counts only if it is
    theirs. `seat` holds the space's lock.
    Raises Forbidden, what the kind says of members and of too many, TooManyRequests.
    """
    require(seat, May.INVITE)
    check_grant(seat, role)
    found = None
    if email is not None or user is not None:
        found = await tx.maybe(
            _Addressee,
            "SELECT u.id AS user_id, CASE WHEN u.email_verified THEN u.email END AS email,"
            " EXISTS (SELECT FROM members m WHERE m.space_id = $1 AND m.user_id = u.id) AS is_member,"
            " u.id IS NOT DISTINCT FROM $2 AS is_named"
            " FROM users u WHERE u.status <> 'erased' AND (u.id = $2"
            '  OR (u.email_verified AND u.email_key = lower($3::text COLLATE "C")))'
            " ORDER BY u.id = $2 DESC NULLS LAST, is_member DESC, u.created_at LIMIT 1",
            seat.space,
            user,
            email,
        )
    if found is not None and found.is_member:
        raise TERMS[seat.kind].member_already
    if found is not None and found.is_named and email is not None:
        # Nobody could accept an invite to one person and to the address of another.
        email = email if same_address(email, found.email) else None
    invitee = found.user_id if found is not None and TERMS[seat.kind].names_people else None
    mailed_to = email or (found.email if found is not None else None)
    limits = [("invites by a user", caller.user), ("invites of a space", str(seat.space))]
    if mailed_to is not None:
        limits.append(("invites to an address", mailed_to.lower()))
    await caller.service.limiter.take_exact(tx, *limits)
    replaced: list[_Closed] = []
    if email is not None or invitee is not None:
        replaced = await tx.many(
            _Closed,
            "UPDATE invites SET revoked_at = now(), revoked_by = $3 WHERE space_id = $1"
            ' AND (email_key = lower($2::text COLLATE "C") OR invitee_user_id = $4)'
            " AND accepted_at IS NULL AND revoked_at IS NULL RETURNING id",
            seat.space,
            email,
            seat.user,
            invitee,
        )
    invite = await _insert(
        tx, caller, seat, email=email, invitee=invitee, role=role, mailed=mailed_to is not None
    )
    await audit.record(tx, caller, "invite.create", space=seat.space, target=invite.id, after={"role": role})
    await _announce(tx, caller, seat, invite, replaced)
    return invite


async def _announce(
    tx: Write, caller: Caller, seat: Seat, invite: Invite, replaced: Sequence[_Closed]
) -> None:
    closed = [row.id for row in replaced]
    made = news.Invited(
        kind=seat.kind,
        space=seat.space,
        invite=invite.id,
        user=invite.invitee_user_id,
        role=invite.role,
        expires_at=invite.expires_at,
    )
    if closed:
        gone = news.InvitesClosed(kind=seat.kind, space=seat.space, invites=closed, how="revoked")
        await news.announce(tx, caller, gone, made)
    else:
        await news.announce(tx, caller, made)


class _Waiting(msgspec.Struct, frozen=True):
    id: UUID
    space_id: UUID
    kind: Kind
    role: str
    invited_by: str
    expires_at: str


async def tell_newcomer(tx: Write, user: str) -> None:
    """Put the open invites to an address into the inbox of somebody who has just come to have it verified."""
    waiting = await tx.many(
        _Waiting,
        """
        SELECT i.id, i.space_id, i.kind, i.role, i.invited_by, rfc3339(i.expires_at) AS expires_at
          FROM users u JOIN invites i ON i.email_key = u.email_key
           AND i.accepted_at IS NULL AND i.revoked_at IS NULL
         WHERE u.id = $1 AND u.email_verified AND u.status = 'active' AND invite_status(i) = 'open'
           AND (i.invitee_user_id IS NULL OR i.invitee_user_id = u.id)
           AND NOT EXISTS (SELECT FROM members m WHERE m.space_id = i.space_id AND m.user_id = u.id)
           AND NOT EXISTS (SELECT FROM notifications n WHERE n.recipient_user_id = u.id
                              AND n.source_kind = i.kind || '_invite' AND n.source_id = i.id::text)
           -- Who was first to have the address is told of what comes to it.
           AND NOT EXISTS (SELECT FROM users o WHERE o.email_key = u.email_key AND o.email_verified
                              AND o.status = 'active' AND (o.created_at, o.id) < (u.created_at, u.id))
         ORDER BY i.created_at, i.id LIMIT 100
        """,
        user,
    )
    for invite in waiting:
        made = news.Invited(
            kind=invite.kind,
            space=invite.space_id,
            invite=invite.id,
            user=user,
            role=invite.role,
            expires_at=invite.expires_at,
        )
        await news.announce(tx, invite.invited_by, made)


async def check_room(tx: Write, seat: Seat) -> None:
    """Refuse where no further invite may be open. `seat` holds the space's lock."""
    open_now = await tx.value(
        "SELECT count(*) FROM invites WHERE space_id = $1 AND accepted_at IS NULL AND revoked_at IS NULL"
        " AND expires_at > now()",
        seat.space,
    )
    if open_now >= TERMS[seat.kind].most_open:
        raise TERMS[seat.kind].too_many


async def _insert(
    tx: Write, caller: Caller, seat: Seat, *, email: str | None, invitee: str | None, role: str, mailed: bool
) -> Invite:
    invite_id = new_id()
    token = caller.service.invite_tokens.make(invite_id)
    invite = await tx.maybe(
        Invite,
        "WITH i AS (INSERT INTO invites"
        " (id, space_id, kind, role, email, invitee_user_id, token_hash, invited_by, enqueued_at)"
        " SELECT $1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $10 THEN now() END"
        " WHERE (SELECT count(*) FROM invites"
        " WHERE space_id = $2 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > now()) < $9"
        " RETURNING *) SELECT " + INVITE + " FROM i",
        invite_id,
        seat.space,
        seat.kind,
        role,
        email,
        invitee,
        caller.service.invite_tokens.hash(token),
        seat.user,
        TERMS[seat.kind].most_open,
        mailed,
    )
    if invite is None:
        raise TERMS[seat.kind].too_many
    if mailed:
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


async def _find_unclosed(tx: Write, seat: Seat, invite_id: UUID | None) -> Invite:
    invite = await find(tx, seat, invite_id)
    if (refusal := TERMS[seat.kind].closed.get(invite.status)) is not None:
        raise refusal
    return invite


async def revoke(tx: Write, caller: Caller, seat: Seat, invite_id: UUID | None) -> Invite:
    """Take an invite back. Raises Forbidden, NotFound, and what the kind says of closed ones."""
    require(seat, May.INVITE)
    invite = await _find_unclosed(tx, seat, invite_id)
    revoked = await tx.run(
        "UPDATE invites SET revoked_at = now(), revoked_by = $3 WHERE space_id = $1 AND id = $2"
        " AND accepted_at IS NULL AND revoked_at IS NULL",
        seat.space,
        invite.id,
        seat.user,
    )
    if not revoked:
        # It was before: to say so again is harmless, and nothing to tell of.
        return invite
    await audit.record(tx, caller, "invite.revoke", space=seat.space, target=invite.id)
    await news.announce(
        tx, caller, news.InvitesClosed(kind=seat.kind, space=seat.space, invites=[invite.id], how="revoked")
    )
    return invite


async def regenerate(tx: Write, caller: Caller, seat: Seat, invite_id: UUID | None) -> Invite:
    """Kill the link and make a new one for the same person and role.

    Raises Forbidden, NotFound, what the kind says of closed ones and of too many, TooManyRequests.
    """
    require(seat, May.INVITE)
    old = await _find_unclosed(tx, seat, invite_id)
    check_grant(seat, old.role)
    mailed_to = old.email
    if mailed_to is None and old.invitee_user_id is not None:
        mailed_to = await tx.value(
            "SELECT email FROM users WHERE id = $1 AND email_verified", old.invitee_user_id
        )
    limits = [("invites by a user", caller.user), ("invites of a space", str(seat.space))]
    if mailed_to is not None:
        limits.append(("invites to an address", mailed_to.lower()))
    await caller.service.limiter.take_exact(tx, *limits)
    replaced = await tx.many(
        _Closed,
        "UPDATE invites SET revoked_at = now(), revoked_by = $3 WHERE space_id = $1 AND revoked_at IS NULL"
        " AND accepted_at IS NULL AND (id = $2 OR ($4::text IS NOT NULL AND kind = 'community'"
        ' AND email_key = lower($4::text COLLATE "C"))) RETURNING id',
        seat.space,
        old.id,
        seat.user,
        old.email,
    )
    invite = await _insert(
        tx,
        caller,
        seat,
        email=old.email,
        invitee=old.invitee_user_id,
        role=old.role,
        mailed=mailed_to is not None,
    )
    await audit.record(
        tx,
        caller,
        "invite.regenerate",
        space=seat.space,
        target=invite.id,
        before={"invite": str(old.id)},
    )
    await _announce(tx, caller, seat, invite, replaced)
    return invite


async def resend(tx: Write, caller: Caller, seat: Seat, invite_id: UUID | None) -> Invite:
    """Mail the same link again; its expiry stays.

    Raises Forbidden, NotFound, what it died of, NoEmail, TooManyRequests.
    """
    require(seat, May.INVITE)
    invite = await _find_unclosed(tx, seat, invite_id)
    if invite.status != "open":
        raise DEAD[invite.status]
    if invite.email is None and invite.enqueued_at is None:
        raise NoEmail
    scale = caller.service.limiter.scale
    most, every = MAX_RESENDS * scale, RESEND_EVERY / (scale or 1)
    enqueued_at = await tx.value(
        "UPDATE invites SET resends = resends + 1, resent_at = now(), enqueued_at = now()"
        " WHERE space_id = $1 AND id = $2"
        " AND ($5 OR (resends < $3::float8 AND coalesce(resent_at, created_at) <= now() - $4::interval))"
        " RETURNING rfc3339(enqueued_at)",
        seat.space,
        invite.id,
        most,
        every,
        scale == 0,
    )
    if enqueued_at is None:
        raise TooManyRequests(
            f"An invite is mailed again once in {every.total_seconds():.0f} s and {most:.0f} times in all.",
            retry_after_s=math.ceil(every.total_seconds()),
        )
    await audit.record(tx, caller, "invite.resend", space=seat.space, target=invite.id)
    await outbox.put(tx, InviteMade(invite_id=invite.id, attempt=invite.resends + 1))
    return msgspec.structs.replace(invite, resends=invite.resends + 1, enqueued_at=enqueued_at)


async def revoke_all(db: Db) -> int:
    """Take back every open invite of the installation, by the operator's hand; answers how many."""
    count = 0
    while True:
        async with db.writing() as tx:
            revoked = await tx.many(
                _Revoked,
                "WITH revoked AS (UPDATE invites SET revoked_at = now() WHERE id IN"
                " (SELECT id FROM invites WHERE accepted_at IS NULL AND revoked_at IS NULL"
                "   AND expires_at > now() LIMIT 1000 FOR UPDATE) RETURNING id, space_id, kind),"
                " noted AS (INSERT INTO audit (action, actor, space_id, target)"
                "   SELECT 'invite.revoke', 'operator', space_id, id::text FROM revoked)"
                " SELECT id, space_id, kind FROM revoked",
            )
            closed = [
                news.InvitesClosed(kind=row.kind, space=row.space_id, invites=[row.id], how="revoked")
                for row in revoked
            ]
            await news.announce(tx, "", *closed)
        count += len(revoked)
        if not revoked:
            return count
