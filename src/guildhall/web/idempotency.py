"""A POST with an Idempotency-Key takes effect once.

The whole request runs inside one transaction that ends by storing what was answered: the record commits
with the effect or not at all, whatever dies in between. A twin in flight is told so.

Answers may hold tokens, so what is stored is sealed under a key that comes from the instance secret.
"""

import hashlib
import hmac
import re
from types import TracebackType
from typing import Any
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from litestar.types import Message

from guildhall.db import Db, Joined, Write
from guildhall.errors import AppError, Conflict, FieldError, Forbidden, Invalid
from guildhall.keys import Keys
from guildhall.web.caller import Caller

Headers = list[tuple[bytes, bytes]]

# What they answer is a token, which is never stored in clear; a repeat makes a new one. Those of sign-in also
# keep count of tries that they refuse, which a repeat must not undo.
NEVER_KEPT = frozenset(
    {"/api/stream/token", "/v1/auth/refresh", "/v1/auth/exchange", "/v1/auth/email/verify"}
)

_REPLAYED = (b"idempotency-replayed", b"true")
_IDS = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class InFlight(Conflict):
    code = "idempotency_in_flight"
    title = "A request with this Idempotency-Key is being served. Ask again in a moment."


class KeyReused(AppError):
    status, code = 422, "idempotency_key_reused"
    title = "This Idempotency-Key was used with another body. Make a new key for a new request."


class Withdrawn(Forbidden):
    title = "This was answered about a space you are not in any more. Nothing was done again."


class Forgotten(Exception):
    """Rolls the transaction back without telling anybody."""


class Kept(msgspec.Struct, frozen=True):
    status: int
    headers: Headers
    body: bytes


class _Row(msgspec.Struct, frozen=True):
    """What is kept of a request, if anything is, and the spaces that its sender is in."""

    body_hash: bytes | None
    answer: bytes | None
    withdrawn: bool
    held: list[UUID]


def read_key(key: bytes) -> str:
    """The key in a header. Raises Invalid."""
    try:
        text = key.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if not 1 <= len(text) <= 255 or not text.isprintable():
        problem = FieldError(
            "Idempotency-Key", "format", "An Idempotency-Key has 1 to 255 printable ASCII characters."
        )
        raise Invalid(errors=[problem])
    return text


def whose(caller: Caller) -> str:
    """Whose repeats are whose: a key is not told what was answered to its person, who may more."""
    return caller.user if caller.access is None else f"{caller.user} by {caller.session}"


def attempt(
    db: Db,
    keys: Keys,
    *,
    who: str,
    me: tuple[str, str, str | None] | None,
    method: str,
    path: str,
    key: str,
    body: bytes,
    anywhere: bool,
    leaves: bool,
) -> "Attempt":
    """Enter it to run the request at most once, by a key that was read. Raises InFlight, KeyReused or
    Withdrawn then.

    `me` are the arguments of the database's me() for who has signed in: nobody is told again what was
    answered to them before they were disabled or signed out, or about a space they have left since.
    `anywhere` says that the answer may be about any of their spaces without naming it; `leaves`, that it is
    about leaving one, and is theirs to hear again outside of it.
    """
    scope = hashlib.sha256("\0".join((who, method, path, key)).encode()).digest()
    return Attempt(db, keys, scope, body, me, anywhere=anywhere, leaves=leaves)


class Attempt:
    """One run of a keyed request: either `kept` is the earlier answer, or serve with `db`, then `keep`."""

    def __init__(
        self,
        db: Db,
        keys: Keys,
        scope: bytes,
        body: bytes,
        me: tuple[str, str, str | None] | None,
        *,
        anywhere: bool,
        leaves: bool,
    ) -> None:
        self._db = db
        self._anywhere = anywhere
        self._leaves = leaves
        self._held: list[UUID] = []
        self._me = me or (None, None, None)
        self._keys = keys
        self._scope = scope
        # Keyed, since a short body could be guessed from a plain hash.
        self._body_hashes = keys.macs("idempotency bodies", body)
        self.kept: Kept | None = None
        self._undone: Forgotten | None = None

    async def __aenter__(self) -> "Attempt":
        self._transaction = self._db.writing()
        self._tx: Write = await self._transaction.__aenter__()
        try:
            await self._look()
        except BaseException as error:
            await self._transaction.__aexit__(type(error), error, None)
            raise
        self.db: Db = Joined(self._db, self._tx)
        return self

    async def _look(self) -> None:
        # Two keys whose digests begin alike are a twin by mistake once in 2^64: it is told to ask again.
        lock = int.from_bytes(self._scope[:8], signed=True)
        if not await self._tx.value("SELECT pg_try_advisory_xact_lock($1)", lock):
            raise InFlight(retry_after_s=1)
        row = await self._tx.one(
            _Row,
            "SELECT kept.body_hash, kept.answer, EXISTS ("
            "         SELECT FROM unnest(kept.spaces) AS about (id) WHERE about.id <> ALL (start.reached))"
            "       AS withdrawn, start.held"
            "  FROM (SELECT coalesce(array_agg(m.space_id), '{}') AS held,"
            "               coalesce(array_agg(m.space_id) FILTER (WHERE reaches($4, m.space_id)), '{}')"
            "               AS reached"
            "          FROM members m JOIN spaces s ON s.id = m.space_id AND s.deleted_at IS NULL"
            "         WHERE m.user_id = $2 AND m.status = 'active') AS start"
            "  LEFT JOIN idempotency_keys kept"
            "    ON kept.scope = $1 AND kept.created_at > now() - interval '24 hours'"
            "   AND ($2::text IS NULL OR EXISTS (SELECT FROM me($2, $3, $4)))",
            self._scope,
            *self._me,
        )
        if row.body_hash is None or row.answer is None:
            # Who is put out of one meanwhile may be told of it here, and never again.
            self._held = [] if self._leaves else row.held
            return
        if not any(hmac.compare_digest(row.body_hash, known) for known in self._body_hashes):
            raise KeyReused
        if row.withdrawn:
            raise Withdrawn
        self.kept = self._open(row.answer)

    async def keep(self, status: int, headers: Headers, body: bytes) -> None:
        """Store the answer, unless the same request may well be answered otherwise when sent again."""
        if status in (400, 401, 408, 413, 415, 429) or status >= 500:
            self.forget()
            return
        await self._tx.run(
            "INSERT INTO idempotency_keys (scope, body_hash, answer, spaces)"
            " SELECT $1, $2, $3, ARRAY("
            "   SELECT space_id FROM members WHERE user_id = $4 AND status = 'active'"
            "      AND ($6 OR space_id = ANY ($5))"
            "    UNION SELECT id FROM unnest($7::uuid[]) AS held (id) WHERE $6 OR id = ANY ($5))"
            " ON CONFLICT (scope) DO UPDATE SET body_hash = excluded.body_hash, answer = excluded.answer,"
            "   spaces = excluded.spaces, created_at = now()",
            self._scope,
            self._body_hashes[0],
            self._seal(Kept(status, headers, body)),
            self._me[0],
            list({UUID(found.decode()) for found in _IDS.findall(body)}),
            self._anywhere,
            self._held,
        )

    def _seal(self, kept: Kept) -> bytes:
        return self._keys.seal("idempotency answers", msgspec.msgpack.encode(kept), self._scope)

    def _open(self, sealed: bytes) -> Kept:
        try:
            opened = self._keys.open("idempotency answers", sealed, self._scope)
        except InvalidTag as error:
            # The secret was changed without keeping the old one: what was answered cannot be told again.
            raise KeyReused from error
        return msgspec.msgpack.decode(opened, type=Kept)

    def forget(self) -> None:
        """Nothing of this run stays."""
        self._undone = Forgotten()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        undone = self._undone if error is None else None
        await self._transaction.__aexit__(kind or (type(undone) if undone else None), error or undone, trace)


class Collector:
    """Keeps an answer instead of sending it."""

    def __init__(self) -> None:
        self.status = 500
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    def take(self, kept: Kept) -> None:
        self.status, self.body = kept.status, kept.body
        self.headers = [*kept.headers, _REPLAYED]

    async def __call__(self, message: Message) -> None:
        answer: Any = message
        if answer["type"] == "http.response.start":
            self.status = answer["status"]
            self.headers = list(answer["headers"])
        else:
            self.body += answer.get("body", b"")
