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
) -> Stream:
    """`{"items":[…]}` of what `batches` yields, which must hold no connection meanwhile: who reads is in no
    hurry.
    """

    async def body() -> AsyncIterator[bytes]:
        lead = b'{"items":['
        async for batch in batches:
            yield lead + b",".join(batch)
            lead = b","
        yield (lead if lead != b"," else b"") + b"]}"

    request.scope["state"]["outlast"](DOWNLOAD_S)
    return Stream(body(), media_type="application/json; charset=utf-8", headers=headers)
