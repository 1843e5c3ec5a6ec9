"""Pages of a list: by number, which some clients have, or by cursor, which no insertion shifts."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
from litestar.params import Parameter
from msgspec import UNSET, UnsetType

from guildhall.errors import FieldError, Invalid
from guildhall.web.wire import Optional

T = TypeVar("T")

MAX_DEPTH = 100_000

# None is inside each: the framework overlooks the limits of one side of a union.
Page = Annotated[
    int | None, Parameter(ge=1, le=MAX_DEPTH, description="Which page, from 1. Prefer `cursor`.")
]
Limit = Annotated[int | None, Parameter(ge=1, le=100, description="How many items at most.")]
Cursor = Annotated[
    str | None,
    Parameter(max_length=512, description="The `nextCursor` of the page before. Goes instead of `page`."),
]


def offset(page: int, limit: int) -> int:
    """How many rows to pass over. Raises Invalid where pages reach too deep."""
    if page * limit > MAX_DEPTH:
        raise Invalid(
            errors=[
                FieldError("?page", "too_deep", f"page × limit is at most {MAX_DEPTH}; use cursor instead.")
            ]
        )
    return (page - 1) * limit


def encode_cursor(*key: datetime | UUID | str | bool | int) -> str:
    """An opaque text for the sort key of a page's last row."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).rstrip(b"=").decode()


def decode_cursor(cursor: str, kind: type[T]) -> T:
    """The sort key in a cursor, a tuple type such as `tuple[datetime, UUID]`. Raises Invalid."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key: Any = msgspec.json.decode(raw, type=kind)
        if not all(map(_could_be_ours, key)):
            raise ValueError
        return key
    except (binascii.Error, msgspec.MsgspecError, ValueError) as error:
        problem = FieldError(
            "?cursor", "invalid_cursor", "This is not a cursor of this list. Start without one."
        )
        raise Invalid(errors=[problem]) from error


def _could_be_ours(part: object) -> bool:
    """Cursors are not signed: what the database could not take as a value is no cursor."""
    if isinstance(part, datetime):
        return part.tzinfo is not None and 1970 <= part.year < 9999
    if isinstance(part, str):
        part.encode()  # raises ValueError for half of a surrogate pair
        return "\x00" not in part
    return not isinstance(part, int) or abs(part) < 2**31


class Listing(Optional, frozen=True, kw_only=True):
    """The envelope of every list; a subclass says what `items` are. The rest is there where it is paged."""

    items: list[Any]
    page: int | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    total: int | UnsetType = UNSET
    has_more: bool | UnsetType = UNSET
    next_cursor: str | UnsetType | None = UNSET
