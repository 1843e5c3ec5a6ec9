"""Ownership transfer: offered by an owner to a member, accepted by the target alone, in one step."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import msgspec

from guildhall.db import Write, new_id
from guildhall.errors import AppError, Conflict, FieldError, Forbidden, NotFound
from guildhall.spaces import UserId, audit, news
from guildhall.spaces.jobs import note_change
from guildhall.spaces.rules import May, require
from guildhall.spaces.seats import Seat
from guildhall.web.caller import Caller

TRANSFER = """
    t.id, t.space_id, t.initiated_by, t.target_user_id, rfc3339(t.created_at) AS created_at,
    rfc3339(t.expires_at) AS expires_at, rfc3339(t.accepted_at) AS accepted_at,
    rfc3339(t.cancelled_at) AS cancelled_at, t.expires_at <= now() AS expired
"""


class Transfer(msgspec.Struct, frozen=True):
    id: UUID
    space_id: UUID
    initiated_by: str
    target_user_id: str
    created_at: str
    expires_at: str
    accepted_at: str | None
    cancelled_at: str | None
    expired: bool


class InvalidTarget(AppError):
    status, code = 400, "invalid_target"
    title = "Ownership goes to a current member other than its owner."


class TransferExists(Conflict):
    code = "transfer_exists"
    title = "A transfer is open already. Cancel it first."


class TransferAccepted(Conflict):
    code = "accepted"
    title = "This transfer was accepted already."


class TransferInvalid(Conflict):
    code = "transfer_invalid"
    title = "Ownership changed since this transfer was offered."


class TransferCanceled(AppError):
    status, code = 410, "canceled"
    title = "This transfer was canceled."


class TransferExpired(AppError):
    status, code = 410, "expired"
    title = "This transfer is out of time. Ask for a new one."


async def offer(tx: Write, caller: Caller, seat: Seat, target: str, pointer: str) -> Transfer:
    """Offer ownership to a member for 7 days; `pointer` is where the body names them.

    Raises Forbidden, InvalidTarget, TransferExists.
    """
    require(seat, May.MANAGE_OWNERS)
    invalid = InvalidTarget(errors=[FieldError(pointer, "not_allowed", InvalidTarget.title)])
    if target == seat.user:
        raise invalid
    # An offer out of time does not stand in the way of a new one.
    await tx.run(
        "UPDATE transfers SET cancelled_at = now(), cancelled_by = initiated_by WHERE space_id = $1"
        " AND accepted_at IS NULL AND cancelled_at IS NULL AND expires_at <= now()",
        seat.space,
    )
    transfer = await tx.maybe(
        Transfer,
        "WITH t AS (INSERT INTO transfers (id, space_id, initiated_by, target_user_id)"
        " SELECT $1, $2, $3, m.user_id FROM members m"
        " JOIN users u ON u.id = m.user_id AND u.status = 'active'"
        " WHERE m.space_id = $2 AND m.user_id = $4 AND m.role <> 'owner'"
        " ON CONFLICT (space_id) WHERE accepted_at IS NULL AND cancelled_at IS NULL DO NOTHING RETURNING *)"
        " SELECT " + TRANSFER + " FROM t",
        new_id(),
        seat.space,
        seat.user,
        target,
    )
    if transfer is None:
        role = await tx.value(
            "SELECT m.role FROM members m JOIN users u ON u.id = m.user_id AND u.status = 'active'"
            " WHERE m.space_id = $1 AND m.user_id = $2",
            seat.space,
            target,
        )
        raise invalid if role in (None, "owner") else TransferExists
    await audit.record(
        tx, caller, "transfer.offer", space=seat.space, target=target, after={"transfer": str(transfer.id)}
    )
    offered = news.TransferOffered(
        kind=seat.kind,
        space=seat.space,
        transfer=transfer.id,
        target=target,
        expires_at=transfer.expires_at,
    )
    await news.announce(tx, caller, offered)
    return transfer


async def accept(
    tx: Write,
    caller: Caller,
    seat: Seat,
    transfer_id: UUID | None,
    check: Callable[[], Awaitable[None]] | None = None,
) -> Transfer:
    """Become owner; who offered it becomes admin. Raises NotFound and the reasons why an offer is dead.

    `check` is asked once it is sure that a live offer is for the caller, and may refuse.
    """
    transfer = await _find(tx, seat, transfer_id)
    if transfer.cancelled_at is not None:
        raise TransferCanceled
    if transfer.accepted_at is not None:
        raise TransferAccepted
    if transfer.expired:
        raise TransferExpired
    if transfer.target_user_id != seat.user:
        raise NotFound("No such transfer.")
    if check is not None:
        await check()
    demoted = await tx.run(
        "UPDATE members SET role = 'admin' WHERE space_id = $1 AND user_id = $2 AND role = 'owner'",
        seat.space,
        transfer.initiated_by,
    )
    if not demoted:
        raise TransferInvalid
    await tx.run(
        "UPDATE members SET role = 'owner' WHERE space_id = $1 AND user_id = $2", seat.space, seat.user
    )
    if seat.owner == transfer.initiated_by:
        await tx.run("UPDATE spaces SET owner_id = $2 WHERE id = $1", seat.space, seat.user)
    done = await tx.one(
        Transfer,
        "WITH t AS (UPDATE transfers SET accepted_at = now() WHERE space_id = $1 AND id = $2 RETURNING *)"
        " SELECT " + TRANSFER + " FROM t",
        seat.space,
        transfer.id,
    )
    await audit.record(
        tx,
        caller,
        "transfer.accept",
        space=seat.space,
        target=seat.user,
        before={"owner": transfer.initiated_by},
        after={"owner": seat.user},
    )
    await note_change(tx, seat.kind, seat.space)
    await news.announce(
        tx,
        caller,
        news.TransferClosed(
            kind=seat.kind, space=seat.space, transfer=done.id, target=seat.user, how="accepted"
        ),
        news.OwnerChanged(
            kind=seat.kind,
            space=seat.space,
            transfer=done.id,
            before=transfer.initiated_by,
            after=seat.user,
        ),
    )
    return done


async def cancel(tx: Write, caller: Caller, seat: Seat, transfer_id: UUID | None) -> Transfer:
    """Take an offer back, or decline it. Raises NotFound, Forbidden, TransferAccepted, TransferCanceled."""
    transfer = await _find(tx, seat, transfer_id)
    if seat.user not in (transfer.initiated_by, transfer.target_user_id):
        raise Forbidden("Only the two people of a transfer may cancel it.")
    if transfer.accepted_at is not None:
        raise TransferAccepted
    if transfer.cancelled_at is not None:
        raise TransferCanceled
    done = await tx.one(
        Transfer,
        "WITH t AS (UPDATE transfers SET cancelled_at = now(), cancelled_by = $3"
        " WHERE space_id = $1 AND id = $2 RETURNING *) SELECT " + TRANSFER + " FROM t",
        seat.space,
        transfer.id,
        seat.user,
    )
    await audit.record(
        tx,
        caller,
        "transfer.cancel",
        space=seat.space,
        target=UserId(transfer.target_user_id),
        before={"transfer": str(transfer.id)},
    )
    closed = news.TransferClosed(
        kind=seat.kind,
        space=seat.space,
        transfer=done.id,
        target=done.target_user_id,
        how="declined" if seat.user == done.target_user_id else "canceled",
    )
    await news.announce(tx, caller, closed)
    return done


async def _find(tx: Write, seat: Seat, transfer_id: UUID | None) -> Transfer:
    found = None
    if transfer_id is not None:
        found = await tx.maybe(
            Transfer,
            "SELECT " + TRANSFER + " FROM transfers t WHERE t.space_id = $1 AND t.id = $2",
            seat.space,
            transfer_id,
        )
    if found is None:
        raise NotFound("No such transfer.")
    return found
