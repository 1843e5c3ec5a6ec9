"""What a request must look like before a route is looked for: its size, framing, path and headers."""

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network
from itertools import chain
from typing import Any

from guildhall.errors import AppError, Invalid, NotFound, Unauthorized

MAX_LINE = 8 * 1024
MAX_HEADERS = 16 * 1024
MAX_HEADER_COUNT = 100
MAX_BODY = 256 * 1024
MAX_MEMORY_BODY = 3 * 1024 * 1024
# Where memories are sent.
MEMORY_PATHS = ("/v1/memories", "/mcp")
# Where agents call, which no page elsewhere and no cookie may.
AGENTS_PATH = "/mcp"
# What a page elsewhere may read of an answer, and send with a request.
EXPOSED = (
    b"X-Request-Id, ETag, Retry-After, X-Memax-Warning, X-RateLimit-Limit, X-RateLimit-Remaining, "
    b"X-RateLimit-Reset, Mcp-Session-Id, WWW-Authenticate"
)
ALLOWED = (
    b"Authorization, Content-Type, Idempotency-Key, If-None-Match, X-Hub-ID, X-Timezone, Mcp-Session-Id, "
    b"Mcp-Protocol-Version, Mcp-Method, Mcp-Name"
)

_FORM = (b"application/x-www-form-urlencoded", b"multipart/form-data", b"text/plain")
_ODD_PATH = re.compile(rb"%|//|\\|;|/\.{1,2}(/|$)|[\x00-\x20\x7f-\xff]")
_SECRET_PATHS = ("/api/invites/", "/api/exports/", "/v1/invites/", "/join/", "/invite/", "/blobs/")
_SECRET_PATH = re.compile(rf"^({'|'.join(_SECRET_PATHS)}).+?(?=/accept$|$)")
# Addresses are kept in histories and logs, so a credential in one is refused, whatever comes with it.
_CREDENTIAL = re.compile(rb"(?:^|&)(?:__session|__Host-session|access_token)=")
_LONG = re.compile(r"[^/]{17,}")
_ONCE = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-type",
        b"host",
        b"idempotency-key",
        b"origin",
        b"transfer-encoding",
    }
)


class TooLarge(AppError):
    status, code = 413, "body_too_large"
    title = "The body is larger than this route accepts."


class LineTooLong(AppError):
    status, code = 414, "uri_too_long"
    title = "The request line is longer than 8 KiB."


class HeadersTooLarge(AppError):
    status, code = 431, "headers_too_large"
    title = "There are more than 100 headers, or more than 16 KiB of them."


class UnsupportedMediaType(AppError):
    status, code = 415, "unsupported_media_type"
    title = "Send the body as application/json in UTF-8."


class LengthRequired(AppError):
    status, code = 411, "length_required"
    title = "Send the body with a Content-Length; chunked bodies are not read."


class TooSlow(AppError):
    status, code = 408, "request_timeout"
    title = "The body did not arrive in time."


class AmbiguousLength(Invalid):
    title = "The length of the body is not said once and as a number."


def screen(scope: Any) -> dict[bytes, bytes]:
    """The headers by name of a request that a route may see, whose path then has no slash at its end."""
    raw_path: bytes = scope["raw_path"] or scope["path"].encode()
    query: bytes = scope["query_string"]
    if len(raw_path) + len(query) > MAX_LINE:
        raise LineTooLong
    pairs: list[tuple[bytes, bytes]] = list(scope["headers"])
    headers = dict(pairs)
    size = 4 * len(pairs) + sum(map(len, chain.from_iterable(pairs)))
    if len(pairs) > MAX_HEADER_COUNT or size > MAX_HEADERS:
        raise HeadersTooLarge
    if b"transfer-encoding" in headers:
        # A body of a length that is told twice, or not at all, is how requests are smuggled past proxies.
        raise LengthRequired
    if len(headers) != len(pairs):
        _refuse_repeats(pairs)
        if b"cookie" in headers:
            # Over HTTP/2 each cookie may come in a header of its own.
            headers[b"cookie"] = b"; ".join(value for name, value in pairs if name == b"cookie")
    if _ODD_PATH.search(raw_path):
        raise NotFound
    if b"%00" in query:
        raise Invalid("The query string holds the character U+0000.")
    if b"_" in query and _CREDENTIAL.search(query):
        raise Unauthorized
    if raw_path.endswith(b"/"):
        scope["path"] = scope["path"].rstrip("/") or "/"
    return headers


def _refuse_repeats(pairs: list[tuple[bytes, bytes]]) -> None:
    """A header that decides something is sent once; which of two would count is not for us to guess."""
    seen: set[bytes] = set()
    for name, _ in pairs:
        if name in _ONCE and name in seen:
            if name == b"authorization":
                raise Unauthorized
            if name == b"content-length":
                raise AmbiguousLength
            raise Invalid(f"The header {name.decode()} is sent twice.")
        seen.add(name)


def length_of_json(headers: Mapping[bytes, bytes]) -> int:
    """The length of a body that is JSON or nothing. Raises UnsupportedMediaType, Invalid."""
    raw = headers.get(b"content-length", b"0")
    if not raw.isdigit() or len(raw) > 18:
        raise AmbiguousLength
    length = int(raw)
    content_type = headers.get(b"content-type", b"").lower()
    kind, _, rest = content_type.partition(b";")
    kind = kind.strip()
    if kind in _FORM or (length and kind != b"application/json"):
        raise UnsupportedMediaType
    if kind == b"application/json" and b"charset" in rest:
        charset = rest.partition(b"charset=")[2].strip(b' "')
        if charset.replace(b"-", b"") != b"utf8":
            raise UnsupportedMediaType
    return length


def session_cookie(header: str, names: tuple[str, ...]) -> str | None:
    """The session in a Cookie header. Two of them are none. Raises Unauthorized."""
    found: list[str] = []
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name in names:
            found.append(value)
    if len(found) > 1:
        raise Unauthorized
    return found[0] if found else None


def forwarded(headers: Mapping[bytes, bytes], address: str) -> str:
    """The client's address as the nearest proxy saw it."""
    last = headers.get(b"x-forwarded-for", b"").decode("latin-1").rpartition(",")[2].strip()
    return last or address


@lru_cache(10_000)
def neighbours(address: str) -> str:
    """Whom an IPv6 address counts with: one customer has all that begin with the same 64 bits."""
    try:
        found = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return address if found.is_loopback else str(IPv6Network((found, 64), strict=False))


def path_for_log(path: str, *, known: bool) -> str:
    """The path without what opens something. In a path that is no route, anything long may be a secret."""
    if path.startswith(_SECRET_PATHS):
        path = _SECRET_PATH.sub(r"\1***", path)
    return path if known else _LONG.sub("***", path)
