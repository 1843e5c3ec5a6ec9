"""Reading a token before anything in it is believed, and judging its claims. No I/O, no keys, no clock."""

import base64
import json
import math
import re
from typing import cast

import msgspec

from guildhall.providers.identity import ASYMMETRIC, SUBJECT, BadToken, Identity, Issuer

LEEWAY_S = 5
MAX_TOKEN_CHARS = 8 * 1024
MAX_KID_CHARS = 128

_THREE_PARTS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
# A key or an address of one in the token would let the token vouch for itself. The others change how the
# rest is to be read, and no issuer of sessions has a reason to send them.
_REFUSED_HEADERS = ("jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc")
_ACTOR = re.compile(r"[!-~]{1,128}")
_MAX_TIME = 253_402_300_800  # the year 10000; a number beyond it is no date.


class Unverified(msgspec.Struct, frozen=True):
    """A well-formed token. Nothing in it has been proved."""

    algorithm: str
    kid: str
    issuer: str
    claims: dict[str, object]


def read_token(token: str) -> Unverified:
    """Raises BadToken for all but one compact, plainly spelled token with a public-key signature."""
    if len(token) > MAX_TOKEN_CHARS:
        raise BadToken("too long")
    parts = _THREE_PARTS.fullmatch(token)
    if parts is None:
        raise BadToken("not three base64url parts")
    header = _json_object(_decode(parts[1]), "header")
    claims = _json_object(_decode(parts[2]), "payload")
    _decode(parts[3])

    if any(name in header for name in _REFUSED_HEADERS):
        raise BadToken("header parameter not allowed")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ASYMMETRIC:
        raise BadToken("algorithm not allowed")
    if "typ" in header:
        kind = header["typ"]
        if not isinstance(kind, str) or kind.upper() != "JWT":
            raise BadToken("type is not JWT")
    if "cty" in header:
        raise BadToken("a token within a token")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_CHARS:
        raise BadToken("key id missing or malformed")
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise BadToken("issuer missing or malformed")
    return Unverified(algorithm, kid, issuer, claims)


def check_claims(token: Unverified, issuer: Issuer, now: float, *, from_cookie: bool) -> Identity:
    """What the token would prove if its signature holds. Raises BadToken."""
    claims = token.claims
    if token.issuer != issuer.issuer:
        raise BadToken("another issuer")
    if token.algorithm not in issuer.algorithms:
        raise BadToken("algorithm not allowed for this issuer")

    issued_at = _time(claims, "iat")
    expires_at = _time(claims, "exp")
    if issued_at > now + LEEWAY_S:
        raise BadToken("issued in the future")
    if "nbf" in claims and _time(claims, "nbf") > now + LEEWAY_S:
        raise BadToken("not valid yet")
    if expires_at <= now - LEEWAY_S:
        raise BadToken("expired")
    if expires_at <= issued_at:
        raise BadToken("expires before it was issued")

    subject = claims.get("sub")
    if not isinstance(subject, str) or SUBJECT.fullmatch(subject) is None:
        raise BadToken("subject missing or malformed")
    session_id = claims.get("sid")
    if session_id is None and "sid" not in claims and not issuer.needs_session:
        pass
    elif not isinstance(session_id, str) or SUBJECT.fullmatch(session_id) is None:
        raise BadToken("session missing or malformed")
    if "sts" in claims and claims["sts"] != "active":
        raise BadToken("session not active")

    _check_audience(claims, issuer)
    _check_party(claims, issuer, from_cookie=from_cookie)
    return Identity(
        issuer=issuer.issuer,
        subject=subject,
        session_id=session_id if isinstance(session_id, str) else None,
        issued_at=int(issued_at),
        expires_at=int(expires_at),
        actor=_actor(claims),
    )


def party_is_named(token: Unverified) -> bool:
    return "azp" in token.claims


def _check_audience(claims: dict[str, object], issuer: Issuer) -> None:
    if "aud" not in claims:
        if issuer.audiences:
            raise BadToken("audience missing")
        return
    audience = claims["aud"]
    named = cast("list[object]", audience) if isinstance(audience, list) else [audience]
    if not any(isinstance(one, str) and one in issuer.audiences for one in named):
        raise BadToken("another audience")


def _check_party(claims: dict[str, object], issuer: Issuer, *, from_cookie: bool) -> None:
    if "azp" in claims:
        party = claims["azp"]
        if not isinstance(party, str) or party not in issuer.authorized_parties:
            raise BadToken("authorized party not listed")
    elif from_cookie and issuer.authorized_parties:
        raise BadToken("a cookie's token names no authorized party")


def _actor(claims: dict[str, object]) -> str | None:
    if "act" not in claims:
        return None
    act = claims["act"]
    actor = cast("dict[str, object]", act).get("sub") if isinstance(act, dict) else None
    # An impersonation that cannot be recorded is refused: the audit must be able to name who acted.
    if not isinstance(actor, str) or _ACTOR.fullmatch(actor) is None:
        raise BadToken("actor malformed")
    return actor


def _time(claims: dict[str, object], name: str) -> float:
    value = claims.get(name)
    # A bool is an int in Python, but it is no time.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadToken(f"{name} missing or malformed")
    if not math.isfinite(value) or not 0 <= value < _MAX_TIME:
        raise BadToken(f"{name} out of range")
    return value


def _decode(part: str) -> bytes:
    if len(part) % 4 == 1:
        raise BadToken("not base64url")
    data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    # Spare bits in the last character would let one token be spelled in several ways.
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part.encode():
        raise BadToken("not canonical base64url")
    return data


def _json_object(data: bytes, where: str) -> dict[str, object]:
    try:
        value: object = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadToken(f"{where} is not JSON") from None
    if not isinstance(value, dict):
        raise BadToken(f"{where} is not an object")
    return cast("dict[str, object]", value)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Two readers of such a token could believe different things.
        raise BadToken("a JSON key appears twice")
    return found


def _refuse_constant(name: str) -> object:
    raise ValueError(name)
