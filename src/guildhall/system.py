"""What the service says of itself: whether it is well, and what it offers."""

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, UnsetType

from guildhall import __version__
from guildhall.errors import NotFound
from guildhall.web.app import Answer, NoSuchRoute
from guildhall.web.caller import Guest
from guildhall.web.docs import facts
from guildhall.web.etag import not_modified, tag
from guildhall.web.openapi import API, V1, Surface, describe, handlers_of
from guildhall.web.wire import Optional, Wire, WireV1

State = Literal["ok", "down"]


class Checks(Wire, frozen=True, kw_only=True):
    database: State
    worker: State


class Health(Optional, frozen=True, kw_only=True):
    """`status` is degraded when something the service stands on does not answer; `checks` then says what."""

    status: Literal["ok", "degraded"]
    timestamp: str
    version: str
    checks: Checks | UnsetType = UNSET


@get("/api/health", summary="Ask whether the service is well", opt=facts(unlimited=True, also={503: Health}))
async def health(guest: NamedDependency[Guest]) -> Response[Health]:
    pulse = await guest.db.pulse()
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if pulse.database and pulse.worker:
        return Response(Health(status="ok", timestamp=stamp, version=__version__))
    # Without the database nobody knows of the worker, and what is not known is not called down.
    checks = Checks(
        database="ok" if pulse.database else "down",
        worker="ok" if pulse.worker or not pulse.database else "down",
    )
    return Response(
        Health(status="degraded", timestamp=stamp, version=__version__, checks=checks), status_code=503
    )


class Ready(WireV1, frozen=True, kw_only=True):
    """`ready` is whether requests can be served."""

    status: Literal["ok", "degraded"]
    service: Literal["guildhall"]
    ready: bool


@get("/health", summary="Ask whether the service is ready", opt=facts(unlimited=True, also={503: Ready}))
async def readiness(guest: NamedDependency[Guest]) -> Response[Ready]:
    ready = await guest.db.alive()
    answer = Ready(status="ok" if ready else "degraded", service="guildhall", ready=ready)
    return Response(answer, status_code=200 if ready else 503)


class _Jobs(msgspec.Struct, frozen=True):
    status: str
    count: int


@get(
    "/metrics",
    summary="Read the counts of one process",
    opt=facts(NotFound, unlimited=True, media="text/plain"),
)
async def read_metrics(guest: NamedDependency[Guest]) -> Response[Any]:
    """For Prometheus, where the setting METRICS opens it. Each process counts for itself."""
    if not guest.service.metrics:
        raise NoSuchRoute
    async with guest.db.reading() as read:
        rows = await read.many(
            _Jobs, "SELECT status::text AS status, count(*)::int AS count FROM pgqueuer GROUP BY status"
        )
    from guildhall.metrics import CONTENT_TYPE, write_metrics

    body = write_metrics(guest.service.traffic, {row.status: row.count for row in rows})
    return Answer(200, [(b"content-type", CONTENT_TYPE.encode())], body)


@get(
    "/api/openapi.json",
    summary="Read the description of /api",
    opt=facts(NotFound, answers=dict[str, Any], etag=True),
)
async def describe_api(request: Request[Any, Any, Any], guest: NamedDependency[Guest]) -> Response[Any]:
    return _description(request, guest, API)


@get(
    "/v1/openapi.json",
    summary="Read the description of /v1",
    opt=facts(NotFound, answers=dict[str, Any], etag=True),
)
async def describe_v1(request: Request[Any, Any, Any], guest: NamedDependency[Guest]) -> Response[Any]:
    return _description(request, guest, V1)


def _description(request: Request[Any, Any, Any], guest: Guest, surface: Surface) -> Answer:
    if not guest.service.docs:
        raise NoSuchRoute
    body = document(request.app, surface)
    etag = tag(body)
    if not_modified(request, etag):
        return Answer(304, [etag], b"")
    return Answer(200, [etag, *_JSON], body)


_JSON = [(b"content-type", b"application/json; charset=utf-8"), (b"cache-control", b"public, no-cache")]


def document(app: Litestar, surface: Surface) -> bytes:
    """The surface's OpenAPI document. It is made when it is first asked for, since that takes a while."""
    made: dict[str, bytes] = app.state.setdefault("openapi", {})
    if surface.prefix not in made:
        made[surface.prefix] = msgspec.json.encode(describe(handlers_of(app), surface))
    return made[surface.prefix]


ROUTES: list[HTTPRouteHandler] = [health, readiness, read_metrics, describe_api, describe_v1]
