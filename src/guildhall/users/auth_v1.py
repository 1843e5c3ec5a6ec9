"""`/v1/auth`: signing in as clients of hubs do it, by a mailed code. Only where the embedded issuer serves.

A program on the person's machine can have them led to itself with a code, which it exchanges for a session.
"""

from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec
from litestar import post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, Meta, UnsetType

from guildhall.errors import AppError, InvalidRequest, NotFound, TooManyRequests
from guildhall.users import sign_in
from guildhall.users.auth import embedded_issuer
from guildhall.web.body import Sent
from guildhall.web.caller import Guest
from guildhall.web.docs import facts
from guildhall.web.wire import Data, Email, OptionalV1, WireV1, tidy

COOLDOWN_S = 30
MAX_REDIRECT = 2048
LABEL = "Hubs client"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class InvalidToken(AppError):
    status, code = 401, "invalid_token"
    title = "This refresh token was used before, or its session has ended. Sign in again."


class ExpiredToken(AppError):
    status, code = 401, "expired_token"
    title = "The session of this refresh token is over. Sign in again."


class InvalidExchangeCode(AppError):
    status, code = 401, "invalid_code"
    title = "This code was exchanged before, or there is none like it. Sign in again."


class ExpiredCode(AppError):
    status, code = 401, "expired_code"
    title = "This code was not exchanged within its minute. Sign in again."


class InvalidAddress(AppError):
    code = "invalid_email"
    title = "This is not an e-mail address."


class InvalidRedirect(AppError):
    code = "invalid_redirect"
    title = "People are led only to this service, or to a program on their machine by its loopback address."


class InvalidCodeFormat(AppError):
    code = "invalid_code_format"
    title = "A code has six digits."


class CodeInvalid(AppError):
    code = "code_invalid"
    title = "This is not the code of the newest mail."


class CodeExpired(AppError):
    code = "code_expired"
    title = "No code for this address is good any more. Ask for another."


class CodeLocked(AppError):
    status, code = 429, "code_locked"
    title = "This code was tried too often. Ask for another."


RefreshToken = Annotated[str, Meta(examples=["rft_Zy2mVb8KpQ0sT4wXc7LdGf1hJn3RaUeI"])]
AccessToken = Annotated[str, Meta(examples=["eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1c2VyIn0.c2ln"])]
ExchangeCode = Annotated[str, Meta(examples=["exc_Q1wE2rT3yU4iO5pA6sD7fG8hJ9kL0zXcVbNm"])]
Redirect = Annotated[str, Meta(examples=["http://127.0.0.1:53682/callback"])]
SixDigits = Annotated[str, Meta(examples=["123456"])]


class RefreshTokens(OptionalV1, frozen=True, kw_only=True):
    refresh_token: RefreshToken = ""


class Exchange(OptionalV1, frozen=True, kw_only=True):
    code: ExchangeCode = ""


class TokenPair(WireV1, frozen=True, kw_only=True):
    """`access_token` is good for `expires_in` seconds; `refresh_token` gets the next pair, once."""

    access_token: AccessToken
    refresh_token: RefreshToken
    expires_in: int


class RequestCode(OptionalV1, frozen=True, kw_only=True):
    """With a `redirect_uri`, verifying the code answers where to lead the person."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "email": "bo@example.org",
        "redirect_uri": "http://127.0.0.1:53682/callback",
    }

    email: Annotated[str, Meta(examples=["bo@example.org"])] = ""
    redirect_uri: Redirect | None = None
    invite_token: str | None = None


class CodeRequested(WireV1, frozen=True, kw_only=True):
    """Said for every address alike. Seconds."""

    status: Literal["sent"]
    expires_in: int
    email: str
    cooldown: int


class VerifyCode(OptionalV1, frozen=True, kw_only=True):
    email: Annotated[str, Meta(examples=["bo@example.org"])] = ""
    code: SixDigits = ""


class Verified(OptionalV1, frozen=True, kw_only=True):
    """Tokens; or, where the code was asked for with a `redirect_uri`, where to lead the person."""

    access_token: AccessToken | UnsetType = UNSET
    refresh_token: RefreshToken | UnsetType = UNSET
    expires_in: int | UnsetType = UNSET
    status: Literal["ok"] | UnsetType = UNSET
    code: ExchangeCode | UnsetType = UNSET
    redirect: Redirect | UnsetType = UNSET
    user_id: str | UnsetType = UNSET


def _pair(issued: sign_in.Issued) -> TokenPair:
    assert issued.refresh_token is not None
    return TokenPair(
        access_token=issued.token, refresh_token=issued.refresh_token, expires_in=sign_in.TOKEN_S
    )


@post(
    "/v1/auth/refresh",
    status_code=200,
    summary="Exchange a refresh token for new tokens",
    opt=facts(NotFound, InvalidRequest, InvalidToken, ExpiredToken, limits=("tokens",)),
)
async def refresh_tokens(guest: NamedDependency[Guest], data: Sent[RefreshTokens]) -> Data[TokenPair]:
    """A token that is used twice ends its session, since two people hold it."""
    issuer, keys = embedded_issuer(guest.service), guest.service.keys
    token = data.read().refresh_token
    if not token:
        raise InvalidRequest("Say which refresh token, as refresh_token.")
    held = sign_in.read_refresh_token(keys, token)
    if held is None:
        raise InvalidToken
    async with guest.db.writing() as tx:
        issued = await sign_in.refresh(tx, issuer, keys, held)
        expired = issued is None and await sign_in.has_expired(tx, held)
    # Refused after the transaction has ended the session of a token used twice.
    if issued is None:
        raise ExpiredToken if expired else InvalidToken
    return Data(_pair(issued))


@post(
    "/v1/auth/exchange",
    status_code=200,
    summary="Exchange a code for tokens",
    opt=facts(
        NotFound,
        InvalidRequest,
        InvalidExchangeCode,
        ExpiredCode,
        sign_in.AccountDisabled,
        limits=("tokens",),
    ),
)
async def exchange_code(guest: NamedDependency[Guest], data: Sent[Exchange]) -> Data[TokenPair]:
    """Of a person who was led to a program with it. It is good once, within a minute."""
    issuer, keys = embedded_issuer(guest.service), guest.service.keys
    code = data.read().code
    if not code:
        raise InvalidRequest("Say which code, as code.")
    issued: sign_in.Issued | None = None
    async with guest.db.writing() as tx:
        used = await sign_in.use_exchange_code(tx, code)
        if used is not None and used.live and used.status == "active":
            issued = await sign_in.issue_session(tx, issuer, keys, used.user_id, label=LABEL)
    if used is None:
        raise InvalidExchangeCode
    if issued is None:
        raise sign_in.AccountDisabled if used.live else ExpiredCode
    return Data(_pair(issued))


@post(
    "/v1/auth/email/request",
    status_code=200,
    summary="Ask for a sign-in code by mail",
    opt=facts(NotFound, InvalidAddress, InvalidRedirect, TooManyRequests, limits=("code request",)),
)
async def request_code(guest: NamedDependency[Guest], data: Sent[RequestCode]) -> Data[CodeRequested]:
    """The code is mailed and told nowhere else. One asked for before is void."""
    embedded_issuer(guest.service)
    wanted = data.read()
    email = _read_email(wanted.email)
    redirect = _read_redirect(wanted.redirect_uri, guest.service.public_url)
    async with guest.db.writing() as tx:
        await guest.service.limiter.take_exact(
            tx, ("code to an address", email.lower()), ("codes from an address", guest.address)
        )
        await sign_in.ask_for_code(tx, guest.service.keys, email, redirect=redirect)
    lifetime_s = int(sign_in.CODE_LIFETIME.total_seconds())
    return Data(CodeRequested(status="sent", expires_in=lifetime_s, email=email, cooldown=COOLDOWN_S))


@post(
    "/v1/auth/email/verify",
    status_code=200,
    summary="Sign in with a code",
    opt=facts(
        NotFound,
        InvalidAddress,
        InvalidCodeFormat,
        CodeInvalid,
        CodeExpired,
        CodeLocked,
        sign_in.AccountDisabled,
        TooManyRequests,
        limits=("code try",),
    ),
)
async def verify_code(guest: NamedDependency[Guest], data: Sent[VerifyCode]) -> Data[Verified]:
    """Makes the account, with its personal hub, where there is none for this address."""
    issuer, keys = embedded_issuer(guest.service), guest.service.keys
    wanted = data.read()
    email = _read_email(wanted.email)
    code = wanted.code.strip()
    if not (len(code) == 6 and code.isascii() and code.isdigit()):
        raise InvalidCodeFormat
    answer: Verified | None = None
    why = None
    async with guest.db.writing() as tx:
        await guest.service.limiter.take_exact(tx, ("code tries from an address", guest.address))
        used = await sign_in.use_code(tx, keys, email, code)
        if used is None:
            why = await sign_in.why_refused(tx, email)
        else:
            user_id = await sign_in.person_with(tx, issuer.issuer, used.email)
            if used.redirect is None:
                pair = _pair(await sign_in.issue_session(tx, issuer, keys, user_id, label=LABEL))
                answer = Verified(**msgspec.structs.asdict(pair))
            else:
                exchange = await sign_in.make_exchange_code(tx, user_id)
                answer = Verified(
                    status="ok", code=exchange, redirect=_led(used.redirect, exchange), user_id=user_id
                )
    # Refused after the transaction has kept the try.
    if answer is None:
        raise {"invalid": CodeInvalid, "expired": CodeExpired, "locked": CodeLocked}[why or "invalid"]
    return Data(answer)


def _read_email(raw: str) -> str:
    try:
        return msgspec.convert(tidy(raw), Email)
    except msgspec.ValidationError as error:
        raise InvalidAddress from error


def _read_redirect(raw: str | None, public_url: str) -> str | None:
    if not raw:
        return None
    try:
        parts = urlsplit(raw)
        parts.port  # noqa: B018 - it is judged when it is asked for
    except ValueError as error:
        raise InvalidRedirect from error
    plain = len(raw) <= MAX_REDIRECT and raw.isascii() and raw.isprintable() and not {" ", "\\"} & {*raw}
    if not plain or parts.username is not None or parts.password is not None or parts.fragment:
        raise InvalidRedirect
    own = urlsplit(public_url)
    here = (parts.scheme, parts.netloc) == (own.scheme, own.netloc)
    if not here and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise InvalidRedirect
    return raw


def _led(redirect: str, code: str) -> str:
    parts = urlsplit(redirect)
    query = "&".join([*([parts.query] if parts.query else []), urlencode({"code": code})])
    return urlunsplit(parts._replace(query=query))


ROUTES: list[HTTPRouteHandler] = [refresh_tokens, exchange_code, request_code, verify_code]
