"""What the worker does for dreams.

A run is made of small transactions: a phase first writes down what it proposes, then each proposal is done,
or left to people, by itself. A worker that is killed leaves a run that the next one goes on with, since the
job carries the run's id and is claimed again.
"""

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from guildhall import outbox
from guildhall.db import Write, new_id
from guildhall.dreams import operations, queries, rules
from guildhall.dreams.comparing import Plan, note_looks
from guildhall.dreams.planning import PLANNERS, SWITCHES
from guildhall.dreams.queries import Action, Counts, Hub, Run
from guildhall.dreams.rules import Phase
from guildhall.errors import AppError
from guildhall.events.event import tell_members
from guildhall.memories import actions as memory_actions
from guildhall.outbox import Chore, Handlers, Job, Scheduled
from guildhall.spaces.notices import Notice
from guildhall.spaces.notices import settle as settle_notices
from guildhall.topics import actions as topic_actions
from guildhall.web.log import logger
from guildhall.worker.work import Work

AT_ONCE = 500


class DreamAsked(Job, frozen=True, kw_only=True):
    """Tidy a hub up. The run has its id from here, so that it goes on after whatever happens."""

    entrypoint = "dreams.asked"
    run_id: UUID
    space_id: UUID
    asked_by: str | None = None


class DreamsDue(Job, frozen=True, kw_only=True):
    """Tidy up every hub in which something has happened since the last time."""

    entrypoint = "dreams.due"


async def dream(work: Work, job: DreamAsked) -> None:
    run = await begin(work, job)
    if run is None:
        return
    for phase in rules.PHASES:
        try:
            await _go_through(work, run, phase)
        except AppError:
            # The database is busy or away: the job comes again and goes on.
            raise
        except Exception:
            logger().exception("dreams.phase_failed", run=str(run.id), phase=phase)
            async with work.db.writing() as tx:
                await queries.lock_hub(tx, run.space_id)
                await queries.note_failed(tx, run, phase)
        async with work.db.reading() as read:
            again = await queries.find_run(read, run.id)
        if again is None or again.status != "running":
            return
        run = again
    await _finish(work, run)


async def begin(work: Work, job: DreamAsked) -> Run | None:
    """The run to go on with; None where there is nothing to do. One that cannot be is noted as skipped."""
    async with work.db.writing() as tx:
        hub = await queries.lock_hub(tx, job.space_id)
        if hub is None:
            return None
        run = await queries.find_run(tx, job.run_id)
        if run is not None:
            return run if run.status == "running" else None
        other = await queries.find_running(tx, hub.space_id)
        if other is not None and other.abandoned:
            await queries.give_up(tx, hub.space_id, other.id)
            other = None
        mode: rules.Mode = "bootstrap" if hub.unsorted >= rules.BOOTSTRAP_FROM else "maintenance"
        why = _hindrance(hub, other)
        await queries.insert_run(tx, hub.space_id, job.run_id, job.asked_by, mode, report=why)
        _tell(tx, job.asked_by, hub.space_id)
        return None if why is not None else await queries.find_run(tx, job.run_id)


def _hindrance(hub: Hub, other: Run | None) -> str | None:
    if other is not None:
        return "Skipped: another run was going on."
    if hub.frozen:
        return "Skipped: the hub is frozen."
    if not hub.allows("dreams_enabled"):
        return "Skipped: dreams are switched off in this hub."
    return None


def _tell(tx: Write, actor: str | None, space: UUID) -> None:
    tell_members(tx, space, "hub.dreams.changed", actor=actor or "")


async def _go_through(work: Work, run: Run, phase: Phase) -> None:
    if phase not in run.planned:
        await _plan(work, run, phase)
    while (done := await step(work, run)) is not None:
        logger().debug("dreams.step", run=str(run.id), action=str(done))


async def _plan(work: Work, run: Run, phase: Phase) -> None:
    began = time.perf_counter()
    budget = rules.BUDGETS[run.mode][phase]
    async with work.db.reading() as read:
        hub = await read.maybe(Hub, queries.HUB_ROW, run.space_id)
    if hub is None:
        return
    plan = await PLANNERS[phase](work.db, hub, budget) if hub.allows(SWITCHES[phase]) else Plan([], 0)
    duration_ms = round((time.perf_counter() - began) * 1000)
    async with work.db.writing() as tx:
        if await queries.lock_hub(tx, run.space_id) is None:
            return
        again = await queries.find_run(tx, run.id)
        if again is None or again.status != "running" or phase in again.planned:
            return
        await queries.insert_proposals(tx, run, phase, [new_id() for _ in plan.proposals], plan.proposals)
        metrics = _metrics(plan, duration_ms)
        if plan.seen_at is not None and plan.looked:
            await note_looks(tx, run.space_id, phase, plan.seen_at, plan.looked)
        await queries.note_metrics(
            tx, run, phase, metrics, _shown_budget(budget), plan.candidates, more=plan.more
        )


def _metrics(plan: Plan, duration_ms: int) -> dict[str, int]:
    return {
        "candidates": plan.candidates,
        "attempted": plan.candidates,
        "processed": plan.candidates,
        "actions": len(plan.proposals),
        "skipped": plan.candidates - len({id for one in plan.proposals for id in one.memories}),
        "batches": 1,
        "completed_batches": 1,
        "timed_out_batches": 0,
        "llm_calls": 0,
        "llm_errors": 0,
        "llm_timeouts": 0,
        "duration_ms": duration_ms,
    }


def _shown_budget(budget: rules.Budget) -> dict[str, int]:
    return {
        "candidate_limit": budget.candidate_limit,
        "batch_size": budget.candidate_limit,
        "preview_char_budget": rules.LONGEST,
        "topic_context_limit": rules.BUDGETS["maintenance"]["restructure"].candidate_limit,
        "max_llm_calls": 0,
        "timeout_ms": 0,
    }


async def step(work: Work, run: Run) -> UUID | None:
    """Do the next thing that a run proposes, or leave it to people; answers which, None without any."""
    async with work.db.writing() as tx:
        hub = await queries.lock_hub(tx, run.space_id)
        action = None if hub is None else await queries.next_proposed(tx, run)
        if hub is None or action is None:
            return None
        if not action.automatic:
            await _ask_people(tx, run, action)
            return action.id
        done = await operations.apply(tx, action, hub.owner_id)
        if done is None:
            await queries.settle(tx, action, "dropped")
            return action.id
        await queries.settle(tx, action, "applied", before=done.before, memories=done.memories)
        tell_of(tx, action, run.asked_by or "", personal=hub.is_personal)
    return action.id


def tell_of(tx: Write, action: Action, actor: str, *, personal: bool) -> None:
    """Tell the hub what an action has changed."""
    if action.operation != "nest":
        memory_actions.tell(tx, actor, action.space_id, personal=personal)
    if action.operation in ("organize", "nest", "join"):
        topic_actions.tell(tx, actor, action.space_id, action.to_topic_id)


_KINDS = {
    "contradiction": ("review_contradiction", "contradiction"),
    "join": ("review_topic_merge", "topic_review"),
    "nest": ("review_topic_restructure", "topic_review"),
}


async def _ask_people(tx: Write, run: Run, action: Action) -> None:
    """Put a decision before everybody who may make it."""
    kind, source_kind = _KINDS[action.operation]
    payload: dict[str, Any] = {"action_id": str(action.id), "run_id": str(run.id)}
    if action.operation == "contradiction":
        first, second = action.source_memory_ids
        payload |= {"memory_a": str(first), "memory_b": str(second)}
    elif action.operation == "join":
        payload |= {"target_topic": str(action.to_topic_id), "source_topic": str(action.from_topic_id)}
    else:
        payload |= {"parent_topic": str(action.to_topic_id), "child_topic": str(action.from_topic_id)}
    people = await queries.list_deciders(tx, action)
    asked = [
        Notice(
            kind=kind,
            source_kind=source_kind,
            source_id=f"{action.id}:{person}",
            space=action.space_id,
            user=person,
            priority=1,
            payload=payload,
            days=None,
        )
        for person in people
    ]
    await settle_notices(tx, "", [], asked)
    await queries.settle(tx, action, "waiting")


async def _finish(work: Work, run: Run) -> None:
    async with work.db.writing() as tx:
        hub = await queries.lock_hub(tx, run.space_id)
        again = None if hub is None else await queries.find_run(tx, run.id)
        if hub is None or again is None or again.status != "running":
            return
        status = "completed"
        if again.failed:
            status = "failed" if len(set(again.failed)) == len(rules.PHASES) else "partial_failed"
        counts = await queries.finish(tx, run, status)
        report = report_of(counts)
        await queries.note_report(tx, run, report)
        if hub.wish("notifications_enabled", True):
            await settle_notices(tx, "", [], [_receipt(run, hub, status, counts, report)])
        _tell(tx, run.asked_by, hub.space_id)


def report_of(counts: Counts) -> str:
    """What a run came to, in Markdown and in numbers alone: names are read where they are shown."""
    lines = [
        (counts.merged, "copy put away for what it repeats", "copies put away for what they repeat"),
        (
            counts.archived,
            "memory archived that nobody has needed",
            "memories archived that nobody has needed",
        ),
        (counts.organized, "memory put into a topic", "memories put into topics"),
        (counts.restructured, "topic put into another", "topics put into others"),
        (counts.waiting, "decision waiting in the inbox", "decisions waiting in the inbox"),
        (counts.contradictions, "contradiction found", "contradictions found"),
        (counts.failed, "phase that failed", "phases that failed"),
    ]
    told = [f"- **{n}** {one if n == 1 else many}" for n, one, many in lines if n]
    return "\n".join(["## Dream", "", *(told or ["Nothing to tidy up."]), "", "All of it can be taken back."])


def _receipt(run: Run, hub: Hub, status: str, counts: Counts, report: str) -> Notice:
    payload: dict[str, Any] = {
        "run_id": str(run.id),
        "mode": run.mode,
        "status": status,
        "counts": {
            "merged": counts.merged,
            "archived": counts.archived,
            "organized": counts.organized,
            "contradictions": counts.contradictions,
            "restructures": counts.restructured,
        },
        "memories_scanned": counts.scanned,
        "finished_at": counts.finished_at,
        "report": report[:280],
        "touched_topic_ids": counts.topics,
    }
    return Notice(
        kind="dream_run_completed",
        source_kind="dream_run",
        source_id=str(run.id),
        space=hub.space_id,
        user=hub.owner_id,
        payload=payload,
    )


class _Due(msgspec.Struct, frozen=True):
    id: UUID


async def dream_of_all(work: Work, _: DreamsDue) -> None:
    """Leave a dream for every hub in which something came or changed since its last one."""
    after = UUID(int=0)
    while True:
        async with work.db.writing() as tx:
            hubs = await tx.many(
                _Due,
                """
                SELECT s.id FROM spaces s
                 WHERE s.kind = 'hub' AND s.deleted_at IS NULL AND s.frozen_at IS NULL AND s.memory_count > 0
                   AND coalesce((s.settings ->> 'dreams_enabled')::boolean, true) AND s.id > $1
                   AND NOT EXISTS (SELECT FROM dream_runs r WHERE r.space_id = s.id AND r.status <> 'skipped'
                                      AND r.started_at > now() - interval '20 hours')
                   -- Where nothing is new, things still grow old, or were not looked at yet.
                   AND (EXISTS (SELECT FROM memories m WHERE m.space_id = s.id AND m.created_at > coalesce(
                                (SELECT max(r.started_at) FROM dream_runs r WHERE r.space_id = s.id
                                    AND r.started_at > now() - interval '7 days'), '-infinity'))
                        OR (SELECT r.more_to_compare FROM dream_runs r
                             WHERE r.space_id = s.id AND r.status <> 'skipped'
                             ORDER BY r.started_at DESC, r.id DESC LIMIT 1))
                 ORDER BY s.id LIMIT $2
                """,
                after,
                AT_ONCE,
            )
            await outbox.put_chores(
                tx, [Chore(DreamAsked(run_id=new_id(), space_id=hub.id), f"dream {hub.id}") for hub in hubs]
            )
        if len(hubs) < AT_ONCE:
            return
        after = hubs[-1].id


HANDLERS: Handlers = {DreamAsked: dream, DreamsDue: dream_of_all}
SCHEDULES: Sequence[Scheduled] = (Scheduled("17 3 * * *", DreamsDue()),)
