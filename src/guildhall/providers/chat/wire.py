"""One call to the chat service: signed, bounded in time and size, and its failures sorted into two kinds."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
import jwt
import msgspec

from guildhall.providers.chat.values import ChatRejected, ChatSettings, ChatUnavailable

T = TypeVar("T")

CONNECT_S = 3.0
TOTAL_S = 10.0
MAX_ANSWER_BYTES = 1024 * 1024
MAX_RETRY_AFTER_S = 900.0

CODE_INPUT = 4
CODE_RATE_LIMITED = 9
CODE_NOT_FOUND = 16
CODE_TIMED_OUT = 23


class Nothing(msgspec.Struct, frozen=True):
    """An answer of which only the success matters. It must still be an object."""


class _Refusal(msgspec.Struct, frozen=True):
    code: int | None = None
    message: str = ""


class Wire:
    """Holds the connections to one service. Raises ChatRejected and ChatUnavailable, nothing else."""

    def __init__(self, settings: ChatSettings) -> None:
        # The server token has no expiry by the service's rules, so one is enough for the life of the client.
        token = jwt.encode({"server": True}, settings.secret.reveal(), algorithm="HS256")
        self._http = httpx.AsyncClient(
            base_url=settings.base_url,
            params={"api_key": settings.api_key},
            headers={
                "authorization": token,
                "stream-auth-type": "jwt",
                "accept": "application/json",
                # A compressed answer could unfold to any size before its length is known.
                "accept-encoding": "identity",
                "user-agent": "guildhall",
            },
            timeout=httpx.Timeout(TOTAL_S, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=16),
            follow_redirects=False,
            # Otherwise a .netrc could replace our authorization and a proxy variable our destination.
            trust_env=False,
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
        what: str,
    ) -> T:
        """Send one request. `what` says in a few words, without ids, what was asked, for the error's text."""
        request = self._http.build_request(
            method,
            path,
            params=query,
            content=None if body is None else msgspec.json.encode(body),
            headers=None if body is None else {"content-type": "application/json"},
        )
        failure: str
        try:
            async with asyncio.timeout(TOTAL_S):
                response = await self._http.send(request, stream=True)
                try:
                    content = await _read(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            failure = f"no answer in {TOTAL_S:.0f} s"
        except httpx.HTTPError as error:
            failure = type(error).__name__
        else:
            return _judge(response, content, answer, what)
        # Raised out here so that the request, which carries our token, is not chained to the error.
        raise ChatUnavailable(f"{what}, {failure}")


async def _read(response: httpx.Response) -> bytes | None:
    """The answer's bytes; None when it is too large or not the JSON we asked for."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" or response.headers.get("content-encoding", "identity") != "identity":
        return None
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            return None
    return bytes(content)


def _judge(response: httpx.Response, content: bytes | None, answer: type[T], what: str) -> T:
    status = response.status_code
    if response.is_success:
        decoded = _decode(content, answer)
        if decoded is None:
            # It may have acted, and all we ask converges when asked again, so this is not final.
            raise ChatUnavailable(f"{what}, an answer that is too large or no JSON object as documented")
        return decoded
    refusal = _decode(content, _Refusal) or _Refusal()
    if status == 429 or status >= 500 or refusal.code in (CODE_RATE_LIMITED, CODE_TIMED_OUT):
        limited = status == 429 or refusal.code == CODE_RATE_LIMITED
        raise ChatUnavailable(f"{what}, status {status}", _retry_after_s(response.headers, limited=limited))
    reason = "".join(c if c.isprintable() else " " for c in refusal.message[:300])
    raise ChatRejected(what, status=status, code=refusal.code, reason=reason)


def _decode(content: bytes | None, answer: type[T]) -> T | None:
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _retry_after_s(headers: Mapping[str, Any], *, limited: bool) -> float | None:
    """The longest wait the answer asks for, in 0..MAX_RETRY_AFTER_S."""
    waits: list[float] = []
    asked = str(headers.get("retry-after", "")).strip()
    if asked.isascii() and asked.isdigit():
        waits.append(float(asked))
    elif asked:
        with suppress(ValueError, OverflowError):
            waits.append(parsedate_to_datetime(asked).timestamp() - time.time())
    # Every answer says when the minute's allowance returns; only when it is used up does it matter.
    reset = str(headers.get("x-ratelimit-reset", "")).strip()
    if limited and reset.isascii() and reset.isdigit():
        waits.append(float(reset) - time.time())
    return min(max(0.0, *waits), MAX_RETRY_AFTER_S) if waits else None
