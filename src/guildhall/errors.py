"""The refusals we answer with. One class per meaning a client can act on; codes are never renamed.

A class is declared beside the code that raises it; the ones below are shared by every room.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Self

import msgspec


class Taken(NamedTuple):
    """How a rate limit stands: how many at most, how many are left, and when all are again."""

    limit: int
    remaining: int
    full_in_s: int


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field: an RFC 6901 pointer into the body, or `?name` for a query parameter."""

    pointer: str
    code: str
    message: str


class AppError(Exception):
    """A refusal. `status` and `code` are the contract's; the message says what to do next."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad_request"
    title: ClassVar[str] = "The request cannot be served."

    def __init__(
        self,
        message: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        details: dict[str, object] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message or self.title)
        self.message = message or self.title
        self.errors = tuple(errors)
        self.details = details
        self.retry_after_s = retry_after_s

    @classmethod
    def at(cls, pointer: str) -> Self:
        """The refusal because of one field."""
        return cls(errors=[FieldError(pointer, cls.code, cls.title)])


class Invalid(AppError):
    status, code = 400, "invalid"
    title = "Some fields are not acceptable."


class InvalidRequest(AppError):
    code = "invalid_request"
    title = "The request lacks something, or something in it does not fit."


class Unauthorized(AppError):
    """Every failed authentication sounds the same; the cause goes to the log."""

    status, code = 401, "unauthorized"
    title = "A valid session is needed. Sign in and send its token as a Bearer token or cookie."


class Forbidden(AppError):
    status, code = 403, "forbidden"
    title = "You may not do this."


class NotFound(AppError):
    """Missing and not for the caller's eyes sound alike, so existence stays private."""

    status, code = 404, "not_found"
    title = "There is no such thing, or it is not visible to you."


class Conflict(AppError):
    status, code = 409, "conflict"
    title = "The present state does not allow this."


class TooManyRequests(AppError):
    """`bucket` is the limit that was reached, where one is known."""

    status, code = 429, "rate_limited"
    title = "Too many requests. Wait as long as Retry-After says."
    bucket: Taken | None = None


class Unavailable(AppError):
    """Nothing was done; the same request may be sent again."""

    status, code = 503, "unavailable"
    title = "The service cannot answer just now. Nothing was changed; try again shortly."


class OutcomeUnknown(AppError):
    """The connection was lost during commit. The same Idempotency-Key finds out."""

    status, code = 503, "outcome_unknown"
    title = "The connection was lost while saving. Repeat the request with the same Idempotency-Key."
