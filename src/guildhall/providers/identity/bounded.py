"""HTTP to a provider that may be slow, lie, or never stop talking: bounded in time and size, unredirected."""

import asyncio
from collections.abc import AsyncIterator

import httpx

CONNECT_S = 3.0
TOTAL_S = 10.0
MAX_ANSWER_BYTES = 1024 * 1024
MAX_RETRY_AFTER_S = 3600


class BoundedError(Exception):
    """No usable answer. The text names no body and no address; `retry_after_s` is the server's wish."""

    def __init__(self, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class AnswerTooLarge(httpx.TransportError):
    pass


class _BoundedStream(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        async for chunk in self._inner:
            seen += len(chunk)
            if seen > MAX_ANSWER_BYTES:
                raise AnswerTooLarge("more than 1 MiB")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedTransport(httpx.AsyncBaseTransport):
    def __init__(self) -> None:
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            # We asked for plain bytes; a compressed answer could be a thousand times its size.
            await response.aclose()
            raise httpx.DecodingError("a compressed answer that was not asked for", request=request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _BoundedStream(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def bounded_client() -> httpx.AsyncClient:
    """A client whose answers stop at 1 MiB. The caller bounds the whole exchange by TOTAL_S."""
    return httpx.AsyncClient(
        transport=_BoundedTransport(),
        timeout=httpx.Timeout(TOTAL_S, connect=CONNECT_S),
        follow_redirects=False,
        headers={"Accept-Encoding": "identity"},
        trust_env=False,
    )


async def get_bounded(url: str, content_types: tuple[str, ...]) -> bytes:
    """The body of a 200 answer of one of these types. Raises BoundedError."""
    try:
        async with asyncio.timeout(TOTAL_S), bounded_client() as client:
            response = await client.get(url, headers={"Accept": ", ".join(content_types)})
    except TimeoutError:
        raise BoundedError("no answer in time") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BoundedError(type(error).__name__) from None
    if response.status_code != 200:
        raise BoundedError(f"status {response.status_code}", retry_after_s(response.headers))
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in content_types:
        raise BoundedError("an answer of another type")
    return response.content


def retry_after_s(headers: httpx.Headers) -> int | None:
    """The Retry-After header in seconds, at most an hour. Its form as a date counts as absent."""
    value = headers.get("retry-after", "")
    if not value.isascii() or not value.isdecimal() or len(value) > 9:
        return None
    return min(int(value), MAX_RETRY_AFTER_S)
