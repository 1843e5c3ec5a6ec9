"""Vectors of texts, by a server and by the small model in this process."""

import asyncio
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from guildhall.providers.embeddings import (
    DIMENSIONS,
    EmbeddingsFailed,
    LocalModel,
    graph,
    open_embedder,
)
from guildhall.providers.embeddings import EmbeddingServer as ServerSettings
from guildhall.providers.embeddings.local import GRAPH, WORDS
from guildhall.secret import Secret
from tests.servers.embedding_server import embedding_server


async def test_a_server_is_asked_once_and_its_vectors_are_made_of_length_one() -> None:
    async with embedding_server() as server:
        embedder = open_embedder(ServerSettings(server.url, "some-model", Secret("the key")))
        vectors = await embedder.embed(["a car", "a vehicle", "a cat"])
        assert await embedder.embed([]) == []
        await embedder.aclose()
    assert server.asked == ["a car", "a vehicle", "a cat"]
    assert server.keys == {"Bearer the key"}
    assert all(math.isclose(sum(number * number for number in vector), 1) for vector in vectors)
    assert _cosine(vectors[0], vectors[1]) > _cosine(vectors[0], vectors[2])


def _cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("status", "answer", "why"),
    [
        (500, {}, "500"),
        (200, "nonsense", "not one of vectors"),
        (200, {"data": []}, "one vector for each"),
        (200, {"data": [{"index": 1, "embedding": [1.0] * DIMENSIONS}]}, "one vector for each"),
        (200, {"data": [{"index": 0, "embedding": [1.0] * 768}]}, "768"),
        (200, {"data": [{"index": 0, "embedding": [0.0] * DIMENSIONS}]}, "without a direction"),
    ],
)
async def test_a_server_that_answers_something_else_is_not_believed(
    status: int, answer: Any, why: str
) -> None:
    async with embedding_server() as server:
        server.answer = (status, answer)
        embedder = open_embedder(ServerSettings(server.url, "some-model", None))
        with pytest.raises(EmbeddingsFailed, match=why):
            await embedder.embed(["a text"])
        await embedder.aclose()
    with pytest.raises(EmbeddingsFailed, match="does not answer"):
        await open_embedder(ServerSettings(server.url, "some-model", None)).embed(["a text"])


VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{n}" for n in range(60))]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with a model of the right shape that knows few words and has learnt nothing."""
    chance = np.random.default_rng(1)
    hidden, wide = graph.HIDDEN, 4 * graph.HIDDEN
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(VOCABULARY), hidden),
        "embeddings.position_embeddings.weight": (512, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
    }
    for layer in range(graph.LAYERS):
        at = f"encoder.layer.{layer}."
        for name in ("attention.self.query", "attention.self.key", "attention.self.value"):
            shapes[f"{at}{name}.weight"] = (hidden, hidden)
        shapes[f"{at}attention.output.dense.weight"] = (hidden, hidden)
        shapes[f"{at}intermediate.dense.weight"] = (wide, hidden)
        shapes[f"{at}output.dense.weight"] = (hidden, wide)
    found = {name: chance.normal(0, 0.05, shape).astype("<f4") for name, shape in shapes.items()}
    for name, weight in list(found.items()):
        if name.startswith("encoder"):
            found[name.replace(".weight", ".bias")] = chance.normal(0, 0.05, weight.shape[0]).astype("<f4")
    norms = ["embeddings.LayerNorm"]
    for layer in range(graph.LAYERS):
        norms += [f"encoder.layer.{layer}.{name}.LayerNorm" for name in ("attention.output", "output")]
    for name in norms:
        found[f"{name}.weight"] = chance.normal(1, 0.05, hidden).astype("<f4")
        found[f"{name}.bias"] = chance.normal(0, 0.05, hidden).astype("<f4")
    folder = tmp_path_factory.mktemp("weights")
    _write(folder / "model.safetensors", found)
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    words.save(str(folder / WORDS))
    graph.make(folder / "model.safetensors", folder / GRAPH)
    return folder, found


def _write(file: Path, tensors: dict[str, Any]) -> None:
    """The format: the length of a head, the head, which says what is where, and all the numbers."""
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        head[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]}
    words = json.dumps(head).encode()
    file.write_bytes(struct.pack("<Q", len(words)) + words + b"".join(t.tobytes() for t in tensors.values()))


async def test_the_model_made_of_weights_does_what_the_weights_say(
    weights: tuple[Path, dict[str, Any]],
) -> None:
    folder, tensors = weights
    texts = ["word1 word2", "word3 word4 word5 word6 word7 word8 unheard", "word1"]
    embedder = open_embedder(LocalModel(folder))
    vectors = await embedder.embed(texts)
    many = await embedder.embed(texts * 20)
    await embedder.aclose()
    for text, vector in zip(texts, vectors, strict=True):
        assert math.isclose(_cosine(vector, vector), 1, abs_tol=1e-5)
        # Eight bits for a number leave a little to be desired.
        assert _cosine(vector, _by_hand(tensors, text)) > 0.98
    # Neither the texts beside it nor the length they are filled up to changes much of a vector.
    assert all(_cosine(one, other) > 0.98 for one, other in zip(vectors * 20, many, strict=True))


def _by_hand(tensors: dict[str, Any], text: str) -> list[float]:
    """BERT in plain numbers, for one text."""

    def normal(x: Any, name: str) -> Any:
        spread = np.sqrt(((x - x.mean(-1, keepdims=True)) ** 2).mean(-1, keepdims=True) + graph.EPSILON)
        return (x - x.mean(-1, keepdims=True)) / spread * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def linear(x: Any, name: str) -> Any:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    words = ["[CLS]", *text.split(), "[SEP]"]
    ids = [VOCABULARY.index(word) if word in VOCABULARY else 1 for word in words]
    n = len(ids)
    x = tensors["embeddings.word_embeddings.weight"][ids]
    x = x + tensors["embeddings.position_embeddings.weight"][:n]
    x = normal(x + tensors["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(graph.LAYERS):
        at = f"encoder.layer.{layer}."
        query, key, value = (
            linear(x, f"{at}attention.self.{name}").reshape(n, graph.HEADS, graph.HEAD).transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )
        scores = np.exp(query @ key.transpose(0, 2, 1) / math.sqrt(graph.HEAD))
        scores /= scores.sum(-1, keepdims=True)
        seen = (scores @ value).transpose(1, 0, 2).reshape(n, graph.HIDDEN)
        x = normal(x + linear(seen, f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm")
        wide = linear(x, f"{at}intermediate.dense")
        wide = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = normal(x + linear(wide, f"{at}output.dense"), f"{at}output.LayerNorm")
    mean = x.mean(0)
    return (mean / np.linalg.norm(mean)).tolist()


async def test_many_texts_leave_a_turn_to_one(weights: tuple[Path, dict[str, Any]]) -> None:
    embedder = open_embedder(LocalModel(weights[0]))
    many = asyncio.create_task(embedder.embed(["word1 word2"] * 400))
    await asyncio.sleep(0)
    await embedder.embed(["word3"])
    assert not many.done()
    assert len(await many) == 400
    await embedder.aclose()


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=GRAPH):
        open_embedder(LocalModel(tmp_path))
