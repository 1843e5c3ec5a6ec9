"""Keys for certain hubs: the end of one whose last hub goes is noted and told like any other end of a key."""

from uuid import UUID

import msgspec

from guildhall.db import Write
from guildhall.events.event import tell_user
from guildhall.spaces import audit
from guildhall.web.caller import Caller


class _Ended(msgspec.Struct, frozen=True):
    id: UUID
    user_id: str


async def end_keys(tx: Write, caller: Caller, hub: UUID, user: str | None = None) -> None:
    """End the keys that are for this hub alone: those of `user`, who is about to leave it, or everybody's.

    Called with the hub locked, before the memberships go and take the lists along.
    """
    ended = await tx.many(
        _Ended,
        """
        WITH ended AS (
            UPDATE api_keys k SET revoked_at = now() FROM api_key_hubs h
             WHERE h.space_id = $1 AND ($2::text IS NULL OR h.user_id = $2) AND k.session = h.key_session
               AND k.revoked_at IS NULL
               AND NOT EXISTS (SELECT FROM api_key_hubs o
                                WHERE o.key_session = h.key_session AND o.space_id <> $1)
            RETURNING k.id, k.user_id)
        SELECT ended.id, ended.user_id
          FROM ended CROSS JOIN LATERAL note_audit(
               'key.revoke', $3, $4, $5, $1, ended.id::text, NULL,
               jsonb_build_object('user', ended.user_id, 'last_hub', $1), $6)
        """,
        hub,
        user,
        caller.user,
        *audit.acting(caller),
        caller.request_id,
    )
    for key in ended:
        tell_user(tx, key.user_id, "key.changed", actor=caller.user, entity_id=str(key.id), state="revoked")
