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
