"""`/api/posts`: feeds, and what is in them."""

from datetime import datetime
from functools import lru_cache
from typing import NoReturn
from urllib.parse import parse_qsl
from uuid import UUID

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from litestar.types import Scope

from guildhall.errors import FieldError, Forbidden, Invalid, NotFound
from guildhall.posts import actions, queries
from guildhall.posts.queries import Feed
from guildhall.posts.schemas import CreatePost, FeedQuery, Post, PostList, UpdatePost
from guildhall.spaces.seats import as_uuid, seated
from guildhall.web.app import BadQuery, Raw
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, check_alive, explain_absence
from guildhall.web.docs import facts
from guildhall.web.etag import tag, wanted
from guildhall.web.paging import decode_cursor, offset

_TYPE = (b"content-type", b"application/json; charset=utf-8")
_REVALIDATE = (b"cache-control", b"private, no-cache")


@get(
    "/api/posts",
    summary="Read a feed",
    opt=facts(Forbidden, NotFound, answers=PostList, etag=True, query=FeedQuery, quick=True),
)
async def read_feed(scope: Scope, caller: NamedDependency[Caller]) -> Raw:
    """Pinned posts first, then the newest. Without `groupId` it is the community's own feed, without
    those of its groups."""
    # The busiest route: it reads its query itself and sends what the database made.
    query = scope["query_string"]
    try:
        feed = read_query(query)
    except Invalid as error:
        await _refuse_before(caller, query, error)
    known = wanted(scope)
    async with caller.db.reading() as read:
        if known is not None:
            now = await queries.version_of_feed(read, caller, feed.space, feed.group)
            if now is not None and now.sees:
                etag = tag(now.version, now.role, now.group_role, query)
                if etag[1] in known:
                    return Raw(304, (etag, _REVALIDATE), b"")
        row = await queries.read_feed(read, caller, feed)
        if row is None or row.body is None:
            await seated(read, caller, row)
            raise NotFound
    etag = tag(row.version, row.role, row.group_role, query)
    return Raw(200, (etag, _TYPE, _REVALIDATE), row.body)


@lru_cache(1_000)
def read_query(query: bytes) -> Feed:
    """What the query string asks for. Raises Invalid naming each bad parameter."""
    given: dict[str, str] = {}
    errors: list[FieldError] = []
    for name, value in _pairs(query):
        if name in given:
            errors.append(FieldError(f"?{name}", "repeated", "This parameter is given twice."))
        given[name] = value
    space, group = given.get("communityId"), given.get("groupId")
    if space is None:
        errors.append(FieldError("?communityId", "required", "Give the id of a community."))
    elif as_uuid(space) is None:
        errors.append(FieldError("?communityId", "format", "This is not the id of a community."))
    if group is not None and as_uuid(group) is None:
        errors.append(FieldError("?groupId", "format", "This is not the id of a group."))
    page = _number(given, "page", 1, 100_000, errors)
    limit = _number(given, "limit", 20, 100, errors)
    after = None
    try:
        if (cursor := given.get("cursor")) is not None:
            after = decode_cursor(cursor, tuple[bool, datetime, UUID])
        elif not errors:
            offset(page, limit)
    except Invalid as error:
        errors.extend(error.errors)
    if errors or space is None:
        raise BadQuery(errors=errors)
    return Feed(space, group, page, limit, after)


def _pairs(query: bytes) -> list[tuple[str, str]]:
    text = query.decode("latin-1")
    if "%" in text or "+" in text:
        return parse_qsl(text, keep_blank_values=True)
    return [(name, value) for name, _, value in (part.partition("=") for part in text.split("&")) if name]


def _number(given: dict[str, str], name: str, default: int, most: int, errors: list[FieldError]) -> int:
    raw = given.get(name)
    if raw is None:
        return default
    if raw.isascii() and raw.isdigit() and len(raw) <= 6 and 1 <= (value := int(raw)) <= most:
        return value
    errors.append(FieldError(f"?{name}", "out_of_range", f"This must be a whole number from 1 to {most}."))
    return default


async def _refuse_before(caller: Caller, query: bytes, error: Invalid) -> NoReturn:
    """Of a query with mistakes: who may not read the feed it names learns only that."""
    given = dict(_pairs(query))
    space, group = as_uuid(given.get("communityId", "")), as_uuid(given.get("groupId", ""))
    async with caller.db.reading() as read:
        if space is None:
            await check_alive(read, caller)
        else:
            row = await queries.look_at_feed(read, caller, str(space), None if group is None else str(group))
            await seated(read, caller, row)
            if row is None or not row.sees:
                raise NotFound
    raise error


@post(
    "/api/posts",
    summary="Write a post",
    opt=facts(Forbidden, NotFound, actions.MayNotPin, limits=("content",), answers=Post),
)
async def create_post(caller: NamedDependency[Caller], data: Sent[CreatePost]) -> ASGIResponse:
    return Raw(201, (_TYPE,), await actions.create(caller, data))


@get("/api/posts/{post_id:str}", summary="Read a post", opt=facts(NotFound, answers=Post))
async def read_post(caller: NamedDependency[Caller], post_id: str) -> ASGIResponse:
    wanted_id = as_uuid(post_id)
    if wanted_id is None:
        raise NotFound
    async with caller.db.reading() as read:
        row = await queries.find_post(read, caller, wanted_id)
        if row is None:
            raise await explain_absence(read, caller)
    if not row.sees or row.body is None:
        raise NotFound
    return Raw(200, (_TYPE,), row.body)


@patch(
    "/api/posts/{post_id:str}",
    summary="Change a post",
    opt=facts(Forbidden, NotFound, actions.MayNotPin, answers=Post),
)
async def update_post(caller: NamedDependency[Caller], post_id: str, data: Sent[UpdatePost]) -> ASGIResponse:
    async with caller.db.writing() as tx:
        standing = await actions.lock(tx, caller, post_id)
        body = await actions.update(tx, caller, standing, data)
    return Raw(200, (_TYPE,), body)


@delete("/api/posts/{post_id:str}", summary="Delete a post", opt=facts(Forbidden, NotFound))
async def delete_post(caller: NamedDependency[Caller], post_id: str) -> None:
    async with caller.db.writing() as tx:
        standing = await actions.lock(tx, caller, post_id)
        await actions.delete(tx, caller, standing)


ROUTES: list[HTTPRouteHandler] = [read_feed, create_post, read_post, update_post, delete_post]
