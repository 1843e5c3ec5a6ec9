"""One function per statement about keys and agents."""

from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Read, Write
from guildhall.web.access import Access, TrustLevel
from guildhall.web.caller import Caller

KEY: LiteralString = """
    k.id, k.name, k.prefix, k.scopes, k.atoms, k.trust_level, k.limited, k.agent_name, k.standalone,
    ARRAY(SELECT h.space_id FROM api_key_hubs h WHERE h.key_session = k.session ORDER BY h.position) AS hubs,
    rfc3339(k.created_at) AS created_at, rfc3339(k.expires_at) AS expires_at,
    rfc3339(k.last_used_at) AS last_used_at
"""
# A key and all that were made with it, and with these.
_FAMILY: LiteralString = """
    WITH RECURSIVE family AS (
        SELECT id FROM api_keys WHERE id = $1
        UNION SELECT made.id FROM api_keys made JOIN family ON made.made_by = family.id)
"""


class Key(msgspec.Struct, frozen=True):
    id: UUID
    name: str
    prefix: str
    scopes: list[str]
    atoms: list[str]
    trust_level: TrustLevel
    limited: bool
    agent_name: str | None
    standalone: bool
    hubs: list[UUID]
    created_at: str
    expires_at: str | None
    last_used_at: str | None


async def lock_me(tx: Write, caller: Caller) -> bool:
    """Let nobody else change this person's keys until the transaction ends; False when they are nobody.

    Whether the key that asks still lives is to be asked after it.
    """
    locked = await tx.value(
        "SELECT u.id FROM me($1, $2, $3) AS asking JOIN users u ON u.id = asking.user_id"
        " FOR NO KEY UPDATE OF u",
        *caller.me,
    )
    return locked is not None


async def count_live(tx: Write, user: str) -> int:
    return await tx.value(
        "SELECT count(*) FROM api_keys WHERE user_id = $1 AND revoked_at IS NULL"
        " AND coalesce(expires_at > now(), true)",
        user,
    )


async def count_own_hubs(tx: Write, user: str, hubs: list[UUID]) -> int:
    """How many of these are hubs the person is in; they stay in them until the transaction ends."""
    return await tx.value(
        "SELECT count(*) FROM (SELECT FROM members m JOIN spaces s ON s.id = m.space_id"
        "    AND s.deleted_at IS NULL"
        "  WHERE m.user_id = $1 AND m.space_id = ANY ($2) AND m.kind = 'hub' AND m.status = 'active'"
        "  ORDER BY m.space_id FOR KEY SHARE OF m) AS held",
        user,
        hubs,
    )


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    name: str
    prefix: str
    key_hash: bytes
    scopes: list[str]
    atoms: list[str]
    hubs: list[UUID] | None
    trust_level: TrustLevel
    agent_name: str | None
    standalone: bool
    expires_in_days: int | None


async def insert_key(tx: Write, caller: Caller, key: NewKey) -> Key | None:
    """Make a key; one that a key makes ends with it at the latest. None when the caller is nobody by now."""
    await tx.run(
        """
        WITH maker AS (SELECT id, expires_at FROM api_keys WHERE id = $4),
        made AS (
            INSERT INTO api_keys (id, user_id, limited, name, prefix, key_hash, scopes, atoms, trust_level,
                                  agent_name, standalone, made_by, expires_at)
            SELECT $5, asking.user_id, $6::uuid[] IS NOT NULL, $7, $8, $9, $10, $11, $12, $13, $14, maker.id,
                   least(maker.expires_at, now() + $15::integer * interval '1 day')
              FROM me($1, $2, $3) AS asking LEFT JOIN maker ON true
            RETURNING session, user_id)
        INSERT INTO api_key_hubs (key_session, space_id, user_id, position)
        SELECT made.session, listed.id, made.user_id, listed.position
          FROM made, unnest($6::uuid[]) WITH ORDINALITY AS listed (id, position)
        """,
        *caller.me,
        caller.access.id if caller.access is not None else None,
        key.id,
        key.hubs,
        key.name,
        key.prefix,
        key.key_hash,
        key.scopes,
        key.atoms,
        key.trust_level,
        key.agent_name,
        key.standalone,
        key.expires_in_days,
    )
    return await tx.maybe(Key, "SELECT " + KEY + " FROM api_keys k WHERE k.id = $1", key.id)


class Maker(msgspec.Struct, frozen=True):
    """A key that makes another. What it may reach is as it is now, whatever a process remembers of it."""

    access: Access
    agent_name: str | None


async def read_maker(tx: Write, access: Access) -> Maker:
    row = await tx.one(Key, "SELECT " + KEY + " FROM api_keys k WHERE k.id = $1", access.id)
    hubs = tuple(row.hubs) if row.limited else None
    return Maker(msgspec.structs.replace(access, hubs=hubs), row.agent_name)


async def list_keys(read: Read, caller: Caller) -> list[Key]:
    """Keys that are not revoked, newest first. A key is shown itself and those that were made with it."""
    if caller.access is None:
        return await read.many(
            Key,
            "SELECT " + KEY + " FROM me($1, $2, $3) AS asking JOIN api_keys k ON k.user_id = asking.user_id"
            " WHERE k.revoked_at IS NULL ORDER BY k.created_at DESC, k.id DESC",
            *caller.me,
        )
    return await read.many(
        Key,
        _FAMILY + "SELECT " + KEY + " FROM me($2, $3, $4) AS asking"
        " JOIN api_keys k ON k.user_id = asking.user_id JOIN family ON family.id = k.id"
        " WHERE k.revoked_at IS NULL ORDER BY k.created_at DESC, k.id DESC",
        caller.access.id,
        *caller.me,
    )


async def find_key(tx: Write, caller: Caller, key: UUID) -> Key | None:
    """One of the caller's keys that is not revoked."""
    return await tx.maybe(
        Key,
        "SELECT " + KEY + " FROM me($1, $2, $3) AS asking JOIN api_keys k ON k.user_id = asking.user_id"
        " WHERE k.id = $4 AND k.revoked_at IS NULL",
        *caller.me,
        key,
    )


async def change_key(tx: Write, key: UUID, agent: str | None, standalone: bool) -> None:
    await tx.run("UPDATE api_keys SET agent_name = $2, standalone = $3 WHERE id = $1", key, agent, standalone)


class Revoked(msgspec.Struct, frozen=True):
    id: UUID


async def revoke_key(tx: Write, user: str, key: UUID) -> list[Revoked]:
    """End a key and all that were made with it; answers those that lived."""
    return await tx.many(
        Revoked,
        _FAMILY + "UPDATE api_keys SET revoked_at = now() FROM family"
        " WHERE api_keys.id = family.id AND api_keys.user_id = $2 AND revoked_at IS NULL"
        " RETURNING api_keys.id",
        key,
        user,
    )


class Agent(msgspec.Struct, frozen=True):
    id: UUID
    user_id: str
    agent_name: str
    display_name: str
    icon: str
    created_at: str
    updated_at: str
    key_count: int
    memory_count: int
    last_active_at: str | None


_AGENT: LiteralString = """
    SELECT a.id, a.user_id, a.agent_name, a.display_name, a.icon, rfc3339(a.created_at) AS created_at,
           rfc3339(a.updated_at) AS updated_at, coalesce(k.live, 0) AS key_count,
           (SELECT count(*) FROM members m JOIN spaces s ON s.id = m.space_id AND s.deleted_at IS NULL
                                           JOIN memories kept ON kept.space_id = m.space_id
             WHERE m.user_id = a.user_id AND m.kind = 'hub' AND m.status = 'active'
               AND reaches($3, m.space_id)
               AND kept.author_id = a.user_id AND kept.source_agent = a.agent_name
               AND kept.state <> 'archived') AS memory_count,
           rfc3339(k.last_used_at) AS last_active_at
      FROM me($1, $2, $3) AS asking JOIN agents a ON a.user_id = asking.user_id
      LEFT JOIN LATERAL (
           SELECT count(*) FILTER (WHERE revoked_at IS NULL AND coalesce(expires_at > now(), true)) AS live,
                  max(last_used_at) AS last_used_at
             FROM api_keys WHERE api_keys.user_id = a.user_id AND api_keys.agent_name = a.agent_name) AS k
        ON true
"""


async def list_agents(read: Read, caller: Caller) -> list[Agent]:
    """The caller's agents, the latest active first."""
    return await read.many(
        Agent, _AGENT + " ORDER BY k.last_used_at DESC NULLS LAST, a.agent_name", *caller.me
    )


async def find_agent(read: Read, caller: Caller, name: str) -> Agent | None:
    return await read.maybe(Agent, _AGENT + " WHERE a.agent_name = $4", *caller.me, name)


async def know_agent(tx: Write, agent_id: UUID, user: str, name: str, title: str) -> None:
    """Note an agent, unless it is known."""
    await tx.run(
        "INSERT INTO agents (id, user_id, agent_name, display_name) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (user_id, agent_name) DO NOTHING",
        agent_id,
        user,
        name,
        title,
    )


async def change_agent(
    tx: Write, caller: Caller, name: str, display_name: str | None, icon: str | None
) -> bool:
    changed = await tx.run(
        "UPDATE agents SET display_name = coalesce($5, display_name), icon = coalesce($6, icon),"
        " updated_at = now() FROM me($1, $2, $3) AS asking"
        " WHERE agents.user_id = asking.user_id AND agents.agent_name = $4",
        *caller.me,
        name,
        display_name,
        icon,
    )
    return changed == 1


async def list_keys_of_agent(tx: Write, user: str, name: str) -> list[Revoked]:
    return await tx.many(
        Revoked,
        "SELECT id FROM api_keys WHERE user_id = $1 AND agent_name = $2 AND revoked_at IS NULL",
        user,
        name,
    )


async def forget_agent(tx: Write, user: str, name: str) -> bool:
    return await tx.run("DELETE FROM agents WHERE user_id = $1 AND agent_name = $2", user, name) == 1
