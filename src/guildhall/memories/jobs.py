"""What the worker does for memories."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall import outbox
from guildhall.db import Unkeepable
from guildhall.errors import NotFound
from guildhall.events.event import tell_members
from guildhall.memories import queries, rules
from guildhall.memories.content import cut
from guildhall.memories.reading import Unreadable, read_text
from guildhall.outbox import Handlers, Job, Scheduled
from guildhall.providers.blobs import is_name
from guildhall.spaces.jobs import HubLanguageChanged, RemainsLeft
from guildhall.spaces.notices import tell_settled
from guildhall.worker.work import Work

BATCH = 200

# What a deleted hub may have too much of for one statement, some at a time. Its owner goes with the hub's own
# row, which cannot be without one.
REMAINS: Sequence[LiteralString] = (
    "DELETE FROM memories WHERE space_id = $1 AND id IN"
    " (SELECT id FROM memories WHERE space_id = $1 LIMIT $2)",
    "DELETE FROM notifications WHERE id IN (SELECT id FROM notifications WHERE space_id = $1 LIMIT $2)",
    "DELETE FROM members WHERE space_id = $1 AND user_id IN"
    " (SELECT user_id FROM members WHERE space_id = $1 AND role <> 'owner' LIMIT $2)",
    "DELETE FROM dream_runs WHERE space_id = $1 AND id IN"
    " (SELECT id FROM dream_runs WHERE space_id = $1 LIMIT $2)",
    "DELETE FROM topics WHERE space_id = $1 AND id IN (SELECT id FROM topics WHERE space_id = $1 LIMIT $2)",
)


class OwnMemoriesLeft(Job, frozen=True, kw_only=True):
    """Somebody wants all they wrote before `before` gone, and one request could not take it all."""

    entrypoint = "memories.own_left"
    user_id: str
    before: datetime


class FileArrived(Job, frozen=True, kw_only=True):
    """A memory is a file whose text is still to be read."""

    entrypoint = "memories.file_arrived"
    memory_id: UUID


class ReceiptsDue(Job, frozen=True, kw_only=True):
    """Forget what was shown to whom long ago."""

    entrypoint = "memories.receipts_due"


class TermCountsDue(Job, frozen=True, kw_only=True):
    """Count which words are common in large hubs."""

    entrypoint = "memories.term_counts_due"


class _Hub(msgspec.Struct, frozen=True):
    id: UUID


class _Name(msgspec.Struct, frozen=True):
    name: str


async def clear_remains(work: Work, _: RemainsLeft) -> None:
    """Remove deleted hubs in parts, then files that belong to no memory any more."""
    while True:
        async with work.db.writing() as tx:
            hub: UUID | None = await tx.value(
                "SELECT id FROM spaces WHERE kind = 'hub' AND deleted_at IS NOT NULL ORDER BY id LIMIT 1"
                " FOR UPDATE SKIP LOCKED"
            )
            if hub is None:
                break
            for part in REMAINS:
                if await tx.run(part, hub, BATCH) == BATCH:
                    break
            else:
                await tx.run("DELETE FROM spaces WHERE id = $1", hub)
    async with work.db.single() as tx:
        # Files that were sent and never pushed.
        await tx.run(
            "INSERT INTO stray_blobs (name) SELECT u.name FROM uploads u"
            " WHERE u.purpose = 'memory' AND u.created_at < now() - interval '1 day'"
            "   AND NOT EXISTS (SELECT FROM memory_attachments a WHERE a.upload_id = u.id)"
            " ON CONFLICT DO NOTHING"
        )
    while True:
        async with work.db.reading() as read:
            rows = await read.many(_Name, "SELECT name FROM stray_blobs ORDER BY since LIMIT $1", BATCH)
        for row in rows:
            if is_name(row.name):
                await work.blobs.delete(row.name)
            async with work.db.single() as tx:
                await tx.run(
                    "WITH upload AS (DELETE FROM uploads WHERE name = $1)"
                    " DELETE FROM stray_blobs WHERE name = $1",
                    row.name,
                )
        if len(rows) < BATCH:
            return


class _File(msgspec.Struct, frozen=True):
    """`waited` says that it has been tried for half a day, which is soon as long as a job is."""

    space_id: UUID
    name: str
    mime: str
    waited: bool


async def read_file(work: Work, job: FileArrived) -> None:
    """Put the text of a memory's file into the memory. One that cannot be read stays, found by its name."""
    async with work.db.reading() as read:
        file = await read.maybe(
            _File,
            "SELECT m.space_id, a.name, a.content_type AS mime,"
            "       m.updated_at < now() - interval '12 hours' AS waited"
            " FROM memories m JOIN memory_attachments a ON a.memory_id = m.id"
            " WHERE m.id = $1 AND m.state = 'processing' LIMIT 1",
            job.memory_id,
        )
    if file is None:
        return
    try:
        await _finish(work, job, file, await _text(work, file))
    except (NotFound, Unreadable) as error:
        await _finish(work, job, file, "", str(error))
    except Unkeepable:
        await _finish(work, job, file, "", "its text is not one that can be searched")
    except Exception:
        if not file.waited:
            raise
        await _finish(work, job, file, "", "it could not be read in half a day")


async def _text(work: Work, file: _File) -> str:
    opened = await work.blobs.open(file.name)
    return await read_text(file.mime, b"".join([chunk async for chunk in opened.chunks]))


async def _finish(work: Work, job: FileArrived, file: _File, text: str, problem: str | None = None) -> None:
    """Write the text, and what follows from it, unless somebody has written something else meanwhile."""
    # What was HTML is text from here on, with its headings marked.
    kind = "markdown" if file.mime in ("text/html", "text/markdown") else "text"
    pieces = await cut(text, kind)
    async with work.db.writing() as tx:
        await tx.run("SELECT FROM spaces WHERE id = $1 FOR NO KEY UPDATE", file.space_id)
        row = await queries.finish_file(
            tx,
            job.memory_id,
            title=rules.title_of(text, kind),
            content=text,
            kind=kind,
            summary=rules.summary_of(text, kind),
            pieces=msgspec.json.encode(pieces).decode(),
            count=len(pieces),
            problem=problem,
        )
        if row is not None:
            tell_members(
                tx,
                row.space_id,
                "hub.memories.changed",
                actor=row.author_id,
                entity_id=str(job.memory_id),
                state="active",
            )


async def delete_own(work: Work, job: OwnMemoriesLeft) -> None:
    while True:
        async with work.db.writing() as tx:
            gone = await queries.delete_own(tx, job.user_id, job.before, BATCH)
            await tell_settled(tx, job.user_id)
            if not gone:
                await outbox.put(tx, RemainsLeft())
                return


async def count_terms(work: Work, _: TermCountsDue) -> None:
    """Count the words of each large hub that has grown or shrunk since they were counted."""
    async with work.db.reading() as read:
        hubs = await read.many(
            _Hub,
            "SELECT s.id FROM spaces s LEFT JOIN memory_term_runs run ON run.space_id = s.id"
            " WHERE s.kind = 'hub' AND s.memory_count > 20000 AND s.deleted_at IS NULL"
            "   AND coalesce(abs(s.memory_count - run.memory_count) * 20 > run.memory_count, true)",
        )
    for hub in hubs:
        async with work.db.writing() as tx:
            # Some millions of words take longer than a request may.
            await tx.run("SET LOCAL statement_timeout = '120s'")
            await tx.run("DELETE FROM memory_term_counts WHERE space_id = $1", hub.id)
            await tx.run(
                """
                WITH counted AS (
                    INSERT INTO memory_term_counts (space_id, lexeme, memories)
                    SELECT space_id, lexeme, count(*) FROM memory_terms WHERE space_id = $1
                     GROUP BY space_id, lexeme HAVING count(*) >= 1000)
                INSERT INTO memory_term_runs (space_id, memory_count)
                SELECT id, memory_count FROM spaces WHERE id = $1
                ON CONFLICT (space_id) DO UPDATE
                   SET memory_count = excluded.memory_count, counted_at = excluded.counted_at
                """,
                hub.id,
            )


async def index_again(work: Work, job: HubLanguageChanged) -> None:
    after = UUID(int=0)
    while True:
        async with work.db.writing() as tx:
            last: UUID | None = await tx.value(
                """
                WITH some_more AS MATERIALIZED (
                    SELECT m AS memory, m.id FROM memories m WHERE m.space_id = $1 AND m.id > $2
                     ORDER BY m.id LIMIT $3 FOR NO KEY UPDATE),
                done AS MATERIALIZED (SELECT id, index_memory(memory, false) FROM some_more)
                SELECT id FROM done ORDER BY id DESC LIMIT 1
                """,
                job.space_id,
                after,
                BATCH,
            )
        if last is None:
            return
        after = last


async def forget_receipts(work: Work, _: ReceiptsDue) -> None:
    async with work.db.single() as tx:
        await tx.run("DELETE FROM recall_receipts WHERE created_at < now() - interval '1 day'")


def now() -> datetime:
    return datetime.now(UTC)


HANDLERS: Handlers = {
    RemainsLeft: clear_remains,
    OwnMemoriesLeft: delete_own,
    ReceiptsDue: forget_receipts,
    FileArrived: read_file,
    TermCountsDue: count_terms,
    HubLanguageChanged: index_again,
}

SCHEDULES: Sequence[Scheduled] = (
    Scheduled("32 * * * *", RemainsLeft(), at_start=True),
    Scheduled("37 * * * *", ReceiptsDue()),
    Scheduled("*/10 * * * *", TermCountsDue(), at_start=True),
)
