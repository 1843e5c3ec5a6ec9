"""Accounts: made in one place, kept like the identity provider's record, closed and opened by operators."""

from typing import Literal, LiteralString

import msgspec

from guildhall import outbox
from guildhall.db import Read, Write
from guildhall.errors import Invalid, NotFound
from guildhall.providers.identity import Profile
from guildhall.spaces import audit, invites, members, news
from guildhall.spaces.chat_people import entitlement_changed
from guildhall.users.jobs import ProfileChanged, UserDisabled
from guildhall.web.caller import Caller, check_alive
from guildhall.web.wire import clean_query

# What somebody is called until they, or their identity provider, say otherwise; never a part of an address.
UNNAMED = "New member"

Status = Literal["active", "disabled"]

OWN: LiteralString = """
    u.id, u.display_name, u.avatar_url, u.bio, u.email, u.email_verified, u.phone_number,
    rfc3339(u.created_at) AS created_at, rfc3339(u.updated_at) AS updated_at
"""


class Own(msgspec.Struct, frozen=True):
    """An account as its person may see it."""

    id: str
    display_name: str
    avatar_url: str | None
    bio: str | None
    email: str | None
    email_verified: bool
    phone_number: str | None
    created_at: str
    updated_at: str


class NewUser(msgspec.Struct, frozen=True, kw_only=True):
    """Who is to be made. `issuer` and `id` are the identity; the rest is what the issuer vouches for."""

    id: str
    issuer: str
    display_name: str = UNNAMED
    avatar_url: str | None = None
    email: str | None = None
    email_verified: bool = False
    phone_number: str | None = None
    record_at: int | None = None


async def create_user(tx: Write, user: NewUser) -> bool:
    """Make an account with all that comes with one: every person is made here. False when it exists.

    Of calls at the same time one makes it; the others wait and see it.
    """
    made = await tx.run(
        "INSERT INTO users"
        " (id, issuer, display_name, avatar_url, email, email_verified, phone_number, record_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING",
        user.id,
        user.issuer,
        user.display_name,
        user.avatar_url,
        user.email,
        user.email_verified,
        user.phone_number,
        user.record_at,
    )
    if made and user.email_verified:
        await invites.tell_newcomer(tx, user.id)
    return made == 1


async def find_own(read: Read, user_id: str) -> Own | None:
    return await read.maybe(Own, "SELECT " + OWN + " FROM users u WHERE u.id = $1", user_id)


async def find_me(read: Read, caller: Caller) -> Own | None:
    """The caller's own account; None when the caller is nobody."""
    return await read.maybe(
        Own,
        "SELECT " + OWN + " FROM me($1, $2, $3) AS asking JOIN users u ON u.id = asking.user_id",
        *caller.me,
    )


async def lock_me(tx: Write, caller: Caller) -> None:
    """Lock the caller's account, which is alive then and stays so until the transaction ends."""
    await tx.run("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", caller.user)
    # A statement of its own, so that it sees an erasure that the lock was waiting for.
    await check_alive(tx, caller)


def new_user(issuer: str, user_id: str, profile: Profile | None) -> NewUser:
    """The account for a verified identity, with the issuer's profile of it where there is one."""
    if profile is None:
        return NewUser(id=user_id, issuer=issuer)
    email = _plain(profile.email, 254)
    return NewUser(
        id=user_id,
        issuer=issuer,
        display_name=_plain(profile.display_name, 80) or UNNAMED,
        avatar_url=_plain(profile.avatar_url, 2048),
        email=email,
        email_verified=email is not None and profile.email_verified,
        phone_number=_plain(profile.phone_number, 20),
        record_at=profile.record_at,
    )


def _plain(text: str | None, longest: int) -> str | None:
    """A text from the issuer, where it is one that we would take from a person."""
    try:
        cleaned = clean_query(text, "")
    except Invalid:
        return None
    return cleaned if cleaned and len(cleaned) <= longest else None


async def follow(tx: Write, issuer: str, profile: Profile) -> bool:
    """Take over the issuer's newer record of a live account; True when anything changed.

    Fields the person set here stay. A record older than the one taken over last changes nothing.
    """
    record = new_user(issuer, profile.id, profile)
    changed = await tx.run(
        """
        UPDATE users AS u
           SET display_name = wanted.display_name, avatar_url = wanted.avatar_url, email = wanted.email,
               email_verified = wanted.email_verified, phone_number = wanted.phone_number,
               record_at = coalesce($8, u.record_at), updated_at = now()
          FROM (SELECT id,
                       CASE WHEN 'display_name' = ANY (own_fields) THEN display_name ELSE $3 END
                           AS display_name,
                       CASE WHEN 'avatar_url' = ANY (own_fields) THEN avatar_url ELSE $4 END AS avatar_url,
                       $5::text AS email, $6::boolean AS email_verified,
                       CASE WHEN 'phone_number' = ANY (own_fields) THEN phone_number ELSE $7 END
                           AS phone_number
                  FROM users
                 WHERE id = $1 AND issuer = $2 AND status <> 'erased'
                   AND (record_at IS NULL OR $8::bigint IS NULL OR record_at <= $8)
                   FOR NO KEY UPDATE) AS wanted
         WHERE u.id = wanted.id
           AND (u.display_name, u.avatar_url, u.email, u.email_verified, u.phone_number, u.record_at)
               IS DISTINCT FROM
               (wanted.display_name, wanted.avatar_url, wanted.email, wanted.email_verified,
                wanted.phone_number, coalesce($8, u.record_at))
        """,
        record.id,
        record.issuer,
        record.display_name,
        record.avatar_url,
        record.email,
        record.email_verified,
        record.phone_number,
        record.record_at,
    )
    if changed:
        await outbox.put(tx, ProfileChanged(user_id=profile.id))
        if record.email_verified:
            await invites.tell_newcomer(tx, profile.id)
    return changed == 1


async def set_status(tx: Write, user_id: str, status: Status) -> None:
    """Close an account or open it again, for the operator. Raises NotFound for unknown and erased people.

    A closed one is refused from its next request on; its sessions and keys end, so that opening it
    asks for a new sign-in. What it owns stays. What it
    offered does not: invites, and ownership, which is not offered to it any more either.
    """
    # Spaces before accounts, as everybody locks them.
    await tx.run(
        "SELECT FROM spaces WHERE id IN (SELECT space_id FROM members WHERE user_id = $1)"
        " ORDER BY id FOR NO KEY UPDATE",
        user_id,
    )
    before = await tx.value(
        "SELECT status FROM users WHERE id = $1 AND status <> 'erased' FOR NO KEY UPDATE", user_id
    )
    if before is None:
        raise NotFound("There is no such person, or they were erased.")
    if before == status:
        return
    await tx.run("UPDATE users SET status = $2, updated_at = now() WHERE id = $1", user_id, status)
    action = "user.disable" if status == "disabled" else "user.enable"
    await audit.record(tx, None, action, target=user_id, before={"status": before}, after={"status": status})
    if status == "disabled":
        await tx.run(
            "UPDATE sessions SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL", user_id
        )
        await tx.run(
            "UPDATE api_keys SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL", user_id
        )
        await outbox.put(tx, UserDisabled(user_id=user_id))
        await news.announce(tx, "", *await members.close_offers(tx, user_id))
    await entitlement_changed(tx, user_id)
