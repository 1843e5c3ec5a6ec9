"""Erasure: a person leaves for good, and nothing personal stays.

Locks are taken in one order: the spaces concerned by their ids, then the account. Whatever gives the person
something new waits for the account, and is refused after.
"""

from datetime import timedelta
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall import outbox
from guildhall.db import Retryable, Write
from guildhall.errors import Conflict
from guildhall.keys import Keys
from guildhall.spaces import audit, members, news, notices
from guildhall.spaces.jobs import BlobUnused, RemainsLeft, SpaceChanged
from guildhall.spaces.seats import Kind
from guildhall.users.jobs import UserErased
from guildhall.web.caller import Caller, Guest, explain_absence

ERASED_NAME = "Deleted member"

# A mail, a file or a call to the chat service that was under way may end after the erasure: what is outside
# the database is removed once more when nothing begun before can still be going on.
AGAIN = timedelta(hours=1)


class SoleOwner(Conflict):
    """`details.spaces` names them: `[{id, name}]`."""

    code = "sole_owner"
    title = "You are the only owner of spaces that others would lose. Hand them over or delete them first."


class _Account(msgspec.Struct, frozen=True):
    status: str
    address: str | None


class _Space(msgspec.Struct, frozen=True):
    id: UUID
    name: str
    live: bool
    others: bool


class _Membership(msgspec.Struct, frozen=True):
    space_id: UUID
    kind: Kind


# Every space in which erasing changes a row: memberships, posts, and invites to the person.
_CONCERNED: LiteralString = """
    SELECT space_id FROM members WHERE user_id = $1
    UNION SELECT space_id FROM posts WHERE author_id = $1
    UNION SELECT space_id FROM invites WHERE invitee_user_id = $1
    UNION SELECT i.space_id FROM users u JOIN invites i ON i.email_key = u.email_key
           WHERE u.id = $1 AND u.email_verified
"""


async def erase(tx: Write, caller: Caller) -> None:
    """Erase the caller. Raises SoleOwner while a live space would be left without an owner."""
    if await tx.value("SELECT true FROM me($1, $2, $3)", *caller.me) is None:
        raise await explain_absence(tx, caller)
    address = await _lock(tx, caller.user)
    if await tx.value("SELECT true FROM me($1, $2, $3)", *caller.me) is None:
        raise await explain_absence(tx, caller)
    alone = await _owned_alone(tx, caller.user)
    if left := [space for space in alone if space.live]:
        raise SoleOwner(details={"spaces": [{"id": str(space.id), "name": space.name} for space in left]})
    await _erase(tx, caller, caller.user, address, purge=[space.id for space in alone], keep=[])


async def erase_departed(tx: Write, by: Guest, issuer: str, user_id: str) -> None:
    """Erase somebody whom the identity provider deleted, who can neither be asked nor sign in again.

    What they owned alone goes when nobody else is in it. Otherwise it stays theirs by name of a deleted
    member: its admins run it on, and ownership is nothing to hand to anybody unasked.
    """
    known = await tx.value(
        "SELECT true FROM users WHERE id = $1 AND issuer = $2 AND status <> 'erased'", user_id, issuer
    )
    if not known:
        return
    address = await _lock(tx, user_id)
    alone = await _owned_alone(tx, user_id)
    keep = [space.id for space in alone if space.live and space.others]
    purge = [space.id for space in alone if space.id not in keep]
    await _erase(tx, by, user_id, address, purge=purge, keep=keep)


async def _lock(tx: Write, user_id: str) -> str | None:
    """Lock what erasing touches; answers the person's verified address. Raises Retryable when it grew."""
    spaces: list[UUID] = [
        row["space_id"]
        for row in await _rows(tx, "SELECT c.space_id FROM (" + _CONCERNED + ") AS c", user_id)
    ]
    await tx.run("SELECT FROM spaces WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE", spaces)
    account = await tx.one(
        _Account,
        "SELECT status, CASE WHEN email_verified THEN email END AS address"
        " FROM users WHERE id = $1 FOR UPDATE",
        user_id,
    )
    grown = await tx.value(
        "SELECT EXISTS (SELECT FROM (" + _CONCERNED + ") AS c WHERE c.space_id <> ALL ($2::uuid[]))",
        user_id,
        spaces,
    )
    if grown or account.status == "erased":
        # Joined, posted or was invited meanwhile: to lock one more space now could be a deadlock.
        raise Retryable
    return account.address


async def _rows(tx: Write, sql: LiteralString, *args: object) -> list[dict[str, UUID]]:
    tx.count()
    return [dict(row) for row in await tx.connection.fetch(sql, *args)]


async def _owned_alone(tx: Write, user_id: str) -> list[_Space]:
    """Spaces with no other owner whose account still is one. The personal hub is nobody else's loss."""
    return await tx.many(
        _Space,
        """
        SELECT s.id, s.name, s.deleted_at IS NULL AS live, s.member_count > 1 AS others
          FROM members m JOIN spaces s ON s.id = m.space_id
         WHERE m.user_id = $1 AND m.role = 'owner' AND NOT s.is_personal
           AND NOT EXISTS (SELECT FROM members o JOIN users u ON u.id = o.user_id
                            WHERE o.space_id = m.space_id AND o.role = 'owner' AND o.user_id <> $1
                              AND u.status <> 'erased')
         ORDER BY s.name, s.id
        """,
        user_id,
    )


async def _erase(
    tx: Write, by: Caller | Guest, user_id: str, address: str | None, *, purge: list[UUID], keep: list[UUID]
) -> None:
    await audit.record(tx, by, "user.erase", target=user_id, after={"kept": [str(space) for space in keep]})
    # The name changes first: the lists of every space they were in, or wrote in, are told by it.
    await tx.run(
        "UPDATE users SET status = 'erased', erased_at = now(), updated_at = now(), display_name = $2,"
        " avatar_url = NULL, bio = NULL, phone_number = NULL, email = NULL, email_verified = false,"
        " own_fields = '{}', record_at = NULL WHERE id = $1",
        user_id,
        ERASED_NAME,
    )
    await _forget_sign_in(tx, user_id, address)
    await _forget_invites(tx, user_id, address)
    dead = await members.close_offers(tx, user_id)
    left = await _leave_spaces(tx, by, user_id, purge, keep)
    files = await _forget_files(tx, user_id)
    mac = address_macs(by.service.keys, address)[0] if address is not None else None
    outside = [UserErased(user_id=user_id, address_mac=mac), *(BlobUnused(name=name) for name in files)]
    concerned = [*(row.space_id for row in left), *purge, *keep]
    await outbox.put(tx, RemainsLeft(), *outside, *(SpaceChanged(space_id=space) for space in concerned))
    await outbox.put(tx, *outside, after=AGAIN)
    gone = [news.Left(kind=row.kind, space=row.space_id, user=user_id) for row in left]
    await news.announce(tx, user_id, *gone, *(item for item in dead if item.space in keep))


def address_macs(keys: Keys, address: str) -> list[str]:
    """What stands for an address where it may not be kept, the one under the current key first."""
    # As the database compares addresses: the letters of ASCII in any case, all others as they are.
    return [mac.hex() for mac in keys.macs("erased addresses", address.encode().lower())]


async def _forget_sign_in(tx: Write, user_id: str, address: str | None) -> None:
    await tx.run(
        "WITH codes AS (DELETE FROM exchange_codes WHERE user_id = $1),"
        " settings AS (DELETE FROM person_settings WHERE user_id = $1),"
        " usage AS (DELETE FROM usage_months WHERE user_id = $1)"
        " DELETE FROM sessions WHERE user_id = $1",
        user_id,
    )
    # What they called their agents goes from the audit as well; which key it was stays.
    await tx.run(
        "UPDATE audit SET acting_as = 'key ' || k.prefix FROM api_keys k"
        " WHERE k.user_id = $1 AND audit.key_id = k.id",
        user_id,
    )
    await tx.run("DELETE FROM notifications WHERE recipient_user_id = $1", user_id)
    await tx.run(
        "WITH agents AS (DELETE FROM agents WHERE user_id = $1) DELETE FROM api_keys WHERE user_id = $1",
        user_id,
    )
    await tx.run(
        "WITH login AS (DELETE FROM email_logins WHERE user_id = $1 RETURNING email_key)"
        " DELETE FROM sign_in_codes WHERE email_key IN (SELECT email_key FROM login)"
        ' OR email_key = lower($2::text COLLATE "C")',
        user_id,
        address,
    )


async def _forget_invites(tx: Write, user_id: str, address: str | None) -> None:
    """Invites to the person are taken back, and the address leaves also those that are dead."""
    await tx.run(
        "UPDATE invites SET email = NULL,"
        " revoked_at = CASE WHEN accepted_at IS NULL THEN coalesce(revoked_at, now()) END"
        " WHERE invitee_user_id = $1"
        ' OR email_key = lower($2::text COLLATE "C")',
        user_id,
        address,
    )


async def _leave_spaces(
    tx: Write, by: Caller | Guest, user_id: str, purge: list[UUID], keep: list[UUID]
) -> list[_Membership]:
    """Take the person out of every space but those in `keep`; the spaces in `purge` go altogether.

    Answers the memberships that ended in spaces that are still there.
    """
    for space in purge:
        await notices.close_all(tx, user_id, space)
    await tx.run("SELECT remove_space(id) FROM unnest($1::uuid[]) AS id", purge)
    await tx.run(
        "UPDATE spaces SET owner_id = (SELECT o.user_id FROM members o JOIN users u ON u.id = o.user_id"
        "   WHERE o.space_id = spaces.id AND o.role = 'owner' AND u.status <> 'erased'"
        "   ORDER BY o.joined_at, o.user_id LIMIT 1)"
        # A large hub that is deleted keeps its owner for as long as a job removes it.
        " WHERE owner_id = $1 AND id <> ALL ($2) AND NOT (kind = 'hub' AND deleted_at IS NOT NULL)",
        user_id,
        keep,
    )
    left = await tx.many(
        _Membership,
        """
        WITH left_behind AS (
            DELETE FROM members WHERE user_id = $1 AND space_id <> ALL ($2)
               AND NOT EXISTS (SELECT FROM spaces WHERE id = members.space_id AND owner_id = $1
                                  AND kind = 'hub' AND deleted_at IS NOT NULL)
            RETURNING space_id, kind, role),
        noted AS (
            INSERT INTO audit (action, actor, acting_as, space_id, target, before, request_id)
            SELECT 'member.leave', $3, $4, space_id, $1, json_build_object('role', role), $5 FROM left_behind)
        SELECT space_id, kind FROM left_behind
        """,
        user_id,
        keep,
        by.user if isinstance(by, Caller) else None,
        by.actor if isinstance(by, Caller) else None,
        by.request_id,
    )
    # The files behind attachments go, so the posts do not point to them any more.
    await tx.run("UPDATE posts SET attachments = '{}' WHERE author_id = $1 AND attachments <> '{}'", user_id)
    return left


async def _forget_files(tx: Write, user_id: str) -> list[str]:
    """The names of the files to remove. A picture that a space shows stays, and goes to its owner."""
    tx.count()
    rows = await tx.connection.fetch(
        """
        WITH shown AS (
            UPDATE uploads SET user_id = s.owner_id, filename = uploads.name
              FROM spaces s
             WHERE uploads.user_id = $1 AND uploads.purpose IN ('logo', 'cover')
               AND (right(s.logo_url, length(uploads.name) + 1) = '/' || uploads.name
                    OR right(s.cover_image_url, length(uploads.name) + 1) = '/' || uploads.name)
            RETURNING uploads.id),
        own AS (DELETE FROM uploads WHERE user_id = $1 AND id NOT IN (SELECT id FROM shown) RETURNING name),
        archives AS (DELETE FROM exports WHERE user_id = $1 RETURNING blob)
        SELECT name FROM own UNION ALL SELECT blob FROM archives WHERE blob IS NOT NULL
        """,
        user_id,
    )
    return [row["name"] for row in rows]
