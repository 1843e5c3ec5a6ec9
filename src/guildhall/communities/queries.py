"""One function per statement about communities. Each that serves a person starts from me()."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Literal, LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Db, Read, Write
from guildhall.spaces.members import like
from guildhall.spaces.rules import CommunityRole
from guildhall.spaces.seats import CommunitySeat, Place
from guildhall.web.caller import Caller

BATCH = 500

# A wire object made by PostgreSQL, so that long lists need no work here.
MEMBER_JSON: LiteralString = """
    json_build_object('userId', u.id, 'displayName', u.display_name, 'avatarUrl', u.avatar_url, 'bio', u.bio,
                      'role', m.role, 'status', m.status, 'joinedAt', rfc3339(m.joined_at))
"""

COMMUNITY: LiteralString = """
    s.id, s.name, s.slug, s.description, s.is_private, s.logo_url, s.cover_image_url, s.owner_id,
    s.member_count,
    rfc3339(s.created_at) AS created_at, rfc3339(s.updated_at) AS updated_at
"""


class Row(msgspec.Struct, frozen=True):
    id: UUID
    name: str
    slug: str
    description: str | None
    is_private: bool
    logo_url: str | None
    cover_image_url: str | None
    owner_id: str
    member_count: int
    created_at: str
    updated_at: str
    role: CommunityRole | None


class Listed(Row, frozen=True, kw_only=True):
    last_active_at: datetime


class Changed(Row, frozen=True, kw_only=True):
    was_private: bool


class _MaybeRow(msgspec.Struct, frozen=True):
    id: UUID | None
    name: str | None
    slug: str | None
    description: str | None
    is_private: bool | None
    logo_url: str | None
    cover_image_url: str | None
    owner_id: str | None
    member_count: int | None
    created_at: str | None
    updated_at: str | None
    role: CommunityRole | None


async def find_community(read: Read, caller: Caller, wanted: Place) -> Row | Literal[False] | None:
    """The community as the caller sees it.

    None when there is none for them to see; False when the caller is nobody.
    """
    found = await read.maybe(
        _MaybeRow,
        "SELECT " + COMMUNITY + ", asking.role FROM community_seat($1, $2, $3, $4, $5) AS asking"
        " LEFT JOIN spaces s ON s.id = asking.space_id",
        *caller.me,
        wanted.space_id,
        wanted.slug,
    )
    if found is None:
        return False
    if found.id is None or (found.role is None and found.is_private):
        return None
    return msgspec.convert(found, Row, from_attributes=True)


async def read_community(read: Read, seat: CommunitySeat) -> Row:
    return await read.one(
        Row,
        "SELECT " + COMMUNITY + ", $2::text AS role FROM spaces s WHERE s.id = $1",
        seat.space,
        seat.role,
    )


async def list_communities(
    read: Read, caller: Caller, limit: int | None, offset: int, after: tuple[datetime, UUID] | None
) -> list[Listed]:
    """The caller's communities, most recently active first."""
    at, space_id = after or (None, None)
    return await read.many(
        Listed,
        "SELECT " + COMMUNITY + ", m.role, s.last_active_at"
        " FROM me($1, $2, $3) AS asking JOIN members m ON m.user_id = asking.user_id AND m.status = 'active'"
        " JOIN spaces s ON s.id = m.space_id AND s.kind = 'community' AND s.deleted_at IS NULL"
        " WHERE $6::timestamptz IS NULL OR (s.last_active_at, s.id) < ($6, $7::uuid)"
        " ORDER BY s.last_active_at DESC, s.id DESC LIMIT $4 OFFSET $5",
        *caller.me,
        limit,
        offset,
        at,
        space_id,
    )


async def lock_owner(tx: Write, caller: Caller) -> int | None:
    """Lock the caller's account and count the communities they own. None when the caller is nobody."""
    me = await tx.value(
        "SELECT id FROM users WHERE id = (SELECT user_id FROM me($1, $2, $3)) FOR NO KEY UPDATE", *caller.me
    )
    if me is None:
        return None
    return await tx.value(
        "SELECT count(*) FROM spaces WHERE owner_id = $1 AND kind = 'community' AND deleted_at IS NULL", me
    )


async def insert_community(
    tx: Write, space_id: UUID, owner: str, name: str, slug: str, description: str | None, is_private: bool
) -> Row | None:
    """Make the community and its owner's membership together; None when the slug is taken."""
    made = await tx.maybe(
        Row,
        """
        WITH made AS (
            INSERT INTO spaces (id, kind, owner_id, name, slug, description, is_private)
            VALUES ($1, 'community', $2, $3, $4, $5, $6)
            ON CONFLICT (kind, slug) WHERE deleted_at IS NULL DO NOTHING
            RETURNING *),
        joined AS (
            INSERT INTO members (space_id, kind, user_id, role)
            SELECT id, 'community', $2, 'owner' FROM made)
        SELECT """
        + COMMUNITY
        + """, 'owner' AS role FROM made s
        """,
        space_id,
        owner,
        name,
        slug,
        description,
        is_private,
    )
    # The row as it was inserted does not know of its first member yet.
    return None if made is None else msgspec.structs.replace(made, member_count=1)


async def update_community(tx: Write, seat: CommunitySeat, changes: dict[str, object]) -> Changed:
    """Set the columns in `changes`; the others stay. Raises Duplicate when another has the slug."""
    return await tx.one(
        Changed,
        """
        UPDATE spaces AS s
           SET name = CASE WHEN 'name' = ANY ($2) THEN $3 ELSE name END,
               slug = CASE WHEN 'slug' = ANY ($2) THEN $4 ELSE slug END,
               description = CASE WHEN 'description' = ANY ($2) THEN $5 ELSE description END,
               logo_url = CASE WHEN 'logo_url' = ANY ($2) THEN $6 ELSE logo_url END,
               cover_image_url = CASE WHEN 'cover_image_url' = ANY ($2) THEN $7 ELSE cover_image_url END,
               is_private = CASE WHEN 'is_private' = ANY ($2) THEN $8 ELSE is_private END,
               updated_at = now(), version = version + 1
          FROM (SELECT id AS was_id, is_private AS was_private FROM spaces WHERE id = $1) AS was
         WHERE id = was_id
        RETURNING """
        + COMMUNITY
        + """, $9::text AS role, was_private
        """,
        seat.space,
        list(changes),
        changes.get("name"),
        changes.get("slug"),
        changes.get("description"),
        changes.get("logo_url"),
        changes.get("cover_image_url"),
        changes.get("is_private"),
        seat.role,
    )


async def is_slug_free(tx: Write, seat: CommunitySeat, slug: str) -> bool:
    return not await tx.value(
        "SELECT EXISTS (SELECT FROM spaces WHERE kind = 'community' AND slug = $2"
        " AND deleted_at IS NULL AND id <> $1)",
        seat.space,
        slug,
    )


async def delete_community(tx: Write, seat: CommunitySeat) -> None:
    """Take the community out of sight at once; the operator can bring it back for 30 days."""
    await tx.run(
        "UPDATE spaces SET deleted_at = now(), deleted_by = $2, version = version + 1 WHERE id = $1",
        seat.space,
        seat.user,
    )


class SeatAndBody(msgspec.Struct, frozen=True):
    """A seat's facts and the rows it may see, read by one statement."""

    user_id: str
    space_id: UUID | None
    is_private: bool | None
    role: str | None
    version: int | None
    total: int | None
    body: bytes | None
    last: str | None
    count: int | None


async def page_of_members(
    read: Read,
    caller: Caller,
    wanted: Place,
    *,
    role: str | None,
    q: str | None,
    limit: int,
    offset: int,
    after: tuple[int, str, str] | None,
) -> SeatAndBody | None:
    """A page of the directory as JSON items; `count` is one more than `limit` where more follow."""
    rank, name, user = after or (None, None, None)
    return await read.maybe(
        SeatAndBody,
        "WITH seat AS MATERIALIZED (SELECT * FROM community_seat($1, $2, $3, $4, $5)),"
        " page AS ("
        " SELECT m.rank, m.sort_name, m.user_id, " + MEMBER_JSON + " AS item,"
        "        row_number() OVER (ORDER BY m.rank, m.sort_name, m.user_id) - $9 AS n"
        "   FROM seat JOIN members m ON m.space_id = seat.space_id JOIN users u ON u.id = m.user_id"
        "  WHERE seat.role IS NOT NULL"
        "    AND ($6::text IS NULL OR m.role = $6) AND ($7::text IS NULL OR m.sort_name LIKE $7)"
        "    AND ($10::int IS NULL OR (m.rank, m.sort_name, m.user_id) > ($10, $11::text, $12::text))"
        "  ORDER BY m.rank, m.sort_name, m.user_id LIMIT $8 + 1 OFFSET $9)"
        " SELECT seat.user_id, seat.space_id, seat.is_private, seat.role, seat.version,"
        "        CASE WHEN $6::text IS NULL AND $7::text IS NULL THEN seat.member_count END AS total,"
        "        (SELECT convert_to(coalesce(string_agg(item::text, ',' ORDER BY n), ''), 'UTF8')"
        "           FROM page WHERE n <= $8) AS body,"
        "        (SELECT json_build_array(rank, sort_name, user_id)::text FROM page WHERE n = $8) AS last,"
        "        (SELECT count(*) FROM page)::int AS count"
        "   FROM seat",
        *caller.me,
        wanted.space_id,
        wanted.slug,
        role,
        None if q is None else like(q.lower()),
        limit,
        offset,
        rank,
        name,
        user,
    )


class Directory(msgspec.Struct, frozen=True):
    """The caller's place before a directory, and what tells one answer of it from the next."""

    user_id: str
    space_id: UUID | None
    is_private: bool | None
    role: str | None
    version: int | None


async def look_at_directory(read: Read, caller: Caller, wanted: Place) -> Directory | None:
    return await read.maybe(
        Directory,
        "SELECT user_id, space_id, is_private, role, version FROM community_seat($1, $2, $3, $4, $5)",
        *caller.me,
        wanted.space_id,
        wanted.slug,
    )


class _Item(msgspec.Struct, frozen=True):
    rank: int
    sort_name: str
    user_id: str
    item: bytes


async def every_member(db: Db, space_id: UUID, role: str | None, q: str | None) -> AsyncIterator[list[bytes]]:
    """The whole directory as JSON items, a few hundred at a time, in memory that does not grow with it.

    No connection is held while a batch is sent, since a reader may take any time over it.
    """
    name = None if q is None else like(q.lower())
    after = (-1, "", "")
    while True:
        async with db.reading() as read:
            items = await read.many(
                _Item,
                "SELECT m.rank, m.sort_name, m.user_id, convert_to(("
                + MEMBER_JSON
                + ")::text, 'UTF8') AS item"
                # OFFSET 0 keeps the two from being joined as a whole and sorted before the first row is sent:
                # members come in order from their index, each with a look-up.
                " FROM members m CROSS JOIN LATERAL (SELECT id, display_name, avatar_url, bio FROM users"
                "      WHERE users.id = m.user_id OFFSET 0) AS u WHERE m.space_id = $1"
                " AND ($2::text IS NULL OR m.role = $2) AND ($3::text IS NULL OR m.sort_name LIKE $3)"
                " AND (m.rank, m.sort_name, m.user_id) > ($4::int, $5::text, $6::text)"
                " ORDER BY m.rank, m.sort_name, m.user_id LIMIT $7",
                space_id,
                role,
                name,
                *after,
                BATCH,
            )
        if items:
            yield [item.item for item in items]
            after = (items[-1].rank, items[-1].sort_name, items[-1].user_id)
        if len(items) < BATCH:
            break


class SummaryRow(msgspec.Struct, frozen=True):
    user_id: str
    space_id: UUID | None
    is_private: bool | None
    role: CommunityRole | None
    member_count: int | None
    group_count: int | None
    post_count: int | None
    unread_posts: int | None
    pending_invites: int | None


async def summarise(read: Read, caller: Caller, wanted: Place) -> SummaryRow | None:
    """Counts over what the caller may see; posts since the last visit are counted up to 1,000."""
    return await read.maybe(
        SummaryRow,
        """
        WITH seat AS MATERIALIZED (SELECT * FROM community_seat($1, $2, $3, $4, $5)),
        visible AS MATERIALIZED (
            SELECT g.id, g.post_count FROM seat JOIN groups g ON g.space_id = seat.space_id
             WHERE seat.role IN ('owner', 'admin') OR NOT g.is_private
                OR EXISTS (SELECT FROM group_members gm WHERE gm.space_id = g.space_id
                            AND gm.group_id = g.id AND gm.user_id = seat.user_id))
        SELECT seat.user_id, seat.space_id, seat.is_private, seat.role, seat.member_count,
               (SELECT count(*) FROM visible)::int AS group_count,
               (seat.post_count + (SELECT coalesce(sum(post_count), 0) FROM visible))::int AS post_count,
               (SELECT count(*) FROM (
                    SELECT FROM posts p WHERE p.space_id = seat.space_id AND p.created_at > seat.visited_at
                       AND p.author_id <> seat.user_id
                       AND (p.group_id IS NULL OR p.group_id IN (SELECT id FROM visible))
                     LIMIT 1000) AS recent)::int AS unread_posts,
               CASE WHEN seat.role IN ('owner', 'admin') THEN
                    (SELECT count(*) FROM invites i WHERE i.space_id = seat.space_id
                        AND i.accepted_at IS NULL AND i.revoked_at IS NULL AND invite_status(i) = 'open')
               END::int AS pending_invites
          FROM seat
        """,
        *caller.me,
        wanted.space_id,
        wanted.slug,
    )


class Visited(msgspec.Struct, frozen=True):
    user_id: str
    space_id: UUID | None
    is_private: bool | None
    role: str | None


async def visit(tx: Write, caller: Caller, wanted: Place) -> Visited | None:
    """Note that the caller was here now."""
    return await tx.maybe(
        Visited,
        """
        WITH seat AS MATERIALIZED (SELECT * FROM community_seat($1, $2, $3, $4, $5)),
        noted AS (
            UPDATE members SET visited_at = now() FROM seat
             WHERE members.space_id = seat.space_id AND members.user_id = seat.user_id
               AND seat.role IS NOT NULL)
        SELECT user_id, space_id, is_private, role FROM seat
        """,
        *caller.me,
        wanted.space_id,
        wanted.slug,
    )
