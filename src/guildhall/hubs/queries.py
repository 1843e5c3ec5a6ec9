"""One function per statement about hubs. Each that serves a person starts from me()."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import LiteralString, TypeAlias
from uuid import UUID

import msgspec

from guildhall.db import Db, Read, Write
from guildhall.spaces.rules import HubRole
from guildhall.spaces.seats import HubSeat, Place
from guildhall.web.caller import Caller

RESERVED_FOR = "90 days"
# So many former slugs does a hub keep from others; who changes it more often lets go of the oldest.
FORMER_SLUGS = 10

# A hub `s` as clients see it.
HUB: LiteralString = """json_strip_nulls(json_build_object(
    'id', s.id, 'name', s.name, 'icon', s.icon, 'accent', s.accent, 'slug', s.slug,
    'hub_type', CASE WHEN s.is_personal THEN 'personal' ELSE 'team' END, 'plan', s.plan,
    'owner_id', s.owner_id, 'allow_contributor_topics', s.allow_contributor_topics,
    'allow_contributor_dreams', s.allow_contributor_dreams,
    'contributor_delete_policy', s.contributor_delete_policy, 'header_aurora_mode', s.header_aurora_mode,
    'language', s.language,
    'settings', nullif(s.settings, '{}'), 'created_at', rfc3339(s.created_at),
    'updated_at', rfc3339(s.updated_at)))::text"""


async def list_hubs(read: Read, caller: Caller) -> str | None:
    """The caller's hubs as a JSON array: their own first, then teams by name. None when they are nobody."""
    return await read.value(
        "SELECT '[' || coalesce(listed.rows, '') || ']' FROM me($1, $2, $3) AS asking LEFT JOIN LATERAL ("
        " SELECT string_agg('{\"hub\":' || " + HUB + ' || \',"role":"\' || m.role'
        "          || '\",\"memory_count\":' || s.memory_count || '}', ','"
        "          ORDER BY s.is_personal DESC, lower(s.name), s.name, s.id) AS rows"
        "   FROM members m JOIN spaces s ON s.id = m.space_id AND s.deleted_at IS NULL"
        "  WHERE m.user_id = asking.user_id AND m.kind = 'hub' AND m.status = 'active'"
        "    AND reaches($3, m.space_id)"
        " ) AS listed ON true",
        *caller.me,
    )


async def is_slug_taken(read: Read, caller: Caller, slug: str) -> bool | None:
    """Whether a hub has this slug or it is reserved for one; None when the caller is nobody."""
    return await read.value(
        "SELECT EXISTS (SELECT FROM hub_slugs WHERE slug = $4 AND coalesce(reserved_until > now(), true))"
        " FROM me($1, $2, $3)",
        *caller.me,
        slug,
    )


class Owner(msgspec.Struct, frozen=True):
    user_id: str
    owned: int


async def lock_owned(tx: Write, caller: Caller) -> Owner | None:
    """How many team hubs on the free plan the caller owns, held until the transaction ends.

    None when the caller is nobody.
    """
    return await tx.maybe(Owner, "SELECT user_id, owned FROM lock_owned_hubs($1, $2, $3)", *caller.me)


async def insert_hub(
    tx: Write, hub_id: UUID, owner: str, name: str, slug: str, *, accent: str, plan: str, reserved_word: bool
) -> str | None:
    """Make a team hub and its owner's membership together; None when the slug is taken.

    A reserved word takes the same way as a slug in use, so that neither can be told from the other.
    """
    return await tx.value(
        """
        WITH claimed AS (
            INSERT INTO hub_slugs (slug, space_id) SELECT $4, $1 WHERE NOT $7
            ON CONFLICT (slug) DO UPDATE SET space_id = excluded.space_id, reserved_until = NULL
             WHERE hub_slugs.reserved_until <= now()
            RETURNING space_id),
        made AS (
            INSERT INTO spaces (id, kind, owner_id, name, slug, accent, plan)
            SELECT space_id, 'hub', $2, $3, $4, $5, $6 FROM claimed
            RETURNING *),
        joined AS (
            INSERT INTO members (space_id, kind, user_id, role) SELECT id, 'hub', $2, 'owner' FROM made)
        SELECT """
        + HUB
        + " FROM made s",
        hub_id,
        owner,
        name,
        slug,
        accent,
        plan,
        reserved_word,
    )


class Detail(msgspec.Struct, frozen=True):
    """All but `user_id` is null for somebody without a seat.

    `hub` and `transfer` are JSON, `members` is a part of a list, as JSON without its brackets, and `last` is
    where the next part goes on; null when that was all.
    """

    user_id: str
    role: HubRole | None
    hub: str | None
    owner_name: str | None
    member_count: int | None
    members: str | None
    last: str | None
    transfer: str | None
    is_frozen: bool | None


# Where a part of a hub's members begins: after this rank, this time of joining, this person.
After: TypeAlias = tuple[int, datetime, str]
FROM_THE_FIRST: After = (-1, datetime(1970, 1, 1, tzinfo=UTC), "")
BATCH = 500


async def read_detail(
    read: Read, caller: Caller, wanted: Place, after: After = FROM_THE_FIRST, most: int = BATCH
) -> Detail | None:
    """A hub with the open transfer and the first `most` of its members by rank, or those that follow `after`.

    None when the caller is nobody. An address is shown to its owner alone; when somebody was last here, to
    owner and admins.
    """
    return await read.maybe(
        Detail,
        """
        WITH seat AS MATERIALIZED (SELECT * FROM hub_seat($1, $2, $3, $4, $5)),
        part AS MATERIALIZED (
            SELECT m.rank, m.joined_at, m.user_id, m.n, json_strip_nulls(json_build_object(
                       'hub_id', m.space_id, 'user_id', m.user_id, 'role', m.role,
                       'joined_at', rfc3339(m.joined_at), 'user_name', u.display_name,
                       'user_email', CASE WHEN u.id = seat.user_id THEN coalesce(u.email, '') ELSE '' END,
                       'user_avatar_url', coalesce(u.avatar_url, ''),
                       'last_visited_at', CASE WHEN seat.role IN ('owner', 'admin')
                                               THEN rfc3339(m.visited_at) END))::text AS item
              FROM seat CROSS JOIN (
                    -- By themselves and in the order of their index, so that no part reads what is in others.
                    SELECT *, row_number() OVER (ORDER BY rank, joined_at, user_id) AS n FROM members
                     WHERE space_id = (SELECT space_id FROM seat) AND kind = 'hub' AND status = 'active'
                       AND (rank, joined_at, user_id) > ($6::int, $7::timestamptz, $8::text)
                     ORDER BY rank, joined_at, user_id LIMIT $9 + 1) AS m
              JOIN users u ON u.id = m.user_id)
        SELECT seat.user_id, seat.role, """
        + HUB
        + """ AS hub, seat.member_count, s.frozen_at IS NOT NULL AS is_frozen,
               (SELECT display_name FROM users WHERE users.id = seat.owner_id) AS owner_name,
               (SELECT string_agg(item, ',' ORDER BY n) FROM part WHERE n <= $9) AS members,
               (SELECT json_build_array(rank, joined_at, user_id)::text FROM part
                 WHERE n = $9 AND EXISTS (SELECT FROM part WHERE n > $9)) AS last,
               (SELECT json_strip_nulls(json_build_object(
                           'id', t.id, 'hub_id', t.space_id, 'initiated_by', t.initiated_by,
                           'target_user_id', t.target_user_id, 'expires_at', rfc3339(t.expires_at),
                           'created_at', rfc3339(t.created_at), 'target_user_name', u.display_name,
                           'target_user_email', CASE WHEN u.id = seat.user_id THEN u.email END))
                  FROM transfers t JOIN users u ON u.id = t.target_user_id
                 WHERE t.space_id = s.id AND t.accepted_at IS NULL AND t.cancelled_at IS NULL
                   AND t.expires_at > now())::text AS transfer
          FROM seat LEFT JOIN spaces s ON s.id = seat.space_id
        """,
        *caller.me,
        wanted.space_id,
        wanted.slug,
        *after,
        most,
    )


async def every_member(db: Db, caller: Caller, wanted: Place, first: Detail) -> AsyncIterator[list[bytes]]:
    """All members as JSON, from the part that `first` has, in memory that does not grow with their number.

    No connection is held while a part is sent, since a reader may take any time over it. Who is not in the
    hub any more by then gets no further.
    """
    detail: Detail | None = first
    while detail is not None and detail.members is not None:
        yield [detail.members.encode()]
        if detail.last is None:
            return
        after = msgspec.json.decode(detail.last, type=After)
        async with db.reading() as read:
            detail = await read_detail(read, caller, wanted, after)


class Summary(msgspec.Struct, frozen=True):
    """`hub` and `preview` are JSON, `preview` null in a personal hub.

    Without a seat all is null but who asks and when.
    """

    user_id: str
    role: HubRole | None
    hub_id: str | None
    hub: str | None
    is_personal: bool | None
    memory_count: int | None
    topic_count: int | None
    unsorted_count: int | None
    member_count: int | None
    preview: str | None
    display_name: str
    visited_at: datetime | None
    now: datetime
    pending_review: int
    dream_topics: int
    team_activity: int


async def summarise(read: Read, caller: Caller, wanted: Place) -> Summary | None:
    """A hub in numbers that are kept, never counted. None when the caller is nobody."""
    return await read.maybe(
        Summary,
        "SELECT seat.user_id, seat.role, s.id::text AS hub_id, " + HUB + " AS hub, s.is_personal,"
        """
               s.memory_count, s.topic_count, s.unsorted_count, s.member_count, seat.visited_at,
               asking.display_name, now() AS now, pulse.pending_review, pulse.dream_topics,
               pulse.team_activity,
               CASE WHEN NOT s.is_personal THEN
                    (SELECT json_agg(json_strip_nulls(json_build_object(
                                'user_id', first.user_id, 'user_name', u.display_name,
                                'user_avatar_url', u.avatar_url))
                            ORDER BY first.rank, first.sort_name, first.user_id)
                       FROM (SELECT m.user_id, m.rank, m.sort_name FROM members m
                              WHERE m.space_id = s.id AND m.status = 'active'
                              ORDER BY m.rank, m.sort_name, m.user_id LIMIT 3) AS first
                       JOIN users u ON u.id = first.user_id) END::text AS preview
          FROM hub_seat($1, $2, $3, $4, $5) AS seat JOIN users asking ON asking.id = seat.user_id
          LEFT JOIN spaces s ON s.id = seat.space_id
          CROSS JOIN LATERAL hub_pulse(seat.space_id, seat.user_id, seat.role) AS pulse
        """,
        *caller.me,
        wanted.space_id,
        wanted.slug,
    )


class Visited(msgspec.Struct, frozen=True):
    user_id: str
    space_id: UUID | None
    role: HubRole | None


async def visit(tx: Write, caller: Caller, wanted: Place) -> Visited | None:
    """Note that the caller was here now. None when they are nobody."""
    return await tx.maybe(
        Visited,
        """
        WITH seat AS MATERIALIZED (SELECT user_id, space_id, role FROM hub_seat($1, $2, $3, $4, $5)),
        noted AS (
            UPDATE members SET visited_at = now() FROM seat
             WHERE members.space_id = seat.space_id AND members.user_id = seat.user_id)
        SELECT user_id, space_id, role FROM seat
        """,
        *caller.me,
        wanted.space_id,
        wanted.slug,
    )


async def read_hub(read: Read, space: UUID) -> str:
    return await read.value("SELECT " + HUB + " FROM spaces s WHERE s.id = $1", space)


async def claim_slug(tx: Write, seat: HubSeat, slug: str, *, reserved_word: bool) -> bool:
    """Give the hub this slug and keep the former one for it; False when another hub has or keeps it.

    To be undone by the transaction when False.
    """
    await tx.run(
        """
        WITH oldest AS (
            DELETE FROM hub_slugs WHERE slug IN (
                SELECT slug FROM hub_slugs WHERE space_id = $1 AND reserved_until IS NOT NULL AND slug <> $3
                 ORDER BY reserved_until DESC OFFSET $4))
        UPDATE hub_slugs SET reserved_until = now() + $2::text::interval
         WHERE space_id = $1 AND reserved_until IS NULL
        """,
        seat.space,
        RESERVED_FOR,
        slug,
        FORMER_SLUGS - 1,
    )
    claimed = await tx.value(
        """
        INSERT INTO hub_slugs (slug, space_id) SELECT $2, $1 WHERE NOT $3
        ON CONFLICT (slug) DO UPDATE SET space_id = excluded.space_id, reserved_until = NULL
         WHERE hub_slugs.space_id = $1 OR hub_slugs.reserved_until <= now()
        RETURNING true
        """,
        seat.space,
        slug,
        reserved_word,
    )
    return claimed is not None


async def update_hub(tx: Write, space: UUID, changes: dict[str, object], settings: str | None) -> str:
    """Set the columns in `changes` and merge `settings` key by key, null taking one away.

    The hub is locked, so what is read of it here is what is there.
    """
    return await tx.value(
        """
        WITH wanted AS (
            SELECT (jsonb_populate_record(spaces, $2::text::jsonb)).* FROM spaces WHERE id = $1),
        s AS (
            UPDATE spaces
               SET name = wanted.name, slug = wanted.slug, icon = wanted.icon, accent = wanted.accent,
                   allow_contributor_topics = wanted.allow_contributor_topics,
                   allow_contributor_dreams = wanted.allow_contributor_dreams,
                   contributor_delete_policy = wanted.contributor_delete_policy,
                   header_aurora_mode = wanted.header_aurora_mode, language = wanted.language,
                   settings = jsonb_strip_nulls(spaces.settings || coalesce($3::text::jsonb, '{}')),
                   updated_at = now(), version = spaces.version + 1
              FROM wanted WHERE spaces.id = wanted.id RETURNING spaces.*)
        SELECT """
        + HUB
        + " FROM s",
        space,
        msgspec.json.encode(changes).decode(),
        settings,
    )


async def delete_hub(tx: Write, space: UUID) -> None:
    """Delete the hub with all that is in it; of a large one a job removes the rest, which nobody sees."""
    await tx.value("SELECT remove_space($1)", space)


class Candidate(msgspec.Struct, frozen=True):
    is_known: bool
    is_member: bool


async def look_at(tx: Write, seat: HubSeat, user: str) -> Candidate:
    """Whether there is a live account of this id, and whether it is a member of the seat's hub."""
    return await tx.one(
        Candidate,
        "SELECT EXISTS (SELECT FROM users WHERE id = $2 AND status = 'active') AS is_known,"
        " EXISTS (SELECT FROM members WHERE space_id = $1 AND user_id = $2) AS is_member",
        seat.space,
        user,
    )


async def list_member_ids(tx: Write, space: UUID) -> list[str]:
    return await tx.value(
        "SELECT array_agg(user_id ORDER BY user_id) FROM members WHERE space_id = $1", space
    )


class Names(msgspec.Struct, frozen=True):
    display_name: str
    email: str | None


async def read_names(tx: Write, user: str) -> Names:
    return await tx.one(Names, "SELECT display_name, email FROM users WHERE id = $1", user)


class InviteView(msgspec.Struct, frozen=True):
    """An invite as its link shows it; `hub` is JSON."""

    invite_id: str
    hub_id: str
    role: HubRole
    status: str
    expired: bool
    expires_at: str
    created_at: str
    invited_by: str
    inviter_name: str
    member_count: int
    hub: str


async def find_invite_by_token(read: Read, token_hash: bytes) -> InviteView | None:
    return await read.maybe(
        InviteView,
        "SELECT i.id::text AS invite_id, s.id::text AS hub_id, i.role, invite_status(i) AS status,"
        " i.expires_at <= now() AS expired, rfc3339(i.expires_at) AS expires_at,"
        " rfc3339(i.created_at) AS created_at, i.invited_by, u.display_name AS inviter_name, s.member_count,"
        " json_strip_nulls(json_build_object('id', s.id, 'name', s.name, 'slug', s.slug, 'hub_type', 'team',"
        "  'owner_id', s.owner_id, 'icon', s.icon, 'accent', s.accent))::text AS hub"
        " FROM invites i JOIN spaces s ON s.id = i.space_id JOIN users u ON u.id = i.invited_by"
        " WHERE i.token_hash = $1 AND i.kind = 'hub'",
        token_hash,
    )
