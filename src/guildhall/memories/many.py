"""`/v1/memories/batch-…`, `share` and `/v1/account/data`: many memories at once, and to another hub."""

from litestar import delete, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse

from guildhall import outbox
from guildhall.errors import AppError, Forbidden, NotFound
from guildhall.memories import actions, queries, rules
from guildhall.memories.context import HubHeader
from guildhall.memories.jobs import OwnMemoriesLeft, now
from guildhall.memories.routes import passed_on
from guildhall.memories.schemas import (
    BatchDelete,
    BatchDeleted,
    BatchMove,
    BatchMoved,
    Deleted,
    Memory,
    Share,
)
from guildhall.spaces.jobs import RemainsLeft
from guildhall.spaces.notices import tell_settled
from guildhall.spaces.seats import NotMember, take_hub_seat
from guildhall.users.accounts import lock_me
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, check_alive, read_body
from guildhall.web.docs import facts
from guildhall.web.wire import Data

# What one request deletes of all that somebody wrote; a job does the rest.
AT_ONCE = 1_000


@post(
    "/v1/memories/batch-delete",
    status_code=200,
    summary="Delete several memories",
    opt=facts(rules.MissingIds, rules.TooMany, limits=("batch",), atom="memory:delete"),
)
async def delete_memories(caller: NamedDependency[Caller], data: Sent[BatchDelete]) -> Data[BatchDeleted]:
    """Those that may be deleted go; the answer says which did not, and why."""
    wanted = await read_body(caller, data)
    async with caller.db.writing() as tx:
        ids = await _checked(tx, caller, wanted.ids)
        count, skipped, files = await actions.delete_many(tx, caller, ids)
        if files:
            await outbox.put(tx, RemainsLeft())
    return Data(BatchDeleted(deleted=count, skipped=skipped))


async def _checked(tx: queries.Write, caller: Caller, ids: list[str]) -> list[str]:
    try:
        return rules.check_ids(ids)
    except AppError:
        await check_alive(tx, caller)
        raise


@post(
    "/v1/memories/batch-move",
    status_code=200,
    summary="Move several memories to a topic or hub",
    opt=facts(
        rules.MissingIds,
        rules.TooMany,
        rules.MissingTarget,
        NotMember,
        rules.HubNotFound,
        rules.TopicNotFound,
        rules.TopicArchived,
        Forbidden,
        rules.NoWriteAccess,
        rules.HubFrozen,
        rules.HubFull,
        rules.PersonalHubFull,
        limits=("batch",),
        atom="memory:write",
    ),
)
async def move_memories(
    caller: NamedDependency[Caller], data: Sent[BatchMove], hub: HubHeader = None
) -> Data[BatchMoved]:
    """Only what the caller wrote moves, and out of a hub only where that lets its contributors delete."""
    wanted = await read_body(caller, data)
    async with caller.db.writing() as tx:
        ids = await _checked(tx, caller, wanted.ids)
        topic = wanted.topic_id or None
        hub_id = wanted.hub_id or None
        if hub and not (hub_id or topic):
            raise rules.MissingTarget
        if hub and not hub_id:
            # The header names the hub; a topic elsewhere is not there.
            hub_id = str((await take_hub_seat(tx, caller, hub)).space)
        if not hub_id and not topic:
            await check_alive(tx, caller)
            raise rules.MissingTarget
        where = await actions.find_destination(tx, caller, hub=hub_id, topic=topic)
        moved, skipped = await actions.move_many(tx, caller, ids, *where)
    return Data(BatchMoved(moved=moved, skipped=skipped))


@post(
    "/v1/memories/{memory_id:str}/share",
    status_code=200,
    summary="Move a memory into another hub",
    opt=facts(
        NotFound,
        rules.MissingTarget,
        rules.HubNotFound,
        rules.NoAccess,
        Forbidden,
        rules.HubFrozen,
        rules.HubFull,
        rules.PersonalHubFull,
        answers=Data[Memory],
        atom="memory:write",
    ),
)
async def share_memory(caller: NamedDependency[Caller], memory_id: str, data: Sent[Share]) -> ASGIResponse:
    """Its author moves it; it is in one hub at a time, and in no topic of the new one."""
    async with caller.db.writing() as tx:
        memory = await actions.share(tx, caller, memory_id, data)
    return passed_on(memory)


@delete(
    "/v1/account/data",
    status_code=200,
    summary="Delete all memories that one wrote",
    opt=facts(atom="account:delete", unlimited_key=True),
)
async def delete_own_data(caller: NamedDependency[Caller]) -> Data[Deleted]:
    """In every hub one is in, with their files, and the topics of one's own hub. The account, the hubs and
    the memberships stay."""
    async with caller.db.writing() as tx:
        await lock_me(tx, caller)
        await queries.delete_own_topics(tx, caller.user)
        before = now()
        gone = await queries.delete_own(tx, caller.user, before, AT_ONCE)
        await tell_settled(tx, caller.user)
        for hub in dict.fromkeys(gone):
            actions.tell(tx, caller.user, hub)
        jobs = [OwnMemoriesLeft(user_id=caller.user, before=before)] if len(gone) >= AT_ONCE else []
        await outbox.put(tx, *jobs, RemainsLeft())
    return Data(Deleted(deleted=True))


ROUTES: list[HTTPRouteHandler] = [delete_memories, move_memories, share_memory, delete_own_data]
