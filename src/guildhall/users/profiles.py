"""Profiles: what people show of themselves to those they share a space with, and change themselves."""

import re
from typing import Any

import msgspec
from msgspec import UNSET

from guildhall import outbox
from guildhall.db import Read, Write
from guildhall.errors import Forbidden, NotFound
from guildhall.users.accounts import OWN, UNNAMED, Own, lock_me
from guildhall.users.jobs import ProfileChanged
from guildhall.web.caller import Caller, explain_absence

_USER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Seen(msgspec.Struct, frozen=True):
    """Somebody as another person sees them."""

    id: str
    display_name: str
    avatar_url: str | None
    bio: str | None


class _Found(msgspec.Struct, frozen=True):
    me: str
    id: str | None
    display_name: str | None
    avatar_url: str | None
    bio: str | None
    email: str | None
    email_verified: bool | None
    phone_number: str | None
    created_at: str | None
    updated_at: str | None


async def find_profile(read: Read, caller: Caller, user_id: str) -> Own | Seen:
    """Oneself, or somebody with whom the caller shares a space, both active there. Raises NotFound."""
    if _USER_ID.fullmatch(user_id) is None:
        raise NotFound
    found = await read.maybe(
        _Found,
        "SELECT asking.user_id AS me, " + OWN + " FROM me($1, $2, $3) AS asking"
        " LEFT JOIN users u ON u.id = $4 AND u.status <> 'erased' AND (u.id = asking.user_id OR EXISTS ("
        "   SELECT FROM members mine JOIN members theirs ON theirs.space_id = mine.space_id"
        "     JOIN spaces s ON s.id = mine.space_id"
        "    WHERE mine.user_id = asking.user_id AND mine.status = 'active'"
        "      AND theirs.user_id = u.id AND theirs.status = 'active' AND s.deleted_at IS NULL))",
        *caller.me,
        user_id,
    )
    if found is None:
        raise await explain_absence(read, caller)
    if found.id is None:
        raise NotFound
    kind = Own if found.id == found.me else Seen
    return msgspec.convert(found, kind, from_attributes=True)


async def lock_own(tx: Write, caller: Caller, user_id: str) -> None:
    """Lock the caller's own account. Raises Forbidden for another's that may be seen, else NotFound."""
    if user_id != caller.user:
        await find_profile(tx, caller, user_id)
        raise Forbidden("A profile is changed by its own person alone.")
    await lock_me(tx, caller)


async def change(tx: Write, caller: Caller, wanted: msgspec.Struct) -> Own:
    """Set the fields that are given; they are the person's own until cleared with null.

    The account is locked.
    """
    changes: dict[str, Any] = {
        name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not UNSET
    }
    avatar_url: str | None = changes.get("avatar_url")
    if changes.get("bio") == "":
        changes["bio"] = None
    set_here = [name for name, value in changes.items() if value is not None]
    row = await tx.one(
        Own,
        """
        WITH u AS (
            UPDATE users
               SET display_name = CASE WHEN 'display_name' = ANY ($2) THEN $3 ELSE display_name END,
                   bio = CASE WHEN 'bio' = ANY ($2) THEN $4 ELSE bio END,
                   phone_number = CASE WHEN 'phone_number' = ANY ($2) THEN $5 ELSE phone_number END,
                   avatar_url = CASE WHEN 'avatar_url' = ANY ($2) THEN $6 ELSE avatar_url END,
                   own_fields = ARRAY(SELECT field FROM unnest(own_fields) AS field WHERE field <> ALL ($2)
                                      UNION ALL SELECT unnest($7::text[])),
                   updated_at = CASE WHEN cardinality($2) > 0 THEN now() ELSE updated_at END
             WHERE id = $1
            RETURNING *)
        SELECT """
        + OWN
        + " FROM u",
        caller.user,
        list(changes),
        changes.get("display_name") or UNNAMED,
        changes.get("bio"),
        changes.get("phone_number"),
        avatar_url,
        set_here,
    )
    if "display_name" in changes or "avatar_url" in changes:
        await outbox.put(tx, ProfileChanged(user_id=caller.user))
    return row
