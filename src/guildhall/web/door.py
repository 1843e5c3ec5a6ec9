"""Where a body is turned away before it is read: a route that wants somebody is asked by nobody."""

import asyncio
from contextlib import suppress
from typing import Any

from litestar import Litestar
from litestar.exceptions import HTTPException
from litestar.types import Receive

from guildhall.web.caller import caller_of

# How much of a body that nobody reads may still come, so that its sender hears the refusal and the connection
# can go on; and how long that may take.
PASSING_BYTES = 256 * 1024
PASSING_S = 5.0


class Door:
    """Knows of each route whether it wants somebody, from the routes themselves."""

    def __init__(self, app: Litestar) -> None:
        self._app = app

    def check(self, scope: Any) -> None:
        """Refuse a request of nobody where its route would, with the same words.

        Raises Unauthorized, TooManyRequests, Unavailable.
        """
        try:
            _, route, *_ = self._app.asgi_router.handle_routing(path=scope["path"], method=scope["method"])
        except HTTPException:
            # There is no such route, which the application says.
            return
        if "caller" in route.parsed_fn_signature.parameters:
            caller_of(scope, route.opt)


async def let_pass(receive: Receive) -> None:
    """Throw away what comes of a body, within bounds. The rest is the server's to deal with."""
    left = PASSING_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(PASSING_S):
            while left >= 0:
                message: Any = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
