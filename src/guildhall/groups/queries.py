"""One function per statement about groups. Each that serves a person starts from me()."""

from collections.abc import AsyncIterator
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Db, Read, Write
from guildhall.groups.schemas import GroupRole
from guildhall.spaces.rules import COMMUNITY_GRANTS, CommunityRole, May
from guildhall.web.caller import Caller

GROUP: LiteralString = """
    g.id, g.space_id, g.name, g.description, g.is_private, g.member_count, g.created_by,
    rfc3339(g.created_at) AS created_at, rfc3339(g.updated_at) AS updated_at
"""

GROUP_JSON: LiteralString = """
    json_build_object('id', g.id, 'communityId', g.space_id, 'name', g.name, 'description', g.description,
                      'isPrivate', g.is_private, 'role', gm.role, 'memberCount', g.member_count,
                      'streamChannelId', g.id, 'streamChannelType', 'guildhall-group',
                      'createdBy', g.created_by, 'createdAt', rfc3339(g.created_at),
                      'updatedAt', rfc3339(g.updated_at))
"""

# No index has members of groups in this order: each batch sorts what is left, so there are few of them.
BATCH = 2_000

MEMBER_JSON: LiteralString = """
    json_build_object('userId', u.id, 'displayName', u.display_name, 'avatarUrl', u.avatar_url, 'bio', u.bio,
                      'role', gm.role, 'status', m.status, 'joinedAt', rfc3339(gm.joined_at))
"""


class Row(msgspec.Struct, frozen=True):
    id: UUID
    space_id: UUID
    name: str
    description: str | None
    is_private: bool
    member_count: int
    created_by: str
    created_at: str
    updated_at: str
    role: GroupRole | None


class Standing(msgspec.Struct, frozen=True):
    """Where the caller stands before a group they may see: their rank around it, their role in it."""

    user_id: str
    space_id: UUID
    role: CommunityRole
    group_id: UUID
    is_private: bool
    group_role: GroupRole | None

    @property
    def manages(self) -> bool:
        """Whether they may change the group, its members, and its existence."""
        return self.group_role == "admin" or May.MANAGE_GROUPS in COMMUNITY_GRANTS[self.role]


class _Looked(msgspec.Struct, frozen=True):
    user_id: str
    space_id: UUID | None
    role: CommunityRole | None
    group_id: UUID | None
    is_private: bool | None
    group_role: GroupRole | None
    version: int | None
    sees: bool | None


def _standing(found: _Looked | None) -> Standing | bool:
    """True: there is no such group for them. False: the caller is nobody."""
    if found is None:
        return False
    if not found.sees:
        return True
    return msgspec.convert(found, Standing, from_attributes=True)


async def lock_group(tx: Write, caller: Caller, group_id: UUID) -> Standing | bool:
    """Lock the group's community, then look. True: no such group for them. False: the caller is nobody."""
    return _standing(
        await tx.maybe(_Looked, "SELECT * FROM lock_group($1, $2, $3, $4)", *caller.me, group_id)
    )


async def take_group(read: Read, caller: Caller, group_id: UUID) -> Standing | bool:
    """As `lock_group`, without the lock."""
    return _standing(
        await read.maybe(_Looked, "SELECT * FROM group_seat($1, $2, $3, $4)", *caller.me, group_id)
    )


class SeatAndGroup(msgspec.Struct, frozen=True):
    user_id: str
    sees: bool | None
    body: bytes | None


async def find_group(read: Read, caller: Caller, group_id: UUID) -> SeatAndGroup | None:
    """The group as JSON, where the caller sees it."""
    return await read.maybe(
        SeatAndGroup,
        "SELECT seat.user_id, seat.sees, convert_to((" + GROUP_JSON + ")::text, 'UTF8') AS body"
        " FROM group_seat($1, $2, $3, $4) AS seat"
        " LEFT JOIN groups g ON seat.sees AND g.space_id = seat.space_id AND g.id = seat.group_id"
        " LEFT JOIN group_members gm ON gm.space_id = g.space_id AND gm.group_id = g.id"
        "  AND gm.user_id = seat.user_id",
        *caller.me,
        group_id,
    )


async def read_group(read: Read, standing: Standing) -> Row:
    return await read.one(
        Row,
        "SELECT " + GROUP + ", (SELECT gm.role FROM group_members gm WHERE gm.space_id = g.space_id"
        " AND gm.group_id = g.id AND gm.user_id = $3) AS role"
        " FROM groups g WHERE g.space_id = $1 AND g.id = $2",
        standing.space_id,
        standing.group_id,
        standing.user_id,
    )


class SeatAndGroups(msgspec.Struct, frozen=True):
    user_id: str
    space_id: UUID | None
    is_private: bool | None
    role: str | None
    body: bytes | None


async def list_groups(read: Read, caller: Caller, space_id: UUID) -> SeatAndGroups | None:
    """The groups the caller may see, as JSON items by name."""
    return await read.maybe(
        SeatAndGroups,
        "WITH seat AS MATERIALIZED (SELECT * FROM community_seat($1, $2, $3, $4, NULL)),"
        " listed AS ("
        " SELECT lower(g.name) AS name, g.id, (" + GROUP_JSON + ")::text AS item"
        "   FROM seat JOIN groups g ON g.space_id = seat.space_id"
        "   LEFT JOIN group_members gm ON gm.space_id = g.space_id AND gm.group_id = g.id"
        "    AND gm.user_id = seat.user_id"
        "  WHERE seat.role IS NOT NULL"
        "    AND (NOT g.is_private OR gm.role IS NOT NULL OR seat.role IN ('owner', 'admin')))"
        " SELECT seat.user_id, seat.space_id, seat.is_private, seat.role,"
        "        (SELECT convert_to(coalesce(string_agg(item, ',' ORDER BY name, id), ''), 'UTF8')"
        "           FROM listed) AS body"
        "   FROM seat",
        *caller.me,
        space_id,
    )


async def count_groups(tx: Write, space_id: UUID) -> int:
    return await tx.value("SELECT group_count FROM spaces WHERE id = $1", space_id)


async def insert_group(
    tx: Write, group_id: UUID, space_id: UUID, maker: str, name: str, description: str | None, private: bool
) -> None:
    """Make the group with its maker as its admin."""
    await tx.run(
        """
        WITH made AS (
            INSERT INTO groups (id, space_id, name, description, is_private, created_by)
            VALUES ($1, $2, $3, $4, $5, $6) RETURNING space_id, id)
        INSERT INTO group_members (space_id, group_id, user_id, role)
        SELECT space_id, id, $6, 'admin' FROM made
        """,
        group_id,
        space_id,
        name,
        description,
        private,
        maker,
    )


async def update_group(tx: Write, standing: Standing, changes: dict[str, object]) -> None:
    """Set the columns in `changes`; the others stay."""
    await tx.run(
        """
        UPDATE groups
           SET name = CASE WHEN 'name' = ANY ($3) THEN $4 ELSE name END,
               description = CASE WHEN 'description' = ANY ($3) THEN $5 ELSE description END,
               is_private = CASE WHEN 'is_private' = ANY ($3) THEN $6 ELSE is_private END,
               updated_at = now()
         WHERE space_id = $1 AND id = $2
        """,
        standing.space_id,
        standing.group_id,
        list(changes),
        changes.get("name"),
        changes.get("description"),
        changes.get("is_private"),
    )


async def list_attachments(tx: Write, standing: Standing) -> list[str]:
    """The files that posts of the group name."""
    return await tx.value(
        "SELECT ARRAY(SELECT DISTINCT unnest(attachments) FROM posts WHERE space_id = $1 AND group_id = $2)",
        standing.space_id,
        standing.group_id,
    )


async def delete_group(tx: Write, standing: Standing) -> None:
    """Its members and posts go with it, by foreign key."""
    await tx.run("DELETE FROM groups WHERE space_id = $1 AND id = $2", standing.space_id, standing.group_id)


class MemberRow(msgspec.Struct, frozen=True):
    user_id: str
    display_name: str
    avatar_url: str | None
    bio: str | None
    role: GroupRole
    status: str
    joined_at: str


async def find_group_member(read: Read, standing: Standing, user: str) -> MemberRow | None:
    return await read.maybe(
        MemberRow,
        "SELECT u.id AS user_id, u.display_name, u.avatar_url, u.bio, gm.role, m.status,"
        " rfc3339(gm.joined_at) AS joined_at"
        " FROM group_members gm JOIN members m ON m.space_id = gm.space_id AND m.user_id = gm.user_id"
        " JOIN users u ON u.id = gm.user_id"
        " WHERE gm.space_id = $1 AND gm.group_id = $2 AND gm.user_id = $3",
        standing.space_id,
        standing.group_id,
        user,
    )


async def insert_group_member(tx: Write, standing: Standing, user: str, role: str) -> bool | None:
    """True when that is new, False when they are in already, None when they are not in the community."""
    return await tx.value(
        """
        WITH candidate AS (
            SELECT user_id FROM members WHERE space_id = $1 AND user_id = $3 AND status = 'active'),
        made AS (
            INSERT INTO group_members (space_id, group_id, user_id, role)
            SELECT $1, $2, user_id, $4 FROM candidate
            ON CONFLICT (space_id, group_id, user_id) DO NOTHING RETURNING user_id)
        SELECT EXISTS (SELECT FROM made) FROM candidate
        """,
        standing.space_id,
        standing.group_id,
        user,
        role,
    )


async def delete_group_member(tx: Write, standing: Standing, user: str) -> str | None:
    """The role they had; None when they were not in the group."""
    return await tx.value(
        "DELETE FROM group_members WHERE space_id = $1 AND group_id = $2 AND user_id = $3 RETURNING role",
        standing.space_id,
        standing.group_id,
        user,
    )


class SeatAndMembers(msgspec.Struct, frozen=True):
    user_id: str
    sees: bool | None
    total: int | None
    body: bytes | None
    last: str | None
    count: int


async def page_of_group_members(
    read: Read, caller: Caller, group_id: UUID, *, limit: int, offset: int, after: tuple[str, str, str] | None
) -> SeatAndMembers | None:
    """A page of the group's members as JSON items; `count` is one more than `limit` where more follow."""
    role, name, user = after or (None, None, None)
    return await read.maybe(
        SeatAndMembers,
        "WITH seat AS MATERIALIZED (SELECT * FROM group_seat($1, $2, $3, $4)),"
        " page AS ("
        " SELECT gm.role, m.sort_name, m.user_id, (" + MEMBER_JSON + ")::text AS item,"
        "        row_number() OVER (ORDER BY gm.role, m.sort_name, m.user_id) - $6 AS n"
        "   FROM seat JOIN group_members gm ON gm.space_id = seat.space_id AND gm.group_id = seat.group_id"
        "   JOIN members m ON m.space_id = gm.space_id AND m.user_id = gm.user_id"
        "   JOIN users u ON u.id = gm.user_id"
        "  WHERE seat.sees AND ($7::text IS NULL OR (gm.role, m.sort_name, m.user_id) > ($7, $8, $9::text))"
        "  ORDER BY gm.role, m.sort_name, m.user_id LIMIT $5 + 1 OFFSET $6)"
        " SELECT seat.user_id, seat.sees,"
        "        (SELECT g.member_count FROM groups g WHERE seat.sees AND g.space_id = seat.space_id"
        "            AND g.id = seat.group_id) AS total,"
        "        (SELECT convert_to(coalesce(string_agg(item, ',' ORDER BY n), ''), 'UTF8')"
        "           FROM page WHERE n <= $5) AS body,"
        "        (SELECT json_build_array(role, sort_name, user_id)::text FROM page WHERE n = $5) AS last,"
        "        (SELECT count(*) FROM page)::int AS count"
        "   FROM seat",
        *caller.me,
        group_id,
        limit,
        offset,
        role,
        name,
        user,
    )


class _Item(msgspec.Struct, frozen=True):
    role: str
    sort_name: str
    user_id: str
    item: bytes


async def every_group_member(db: Db, standing: Standing) -> AsyncIterator[list[bytes]]:
    """All members as JSON items, some at a time, in memory that does not grow with the group.

    No connection is held while a batch is sent, since a reader may take any time over it.
    """
    after = ("", "", "")
    while True:
        async with db.reading() as read:
            items = await read.many(
                _Item,
                "SELECT gm.role, m.sort_name, m.user_id, convert_to(("
                + MEMBER_JSON
                + ")::text, 'UTF8') AS item"
                " FROM group_members gm JOIN members m ON m.space_id = gm.space_id AND m.user_id = gm.user_id"
                " JOIN users u ON u.id = gm.user_id WHERE gm.space_id = $1 AND gm.group_id = $2"
                " AND (gm.role, m.sort_name, m.user_id) > ($3::text, $4::text, $5::text)"
                " ORDER BY gm.role, m.sort_name, m.user_id LIMIT $6",
                standing.space_id,
                standing.group_id,
                *after,
                BATCH,
            )
        if items:
            yield [item.item for item in items]
            after = (items[-1].role, items[-1].sort_name, items[-1].user_id)
        if len(items) < BATCH:
            break
