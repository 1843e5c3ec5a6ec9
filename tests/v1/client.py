"""How the official TypeScript client speaks and hears, so that a test can stand in its place.

It concatenates paths, sends `Content-Type: application/json` with every request, also with none to send, asks
for one hub by `X-Hub-ID`, repeats the key of an array, and drops what is undefined. Of an answer it takes
`data`; an empty body is nothing; anything else that is not JSON is an error of its own.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import httpx
import uvicorn

from guildhall.wiring import build_edge
from tests.world import World

# What the client's push sends where its caller gave nothing.
PUSH: dict[str, Any] = {
    "title": "",
    "hint": "",
    "tags": [],
    "source": "sdk",
    "source_agent": "",
    "assisted_by_agent": "",
    "source_path": "",
    "hub_reason": "",
    "content_type": "markdown",
}


class ClientError(Exception):
    """What the client throws; `code` is what callers branch on."""

    def __init__(self, status: int, code: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.details = details


class Client:
    def __init__(self, http: httpx.AsyncClient, token: str | None) -> None:
        self.http = http
        self._token = token
        self.status = 0

    async def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        hub: str | None = None,
        query: dict[str, Any] | None = None,
    ) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if hub is not None:
            headers["X-Hub-ID"] = hub
        pairs = [
            (key, str(item))
            for key, value in (query or {}).items()
            if value is not None
            for item in (value if isinstance(value, list) else [value])
        ]
        if pairs:
            path += "?" + urlencode(pairs)
        content = None if body is None else json.dumps(body).encode()
        answer = await self.http.request(method, path, headers=headers, content=content)
        self.status = answer.status_code
        if not answer.content:
            if answer.is_success:
                return None
            raise ClientError(answer.status_code, "unknown")
        try:
            heard = answer.json()
        except ValueError:
            raise ClientError(answer.status_code, "invalid_response") from None
        if answer.is_success:
            return heard["data"]
        raise ClientError(answer.status_code, heard["error"]["code"], heard["error"].get("details"))


@asynccontextmanager
async def listening(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """The world's application behind a real socket."""
    app: Any = build_edge(world.house)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    config = server.config
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            yield http
    finally:
        server.should_exit = True
        await server.shutdown()
