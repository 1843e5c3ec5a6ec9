"""What must be true of the data at every instant, asked of a whole database: after a restore, or in doubt.

Most of it the schema holds by constraints, and those are believed where they are in force. The rest are sums
that triggers keep, and owners.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, LiteralString, TypeAlias

if TYPE_CHECKING:
    import asyncpg

    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# Each counts what is wrong; the words follow the number.
_WRONG: Mapping[str, LiteralString] = {
    "constraints or indexes that are not in force": """
        SELECT (SELECT count(*) FROM pg_constraint
                 WHERE connamespace = 'public'::regnamespace AND NOT convalidated)
             + (SELECT count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
                 WHERE relnamespace = 'public'::regnamespace AND NOT (indisvalid AND indisready))
    """,
    "triggers that are switched off": """
        SELECT count(*) FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
         WHERE relnamespace = 'public'::regnamespace AND tgenabled IN ('D', 'R')
    """,
    "spaces whose owner is not an active owner among their members": """
        SELECT count(*) FROM spaces s WHERE NOT EXISTS (
            SELECT FROM members m WHERE m.space_id = s.id AND m.user_id = s.owner_id
               AND m.role = 'owner' AND m.status = 'active')
    """,
    "hubs with more than one owner": """
        SELECT count(*) FROM (SELECT FROM members WHERE kind = 'hub' AND role = 'owner'
                               GROUP BY space_id HAVING count(*) > 1) AS hubs
    """,
    "spaces whose number of members is wrong": """
        SELECT count(*) FROM spaces s
          LEFT JOIN (SELECT space_id, count(*) AS n FROM members GROUP BY space_id) m ON m.space_id = s.id
         WHERE s.member_count <> coalesce(m.n, 0)
    """,
    "spaces whose number of groups is wrong": """
        SELECT count(*) FROM spaces s
          LEFT JOIN (SELECT space_id, count(*) AS n FROM groups GROUP BY space_id) g ON g.space_id = s.id
         WHERE s.group_count <> coalesce(g.n, 0)
    """,
    "spaces whose number of posts is wrong": """
        SELECT count(*) FROM spaces s
          LEFT JOIN (SELECT space_id, count(*) AS n FROM posts WHERE group_id IS NULL GROUP BY space_id) p
            ON p.space_id = s.id
         WHERE s.post_count <> coalesce(p.n, 0)
    """,
    "groups whose number of members or posts is wrong": """
        SELECT count(*) FROM groups g
          LEFT JOIN (SELECT space_id, group_id, count(*) AS n FROM group_members
                      GROUP BY space_id, group_id) m ON (m.space_id, m.group_id) = (g.space_id, g.id)
          LEFT JOIN (SELECT space_id, group_id, count(*) AS n FROM posts WHERE group_id IS NOT NULL
                      GROUP BY space_id, group_id) p ON (p.space_id, p.group_id) = (g.space_id, g.id)
         WHERE (g.member_count, g.post_count) <> (coalesce(m.n, 0), coalesce(p.n, 0))
    """,
    "hubs whose number of memories or topics is wrong": """
        SELECT count(*) FROM spaces s
          LEFT JOIN (SELECT space_id, count(*) AS n, count(*) FILTER (WHERE topic_id IS NULL) AS unsorted
                       FROM memories WHERE state <> 'archived' GROUP BY space_id) m ON m.space_id = s.id
          LEFT JOIN (SELECT space_id, count(*) AS n FROM topics WHERE archived_at IS NULL
                      GROUP BY space_id) t ON t.space_id = s.id
         WHERE (s.memory_count, s.unsorted_count, s.topic_count)
               <> (coalesce(m.n, 0), coalesce(m.unsorted, 0), coalesce(t.n, 0))
    """,
    "memories found by words that are not theirs": """
        SELECT count(*) FROM (SELECT memory_id, space_id FROM memory_terms
                              EXCEPT SELECT id, space_id FROM memories WHERE state = 'active') AS stray
    """,
    "topics whose number of memories is wrong": """
        SELECT count(*) FROM topics t
          LEFT JOIN (SELECT space_id, topic_id, count(*) AS n FROM memories
                      WHERE state <> 'archived' AND topic_id IS NOT NULL
                      GROUP BY space_id, topic_id) m ON (m.space_id, m.topic_id) = (t.space_id, t.id)
         WHERE t.memory_count <> coalesce(m.n, 0)
    """,
    "erased people who can still sign in": """
        SELECT count(*) FROM users u WHERE u.status = 'erased' AND (
            EXISTS (SELECT FROM sessions WHERE user_id = u.id)
            OR EXISTS (SELECT FROM email_logins WHERE user_id = u.id))
    """,
}


async def find_broken(connection: "Connection") -> list[str]:
    """One line for each kind of thing that is wrong, with how many; empty when all is well.

    All of it is one instant, so that a service may go on writing meanwhile. Reads every table once.
    """
    found: list[str] = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for words, sql in _WRONG.items():
            if count := await connection.fetchval(sql):
                found.append(f"{count} {words}")
    return found
