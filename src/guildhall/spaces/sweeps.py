"""Finding spaces whose channels may not match: after a time without a chat service, and all each night."""

from datetime import timedelta
from uuid import UUID

from guildhall.outbox import Chore, Job, put_chores
from guildhall.spaces.jobs import ChannelsDue, SpaceChanged, SpaceSwept
from guildhall.web.log import logger
from guildhall.worker.work import Work

BATCH = 500
NIGHT_S = 3 * 60 * 60.0
SPACING_S = 0.2
FIRST = UUID(int=0)


async def leave_channel_jobs(work: Work, job: ChannelsDue) -> bool:
    """Leave a job for each space in question, spread out so that ordinary work and the service have room."""
    if work.chat is None:
        return False
    if job.of != "stalled":
        await work.chat.ensure_channel_types()
    everything = job.of == "all"
    spacing_s = min(SPACING_S, NIGHT_S / await _count(work)) if everything else 0.0
    find = {"all": _all, "unfinished": _unfinished, "stalled": _stalled}[job.of]
    last, count = FIRST, 0
    while spaces := await find(work, last):
        chores = [
            _chore(space, everything, (count + number) * spacing_s) for number, space in enumerate(spaces)
        ]
        async with work.db.single() as tx:
            await put_chores(tx, chores)
        last, count = spaces[-1], count + len(spaces)
        logger().info("chat.spaces_to_look_at", of=job.of, found=count)
    return job.of != "stalled"


async def _count(work: Work) -> int:
    async with work.db.single() as tx:
        return await tx.value("SELECT count(*) FROM spaces WHERE kind = 'community'") or 1


def _chore(space: UUID, everything: bool, after_s: float) -> Chore:
    job: Job = SpaceSwept(space_id=space) if everything else SpaceChanged(space_id=space)
    return Chore(job, f"{job.entrypoint}:{space}", timedelta(seconds=after_s) if after_s else None)


async def _all(work: Work, after: UUID) -> list[UUID]:
    async with work.db.single() as tx:
        rows = await tx.connection.fetch(
            "SELECT id FROM (SELECT id FROM spaces"
            "   WHERE kind = 'community' AND deleted_at IS NULL AND id > $1"
            " UNION SELECT space_id FROM chat_spaces WHERE space_id > $1) AS wanted ORDER BY id LIMIT $2",
            after,
            BATCH,
        )
    return [row["id"] for row in rows]


async def _unfinished(work: Work, after: UUID) -> list[UUID]:
    async with work.db.single() as tx:
        rows = await tx.connection.fetch(
            "SELECT id FROM (SELECT s.id FROM spaces s LEFT JOIN chat_spaces c ON c.space_id = s.id"
            "   WHERE s.kind = 'community' AND s.deleted_at IS NULL AND s.id > $1 AND c.space_id IS NULL"
            " UNION SELECT space_id FROM chat_spaces WHERE again AND space_id > $1"
            "   AND (held_until IS NULL OR held_until < now())) AS wanted ORDER BY id LIMIT $2",
            after,
            BATCH,
        )
    return [row["id"] for row in rows]


async def _stalled(work: Work, after: UUID) -> list[UUID]:
    async with work.db.single() as tx:
        rows = await tx.connection.fetch(
            "SELECT space_id AS id FROM chat_spaces WHERE again AND held_until < now() AND space_id > $1"
            " ORDER BY space_id LIMIT $2",
            after,
            BATCH,
        )
    return [row["id"] for row in rows]
