"""What operators do with communities of others: look for one, and bring a deleted one back."""

from uuid import UUID

import msgspec

from guildhall import outbox
from guildhall.db import Read, Write
from guildhall.errors import NotFound
from guildhall.spaces import audit, slugs
from guildhall.spaces.jobs import SpaceChanged
from guildhall.spaces.members import like


class Listed(msgspec.Struct, frozen=True):
    id: UUID
    slug: str
    name: str
    owner_id: str
    member_count: int
    at: str


async def list_communities(read: Read, *, words: str | None, deleted: bool, limit: int) -> list[Listed]:
    """Live ones by when something was last written, or those that can be brought back by when they went."""
    return await read.many(
        Listed,
        "SELECT id, slug, name, owner_id, member_count, rfc3339(coalesce(deleted_at, last_active_at)) AS at"
        "  FROM spaces WHERE kind = 'community'"
        "   AND CASE WHEN $2 THEN deleted_at > now() - interval '30 days' ELSE deleted_at IS NULL END"
        "   AND ($1::text IS NULL OR lower(name) LIKE $1 OR slug LIKE $1 OR id::text LIKE $1)"
        " ORDER BY coalesce(deleted_at, last_active_at) DESC LIMIT $3",
        like(words.lower()) if words else None,
        deleted,
        limit,
    )


class Restored(msgspec.Struct, frozen=True):
    id: UUID
    name: str
    slug: str


async def restore_community(tx: Write, wanted: str) -> Restored:
    """Bring a deleted community back, by its id or its slug: of several of one slug the one that went last.

    Its slug is varied when another has it by now. Members, posts and groups are as they were; its channels
    are made anew, without their messages. Raises NotFound.
    """
    found = await tx.maybe(
        Restored,
        "SELECT id, name, slug FROM spaces WHERE kind = 'community' AND (id::text = lower($1) OR slug = $1)"
        " AND deleted_at > now() - interval '30 days' ORDER BY deleted_at DESC LIMIT 1 FOR UPDATE",
        wanted,
    )
    if found is None:
        raise NotFound("No community by this id or slug was deleted within the last 30 days.")
    taken = await tx.value(
        "SELECT EXISTS (SELECT FROM spaces WHERE kind = 'community' AND slug = $1 AND deleted_at IS NULL)",
        found.slug,
    )
    slug = slugs.vary(found.slug) if taken else found.slug
    await tx.run(
        "UPDATE spaces SET deleted_at = NULL, deleted_by = NULL, slug = $2, version = version + 1"
        " WHERE id = $1",
        found.id,
        slug,
    )
    await audit.record(tx, None, "community.restore", space=found.id)
    await outbox.put(tx, SpaceChanged(space_id=found.id))
    return Restored(found.id, found.name, slug)
