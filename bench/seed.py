"""The data that is measured on, put through the real tables, so that triggers keep the counters."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from guildhall.providers.identity.sessions import SessionIssuer

SESSION_S = 24 * 3600


class Scale(msgspec.Struct, frozen=True):
    """How much there is. Each of the `people` is in one of the `communities` and in the large one; each of
    the first `hubs` owns a hub and is in others. `doors` are hubs with one open invite.
    """

    communities: int = 100
    people: int = 20_000
    posts: int = 100_000
    large: int = 100_000
    hubs: int = 1_000
    doors: int = 6_000


SMALL = Scale(communities=4, people=80, posts=400, large=1_500, hubs=64, doors=400)


# In how many hubs each is: the one that came with the account, their own, and others'.
HUBS_EACH = 50


class Member(msgspec.Struct, frozen=True):
    """Somebody who asks, with a session, and where they belong: a community, and one of their hubs."""

    user: str
    token: str
    community: UUID
    hub: UUID


class Seeded(msgspec.Struct, frozen=True):
    """What requests can be made of. `posts` holds some posts of each community; `members` are the askers."""

    members: list[Member]
    posts: dict[UUID, list[UUID]]
    large: UUID


def _steps(issuer: str, scale: Scale) -> list[tuple[str, str, tuple[object, ...]]]:
    """What is put in, by which statement, with which values."""
    return [
        (
            "people",
            """
            INSERT INTO users (id, issuer, display_name, avatar_url, bio, email, email_verified)
            SELECT 'user_' || lpad(n::text, 6, '0'), $1,
                   (ARRAY['Ada','Bo','Cleo','Dara','Edo','Fay','Gus','Hana','Ida','Jon'])[1 + n % 10]
                       || ' ' || (ARRAY['Abel','Berg','Cole','Dahl','Ek','Frost','Gray'])[1 + n / 10 % 7]
                       || ' ' || n,
                   CASE WHEN n % 3 <> 0 THEN 'https://blobs.example.org/avatars/' || n || '.webp' END,
                   CASE WHEN n % 2 = 0 THEN 'Grows tomatoes, reads maps, answers letters. Number ' || n END,
                   'person' || n || '@example.org', true
              FROM generate_series(1, $2::int) AS n
            """,
            (issuer, max(scale.people, scale.large)),
        ),
        (
            "sessions",
            """
            INSERT INTO sessions (id, user_id, label, expires_at)
            SELECT 'sess_' || lpad(n::text, 6, '0'), 'user_' || lpad(n::text, 6, '0'), 'bench',
                   now() + interval '1 year'
              FROM generate_series(1, $1::int) AS n
            """,
            (scale.people,),
        ),
        (
            "communities",
            """
            WITH made AS (
                INSERT INTO spaces (id, kind, owner_id, name, slug, description, is_private, last_active_at)
                SELECT uuidv7(), 'community', 'user_' || lpad(greatest(n, 1)::text, 6, '0'),
                       CASE n WHEN 0 THEN 'Everybody' ELSE 'Community ' || n END,
                       CASE n WHEN 0 THEN 'everybody' ELSE 'community-' || n END,
                       'Where people who care about subject ' || n || ' meet, ask and answer.', n % 2 = 1,
                       now() - interval '1 hour' * n
                  FROM generate_series(0, $1::int) AS n
                RETURNING id, kind, owner_id)
            INSERT INTO members (space_id, kind, user_id, role) SELECT id, kind, owner_id, 'owner' FROM made
            """,
            (scale.communities,),
        ),
        (
            "members of the communities",
            """
            INSERT INTO members (space_id, kind, user_id, role)
            SELECT s.id, 'community', 'user_' || lpad(n::text, 6, '0'),
                   CASE n / $1 WHEN 1 THEN 'admin' WHEN 2 THEN 'moderator' ELSE 'member' END
              FROM generate_series(1, $2::int) AS n
              JOIN spaces s ON s.kind = 'community' AND s.slug = 'community-' || (1 + (n - 1) % $1::int)
            ON CONFLICT DO NOTHING
            """,
            (scale.communities, scale.people),
        ),
        (
            "members of the large community",
            """
            INSERT INTO members (space_id, kind, user_id, role)
            SELECT s.id, 'community', 'user_' || lpad(n::text, 6, '0'),
                   CASE n % 1000 WHEN 0 THEN 'moderator' ELSE 'member' END
              FROM generate_series(1, $1::int) AS n
              JOIN spaces s ON s.kind = 'community' AND s.slug = 'everybody'
            ON CONFLICT DO NOTHING
            """,
            (scale.large,),
        ),
        (
            "posts",
            """
            INSERT INTO posts (id, space_id, author_id, title, content, attachments, is_pinned,
                               created_at, updated_at)
            SELECT uuidv7(interval '-1 minute' * n), s.id,
                   'user_' || lpad((1 + (n - 1) % $1 + $1 * (n * 7 % ($2 / $1)))::text, 6, '0'),
                   CASE n / $1 % 3 WHEN 0 THEN 'What I learnt about subject ' || n END,
                   repeat('Somebody asked how this is done, and here is what worked for me. ', 1 + n / $1 % 8)
                       || n,
                   CASE n / $1 % 10 WHEN 0 THEN ARRAY['https://blobs.example.org/files/' || n || '.webp']
                                    ELSE '{}' END,
                   n / $1 = 5, now() - interval '1 minute' * n, now() - interval '1 minute' * n
              FROM generate_series(1, $3::int) AS n
              JOIN spaces s ON s.kind = 'community' AND s.slug = 'community-' || (1 + (n - 1) % $1::int)
            """,
            (scale.communities, scale.people, scale.posts),
        ),
        (
            "hubs",
            """
            WITH made AS (
                INSERT INTO spaces (id, kind, owner_id, name, slug, accent, created_at)
                SELECT uuidv7(), 'hub',
                       'user_' || lpad((CASE WHEN n > $1 THEN $1 + 1 + n % ($3::int - $1)
                                             ELSE n END)::text, 6, '0'),
                       CASE WHEN n > $1 THEN 'Door ' ELSE 'Hub ' END || n,
                       CASE WHEN n > $1 THEN 'door-' ELSE 'hub-' END || n, 'amber',
                       now() - interval '1 hour' * n
                  FROM generate_series(1, $1::int + $2::int) AS n
                RETURNING id, kind, owner_id, slug),
            named AS (INSERT INTO hub_slugs (slug, space_id) SELECT slug, id FROM made)
            INSERT INTO members (space_id, kind, user_id, role) SELECT id, kind, owner_id, 'owner' FROM made
            """,
            (scale.hubs, scale.doors, scale.people),
        ),
        (
            "members of the hubs",
            """
            INSERT INTO members (space_id, kind, user_id, role)
            SELECT s.id, 'hub', 'user_' || lpad(n::text, 6, '0'),
                   CASE k % 10 WHEN 1 THEN 'admin' WHEN 2 THEN 'viewer' ELSE 'contributor' END
              FROM generate_series(1, $1::int) AS n CROSS JOIN generate_series(1, $2::int - 2) AS k
              JOIN spaces s ON s.kind = 'hub' AND s.slug = 'hub-' || (1 + (n - 1 + k * 13) % $1::int)
            """,
            (scale.hubs, HUBS_EACH),
        ),
    ]


async def seed(owner_url: str, issuer: str, scale: Scale, say: Callable[[str], None]) -> None:
    """Fill an empty, migrated database, as the owner of its tables."""
    connection: Any = await asyncpg.connect(owner_url)
    try:
        for what, statement, values in _steps(issuer, scale):
            started = time.monotonic()
            status = await connection.execute(statement, *values)
            say(f"  {what}: {status.split()[-1]} rows in {time.monotonic() - started:.1f} s")
        # So that the first questions are planned and answered like the later ones.
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def askers(owner_url: str, issuer: SessionIssuer, count: int) -> Seeded:
    """Sessions for `count` people, spread over the communities, and posts they may read."""
    connection: Any = await asyncpg.connect(owner_url)
    try:
        people = await connection.fetch(
            """
            SELECT DISTINCT ON (m.user_id) m.user_id, m.space_id, h.space_id AS hub
              FROM members m JOIN spaces s ON s.id = m.space_id
              JOIN members h ON h.user_id = m.user_id AND h.kind = 'hub' AND h.role = 'contributor'
             WHERE s.slug LIKE 'community-%' AND substr(m.user_id, 6)::int <= $1
             ORDER BY m.user_id
            """,
            count,
        )
        posts = await connection.fetch(
            """
            SELECT s.id AS space_id,
                   ARRAY(SELECT p.id FROM posts p WHERE p.space_id = s.id AND p.group_id IS NULL
                          ORDER BY p.created_at DESC LIMIT 50) AS posts
              FROM spaces s WHERE s.slug LIKE 'community-%'
            """
        )
        large = await connection.fetchval(
            "SELECT id FROM spaces WHERE kind = 'community' AND slug = 'everybody'"
        )
    finally:
        await connection.close()
    now = time.time()
    return Seeded(
        members=[
            Member(
                row["user_id"],
                issuer.issue(row["user_id"], f"sess_{row['user_id'][5:]}", now=now, lifetime_s=SESSION_S),
                UUID(str(row["space_id"])),
                UUID(str(row["hub"])),
            )
            for row in people
        ],
        posts={UUID(str(row["space_id"])): [UUID(str(post)) for post in row["posts"]] for row in posts},
        large=UUID(str(large)),
    )
