"""Communities in a browser: feed, groups, members, invites, settings."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import anyio.to_thread
import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from guildhall.communities import queries as community_queries
from guildhall.db import Read
from guildhall.errors import Forbidden, NotFound
from guildhall.groups import queries as group_queries
from guildhall.pages import queries
from guildhall.pages.frame import Frame, page_facts, require_frame
from guildhall.pages.render import file_name, markdown, page
from guildhall.posts import queries as post_queries
from guildhall.posts.queries import Feed
from guildhall.spaces import invites
from guildhall.spaces.rules import COMMUNITY_GRANTS, CommunityRole, May
from guildhall.spaces.seats import Place, as_uuid, place
from guildhall.web.app import Answer
from guildhall.web.caller import Caller
from guildhall.web.paging import decode_cursor, encode_cursor
from guildhall.web.wire import clean_query

Cursor = Annotated[str | None, Parameter(max_length=2048)]
Search = Annotated[str | None, Parameter(max_length=512)]

FEED_LIMIT = 20
MEMBERS_LIMIT = 50
PICKER_LIMIT = 100

# What a member of each rank may make others, highest first.
_GIVES: dict[str, tuple[CommunityRole, ...]] = {
    "owner": ("owner", "admin", "moderator", "member"),
    "admin": ("admin", "moderator", "member"),
}


class View(msgspec.Struct, frozen=True):
    """Who looks, at which community, and what they may do there: names of `May`."""

    me: Frame
    space: community_queries.Row
    may: frozenset[str]

    def require(self, may: May) -> None:
        """As the API refuses: what one may not do is hidden where one is no member at all."""
        if may.name not in self.may:
            raise Forbidden if self.space.role is not None else NotFound


async def _view(read: Read, caller: Caller, wanted: Place, me: Frame | None = None) -> View:
    me = me or await require_frame(read, caller)
    space = await community_queries.find_community(read, caller, wanted)
    if not space:
        raise NotFound
    grants = COMMUNITY_GRANTS[space.role] if space.role else frozenset[May]()
    return View(me, space, frozenset(may.name for may in grants))


async def _feed(
    read: Read, caller: Caller, view: View, group: UUID | None, cursor: str | None
) -> tuple[list[Any], str | None]:
    """A page of posts as the API shows them, and the cursor of the next."""
    after = decode_cursor(cursor, tuple[bool, datetime, UUID]) if cursor else None
    wanted = Feed(str(view.space.id), str(group) if group else None, 1, FEED_LIMIT, after)
    row = await post_queries.read_feed(read, caller, wanted)
    if row is None or row.body is None:
        raise NotFound
    body = msgspec.json.decode(row.body)
    await _name_files(read, caller, body["items"])
    return body["items"], body["nextCursor"]


async def _name_files(read: Read, caller: Caller, posts: list[Any]) -> None:
    """Give every post its `files`, the address of each with its name."""
    ours = caller.service.public_url + "/blobs/"
    names = {url: url.removeprefix(ours) for post in posts for url in post["attachments"]}
    known = await queries.list_file_names(read, list(names.values())) if names else {}
    for post in posts:
        post["files"] = [(url, known.get(names[url]) or file_name(url)) for url in post["attachments"]]


async def _write_out(posts: list[Any]) -> None:
    """Give every post its `html`, away from the event loop, which other requests wait for."""

    def write() -> None:
        for post in posts:
            post["html"] = markdown(post["content"])

    await anyio.to_thread.run_sync(write)


def _items(body: bytes | None) -> list[Any]:
    return msgspec.json.decode(b"[" + (body or b"") + b"]")


@get("/new/community", opt=page_facts())
async def show_new_community(caller: NamedDependency[Caller]) -> Answer:
    async with caller.db.reading() as read:
        me = await require_frame(read, caller)
    return page(caller.service, "communities/new", me)


@get("/c/{slug:str}", opt=page_facts())
async def show_feed(caller: NamedDependency[Caller], slug: str, cursor: Cursor = None) -> Answer:
    async with caller.db.reading() as read:
        view = await _view(read, caller, place(slug))
        if view.space.role is None:
            return page(caller.service, "communities/card", view.me, view=view)
        posts, following = await _feed(read, caller, view, None, cursor)
        groups = await group_queries.list_groups(read, caller, view.space.id)
        offer = await queries.find_offer(read, view.space.id, view.me.id)
    await _write_out(posts)
    return page(
        caller.service,
        "communities/feed",
        view.me,
        view=view,
        tab="feed",
        posts=posts,
        next=following,
        groups=_items(groups.body) if groups else [],
        offer=offer,
    )


@get("/c/{slug:str}/groups", opt=page_facts())
async def show_groups(caller: NamedDependency[Caller], slug: str) -> Answer:
    async with caller.db.reading() as read:
        view = await _view(read, caller, place(slug))
        view.require(May.READ)
        found = await group_queries.list_groups(read, caller, view.space.id)
    groups = _items(found.body) if found else []
    return page(caller.service, "communities/groups", view.me, view=view, tab="groups", groups=groups)


@get("/c/{slug:str}/members", opt=page_facts())
async def show_members(
    caller: NamedDependency[Caller],
    slug: str,
    role: CommunityRole | Literal[""] | None = None,
    q: Search = None,
    cursor: Cursor = None,
) -> Answer:
    words = clean_query(q, "q") or None
    if words:
        caller.service.limiter.take("search", caller.user)
    async with caller.db.reading() as read:
        view = await _view(read, caller, place(slug))
        view.require(May.READ)
        members, following = await _members(read, caller, view, words, role or None, MEMBERS_LIMIT, cursor)
    return page(
        caller.service,
        "communities/members",
        view.me,
        view=view,
        tab="members",
        members=members,
        next=following,
        q=words or "",
        role=role or "",
        gives=_GIVES.get(view.space.role or "", ()),
    )


async def _members(
    read: Read,
    caller: Caller,
    view: View,
    words: str | None,
    role: str | None,
    limit: int,
    cursor: str | None,
) -> tuple[list[Any], str | None]:
    after = decode_cursor(cursor, tuple[int, str, str]) if cursor else None
    found = await community_queries.page_of_members(
        read, caller, Place(view.space.id, None), role=role, q=words, limit=limit, offset=0, after=after
    )
    assert found is not None and found.count is not None
    following = None
    if found.count > limit and found.last is not None:
        following = encode_cursor(*msgspec.json.decode(found.last))
    return _items(found.body), following


@get("/c/{slug:str}/invites", opt=page_facts())
async def show_invites(caller: NamedDependency[Caller], slug: str) -> Answer:
    async with caller.db.reading() as read:
        view = await _view(read, caller, place(slug))
        view.require(May.INVITE)
        rows = await invites.list_open(read, view.space.id)
    links = {row.id: caller.service.invite_tokens.make_again(row.id, row.token_hash) for row in rows}
    return page(
        caller.service,
        "communities/invites",
        view.me,
        view=view,
        tab="invites",
        invites=rows,
        links={
            invite: f"{caller.service.public_url}/join/{token}" if token else None
            for invite, token in links.items()
        },
    )


@get("/c/{slug:str}/settings", opt=page_facts())
async def show_settings(caller: NamedDependency[Caller], slug: str) -> Answer:
    async with caller.db.reading() as read:
        view = await _view(read, caller, place(slug))
        view.require(May.EDIT)
        offer = await queries.find_offer(read, view.space.id, None)
    return page(caller.service, "communities/settings", view.me, view=view, tab="settings", offer=offer)


class GroupView(msgspec.Struct, frozen=True):
    """A group within its community, and what the viewer may do in it."""

    id: UUID
    name: str
    description: str | None
    is_private: bool
    role: str | None
    member_count: int
    manages: bool
    deletes: bool


async def _group(read: Read, caller: Caller, raw_id: str) -> tuple[View, GroupView]:
    group_id = as_uuid(raw_id)
    me = await require_frame(read, caller)
    standing = False if group_id is None else await group_queries.take_group(read, caller, group_id)
    if isinstance(standing, bool):
        raise NotFound
    view = await _view(read, caller, Place(standing.space_id, None), me)
    row = await group_queries.read_group(read, standing)
    return view, GroupView(
        row.id,
        row.name,
        row.description,
        row.is_private,
        row.role,
        row.member_count,
        manages=row.role == "admin",
        deletes=row.role == "admin" or May.MANAGE_GROUPS.name in view.may,
    )


@get("/g/{group_id:str}", opt=page_facts())
async def show_group(caller: NamedDependency[Caller], group_id: str, cursor: Cursor = None) -> Answer:
    async with caller.db.reading() as read:
        view, group = await _group(read, caller, group_id)
        posts, following = await _feed(read, caller, view, group.id, cursor)
    await _write_out(posts)
    return page(
        caller.service,
        "communities/group",
        view.me,
        view=view,
        tab="groups",
        group=group,
        posts=posts,
        next=following,
    )


@get("/g/{group_id:str}/members", opt=page_facts())
async def show_group_members(
    caller: NamedDependency[Caller], group_id: str, q: Search = None, cursor: Cursor = None
) -> Answer:
    """Its members, and for those who manage it the community's members whom they may add."""
    after = decode_cursor(cursor, tuple[str, str, str]) if cursor else None
    words = clean_query(q, "q") or None
    if words:
        caller.service.limiter.take("search", caller.user)
    async with caller.db.reading() as read:
        view, group = await _group(read, caller, group_id)
        found = await group_queries.page_of_group_members(
            read, caller, group.id, limit=MEMBERS_LIMIT, offset=0, after=after
        )
        others: list[Any] = []
        if group.manages:
            others, _ = await _members(read, caller, view, words, None, PICKER_LIMIT, None)
    assert found is not None
    members = _items(found.body)
    inside = {member["userId"] for member in members}
    following = None
    if found.count > MEMBERS_LIMIT and found.last is not None:
        following = encode_cursor(*msgspec.json.decode(found.last))
    return page(
        caller.service,
        "communities/group_members",
        view.me,
        view=view,
        tab="groups",
        group=group,
        members=members,
        next=following,
        others=[other for other in others if other["userId"] not in inside],
        q=words or "",
    )


ROUTES: list[HTTPRouteHandler] = [
    show_new_community,
    show_feed,
    show_groups,
    show_members,
    show_invites,
    show_settings,
    show_group,
    show_group_members,
]
