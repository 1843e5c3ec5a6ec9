"""One function per statement about posts. Each starts from me(), and PostgreSQL makes the JSON."""

from collections.abc import Awaitable
from datetime import datetime
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Read, Write
from guildhall.groups.schemas import GroupRole
from guildhall.posts.schemas import UpdatePost
from guildhall.spaces.rules import COMMUNITY_GRANTS, CommunityRole, May
from guildhall.web.caller import Caller

# Rows of `p` and of their authors `u`, the wire's object. Compact, unlike json_build_object's.
_JSON: LiteralString = """
    (SELECT row_to_json(item) FROM (
        SELECT p.id, p.space_id AS "communityId", p.group_id AS "groupId",
               (SELECT row_to_json(author) FROM (
                    SELECT u.id, u.display_name AS "displayName", u.avatar_url AS "avatarUrl") AS author
               ) AS author,
               p.title, p.content, p.attachments, p.is_pinned AS "isPinned",
               rfc3339(p.created_at) AS "createdAt", rfc3339(p.updated_at) AS "updatedAt",
               rfc3339(p.edited_at) AS "editedAt") AS item)::text
"""
_AUTHOR: LiteralString = "LEFT JOIN users u ON u.id = p.author_id AND u.status <> 'erased'"
_COLUMNS: LiteralString = (
    "p.id, p.space_id, p.group_id, p.author_id, p.title, p.content, p.attachments, p.is_pinned,"
    " p.created_at, p.updated_at, p.edited_at"
)
_ORDER: LiteralString = "p.is_pinned DESC, p.created_at DESC, p.id DESC"


class Feed(msgspec.Struct, frozen=True):
    """What was asked for: whose posts, and which page of them. `after` is the key of the last one seen."""

    space: str
    group: str | None
    page: int
    limit: int
    after: tuple[bool, datetime, UUID] | None


class FeedRow(msgspec.Struct, frozen=True):
    user_id: str
    space_id: UUID | None
    is_private: bool | None
    role: str | None
    group_role: str | None
    version: int | None
    sees: bool | None
    body: bytes | None = None


# The rows are looked for by a LATERAL part, so that the index gives them in order and the search ends with
# the page. Several statements, since one with every condition optional would keep the planner from the index.
# The first page has its size in the text, since a statement whose size is a parameter is planned anew each
# time, and planning takes longer than running.
def _feed(
    of: LiteralString,
    seat: LiteralString,
    window: LiteralString,
    limit: LiteralString = "$5::int",
    page: LiteralString = "$6::int",
) -> LiteralString:
    return (
        "WITH seat AS MATERIALIZED (SELECT * FROM feed_seat($1, $2, $3, $4, " + seat + ")),"
        " page AS ("
        " SELECT p.*, row_number() OVER (ORDER BY " + _ORDER + ") AS n"
        "   FROM seat CROSS JOIN LATERAL ("
        "    SELECT " + _COLUMNS + " FROM posts p"
        "     WHERE p.space_id = seat.space_id AND " + of + " AND seat.sees" + window + ") AS p)"
        " SELECT seat.user_id, seat.space_id, seat.is_private, seat.role, seat.group_role, seat.version,"
        "        seat.sees,"
        "        CASE WHEN seat.sees THEN convert_to("
        "          '{\"items\":['"
        "          || coalesce((SELECT string_agg(" + _JSON + ", ',' ORDER BY p.n)"
        "                         FROM page p " + _AUTHOR + " WHERE p.n <= " + limit + "), '')"
        "          || '],\"page\":' || "
        + page
        + " || ',\"limit\":' || "
        + limit
        + "          || ',\"total\":' || seat.post_count"
        "          || CASE WHEN (SELECT count(*) FROM page) > "
        + limit
        + '             THEN \',"hasMore":true,"nextCursor":"\' || (SELECT translate(encode(convert_to('
        "                    json_build_array(p.is_pinned, p.created_at, p.id)::text, 'UTF8'), 'base64'),"
        "                    E'+/=\\n', '-_') FROM page p WHERE p.n = " + limit + ") || '\"}'"
        "             ELSE ',\"hasMore\":false,\"nextCursor\":null}' END, 'UTF8') END AS body"
        "   FROM seat"
    )


_OFFSET: LiteralString = " ORDER BY " + _ORDER + " LIMIT $5::int + 1 OFFSET ($6::int - 1) * $5::int"
_AFTER: LiteralString = (
    " AND (p.is_pinned, p.created_at, p.id) < ($7::bool, $8::timestamptz, $9::uuid)"
    " ORDER BY " + _ORDER + " LIMIT $5::int + 1"
)
_OWN: LiteralString = "p.group_id IS NULL"
_FIRST: LiteralString = " ORDER BY " + _ORDER + " LIMIT 21"
_OWN_FIRST = _feed(_OWN, "NULL", _FIRST, "20", "1")
_OWN_FEED = _feed(_OWN, "NULL", _OFFSET)
_OWN_FEED_AFTER = _feed(_OWN, "NULL", _AFTER)
_GROUP_FIRST = _feed("p.group_id = $5", "$5::uuid", _FIRST, "20", "1")
_GROUP_FEED = _feed("p.group_id = $7", "$7::uuid", _OFFSET)
_GROUP_FEED_AFTER = _feed("p.group_id = $10", "$10::uuid", _AFTER)


async def read_feed(read: Read, caller: Caller, feed: Feed) -> FeedRow | None:
    """The caller's place and, where they see the feed, the whole answer. One round trip."""
    if feed.after is None and (feed.page, feed.limit) == (1, 20):
        if feed.group is None:
            return await read.maybe_kept(FeedRow, _OWN_FIRST, *caller.me, feed.space)
        return await read.maybe_kept(FeedRow, _GROUP_FIRST, *caller.me, feed.space, feed.group)
    start = (*caller.me, feed.space, feed.limit, feed.page)
    if feed.group is None:
        if feed.after is None:
            return await read.maybe(FeedRow, _OWN_FEED, *start)
        return await read.maybe(FeedRow, _OWN_FEED_AFTER, *start, *feed.after)
    if feed.after is None:
        return await read.maybe(FeedRow, _GROUP_FEED, *start, feed.group)
    return await read.maybe(FeedRow, _GROUP_FEED_AFTER, *start, *feed.after, feed.group)


_LOOK: LiteralString = " FROM feed_seat($1, $2, $3, $4, $5)"


async def look_at_feed(read: Read, caller: Caller, space: str, group: str | None) -> FeedRow | None:
    """The caller's place before a feed, without its posts: a few look-ups by key."""
    return await read.maybe(
        FeedRow,
        "SELECT user_id, space_id, is_private, role, group_role, version, sees" + _LOOK,
        *caller.me,
        space,
        group,
    )


class Version(msgspec.Struct, frozen=True):
    """What tells one answer of a feed from the next."""

    version: int | None
    role: str | None
    group_role: str | None
    sees: bool | None


_VERSION: LiteralString = "SELECT version, role, group_role, sees" + _LOOK


def version_of_feed(read: Read, caller: Caller, space: str, group: str | None) -> Awaitable[Version | None]:
    """As little as tells that a feed is still the one the caller has."""
    return read.maybe_kept(Version, _VERSION, caller.user, caller.issuer, caller.session, space, group)


class PostRow(msgspec.Struct, frozen=True):
    user_id: str
    sees: bool | None
    body: bytes | None


async def find_post(read: Read, caller: Caller, post_id: UUID) -> PostRow | None:
    """The post as JSON, where the caller sees it."""
    return await read.maybe(
        PostRow,
        "SELECT seat.user_id, seat.sees, CASE WHEN p.id IS NOT NULL THEN"
        " convert_to(" + _JSON + ", 'UTF8') END AS body"
        " FROM post_seat($1, $2, $3, $4) AS seat"
        " LEFT JOIN posts p ON seat.sees AND p.space_id = seat.space_id AND p.id = seat.post_id " + _AUTHOR,
        *caller.me,
        post_id,
    )


class Made(msgspec.Struct, frozen=True):
    """The caller's place, and the post where it was made."""

    user_id: str
    space_id: UUID | None
    is_private: bool | None
    role: CommunityRole | None
    group_role: GroupRole | None
    sees: bool | None
    body: bytes | None


async def insert_post(
    tx: Write,
    caller: Caller,
    post_id: UUID,
    *,
    space: str,
    group: str | None,
    title: str | None,
    content: str,
    attachments: list[str],
    is_pinned: bool,
) -> Made | None:
    """Post, if the caller may: the community is locked, then rank and membership are looked at."""
    return await tx.maybe(
        Made,
        "WITH seat AS MATERIALIZED (SELECT * FROM lock_feed($1, $2, $3, $4, $5)),"
        " made AS ("
        " INSERT INTO posts (id, space_id, group_id, author_id, title, content, attachments, is_pinned,"
        "                    created_at, updated_at)"
        " SELECT $6, seat.space_id, $5, seat.user_id, $7, $8, $9, $10, seat.moment, seat.moment FROM seat"
        "  WHERE seat.sees AND ($5::uuid IS NULL OR seat.group_role IS NOT NULL)"
        "    AND (NOT $10 OR seat.role IN ('owner', 'admin', 'moderator'))"
        " RETURNING id, space_id, group_id, author_id, title, content, attachments, is_pinned, created_at,"
        "           updated_at, edited_at)"
        " SELECT seat.user_id, seat.space_id, seat.is_private, seat.role, seat.group_role, seat.sees,"
        "        (SELECT convert_to(" + _JSON + ", 'UTF8') FROM made p " + _AUTHOR + ") AS body"
        "   FROM seat",
        *caller.me,
        space,
        group,
        post_id,
        title,
        content,
        attachments,
        is_pinned,
    )


class Standing(msgspec.Struct, frozen=True):
    """Where the caller stands before a post they may see."""

    user_id: str
    space_id: UUID
    role: CommunityRole
    group_id: UUID | None
    group_role: GroupRole | None
    post_id: UUID
    author_id: str

    @property
    def is_author(self) -> bool:
        """Whether it is theirs to change. Who left the group has no right left to what they wrote there."""
        return self.author_id == self.user_id and (self.group_id is None or self.group_role is not None)

    def may(self, what: May) -> bool:
        return what in COMMUNITY_GRANTS[self.role]


class _Looked(msgspec.Struct, frozen=True):
    user_id: str
    space_id: UUID | None
    role: CommunityRole | None
    group_id: UUID | None
    group_role: GroupRole | None
    post_id: UUID | None
    author_id: str | None
    sees: bool | None


async def lock_post(tx: Write, caller: Caller, post_id: UUID) -> Standing | bool:
    """Lock the post's community, then look. True: no such post for them. False: the caller is nobody."""
    found = await tx.maybe(_Looked, "SELECT * FROM lock_post($1, $2, $3, $4)", *caller.me, post_id)
    if found is None:
        return False
    return msgspec.convert(found, Standing, from_attributes=True) if found.sees else True


class Before(msgspec.Struct, frozen=True):
    is_pinned: bool
    attachments: list[str]


async def read_before(tx: Write, standing: Standing) -> Before:
    """What a change of the post is compared with."""
    return await tx.one(
        Before,
        "SELECT is_pinned, attachments FROM posts WHERE space_id = $1 AND id = $2",
        standing.space_id,
        standing.post_id,
    )


async def update_post(tx: Write, standing: Standing, wanted: UpdatePost) -> bytes:
    """Set what is given; the post as JSON. What changes nothing leaves no trace."""
    changes = {
        name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not msgspec.UNSET
    }
    return await tx.value(
        "WITH wanted AS ("
        " SELECT p.id, p.space_id,"
        "        CASE WHEN 'content' = ANY ($3) THEN $4 ELSE p.content END AS content,"
        "        CASE WHEN 'title' = ANY ($3) THEN $5 ELSE p.title END AS title,"
        "        CASE WHEN 'attachments' = ANY ($3) THEN $6 ELSE p.attachments END AS attachments,"
        "        CASE WHEN 'is_pinned' = ANY ($3) THEN $7 ELSE p.is_pinned END AS is_pinned"
        "   FROM posts p WHERE p.space_id = $1 AND p.id = $2),"
        " changed AS ("
        " UPDATE posts p"
        "    SET content = w.content, title = w.title, attachments = w.attachments,"
        "        is_pinned = w.is_pinned, updated_at = now(),"
        "        edited_at = CASE WHEN (p.content, p.title) IS DISTINCT FROM (w.content, w.title)"
        "                         THEN now() ELSE p.edited_at END"
        "   FROM wanted w WHERE p.space_id = w.space_id AND p.id = w.id"
        "    AND (p.content, p.title, p.attachments, p.is_pinned)"
        "        IS DISTINCT FROM (w.content, w.title, w.attachments, w.is_pinned)"
        " RETURNING " + _COLUMNS + "),"
        " now_is AS ("
        " SELECT " + _COLUMNS + " FROM changed p"
        " UNION ALL SELECT " + _COLUMNS + " FROM posts p WHERE p.space_id = $1 AND p.id = $2"
        "    AND NOT EXISTS (SELECT FROM changed))"
        " SELECT convert_to(" + _JSON + ", 'UTF8') FROM now_is p " + _AUTHOR,
        standing.space_id,
        standing.post_id,
        list(changes),
        changes.get("content"),
        changes.get("title") or None,
        changes.get("attachments"),
        changes.get("is_pinned"),
    )


async def delete_post(tx: Write, standing: Standing) -> list[str]:
    """The files it named."""
    return await tx.value(
        "DELETE FROM posts WHERE space_id = $1 AND id = $2 RETURNING attachments",
        standing.space_id,
        standing.post_id,
    )
