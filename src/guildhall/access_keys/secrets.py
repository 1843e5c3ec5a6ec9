"""The text of a key: `mxk_` and 64 hex characters, of which the last eight tell a typing error."""

import hashlib
import re
import secrets
import zlib

from guildhall.web.access import KEY_PREFIX

_SECRET_BYTES = 28
_FORM = re.compile(KEY_PREFIX + "[0-9a-f]{64}")
PREFIX_CHARACTERS = 8


def make() -> str:
    """A new key: 224 bits of chance and a check. Shown once, and nowhere kept."""
    body = KEY_PREFIX + secrets.token_hex(_SECRET_BYTES)
    return body + _check(body)


def well_formed(key: str) -> bool:
    """Whether this could be a key at all, so that no query is made for what is not."""
    return _FORM.fullmatch(key) is not None and key.endswith(_check(key[:-8]))


def digest(key: str) -> bytes:
    """What a key is looked up by."""
    return hashlib.sha256(key.encode()).digest()


def _check(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
