"""Embeddings: a text as a direction, so that texts that mean alike lie near each other. Optional throughout.

Two ways to have them: a small model of one's own, which `guildhall embeddings install` makes, and any server
that speaks the usual `/embeddings` call. Without either, memories are recalled by their words alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import msgspec

from guildhall.secret import Secret

DIMENSIONS = 384


class LocalModel(msgspec.Struct, frozen=True):
    """`folder` holds what `guildhall embeddings install` has made."""

    folder: Path


class EmbeddingServer(msgspec.Struct, frozen=True):
    """`url` is the whole address that texts are posted to."""

    url: str
    model: str
    key: Secret[str] | None


EmbeddingsSettings: TypeAlias = LocalModel | EmbeddingServer


class EmbeddingsFailed(Exception):
    """There are no vectors to be had now; the sentence says why."""


class Embedder(Protocol):
    @property
    def name(self) -> str:
        """Whose directions these are: vectors under different names cannot be compared."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of DIMENSIONS numbers and of length 1 for each text. Raises EmbeddingsFailed."""
        ...

    async def aclose(self) -> None: ...


def open_embedder(settings: EmbeddingsSettings) -> Embedder:
    """Raises ImportError where the libraries for it are not installed, FileNotFoundError without a model."""
    if isinstance(settings, LocalModel):
        from guildhall.providers.embeddings.local import LocalEmbedder

        return LocalEmbedder(settings.folder)
    from guildhall.providers.embeddings.http import HttpEmbedder

    return HttpEmbedder(settings)
