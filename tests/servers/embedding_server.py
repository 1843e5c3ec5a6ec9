"""A server that answers the `/embeddings` call as others do: words that mean alike point the same way.

What means what is a small list; any other word points where its letters say. It can be told to fail.
"""

import hashlib
import json
import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from guildhall.providers.embeddings import DIMENSIONS

MEANINGS = ({"car", "automobile", "vehicle"}, {"doctor", "physician"}, {"cat", "kitten"}, {"buy", "purchase"})


def vector_of(text: str) -> list[float]:
    vector = [0.0] * DIMENSIONS
    for word in re.findall(r"[a-z]+", text.lower()):
        known = next((place for place, words in enumerate(MEANINGS) if word in words), None)
        other = len(MEANINGS) + hashlib.sha256(word.encode()).digest()[0] % (DIMENSIONS - len(MEANINGS))
        vector[other if known is None else known] += 1
    length = math.sqrt(sum(number * number for number in vector)) or 1
    # No longer than one, so that whoever compares them must see to that.
    return [3 * number / length for number in vector]


class EmbeddingServer:
    """`answer` is what it says instead of vectors, with its status; `asked` are all texts so far."""

    def __init__(self) -> None:
        self.url = ""
        self.answer: tuple[int, Any] | None = None
        self.asked: list[str] = []
        self.keys: set[str] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message.get("more_body"):
                break
        texts: list[str] = json.loads(body)["input"]
        self.asked += texts
        self.keys |= {value.decode() for name, value in scope["headers"] if name == b"authorization"}
        # In no order, as the call allows.
        data = [
            {"index": n, "embedding": vector_of(text), "object": "embedding"} for n, text in enumerate(texts)
        ]
        status, answer = self.answer or (200, {"object": "list", "data": data[::-1]})
        content = json.dumps(answer).encode()
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-length", str(len(content)).encode())],
            }
        )
        await send({"type": "http.response.body", "body": content})


@asynccontextmanager
async def embedding_server() -> AsyncIterator[EmbeddingServer]:
    app = EmbeddingServer()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    config = server.config
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        app.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1/embeddings"
        yield app
    finally:
        server.should_exit = True
        await server.shutdown()
