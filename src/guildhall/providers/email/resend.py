"""Mail through Resend, by its own library over a connection pool of ours."""

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import resend
from resend.exceptions import ResendError
from resend.http_client_async import AsyncHTTPClient

from guildhall.providers.email import Message, Rejected, Resend, Unavailable
from guildhall.providers.email.envelope import check, parse_sender

LARGEST_ANSWER_BYTES = 1024 * 1024
LONGEST_WAIT_S = 24 * 60 * 60

# The other 4xx say that the message or the account is wrong, and stay so.
_PASSING_STATUSES = frozenset({408, 425, 429})
_FITS_A_HEADER = re.compile(r"[\x21-\x7e]{1,255}")


class _Pool(AsyncHTTPClient):
    """The library's own client makes a connection per call, follows no limit and reads any length."""

    def __init__(self, connect_s: float, total_s: float) -> None:
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(total_s, connect=connect_s),
            follow_redirects=False,
            trust_env=False,
            # A compressed answer could be small on the wire and huge in memory.
            headers={"Accept-Encoding": "identity"},
        )

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        json: dict[str, object] | list[object] | None = None,
        files: dict[str, Any] | None = None,
        data: dict[str, str] | None = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        async with self._client.stream(
            method, url, headers=dict(headers), json=json, files=files, data=data
        ) as answer:
            # The library takes a redirect with a JSON body for a success.
            if answer.status_code < 200 or 300 <= answer.status_code < 400:
                raise RuntimeError(f"answered {answer.status_code}")
            if "content-encoding" in answer.headers:
                raise RuntimeError("answered in an encoding that was not asked for")
            body = bytearray()
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > LARGEST_ANSWER_BYTES:
                    raise RuntimeError("answered with more than 1 MiB")
            return bytes(body), answer.status_code, answer.headers

    async def aclose(self) -> None:
        await self._client.aclose()


class ResendEmail:
    def __init__(self, settings: Resend, *, connect_s: float = 3.0, total_s: float = 10.0) -> None:
        parse_sender(settings.sender)
        self._settings = settings
        self._total_s = total_s
        self._pool = _Pool(connect_s, total_s)

    async def send(self, message: Message) -> None:
        message = check(message)
        try:
            async with asyncio.timeout(self._total_s):
                answer: object = await self._call(message)
        except TimeoutError:
            raise Unavailable("Resend did not answer in time") from None
        except ResendError as error:
            raise _refusal(error) from None
        except Exception as error:
            # The library lets a few surprises through, such as JSON too deep to read. The answer is
            # unusable either way, and the idempotency key makes another try safe.
            raise Unavailable(f"Resend's answer could not be read ({type(error).__name__})") from None
        if not isinstance(answer, dict) or not isinstance(answer.get("id"), str):  # pyright: ignore[reportUnknownMemberType]
            raise Unavailable("Resend answered without a message id")

    async def check(self) -> None:
        url = f"{self._settings.base_url.rstrip('/')}/domains"
        head = {"Authorization": f"Bearer {self._settings.api_key.reveal()}", "Accept": "application/json"}
        try:
            async with asyncio.timeout(self._total_s):
                body, status, _ = await self._pool.request("GET", url, head)
        except (TimeoutError, RuntimeError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"Resend is not available ({type(error).__name__})") from None
        # A key that may only send is refused what we ask for here, in these words, and is the better key.
        if 200 <= status < 300 or (status == 401 and b"restricted_api_key" in body):
            return
        if status in _PASSING_STATUSES or status >= 500:
            raise Unavailable(f"Resend is not available ({status})")
        raise Rejected(f"Resend does not take the API key ({status})")

    async def forget(self, unwanted: Callable[[str, str], bool]) -> None:
        pass

    async def aclose(self) -> None:
        await self._pool.aclose()

    async def _call(self, message: Message) -> object:
        # The library keeps key, address and client in its module. It reads all three before its first
        # suspension, which is inside our pool, so setting them here serves several instances at once.
        resend.api_key = self._settings.api_key.reveal()
        resend.api_url = self._settings.base_url.rstrip("/")
        resend.default_async_http_client = self._pool
        return await resend.Emails.send_async(
            {
                "from": self._settings.sender,
                "to": [message.to],
                "subject": message.subject,
                "text": message.text,
                "html": message.html,
            },
            {"idempotency_key": _idempotency_key(message.dedupe_key)},
        )


def _idempotency_key(dedupe_key: str) -> str:
    if _FITS_A_HEADER.fullmatch(dedupe_key):
        return dedupe_key
    return hashlib.sha256(dedupe_key.encode()).hexdigest()


def _refusal(error: ResendError) -> Rejected | Unavailable:
    status = int(error.code) if str(error.code).isdigit() else 500
    # A twin of this very call is still in flight there; its outcome is not known yet.
    twin = status == 409 and error.error_type == "concurrent_idempotent_requests"
    if 400 <= status < 500 and status not in _PASSING_STATUSES and not twin:
        return Rejected(f"Resend refused the message ({status})")
    return Unavailable(f"Resend is not available ({status})", _retry_after_s(error.headers))


def _retry_after_s(headers: Mapping[str, str]) -> int | None:
    value = {name.lower(): text for name, text in headers.items()}.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", value):
        return min(int(value), LONGEST_WAIT_S)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    wait_s = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(int(wait_s), 0), LONGEST_WAIT_S)
