"""How a refusal looks: RFC 9457 problem details on `/api` and pages, the `error` envelope on `/v1`."""

from typing import Any

import msgspec

from guildhall.errors import AppError, TooManyRequests

Headers = list[tuple[bytes, bytes]]


class ProblemField(msgspec.Struct, frozen=True, kw_only=True):
    pointer: str
    code: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What went wrong. Branch on `code`; `detail` is for people. `errors` names every bad field of a 400."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: tuple[ProblemField, ...] = ()
    details: dict[str, Any] | None = None


class EnvelopeError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    code: str
    message: str
    details: dict[str, Any] | None = None


class ErrorEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong on `/v1`. Branch on `error.code`."""

    error: EnvelopeError


_encode = msgspec.json.Encoder().encode


# Where programs call; elsewhere a browser that asks for HTML gets a page.
_PROGRAMS = ("/api/", "/v1/", "/blobs/", "/.well-known/", "/static/", "/mcp", "/health", "/metrics")


def refuse(scope: Any, error: AppError, request_id: str) -> tuple[int, Headers, bytes]:
    """The status, headers and body that tell whoever sent the request of `error`."""
    path: str = scope["path"]
    if isinstance(error, TooManyRequests) and error.bucket is not None:
        # The limit that was reached is the scarcest, whatever the request took from before.
        scope["state"]["rate"] = error.bucket
    if (
        not path.startswith(_PROGRAMS)
        and (state := scope.get("state"))
        and b"text/html" in dict(scope["headers"]).get(b"accept", b"")
    ):
        service = state["service"]
        query = scope["query_string"].decode("latin-1")
        whole = f"{path}?{query}" if query else path
        return service.error_page(service, error, whole, request_id, "caller" in state)
    return render(error, path, request_id)


def render(error: AppError, path: str, request_id: str) -> tuple[int, Headers, bytes]:
    """The status, headers and body that tell of `error`."""
    headers: Headers = []
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, error.retry_after_s)).encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="guildhall"'))
    fields = tuple(ProblemField(pointer=e.pointer, code=e.code, message=e.message) for e in error.errors)
    if path.startswith("/v1/") or path == "/v1":
        details = dict(error.details or {})
        if fields:
            details["errors"] = fields
        body = _encode(
            ErrorEnvelope(
                error=EnvelopeError(code=error.code, message=error.message, details=details or None)
            )
        )
        headers.append((b"content-type", b"application/json; charset=utf-8"))
    else:
        body = _encode(
            Problem(
                type="about:blank",
                title=error.title,
                status=error.status,
                detail=error.message,
                code=error.code,
                request_id=request_id,
                errors=fields,
                details=error.details,
            )
        )
        headers.append((b"content-type", b"application/problem+json; charset=utf-8"))
    return error.status, headers, body
