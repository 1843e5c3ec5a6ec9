"""`/api/groups`: groups and who belongs to them."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from guildhall.communities.schemas import TargetUser, target
from guildhall.errors import FieldError, Forbidden, Invalid, NotFound
from guildhall.groups import actions, queries
from guildhall.groups.schemas import (
    GROUP_CHANNEL,
    AddToGroup,
    CreateGroup,
    Group,
    GroupList,
    GroupMember,
    GroupMemberList,
    UpdateGroup,
)
from guildhall.spaces.rules import May, require
from guildhall.spaces.seats import as_uuid, lock_community_seat, seated
from guildhall.web.app import Answer
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, check_alive, explain_absence
from guildhall.web.docs import facts
from guildhall.web.lists import streamed
from guildhall.web.paging import Cursor, Limit, Page, decode_cursor, encode_cursor, offset
from guildhall.web.wire import UuidText, Wire

JSON = [(b"content-type", b"application/json; charset=utf-8")]

CommunityId = Annotated[
    str | None, Parameter(query="communityId", max_length=64, description="The community's id.")
]


class InCommunity(Wire, frozen=True, kw_only=True):
    """Where a body belongs, which is looked at before the rest of it is judged."""

    community_id: UuidText


def group(row: queries.Row) -> Group:
    return Group(
        id=row.id,
        community_id=row.space_id,
        name=row.name,
        description=row.description,
        is_private=row.is_private,
        role=row.role,
        member_count=row.member_count,
        stream_channel_id=str(row.id),
        stream_channel_type=GROUP_CHANNEL,
        created_by=row.created_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _member(row: queries.MemberRow) -> GroupMember:
    return GroupMember(
        user_id=row.user_id,
        display_name=row.display_name,
        avatar_url=row.avatar_url,
        bio=row.bio,
        role=row.role,
        status=row.status,  # pyright: ignore[reportArgumentType] - the table's check
        joined_at=row.joined_at,
    )


@get(
    "/api/groups",
    summary="List a community's groups",
    opt=facts(Forbidden, NotFound, answers=GroupList, needs=("communityId",)),
)
async def list_groups(caller: NamedDependency[Caller], community_id: CommunityId = None) -> Response[Any]:
    space_id = as_uuid(community_id or "")
    async with caller.db.reading() as read:
        if space_id is None:
            await check_alive(read, caller)
            problem = "required" if community_id is None else "format"
            raise Invalid(errors=[FieldError("?communityId", problem, "Give the id of a community.")])
        found = await queries.list_groups(read, caller, space_id)
        await seated(read, caller, found)
    assert found is not None and found.body is not None
    return Answer(200, JSON, b'{"items":[' + found.body + b"]}")


@post(
    "/api/groups",
    summary="Create a group",
    opt=facts(Forbidden, NotFound, actions.TooManyGroups, limits=("content",)),
)
async def create_group(caller: NamedDependency[Caller], data: Sent[CreateGroup]) -> Group:
    async with caller.db.writing() as tx:
        try:
            where = data.part(InCommunity)
        except Invalid:
            await check_alive(tx, caller)
            data.read()
            raise
        seat = await lock_community_seat(tx, caller, where.community_id)
        require(seat, May.MANAGE_GROUPS)
        row = await actions.create(tx, caller, seat, data.read())
    return group(row)


@get("/api/groups/{group_id:str}", summary="Read a group", opt=facts(NotFound, answers=Group))
async def read_group(caller: NamedDependency[Caller], group_id: str) -> Response[Any]:
    wanted = _uuid(group_id)
    async with caller.db.reading() as read:
        found = await queries.find_group(read, caller, wanted)
        if found is None:
            raise await explain_absence(read, caller)
    if not found.sees or found.body is None:
        raise NotFound
    return Answer(200, JSON, found.body)


def _uuid(raw_id: str) -> UUID:
    if (wanted := as_uuid(raw_id)) is None:
        raise NotFound
    return wanted


@patch("/api/groups/{group_id:str}", summary="Change a group", opt=facts(Forbidden, NotFound))
async def update_group(caller: NamedDependency[Caller], group_id: str, data: Sent[UpdateGroup]) -> Group:
    async with caller.db.writing() as tx:
        standing = await actions.lock(tx, caller, group_id)
        actions.require_manager(standing)
        row = await actions.update(tx, caller, standing, data.read())
    return group(row)


@delete("/api/groups/{group_id:str}", summary="Delete a group", opt=facts(Forbidden, NotFound))
async def delete_group(caller: NamedDependency[Caller], group_id: str) -> None:
    async with caller.db.writing() as tx:
        standing = await actions.lock(tx, caller, group_id)
        actions.require_manager(standing)
        await actions.delete(tx, caller, standing)


@post(
    "/api/groups/{group_id:str}",
    summary="Put a member of the community into a group",
    opt=facts(Forbidden, NotFound, actions.NotAMember, limits=("direct add",), also={200: GroupMember}),
)
async def add_to_group(
    caller: NamedDependency[Caller], group_id: str, data: Sent[AddToGroup]
) -> Response[GroupMember]:
    async with caller.db.writing() as tx:
        standing = await actions.lock(tx, caller, group_id)
        actions.require_manager(standing)
        row, new = await actions.add(tx, caller, standing, data.read())
    return Response(_member(row), status_code=201 if new else 200)


@post(
    "/api/groups/{group_id:str}/join",
    status_code=200,
    summary="Join a public group",
    opt=facts(Forbidden, NotFound),
)
async def join_group(caller: NamedDependency[Caller], group_id: str) -> Group:
    async with caller.db.writing() as tx:
        standing = await actions.lock(tx, caller, group_id)
        row = await actions.join(tx, caller, standing)
    return group(row)


@get(
    "/api/groups/{group_id:str}/members",
    summary="List a group's members",
    opt=facts(NotFound, answers=GroupMemberList),
)
async def list_group_members(
    request: Request[Any, Any, Any],
    caller: NamedDependency[Caller],
    group_id: str,
    page: Page = None,
    limit: Limit = None,
    cursor: Cursor = None,
) -> Response[Any]:
    if page is None and limit is None and cursor is None:
        return await _all_members(request, caller, group_id)
    size = limit or 20
    after = decode_cursor(cursor, tuple[str, str, str]) if cursor else None
    skip = 0 if after else offset(page or 1, size)
    wanted = _uuid(group_id)
    async with caller.db.reading() as read:
        found = await queries.page_of_group_members(
            read, caller, wanted, limit=size, offset=skip, after=after
        )
        if found is None:
            raise await explain_absence(read, caller)
    if not found.sees or found.body is None:
        raise NotFound
    more = found.count > size
    last = None if not more or found.last is None else encode_cursor(*msgspec.json.decode(found.last))
    tail = msgspec.json.encode(
        {"page": page or 1, "limit": size, "total": found.total, "hasMore": more, "nextCursor": last}
    )
    return Answer(200, JSON, b'{"items":[' + found.body + b"]," + tail[1:])


async def _all_members(request: Request[Any, Any, Any], caller: Caller, group_id: str) -> Response[Any]:
    """The full list, streamed: the process holds some of the members at a time."""
    async with caller.db.reading() as read:
        standing = await actions.take(read, caller, group_id)

    return streamed(request, queries.every_group_member(caller.db, standing))


@delete(
    "/api/groups/{group_id:str}/members",
    summary="Take somebody out of a group, or leave it",
    opt=facts(Forbidden, NotFound),
)
async def remove_from_group(
    caller: NamedDependency[Caller],
    group_id: str,
    data: Sent[TargetUser],
    target_user_id: Annotated[str | None, Parameter(query="targetUserId", max_length=64)] = None,
) -> None:
    async with caller.db.writing() as tx:
        standing = await actions.lock(tx, caller, group_id)
        await actions.remove(tx, caller, standing, target(data.read(), target_user_id))


ROUTES: list[HTTPRouteHandler] = [
    list_groups,
    create_group,
    read_group,
    update_group,
    delete_group,
    add_to_group,
    join_group,
    list_group_members,
    remove_from_group,
]
