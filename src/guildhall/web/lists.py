"""Lists of any length, sent a batch at a time."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from litestar import Request
from litestar.response import Stream

# A long list over a slow line takes longer than a request usually may, but not for ever.
DOWNLOAD_S = 600.0


def streamed(
    request: Request[Any, Any, Any],
    batches: AsyncIterator[list[bytes]],
    headers: Mapping[str, str] | None = None,
    *,
    begin: bytes = b'{"items":[',
    end: bytes = b"]}",
) -> Stream:
    """A list of what `batches` yields, between `begin` and `end`. They must hold no connection meanwhile: who
    reads is in no hurry.
    """

    async def body() -> AsyncIterator[bytes]:
        lead = begin
        async for batch in batches:
            yield lead + b",".join(batch)
            lead = b","
        yield (lead if lead is begin else b"") + end

    request.scope["state"]["outlast"](DOWNLOAD_S)
    return Stream(body(), media_type="application/json; charset=utf-8", headers=headers)
