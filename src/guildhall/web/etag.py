"""Answers that a client may keep: a tag of all the answer depends on, asked about with If-None-Match."""

import hashlib
from functools import lru_cache
from typing import Any

from litestar import Request


@lru_cache(10_000, typed=True)
def tag(*of: object) -> tuple[bytes, bytes]:
    """The ETag header for an answer that depends on `of` and nothing else."""
    digest = hashlib.blake2b(repr(of).encode(), digest_size=12).hexdigest()
    return b"etag", f'W/"{digest}"'.encode()


def not_modified(request: Request[Any, Any, Any], etag: tuple[bytes, bytes]) -> bool:
    """Whether the client has this answer already."""
    known = wanted(request.scope)
    return known is not None and etag[1] in known


def wanted(scope: Any) -> bytes | None:
    """The If-None-Match header."""
    for name, value in scope["headers"]:
        if name == b"if-none-match":
            return value
    return None
