# The libraries here say little of their types.
# pyright: basic
"""The small model in this process, on one thread beside the loop."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

GRAPH, WORDS = "minilm.onnx", "tokenizer.json"
# The model was made for texts as long as this, in its own words; what comes after is left out.
MOST_WORDS = 256
# So many at once keep memory small, and are as quick as more.
BATCH = 16


class LocalEmbedder:
    """Raises FileNotFoundError where the model is not installed."""

    name = "all-MiniLM-L6-v2 int8"

    def __init__(self, folder: Path) -> None:
        for file in (folder / GRAPH, folder / WORDS):
            if not file.exists():
                raise FileNotFoundError(file)
        self._words = Tokenizer.from_file(str(folder / WORDS))
        self._words.enable_truncation(MOST_WORDS)
        self._words.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / GRAPH), options, providers=["CPUExecutionProvider"]
        )
        # One: what embeds for a job must not take the processor from what answers.
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="embedding")

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        loop = asyncio.get_running_loop()
        found: list[list[float]] = []
        for start in range(0, len(texts), BATCH):
            # Between batches somebody with one text gets a turn.
            found += await loop.run_in_executor(self._threads, self._embed, texts[start : start + BATCH])
        return found

    def _embed(self, texts: Sequence[str]) -> list[list[float]]:
        read = self._words.encode_batch(list(texts))
        inputs = {
            "ids": np.array([text.ids for text in read], np.int64),
            "mask": np.array([text.attention_mask for text in read], np.int64),
        }
        vectors: Any = self._session.run(None, inputs)[0]
        return vectors.tolist()

    async def aclose(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
