"""One function per statement about uploads."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from guildhall.db import Read, Write
from guildhall.uploads.schemas import Purpose
from guildhall.web.caller import Caller


async def insert_upload(
    tx: Write,
    caller: Caller,
    upload_id: UUID,
    *,
    name: str,
    filename: str,
    content_type: str,
    size_bytes: int,
    purpose: Purpose | Literal["memory"],
) -> datetime | None:
    """When the upload must have begun; None when the caller is nobody."""
    return await tx.value(
        "INSERT INTO uploads (id, user_id, name, filename, content_type, size_bytes, purpose)"
        " SELECT $4, asking.user_id, $5, $6, $7, $8, $9 FROM me($1, $2, $3) AS asking"
        " RETURNING created_at + interval '15 minutes'",
        *caller.me,
        upload_id,
        name,
        filename,
        content_type,
        size_bytes,
        purpose,
    )


class Claim(msgspec.Struct, frozen=True):
    """An upload somebody wants to fill; `claimed` says whether it is theirs now."""

    name: str
    content_type: str
    size_bytes: int
    open: bool
    unused: bool
    claimed: bool


async def claim_upload(tx: Write, upload_id: UUID, size_bytes: int, content_type: str | None) -> Claim | None:
    """Take the upload, which can be done once; nothing is taken where the announced bytes do not fit."""
    return await tx.maybe(
        Claim,
        """
        WITH wanted AS (
            SELECT up.id, up.name, up.content_type, up.size_bytes, up.claimed_at IS NULL AS unused,
                   up.created_at > now() - interval '15 minutes' AS open
              FROM uploads up JOIN users u ON u.id = up.user_id AND u.status = 'active' WHERE up.id = $1),
        claimed AS (
            UPDATE uploads up SET claimed_at = now() FROM wanted
             WHERE up.id = wanted.id AND up.claimed_at IS NULL AND wanted.open AND wanted.size_bytes >= $2
               AND ($3::text IS NULL OR $3 = wanted.content_type)
            RETURNING up.id)
        SELECT name, content_type, size_bytes, open, unused, EXISTS (SELECT FROM claimed) AS claimed
          FROM wanted
        """,
        upload_id,
        size_bytes,
        content_type,
    )


async def mark_stored(tx: Write, upload_id: UUID, size_bytes: int, sha256: str) -> bool:
    """False when the upload is gone, as after its person was erased."""
    stored = await tx.run(
        "UPDATE uploads SET stored_at = now(), size_bytes = $2, sha256 = $3"
        " WHERE id = $1 AND stored_at IS NULL",
        upload_id,
        size_bytes,
        bytes.fromhex(sha256),
    )
    return stored == 1


class File(msgspec.Struct, frozen=True):
    filename: str
    content_type: str


async def find_file(read: Read, name: str) -> File | None:
    return await read.maybe(
        File,
        # Files of memories are for those who read them, not for whoever knows the name.
        "SELECT filename, content_type FROM uploads"
        " WHERE name = $1 AND stored_at IS NOT NULL AND purpose <> 'memory'",
        name,
    )
