"""Who is asking. Each handler depends on exactly one of these two, so none forgets to say whom it serves.

`Caller` is a person with a verified session or API key; `Guest` is anybody. Both carry the database to look
in, since a second dependency would cost every request more than a look at the session does.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.di import Provide

from guildhall.db import Db, Read
from guildhall.errors import AppError, Invalid, Taken, TooManyRequests, Unauthorized
from guildhall.web.access import Access, check_key
from guildhall.web.body import Sent
from guildhall.web.query import check_query, exact_parameters
from guildhall.web.service import Service

T = TypeVar("T")

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class NotSynced(AppError):
    status, code = 403, "not_synced"
    title = "This session's person is not known here yet. Call POST /api/users/sync once, then try again."


class Guest(msgspec.Struct, frozen=True):
    """Anybody at all. `address` is the client's network address; `caller` is who they are if they say so."""

    db: Db
    service: Service
    address: str
    request_id: str
    caller: "Caller | None"


class Caller(msgspec.Struct, frozen=True):
    """A person with a verified session or key. Whether they are alive is read with the rows they ask for.

    `session` is the id of a session of the embedded issuer or of a key, None where the issuer keeps its own.
    `actor` is who acts in the person's name, when somebody does. `access` is what a key is limited to; with
    a session it is None.
    """

    db: Db
    service: Service
    address: str
    request_id: str
    user: str
    issuer: str
    session: str | None
    actor: str | None
    access: Access | None = None

    @property
    def me(self) -> tuple[str, str, str | None]:
        """The arguments of the database's me()."""
        return self.user, self.issuer, self.session


async def explain_absence(read: Read, caller: Caller) -> AppError:
    """Why me() found nobody: never seen, which a sync mends, or no longer welcome."""
    known = await read.value("SELECT EXISTS (SELECT FROM users WHERE id = $1)", caller.user)
    return Unauthorized() if known else NotSynced()


async def check_alive(read: Read, caller: Caller) -> None:
    """Refuse a caller who is nobody here, where no other statement asks."""
    if await read.value("SELECT user_id FROM me($1, $2, $3)", *caller.me) is None:
        raise await explain_absence(read, caller)


async def read_body(caller: Caller, data: Sent[T]) -> T:
    """The body, for a call that is about nothing but its caller. Who is nobody here hears that first.

    Raises Invalid.
    """
    try:
        return data.read()
    except Invalid:
        async with caller.db.reading() as read:
            await check_alive(read, caller)
        raise


def dependencies() -> dict[str, Provide]:
    """What handlers may depend on, by name."""
    return {
        "caller": Provide(_caller, sync_to_thread=False),
        "guest": Provide(_guest, sync_to_thread=False),
    }


def _caller(request: Request[Any, Any, Any]) -> Caller:
    caller = caller_of(request.scope, request.route_handler.opt)
    _check_query(request)
    return caller


def _check_query(request: Request[Any, Any, Any]) -> None:
    if raw := request.scope["query_string"]:
        # Lists in a query of the other surface are a parameter that is repeated.
        repeats = request.scope["path"].startswith("/v1/")
        check_query(raw, repeats=repeats, exact=exact_parameters(request.route_handler))


def caller_of(scope: Any, opt: Mapping[str, Any]) -> Caller:
    """Who asks, within the limits of the route. Raises Unauthorized, TooManyRequests, PermissionDenied."""
    state = scope["state"]
    caller: Caller | None = state.get("caller")
    if caller is None:
        state["service"].limiter.take("address", state["address"])
        raise state.get("refused") or Unauthorized()
    usual = _WRITE if scope["method"] in WRITES and not opt.get("reads") else _READ
    _take(state, caller.user, (*usual, *opt.get("limits", ())))
    check_key(caller.access, opt.get("atom"), unlimited=opt.get("unlimited_key", False))
    return caller


def take_route(caller: Caller, opt: Mapping[str, Any], *, writes: bool) -> None:
    """Be let into a route that another one calls: its limits and its permission hold there too.

    The request itself has been counted. Raises TooManyRequests, PermissionDenied.
    """
    take = caller.service.limiter.take
    for limit in (*(("user writes",) if writes else ()), *opt.get("limits", ())):
        take(limit, caller.user)
    check_key(caller.access, opt.get("atom"), unlimited=opt.get("unlimited_key", False))


_READ = ("user",)
_WRITE = ("user", "user writes")


def _take(state: Any, subject: str, limits: tuple[str, ...]) -> None:
    """Take a token of each, and leave in the state how the scarcest stands. Raises TooManyRequests."""
    take = state["service"].limiter.take
    scarcest: Taken | None = None
    try:
        for limit in limits:
            bucket = take(limit, subject)
            if scarcest is None or (bucket is not None and bucket.remaining < scarcest.remaining):
                scarcest = bucket
    except TooManyRequests as error:
        scarcest = error.bucket
        raise
    finally:
        state["rate"] = scarcest


def _guest(request: Request[Any, Any, Any]) -> Guest:
    state: Any = request.scope["state"]
    guest = Guest(state["db"], state["service"], state["address"], state["request_id"], state.get("caller"))
    opt = request.route_handler.opt
    if guest.caller is not None and opt.get("page"):
        guest.service.limiter.take("user", guest.caller.user)
    elif not opt.get("unlimited"):
        _take(state, guest.address, ("address", *opt.get("limits", ())))
    _check_query(request)
    return guest
