"""The floor: what the same rows cost when nothing is checked and nothing stands in between.

A bare ASGI function, one statement on one of the driver's own connections, and the quickest encoder for the
rows that come back. It believes every request, so it is a measure and not a service.
"""

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


class Floor:
    """The application. `author` is who every post is written by."""

    def __init__(self, url: str, author: str) -> None:
        self._url = url
        self._author = author
        # No more requests come at once than there are connections, so nobody has to wait for one.
        self._free: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        path: str = scope["path"]
        connection = self._free.pop()
        try:
            if path.endswith("/members"):
                await self._directory(connection, path.split("/")[3], send)
                return
            if path != "/api/posts":
                body = await self._one(connection, path)
            elif scope["method"] == "POST":
                body = await self._create(connection, receive)
            else:
                query = dict(parse_qsl(scope["query_string"].decode()))
                body = await self._feed(connection, query["communityId"])
        finally:
            self._free.append(connection)
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
        for _ in range(POOL):
            self._free.append(await asyncpg.connect(self._url))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for connection in self._free:
            await connection.close()
        await send({"type": "lifespan.shutdown.complete"})
