"""`/v1/hubs/…/invites` and `/v1/invites`: bringing people into a hub."""

from typing import cast

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET

from guildhall.errors import AppError, NotFound
from guildhall.hubs import queries, rules
from guildhall.hubs.rules import InsufficientRole
from guildhall.hubs.schemas import (
    AcceptedInvite,
    CreateInvite,
    HubInvite,
    InviteCard,
    Invitee,
    InviteResent,
    InviteRevoked,
    OfferedInvite,
    made,
)
from guildhall.spaces import invite_links, invites
from guildhall.spaces.rules import AlreadyMember, HubRole, May, MemberCapExceeded, require
from guildhall.spaces.seats import as_user_id, as_uuid, lock_hub_seat, take_hub_seat
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, Guest
from guildhall.web.docs import facts
from guildhall.web.wire import Data


class UsedBefore(AppError):
    """As `invites.Used`, to somebody who only looks."""

    status, code = 410, "used"
    title = "This invite was used already. Ask for a new one."


@post(
    "/v1/hubs/{hub_id:str}/invites",
    summary="Invite somebody, or make a link",
    opt=facts(
        InsufficientRole,
        rules.PersonalHub,
        rules.InvalidRole,
        invites.HubInviteLimit,
        rules.InvalidEmail,
        invites.InviteeAlreadyMember,
        atom="hub:manage",
        bodiless=True,
    ),
)
async def create_hub_invite(
    caller: NamedDependency[Caller], hub_id: str, data: Sent[CreateInvite]
) -> Data[HubInvite]:
    """Whoever is named is told in their inbox, an address by mail. An open invite to the same is replaced."""
    async with caller.db.writing() as tx:
        seat = await lock_hub_seat(tx, caller, hub_id, InsufficientRole)
        require(seat, May.INVITE, InsufficientRole)
        rules.check_shared(seat)
        wanted = data.read()
        role = rules.read_role(wanted.role)
        await invites.check_room(tx, seat)
        invitee = Invitee() if wanted.invitee is UNSET else wanted.invitee
        email = rules.read_address(invitee.email)
        user = as_user_id(invitee.user_id)
        row = await invites.create(tx, caller, seat, role=role, email=email, user=user)
    return Data(HubInvite.of(row, caller.service, new=True))


@get(
    "/v1/hubs/{hub_id:str}/invites",
    summary="List a hub's open invites",
    opt=facts(InsufficientRole, atom="hub:manage"),
)
async def list_hub_invites(caller: NamedDependency[Caller], hub_id: str) -> Data[list[HubInvite]]:
    async with caller.db.reading() as read:
        seat = await take_hub_seat(read, caller, hub_id, InsufficientRole)
        require(seat, May.INVITE, InsufficientRole)
        rows = await invites.list_open(read, seat.space)
    return Data([HubInvite.of(row, caller.service) for row in rows])


@delete(
    "/v1/hubs/{hub_id:str}/invites/{invite_id:str}",
    status_code=200,
    summary="Take a hub's invite back",
    opt=facts(InsufficientRole, NotFound, invites.InviteUsed, invites.InviteRevoked, atom="hub:manage"),
)
async def revoke_hub_invite(
    caller: NamedDependency[Caller], hub_id: str, invite_id: str
) -> Data[InviteRevoked]:
    async with caller.db.writing() as tx:
        seat = await lock_hub_seat(tx, caller, hub_id, InsufficientRole)
        require(seat, May.INVITE, InsufficientRole)
        row = await invites.revoke(tx, caller, seat, as_uuid(invite_id))
    return Data(InviteRevoked(status="revoked", invite_id=str(row.id)))


@post(
    "/v1/hubs/{hub_id:str}/invites/{invite_id:str}/regenerate",
    summary="Replace a hub's invite by one with another link",
    opt=facts(
        InsufficientRole,
        NotFound,
        invites.InviteUsed,
        invites.InviteRevoked,
        invites.HubInviteLimit,
        atom="hub:manage",
    ),
)
async def regenerate_hub_invite(
    caller: NamedDependency[Caller], hub_id: str, invite_id: str
) -> Data[HubInvite]:
    async with caller.db.writing() as tx:
        seat = await lock_hub_seat(tx, caller, hub_id, InsufficientRole)
        require(seat, May.INVITE, InsufficientRole)
        row = await invites.regenerate(tx, caller, seat, as_uuid(invite_id))
    return Data(HubInvite.of(row, caller.service, new=True))


@post(
    "/v1/hubs/{hub_id:str}/invites/{invite_id:str}/resend",
    status_code=200,
    summary="Mail a hub's invite again",
    opt=facts(
        InsufficientRole,
        NotFound,
        invites.InviteUsed,
        invites.InviteRevoked,
        invites.Expired,
        invites.NoEmail,
        atom="hub:manage",
    ),
)
async def resend_hub_invite(
    caller: NamedDependency[Caller], hub_id: str, invite_id: str
) -> Data[InviteResent]:
    async with caller.db.writing() as tx:
        seat = await lock_hub_seat(tx, caller, hub_id, InsufficientRole)
        require(seat, May.INVITE, InsufficientRole)
        row = await invites.resend(tx, caller, seat, as_uuid(invite_id))
    return Data(InviteResent(status="resent", email_enqueued_at=row.enqueued_at))


@get(
    "/v1/invites/{token:str}",
    summary="Look at a hub's invite",
    opt=facts(NotFound, UsedBefore, invites.Expired, limits=("invite look-up",)),
)
async def look_up_hub_invite(guest: NamedDependency[Guest], token: str) -> Data[InviteCard]:
    tokens = guest.service.invite_tokens
    row = None
    if tokens.well_formed(token):
        async with guest.db.reading() as read:
            row = await queries.find_invite_by_token(read, tokens.hash(token))
    if row is None or row.status == "revoked":
        raise invite_links.no_such_invite(guest.service)
    if row.expired:
        raise invites.Expired
    if row.status == "accepted":
        raise UsedBefore
    return Data(
        InviteCard(
            invite=OfferedInvite(
                id=row.invite_id,
                hub_id=row.hub_id,
                token=token,
                role=row.role,
                expires_at=row.expires_at,
                created_at=row.created_at,
                invited_by=row.invited_by,
            ),
            hub=made(row.hub),
            member_count=row.member_count,
            invited_by=row.inviter_name,
        )
    )


@post(
    "/v1/invites/{token:str}/accept",
    status_code=200,
    summary="Accept a hub's invite",
    opt=facts(
        NotFound,
        invites.Revoked,
        invites.Expired,
        invites.Used,
        invite_links.WrongInvitee,
        MemberCapExceeded,
        AlreadyMember,
        limits=("accept",),
        atom="any",
        unlimited_key=True,
    ),
)
async def accept_hub_invite(caller: NamedDependency[Caller], token: str) -> Data[AcceptedInvite]:
    async with caller.db.single() as tx:
        accepted = await invite_links.accept(
            tx, caller, token, kind="hub", most=caller.service.most_hub_members, shown=queries.HUB
        )
    assert accepted.shown is not None
    return Data(AcceptedInvite(hub=made(accepted.shown), role=cast("HubRole", accepted.role)))


ROUTES: list[HTTPRouteHandler] = [
    create_hub_invite,
    list_hub_invites,
    revoke_hub_invite,
    regenerate_hub_invite,
    resend_hub_invite,
    look_up_hub_invite,
    accept_hub_invite,
]
