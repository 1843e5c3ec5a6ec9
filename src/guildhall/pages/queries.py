"""What pages read that no API answers in one piece."""

from uuid import UUID

import msgspec

from guildhall.db import Read
from guildhall.web.caller import Caller


class SpaceRow(msgspec.Struct, frozen=True):
    """One of a person's communities and hubs. `unread` is counted up to 100."""

    id: UUID
    kind: str
    name: str
    slug: str
    logo_url: str | None
    is_personal: bool
    role: str
    member_count: int
    unread: int


async def list_spaces(read: Read, caller: Caller) -> list[SpaceRow]:
    """The caller's communities and hubs, those with something new first, then the most recently active."""
    return await read.many(
        SpaceRow,
        """
        SELECT s.id, s.kind, s.name, s.slug, s.logo_url, s.is_personal, m.role, s.member_count, new.unread
          FROM me($1, $2, $3) AS asking
          JOIN members m ON m.user_id = asking.user_id AND m.status = 'active'
          JOIN spaces s ON s.id = m.space_id AND s.deleted_at IS NULL
         CROSS JOIN LATERAL (
               SELECT count(*)::int AS unread FROM (
                   SELECT FROM posts p
                    WHERE p.space_id = s.id AND p.group_id IS NULL AND p.created_at > m.visited_at
                      AND p.author_id <> m.user_id
                    LIMIT 100) AS recent) AS new
         ORDER BY new.unread > 0 DESC, s.last_active_at DESC, s.id LIMIT 300
        """,
        *caller.me,
    )


async def find_own_slug(read: Read, caller: Caller, space_id: UUID) -> str | None:
    """The slug of a space that the caller is a member of."""
    return await read.value(
        "SELECT s.slug FROM me($1, $2, $3) AS asking"
        " JOIN members m ON m.user_id = asking.user_id AND m.status = 'active'"
        " JOIN spaces s ON s.id = m.space_id AND s.deleted_at IS NULL WHERE s.id = $4",
        *caller.me,
        space_id,
    )


class Offer(msgspec.Struct, frozen=True):
    """An ownership that is offered: by whom, to whom, until when."""

    id: UUID
    target_user_id: str
    target_name: str
    initiator_name: str
    expires_at: str


async def find_offer(read: Read, space_id: UUID, target: str | None) -> Offer | None:
    """The open offer of a space's ownership, to `target` or to anybody."""
    return await read.maybe(
        Offer,
        "SELECT t.id, t.target_user_id, target.display_name AS target_name,"
        " initiator.display_name AS initiator_name, rfc3339(t.expires_at) AS expires_at"
        " FROM transfers t JOIN users target ON target.id = t.target_user_id"
        " JOIN users initiator ON initiator.id = t.initiated_by"
        " WHERE t.space_id = $1 AND t.accepted_at IS NULL AND t.cancelled_at IS NULL"
        " AND t.expires_at > now() AND ($2::text IS NULL OR t.target_user_id = $2)",
        space_id,
        target,
    )


class FileName(msgspec.Struct, frozen=True):
    """A stored file's name in its address, and the one it had where it came from."""

    name: str
    filename: str


async def list_file_names(read: Read, names: list[str]) -> dict[str, str]:
    """What files were called, by their names here."""
    rows = await read.many(
        FileName, "SELECT name, filename FROM uploads WHERE name = ANY ($1::text[])", names
    )
    return {row.name: row.filename for row in rows}


class Saved(msgspec.Struct, frozen=True):
    """A version of a memory: when it came to be, and who made it so."""

    version: int
    saved_at: str
    saved_by_name: str


async def list_saved(read: Read, memory: UUID) -> list[Saved]:
    """The versions of a memory that the caller may read, the newest first, which is how it is now."""
    return await read.many(
        Saved,
        """
        SELECT v.version, rfc3339(v.saved_at) AS saved_at, u.display_name AS saved_by_name
          FROM (SELECT version, saved_at, saved_by FROM memory_versions WHERE memory_id = $1
                UNION ALL
                SELECT version, updated_at, coalesce(updated_by, author_id) FROM memories WHERE id = $1) AS v
          JOIN users u ON u.id = v.saved_by ORDER BY v.version DESC LIMIT 200
        """,
        memory,
    )


class Titled(msgspec.Struct, frozen=True):
    """What something is called, by its id."""

    id: str
    title: str


async def list_topic_names(read: Read, space_id: UUID, topics: list[UUID]) -> dict[str, str]:
    """What topics of a space are called, by their ids; those that are gone are not among them."""
    rows = await read.many(
        Titled,
        "SELECT id::text, name AS title FROM topics WHERE space_id = $1 AND id = ANY ($2::uuid[])",
        space_id,
        topics,
    )
    return {row.id: row.title for row in rows}


async def list_titles(read: Read, space_id: UUID, memories: list[UUID]) -> dict[str, str]:
    """What memories of a space are called, by their ids; those that are gone are not among them."""
    rows = await read.many(
        Titled,
        "SELECT id::text, title FROM memories WHERE space_id = $1 AND id = ANY ($2::uuid[])",
        space_id,
        memories,
    )
    return {row.id: row.title for row in rows}
