"""One function per statement about hubs. Each that serves a person starts from me()."""

from datetime import datetime
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Read, Write
from guildhall.spaces.rules import HubRole
from guildhall.spaces.seats import HubSeat, Place
from guildhall.web.caller import Caller

RESERVED_FOR = "90 days"

HUB: LiteralString = """
    s.id, s.name, s.icon, s.accent, s.slug, s.is_personal, s.plan, s.owner_id, s.allow_contributor_topics,
    s.allow_contributor_dreams, s.contributor_delete_policy, s.header_aurora_mode,
    s.settings::text AS settings, rfc3339(s.created_at) AS created_at, rfc3339(s.updated_at) AS updated_at
"""


class Row(msgspec.Struct, frozen=True):
    """A hub's columns; `settings` is JSON."""

    id: UUID
    name: str
    icon: str | None
    accent: str | None
    slug: str
    is_personal: bool
    plan: str | None
    owner_id: str
    allow_contributor_topics: bool
    allow_contributor_dreams: bool
    contributor_delete_policy: str
    header_aurora_mode: str | None
    settings: str
    created_at: str
    updated_at: str


class Listed(Row, frozen=True, kw_only=True):
    role: HubRole
    memory_count: int


async def list_hubs(read: Read, caller: Caller) -> list[Listed]:
    """The caller's hubs: their own first, then teams by name. Nobody has none, so none means no caller."""
    return await read.many(
        Listed,
        "SELECT " + HUB + ", m.role, s.memory_count"
        " FROM me($1, $2, $3) AS asking JOIN members m ON m.user_id = asking.user_id AND m.status = 'active'"
        " JOIN spaces s ON s.id = m.space_id AND s.kind = 'hub' AND s.deleted_at IS NULL"
        " WHERE reaches($3, m.space_id)"
        " ORDER BY s.is_personal DESC, lower(s.name), s.name, s.id",
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
    """How many team hubs the caller owns, held until the transaction ends. None when they are nobody."""
    return await tx.maybe(Owner, "SELECT user_id, owned FROM lock_owned_hubs($1, $2, $3)", *caller.me)


async def insert_hub(
    tx: Write, hub_id: UUID, owner: str, name: str, slug: str, *, accent: str, plan: str, reserved_word: bool
) -> Row | None:
    """Make a team hub and its owner's membership together; None when the slug is taken.

    A reserved word takes the same way as a slug in use, so that neither can be told from the other.
    """
    return await tx.maybe(
        Row,
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
    """`members` and `transfer` are JSON; the rest is null but `role` for somebody without a seat."""

    user_id: str
    role: HubRole | None
    hub: str | None
    members: str | None
    transfer: str | None
    is_frozen: bool | None


# The wire object of a hub, made by PostgreSQL where it goes out beside long lists.
_HUB_ROW = "(SELECT to_jsonb(row) FROM (SELECT " + HUB + ") AS row)::text"


async def read_detail(read: Read, caller: Caller, wanted: Place) -> Detail | None:
    """A hub with its members by rank and the open transfer. None when the caller is nobody.

    An address is shown to its owner alone; when somebody was last here, to owner and admins.
    """
    return await read.maybe(
        Detail,
        "SELECT seat.user_id, seat.role, " + _HUB_ROW + " AS hub, s.frozen_at IS NOT NULL AS is_frozen,"
        """
               (SELECT json_agg(json_strip_nulls(json_build_object(
                           'hub_id', m.space_id, 'user_id', m.user_id, 'role', m.role,
                           'joined_at', rfc3339(m.joined_at), 'user_name', u.display_name,
                           'user_email', CASE WHEN u.id = seat.user_id THEN coalesce(u.email, '') ELSE '' END,
                           'user_avatar_url', coalesce(u.avatar_url, ''),
                           'last_visited_at', CASE WHEN seat.role IN ('owner', 'admin')
                                                   THEN rfc3339(m.visited_at) END))
                       ORDER BY m.rank, m.joined_at, m.user_id)
                  FROM members m JOIN users u ON u.id = m.user_id
                 WHERE m.space_id = s.id AND m.status = 'active')::text AS members,
               (SELECT json_strip_nulls(json_build_object(
                           'id', t.id, 'hub_id', t.space_id, 'initiated_by', t.initiated_by,
                           'target_user_id', t.target_user_id, 'expires_at', rfc3339(t.expires_at),
                           'created_at', rfc3339(t.created_at), 'target_user_name', u.display_name,
                           'target_user_email', CASE WHEN u.id = seat.user_id THEN u.email END))
                  FROM transfers t JOIN users u ON u.id = t.target_user_id
                 WHERE t.space_id = s.id AND t.accepted_at IS NULL AND t.cancelled_at IS NULL
                   AND t.expires_at > now())::text AS transfer
          FROM hub_seat($1, $2, $3, $4, $5) AS seat LEFT JOIN spaces s ON s.id = seat.space_id
        """,
        *caller.me,
        wanted.space_id,
        wanted.slug,
    )


class Summary(msgspec.Struct, frozen=True):
    """`preview` is JSON, null in a personal hub; all but `user_id` is null for somebody without a seat."""

    user_id: str
    role: HubRole | None
    hub: str | None
    memory_count: int | None
    topic_count: int | None
    unsorted_count: int | None
    member_count: int | None
    preview: str | None
    display_name: str
    visited_at: datetime | None
    now: datetime


async def summarise(read: Read, caller: Caller, wanted: Place) -> Summary | None:
    """A hub in numbers that are kept, never counted. None when the caller is nobody."""
    return await read.maybe(
        Summary,
        "SELECT seat.user_id, seat.role, " + _HUB_ROW + " AS hub, s.memory_count, s.topic_count,"
        """
               s.unsorted_count, s.member_count, seat.visited_at, asking.display_name, now() AS now,
               CASE WHEN NOT s.is_personal THEN
                    (SELECT json_agg(json_strip_nulls(json_build_object(
                                'user_id', first.user_id, 'user_name', u.display_name,
                                'user_avatar_url', u.avatar_url))
                            ORDER BY first.rank, first.joined_at, first.user_id)
                       FROM (SELECT m.user_id, m.rank, m.joined_at FROM members m
                              WHERE m.space_id = s.id AND m.status = 'active'
                              ORDER BY m.rank, m.joined_at, m.user_id LIMIT 3) AS first
                       JOIN users u ON u.id = first.user_id) END::text AS preview
          FROM hub_seat($1, $2, $3, $4, $5) AS seat JOIN users asking ON asking.id = seat.user_id
          LEFT JOIN spaces s ON s.id = seat.space_id
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


async def read_hub(read: Read, space: UUID) -> Row:
    return await read.one(Row, "SELECT " + HUB + " FROM spaces s WHERE s.id = $1", space)


async def claim_slug(tx: Write, seat: HubSeat, slug: str, *, reserved_word: bool) -> bool:
    """Give the hub this slug and keep the former one for it; False when another hub has or keeps it.

    To be undone by the transaction when False.
    """
    await tx.run(
        "UPDATE hub_slugs SET reserved_until = now() + $2::text::interval"
        " WHERE space_id = $1 AND reserved_until IS NULL",
        seat.space,
        RESERVED_FOR,
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


async def update_hub(tx: Write, space: UUID, changes: dict[str, object], settings: str | None) -> Row:
    """Set the columns in `changes` and merge `settings` key by key, null taking one away."""
    return await tx.one(
        Row,
        """
        WITH s AS (
            UPDATE spaces
               SET name = CASE WHEN 'name' = ANY ($2) THEN $3 ELSE name END,
                   slug = CASE WHEN 'slug' = ANY ($2) THEN $4 ELSE slug END,
                   icon = CASE WHEN 'icon' = ANY ($2) THEN $5 ELSE icon END,
                   accent = CASE WHEN 'accent' = ANY ($2) THEN $6 ELSE accent END,
                   allow_contributor_topics = CASE WHEN 'allow_contributor_topics' = ANY ($2)
                                                   THEN $7 ELSE allow_contributor_topics END,
                   allow_contributor_dreams = CASE WHEN 'allow_contributor_dreams' = ANY ($2)
                                                   THEN $8 ELSE allow_contributor_dreams END,
                   contributor_delete_policy = CASE WHEN 'contributor_delete_policy' = ANY ($2)
                                                    THEN $9 ELSE contributor_delete_policy END,
                   header_aurora_mode = CASE WHEN 'header_aurora_mode' = ANY ($2)
                                             THEN $10 ELSE header_aurora_mode END,
                   settings = jsonb_strip_nulls(settings || coalesce($11::jsonb, '{}')),
                   updated_at = now(), version = version + 1
             WHERE id = $1 RETURNING *)
        SELECT """
        + HUB
        + " FROM s",
        space,
        list(changes),
        changes.get("name"),
        changes.get("slug"),
        changes.get("icon"),
        changes.get("accent"),
        changes.get("allow_contributor_topics"),
        changes.get("allow_contributor_dreams"),
        changes.get("contributor_delete_policy"),
        changes.get("header_aurora_mode"),
        settings,
    )


async def delete_hub(tx: Write, space: UUID) -> None:
    """Delete the hub; all that is in it goes by foreign key."""
    await tx.run("DELETE FROM spaces WHERE id = $1", space)


async def is_known(tx: Write, user: str) -> bool:
    """Whether there is a live account of this id."""
    return await tx.value("SELECT EXISTS (SELECT FROM users WHERE id = $1 AND status = 'active')", user)


class Names(msgspec.Struct, frozen=True):
    display_name: str
    email: str | None


async def read_names(tx: Write, user: str) -> Names:
    return await tx.one(Names, "SELECT display_name, email FROM users WHERE id = $1", user)


class InviteView(Row, frozen=True, kw_only=True):
    """An invite as its link shows it, with the hub's columns."""

    invite_id: UUID
    role: str
    status: str
    expired: bool
    expires_at: str
    invited_at: str
    inviter_id: str
    inviter_name: str
    member_count: int


async def find_invite_by_token(read: Read, token_hash: bytes) -> InviteView | None:
    return await read.maybe(
        InviteView,
        "SELECT " + HUB + ", i.id AS invite_id, i.role, invite_status(i) AS status,"
        " i.expires_at <= now() AS expired, rfc3339(i.expires_at) AS expires_at,"
        " rfc3339(i.created_at) AS invited_at, i.invited_by AS inviter_id, u.display_name AS inviter_name,"
        " s.member_count"
        " FROM invites i JOIN spaces s ON s.id = i.space_id JOIN users u ON u.id = i.invited_by"
        " WHERE i.token_hash = $1 AND i.kind = 'hub'",
        token_hash,
    )
