"""`/api/auth`: signing in by a mailed code, and one's sessions. Only where the embedded issuer serves."""

from datetime import UTC, datetime

import msgspec
from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from guildhall.errors import NotFound, TooManyRequests
from guildhall.providers.identity.sessions import SessionIssuer
from guildhall.users import accounts, sign_in
from guildhall.users.schemas import (
    AskForCode,
    CodeSent,
    JsonWebKeySet,
    Refresh,
    Session,
    SessionList,
    SignedIn,
    SignIn,
    Tokens,
    UserProfile,
)
from guildhall.web.app import Answer
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, Guest
from guildhall.web.docs import facts
from guildhall.web.service import Service

COOKIE = "__Host-session"
_JSON = (b"content-type", b"application/json; charset=utf-8")


def embedded_issuer(service: Service) -> SessionIssuer:
    """The embedded issuer. Raises NotFound where somebody else signs people in."""
    if service.issuer is None:
        raise NotFound("People sign in elsewhere here.")
    return service.issuer


def _cookie(value: str, seconds: int) -> tuple[bytes, bytes]:
    text = f"{COOKIE}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax"
    return b"set-cookie", text.encode("latin-1")


def no_cookie() -> tuple[bytes, bytes]:
    """The header that takes the session's cookie away."""
    return _cookie("", 0)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _tokens(issued: sign_in.Issued) -> Tokens:
    assert issued.refresh_token is not None
    return Tokens(token=issued.token, expires_at=_time(issued.expires_at), refresh_token=issued.refresh_token)


def _with_cookie(
    status: int, body: msgspec.Struct, issuer: SessionIssuer, user_id: str, issued: sign_in.Issued
) -> Answer:
    left_s = max(1, int(issued.session_expires_at.timestamp() - datetime.now(UTC).timestamp()))
    cookie = _cookie(sign_in.cookie_token(issuer, user_id, issued), left_s)
    return Answer(status, [_JSON, cookie], msgspec.json.encode(body))


@get(
    "/.well-known/jwks.json",
    summary="Read the keys that sign sessions",
    opt=facts(NotFound, answers=JsonWebKeySet),
)
async def read_keys(guest: NamedDependency[Guest]) -> Answer:
    body = msgspec.json.encode(embedded_issuer(guest.service).jwks())
    return Answer(200, [_JSON, (b"cache-control", b"public, max-age=300")], body)


@post(
    "/api/auth/code",
    status_code=202,
    summary="Ask for a sign-in code by mail",
    opt=facts(NotFound, TooManyRequests),
)
async def ask_for_code(guest: NamedDependency[Guest], data: Sent[AskForCode]) -> CodeSent:
    embedded_issuer(guest.service)
    email = data.read().email
    async with guest.db.writing() as tx:
        await guest.service.limiter.take_exact(
            tx, ("code to an address", email.lower()), ("codes from an address", guest.address)
        )
        await sign_in.ask_for_code(tx, guest.service.keys, email)
    return CodeSent(status="sent", expires_in=int(sign_in.CODE_LIFETIME.total_seconds()))


@post(
    "/api/auth/session",
    summary="Sign in with a code",
    opt=facts(NotFound, sign_in.InvalidCode, sign_in.AccountDisabled, TooManyRequests, answers=SignedIn),
)
async def create_session(guest: NamedDependency[Guest], data: Sent[SignIn]) -> Answer:
    issuer, keys = embedded_issuer(guest.service), guest.service.keys
    wanted = data.read()
    async with guest.db.writing() as tx:
        await guest.service.limiter.take_exact(tx, ("code tries from an address", guest.address))
        used = await sign_in.use_code(tx, keys, wanted.email, wanted.code)
        answer: Answer | None = None
        if used is not None:
            user_id = await sign_in.person_with(tx, issuer.issuer, used.email)
            issued = await sign_in.issue_session(tx, issuer, keys, user_id, label=wanted.label)
            own = await accounts.find_own(tx, user_id)
            assert own is not None and issued.refresh_token is not None
            body = SignedIn(
                token=issued.token,
                expires_at=_time(issued.expires_at),
                refresh_token=issued.refresh_token,
                user=UserProfile.own(own),
            )
            answer = _with_cookie(201, body, issuer, user_id, issued)
    # Refused after the transaction has kept the try.
    if answer is None:
        raise sign_in.InvalidCode
    return answer


@post(
    "/api/auth/session/refresh",
    status_code=200,
    summary="Exchange a refresh token for new tokens",
    opt=facts(NotFound, sign_in.InvalidRefreshToken),
)
async def refresh_session(guest: NamedDependency[Guest], data: Sent[Refresh]) -> Tokens:
    issuer, keys = embedded_issuer(guest.service), guest.service.keys
    held = sign_in.read_refresh_token(keys, data.read().refresh_token)
    if held is None:
        raise sign_in.InvalidRefreshToken
    async with guest.db.writing() as tx:
        issued = await sign_in.refresh(tx, issuer, keys, held)
    # Refused after the transaction has ended the session of a token used twice.
    if issued is None:
        raise sign_in.InvalidRefreshToken
    return _tokens(issued)


@get("/api/auth/sessions", summary="List one's sessions", opt=facts(NotFound))
async def list_sessions(caller: NamedDependency[Caller]) -> SessionList:
    embedded_issuer(caller.service)
    async with caller.db.reading() as read:
        rows = await sign_in.list_sessions(read, caller)
    return SessionList(items=[Session.of(row, caller.session) for row in rows])


@delete("/api/auth/session", status_code=204, summary="Sign out", opt=facts(NotFound))
async def end_session(caller: NamedDependency[Caller]) -> Response[None]:
    embedded_issuer(caller.service)
    async with caller.db.single() as tx:
        await sign_in.revoke_session(tx, caller, caller.session or "")
    name, value = no_cookie()
    return Response(None, headers={name.decode(): value.decode()})


@delete(
    "/api/auth/sessions/{session_id:str}",
    status_code=204,
    summary="End one of one's sessions",
    opt=facts(NotFound),
)
async def end_other_session(caller: NamedDependency[Caller], session_id: str) -> None:
    embedded_issuer(caller.service)
    async with caller.db.single() as tx:
        await sign_in.revoke_session(tx, caller, session_id)


ROUTES: list[HTTPRouteHandler] = [
    read_keys,
    ask_for_code,
    create_session,
    refresh_session,
    list_sessions,
    end_session,
    end_other_session,
]
