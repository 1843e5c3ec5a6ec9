"""A server that embeds, by the call that most of them answer: texts as `input`, vectors as `data`."""

import math
from collections.abc import Sequence

import httpx
import msgspec

from guildhall.providers.embeddings import DIMENSIONS, EmbeddingServer, EmbeddingsFailed

TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 32 * 1024 * 1024


class _Vector(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Vector]


class HttpEmbedder:
    def __init__(self, settings: EmbeddingServer) -> None:
        self.name = settings.model
        self._url = settings.url
        key = settings.key
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key.reveal()}"} if key else {}, timeout=TIMEOUT_S
        )

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        if not texts:
            return []
        body = {"model": self.name, "input": list(texts), "encoding_format": "float"}
        try:
            answer = await self._client.post(self._url, json=body)
        except httpx.HTTPError as error:
            raise EmbeddingsFailed(f"the server does not answer: {type(error).__name__}") from error
        if answer.status_code != 200:
            raise EmbeddingsFailed(f"the server answers {answer.status_code}")
        if len(answer.content) > MAX_ANSWER_BYTES:
            raise EmbeddingsFailed("the server answers more than was asked for")
        try:
            data = msgspec.json.decode(answer.content, type=_Answer).data
        except msgspec.DecodeError as error:
            raise EmbeddingsFailed("the server's answer is not one of vectors") from error
        found = {vector.index: vector.embedding for vector in data}
        if found.keys() != set(range(len(texts))):
            raise EmbeddingsFailed("the server's answer does not hold one vector for each text")
        return [_of_length_one(found[index]) for index in range(len(texts))]

    async def aclose(self) -> None:
        await self._client.aclose()


def _of_length_one(vector: list[float]) -> list[float]:
    if len(vector) != DIMENSIONS:
        raise EmbeddingsFailed(
            f"the model makes vectors of {len(vector)} numbers; choose one that makes {DIMENSIONS}"
        )
    length = math.sqrt(sum(number * number for number in vector))
    if not math.isfinite(length) or length == 0:
        raise EmbeddingsFailed("the server's answer holds a vector without a direction")
    return [number / length for number in vector]
