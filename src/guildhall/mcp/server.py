"""Speaks the protocol, by the official library. Importing it takes a second, so that waits for who needs it.

Each request is whole in itself: nothing is kept between two of them, so any process can answer any, and one
that nobody talks to holds nothing.
"""

import json
import logging
from functools import cache
from typing import Any, cast

from mcp import MCPError, types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from guildhall import __version__
from guildhall.errors import AppError
from guildhall.mcp.tools import INSTRUCTIONS, TOOLS, use
from guildhall.web.caller import Caller
from guildhall.web.idempotency import Collector
from guildhall.web.screen import MAX_MEMORY_BODY

_EXCHANGE = "guildhall.mcp"


class Exchange:
    """One request: who asks, and what went wrong that the protocol has no words for."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.failure: Exception | None = None


async def answer(scope: Any, body: bytes, caller: Caller) -> Collector:
    """What to answer to a message. Raises Unauthorized, Retryable, and what is our own fault."""
    exchange = Exchange(caller)
    collected = Collector()
    # The same messages, which two libraries name by types of their own.
    send = cast("Any", collected)
    sent = False

    async def receive() -> Any:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    sessions = StreamableHTTPSessionManager(
        _server(), json_response=True, stateless=True, max_request_body_size=MAX_MEMORY_BODY
    )
    # Opened and closed with the request, so that whatever is cancelled is cancelled with it.
    async with sessions.run():
        await sessions.handle_request({**scope, _EXCHANGE: exchange}, receive, send)
    if exchange.failure is not None:
        raise exchange.failure
    return collected


@cache
def _server() -> Server[Any]:
    # What the library logs about a message holds the message.
    logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)
    server: Server[Any] = Server(
        "guildhall",
        version=__version__,
        title="Guildhall",
        instructions=INSTRUCTIONS,
        on_list_tools=_list_tools,
        on_call_tool=_call_tool,
    )
    # It brings one that traces each message.
    server.middleware.clear()
    return server


def _exchange(ctx: ServerRequestContext[Any]) -> Exchange:
    assert ctx.request is not None
    return ctx.request.scope[_EXCHANGE]


async def _list_tools(
    ctx: ServerRequestContext[Any], _: types.PaginatedRequestParams | None
) -> types.ListToolsResult:
    """Those that the caller's key may use."""
    caller = _exchange(ctx).caller
    return types.ListToolsResult(tools=[tool for tool in _shown() if TOOLS[tool.name].is_for(caller)])


@cache
def _shown() -> list[types.Tool]:
    return [
        types.Tool(
            name=tool.name,
            title=tool.title,
            description=tool.description,
            input_schema=tool.schema(),
            annotations=types.ToolAnnotations(
                read_only_hint=not tool.changes,
                destructive_hint=False,
                idempotent_hint=True,
                open_world_hint=False,
            ),
        )
        for tool in TOOLS.values()
    ]


async def _call_tool(
    ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
) -> types.CallToolResult:
    exchange = _exchange(ctx)
    tool = TOOLS.get(params.name)
    if tool is None:
        raise MCPError(types.INVALID_PARAMS, "There is no such tool.")
    try:
        return _result(await use(exchange.caller, tool, params.arguments or {}))
    except AppError as error:
        if error.status in (401, 503):
            exchange.failure = error
        return _result(_refusal(error), is_error=True)
    except Exception as error:
        exchange.failure = error
        return _result({}, is_error=True)


def _refusal(error: AppError) -> dict[str, Any]:
    """As `/v1` puts it."""
    told: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.details:
        told["details"] = error.details
    return {"error": told}


def _result(value: dict[str, Any], *, is_error: bool = False) -> types.CallToolResult:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)], structured_content=value, is_error=is_error
    )
