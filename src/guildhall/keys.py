"""One instance secret, and a key for each purpose derived from it.

Every machine with the same secret has the same keys, so nothing secret is stored in the database.
During a rotation the new secret comes first and the old one stays valid for what it made.
"""

import contextlib
import hashlib
import hmac
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MINIMUM_BYTES = 32
_NONCE_BYTES = 12


class Keys:
    """Derives keys by HKDF-SHA256. `secrets` are at least 32 bytes each, the current one first."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        if not secrets or any(len(secret) < MINIMUM_BYTES for secret in secrets):
            raise ValueError(f"an instance secret has at least {MINIMUM_BYTES} bytes")
        self._secrets = tuple(secrets)
        self._derived: dict[str, list[bytes]] = {}

    def derive(self, purpose: str) -> list[bytes]:
        """32-byte keys for `purpose`, the current one first."""
        if purpose not in self._derived:
            self._derived[purpose] = [
                HKDF(SHA256(), 32, salt=None, info=b"guildhall:" + purpose.encode()).derive(secret)
                for secret in self._secrets
            ]
        return self._derived[purpose]

    def macs(self, purpose: str, message: bytes) -> list[bytes]:
        """HMAC-SHA256 of `message` under each key of `purpose`, the current one first."""
        return [hmac.digest(key, message, hashlib.sha256) for key in self.derive(purpose)]

    def seal(self, purpose: str, message: bytes, about: bytes = b"") -> bytes:
        """`message`, read and changed by nobody; it opens for the same `purpose` and `about` alone."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self.derive(purpose)[0]).encrypt(nonce, message, about)

    def open(self, purpose: str, sealed: bytes, about: bytes = b"") -> bytes:
        """What was sealed. Raises InvalidTag when that was not here, or under a secret that is no more."""
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        for key in self.derive(purpose):
            with contextlib.suppress(InvalidTag):
                return AESGCM(key).decrypt(nonce, rest, about)
        raise InvalidTag
