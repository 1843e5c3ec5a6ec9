"""The one way a session token becomes an Identity, whoever issued it."""

import time
from collections.abc import Callable, Sequence

from jwt import PyJWS, PyJWTError

from guildhall.providers.identity import ASYMMETRIC, BadToken, Identity, Issuer, PublicKey
from guildhall.providers.identity.tokens import LEEWAY_S, check_claims, party_is_named, read_token

CACHE_ENTRIES = 10_000
# Longer tokens are verified each time, so the cache stays under 40 MB whatever is put into tokens.
CACHED_TOKEN_CHARS = 4 * 1024


class Verifier:
    """Verifies tokens of the given issuers. `clock` gives Unix seconds.

    A verified token is remembered until it expires, so that a busy session costs a look-up and no signature.
    Disabling a person is therefore decided by whoever reads the person's row, not here.
    """

    def __init__(
        self,
        issuers: Sequence[Issuer],
        *,
        clock: Callable[[], float] = time.time,
        cache_entries: int = CACHE_ENTRIES,
    ) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        if len(self._issuers) != len(issuers):
            raise ValueError("two issuers of one name: a subject could not be told apart")
        self._clock = clock
        self._cache_entries = cache_entries
        # The flag says whether the token may also come from a cookie.
        self._cache: dict[str, tuple[Identity, bool]] = {}
        self._jws = PyJWS(algorithms=sorted(ASYMMETRIC))

    def cached(self, token: str, from_cookie: bool, now: float) -> Identity | None:
        """Who is behind a token verified before and still valid at `now`: no await, under a microsecond."""
        entry = self._cache.get(token)
        if entry is None:
            return None
        identity, fits_cookie = entry
        if now >= identity.expires_at:
            del self._cache[token]
            return None
        if from_cookie and not fits_cookie:
            return None
        return identity

    async def verify(self, token: str, *, from_cookie: bool) -> Identity:
        """Raises BadToken, or KeysUnavailable while no key of the token's issuer is known."""
        now = self._clock()
        if (known := self.cached(token, from_cookie, now)) is not None:
            return known
        unverified = read_token(token)
        issuer = self._issuers.get(unverified.issuer)
        if issuer is None:
            raise BadToken("unknown issuer")
        # Everything that needs no key comes first, so that hopeless tokens cause no key fetch.
        identity = check_claims(unverified, issuer, now, from_cookie=from_cookie)
        keys = await issuer.keys.find(unverified.kid)
        self._check_signature(token, unverified.algorithm, keys)
        # Finding the key may have taken seconds.
        now = self._clock()
        if identity.expires_at <= now - LEEWAY_S:
            raise BadToken("expired")
        if now < identity.expires_at and len(token) <= CACHED_TOKEN_CHARS:
            fits_cookie = not issuer.authorized_parties or party_is_named(unverified)
            self._remember(token, identity, fits_cookie)
        return identity

    async def aclose(self) -> None:
        for issuer in self._issuers.values():
            await issuer.keys.aclose()

    def _check_signature(self, token: str, algorithm: str, keys: Sequence[PublicKey]) -> None:
        if not keys:
            raise BadToken("unknown key")
        fitting = [key for key in keys if algorithm in key.algorithms]
        if not fitting:
            raise BadToken("algorithm does not fit the key")
        for key in fitting:
            try:
                self._jws.decode(token, key.key, algorithms=[algorithm])
            except (PyJWTError, ValueError, TypeError):
                continue
            return
        raise BadToken("signature")

    def _remember(self, token: str, identity: Identity, fits_cookie: bool) -> None:
        # Oldest first out: sessions renew their tokens, so the oldest entries are those nearest to expiry.
        while len(self._cache) >= self._cache_entries:
            del self._cache[next(iter(self._cache))]
        self._cache[token] = (identity, fits_cookie)
