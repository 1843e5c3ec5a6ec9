"""What every request passes before a route is looked for, and every answer on its way out.

Limits of the request line, headers and body; one credential, verified; the rules against other sites'
pages; a request id; the security headers; one log line. Written against ASGI, since it runs on each request.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7

from guildhall.db import Db, Retryable
from guildhall.errors import AppError, Forbidden, OutcomeUnknown, Unavailable
from guildhall.providers.identity import BadToken
from guildhall.providers.identity.verify import Verifier
from guildhall.web import idempotency
from guildhall.web.access import KEY_PREFIX, KeyRing
from guildhall.web.app import Internal, Quick, QuickRoutes, replayed
from guildhall.web.bound import Bounds
from guildhall.web.caller import Caller
from guildhall.web.door import PASSING_BYTES, Door, let_pass
from guildhall.web.limits import rate_headers
from guildhall.web.log import logger, requests
from guildhall.web.problem import refuse
from guildhall.web.screen import (
    AGENTS_PATH,
    ALLOWED,
    EXPOSED,
    MAX_BODY,
    MAX_MEMORY_BODY,
    MEMORY_PATHS,
    AmbiguousLength,
    TooLarge,
    TooSlow,
    forwarded,
    length_of_json,
    neighbours,
    path_for_log,
    screen,
    session_cookie,
)
from guildhall.web.service import Service
from guildhall.web.waiting import Waiting

BODY_S = 30.0
REQUEST_S = 10.0
MAX_IN_FLIGHT = 1_000
RETRIES = 3

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_COMMON = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
_JSON_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_NO_STORE = (b"cache-control", b"no-store")
_CLOSE = (b"connection", b"close")
_BARE_JSON = (b"content-type", b"application/json")
_JSON = (b"content-type", b"application/json; charset=utf-8")
# With these, what is left of the request is not read.
_UNREAD = frozenset({408, 411, 413, 414, 431})


class _Gone(Exception):
    """The client hung up before the request was whole."""


class Rules:
    """What the operator decides about requests. Origins are `scheme://host[:port]`, exact."""

    def __init__(
        self,
        *,
        origins: frozenset[str] = frozenset(),
        cookie_names: tuple[str, ...] = ("__session", "__Host-session"),
        trusted_proxies: frozenset[str] = frozenset(),
        tls: bool = False,
        own_issuer: str | None = None,
    ) -> None:
        self.origins = origins
        self.cookie_names = cookie_names
        self.trusted_proxies = trusted_proxies
        self.own_issuer = own_issuer
        self.common = [*_COMMON, (b"strict-transport-security", b"max-age=31536000")] if tls else _COMMON


class Edge:
    """The ASGI application that servers run; `app` is the one with the routes."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        db: Db,
        verifier: Verifier,
        keys: KeyRing,
        service: Service,
        rules: Rules,
        quick: QuickRoutes,
        changing: frozenset[str],
        door: Door,
    ) -> None:
        self.traffic = service.traffic
        self.app = app
        self.door = door
        self.quick = quick
        self.changing = changing
        self.db = db
        self.verifier = verifier
        self.keys = keys
        self.service = service
        self.rules = rules
        self.bounds = Bounds(REQUEST_S)
        self.waiting = Waiting()
        self._in_flight = 0
        self.log = logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _Request(self, scope, receive, send).serve()
        else:
            # The server's own start and stop are the framework's; there are no WebSockets here.
            await self.app(scope, receive, send)

    def enter(self, path: str) -> bool:
        """Take a place among the requests in flight; False when that is one too many."""
        self._in_flight += 1
        return self._in_flight <= MAX_IN_FLIGHT or path in ("/api/health", "/health")

    def leave(self) -> None:
        self._in_flight -= 1


class _Request:
    """One request on its way through the edge."""

    __slots__ = (
        "_send",
        "attempt",
        "cors",
        "db",
        "edge",
        "id",
        "method",
        "receive",
        "scope",
        "send",
        "started",
        "status",
        "user",
        "waits",
    )

    def __init__(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        self.edge = edge
        self.scope: Any = scope
        self.method: str = self.scope["method"]
        self.receive = receive
        self._send = self.send = send
        self.started = time.perf_counter()
        self.id = uuid7().hex
        self.status = 0
        self.user: str | None = None
        self.cors: list[tuple[bytes, bytes]] = []
        # Only a request whose body was kept can be run again.
        self.attempt = RETRIES
        self.waits = False

    async def serve(self) -> None:
        room = self.edge.enter(self.scope["path"])
        if self.method == "HEAD":
            # The same as GET, without the body.
            self.scope = {**self.scope, "method": "GET"}
            self.send = self._send_head
        scope = self.scope
        try:
            headers = self._begin()
            if not room:
                raise _too_many()
            if scope["method"] == "OPTIONS":
                await self._preflight(headers)
                return
            await self._identify(headers)
            if scope["method"] == "GET" and (quick := self.edge.quick.find(scope)) is not None:
                await self._quick(quick)
            elif scope["method"] in SAFE:
                await self._bounded(self.receive)
            else:
                await self._write(headers)
        except AppError as error:
            await self.refuse(error)
        except TimeoutError:
            if self.status:
                # Part of the answer is out: only a broken connection tells that the rest is missing.
                raise
            await self.refuse(_too_late(scope["method"]))
        except _Gone:
            # Nobody is there to be answered; the log says it as other servers' logs do.
            self.status = 499
        except Exception as error:
            if self.status:
                raise
            self.edge.log.error("crash", request_id=self.id, exc_info=error)
            await self.refuse(Internal())
        finally:
            if self.waits:
                self._wait_no_more()
            else:
                self.edge.leave()
            self._note()

    def _begin(self) -> dict[bytes, bytes]:
        """What the request carries from here on, and its headers by name."""
        scope = self.scope
        address = scope["client"][0] if scope.get("client") else ""
        # A state left behind by the server's lifespan is shared by all requests: each gets its own.
        scope["state"] = state = {
            "db": self.edge.db,
            "service": self.edge.service,
            "address": address,
            "request_id": self.id,
            "head": self.method == "HEAD",
            "known": False,
        }
        headers = screen(scope)
        state["known"] = True
        if address in self.edge.rules.trusted_proxies:
            state["address"] = address = forwarded(headers, address)
        if ":" in address:
            state["address"] = neighbours(address)
        if (origin := headers.get(b"origin")) is not None:
            self._allow(origin.decode("latin-1"))
        return headers

    def _allow(self, origin: str) -> None:
        path: str = self.scope["path"]
        if path.startswith("/v1/"):
            self.cors = [
                (b"access-control-allow-origin", b"*"),
                (b"access-control-expose-headers", EXPOSED),
            ]
        elif origin in self.edge.rules.origins:
            self.cors = [
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"access-control-allow-credentials", b"true"),
                (b"access-control-expose-headers", EXPOSED),
                (b"vary", b"Origin"),
            ]
        else:
            self.cors = [(b"vary", b"Origin")]
            if path == AGENTS_PATH and self.method != "OPTIONS":
                # As a page would send it that has given its own name this server's address.
                raise Forbidden("Agents in a page call from an allowed origin.")

    async def _preflight(self, headers: Mapping[bytes, bytes]) -> None:
        allowed = self.cors and self.cors[0][0] == b"access-control-allow-origin"
        answer = [
            (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, OPTIONS"),
            (b"access-control-allow-headers", ALLOWED),
            (b"access-control-max-age", b"600"),
        ]
        await self._start(204, answer if allowed else [])
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _identify(self, headers: Mapping[bytes, bytes]) -> None:
        """Verify the one credential, if there is any, and leave a Caller for the route."""
        scope = self.scope
        authorization = headers.get(b"authorization")
        state = scope["state"]
        if authorization is not None:
            scheme, _, text = authorization.decode("latin-1").partition(" ")
            token, from_cookie = (text, False) if scheme.lower() == "bearer" else ("", False)
        elif (cookie := headers.get(b"cookie")) is not None and scope["path"] != AGENTS_PATH:
            found = session_cookie(cookie.decode("latin-1"), self.edge.rules.cookie_names)
            if found is None:
                return
            token, from_cookie = found, True
            path: str = scope["path"]
            if scope["method"] not in SAFE or path.startswith("/v1/") or path in self.edge.changing:
                self._same_site(headers)
        else:
            return
        if not from_cookie and token.startswith(KEY_PREFIX):
            await self._identify_key(token)
            return
        verifier = self.edge.verifier
        try:
            verified = verifier.cached(token, from_cookie, time.time())
            if verified is None:
                verified = await verifier.verify(token, from_cookie=from_cookie)
        except AppError as error:
            # Public routes do not need a session; the others answer with this.
            state["refused"] = error
            return
        self.user = verified.subject
        state["caller"] = Caller(
            state["db"],
            self.edge.service,
            state["address"],
            self.id,
            verified.subject,
            verified.issuer,
            # An issuer elsewhere keeps its sessions itself.
            verified.session_id if verified.issuer == self.edge.rules.own_issuer else None,
            verified.actor,
        )

    async def _identify_key(self, token: str) -> None:
        state = self.scope["state"]
        keys = self.edge.keys
        try:
            holder = keys.known(token) or await keys.find(token)
        except AppError as error:
            state["refused"] = error
            return
        if holder is None:
            state["refused"] = BadToken("unknown key")
            return
        self.user = holder.user
        state["caller"] = Caller(
            state["db"],
            self.edge.service,
            state["address"],
            self.id,
            holder.user,
            holder.issuer,
            holder.session,
            None,
            holder.access,
        )

    def _same_site(self, headers: Mapping[bytes, bytes]) -> None:
        """A cookie counts for a change only when our own pages or an allowed origin sent it."""
        origin = headers.get(b"origin")
        allowed = origin is not None and origin.decode("latin-1") in self.edge.rules.origins
        if origin is not None and not allowed:
            raise Forbidden("A change with a session cookie must come from an allowed origin.")
        if headers.get(b"sec-fetch-site", b"none") not in (b"same-origin", b"none") and not allowed:
            raise Forbidden("A change with a session cookie must come from an allowed origin.")

    async def _write(self, headers: Mapping[bytes, bytes]) -> None:
        """Read the body within its limits, then serve; with an Idempotency-Key, at most once."""
        scope = self.scope
        if scope["method"] == "PUT":
            # Only uploads are PUT: their routes read the stream within limits of their own.
            self._wait()
            await self._app(self.receive)
            return
        length = length_of_json(headers)
        if "caller" not in scope["state"]:
            try:
                self.edge.door.check(scope)
            except AppError as error:
                await self._turn_away(error, headers, length)
                return
        # So much is read only of somebody who is known.
        much = scope["path"].startswith(MEMORY_PATHS) and "caller" in scope["state"]
        limit = MAX_MEMORY_BODY if much else MAX_BODY
        if length > limit:
            raise TooLarge
        body = await self._read(limit) if length else b""
        scope["state"]["raw_body"] = body
        key: str | None = None
        if scope["method"] == "POST" and (sent := headers.get(b"idempotency-key")) is not None:
            key = idempotency.read_key(sent)
        for self.attempt in range(RETRIES + 1):
            try:
                if key is not None and scope["path"] not in idempotency.NEVER_KEPT:
                    served = await self._once(key, body)
                else:
                    served = await self._bounded(replayed(body))
            except Retryable:
                served = False
            if served:
                return
            await asyncio.sleep(0.01 * 2**self.attempt)
        raise Unavailable("The rows are busy; nothing was changed.", retry_after_s=1)

    async def _once(self, key: str, body: bytes) -> bool:
        """Serve inside a transaction that also holds what was answered, so that a repeat answers the same."""
        state = self.scope["state"]
        caller: Caller | None = state.get("caller")
        answer = idempotency.Collector()
        try:
            async with idempotency.attempt(
                # Not the state's: after a first try that is one inside a transaction which has ended.
                self.edge.db,
                self.edge.service.keys,
                who=idempotency.whose(caller) if caller else "address " + state["address"],
                me=caller.me if caller else None,
                method=self.method,
                path=self.scope["path"],
                key=key,
                body=body,
                anywhere=self.scope["path"] == AGENTS_PATH,
                leaves=self.scope["path"].endswith("/leave"),
            ) as once:
                if once.kept is not None:
                    # A repeat is a request like any other.
                    self._count(caller)
                    answer.take(once.kept)
                else:
                    state["db"] = once.db
                    if caller is not None:
                        state["caller"] = msgspec.structs.replace(caller, db=once.db)
                    async with asyncio.timeout(REQUEST_S):
                        await self.edge.app(self.scope, replayed(body), answer)
                    if state.pop("retry", False):
                        once.forget()
                        return False
                    if state["known"]:
                        await once.keep(answer.status, answer.headers, answer.body)
        except (idempotency.InFlight, idempotency.KeyReused, idempotency.Withdrawn):
            self._count(caller)
            raise
        await self._start(answer.status, answer.headers)
        await self.send({"type": "http.response.body", "body": answer.body, "more_body": False})
        return True

    def _count(self, caller: Caller | None) -> None:
        """Count a request that no route counts."""
        take = self.edge.service.limiter.take
        if caller is None:
            take("address", self.scope["state"]["address"])
        else:
            take("user", caller.user)

    async def _quick(self, quick: Quick) -> None:
        """One of the busiest routes, without the framework."""
        try:
            with self.edge.bounds.bound():
                answer = await quick()
        except Retryable as error:
            raise Unavailable("The rows are busy; nothing was changed.", retry_after_s=1) from error
        await self._start(answer.raw_status, answer.all_headers())
        await self.send({"type": "http.response.body", "body": answer.raw_body, "more_body": False})

    async def _bounded(self, receive: Receive) -> bool:
        async with asyncio.timeout(REQUEST_S) as bound:
            self.scope["state"]["bound"] = bound
            self.scope["state"]["outlast"] = self._outlast
            return await self._app(receive)

    def _outlast(self, seconds: float | None) -> None:
        """Let this request take so long, or as long as it takes, as one that waits for its client to read.

        Raises TooManyRequests, Unavailable.
        """
        self._wait()
        due = None if seconds is None else self.edge.bounds.loop.time() + seconds
        self.scope["state"]["bound"].reschedule(due)

    def _wait(self) -> None:
        """Give up the place among those in flight for one among those that wait for their clients."""
        self.edge.waiting.take(self.user, self.scope["state"]["address"])
        self.waits = True
        self.edge.leave()

    def _wait_no_more(self) -> None:
        self.waits = False
        self.edge.waiting.give(self.user, self.scope["state"]["address"])

    async def _app(self, receive: Receive) -> bool:
        """Serve once; False when the database asked for another try and nothing was sent."""
        await self.edge.app(self.scope, receive, self._start_or_pass)
        return not self.scope["state"].pop("retry", False)

    async def _start_or_pass(self, message: Message) -> None:
        if self.scope["state"].get("retry") and self.attempt < RETRIES:
            return
        await self._start_or_send(message)

    async def _start_or_send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._start(message["status"], message["headers"])
        else:
            await self.send(message)

    async def _start(self, status: int, own: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the start of an answer, with the headers that every answer has."""
        headers = [*self.edge.rules.common, (b"x-request-id", self.id.encode()), *self.cors]
        guarded = kept = False
        for header in own:
            name = header[0]
            if name == b"cache-control":
                kept = True
            elif name == b"content-security-policy":
                guarded = True
            headers.append(_JSON if header == _BARE_JSON else header)
        if self.scope["path"].startswith("/v1/") and (rate := self.scope["state"].get("rate")) is not None:
            headers += rate_headers(rate)
        if not guarded:
            headers.append(_JSON_POLICY)
        if not kept:
            headers.append(_NO_STORE)
        if status in _UNREAD:
            headers.append(_CLOSE)
        self.status = status
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def _read(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        self._wait()
        try:
            async with asyncio.timeout(BODY_S):
                while True:
                    message: Any = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    part = message.get("body", b"")
                    size += len(part)
                    if size > limit:
                        raise TooLarge
                    parts.append(part)
                    if not message.get("more_body", False):
                        break
        except TimeoutError as error:
            raise TooSlow from error
        self._wait_no_more()
        if not self.edge.enter(self.scope["path"]):
            raise _too_many()
        return b"".join(parts)

    async def _turn_away(self, error: AppError, headers: Mapping[bytes, bytes], length: int) -> None:
        """Refuse a body unread. One that is on its way is let pass, if it is soon over."""
        if length:
            self._wait()
        passes = 0 < length <= PASSING_BYTES and b"expect" not in headers
        await self.refuse(error, passing=self.receive if passes else None, close=length > 0 and not passes)

    async def refuse(self, error: AppError, *, passing: Receive | None = None, close: bool = False) -> None:
        """Answer with the refusal, while a body may pass that nobody reads; `close` the connection after."""
        if self.status:
            return
        if (state := self.scope.get("state")) is not None:
            state["code"] = error.code
            if error.status == 401:
                state.setdefault("refused", error)
        status, headers, body = refuse(self.scope, error, self.id)
        headers.append((b"content-length", str(len(body)).encode()))
        if close or isinstance(error, AmbiguousLength):
            headers.append(_CLOSE)
        await self._start(status, headers)
        if passing is not None:
            # A server may hang up with the last byte of an answer, if the request is not over by then.
            await self.send({"type": "http.response.body", "body": body[:-1], "more_body": True})
            await let_pass(passing)
            body = body[-1:]
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def _send_head(self, message: Message) -> None:
        """Sends an answer but for its body."""
        answer: Any = message
        if answer["type"] == "http.response.body":
            if answer.get("more_body"):
                return
            answer = {**answer, "body": b""}
        await self._send(answer)

    def _note(self) -> None:
        scope = self.scope
        state: Any = scope.get("state") or {}
        seconds = time.perf_counter() - self.started
        # What is not a method we know is one, however many are made up.
        self.edge.traffic.note(self.method if self.method in _METHODS else "other", self.status, seconds)
        cause: str | None = None
        if self.status == 401 and (refused := state.get("refused")) is not None:
            cause = refused.cause if isinstance(refused, BadToken) else refused.code
        path = path_for_log(scope["path"], known=state.get("known", False))
        code = state.get("code")
        requests.note(self.method, path, self.status, seconds, self.id, self.user, cause, code)


_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})


def _too_many() -> AppError:
    return Unavailable("Too many requests are in flight; try again shortly.", retry_after_s=1)


def _too_late(method: str) -> AppError:
    if method in SAFE:
        return Unavailable("The answer took too long; nothing is known to be wrong.", retry_after_s=1)
    # Where the change was broken off is not known here: it may have been in the commit.
    return OutcomeUnknown(
        "Saving took too long and may have succeeded. Repeat the request with the same Idempotency-Key.",
        retry_after_s=1,
    )
