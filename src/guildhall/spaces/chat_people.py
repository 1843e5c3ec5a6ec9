"""People at the chat service, for whoever changes a person: what to call with the change and in a job."""

from datetime import UTC, datetime

import msgspec

from guildhall import outbox
from guildhall.db import Write
from guildhall.providers.chat import ChatUser
from guildhall.spaces.jobs import SpaceChanged
from guildhall.worker.work import Work


class _Profile(msgspec.Struct, frozen=True):
    display_name: str
    avatar_url: str | None


async def entitlement_changed(tx: Write, user: str) -> None:
    """In the transaction that disables, enables or erases a person: their channels are to be looked at."""
    spaces = await tx.connection.fetch(
        "SELECT m.space_id FROM members m JOIN spaces s ON s.id = m.space_id AND s.kind = 'community'"
        " WHERE m.user_id = $1 AND s.deleted_at IS NULL ORDER BY m.space_id",
        user,
    )
    tx.count()
    ids = [row["space_id"] for row in spaces]
    # A person's standing is no part of a space's version, so the mark is what tells that there is work.
    await tx.run(
        "INSERT INTO chat_spaces (space_id, again) SELECT unnest($1::uuid[]), true"
        " ON CONFLICT (space_id) DO UPDATE SET again = true",
        ids,
    )
    await outbox.put(tx, *(SpaceChanged(space_id=space) for space in ids))


async def refresh_person(work: Work, user: str) -> bool:
    """Give the chat service a person's present name and picture, if they are known there."""
    if work.chat is None:
        return False
    async with work.db.single() as tx:
        profile = await tx.maybe(
            _Profile,
            "SELECT display_name, avatar_url FROM users WHERE id = $1 AND status = 'active'"
            " AND EXISTS (SELECT FROM chat_members WHERE user_id = $1)",
            user,
        )
    if profile is None:
        return False
    await work.chat.upsert_users([ChatUser(user, profile.display_name, profile.avatar_url)])
    return True


async def revoke_person(work: Work, user: str) -> bool:
    """Make the chat tokens that a person holds useless."""
    if work.chat is None:
        return False
    await work.chat.revoke_tokens(user, datetime.now(UTC))
    return True


async def forget_person(work: Work, user: str) -> bool:
    """Remove an erased person and all they wrote from the chat service."""
    if work.chat is None:
        return False
    await work.chat.revoke_tokens(user, datetime.now(UTC))
    await work.chat.delete_user(user)
    async with work.db.single() as tx:
        await tx.run("DELETE FROM chat_members WHERE user_id = $1", user)
    return True
