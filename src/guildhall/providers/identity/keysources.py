"""Where an issuer's public keys come from: pinned, fetched from its JWKS address, or our own."""

import asyncio
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWTError
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from guildhall.providers.identity import KeysUnavailable, PublicKey, check_provider_url
from guildhall.providers.identity.bounded import BoundedError, get_bounded
from guildhall.providers.identity.tokens import MAX_KID_CHARS

FETCH_EVERY_S = 30.0
REFRESH_AFTER_S = 3600.0
MAX_KEYS = 100

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_KINDS = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
_PEM_END = "-----END PUBLIC KEY-----"

log = structlog.get_logger(__name__)


class OwnKeys:
    """The keys of an issuer within this process. No network."""

    def __init__(self, keys: Sequence[PublicKey]) -> None:
        self._keys = {key.kid: (key,) for key in keys}

    async def find(self, kid: str) -> Sequence[PublicKey]:
        return self._keys.get(kid, ())

    async def aclose(self) -> None:
        return None


class PinnedKey:
    """Keys given in the settings, as PEM; several while one replaces another. No network.

    The PEM carries no key id, so the token's is not compared: the signature alone decides.
    Raises ValueError for text that holds no usable public key.
    """

    def __init__(self, pem: str) -> None:
        # In an environment file a PEM often stands on one line, with its line breaks spelled out.
        blocks = pem.replace("\\n", "\n").split(_PEM_END)
        keys = [
            public_key(load_pem_public_key((block.strip() + "\n" + _PEM_END + "\n").encode()), kid=None)
            for block in blocks[:-1]
        ]
        if not keys or blocks[-1].strip():
            raise ValueError("not a public key in PEM")
        self._keys = tuple(keys)

    async def find(self, kid: str) -> Sequence[PublicKey]:
        return self._keys

    async def aclose(self) -> None:
        return None


class Jwks:
    """The keys an issuer publishes. `clock` gives monotonic seconds.

    An unknown id leads to a fetch, at most one per `fetch_every_s` whatever happens, shared by all who wait.
    Known keys serve for as long as the issuer cannot be reached, and nobody waits for their renewal.
    A key the issuer has taken back is forgotten at the next fetch; use causes one every `refresh_after_s`.
    """

    def __init__(
        self,
        url: str,
        *,
        fetch_every_s: float = FETCH_EVERY_S,
        refresh_after_s: float = REFRESH_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_provider_url(url)
        self._url = url
        self._fetch_every_s = fetch_every_s
        self._refresh_after_s = refresh_after_s
        self._clock = clock
        self._keys: Mapping[str, tuple[PublicKey, ...]] = {}
        self._fetched_at = -math.inf
        self._next_fetch_at = -math.inf
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str) -> Sequence[PublicKey]:
        known = self._keys.get(kid)
        if known is not None:
            if self._clock() - self._fetched_at >= self._refresh_after_s:
                self._start_fetch()
            return known
        fetching = self._start_fetch()
        if fetching is not None:
            # One request that goes away must not take the fetch away from the others.
            await asyncio.shield(fetching)
        if not self._keys:
            wait_s = max(1, math.ceil(self._next_fetch_at - self._clock()))
            raise KeysUnavailable("Sessions cannot be checked just now.", retry_after_s=wait_s)
        return self._keys.get(kid, ())

    async def aclose(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
            self._fetching = None

    def _start_fetch(self) -> asyncio.Task[None] | None:
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        now = self._clock()
        if now < self._next_fetch_at:
            return None
        self._next_fetch_at = now + self._fetch_every_s
        self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            body = await get_bounded(self._url, ("application/json", "application/jwk-set+json"))
            keys = read_jwks(body)
        except BoundedError as error:
            log.warning("identity.keys_not_fetched", reason=str(error))
            if error.retry_after_s is not None:
                self._next_fetch_at = max(self._next_fetch_at, self._clock() + error.retry_after_s)
            return
        except ValueError as error:
            log.warning("identity.keys_not_fetched", reason=str(error))
            return
        by_id: dict[str, tuple[PublicKey, ...]] = {}
        for key in keys:
            assert key.kid is not None
            by_id[key.kid] = (*by_id.get(key.kid, ()), key)
        self._keys = by_id
        self._fetched_at = self._clock()


def read_jwks(body: bytes) -> list[PublicKey]:
    """The usable signing keys of a JWKS document. Raises ValueError when there is none."""
    try:
        document: object = json.loads(body)
    except RecursionError:
        raise ValueError("not a JWKS document") from None
    entries = cast("dict[str, object]", document).get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a JWKS document")
    read = [_read_jwk(entry) for entry in cast("list[object]", entries)[:MAX_KEYS]]
    keys = [key for key in read if key is not None]
    if not keys:
        raise ValueError("a JWKS document without a usable key")
    return keys


def _read_jwk(entry: object) -> PublicKey | None:
    """None for what is not a public signing key; one odd entry must not cost us the others."""
    if not isinstance(entry, dict):
        return None
    jwk = cast("dict[str, object]", entry)
    kid, kind = jwk.get("kid"), jwk.get("kty")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_CHARS:
        return None
    if not isinstance(kind, str) or kind not in _KINDS:
        return None
    # A private key in public has been given away, and a key for encryption signs nothing.
    if "d" in jwk or jwk.get("use", "sig") != "sig":
        return None
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        key = public_key(_KINDS[kind].from_jwk(jwk), kid)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    if "alg" not in jwk:
        return key
    named = key.algorithms & ({jwk["alg"]} if isinstance(jwk["alg"], str) else set[str]())
    return PublicKey(kid, named, key.key) if named else None


def public_key(material: object, kid: str | None) -> PublicKey:
    """Binds a key to the algorithms of its kind. Raises ValueError for a kind or size we do not trust."""
    if isinstance(material, rsa.RSAPublicKey):
        if not 2048 <= material.key_size <= 8192:
            raise ValueError("an RSA key has 2048 to 8192 bits")
        return PublicKey(kid, _RSA, material)
    if isinstance(material, ec.EllipticCurvePublicKey) and material.curve.name in _CURVES:
        return PublicKey(kid, frozenset({_CURVES[material.curve.name]}), material)
    if isinstance(material, ed25519.Ed25519PublicKey):
        return PublicKey(kid, frozenset({"EdDSA"}), material)
    raise ValueError("a public key is RSA, Ed25519, or on a NIST curve")
