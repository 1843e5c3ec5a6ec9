"""What a person can do with the topics of a hub: one function each. The hub is locked by whoever calls."""

from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from guildhall.db import Write, new_id
from guildhall.errors import NotFound
from guildhall.events.event import tell_members
from guildhall.memories import actions as memory_actions
from guildhall.memories.rules import TopicArchived
from guildhall.spaces.notices import tell_settled
from guildhall.spaces.seats import HubSeat, NotMember, as_uuid, lock_hub_seat
from guildhall.topics import queries, rules
from guildhall.topics.queries import Known
from guildhall.topics.rules import Tree
from guildhall.topics.schemas import AssignMemory, CreateTopic, Reordering, UpdateTopic
from guildhall.web.caller import Caller, check_alive


async def lock(tx: Write, caller: Caller, hub: str | None, topic: str | None = None) -> HubSeat:
    """The seat in the hub that a change of topics is about, locked, of somebody who may change them.

    `hub` is what the request names. Where it names none, it is the hub of `topic`, of all that the caller
    reads, or the usual one where there is no topic either. Raises NotMember, NotFound, Forbidden.
    """
    if not hub:
        space = await _hub_of(tx, caller, topic)
        hub = None if space is None else str(space)
    if hub is None:
        raise NotMember
    seat = await lock_hub_seat(tx, caller, hub)
    may = seat.role != "contributor" or await queries.may_contributors(tx, seat.space)
    rules.check_writer(seat.role, contributors_may=may)
    return seat


async def _hub_of(tx: Write, caller: Caller, topic: str | None) -> UUID | None:
    if topic is None:
        await check_alive(tx, caller)
        return await tx.value("SELECT usual_hub($1, $2)", caller.user, caller.session)
    wanted = as_uuid(topic)
    found = None if wanted is None else await queries.find_hub_of(tx, caller, wanted)
    if found is None:
        await check_alive(tx, caller)
        raise NotFound
    return found


class Topics:
    """The topics of a locked hub, as they are."""

    def __init__(self, rows: Iterable[Known]) -> None:
        self.by_id = {row.id: row for row in rows}
        self.tree = Tree({row.id: row.parent_id for row in self.by_id.values()})

    def find(self, raw_id: str) -> Known:
        """Raises NotFound."""
        wanted = as_uuid(raw_id)
        if wanted is None or wanted not in self.by_id:
            raise NotFound
        return self.by_id[wanted]

    def parent(self, raw_id: str | None) -> UUID | None:
        """What is to be a parent, None for no parent. Raises InvalidParent, ParentArchived."""
        if not raw_id:
            return None
        wanted = as_uuid(raw_id)
        row = None if wanted is None else self.by_id.get(wanted)
        if row is None:
            raise rules.InvalidParent
        if row.archived:
            raise rules.ParentArchived
        return row.id

    def below(self, topic: UUID) -> list[UUID]:
        """A topic and all that is inside it."""
        found = [topic]
        for one in found:
            found += [row.id for row in self.by_id.values() if row.parent_id == one]
        return found

    def check_name(self, name: str, parent: UUID | None, *, but: UUID | None = None) -> None:
        """Refuse a name that another active topic has in the same place. Raises DuplicateName."""
        for row in self.by_id.values():
            taken = not row.archived and row.parent_id == parent and row.name.lower() == name.lower()
            if taken and row.id != but:
                raise rules.DuplicateName

    def put(self, topic: UUID, **changes: object) -> None:
        """Have it otherwise from here on."""
        self.by_id[topic] = msgspec.structs.replace(self.by_id[topic], **changes)


async def read(tx: Write, seat: HubSeat) -> Topics:
    return Topics(await queries.read_all(tx, seat.space))


def tell(tx: Write, actor: str, space: UUID, topic: UUID | None = None) -> None:
    """Tell a hub's members that a topic, or many, are different."""
    tell_members(
        tx, space, "hub.topics.changed", actor=actor, entity_id=None if topic is None else str(topic)
    )


async def create(tx: Write, seat: HubSeat, wanted: CreateTopic) -> str:
    """Make a topic; answers it as JSON.

    Raises MissingName, InvalidName, NameTooLong, InvalidParent, MaxDepth, ParentArchived, DuplicateName.
    """
    name = rules.clean_name(wanted.name)
    topics = await read(tx, seat)
    parent = topics.parent(None if wanted.parent_id is UNSET else wanted.parent_id)
    if topics.tree.depth(parent) >= rules.MAX_DEPTH:
        raise rules.MaxDepth
    topics.check_name(name, parent)
    topic = new_id()
    await queries.insert(
        tx,
        seat.space,
        topic,
        owner=seat.user,
        parent=parent,
        name=name,
        description=wanted.description,
        icon=wanted.icon or rules.DEFAULT_ICON,
        by_person=True,
    )
    tell(tx, seat.user, seat.space, topic)
    return await queries.show(tx, seat.space, topic, seat.user)


async def update(tx: Write, seat: HubSeat, topics: Topics, topic: Known, wanted: UpdateTopic) -> str:
    """Change what is given; answers the topic as JSON.

    Raises MissingName, InvalidName, NameTooLong, InvalidParent, CycleDetected, MaxDepthSubtree,
    TopicArchived, ParentArchived, DuplicateName.
    """
    changes: dict[str, object] = {}
    if wanted.name is not UNSET and (name := rules.clean_name(wanted.name)) != topic.name:
        changes["name"] = name
    if wanted.description is not UNSET:
        changes["description"] = wanted.description or ""
    if wanted.icon is not UNSET:
        changes["icon"] = wanted.icon or rules.DEFAULT_ICON
    if wanted.position is not UNSET:
        changes["position"] = wanted.position
    if wanted.pinned is not UNSET:
        changes["pinned"] = wanted.pinned
    parent = topic.parent_id
    if wanted.parent_id is not UNSET:
        # An id of nowhere is wrong whatever state the topic is in; an archived parent is not now.
        raw = wanted.parent_id or ""
        parent = as_uuid(raw) if raw else None
        if raw and (parent is None or parent not in topics.by_id):
            raise rules.InvalidParent
        if parent != topic.parent_id:
            topics.tree.move(topic.id, parent)
            changes["parent_id"] = parent
    if topic.archived:
        raise TopicArchived
    if "parent_id" in changes and parent is not None and topics.by_id[parent].archived:
        raise rules.ParentArchived
    if changes.keys() & {"name", "parent_id"}:
        topics.check_name(str(changes.get("name", topic.name)), parent, but=topic.id)
    if changes:
        await queries.update(tx, seat.space, topic.id, changes)
        tell(tx, seat.user, seat.space, topic.id)
    return await queries.show(tx, seat.space, topic.id, seat.user)


async def delete(tx: Write, seat: HubSeat, topics: Topics, topic: Known) -> None:
    """Delete a topic. Raises DuplicateName where its parent has a topic called like one of its children."""
    for row in list(topics.by_id.values()):
        if row.parent_id == topic.id and not row.archived:
            topics.check_name(row.name, topic.parent_id, but=topic.id)
    await queries.delete(tx, seat.space, topic.id, topic.parent_id)
    await tell_settled(tx, seat.user)
    tell(tx, seat.user, seat.space, topic.id)
    memory_actions.tell(tx, seat.user, seat.space, personal=seat.personal)


async def archive(tx: Write, seat: HubSeat, topics: Topics, topic: Known) -> int:
    """Archive a topic with all that is inside it; answers how many were not archived."""
    count = await queries.archive(tx, seat.space, topics.below(topic.id))
    if count:
        tell(tx, seat.user, seat.space, topic.id)
    return count


async def restore(tx: Write, seat: HubSeat, topics: Topics, topic: Known) -> int:
    """Take a topic out of the archive with all that is inside it; answers how many were archived.

    One whose parent stays archived comes to the end of the roots. Raises DuplicateName.
    """
    inside = [topics.by_id[one] for one in topics.below(topic.id)]
    coming = [row for row in inside if row.archived]
    parent = None if topic.parent_id is None else topics.by_id[topic.parent_id]
    to_root = topic.id if topic.archived and parent is not None and parent.archived else None
    for row in coming:
        place = None if row.id == to_root else row.parent_id
        topics.check_name(row.name, place, but=row.id)
        topics.put(row.id, archived=False, parent_id=place)
    if coming:
        await queries.restore(tx, seat.space, [row.id for row in coming], to_root)
        tell(tx, seat.user, seat.space, topic.id)
    return len(coming)


async def reorder(tx: Write, seat: HubSeat, operations: Sequence[Reordering]) -> None:
    """Put topics where they are wanted, all or none, each operation after the one before.

    Raises InvalidTopic, InvalidParent, CycleDetected, MaxDepthSubtree, TopicArchived, ParentArchived,
    DuplicateName.
    """
    topics = await read(tx, seat)
    moved: dict[UUID, Known] = {}
    for operation in operations:
        wanted = as_uuid(operation.topic_id)
        if wanted is None or wanted not in topics.by_id:
            raise rules.InvalidTopic
        if not isinstance(operation.parent_id, UnsetType) and operation.parent_id:
            above = as_uuid(operation.parent_id)
            if above is None or above not in topics.by_id:
                raise rules.InvalidParent
    for operation in operations:
        topic = topics.by_id[UUID(operation.topic_id)]
        if topic.archived:
            raise TopicArchived
        parent = topic.parent_id
        if operation.parent_id is not UNSET:
            parent = topics.parent(operation.parent_id)
            topics.tree.move(topic.id, parent)
        topics.put(topic.id, parent_id=parent, position=operation.position)
        moved[topic.id] = topics.by_id[topic.id]
    for topic in moved.values():
        topics.check_name(topic.name, topic.parent_id, but=topic.id)
    rows = list(moved.values())
    parents, positions = [row.parent_id for row in rows], [row.position for row in rows]
    await queries.place(tx, seat.space, list(moved), parents, positions)
    tell(tx, seat.user, seat.space)


async def assign(tx: Write, caller: Caller, seat: HubSeat, topic: Known, wanted: AssignMemory) -> None:
    """Put a memory into a topic, unless it is surer of another.

    Raises MissingMemoryId, InvalidConfidence, InvalidTopic, NotFound, TopicArchived.
    """
    if wanted.memory_id == "":
        raise rules.MissingMemoryId
    confidence = rules.DECIDED if wanted.confidence is UNSET else wanted.confidence
    if not 0 <= confidence <= 1:
        raise rules.InvalidConfidence
    memory = as_uuid(wanted.memory_id)
    found = None if memory is None else await queries.find_memory(tx, caller, memory)
    if memory is None or found is None:
        raise NotFound
    if found.space_id != seat.space:
        raise rules.InvalidTopic("The memory is in another hub than the topic.")
    if topic.archived:
        raise TopicArchived
    before = found.confidence or 0.0
    # What the database keeps of a number is a little less exact.
    if found.topic_id is not None and confidence < before - 1e-6:
        return
    if found.topic_id == topic.id and confidence <= before + 1e-6:
        return
    await queries.link(tx, seat.space, memory, topic.id, confidence)
    tell(tx, seat.user, seat.space, topic.id)
    memory_actions.tell(tx, seat.user, seat.space, memory, found.state, topic.id, personal=found.is_personal)


async def unassign(tx: Write, caller: Caller, seat: HubSeat, topic: Known, raw_memory: str) -> None:
    """Take a memory out of a topic, if it is in it."""
    memory = as_uuid(raw_memory)
    found = None if memory is None else await queries.find_memory(tx, caller, memory)
    if memory is None or found is None or found.space_id != seat.space or found.topic_id != topic.id:
        return
    await queries.link(tx, seat.space, memory, None, None)
    tell(tx, seat.user, seat.space, topic.id)
    memory_actions.tell(tx, seat.user, seat.space, memory, found.state, personal=found.is_personal)
