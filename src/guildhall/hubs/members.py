"""`/v1/hubs/…/members`, `leave` and `ownership-transfer`: who is in a hub, and whose it is."""

from litestar import delete, patch, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from guildhall.db import Write
from guildhall.errors import Forbidden, NotFound
from guildhall.hubs import actions, queries, rules
from guildhall.hubs.schemas import (
    AddMember,
    ChangeRole,
    HubOwnershipTransfer,
    Left,
    MemberAdded,
    MemberRemoved,
    MemberUpdated,
    OfferOwnership,
    TransferCanceled,
)
from guildhall.spaces import UserId, members, transfer
from guildhall.spaces.rules import AlreadyMember, May, MemberCapExceeded, require
from guildhall.spaces.seats import HubSeat, NotMember, as_uuid, lock_hub_seat
from guildhall.web.body import Sent
from guildhall.web.caller import Caller
from guildhall.web.docs import facts
from guildhall.web.wire import Data


@post(
    "/v1/hubs/{hub_id:str}/members",
    status_code=200,
    summary="Add a member",
    opt=facts(
        Forbidden,
        rules.PersonalHub,
        rules.MissingUserId,
        rules.InvalidRole,
        NotFound,
        AlreadyMember,
        MemberCapExceeded,
        limits=("direct add",),
        atom="hub:manage",
    ),
)
async def add_hub_member(
    caller: NamedDependency[Caller], hub_id: str, data: Sent[AddMember]
) -> Data[MemberAdded]:
    async with caller.db.writing() as tx:
        seat = await lock_hub_seat(tx, caller, hub_id, Forbidden)
        require(seat, May.MANAGE_MEMBERS)
        rules.check_shared(seat)
        wanted = data.read()
        if wanted.user_id == "":
            raise rules.MissingUserId
        role = rules.read_role(wanted.role)
        await actions.add_member(tx, caller, seat, wanted.user_id, role)
    return Data(MemberAdded(status="added", user_id=wanted.user_id, role=role))


@patch(
    "/v1/hubs/{hub_id:str}/members/{user_id:str}",
    summary="Change a member's role",
    opt=facts(
        Forbidden,
        rules.PersonalHub,
        rules.CannotChangeOwner,
        NotFound,
        rules.InvalidRole,
        atom="hub:manage",
    ),
)
async def change_hub_role(
    caller: NamedDependency[Caller], hub_id: str, user_id: str, data: Sent[ChangeRole]
) -> Data[MemberUpdated]:
    async with caller.db.writing() as tx:
        seat = await lock_hub_seat(tx, caller, hub_id, Forbidden)
        require(seat, May.MANAGE_MEMBERS)
        rules.check_shared(seat)
        target = await actions.find_managed(tx, seat, user_id, rules.CannotChangeOwner)
        role = rules.read_role(data.read().role)
        await members.give_role(tx, caller, seat, target, role)
    return Data(MemberUpdated(status="updated", user_id=user_id, role=role))


@delete(
    "/v1/hubs/{hub_id:str}/members/{user_id:str}",
    status_code=200,
    summary="Remove a member",
    opt=facts(Forbidden, rules.CannotRemoveOwner, NotFound, atom="hub:manage"),
)
async def remove_hub_member(
    caller: NamedDependency[Caller], hub_id: str, user_id: str
) -> Data[MemberRemoved]:
    async with caller.db.writing() as tx:
        seat = await lock_hub_seat(tx, caller, hub_id, Forbidden)
        require(seat, May.MANAGE_MEMBERS)
        target = await actions.find_managed(tx, seat, user_id, rules.CannotRemoveOwner)
        await members.remove(tx, caller, seat, UserId(target.user_id))
    return Data(MemberRemoved(status="removed", user_id=user_id))


@post(
    "/v1/hubs/{hub_id:str}/leave",
    status_code=200,
    summary="Leave a hub",
    opt=facts(
        NotMember,
        rules.PersonalHub,
        rules.LastOwnerDeleteRequired,
        rules.OwnershipTransferRequired,
        atom="hub:manage",
    ),
)
async def leave_hub(caller: NamedDependency[Caller], hub_id: str) -> Data[Left]:
    async with caller.db.writing() as tx:
        seat = await lock_hub_seat(tx, caller, hub_id)
        await actions.leave(tx, caller, seat)
    return Data(Left(status="left", hub_id=str(seat.space)))


@post(
    "/v1/hubs/{hub_id:str}/ownership-transfer",
    summary="Offer a hub to one of its members",
    opt=facts(
        Forbidden,
        rules.PersonalHub,
        rules.MissingTargetUserId,
        transfer.InvalidTarget,
        transfer.TransferExists,
        atom="hub:manage",
    ),
)
async def offer_hub(
    caller: NamedDependency[Caller], hub_id: str, data: Sent[OfferOwnership]
) -> Data[HubOwnershipTransfer]:
    async with caller.db.writing() as tx:
        seat = await lock_hub_seat(tx, caller, hub_id, Forbidden)
        require(seat, May.MANAGE_OWNERS)
        rules.check_shared(seat)
        target = data.read().target_user_id
        if target == "":
            raise rules.MissingTargetUserId
        row = await transfer.offer(tx, caller, seat, target, "/target_user_id")
        shown = await _shown(tx, seat, row)
    return Data(shown)


async def _shown(tx: Write, seat: HubSeat, row: transfer.Transfer) -> HubOwnershipTransfer:
    names = await queries.read_names(tx, row.target_user_id)
    own = row.target_user_id == seat.user
    return HubOwnershipTransfer.of(row, name=names.display_name, email=names.email if own else None)


@post(
    "/v1/hubs/{hub_id:str}/ownership-transfer/{transfer_id:str}/accept",
    status_code=200,
    summary="Take over a hub that was offered",
    opt=facts(
        NotMember,
        NotFound,
        transfer.TransferCanceled,
        transfer.TransferAccepted,
        transfer.TransferExpired,
        rules.OwnershipCapExceeded,
        transfer.TransferInvalid,
        atom="hub:manage",
    ),
)
async def accept_hub(
    caller: NamedDependency[Caller], hub_id: str, transfer_id: str
) -> Data[HubOwnershipTransfer]:
    async def check() -> None:
        await actions.check_owned(tx, caller)

    async with caller.db.writing() as tx:
        seat = await lock_hub_seat(tx, caller, hub_id)
        row = await transfer.accept(tx, caller, seat, as_uuid(transfer_id), check)
        shown = await _shown(tx, seat, row)
    return Data(shown)


@post(
    "/v1/hubs/{hub_id:str}/ownership-transfer/{transfer_id:str}/cancel",
    status_code=200,
    summary="Take back or decline an offered hub",
    opt=facts(Forbidden, NotFound, transfer.TransferAccepted, transfer.TransferCanceled, atom="hub:manage"),
)
async def cancel_hub_offer(
    caller: NamedDependency[Caller], hub_id: str, transfer_id: str
) -> Data[TransferCanceled]:
    async with caller.db.writing() as tx:
        seat = await lock_hub_seat(tx, caller, hub_id, Forbidden)
        row = await transfer.cancel(tx, caller, seat, as_uuid(transfer_id))
    return Data(TransferCanceled(status="canceled", transfer_id=str(row.id)))


ROUTES: list[HTTPRouteHandler] = [
    add_hub_member,
    change_hub_role,
    remove_hub_member,
    leave_hub,
    offer_hub,
    accept_hub,
    cancel_hub_offer,
]
