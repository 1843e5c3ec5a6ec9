"""The indexes over the vectors of large hubs, one for each: built, mended and dropped by a job.

Up to LINE vectors are compared one by one, which is exact and quick enough. The catalog tells what there is,
so that nothing can disagree with it; as long as an index is missing or half built, all are compared.
Only the owner of the tables makes indexes: a worker that does not know that role leaves things as they are.
"""

import time
from typing import LiteralString

import msgspec

from guildhall.db import owning
from guildhall.outbox import Handlers, Job, Scheduled
from guildhall.web.log import logger
from guildhall.worker.work import Work

LINE = 20_000
# Held by the session that builds, so that it goes with it, however it ends.
_LOCK = 0x6775696C65


class VectorIndexesDue(Job, frozen=True, kw_only=True):
    """Make what indexes over vectors there are what there should be."""

    entrypoint = "memories.vector_indexes_due"
    limit_s = 6 * 3600.0


class _Step(msgspec.Struct, frozen=True):
    """A statement, put into words by the server."""

    name: str
    statement: str


async def tend_vector_indexes(work: Work, _: VectorIndexesDue) -> None:
    await tend(work, LINE)


async def tend(work: Work, line: int) -> None:
    """Give every hub with more than `line` vectors its index, and take it from those with less than half.

    One after the other, and nowhere else meanwhile. Raises Unavailable; what is then half built is dropped
    and built again the next time.
    """
    embedder = work.service.embedder
    if embedder is None:
        async with work.db.reading() as read:
            if not await read.value("SELECT EXISTS (" + _OURS + ")"):
                return
    async with owning(work.owner_url) as owner:
        if not await owner.value(_IS_OWNER):
            logger().info("vector_indexes.not_ours")
            return
        if not await owner.value("SELECT pg_try_advisory_lock($1)", _LOCK):
            return
        for step in await owner.many(_Step, _UNWANTED, line // 2):
            await owner.run(step.statement)
            logger().info("vector_indexes.dropped", index=step.name)
        if embedder is None:
            return
        missing = await owner.many(_Step, _MISSING, embedder.name, line)
        if missing:
            await owner.value(_ROOM)
        for step in missing:
            began = time.monotonic()
            await owner.run(step.statement)
            logger().info("vector_indexes.built", index=step.name, took_s=round(time.monotonic() - began, 1))


_IS_OWNER: LiteralString = """
    SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'memory_vectors'::regclass
"""

_OURS: LiteralString = """
        SELECT c.relname::text AS name, i.indexrelid, i.indisvalid,
               substr(c.relname, 16, 32)::uuid AS hub, substr(c.relname, 49) AS mark
          FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE i.indrelid = 'memory_vectors'::regclass
           AND c.relname ~ '^memory_vectors_[0-9a-f]{32}_[0-9a-f]{8}$'"""

# With the lock in hand nobody builds, so what is not whole was left behind. The name tells the hub.
_UNWANTED: LiteralString = (
    "WITH ours AS MATERIALIZED ("
    + _OURS
    + """)
    SELECT name, 'DROP INDEX CONCURRENTLY IF EXISTS ' || indexrelid::regclass AS statement FROM ours
     WHERE NOT indisvalid
        OR NOT EXISTS (SELECT FROM spaces s WHERE s.id = ours.hub AND s.deleted_at IS NULL)
        OR (SELECT count(*) FROM (SELECT FROM memory_vectors v
                                   WHERE v.space_id = ours.hub AND left(md5(v.model), 8) = ours.mark
                                   LIMIT $1) AS few) < $1
"""
)

# A graph that outgrows its memory takes three times as long. Where the server's limit is nobody's decision,
# a build may take what some 180,000 vectors need; it takes no more than it needs.
_ROOM: LiteralString = """
    SELECT set_config(name, '256MB', false) FROM pg_settings
     WHERE name = 'maintenance_work_mem' AND source = 'default'
"""

# Which hubs are large is counted in an index first, of whatever model, and no further than it matters.
_MISSING: LiteralString = """
    WITH large AS MATERIALIZED (
        SELECT s.id FROM spaces s
         WHERE s.kind = 'hub' AND s.deleted_at IS NULL
           AND (SELECT count(*) FROM (SELECT FROM memory_vectors v WHERE v.space_id = s.id
                                       LIMIT $2::bigint + 1) AS few) > $2)
    SELECT vector_index_name(id, $1) AS name,
           format('CREATE INDEX CONCURRENTLY %I ON memory_vectors USING hnsw (vector halfvec_cosine_ops)'
                  ' WHERE space_id = %L AND model = %L', vector_index_name(id, $1), id, $1::text) AS statement
      FROM large
     WHERE to_regclass(vector_index_name(id, $1)) IS NULL
       AND (SELECT count(*) FROM (SELECT FROM memory_vectors v WHERE v.space_id = large.id AND v.model = $1
                                   LIMIT $2::bigint + 1) AS few) > $2
"""

HANDLERS: Handlers = {VectorIndexesDue: tend_vector_indexes}
SCHEDULES = [Scheduled("*/5 * * * *", VectorIndexesDue(), at_start=True)]
