"""What a person can do with what they are told. A decision does exactly what the direct call does."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal
from uuid import UUID

from guildhall.db import Write
from guildhall.errors import AppError, NotFound
from guildhall.hubs.actions import check_owned
from guildhall.inbox import queries, rules
from guildhall.inbox.queries import Row, Which
from guildhall.spaces import invite_links, invites, transfer
from guildhall.spaces.notices import KINDS, settle, tell, tell_marked
from guildhall.spaces.seats import Kind, NotMember, as_uuid, lock_community_seat, lock_hub_seat
from guildhall.web.access import check_key
from guildhall.web.caller import Caller, check_alive


async def find(tx: Write, caller: Caller, raw_id: str) -> Row:
    """A notification that the caller may see. Raises NotFound."""
    notification = as_uuid(raw_id)
    row = None if notification is None else await queries.find_row(tx, caller, notification)
    if row is None:
        await check_alive(tx, caller)
        raise NotFound("No such notification.")
    return row


async def see(tx: Write, caller: Caller, raw_id: str) -> None:
    """Mark one as seen. Raises NotFound."""
    notification = as_uuid(raw_id)
    rows = [] if notification is None else await queries.see(tx, caller, Which(id=notification))
    if not rows:
        await find(tx, caller, raw_id)
    tell_marked(tx, caller.user, rows, "seen")


async def dismiss(tx: Write, caller: Caller, raw_id: str) -> None:
    """Put one away. Raises NotFound, DismissNotApplicable."""
    row = await find(tx, caller, raw_id)
    if row.bucket == "action":
        raise rules.DismissNotApplicable
    tell_marked(tx, caller.user, await queries.dismiss(tx, caller, Which(id=row.id)), "dismissed")


async def mark_all(tx: Write, caller: Caller, which: Which, how: Literal["seen", "dismissed"]) -> int:
    """Mark or put away all that need no decision, so many at once; answers how many."""
    change = queries.see if how == "seen" else queries.dismiss
    rows = await change(tx, caller, which)
    if not rows:
        await check_alive(tx, caller)
    tell_marked(tx, caller.user, rows, how)
    return len(rows)


def check_kinds(kinds: list[str] | None) -> None:
    """Refuse to treat decisions in bulk. Raises BulkNotAllowed."""
    if any(KINDS.get(kind) == "action" for kind in kinds or ()):
        raise rules.BulkNotAllowed


async def resolve(tx: Write, caller: Caller, raw_id: str, action: str) -> str:
    """Decide; answers what that resolved it as. Raises what the direct call raises, by its name here."""
    row = await find(tx, caller, raw_id)
    if row.bucket == "update":
        raise rules.ResolveNotApplicable
    answers = rules.ANSWERS.get(row.kind)
    if answers is None:
        raise rules.UnsupportedKind
    if action not in answers:
        raise rules.InvalidAction
    _check_key(caller, row)
    if row.status == "expired":
        raise rules.EXPIRED.get(row.kind, rules.NotPending)
    if row.status != "pending":
        raise rules.NotPending
    if row.kind.startswith("review_"):
        if row.space_id is None or row.dream_action_id is None:
            raise rules.UnsupportedKind
        if action in rules.NEEDED:
            check_key(caller.access, rules.NEEDED[action], unlimited=False)
        return await caller.service.decide(tx, caller, row.space_id, row.dream_action_id, action)
    kind: Kind = "hub" if row.kind.startswith("hub_") else "community"
    if row.kind.endswith("_invite"):
        await _answer_invite(tx, caller, kind, UUID(row.source_id), accept=action == "accept")
    elif row.kind.endswith("_ownership_transfer"):
        await _answer_transfer(tx, caller, kind, row, accept=action == "accept")
    else:
        await _close(tx, caller, row, answers[action])
    return answers[action]


async def close_groundless(tx: Write, caller: Caller, raw_id: str) -> None:
    """Close what waits for a decision about an invite or a transfer that is dead. Raises NotFound."""
    row = await find(tx, caller, raw_id)
    if row.space_id is not None:
        await settle(tx, caller.user, [], [], [row.space_id])


def _check_key(caller: Caller, row: Row) -> None:
    """A key may here what it may by the direct call."""
    match row.kind:
        case "hub_invite":
            check_key(caller.access, "any", unlimited=True)
        case "hub_ownership_transfer":
            check_key(caller.access, "hub:manage", unlimited=False)
        case "community_invite" | "community_ownership_transfer":
            check_key(caller.access, None, unlimited=False)
        case _:
            pass


async def _answer_invite(tx: Write, caller: Caller, kind: Kind, invite: UUID, *, accept: bool) -> None:
    async with _renamed():
        if accept:
            caller.service.limiter.take("accept", caller.user)
            most = caller.service.most_hub_members if kind == "hub" else None
            await invite_links.accept_from_inbox(tx, caller, invite, kind=kind, most=most)
        else:
            await invite_links.decline(tx, caller, invite, kind=kind)


async def _answer_transfer(tx: Write, caller: Caller, kind: Kind, row: Row, *, accept: bool) -> None:
    async def check() -> None:
        if kind == "hub":
            await check_owned(tx, caller)

    async with _renamed(of_transfer=True):
        space = str(row.space_id)
        lock = lock_hub_seat if kind == "hub" else lock_community_seat
        seat = await lock(tx, caller, space)
        if accept:
            await transfer.accept(tx, caller, seat, UUID(row.source_id), check)
        else:
            await transfer.cancel(tx, caller, seat, UUID(row.source_id))


_NAMES: dict[type[AppError], type[AppError]] = {
    invites.Expired: rules.InviteExpired,
    invites.Used: rules.InviteUsed,
    invites.Revoked: rules.InviteRevoked,
    invite_links.WrongInvitee: rules.InviteWrongInvitee,
    transfer.TransferExpired: rules.TransferExpired,
    transfer.TransferAccepted: rules.TransferAccepted,
    transfer.TransferCanceled: rules.TransferCanceled,
}


@asynccontextmanager
async def _renamed(*, of_transfer: bool = False) -> AsyncGenerator[None]:
    """Refusals of the direct call by the names they have in the inbox."""
    try:
        yield
    except (NotFound, NotMember) as error:
        raise (rules.TransferNotFound if of_transfer else rules.InviteNotFound) from error
    except AppError as error:
        renamed = _NAMES.get(type(error))
        if renamed is None:
            raise
        raise renamed from error


async def _close(tx: Write, caller: Caller, row: Row, resolution: str) -> None:
    closed = await queries.close(tx, row.id, resolution)
    if closed is None:
        raise rules.NotPending
    tell(tx, caller.user, closed)
