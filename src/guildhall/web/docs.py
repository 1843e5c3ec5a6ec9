"""What a route says of itself beyond its signature, for the documentation, the limits and the tests."""

from typing import Any, Literal

from guildhall.errors import AppError
from guildhall.web.access import Atom


def facts(
    *refusals: type[AppError],
    limits: tuple[str, ...] = (),
    answers: type | None = None,
    unlimited: bool = False,
    also: dict[int, type] | None = None,
    etag: bool = False,
    media: str | None = None,
    query: type | None = None,
    needs: tuple[str, ...] = (),
    quick: bool = False,
    changes: bool = False,
    reads: bool = False,
    atom: Atom | Literal["any"] | None = None,
    unlimited_key: bool = False,
    bodiless: bool = False,
    tells: type | None = None,
) -> dict[str, Any]:
    """The `opt` of a route.

    `refusals` are the errors of its own, beside those every route has; `limits` name local rate limits;
    `answers` is the shape of a body that the handler makes as bytes; `also` are further success statuses.
    `etag` says that answers carry one and that If-None-Match is heard; `media` is the content type of an
    answer that is not JSON. `query` is a struct of the parameters that the handler reads itself; `needs`
    names those it misses itself, after it has looked at who asks.
    `quick` lets the edge call the handler of a GET without the framework: it takes `scope`, `caller` and what
    else QuickRoutes knows of, and answers `Raw`. `changes` is a GET which changes something, so that a page
    elsewhere may not have a browser call it; its path has no parameters, and its handler does nothing for a
    HEAD. `reads` is a POST that is counted as a read, since it counts itself what it writes.
    `atom` names the permission that an API key must hold to call the route at all; where there is none, the
    route is for sessions alone. `unlimited_key` refuses keys that are for certain hubs.
    `tells` is the shape of what an event stream tells.
    `bodiless` lets the body of a route of `/v1` be left out, as an empty object.
    """
    return {
        "refusals": refusals,
        "limits": limits,
        "answers": answers,
        "unlimited": unlimited,
        "also": also or {},
        "etag": etag,
        "media": media,
        "query": query,
        "needs": needs,
        "quick": quick,
        "changes": changes,
        "reads": reads,
        "atom": atom,
        "unlimited_key": unlimited_key,
        "bodiless": bodiless,
        "tells": tells,
    }
