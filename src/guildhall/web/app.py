"""The application with the routes, and how anything that is raised becomes an answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, get_type_hints

from litestar import Litestar, Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.handlers import HTTPRouteHandler
from litestar.params import ParameterKwarg
from litestar.response.base import ASGIResponse
from litestar.types import Receive

from guildhall.db import Retryable
from guildhall.errors import AppError, FieldError, Invalid, NotFound, Unavailable
from guildhall.web.body import SentBody
from guildhall.web.caller import caller_of, dependencies
from guildhall.web.log import logger
from guildhall.web.problem import refuse


class NoSuchRoute(NotFound):
    title = "There is no such route."


class MethodNotAllowed(AppError):
    status, code = 405, "method_not_allowed"
    title = "This route does not take that method; Allow says which it takes."


class Internal(AppError):
    status, code = 500, "internal"
    title = "Something went wrong on our side. It was noted under the request id."


class BadQuery(Invalid):
    title = "The request's parameters are not acceptable."


class Answer(Response[bytes]):
    """Bytes that are sent as they are."""

    def __init__(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        super().__init__(content=body, status_code=status)
        self._raw = headers

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIResponse:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Raw(self.status_code or 200, self._raw, self.content)


class Raw(ASGIResponse):
    """The quickest answer: a status, headers and bytes, nothing added."""

    __slots__ = ("raw_body", "raw_headers", "raw_status")

    def __init__(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self.raw_status = status
        self.raw_headers = headers
        self.raw_body = body

    def all_headers(self) -> Sequence[tuple[bytes, bytes]]:
        if self.raw_status in (204, 304):
            # Those two never have a body, and a length would speak of one.
            return self.raw_headers
        return (*self.raw_headers, (b"content-length", str(len(self.raw_body)).encode()))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": self.raw_status, "headers": self.all_headers()}
        await send(start)
        await send({"type": "http.response.body", "body": self.raw_body, "more_body": False})


Quick: TypeAlias = Callable[[], Awaitable[Raw]]


def replayed(body: bytes) -> Receive:
    """What an application receives when its body is read already."""
    # The framework hands an absent body to no handler; what was really sent is the state's `raw_body`.
    body = body or b"{}"
    sent = False

    async def receive() -> Any:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


class QuickRoutes:
    """The busiest GETs, to be called with a scope. They raise what their handlers raise.

    Of the framework's ways to say what a handler takes they know the scope, the caller, one path parameter
    with a word after it, and headers. A query is the handler's own to read, or is left to the framework.
    """

    def __init__(self, routes: Sequence[HTTPRouteHandler]) -> None:
        self._exact: dict[str, _Quickly] = {}
        # By what stands before the parameter and the word after it.
        self._around: dict[tuple[str, str], tuple[str, _Quickly]] = {}
        for handler in routes:
            if not handler.opt.get("quick"):
                continue
            for path in handler.paths:
                before, braced, rest = path.partition("/{")
                if braced:
                    parameter, after = rest.split("}/")
                    self._around[before, after] = (parameter.partition(":")[0], _Quickly(handler))
                else:
                    self._exact[path] = _Quickly(handler)

    def find(self, scope: Any) -> Quick | None:
        """What answers this request, where one of these does."""
        path: str = scope["path"]
        given: dict[str, str] = {}
        quickly = self._exact.get(path)
        if quickly is None:
            head, _, after = path.rpartition("/")
            before, _, value = head.rpartition("/")
            if not value or (found := self._around.get((before, after))) is None:
                return None
            name, quickly = found
            given[name] = value
        if scope["query_string"] and not quickly.reads_query:
            return None
        return partial(quickly.serve, scope, given)


class _Quickly:
    def __init__(self, handler: HTTPRouteHandler) -> None:
        self._function: Callable[..., Awaitable[Raw]] = handler.fn
        self._opt = handler.opt
        self.reads_query = handler.opt.get("query") is not None
        self._headers = {
            name: wanted.header.lower().encode()
            for name, hint in get_type_hints(handler.fn, include_extras=True).items()
            for wanted in getattr(hint, "__metadata__", ())
            if isinstance(wanted, ParameterKwarg) and wanted.header
        }

    def serve(self, scope: Any, given: dict[str, str]) -> Awaitable[Raw]:
        caller = caller_of(scope, self._opt)
        if self._headers:
            sent: dict[bytes, bytes] = dict(scope["headers"])
            for name, header in self._headers.items():
                if header in sent:
                    given[name] = sent[header].decode("latin-1")
        return self._function(scope, caller, **given)


def changing_routes(routes: Sequence[HTTPRouteHandler]) -> frozenset[str]:
    """The paths of GETs that change something."""
    return frozenset(path for handler in routes if handler.opt.get("changes") for path in handler.paths)


def build_app(routes: Sequence[HTTPRouteHandler], **extra: Any) -> Litestar:
    """Gather `routes` into an application that the edge stands before."""
    return Litestar(
        route_handlers=routes,
        dependencies=dependencies(),
        dto=SentBody,
        return_dto=None,
        openapi_config=None,
        logging_config=None,
        exception_handlers={
            AppError: _refused,
            Retryable: _again,
            ValidationException: _invalid,
            HTTPException: _other,
            Exception: _broken,
        },
        **extra,
    )


def _answer(request: Request[Any, Any, Any], error: AppError) -> Response[Any]:
    state: Any = request.scope["state"]
    state["code"] = error.code
    return Answer(*refuse(request.scope, error, state["request_id"]))


def _refused(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    assert isinstance(error, AppError)
    return _answer(request, error)


def _again(request: Request[Any, Any, Any], _: Exception) -> Response[Any]:
    """The edge runs the request again; after its last try this is the answer."""
    state: Any = request.scope["state"]
    state["retry"] = True
    return _answer(request, Unavailable("The rows are busy; nothing was changed.", retry_after_s=1))


def _invalid(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    assert isinstance(error, ValidationException)
    found: list[dict[str, str]] = error.extra if isinstance(error.extra, list) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    errors = [
        FieldError(f"?{_wire_name(request, item['key'])}", "invalid", item["message"].split(" - at")[0])
        for item in found
    ]
    return _answer(request, BadQuery(errors=errors))


def _wire_name(request: Request[Any, Any, Any], name: str) -> str:
    """A query parameter as its sender knows it."""
    parameter = request.route_handler.parsed_fn_signature.parameters.get(name)
    rules = parameter.kwarg_definition if parameter else None
    return getattr(rules, "query", None) or name


def _other(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    state: Any = request.scope["state"]
    if isinstance(error, MethodNotAllowedException):
        state["known"] = False
        answer = _answer(request, MethodNotAllowed())
        assert isinstance(answer, Answer)
        allow = (error.headers or {}).get("allow", "")
        if "GET" in allow:
            allow += ", HEAD"
        return Answer(405, [*answer._raw, (b"allow", allow.encode())], answer.content)  # pyright: ignore[reportPrivateUsage]
    if isinstance(error, NotFoundException):
        state["known"] = False
        return _answer(request, NoSuchRoute())
    if isinstance(error, HTTPException) and error.status_code < 500:
        return _answer(request, BadQuery())
    return _broken(request, error)


def _broken(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    state: Any = request.scope["state"]
    logger().error("crash", request_id=state["request_id"], exc_info=error)
    return _answer(request, Internal())
