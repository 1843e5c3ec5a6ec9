"""Tokens in links. Derived by a keyed MAC from the id of what they open, so that nothing secret is stored:
the database keeps a hash to look them up by, and whoever may see a token again has it derived again.
"""

import base64
import hashlib
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


def _check(body: str) -> str:
    return f"{zlib.crc32(body.encode()) & 0xFFFFFF:06x}"
