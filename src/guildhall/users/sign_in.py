"""The embedded issuer: one-time codes by mail, sessions, and the tokens that stand for them.

Nothing secret is stored. A code is derived by a keyed MAC from the id of its row, so that the mail job can
derive it again; a refresh token carries its session and a number, and a MAC over both.
"""

import hashlib
import hmac
import secrets
import time
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from guildhall import outbox
from guildhall.db import Read, Retryable, Write, new_id
from guildhall.errors import AppError, Forbidden, NotFound
from guildhall.keys import Keys
from guildhall.providers.identity.sessions import SessionIssuer
from guildhall.tokens import Signed
from guildhall.users.accounts import UNNAMED, NewUser, create_user
from guildhall.users.jobs import CodeAsked
from guildhall.web.caller import Caller, explain_absence
from guildhall.web.log import logger

CODE_LIFETIME = timedelta(minutes=10)
MAX_ATTEMPTS = 6
TOKEN_S = 3600
SESSION = timedelta(days=30)
EXCHANGE_LIFETIME = timedelta(minutes=1)

_SESSION_PREFIX = "sess_"
_EXCHANGE_PREFIX = "exc_"
_PAYLOAD_BYTES = 20


class InvalidCode(AppError):
    """Not a 401: what is counted with it must be kept, also when the request has an Idempotency-Key."""

    status, code = 403, "invalid_code"
    title = "This code is wrong, used, or out of time. Look at the newest mail, or ask for another code."


class InvalidRefreshToken(AppError):
    """Not a 401, for the same reason: a token used twice ends its session."""

    status, code = 403, "invalid_refresh_token"
    title = "This refresh token was used before, or its session has ended. Sign in again."


class AccountDisabled(Forbidden):
    code = "account_disabled"
    title = "This account was closed by the people who run this service."


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A session and what stands for it. `session_expires_at` is when the session itself ends."""

    session: str
    token: str
    expires_at: datetime
    session_expires_at: datetime
    refresh_token: str | None


class SessionRow(msgspec.Struct, frozen=True):
    id: str
    label: str
    created_at: str
    refreshed_at: str
    expires_at: str


# Codes.


def code_of(keys: Keys, code_id: UUID, code_hash: bytes) -> str | None:
    """The code of a row again, under whichever key made it; None when that key is gone."""
    return next((code for code in _codes(keys, code_id) if _hash(keys, code_id, code) == code_hash), None)


def _codes(keys: Keys, code_id: UUID) -> list[str]:
    macs = keys.macs("sign-in codes", code_id.bytes)
    return [f"{int.from_bytes(mac[:16]) % 1_000_000:06d}" for mac in macs]


def _hash(keys: Keys, code_id: UUID, code: str) -> bytes:
    """Keyed, since six digits could be guessed from a plain hash. The oldest key serves while keys change."""
    return keys.macs("sign-in code hashes", code_id.bytes + code.encode())[-1]


async def ask_for_code(tx: Write, keys: Keys, email: str, *, redirect: str | None = None) -> None:
    """Make a code for an address, known or not, and leave a mail with it. The code before it is void.

    With a `redirect`, what the code is good for is to be led there with a code to exchange.
    """
    code_id = new_id()
    code = _codes(keys, code_id)[0]
    await tx.run(
        "INSERT INTO sign_in_codes (id, email_key, email, code_hash, expires_at, redirect)"
        ' VALUES ($1, lower($2::text COLLATE "C"), $2, $3, now() + $4::interval, $5)'
        " ON CONFLICT (email_key) DO UPDATE SET id = excluded.id, email = excluded.email,"
        " code_hash = excluded.code_hash, attempts = 0, created_at = now(), expires_at = excluded.expires_at,"
        " redirect = excluded.redirect",
        code_id,
        email,
        _hash(keys, code_id, code),
        CODE_LIFETIME,
        redirect,
    )
    await outbox.put(tx, CodeAsked(code_id=code_id))


class _Code(msgspec.Struct, frozen=True):
    id: UUID
    email: str
    code_hash: bytes
    redirect: str | None


class Used(msgspec.Struct, frozen=True):
    """The address that a code was sent to, and where whoever asked for it wants to be led."""

    email: str
    redirect: str | None


async def use_code(tx: Write, keys: Keys, email: str, code: str) -> Used | None:
    """Try a code. What it was for when it is right, and it is used up; None counts as a try.

    Commit also after None, or tries are free. The row stays locked, so that tries come one after another.
    """
    row = await tx.maybe(
        _Code,
        "UPDATE sign_in_codes SET attempts = attempts + 1"
        ' WHERE email_key = lower($1::text COLLATE "C") AND expires_at > now() AND attempts < $2'
        " RETURNING id, email, code_hash, redirect",
        email,
        MAX_ATTEMPTS,
    )
    if row is None or not hmac.compare_digest(_hash(keys, row.id, code), row.code_hash):
        return None
    await tx.run("DELETE FROM sign_in_codes WHERE id = $1", row.id)
    return Used(row.email, row.redirect)


class _Tries(msgspec.Struct, frozen=True):
    live: bool
    left: bool


async def why_refused(tx: Write, email: str) -> Literal["invalid", "expired", "locked"]:
    """What a code was refused for: it is wrong, there is none that is good, or it was tried too often."""
    tries = await tx.maybe(
        _Tries,
        "SELECT expires_at > now() AS live, attempts < $2 AS left FROM sign_in_codes"
        ' WHERE email_key = lower($1::text COLLATE "C")',
        email,
        MAX_ATTEMPTS,
    )
    if tries is None or not tries.live:
        return "expired"
    return "invalid" if tries.left else "locked"


class _Login(msgspec.Struct, frozen=True):
    user_id: str
    status: str


async def person_with(tx: Write, issuer: str, email: str, *, name: str = UNNAMED) -> str:
    """The person whose verified address this is; made now, by that name, when there is none.

    Raises AccountDisabled.
    """
    # Two first sign-ins at once wait for each other, so that an address is one person.
    await tx.run("SELECT pg_advisory_xact_lock(hashtextextended('login:' || lower($1), 0))", email)
    found = await tx.maybe(
        _Login,
        "SELECT u.id AS user_id, u.status FROM email_logins l JOIN users u ON u.id = l.user_id"
        ' WHERE l.email_key = lower($1::text COLLATE "C") FOR KEY SHARE OF u',
        email,
    )
    if found is not None:
        if found.status == "erased":
            # Erased while we waited for the row: the address is nobody's again.
            raise Retryable
        if found.status != "active":
            raise AccountDisabled
        # The issuer is this service's public address, which may have been changed since.
        await tx.run("UPDATE users SET issuer = $2 WHERE id = $1 AND issuer <> $2", found.user_id, issuer)
        return found.user_id
    user_id = f"user_{new_id().hex}"
    await create_user(
        tx, NewUser(id=user_id, issuer=issuer, display_name=name, email=email, email_verified=True)
    )
    await tx.run(
        'INSERT INTO email_logins (email_key, user_id) VALUES (lower($1::text COLLATE "C"), $2)',
        email,
        user_id,
    )
    return user_id


# Codes to exchange.


async def make_exchange_code(tx: Write, user_id: str) -> str:
    """What a program exchanges for a session, once and within a minute; only a hash of it is kept."""
    code = _EXCHANGE_PREFIX + secrets.token_urlsafe(32)
    await tx.run(
        "WITH gone AS (DELETE FROM exchange_codes WHERE user_id = $2 AND expires_at < now())"
        " INSERT INTO exchange_codes (code_hash, user_id, expires_at) VALUES ($1, $2, now() + $3::interval)",
        hashlib.sha256(code.encode()).digest(),
        user_id,
        EXCHANGE_LIFETIME,
    )
    return code


class Exchanged(msgspec.Struct, frozen=True):
    user_id: str
    live: bool
    status: str


async def use_exchange_code(tx: Write, code: str) -> Exchanged | None:
    """Use a code up. None when there is none; it may be out of time, or its person no longer welcome."""
    return await tx.maybe(
        Exchanged,
        "WITH used AS (DELETE FROM exchange_codes WHERE code_hash = $1 RETURNING user_id, expires_at)"
        " SELECT used.user_id, used.expires_at > now() AS live, u.status"
        " FROM used JOIN users u ON u.id = used.user_id",
        hashlib.sha256(code.encode()).digest(),
    )


# Sessions.


async def issue_session(
    tx: Write,
    issuer: SessionIssuer,
    keys: Keys,
    user_id: str,
    *,
    label: str,
    lifetime: timedelta = SESSION,
    bare: bool = False,
) -> Issued:
    """Begin a session. A bare one has no refresh token: its token lives as long as the session does.

    Every token is worth nothing from the moment its session is revoked, however long it lives.
    """
    session = new_id()
    expires_at: datetime = await tx.value(
        "WITH gone AS (DELETE FROM sessions WHERE user_id = $2"
        "              AND (expires_at < now() OR revoked_at < now() - interval '1 day'))"
        " INSERT INTO sessions (id, user_id, refreshes, label, expires_at)"
        " VALUES ($1, $2, $3, $4, now() + $5::interval) RETURNING expires_at",
        _SESSION_PREFIX + session.hex,
        user_id,
        None if bare else 0,
        label,
        lifetime,
    )
    return _issued(issuer, keys, user_id, session, expires_at, None if bare else 0)


def _issued(
    issuer: SessionIssuer, keys: Keys, user_id: str, session: UUID, ends: datetime, number: int | None
) -> Issued:
    now = time.time()
    lifetime_s = max(1, int(ends.timestamp() - now))
    if number is not None:
        lifetime_s = min(lifetime_s, TOKEN_S)
    session_id = _SESSION_PREFIX + session.hex
    return Issued(
        session=session_id,
        token=issuer.issue(user_id, session_id, now=now, lifetime_s=lifetime_s),
        expires_at=datetime.fromtimestamp(int(now) + lifetime_s, ends.tzinfo),
        session_expires_at=ends,
        refresh_token=None if number is None else _refresh_tokens(keys).make(_payload(session, number)),
    )


def cookie_token(issuer: SessionIssuer, user_id: str, issued: Issued) -> str:
    """A token that lives as long as the session, for the cookie, which no script can read.

    Pages that run no script cannot refresh a token, and revoking the session ends this one as well.
    """
    now = time.time()
    lifetime_s = max(1, int(issued.session_expires_at.timestamp() - now))
    return issuer.issue(user_id, issued.session, now=now, lifetime_s=lifetime_s)


def _refresh_tokens(keys: Keys) -> Signed:
    return Signed(keys, "refresh tokens", "rft_")


def _payload(session: UUID, number: int) -> bytes:
    return session.bytes + number.to_bytes(4)


class Held(msgspec.Struct, frozen=True):
    """What a refresh token says that we made: which session, and how often that was refreshed before."""

    session: UUID
    number: int


def read_refresh_token(keys: Keys, token: str) -> Held | None:
    """None for one that is not ours, which costs no look into the database."""
    payload = _refresh_tokens(keys).read(token, _PAYLOAD_BYTES)
    if payload is None:
        return None
    return Held(UUID(bytes=payload[:16]), int.from_bytes(payload[16:]))


class _Refreshed(msgspec.Struct, frozen=True):
    user_id: str
    status: str
    refreshes: int
    expires_at: datetime


async def refresh(tx: Write, issuer: SessionIssuer, keys: Keys, held: Held) -> Issued | None:
    """Exchange a refresh token for new tokens; it is worth nothing after.

    None when its session has ended. A token that was used before ends it, since two people hold it: commit
    also after None.
    """
    session_id = _SESSION_PREFIX + held.session.hex
    found = await tx.maybe(
        _Refreshed,
        "SELECT s.user_id, u.status, s.refreshes, s.expires_at"
        " FROM sessions s JOIN users u ON u.id = s.user_id AND u.issuer = $2"
        " WHERE s.id = $1 AND s.revoked_at IS NULL AND s.expires_at > now() AND s.refreshes IS NOT NULL"
        " FOR NO KEY UPDATE OF s",
        session_id,
        issuer.issuer,
    )
    if found is None or found.status != "active":
        return None
    if held.number != found.refreshes:
        await tx.run("UPDATE sessions SET revoked_at = now() WHERE id = $1", session_id)
        logger().warning("refresh token used twice", session=session_id, user=found.user_id)
        return None
    await tx.run(
        "UPDATE sessions SET refreshes = refreshes + 1, refreshed_at = now() WHERE id = $1", session_id
    )
    return _issued(issuer, keys, found.user_id, held.session, found.expires_at, held.number + 1)


async def has_expired(tx: Write, held: Held) -> bool:
    """Whether a session ended by time alone."""
    expired = await tx.value(
        "SELECT expires_at <= now() AND revoked_at IS NULL FROM sessions WHERE id = $1",
        _SESSION_PREFIX + held.session.hex,
    )
    return bool(expired)


async def list_sessions(read: Read, caller: Caller) -> list[SessionRow]:
    """The caller's live sessions, newest first. Raises what explains a caller who is nobody."""
    rows = await read.many(
        SessionRow,
        "SELECT s.id, s.label, rfc3339(s.created_at) AS created_at, rfc3339(s.refreshed_at) AS refreshed_at,"
        " rfc3339(s.expires_at) AS expires_at"
        " FROM me($1, $2, $3) AS asking JOIN sessions s ON s.user_id = asking.user_id"
        " WHERE s.revoked_at IS NULL AND s.expires_at > now() ORDER BY s.created_at DESC, s.id DESC",
        *caller.me,
    )
    if not rows:
        raise await explain_absence(read, caller)
    return rows


async def revoke_session(tx: Write, caller: Caller, session_id: str) -> None:
    """End one of the caller's own sessions: its tokens fail from the next request on. Raises NotFound."""
    revoked = await tx.run(
        "UPDATE sessions SET revoked_at = now() FROM me($1, $2, $3) AS asking"
        " WHERE sessions.id = $4 AND sessions.user_id = asking.user_id AND sessions.revoked_at IS NULL",
        *caller.me,
        session_id,
    )
    if not revoked:
        alive = await tx.value("SELECT true FROM me($1, $2, $3)", *caller.me)
        raise NotFound("No such session.") if alive else await explain_absence(tx, caller)
