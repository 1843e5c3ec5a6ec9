"""A person's own data in one archive: asked for, gathered by the worker, opened by a signed link."""

import secrets
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall import outbox
from guildhall.db import Db, Read, Write, new_id
from guildhall.errors import NotFound, TooManyRequests
from guildhall.keys import Keys
from guildhall.tokens import Signed
from guildhall.users.accounts import lock_me
from guildhall.users.jobs import ExportAsked
from guildhall.web.caller import Caller

LINK = timedelta(hours=24)
# An archive younger than this answers a new wish, and a wish is given up on when it is this old.
FRESH = timedelta(hours=1)
BATCH = 200
MAX_BYTES = 4 * 1024**3
FILENAME = "guildhall-export.json"

_PAYLOAD_BYTES = 24

# What an archive holds: a name, and the items as JSON in the order of a unique text, from after `$2`.
SECTIONS: tuple[tuple[str, LiteralString], ...] = (
    (
        "account",
        "SELECT id AS key, json_build_object('id', id, 'issuer', issuer, 'displayName', display_name,"
        " 'avatarUrl', avatar_url, 'bio', bio, 'email', email, 'emailVerified', email_verified,"
        " 'phoneNumber', phone_number, 'createdAt', rfc3339(created_at), 'updatedAt', rfc3339(updated_at))"
        " AS item FROM users WHERE id = $1",
    ),
    (
        "sessions",
        "SELECT id AS key, json_build_object('id', id, 'label', label, 'createdAt', rfc3339(created_at),"
        " 'refreshedAt', rfc3339(refreshed_at), 'expiresAt', rfc3339(expires_at),"
        " 'revokedAt', rfc3339(revoked_at)) AS item FROM sessions WHERE user_id = $1",
    ),
    (
        "memberships",
        "SELECT m.space_id::text AS key, json_build_object('spaceId', m.space_id, 'kind', s.kind,"
        " 'name', s.name, 'role', m.role, 'status', m.status, 'joinedAt', rfc3339(m.joined_at),"
        " 'visitedAt', rfc3339(m.visited_at)) AS item"
        " FROM members m JOIN spaces s ON s.id = m.space_id AND s.deleted_at IS NULL WHERE m.user_id = $1",
    ),
    (
        "groups",
        "SELECT gm.group_id::text AS key, json_build_object('groupId', gm.group_id,"
        " 'communityId', gm.space_id, 'name', g.name, 'role', gm.role, 'joinedAt', rfc3339(gm.joined_at))"
        " AS item FROM members m JOIN group_members gm ON gm.space_id = m.space_id AND gm.user_id = m.user_id"
        " JOIN groups g ON g.space_id = gm.space_id AND g.id = gm.group_id"
        " JOIN spaces s ON s.id = m.space_id AND s.deleted_at IS NULL WHERE m.user_id = $1",
    ),
    (
        "posts",
        "SELECT id::text AS key, json_build_object('id', id, 'communityId', space_id, 'groupId', group_id,"
        " 'title', title, 'content', content, 'attachments', attachments, 'createdAt', rfc3339(created_at),"
        " 'updatedAt', rfc3339(updated_at), 'editedAt', rfc3339(edited_at)) AS item"
        " FROM posts WHERE author_id = $1",
    ),
    (
        "memories",
        "SELECT id::text AS key, json_build_object('id', id, 'hubId', space_id, 'title', title,"
        " 'content', content, 'contentType', content_type, 'hint', hint, 'kind', kind, 'tags', tags,"
        " 'source', source, 'speaker', speaker, 'occurredAt', rfc3339(occurred_at),"
        " 'createdAt', rfc3339(created_at), 'updatedAt', rfc3339(updated_at)) AS item"
        " FROM memories WHERE author_id = $1",
    ),
    (
        "topics",
        "SELECT id::text AS key, json_build_object('id', id, 'hubId', space_id, 'parentId', parent_id,"
        " 'name', name, 'description', description, 'createdAt', rfc3339(created_at),"
        " 'archivedAt', rfc3339(archived_at)) AS item FROM topics WHERE owner_id = $1",
    ),
    (
        "topicVisits",
        "SELECT topic_id::text AS key, json_build_object('topicId', topic_id, 'hubId', space_id,"
        " 'visitedAt', rfc3339(visited_at)) AS item FROM topic_visits WHERE user_id = $1",
    ),
    (
        "dreams",
        "SELECT id::text AS key, json_build_object('id', id, 'hubId', space_id, 'status', status,"
        " 'startedAt', rfc3339(started_at), 'finishedAt', rfc3339(finished_at), 'report', report) AS item"
        " FROM dream_runs WHERE asked_by = $1",
    ),
    (
        "dreamDecisions",
        "SELECT id::text AS key, json_build_object('id', id, 'hubId', space_id, 'kind', action_type,"
        " 'status', status, 'decidedByMe', decided_by IS NOT DISTINCT FROM $1,"
        " 'decidedAt', rfc3339(decided_at), 'undoneByMe', undone_by IS NOT DISTINCT FROM $1,"
        " 'undoneAt', rfc3339(undone_at)) AS item FROM dream_actions WHERE decided_by = $1 OR undone_by = $1",
    ),
    (
        "invitesSent",
        "SELECT id::text AS key, json_build_object('id', id, 'spaceId', space_id, 'email', email,"
        " 'role', role, 'createdAt', rfc3339(created_at), 'acceptedAt', rfc3339(accepted_at),"
        " 'revokedAt', rfc3339(revoked_at)) AS item FROM invites WHERE invited_by = $1",
    ),
    (
        "invitesReceived",
        "SELECT i.id::text AS key, json_build_object('id', i.id, 'spaceId', i.space_id, 'role', i.role,"
        " 'createdAt', rfc3339(i.created_at), 'acceptedAt', rfc3339(i.accepted_at)) AS item"
        " FROM users u JOIN invites i ON i.invitee_user_id = u.id"
        "   OR (u.email_verified AND i.email_key = u.email_key) WHERE u.id = $1",
    ),
    (
        "notifications",
        "SELECT id::text AS key, json_build_object('id', id, 'kind', kind, 'spaceId', space_id,"
        " 'status', status, 'resolution', resolution, 'payload', payload - 'space_name',"
        " 'createdAt', rfc3339(created_at), 'seenAt', rfc3339(seen_at)) AS item"
        " FROM notifications WHERE recipient_user_id = $1",
    ),
    (
        "apiKeys",
        "SELECT id::text AS key, json_build_object('id', id, 'name', name, 'agentName', agent_name,"
        " 'scopes', scopes, 'createdAt', rfc3339(created_at), 'expiresAt', rfc3339(expires_at),"
        " 'lastUsedAt', rfc3339(last_used_at), 'revokedAt', rfc3339(revoked_at)) AS item"
        " FROM api_keys WHERE user_id = $1",
    ),
    (
        "settings",
        "SELECT user_id AS key, settings::json AS item FROM person_settings WHERE user_id = $1",
    ),
    (
        "usage",
        "SELECT month::text AS key, json_build_object('month', month, 'pushes', pushes, 'recalls', recalls,"
        " 'asks', asks) AS item FROM usage_months WHERE user_id = $1",
    ),
    (
        "uploads",
        "SELECT id::text AS key, json_build_object('id', id, 'name', name, 'filename', filename,"
        " 'contentType', content_type, 'sizeBytes', size_bytes, 'purpose', purpose,"
        " 'createdAt', rfc3339(created_at)) AS item FROM uploads WHERE user_id = $1",
    ),
    (
        "history",
        "SELECT to_char(id, 'FM0000000000000000000') AS key, json_build_object('at', rfc3339(at),"
        " 'action', action, 'spaceId', space_id, 'byMe', actor IS NOT DISTINCT FROM $1, 'before', before,"
        " 'after', after) AS item FROM audit WHERE actor = $1 OR target = $1",
    ),
)


class Row(msgspec.Struct, frozen=True):
    id: UUID
    requested_at: str
    ready: bool
    fresh: bool


async def ask(tx: Write, caller: Caller) -> Row:
    """The newest archive, or a new wish for one when there is none or it is old.

    Raises TooManyRequests where no new one may be made and none is left to open.
    """
    await lock_me(tx, caller)
    latest = await tx.maybe(
        Row,
        "SELECT id, rfc3339(requested_at) AS requested_at, ready_at IS NOT NULL AS ready,"
        " requested_at > now() - $2::interval AS fresh FROM exports"
        " WHERE user_id = $1 AND coalesce(ready_at, requested_at) > now() - $3::interval"
        " ORDER BY requested_at DESC, id DESC LIMIT 1",
        caller.user,
        FRESH,
        LINK,
    )
    if latest is not None and latest.fresh:
        return latest
    try:
        await caller.service.limiter.take_exact(tx, ("export", caller.user))
    except TooManyRequests:
        if latest is not None and latest.ready:
            return latest
        raise
    row = await tx.one(
        Row,
        "INSERT INTO exports (id, user_id) VALUES ($1, $2)"
        " RETURNING id, rfc3339(requested_at) AS requested_at, false AS ready, true AS fresh",
        new_id(),
        caller.user,
    )
    await outbox.put(tx, ExportAsked(export_id=row.id))
    return row


def _links(keys: Keys) -> Signed:
    return Signed(keys, "export links", "exp_")


def link(keys: Keys, public_url: str, export_id: UUID) -> str:
    """An address that opens the archive for a day from now, by whoever holds it."""
    until = int(time.time() + LINK.total_seconds())
    return f"{public_url}/api/exports/{_links(keys).make(export_id.bytes + until.to_bytes(8))}"


async def find_archive(read: Read, keys: Keys, token: str) -> str:
    """The name of the archive behind a link. Raises NotFound for all that is not one any more."""
    payload = _links(keys).read(token, _PAYLOAD_BYTES)
    if payload is None or int.from_bytes(payload[16:]) < time.time():
        raise NotFound("No such archive, or its link is out of time.")
    name: str | None = await read.value(
        "SELECT e.blob FROM exports e JOIN users u ON u.id = e.user_id AND u.status = 'active'"
        " WHERE e.id = $1 AND e.ready_at IS NOT NULL AND e.ready_at > now() - 2 * $2::interval",
        UUID(bytes=payload[:16]),
        LINK,
    )
    if name is None:
        raise NotFound("No such archive, or its link is out of time.")
    return name


def new_name() -> str:
    """A name nobody guesses. The store knows JSON as text."""
    return f"exports/{secrets.token_hex(16)}.txt"


class _Item(msgspec.Struct, frozen=True):
    key: str
    item: str


async def gather(db: Db, user_id: str) -> AsyncIterator[bytes]:
    """The archive, a batch at a time: no connection is held while a batch is stored."""
    yield b'{"format":"guildhall-export-1"'
    for name, sql in SECTIONS:
        yield b',"' + name.encode() + b'":['
        after, lead = "", b""
        while True:
            async with db.reading() as read:
                items = await read.many(
                    _Item,
                    "SELECT key, item::text FROM (" + sql + ") AS section"
                    ' WHERE key COLLATE "C" > $2 ORDER BY key COLLATE "C" LIMIT $3',
                    user_id,
                    after,
                    BATCH,
                )
            if items:
                yield lead + b",".join(item.item.encode() for item in items)
                after, lead = items[-1].key, b","
            if len(items) < BATCH:
                break
        yield b"]"
    yield b"}"
