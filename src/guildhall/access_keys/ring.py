"""Who is behind a key, found once and kept in mind, and when each key was last used, written now and then.

What is kept in mind never changes while a key lives, and whether it lives is asked with every statement. So a
request with a key costs the database what one with a session does.
"""

import time
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from guildhall.access_keys import secrets
from guildhall.db import Db
from guildhall.events.event import tell_user
from guildhall.web.access import Access, KeyHolder, TrustLevel
from guildhall.web.keeping import keep_writing

MOST_KNOWN = 20_000
FLUSH_S = 20.0


class _Row(msgspec.Struct, frozen=True):
    id: UUID
    user_id: str
    issuer: str
    session: str
    atoms: list[str]
    trust_level: TrustLevel
    hubs: list[UUID] | None


class Ring:
    """The keys that this process has met."""

    def __init__(self, db: Db, *, most: int = MOST_KNOWN) -> None:
        self._db = db
        self._most = most
        self._known: dict[bytes, KeyHolder] = {}
        # When each key was last used, as far as that is not written yet.
        self._used: dict[UUID, float] = {}

    def known(self, key: str) -> KeyHolder | None:
        """The holder of a key that was found before."""
        holder = self._known.get(secrets.digest(key))
        if holder is not None:
            self._used[holder.access.id] = time.time()
        return holder

    async def find(self, key: str) -> KeyHolder | None:
        """The holder of a live key. Raises Unavailable."""
        if not secrets.well_formed(key):
            return None
        digest = secrets.digest(key)
        async with self._db.reading() as read:
            row = await read.maybe(
                _Row,
                """
                SELECT k.id, k.user_id, u.issuer, k.session, k.atoms, k.trust_level,
                       CASE WHEN k.limited THEN ARRAY(SELECT h.space_id FROM api_key_hubs h
                                                       WHERE h.key_session = k.session ORDER BY h.position)
                       END AS hubs
                  FROM api_keys k JOIN users u ON u.id = k.user_id
                 WHERE k.key_hash = $1 AND k.revoked_at IS NULL AND coalesce(k.expires_at > now(), true)
                """,
                digest,
            )
        if row is None:
            return None
        hubs = None if row.hubs is None else tuple(row.hubs)
        access = Access(row.id, frozenset(row.atoms), hubs, row.trust_level)
        holder = KeyHolder(row.user_id, row.issuer, row.session, access)
        while len(self._known) >= self._most:
            del self._known[next(iter(self._known))]
        self._known[digest] = holder
        self._used[row.id] = time.time()
        return holder

    async def flush(self) -> None:
        """Write when keys were last used: one statement for all of them. Raises what the database raises."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            async with self._db.single() as tx:
                # Rows are locked in one order, since another process may write of the same keys.
                rows = await tx.connection.fetch(
                    """
                    WITH used AS (SELECT id, at FROM unnest($1::uuid[], $2::timestamptz[]) AS used (id, at)),
                    later AS (
                        SELECT k.id, used.at FROM used JOIN api_keys k ON k.id = used.id
                         WHERE coalesce(k.last_used_at < used.at, true)
                         ORDER BY k.id FOR NO KEY UPDATE OF k)
                    UPDATE api_keys SET last_used_at = later.at FROM later WHERE api_keys.id = later.id
                    RETURNING user_id, agent_name
                    """,
                    list(used),
                    [datetime.fromtimestamp(at, UTC) for at in used.values()],
                )
                for user, agent in dict.fromkeys((row["user_id"], row["agent_name"]) for row in rows):
                    if agent is not None:
                        tell_user(tx, user, "agent.changed", actor=user, entity_id=agent, state="activity")
        except BaseException:
            self._used = used | self._used
            raise

    async def keep(self) -> None:
        """Write now and then, until cancelled; once more then."""
        await keep_writing(self.flush, FLUSH_S, "keys.uses_not_written")
