"""Tokens in links. Derived by a keyed MAC from the id of what they open, so that nothing secret is stored:
the database keeps a hash to look them up by, and whoever may see a token again has it derived again.
"""

import base64
import binascii
import hashlib
import hmac
import zlib
from uuid import UUID

from guildhall.keys import Keys

_MAC_CHARACTERS = 43
_CHECK_CHARACTERS = 6


class Tokens:
    """Tokens of one kind: a prefix, 256 bits, and a check tail that tells a typing error without a query."""

    def __init__(self, keys: Keys, purpose: str, prefix: str) -> None:
        self._keys = keys
        self._purpose = purpose
        self._prefix = prefix

    def make(self, of: UUID) -> str:
        """The token for `of`, under the current key."""
        return self._candidates(of)[0]

    def make_again(self, of: UUID, token_hash: bytes) -> str | None:
        """The token for `of` that has this hash, under whichever key made it; None when that key is gone."""
        return next((token for token in self._candidates(of) if self.hash(token) == token_hash), None)

    def _candidates(self, of: UUID) -> list[str]:
        tokens: list[str] = []
        for mac in self._keys.macs(self._purpose, of.bytes):
            body = self._prefix + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
            tokens.append(body + _check(body))
        return tokens

    def well_formed(self, token: str) -> bool:
        """Whether this could be a token of this kind at all."""
        if len(token) != len(self._prefix) + _MAC_CHARACTERS + _CHECK_CHARACTERS or not token.isascii():
            return False
        body, tail = token[:-_CHECK_CHARACTERS], token[-_CHECK_CHARACTERS:]
        return body.startswith(self._prefix) and tail == _check(body)

    @staticmethod
    def hash(token: str) -> bytes:
        """What the database looks a token up by. It has 256 bits, so one round of SHA-256 is enough."""
        return hashlib.sha256(token.encode()).digest()


class Signed:
    """Tokens that carry what they say, such as an id, and a MAC that only this service can make."""

    def __init__(self, keys: Keys, purpose: str, prefix: str) -> None:
        self._keys = keys
        self._purpose = purpose
        self._prefix = prefix

    def make(self, payload: bytes) -> str:
        mac = self._keys.macs(self._purpose, payload)[0]
        return self._prefix + base64.urlsafe_b64encode(payload + mac).rstrip(b"=").decode()

    def read(self, token: str, payload_bytes: int) -> bytes | None:
        """What the token says, in exactly so many bytes; None for one that is not ours."""
        text = token.removeprefix(self._prefix)
        if text == token or not text.isascii() or len(text) != -(-(payload_bytes + 32) * 4 // 3):
            return None
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            return None
        payload, mac = raw[:payload_bytes], raw[payload_bytes:]
        if not any(hmac.compare_digest(mac, known) for known in self._keys.macs(self._purpose, payload)):
            return None
        return payload


def _check(body: str) -> str:
    return f"{zlib.crc32(body.encode()) & 0xFFFFFF:06x}"
