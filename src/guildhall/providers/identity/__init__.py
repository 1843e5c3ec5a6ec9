"""Who is asking: session tokens verified offline, and the profiles their issuer keeps.

The embedded issuer and a hosted one go through the same verification; only the source of the keys differs.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlencode, urlsplit

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from guildhall.errors import AppError, Unauthorized, Unavailable
from guildhall.secret import Secret

SUBJECT = re.compile(r"[A-Za-z0-9_-]{1,64}")
ASYMMETRIC = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A verified person: known by issuer and subject together. Times are Unix seconds.

    `actor` is who really acts when the issuer lets one person impersonate another.
    """

    issuer: str
    subject: str
    session_id: str | None
    issued_at: int
    expires_at: int
    actor: str | None


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What the issuer knows of a person. `email` and `email_verified` come from the same record.

    `record_at` tells a newer state of that record from an older one, in Unix milliseconds, where the issuer
    says.
    """

    id: str
    display_name: str | None
    avatar_url: str | None
    email: str | None
    email_verified: bool
    phone_number: str | None
    record_at: int | None = None

    # Profiles pass through logs of failures; an address or a number must not be seen there.
    def __repr__(self) -> str:
        return f"Profile(id={self.id!r})"


class BadToken(Unauthorized):
    """The token proves nothing. The client hears what every failed sign-in hears; `cause` is for the log."""

    def __init__(self, cause: str) -> None:
        super().__init__()
        self.cause = cause


class KeysUnavailable(Unavailable):
    """No key of the token's issuer is known, so nothing can be said about the token yet."""


class ProfilesUnavailable(Exception):
    """The issuer did not tell. `reason` names no person, and `retry_after_s` is set where it said when."""

    def __init__(self, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class BadWebhook(AppError):
    """The delivery is not one of ours to believe. `cause` is for the log."""

    status, code = 400, "bad_webhook"
    title = "This delivery is not signed as it must be."

    def __init__(self, cause: str) -> None:
        super().__init__()
        self.cause = cause


class PublicKey(msgspec.Struct, frozen=True):
    """A key and the algorithms it may be used with. A pinned key has no id and stands for any."""

    kid: str | None
    algorithms: frozenset[str]
    key: RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class KeySource(Protocol):
    """Where an issuer's keys come from; never from a token."""

    async def find(self, kid: str) -> Sequence[PublicKey]:
        """The keys of that id; none when it is unknown. Raises KeysUnavailable when no key at all is."""
        ...

    async def aclose(self) -> None: ...


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """One issuer we trust, and what its tokens must say.

    A token that names an authorized party must name one of `authorized_parties`; a cookie's token must
    name one as soon as any is listed. A token with an audience is refused unless `audiences` lists it.
    """

    issuer: str
    keys: KeySource
    algorithms: frozenset[str]
    authorized_parties: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    needs_session: bool = True

    def __post_init__(self) -> None:
        if not self.issuer:
            raise ValueError("an issuer has a name")
        if not self.algorithms or not self.algorithms <= ASYMMETRIC:
            raise ValueError("an issuer signs with public-key algorithms only")


class Profiles(Protocol):
    """Asks the issuer about a person. Raises ProfilesUnavailable, nothing else."""

    async def fetch(self, user_id: str) -> Profile | None:
        """None when the issuer knows nobody by that id."""
        ...

    async def aclose(self) -> None: ...


class Clerk(msgspec.Struct, frozen=True, kw_only=True):
    """Clerk as the issuer. Keys come from `pinned_key` (PEM, no network) or else from `jwks_url`.

    Tokens Clerk makes for browsers name the page's origin, so `authorized_parties` lists the origins
    that may send one. `sign_in_url` is the hosted page where browsers sign in.
    """

    issuer: str
    secret_key: Secret[str] | None = None
    jwks_url: str | None = None
    pinned_key: str | None = None
    authorized_parties: tuple[str, ...] = ()
    webhook_secrets: tuple[Secret[str], ...] = ()
    api_url: str = "https://api.clerk.com/v1"
    sign_in_url: str | None = None

    def sign_in_link(self, return_to: str) -> str | None:
        """Where a browser signs in and comes back to `return_to`; None where the operator has not said."""
        return f"{self.sign_in_url}?{urlencode({'redirect_url': return_to})}" if self.sign_in_url else None

    def account_link(self, return_to: str) -> str | None:
        """Where one looks after one's account and signs out: in Clerk's portal, beside signing in."""
        if not self.sign_in_url:
            return None
        portal = self.sign_in_url.rstrip("/").removesuffix("/sign-in")
        page = self.sign_in_url if portal == self.sign_in_url.rstrip("/") else f"{portal}/user"
        return f"{page}?{urlencode({'redirect_url': return_to})}"

    def __post_init__(self) -> None:
        check_provider_url(self.api_url)
        if self.sign_in_url is not None:
            check_provider_url(self.sign_in_url)
        for secret in self.webhook_secrets:
            if not _is_webhook_secret(secret.reveal()):
                raise ValueError("a webhook secret is whsec_ followed by at least 16 bytes in base64")


def _is_webhook_secret(text: str) -> bool:
    if not text.startswith("whsec_"):
        return False
    try:
        return len(base64.b64decode(text.removeprefix("whsec_"), validate=True)) >= 16
    except binascii.Error:
        return False


def check_provider_url(url: str) -> None:
    """Raises ValueError unless `url` is https, or plain http to this very machine."""
    parts = urlsplit(url)
    loopback = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        raise ValueError("a provider's address starts with https://")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("a provider's address has neither user name nor fragment")


def clerk_issuer(settings: Clerk) -> Issuer:
    """Raises ValueError for a key or an address that cannot be used."""
    from guildhall.providers.identity.keysources import Jwks, PinnedKey

    keys: KeySource
    if settings.pinned_key is not None:
        keys = PinnedKey(settings.pinned_key)
    else:
        keys = Jwks(settings.jwks_url or settings.issuer.rstrip("/") + "/.well-known/jwks.json")
    return Issuer(
        issuer=settings.issuer,
        keys=keys,
        algorithms=frozenset({"RS256", "ES256", "EdDSA"}),
        authorized_parties=settings.authorized_parties,
    )


def open_clerk_profiles(settings: Clerk) -> Profiles:
    """Raises ValueError without a secret key, ImportError without the extra `clerk`."""
    from guildhall.providers.identity.clerk import ClerkProfiles

    return ClerkProfiles(settings)
