"""`/api/communities`: communities, members, ownership, visits."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from guildhall.communities import actions, queries
from guildhall.communities.schemas import (
    SPACE_CHANNEL,
    ChangeRole,
    Community,
    CommunityList,
    CreateCommunity,
    Member,
    MemberList,
    OwnershipTransfer,
    Summary,
    Target,
    TargetUser,
    TransferCanceled,
    UpdateCommunity,
    target,
)
from guildhall.errors import Forbidden, NotFound
from guildhall.spaces import UserId, members, slugs, transfer
from guildhall.spaces.rules import CommunityRole, LastOwner, May, require
from guildhall.spaces.seats import as_uuid, lock_community_seat, place, seated
from guildhall.web.app import Answer
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, check_alive, explain_absence, read_body
from guildhall.web.docs import facts
from guildhall.web.etag import not_modified, tag, wanted
from guildhall.web.lists import streamed
from guildhall.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor, offset
from guildhall.web.wire import clean_query

SearchText = Annotated[str | None, Parameter(max_length=512, description="Part of a name.")]


def community(row: queries.Row) -> Community:
    return Community(
        id=row.id,
        name=row.name,
        slug=row.slug,
        description=row.description,
        is_private=row.is_private,
        logo_url=row.logo_url,
        cover_image_url=row.cover_image_url,
        owner_id=row.owner_id,
        role=row.role,
        member_count=row.member_count,
        stream_channel_id=str(row.id),
        stream_channel_type=SPACE_CHANNEL,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


@get("/api/communities", summary="List one's communities", opt=facts())
async def list_communities(
    caller: NamedDependency[Caller],
    page: Page = None,
    limit: Limit = None,
    cursor: Cursor = None,
) -> CommunityList:
    paged = page is not None or limit is not None or cursor is not None
    size = limit or 20
    after = decode_cursor(cursor, tuple[datetime, UUID]) if cursor else None
    async with caller.db.reading() as read:
        skip = offset(page or 1, size) if paged and after is None else 0
        rows = await queries.list_communities(read, caller, size + 1 if paged else None, skip, after)
        if not rows:
            # An empty list may also mean that the caller is nobody any more.
            await check_alive(read, caller)
    if not paged:
        return CommunityList(items=[community(row) for row in rows])
    shown, more = rows[:size], len(rows) > size
    return CommunityList(
        items=[community(row) for row in shown],
        page=page or 1,
        limit=size,
        has_more=more,
        next_cursor=encode_cursor(shown[-1].last_active_at, shown[-1].id) if more else None,
    )


@post(
    "/api/communities",
    summary="Create a community",
    opt=facts(slugs.SlugTaken, actions.TooManyCommunities, limits=("content",)),
)
async def create_community(caller: NamedDependency[Caller], data: Sent[CreateCommunity]) -> Community:
    wanted = await read_body(caller, data)
    async with caller.db.writing() as tx:
        row = await actions.create(tx, caller, wanted)
    return community(row)


@get("/api/communities/{community_id:str}", summary="Read a community", opt=facts(NotFound))
async def read_community(caller: NamedDependency[Caller], community_id: str) -> Community:
    async with caller.db.reading() as read:
        row = await queries.find_community(read, caller, place(community_id))
        if row is False:
            raise await explain_absence(read, caller)
    if row is None:
        raise NotFound
    return community(row)


@patch(
    "/api/communities/{community_id:str}",
    summary="Change a community",
    opt=facts(Forbidden, NotFound, slugs.SlugTaken),
)
async def update_community(
    caller: NamedDependency[Caller], community_id: str, data: Sent[UpdateCommunity]
) -> Community:
    async with caller.db.writing() as tx:
        seat = await lock_community_seat(tx, caller, community_id)
        require(seat, May.EDIT)
        row = await actions.update(tx, caller, seat, data.read())
    return community(row)


@delete("/api/communities/{community_id:str}", summary="Delete a community", opt=facts(Forbidden, NotFound))
async def delete_community(caller: NamedDependency[Caller], community_id: str) -> None:
    async with caller.db.writing() as tx:
        seat = await lock_community_seat(tx, caller, community_id)
        await actions.delete(tx, caller, seat)


@post(
    "/api/communities/{community_id:str}/join",
    summary="Join a public community",
    opt=facts(NotFound, also={200: Member}),
)
async def join_community(caller: NamedDependency[Caller], community_id: str) -> Response[Member]:
    async with caller.db.writing() as tx:
        member, new = await actions.join(tx, caller, community_id)
    return Response(Member.of(member), status_code=201 if new else 200)


@post(
    "/api/communities/{community_id:str}/visit",
    status_code=204,
    summary="Say that one has seen what is new",
    opt=facts(Forbidden, NotFound),
)
async def visit_community(caller: NamedDependency[Caller], community_id: str) -> None:
    async with caller.db.single() as tx:
        await seated(tx, caller, await queries.visit(tx, caller, place(community_id)))


@get(
    "/api/communities/{community_id:str}/summary",
    summary="Count what a community holds",
    opt=facts(Forbidden, NotFound),
)
async def summarise_community(caller: NamedDependency[Caller], community_id: str) -> Summary:
    async with caller.db.reading() as read:
        row = await queries.summarise(read, caller, place(community_id))
        await seated(read, caller, row)
    assert row is not None and row.role is not None and row.member_count is not None
    assert row.group_count is not None and row.post_count is not None and row.unread_posts is not None
    return Summary(
        member_count=row.member_count,
        group_count=row.group_count,
        post_count=row.post_count,
        unread_posts=row.unread_posts,
        role=row.role,
        pending_invites=msgspec.UNSET if row.pending_invites is None else row.pending_invites,
    )


@post(
    "/api/communities/{community_id:str}/ownership-transfer",
    summary="Offer ownership to a member",
    opt=facts(Forbidden, NotFound, transfer.InvalidTarget, transfer.TransferExists),
)
async def offer_ownership(
    caller: NamedDependency[Caller], community_id: str, data: Sent[Target]
) -> OwnershipTransfer:
    async with caller.db.writing() as tx:
        seat = await lock_community_seat(tx, caller, community_id)
        require(seat, May.MANAGE_OWNERS)
        row = await transfer.offer(tx, caller, seat, data.read().target_user_id, "/targetUserId")
    return OwnershipTransfer.of(row)


@post(
    "/api/communities/{community_id:str}/ownership-transfer/{transfer_id:str}/accept",
    status_code=200,
    summary="Accept ownership",
    opt=facts(
        Forbidden,
        NotFound,
        transfer.TransferCanceled,
        transfer.TransferAccepted,
        transfer.TransferExpired,
        transfer.TransferInvalid,
    ),
)
async def accept_ownership(
    caller: NamedDependency[Caller], community_id: str, transfer_id: str
) -> OwnershipTransfer:
    async with caller.db.writing() as tx:
        seat = await lock_community_seat(tx, caller, community_id)
        row = await transfer.accept(tx, caller, seat, as_uuid(transfer_id))
    return OwnershipTransfer.of(row)


@post(
    "/api/communities/{community_id:str}/ownership-transfer/{transfer_id:str}/cancel",
    status_code=200,
    summary="Cancel or decline an offered ownership",
    opt=facts(Forbidden, NotFound, transfer.TransferCanceled, transfer.TransferAccepted),
)
async def cancel_ownership(
    caller: NamedDependency[Caller], community_id: str, transfer_id: str
) -> TransferCanceled:
    async with caller.db.writing() as tx:
        seat = await lock_community_seat(tx, caller, community_id)
        row = await transfer.cancel(tx, caller, seat, as_uuid(transfer_id))
    return TransferCanceled(status="canceled", transfer_id=row.id)


@get(
    "/api/communities/{community_id:str}/members",
    summary="List members",
    opt=facts(Forbidden, NotFound, answers=MemberList, etag=True),
)
async def list_members(
    request: Request[Any, Any, Any],
    caller: NamedDependency[Caller],
    community_id: str,
    role: CommunityRole | None = None,
    q: SearchText = None,
    page: Page = None,
    limit: Limit = None,
    cursor: Cursor = None,
) -> Response[Any]:
    q = clean_query(q, "q")
    where = place(community_id)
    paged = page is not None or limit is not None or cursor is not None
    size = limit or 20
    after = decode_cursor(cursor, tuple[int, str, str]) if cursor else None
    skip = 0 if after else offset(page or 1, size)
    query = request.scope["query_string"]
    with caller.service.limiter.searching(caller.user, q):
        async with caller.db.reading() as read:
            if not paged or wanted(request.scope) is not None:
                # Whoever has the answer already is told so before it is looked for.
                now = await queries.look_at_directory(read, caller, where)
                await seated(read, caller, now)
                assert now is not None and now.space_id is not None
                etag = tag(now.version, now.role, query)
                if not_modified(request, etag):
                    return Answer(304, [etag, REVALIDATE], b"")
                if not paged:
                    members = queries.every_member(caller.db, now.space_id, role, q)
                    return streamed(request, members, {k.decode(): v.decode() for k, v in (etag, REVALIDATE)})
            found = await queries.page_of_members(
                read, caller, where, role=role, q=q, limit=size, offset=skip, after=after
            )
            await seated(read, caller, found)
    assert found is not None and found.body is not None and found.count is not None
    etag = tag(found.version, found.role, query)
    more = found.count > size
    last = None if not more or found.last is None else encode_cursor(*msgspec.json.decode(found.last))
    tail = msgspec.json.encode(
        {"page": page or 1, "limit": size}
        | ({} if found.total is None else {"total": found.total})
        | {"hasMore": more, "nextCursor": last}
    )
    return Answer(200, [etag, JSON, REVALIDATE], b'{"items":[' + found.body + b"]," + tail[1:])


JSON = (b"content-type", b"application/json; charset=utf-8")
REVALIDATE = (b"cache-control", b"private, no-cache")


@patch(
    "/api/communities/{community_id:str}/members",
    summary="Change a member's rank",
    opt=facts(Forbidden, NotFound, LastOwner),
)
async def change_role(caller: NamedDependency[Caller], community_id: str, data: Sent[ChangeRole]) -> Member:
    async with caller.db.writing() as tx:
        seat = await lock_community_seat(tx, caller, community_id)
        require(seat, May.MANAGE_MEMBERS)
        wanted = data.read()
        row = await members.change_role(tx, caller, seat, UserId(wanted.target_user_id), wanted.role)
    return Member.of(row)


@delete(
    "/api/communities/{community_id:str}/members",
    summary="Remove a member, or leave",
    opt=facts(Forbidden, NotFound, LastOwner),
)
async def remove_member(
    caller: NamedDependency[Caller],
    community_id: str,
    data: Sent[TargetUser],
    target_user_id: Annotated[str | None, Parameter(query="targetUserId", max_length=64)] = None,
) -> None:
    async with caller.db.writing() as tx:
        seat = await lock_community_seat(tx, caller, community_id)
        await members.remove(tx, caller, seat, UserId(target(data.read(), target_user_id)))


ROUTES: list[HTTPRouteHandler] = [
    list_communities,
    create_community,
    read_community,
    update_community,
    delete_community,
    join_community,
    visit_community,
    summarise_community,
    offer_ownership,
    accept_ownership,
    cancel_ownership,
    list_members,
    change_role,
    remove_member,
]
