"""Decisions about what dreams only propose, made in the inbox: each does what it says, or nothing."""

from uuid import UUID

import msgspec

from guildhall.db import Write
from guildhall.dreams import operations, queries
from guildhall.dreams.jobs import tell_of
from guildhall.dreams.queries import Action
from guildhall.errors import AppError, Forbidden, NotFound
from guildhall.events.event import tell_members
from guildhall.inbox import rules
from guildhall.memories.rules import may_delete
from guildhall.spaces.notices import Closing, tell_settled
from guildhall.spaces.notices import settle as settle_notices
from guildhall.spaces.seats import HubSeat, lock_hub_seat
from guildhall.topics.queries import may_contributors
from guildhall.topics.rules import check_writer
from guildhall.web.caller import Caller

_MERGE: dict[str, type[AppError]] = {
    "target_missing": rules.MergeTargetMissing,
    "source_missing": rules.MergeSourceMissing,
    "archived": rules.MergeTopicArchived,
    "cycle": rules.MergeCycle,
    "name_taken": rules.TopicNameTaken,
}
_RESTRUCTURE: dict[str, type[AppError]] = {
    "child_missing": rules.RestructureChildMissing,
    "parent_missing": rules.RestructureParentMissing,
    "archived": rules.RestructureTopicArchived,
    "cycle": rules.RestructureCycle,
    "name_taken": rules.TopicNameTaken,
}


class _Deletable(msgspec.Struct, frozen=True):
    author_id: str
    policy: str


class _Open(msgspec.Struct, frozen=True):
    source_kind: str
    source_id: str


async def decide(tx: Write, caller: Caller, space: UUID, action_id: UUID, answer: str) -> str:
    """Do what somebody has answered about a proposal, and close it for all who were asked; answers as what.
    That is "dismissed" where the memories have changed since they were asked, and nothing was done.

    Raises NotFound, NotPending, Forbidden, and what is in the way of topics.
    """
    seat = await lock_hub_seat(tx, caller, str(space), NotFound)
    action = await queries.find_action(tx, seat.space, action_id)
    if action is None:
        raise NotFound
    if action.status != "waiting":
        raise rules.NotPending
    resolution = rules.resolution_of(answer)
    match answer:
        case "keep_a" | "keep_b":
            if not await _keep(tx, seat, action, 0 if answer == "keep_a" else 1):
                resolution = rules.resolution_of("dismiss")
        case "merge" | "apply":
            await _rearrange(tx, seat, action)
        case _:
            await queries.settle(tx, action, "rejected", by=seat.user)
    open_notices = await tx.many(
        _Open,
        "SELECT source_kind, source_id FROM notifications"
        " WHERE space_id = $1 AND status = 'pending' AND payload ->> 'action_id' = $2",
        seat.space,
        str(action.id),
    )
    closings = [
        Closing(source_kind=row.source_kind, source_id=row.source_id, resolution=resolution)
        for row in open_notices
    ]
    await settle_notices(tx, seat.user, closings, [])
    tell_members(tx, seat.space, "hub.dreams.changed", actor=seat.user)
    return resolution


async def _keep(tx: Write, seat: HubSeat, action: Action, kept: int) -> bool:
    """Archive the one of two that is not kept; False where nobody was asked about what they say now."""
    other = action.source_memory_ids[1 - kept]
    found = await tx.maybe(
        _Deletable,
        "SELECT m.author_id, s.contributor_delete_policy AS policy FROM memories m"
        " JOIN spaces s ON s.id = m.space_id WHERE m.space_id = $1 AND m.id = $2",
        seat.space,
        other,
    )
    if found is not None and not may_delete(seat.role, found.policy, own=found.author_id == seat.user):
        raise Forbidden("Only who may delete the other memory puts it away.")
    done = await operations.archive_one(tx, action, other)
    if done is None:
        await queries.settle(tx, action, "dropped", by=seat.user)
        await tell_settled(tx, seat.user)
        return False
    await queries.settle(tx, action, "applied", by=seat.user, before=done.before)
    tell_of(tx, action, seat.user, personal=seat.personal)
    return True


async def _rearrange(tx: Write, seat: HubSeat, action: Action) -> None:
    may = seat.role != "contributor" or await may_contributors(tx, seat.space)
    check_writer(seat.role, contributors_may=may)
    if action.operation == "join":
        problem = await operations.look_at_joining(tx, action)
        refusals = _MERGE
    else:
        problem = (await operations.look_at_nesting(tx, action)).problem
        refusals = _RESTRUCTURE
    if problem is not None:
        raise refusals[problem]
    done = await operations.apply(tx, action, seat.owner)
    assert done is not None
    await queries.settle(tx, action, "applied", by=seat.user, before=done.before, memories=done.memories)
    tell_of(tx, action, seat.user, personal=seat.personal)
