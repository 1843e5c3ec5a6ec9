"""Recall by meaning: the vector of a query, and the job that makes those of memories.

Nobody waits for it: a memory is found by its words at once and by its meaning within a minute or so, and a
query whose vector is not there in time is answered by words alone.
"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import msgspec

from guildhall.memories.engine import Vector
from guildhall.outbox import Handlers, Job, Scheduled
from guildhall.providers.embeddings import Embedder, EmbeddingsFailed
from guildhall.providers.pause import Pause
from guildhall.web.log import logger
from guildhall.worker.work import Work

# How long a query may wait for its vector.
PATIENCE_S = 0.3
BATCH = 64


class VectorsDue(Job, frozen=True, kw_only=True):
    """Make the vectors of memories that have none, or an old one."""

    entrypoint = "memories.vectors_due"


async def vector_of(embedder: Embedder | None, pause: Pause, query: str) -> Vector | None:
    """None where there is none to be had in time."""
    if embedder is None or not pause.may_ask():
        return None
    try:
        with pause.asking(EmbeddingsFailed, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                vectors = await embedder.embed([query])
    except (EmbeddingsFailed, TimeoutError) as error:
        logger().warning("no_vector", why=str(error) or "it took too long")
        return None
    return Vector(_spelled(vectors[0]), embedder.name)


def _spelled(vector: Sequence[float]) -> str:
    """As the database writes vectors; the digits are as many as it keeps."""
    return "[" + ",".join(f"{number:.5g}" for number in vector) + "]"


class _Piece(msgspec.Struct, frozen=True):
    """What has no vector yet: a memory in one piece, or a piece of a long one."""

    space_id: UUID
    memory_id: UUID
    chunk: int
    version: int
    text: str


async def make_vectors(work: Work, _: VectorsDue) -> None:
    """Raises EmbeddingsFailed, to be tried again."""
    embedder = work.service.embedder
    if embedder is None:
        return
    after = UUID(int=0)
    while True:
        async with work.db.reading() as read:
            pieces = await read.many(_Piece, _MISSING, embedder.name, after, BATCH)
        if not pieces:
            return
        vectors = await embedder.embed([piece.text for piece in pieces])
        async with work.db.single() as tx:
            # What was deleted or changed meanwhile is left out, and comes again where it is due.
            await tx.run(
                """
                INSERT INTO memory_vectors (space_id, memory_id, chunk, model, version, vector)
                SELECT m.space_id, m.id, made.chunk, $1, made.version, made.vector::halfvec
                  FROM unnest($2::uuid[], $3::smallint[], $4::integer[], $5::text[])
                       AS made (memory_id, chunk, version, vector)
                  JOIN memories m ON m.id = made.memory_id AND m.version = made.version
                   FOR KEY SHARE OF m
                ON CONFLICT (memory_id, chunk) DO UPDATE
                   SET model = excluded.model, version = excluded.version, vector = excluded.vector
                """,
                embedder.name,
                [piece.memory_id for piece in pieces],
                [piece.chunk for piece in pieces],
                [piece.version for piece in pieces],
                [_spelled(vector) for vector in vectors],
            )
        # The pieces of one memory may go on in the next batch.
        after = UUID(int=pieces[-1].memory_id.int - 1)
        if len(pieces) < BATCH:
            return


# Who says "I" is part of what is meant, and so is the day. A title that only repeats the beginning is not.
_MISSING = """
    SELECT m.space_id, m.id AS memory_id, coalesce(piece.chunk, 0)::smallint AS chunk, m.version,
           concat(m.speaker || ': ',
                  CASE WHEN NOT starts_with(coalesce(piece.content, m.content), rtrim(m.title, '…'))
                       THEN m.title || E'\\n' END,
                  coalesce(piece.content, m.content),
                  to_char(m.occurred_at AT TIME ZONE 'UTC', '" ("FMDD FMMonth YYYY")"')) AS text
      FROM memories m
      LEFT JOIN memory_chunks piece ON m.chunk_count > 0 AND piece.memory_id = m.id
      LEFT JOIN memory_vectors v
        ON v.memory_id = m.id AND v.chunk = coalesce(piece.chunk, 0) AND v.model = $1
       AND v.version = m.version
     WHERE m.id > $2 AND m.state <> 'processing' AND v.memory_id IS NULL
     ORDER BY m.id, chunk LIMIT $3
"""

HANDLERS: Handlers = {VectorsDue: make_vectors}
SCHEDULES = [Scheduled("* * * * *", VectorsDue(), at_start=True)]
