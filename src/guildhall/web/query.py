"""Query strings, judged before the framework reads them, since it repairs what it should refuse."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args
from urllib.parse import unquote_to_bytes

from litestar.handlers import BaseRouteHandler

from guildhall.errors import FieldError, Invalid

NOTHING: Mapping[str, bool] = {}


def check_query(raw: bytes, *, repeats: bool, exact: Mapping[str, bool] = NOTHING) -> None:
    """Refuse what is not UTF-8 and, unless `repeats`, a parameter given twice. Raises Invalid naming each.

    `exact` are the parameters that are no texts, and whether they are whole numbers: the framework would
    take `null` for their absence, and `1e3` for a number.
    """
    if not raw:
        return
    errors: dict[str, FieldError] = {}
    seen: set[str] = set()
    for part in filter(None, raw.split(b"&")):
        name, _, value = (
            unquote_to_bytes(side.replace(b"+", b" ")) if b"%" in part else side
            for side in part.partition(b"=")
        )
        shown = name.decode("utf-8", "replace")
        if problem := _problem(name, value, exact.get(shown)):
            errors[shown] = FieldError(f"?{shown}", *problem)
        if shown in seen and not repeats:
            errors[shown] = FieldError(f"?{shown}", "repeated", "This parameter is given twice.")
        seen.add(shown)
    if errors:
        raise Invalid(errors=list(errors.values()))


def _problem(name: bytes, value: bytes, number: bool | None) -> tuple[str, str] | None:
    try:
        name.decode()
        value.decode()
    except UnicodeDecodeError:
        return "encoding", "This is not UTF-8."
    if number and not value.removeprefix(b"-").isdigit():
        return "invalid", "This must be a whole number."
    if number is False and value.lower() == b"null":
        return "invalid", "Leave the parameter out instead."
    return None


@cache
def exact_parameters(handler: BaseRouteHandler) -> Mapping[str, bool]:
    """The parameters of a route that are no texts, under their names in the query."""
    found: dict[str, bool] = {}
    for name, field in handler.parsed_fn_signature.parameters.items():
        kinds = set(_members(field.annotation))
        if str not in kinds:
            found[getattr(field.kwarg_definition, "query", None) or name] = int in kinds
    return found


def _members(hint: Any) -> Iterator[Any]:
    yield hint
    for member in get_args(hint):
        yield from _members(member)
