"""`/api/health`: whether the service can serve, answered at once whatever else is broken."""

from datetime import UTC, datetime
from typing import Literal

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, UnsetType

from guildhall import __version__
from guildhall.web.caller import Guest
from guildhall.web.docs import facts
from guildhall.web.wire import Optional, Wire

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
    alive = await guest.db.alive()
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if alive:
        return Response(Health(status="ok", timestamp=stamp, version=__version__))
    checks = Checks(database="down", worker="ok")
    return Response(
        Health(status="degraded", timestamp=stamp, version=__version__, checks=checks), status_code=503
    )


ROUTES: list[HTTPRouteHandler] = [health]
