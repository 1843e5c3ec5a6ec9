"""The floor: what the same rows cost when nothing is checked and nothing stands in between.

A bare ASGI function, one statement through the driver's own pool, as its documentation shows it, and the
quickest encoder for the rows that come back. It believes every request, so it is a measure and not a service.

Without the pool it is barer still: some connections in a list, which the first one that is lost would bring
down. It tells how much of the floor is the pool.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, LiteralString
from urllib.parse import parse_qsl
from uuid import uuid4

import asyncpg
import msgspec

POOL = 10
DIRECTORY_BATCH = 500

_POST: LiteralString = (
    "p.id, p.space_id, p.group_id, u.id, u.display_name, u.avatar_url, p.title, p.content, p.attachments,"
    " p.is_pinned, p.created_at, p.updated_at, p.edited_at"
)
FEED: LiteralString = (
    "SELECT " + _POST + ", s.post_count"
    "  FROM spaces s JOIN posts p ON p.space_id = s.id JOIN users u ON u.id = p.author_id"
    " WHERE s.id = $1 AND p.group_id IS NULL"
    " ORDER BY p.is_pinned DESC, p.created_at DESC, p.id DESC LIMIT 21"
)
POST: LiteralString = "SELECT " + _POST + " FROM posts p JOIN users u ON u.id = p.author_id WHERE p.id = $1"
CREATE: LiteralString = (
    "WITH p AS (INSERT INTO posts (id, space_id, author_id, content) VALUES ($1, $2, $3, $4) RETURNING *)"
    " SELECT " + _POST + " FROM p JOIN users u ON u.id = p.author_id"
)
COMMUNITY: LiteralString = (
    "SELECT id, name, slug, description, is_private, logo_url, cover_image_url, owner_id, member_count,"
    " created_at, updated_at FROM spaces WHERE id = $1"
)
PROFILE: LiteralString = "SELECT id, display_name, avatar_url, bio FROM users WHERE id = $1"
MEMBERS: LiteralString = (
    "SELECT m.user_id, u.display_name, u.avatar_url, u.bio, m.role, m.status, m.joined_at"
    "  FROM members m JOIN users u ON u.id = m.user_id"
    " WHERE m.space_id = $1 ORDER BY m.rank, m.sort_name, m.user_id"
)

_HUB: LiteralString = (
    "s.id, s.name, s.icon, s.accent, s.slug, s.plan, s.owner_id, s.allow_contributor_topics,"
    " s.allow_contributor_dreams, s.contributor_delete_policy, s.created_at, s.updated_at, s.is_personal"
)
HUBS: LiteralString = (
    "SELECT " + _HUB + ", m.role, s.memory_count FROM members m JOIN spaces s ON s.id = m.space_id"
    " WHERE m.user_id = $1 AND m.kind = 'hub' ORDER BY s.is_personal DESC,"
    " lower(s.name), s.name, s.id"
)
SUMMARY: LiteralString = (
    "SELECT " + _HUB + ", m.role, s.memory_count, s.topic_count, s.unsorted_count, s.member_count,"
    " (SELECT json_agg(json_build_object('user_id', f.user_id, 'user_name', u.display_name) ORDER BY f.n)"
    "    FROM (SELECT user_id, row_number() OVER (ORDER BY rank, sort_name, user_id) AS n FROM members"
    "           WHERE space_id = s.id ORDER BY rank, sort_name, user_id LIMIT 3) AS f"
    "    JOIN users u ON u.id = f.user_id)"
    "  FROM spaces s JOIN members m ON m.space_id = s.id AND m.user_id = $2 WHERE s.id = $1"
)
DETAIL: LiteralString = (
    "SELECT " + _HUB + ", (SELECT json_agg(json_build_object('user_id', m.user_id, 'role', m.role,"
    " 'user_name', u.display_name) ORDER BY m.rank, m.joined_at, m.user_id)"
    " FROM members m JOIN users u ON u.id = m.user_id WHERE m.space_id = s.id)"
    "  FROM spaces s WHERE s.id = $1"
)
# What taking an invite comes to.
ACCEPT: tuple[LiteralString, ...] = (
    "SELECT id, space_id, role FROM invites WHERE token_hash = $1 AND accepted_at IS NULL FOR UPDATE",
    "UPDATE invites SET accepted_at = now(), accepted_by = $2 WHERE id = $1",
    "INSERT INTO members (space_id, kind, user_id, role) VALUES ($1, 'hub', $2, $3)",
)

_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")


def _post(row: Sequence[Any]) -> dict[str, Any]:
    return {
        "id": row[0],
        "communityId": row[1],
        "groupId": row[2],
        "author": {"id": row[3], "displayName": row[4], "avatarUrl": row[5]},
        "title": row[6],
        "content": row[7],
        "attachments": row[8],
        "isPinned": row[9],
        "createdAt": row[10],
        "updatedAt": row[11],
        "editedAt": row[12],
    }


def _member(row: Sequence[Any]) -> dict[str, Any]:
    return {
        "userId": row[0],
        "displayName": row[1],
        "avatarUrl": row[2],
        "bio": row[3],
        "role": row[4],
        "status": row[5],
        "joinedAt": row[6],
    }


def _hub(row: Sequence[Any]) -> dict[str, Any]:
    hub = {
        "id": row[0],
        "name": row[1],
        "icon": row[2],
        "accent": row[3],
        "slug": row[4],
        "hub_type": "personal" if row[12] else "team",
        "plan": row[5],
        "owner_id": row[6],
        "allow_contributor_topics": row[7],
        "allow_contributor_dreams": row[8],
        "contributor_delete_policy": row[9],
        "created_at": row[10],
        "updated_at": row[11],
    }
    return {name: value for name, value in hub.items() if value is not None}


class _List:
    """Connections in a list. No more requests come at once than there are, so nobody has to wait for one."""

    def __init__(self, connections: list[Any]) -> None:
        self._free = connections

    def acquire(self) -> "_Taken":
        return _Taken(self._free)

    async def close(self) -> None:
        for connection in self._free:
            await connection.close()


class _Taken:
    __slots__ = ("_connection", "_free")

    def __init__(self, free: list[Any]) -> None:
        self._free = free

    async def __aenter__(self) -> Any:
        self._connection = connection = self._free.pop()
        return connection

    async def __aexit__(self, *_: object) -> None:
        self._free.append(self._connection)


def _asker(scope: Any) -> str:
    """Who says they ask. It is believed."""
    return next(value.decode() for name, value in scope["headers"] if name == b"x-asker")


class Floor:
    """The application. `author` is who every post is written by."""

    def __init__(self, url: str, author: str, *, pooled: bool) -> None:
        self._url = url
        self._author = author
        self._pooled = pooled
        self._pool: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path: str = scope["path"]
        async with self._pool.acquire() as connection:
            if path.endswith("/members"):
                await self._directory(connection, path.split("/")[3], send)
                return
            if path.startswith("/v1/"):
                body = await self._hubs(connection, path, _asker(scope))
            elif path != "/api/posts":
                body = await self._one(connection, path)
            elif scope["method"] == "POST":
                body = await self._create(connection, receive)
            else:
                query = dict(parse_qsl(scope["query_string"].decode()))
                body = await self._feed(connection, query["communityId"])
        headers = [_JSON, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _feed(self, connection: Any, space_id: str) -> bytes:
        rows = await connection.fetch(FEED, space_id)
        return _encode(
            {
                "items": [_post(row) for row in rows[:20]],
                "page": 1,
                "limit": 20,
                "total": rows[0][13] if rows else 0,
                "hasMore": len(rows) > 20,
                "nextCursor": None,
            }
        )

    async def _one(self, connection: Any, path: str) -> bytes:
        kind, wanted = path.split("/")[2:4]
        if kind == "posts":
            return _encode(_post(await connection.fetchrow(POST, wanted)))
        if kind == "members":
            row = await connection.fetchrow(PROFILE, wanted)
            return _encode({"id": row[0], "displayName": row[1], "avatarUrl": row[2], "bio": row[3]})
        row = await connection.fetchrow(COMMUNITY, wanted)
        return _encode(
            {
                "id": row[0],
                "name": row[1],
                "slug": row[2],
                "description": row[3],
                "isPrivate": row[4],
                "logoUrl": row[5],
                "coverImageUrl": row[6],
                "ownerId": row[7],
                "memberCount": row[8],
                "streamChannelId": row[0],
                "createdAt": row[9],
                "updatedAt": row[10],
            }
        )

    async def _create(self, connection: Any, receive: Any) -> bytes:
        wanted = msgspec.json.decode((await receive())["body"])
        row = await connection.fetchrow(
            CREATE, uuid4(), wanted["communityId"], self._author, wanted["content"]
        )
        return _encode(_post(row))

    async def _hubs(self, connection: Any, path: str, user: str) -> bytes:
        kind, *wanted = path.split("/")[2:]
        if kind == "invites":
            return await self._accept(connection, wanted[0], user)
        if not wanted:
            rows = await connection.fetch(HUBS, user)
            return _encode(
                {"data": [{"hub": _hub(row), "role": row[13], "memory_count": row[14]} for row in rows]}
            )
        if len(wanted) == 1:
            row = await connection.fetchrow(DETAIL, wanted[0])
            return _encode({"data": {"hub": _hub(row), "members": msgspec.Raw(row[13].encode())}})
        row = await connection.fetchrow(SUMMARY, wanted[0], user)
        stats = {"memories": row[14], "topics": row[15], "inbox": row[16], "members": row[17]}
        preview = msgspec.Raw(row[18].encode())
        summary = {"hub": _hub(row), "role": row[13], "stats": stats, "members_preview": preview}
        return _encode({"data": summary})

    async def _accept(self, connection: Any, token: str, user: str) -> bytes:
        find, consume, join = ACCEPT
        async with connection.transaction():
            invite, hub, role = await connection.fetchrow(find, hashlib.sha256(token.encode()).digest())
            await connection.execute(consume, invite, user)
            await connection.execute(join, hub, user, role)
        return _encode({"data": {"role": role}})

    async def _directory(
        self, connection: Any, space_id: str, send: Callable[[Any], Awaitable[None]]
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [_JSON]})
        async with connection.transaction(readonly=True):
            rows = await connection.cursor(MEMBERS, space_id)
            lead = b'{"items":['
            while batch := await rows.fetch(DIRECTORY_BATCH):
                # Without the brackets of the list.
                part = lead + _encode([_member(row) for row in batch])[1:-1]
                await send({"type": "http.response.body", "body": part, "more_body": True})
                lead = b","
        await send({"type": "http.response.body", "body": b"]}", "more_body": False})

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        if self._pooled:
            self._pool = await asyncpg.create_pool(self._url, min_size=POOL, max_size=POOL)
        else:
            self._pool = _List([await asyncpg.connect(self._url) for _ in range(POOL)])
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._pool.close()
        await send({"type": "lifespan.shutdown.complete"})
