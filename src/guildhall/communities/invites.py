"""`/api/communities/…/invites` and `/api/invites`: bringing people in."""

from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from guildhall.communities import queries
from guildhall.communities.routes import community
from guildhall.communities.schemas import (
    AcceptedInvite,
    CreateInvite,
    Invite,
    InviteCard,
    InviteList,
)
from guildhall.errors import Forbidden, NotFound
from guildhall.spaces import invite_links, invites
from guildhall.spaces.rules import AlreadyMember, May, require
from guildhall.spaces.seats import Place, as_uuid, lock_community_seat, take_community_seat
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, Guest
from guildhall.web.docs import facts


@post(
    "/api/communities/{community_id:str}/invite",
    summary="Invite somebody by e-mail",
    opt=facts(Forbidden, NotFound, AlreadyMember, invites.TooManyInvites),
)
async def create_invite(
    caller: NamedDependency[Caller], community_id: str, data: Sent[CreateInvite]
) -> Invite:
    async with caller.db.writing() as tx:
        seat = await lock_community_seat(tx, caller, community_id)
        require(seat, May.INVITE)
        wanted = data.read()
        row = await invites.create(tx, caller, seat, email=wanted.email, role=wanted.role)
    return Invite.of(row, caller.service, link=True)


@get(
    "/api/communities/{community_id:str}/invites",
    summary="List open invites",
    opt=facts(Forbidden, NotFound),
)
async def list_invites(caller: NamedDependency[Caller], community_id: str) -> InviteList:
    async with caller.db.reading() as read:
        seat = await take_community_seat(read, caller, community_id)
        require(seat, May.INVITE)
        rows = await invites.list_open(read, seat.space)
    return InviteList(items=[Invite.of(row, caller.service, link=True) for row in rows])


@delete(
    "/api/communities/{community_id:str}/invites/{invite_id:str}",
    summary="Take an invite back",
    opt=facts(Forbidden, NotFound, invites.Used),
)
async def revoke_invite(caller: NamedDependency[Caller], community_id: str, invite_id: str) -> None:
    async with caller.db.writing() as tx:
        seat = await lock_community_seat(tx, caller, community_id)
        await invites.revoke(tx, caller, seat, as_uuid(invite_id))


@post(
    "/api/communities/{community_id:str}/invites/{invite_id:str}/resend",
    status_code=200,
    summary="Mail an invite again",
    opt=facts(Forbidden, NotFound, invites.Used, invites.Revoked, invites.Expired),
)
async def resend_invite(caller: NamedDependency[Caller], community_id: str, invite_id: str) -> Invite:
    async with caller.db.writing() as tx:
        seat = await lock_community_seat(tx, caller, community_id)
        row = await invites.resend(tx, caller, seat, as_uuid(invite_id))
    return Invite.of(row, caller.service, link=False)


@post(
    "/api/communities/{community_id:str}/invites/{invite_id:str}/regenerate",
    summary="Replace an invite's link by a new one",
    opt=facts(Forbidden, NotFound, invites.Used, invites.TooManyInvites),
)
async def regenerate_invite(caller: NamedDependency[Caller], community_id: str, invite_id: str) -> Invite:
    async with caller.db.writing() as tx:
        seat = await lock_community_seat(tx, caller, community_id)
        row = await invites.regenerate(tx, caller, seat, as_uuid(invite_id))
    return Invite.of(row, caller.service, link=True)


@get(
    "/api/invites/{token:str}",
    summary="Look at an invite",
    opt=facts(NotFound, limits=("invite look-up",)),
)
async def look_up_invite(guest: NamedDependency[Guest], token: str) -> InviteCard:
    async with guest.db.reading() as read:
        card = await invite_links.look_up(read, guest.service, token)
    if card.kind != "community":
        raise NotFound("No such invite.")
    if card.status != "open":
        return InviteCard(status=card.status)  # pyright: ignore[reportArgumentType] - the function's values
    return InviteCard(
        status="open",
        community_name=card.space_name,
        inviter_name=card.inviter_name,
        role=card.role,
        expires_at=card.expires_at,
    )


@post(
    "/api/invites/{token:str}/accept",
    status_code=200,
    summary="Accept an invite",
    opt=facts(
        NotFound,
        invite_links.WrongInvitee,
        AlreadyMember,
        invites.Used,
        invites.Expired,
        invites.Revoked,
        limits=("accept",),
    ),
)
async def accept_invite(caller: NamedDependency[Caller], token: str) -> AcceptedInvite:
    async with caller.db.writing() as tx:
        accepted = await invite_links.accept(tx, caller, token, kind="community")
        row = await queries.find_community(tx, caller, Place(accepted.space_id, None))
    assert row and row.role is not None
    return AcceptedInvite(community=community(row), role=row.role)


ROUTES: list[HTTPRouteHandler] = [
    create_invite,
    list_invites,
    revoke_invite,
    resend_invite,
    regenerate_invite,
    look_up_invite,
    accept_invite,
]
