"""`/mcp`: one message of the Model Context Protocol, and the answer to it."""

import asyncio
import importlib
import json
from types import ModuleType
from typing import Any, cast

from litestar import post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from litestar.types import Scope

from guildhall.errors import Invalid
from guildhall.web import wire
from guildhall.web.app import Raw
from guildhall.web.caller import Caller, check_alive
from guildhall.web.docs import facts


class _Library:
    """The module that speaks the protocol, imported when the first agent comes."""

    def __init__(self) -> None:
        self._module: ModuleType | None = None

    async def __call__(self) -> ModuleType:
        if self._module is None:
            # Not in the loop, where nobody else would be served meanwhile.
            self._module = await asyncio.to_thread(importlib.import_module, "guildhall.mcp.server")
        return self._module


_library = _Library()


@post(
    "/mcp",
    status_code=200,
    summary="Send a message of the Model Context Protocol",
    opt=facts(Invalid, reads=True, atom="any", answers=dict[str, Any], also={202: dict[str, Any]}),
)
async def speak(scope: Scope, caller: NamedDependency[Caller]) -> ASGIResponse:
    """Streamable HTTP without streams: each request is answered by itself, in JSON.

    A tool counts as the call that it is another name for, beside the request that brought it.
    """
    body: bytes = scope["state"]["raw_body"]
    try:
        message = wire.parse(body)
        if not _is_message(message):
            raise Invalid("Send one request or notification of JSON-RPC 2.0.")
    except Invalid as error:
        await _check_alive(caller)
        id = _asked_by(body)
        if id is None:
            raise
        return Raw(200, ((b"content-type", b"application/json"),), _refusal(id, error))
    if message["method"] != "tools/call":
        await _check_alive(caller)
    answer = await (await _library()).answer(scope, body, caller)
    headers = [header for header in answer.headers if header[0] != b"content-length"]
    return Raw(int(answer.status), headers, answer.body)


def _asked_by(body: bytes) -> str | int | None:
    """The id of a call of a tool whose arguments are refused before the tool sees them."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not _is_message(message) or message["method"] != "tools/call":
        return None
    id = message.get("id")
    return id if isinstance(id, (str, int)) and not isinstance(id, bool) and _is_plain(str(id)) else None


def _is_plain(text: str) -> bool:
    return len(text) <= 200 and text.isprintable()


def _refusal(id: str | int, error: Invalid) -> bytes:
    """The tool's own answer: of an error of HTTP a client tells its agent only that there was one."""
    told = {"error": {"code": error.code, "message": error.message}}
    result = {
        "content": [{"type": "text", "text": json.dumps(told)}],
        "structuredContent": told,
        "isError": True,
    }
    return json.dumps({"jsonrpc": "2.0", "id": id, "result": result}).encode()


def _is_message(message: Any) -> bool:
    if not isinstance(message, dict):
        return False
    given = cast("dict[str, Any]", message)
    return given.get("jsonrpc") == "2.0" and isinstance(given.get("method"), str)


async def _check_alive(caller: Caller) -> None:
    """A tool looks with its own statement; all else would never look."""
    async with caller.db.reading() as read:
        await check_alive(read, caller)


ROUTES: list[HTTPRouteHandler] = [speak]
