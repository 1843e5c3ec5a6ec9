"""A POST with an Idempotency-Key takes effect once.

The whole request runs inside one transaction that ends by storing what was answered: the record commits
with the effect or not at all, whatever dies in between. A twin in flight is told so.
"""

import hashlib
from types import TracebackType
from typing import Any

import msgspec

from guildhall.db import Db, Joined, Write
from guildhall.errors import AppError, Conflict, FieldError, Invalid

Headers = list[tuple[bytes, bytes]]


class InFlight(Conflict):
    code = "idempotency_in_flight"
    title = "A request with this Idempotency-Key is being served. Ask again in a moment."


class KeyReused(AppError):
    status, code = 422, "idempotency_key_reused"
    title = "This Idempotency-Key was used with another body. Make a new key for a new request."


class Forgotten(Exception):
    """Rolls the transaction back without telling anybody."""


class Kept(msgspec.Struct, frozen=True):
    status: int
    headers: Headers
    body: bytes


class _Row(msgspec.Struct, frozen=True):
    body_hash: bytes
    status: int
    headers: str
    body: bytes


def attempt(db: Db, *, who: str, method: str, path: str, key: bytes, body: bytes) -> "Attempt":
    """Enter it to run the request at most once. Raises Invalid, InFlight or KeyReused on entering."""
    try:
        text = key.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if not 1 <= len(text) <= 255 or not text.isprintable():
        problem = FieldError(
            "Idempotency-Key", "format", "An Idempotency-Key has 1 to 255 printable ASCII characters."
        )
        raise Invalid(errors=[problem])
    scope = hashlib.sha256("\0".join((who, method, path, text)).encode()).digest()
    return Attempt(db, scope, hashlib.sha256(body).digest())


class Attempt:
    """One run of a keyed request: either `kept` is the earlier answer, or serve with `db`, then `keep`."""

    def __init__(self, db: Db, scope: bytes, body_hash: bytes) -> None:
        self._db = db
        self._scope = scope
        self._body_hash = body_hash
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
        row = await self._tx.maybe(
            _Row,
            "SELECT body_hash, status, headers::text, body FROM idempotency_keys"
            " WHERE scope = $1 AND created_at > now() - interval '24 hours'",
            self._scope,
        )
        if row is None:
            return
        if row.body_hash != self._body_hash:
            raise KeyReused
        headers: list[tuple[str, str]] = msgspec.json.decode(row.headers, type=list[tuple[str, str]])
        self.kept = Kept(
            row.status, [(n.encode("latin-1"), v.encode("latin-1")) for n, v in headers], row.body
        )

    async def keep(self, status: int, headers: Headers, body: bytes) -> None:
        """Store the answer, unless the same request may well be answered otherwise when sent again."""
        if status in (400, 401, 408, 413, 415, 429) or status >= 500:
            self.forget()
            return
        names: Any = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        await self._tx.run(
            "INSERT INTO idempotency_keys (scope, body_hash, status, headers, body)"
            " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (scope) DO UPDATE"
            " SET body_hash = excluded.body_hash, status = excluded.status,"
            " headers = excluded.headers, body = excluded.body, created_at = now()",
            self._scope,
            self._body_hash,
            status,
            msgspec.json.encode(names).decode(),
            body,
        )

    def forget(self) -> None:
        """Nothing of this run stays."""
        self._undone = Forgotten()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        undone = self._undone if error is None else None
        await self._transaction.__aexit__(kind or (type(undone) if undone else None), error or undone, trace)
