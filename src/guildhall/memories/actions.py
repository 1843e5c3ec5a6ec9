"""What a person or an agent can do with memories: one function each."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from guildhall.db import Read, Write, new_id
from guildhall.errors import AppError, Forbidden, NotFound
from guildhall.events.event import tell_members
from guildhall.memories import queries, rules
from guildhall.memories.content import Prepared, prepare
from guildhall.memories.queries import Held
from guildhall.memories.schemas import PushMemory, Share, Skipped, UpdateMemory
from guildhall.spaces.notices import tell_settled
from guildhall.spaces.seats import NotMember, Place, as_uuid
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, check_alive, explain_absence


class Pushed(msgspec.Struct, frozen=True):
    """`memory` is JSON. `outcome` is created, replaced, unchanged, restored or echo."""

    id: UUID
    hub: UUID
    outcome: str
    memory: str
    unclaimed_agent: bool = False

    @property
    def is_new(self) -> bool:
        return self.outcome == "created"


_REFUSED: dict[str, type[AppError]] = {
    "no hub": NotMember,
    "no right": rules.NoWriteAccess,
    "another agent": rules.AttributionConflict,
    "no human": rules.CollaboratorRequiresHuman,
    "unknown agent": rules.UnknownCollaborator,
}


async def push(tx: Write, caller: Caller, wanted: Place, data: PushMemory, text: Prepared) -> Pushed:
    """Keep what is pushed, or find what it repeats. One statement.

    Raises what `rules` says of each field, NotMember, NoWriteAccess, HubFrozen, HubFull, PersonalHubFull.
    """
    if text.content == "":
        raise rules.MissingContent
    return await keep(tx, caller, wanted, columns(caller, data, text), text, data.receipt_id)


async def text_of(data: PushMemory) -> Prepared:
    """What is said in a push that is no file. Raises ContentTooComplex."""
    return await prepare(data.content, rules.content_type_of(data.content_type, data.source_path))


def columns(caller: Caller, data: PushMemory, text: Prepared) -> dict[str, Any]:
    """The columns of a memory, as they are kept. Raises what `rules` says of each field."""
    content, content_type = text.content, text.content_type
    if data.source_agent and data.assisted_by_agent:
        raise rules.ConflictingAttribution
    occurred_at = rules.read_time(data.occurred_at, rules.InvalidOccurredAt)
    seq = None if data.seq is UNSET else data.seq
    if seq is not None and not data.thread_id:
        raise rules.InvalidThread
    source = data.source or "api"
    title = rules.clean_line(data.title, rules.MAX_TITLE)
    agent = data.source_agent.strip().lower() if claims_agent(caller, data) else ""
    return {
        "id": str(new_id()),
        "sent": [name for name in ("hint", "kind", "stability", "tags") if getattr(data, name)],
        "title": title or rules.title_of(content, content_type),
        "title_is_made": title == "",
        "content": content,
        "content_type": content_type,
        "content_hash": _bytea(content),
        "summary": rules.summary_of(content, content_type),
        "hint": rules.clean_line(data.hint, rules.MAX_HINT),
        "kind": rules.kind_of(data.kind, content, dated=bool(occurred_at or data.thread_id)),
        "stability": data.stability if data.stability in rules.STABILITIES else "evolving",
        "tags": rules.clean_tags(data.tags),
        "state": "active",
        "source": source,
        "source_agent": agent or None,
        "assisted_by_agent": data.assisted_by_agent.strip().lower() or None,
        "initiation_type": _initiation(caller, data.initiation_type),
        "source_path": data.source_path or None,
        "hub_reason": data.hub_reason or None,
        "batch_id": data.batch_id or None,
        "project_context": None
        if data.project_context is UNSET
        else rules.check_context(data.project_context),
        "occurred_at": occurred_at,
        "thread_id": data.thread_id or None,
        "seq": seq,
        "speaker": " ".join(data.speaker.split()) or None,
    }


def claims_agent(caller: Caller, data: PushMemory) -> bool:
    """Whether a named agent counts as the author: with a key, and not for what was written in a browser."""
    return bool(data.source_agent) and caller.access is not None and data.source != "web"


def _initiation(caller: Caller, given: str) -> str:
    if given in rules.INITIATIONS:
        return given
    return "unknown" if given or caller.access is not None else "human_direct"


async def keep(
    tx: Write, caller: Caller, wanted: Place, given: dict[str, Any], text: Prepared, receipt_id: str = ""
) -> Pushed:
    """Store these columns as a memory in the hub, or find the one they repeat; tell the hub."""
    given["chunk_count"] = len(text.pieces)
    row = await queries.push(
        tx,
        caller,
        wanted,
        msgspec.json.encode(given).decode(),
        msgspec.json.encode(text.pieces).decode(),
        most=caller.service.most_hub_memories,
        receipt=as_uuid(receipt_id),
    )
    if row is None:
        raise await explain_absence(tx, caller)
    if (refusal := _REFUSED.get(row.outcome)) is not None:
        raise refusal
    assert row.hub_id is not None
    if row.outcome == "frozen":
        raise rules.HubFrozen
    if row.outcome == "full":
        raise full(row.hub_id, row.memory_count or 0, caller, personal=bool(row.is_personal))
    assert row.memory_id is not None and row.memory is not None
    if row.outcome != "unchanged":
        state = given["state"] if row.outcome != "echo" else "active"
        tell(tx, caller.user, row.hub_id, row.memory_id, state, personal=bool(row.is_personal))
    return Pushed(row.memory_id, row.hub_id, row.outcome, row.memory)


async def check_writer(read: Read, caller: Caller, wanted: Place) -> None:
    """Refuse who may not push there. Raises NotMember, NoWriteAccess."""
    role = await queries.find_writer(read, caller, wanted)
    if role is None:
        await check_alive(read, caller)
        raise NotMember
    if role == "viewer":
        raise rules.NoWriteAccess


def full(hub: UUID, current: int, caller: Caller, *, personal: bool) -> AppError:
    """What to say of a hub that holds as much as it may."""
    limits: dict[str, object] = {"current": current, "limit": caller.service.most_hub_memories}
    if personal:
        return rules.PersonalHubFull(details=limits)
    return rules.HubFull(details=limits | {"hub_id": str(hub), "cap_source": "hub"})


def tell(
    tx: Write,
    actor: str,
    hub: UUID,
    memory: UUID | None = None,
    state: str | None = None,
    topic: UUID | None = None,
    *,
    personal: bool = False,
) -> None:
    """Tell a hub's members that a memory, or many, are different."""
    tell_members(
        tx,
        hub,
        "hub.memories.changed",
        actor=actor,
        entity_id=None if memory is None else str(memory),
        state=state,
        topic_id=None if topic is None else str(topic),
        private_only=True if personal else None,
    )


async def hold(tx: Write, caller: Caller, raw_id: str) -> Held:
    """A memory that the caller may read, its hub locked. Raises NotFound."""
    memory = as_uuid(raw_id)
    held = [] if memory is None else await queries.lock_memories(tx, caller, [memory])
    if not held:
        await check_alive(tx, caller)
        raise NotFound
    return held[0]


async def hold_own(tx: Write, caller: Caller, raw_id: str) -> Held:
    """As `hold`, for what only the author may do: to others it is not there. Raises NotFound."""
    held = await hold(tx, caller, raw_id)
    if not held.own:
        raise NotFound
    return held


async def see_own(read: Read, caller: Caller, raw_id: str) -> queries.Text:
    """The content of a memory that the caller wrote and may read. Raises NotFound."""
    memory = as_uuid(raw_id)
    found = None if memory is None else await queries.find_own_text(read, caller, memory)
    if found is None:
        await check_alive(read, caller)
        raise NotFound
    return found


async def changed_text(seen: queries.Text, wanted: UpdateMemory) -> Prepared | None:
    """The content as a change makes it; None where it stays. What becomes HTML is made harmless.

    Raises ContentTooComplex, MissingContent.
    """
    content_type = wanted.content_type or seen.content_type
    if not wanted.content and content_type == seen.content_type:
        return None
    text = await prepare(wanted.content or seen.content, content_type)
    if wanted.content and text.content == "":
        raise rules.MissingContent
    return text


async def update(
    tx: Write, caller: Caller, held: Held, wanted: UpdateMemory, seen: queries.Text, text: Prepared | None
) -> str:
    """Change what is given; answers the memory as JSON. `text` is what `changed_text` made of `seen`.

    Raises InvalidKind, InvalidStability, InvalidTags, InvalidOccurredAt, InvalidState, StillProcessing,
    HubFrozen, HubFull, PersonalHubFull, ContentTooComplex, MissingContent.
    """
    changes: dict[str, Any] = {}
    if (held.content_hash, held.content_type) != (seen.content_hash, seen.content_type):
        # Somebody was faster.
        text = await changed_text(await see_own(tx, caller, str(held.id)), wanted)
    if text is not None and not wanted.content and held.state == "processing":
        changes["content_type"], text = text.content_type, None
    if title := rules.clean_line(wanted.title, rules.MAX_TITLE):
        changes |= {"title": title, "title_is_made": False}
    if hint := rules.clean_line(wanted.hint, rules.MAX_HINT):
        changes["hint"] = hint
    if wanted.kind in rules.KINDS:
        changes["kind"] = wanted.kind
    elif wanted.kind:
        raise rules.InvalidKind
    if wanted.stability in rules.STABILITIES:
        changes["stability"] = wanted.stability
    elif wanted.stability:
        raise rules.InvalidStability
    if wanted.tags is not UNSET:
        changes["tags"] = rules.clean_tags(wanted.tags)
    if wanted.pinned is not UNSET:
        changes["pinned"] = wanted.pinned
    if (occurred_at := rules.read_time(wanted.occurred_at, rules.InvalidOccurredAt)) is not None:
        changes["occurred_at"] = occurred_at
    if speaker := " ".join(wanted.speaker.split()):
        changes["speaker"] = speaker
    if wanted.state:
        await _check_state(tx, caller, held, wanted.state, written=text is not None)
        changes["state"] = wanted.state
    return await change(tx, caller, held, changes, text)


async def _check_state(tx: Write, caller: Caller, held: Held, state: str, *, written: bool) -> None:
    """Whether a memory may be archived, or fetched back from there, where it takes room again.

    Raises InvalidState, StillProcessing, HubFrozen, HubFull, PersonalHubFull.
    """
    if state not in ("active", "archived"):
        raise rules.InvalidState
    if held.state == "processing" and not written:
        raise rules.StillProcessing
    if held.state == "archived" and state == "active":
        target = await queries.find_target(tx, caller, held.space_id)
        assert target is not None
        if target.frozen:
            raise rules.HubFrozen
        _check_room(caller, target, 1)


async def change(
    tx: Write, caller: Caller, held: Held, changes: dict[str, Any], text: Prepared | None = None
) -> str:
    """Set these columns and, where given, the content with all that follows from it; tell the hub.

    Answers the memory as JSON. For whoever holds the memory and has checked that it may be changed.
    """
    pieces = None
    if text is not None:
        if held.title_is_made and "title" not in changes:
            changes |= {"title": rules.title_of(text.content, text.content_type), "title_is_made": True}
        changes |= {
            "content": text.content,
            "content_type": text.content_type,
            "content_hash": hashlib.sha256(text.content.encode()).digest(),
            "summary": rules.summary_of(text.content, text.content_type),
            "chunk_count": len(text.pieces),
        }
        if held.state == "processing":
            # What somebody writes is not to be overwritten by what is in the file.
            changes.setdefault("state", "active")
        pieces = msgspec.json.encode(text.pieces).decode()
    if not changes:
        return await queries.read_memory(tx, held.id)
    memory = await queries.update_memory(tx, held, changes, pieces)
    state = changes.get("state", held.state)
    tell(tx, caller.user, held.space_id, held.id, state, held.topic_id, personal=held.is_personal)
    return memory


async def restore(tx: Write, caller: Caller, held: Held, raw_version: str) -> str:
    """Make a memory again what it was at a version; answers it as JSON. Raises NotFound."""
    number = int(raw_version) if raw_version.isascii() and raw_version.isdigit() else 0
    version = await queries.find_version(tx, held.id, number) if 0 < number < 2**31 else None
    if version is None:
        raise NotFound("There is no such version before the present one.")
    changes = {
        "title": version.title,
        "title_is_made": version.title == rules.title_of(version.content, version.content_type),
        "hint": version.hint,
        "kind": version.kind,
        "stability": version.stability,
        "tags": version.tags,
    }
    text = await prepare(version.content, version.content_type)
    return await change(tx, caller, held, changes, text)


async def delete(tx: Write, caller: Caller, raw_id: str) -> bool:
    """Delete a memory for good; answers whether files are left. Raises NotFound, Forbidden."""
    held = await hold(tx, caller, raw_id)
    if not rules.may_delete(held.role, held.policy, own=held.own):
        raise Forbidden
    files = await queries.delete_memories(tx, [held.id])
    await tell_settled(tx, caller.user)
    tell(tx, caller.user, held.space_id, held.id, "deleted", held.topic_id, personal=held.is_personal)
    return files


async def delete_many(tx: Write, caller: Caller, raw_ids: Sequence[str]) -> tuple[int, list[Skipped], bool]:
    """Delete what may be deleted; says how many, what was not and why, and whether files are left."""
    found = await _hold_many(tx, caller, raw_ids)
    skipped: list[Skipped] = []
    gone: list[Held] = []
    for raw in raw_ids:
        held = found.get(raw)
        if held is None:
            skipped.append(Skipped(id=raw, reason="not_found"))
        elif not rules.may_delete(held.role, held.policy, own=held.own):
            skipped.append(Skipped(id=raw, reason="not_owned"))
        else:
            gone.append(held)
    files = bool(gone) and await queries.delete_memories(tx, [held.id for held in gone])
    await tell_settled(tx, caller.user)
    _tell_hubs(tx, caller, gone)
    return len(gone), skipped, files


async def _hold_many(
    tx: Write, caller: Caller, raw_ids: Sequence[str], hubs: Sequence[UUID] = ()
) -> dict[str, Held]:
    ids = [id for raw in raw_ids if (id := as_uuid(raw)) is not None]
    held = await queries.lock_memories(tx, caller, ids, hubs)
    if not held:
        await check_alive(tx, caller)
    return {str(one.id): one for one in held}


def _tell_hubs(tx: Write, caller: Caller, changed: Iterable[Held]) -> None:
    hubs = {held.space_id: held.is_personal for held in changed}
    for hub, personal in hubs.items():
        tell(tx, caller.user, hub, personal=personal)


async def find_destination(
    tx: Write, caller: Caller, *, hub: str | None, topic: str | None
) -> tuple[UUID, UUID | None]:
    """The hub and the topic to move to. Raises HubNotFound, TopicNotFound, NotMember, MissingTarget."""
    topic_id = None
    if topic is not None:
        wanted = as_uuid(topic)
        found = None if wanted is None else await queries.find_topic(tx, caller, wanted)
        if found is None:
            raise rules.TopicNotFound
        if found.archived:
            raise rules.TopicArchived
        topic_id = found.id
        if hub is None:
            return found.space_id, topic_id
        if found.space_id != as_uuid(hub):
            raise rules.TopicNotFound
    if hub is None:
        raise rules.MissingTarget
    hub_id = as_uuid(hub)
    if hub_id is None:
        raise rules.HubNotFound
    return hub_id, topic_id


async def move_many(
    tx: Write, caller: Caller, raw_ids: Sequence[str], hub: UUID, topic: UUID | None
) -> tuple[int, list[Skipped]]:
    """Move what the caller wrote and may take out of its hub; all that may go, or nothing.

    Raises HubNotFound, Forbidden, NoWriteAccess, TopicArchived, HubFrozen, HubFull, PersonalHubFull.
    """
    found = await _hold_many(tx, caller, raw_ids, [hub])
    target = await _check_target(tx, caller, hub, topic, rules.NoWriteAccess)
    skipped: list[Skipped] = []
    moved: list[Held] = []
    for raw in raw_ids:
        held = found.get(raw)
        if held is None:
            skipped.append(Skipped(id=raw, reason="not_found"))
        elif not held.own:
            skipped.append(Skipped(id=raw, reason="not_owned"))
        elif held.space_id == hub and held.topic_id == topic:
            skipped.append(Skipped(id=raw, reason="already_at_target"))
        elif held.space_id != hub and not rules.may_take_out(held.role, held.policy):
            skipped.append(Skipped(id=raw, reason="source_delete_forbidden"))
        else:
            moved.append(held)
    _check_room(caller, target, sum(held.space_id != hub and held.state != "archived" for held in moved))
    if moved:
        await queries.move_memories(tx, [held.id for held in moved], hub, topic)
        await tell_settled(tx, caller.user)
        _tell_hubs(tx, caller, moved)
        if any(held.space_id != hub for held in moved):
            tell(tx, caller.user, hub, topic=topic, personal=target.is_personal)
    return len(moved), skipped


async def _check_target(
    tx: Write, caller: Caller, hub: UUID, topic: UUID | None, refusal: type[AppError]
) -> queries.Target:
    """The hub to move to, which is locked. Raises HubNotFound, Forbidden, `refusal`, HubFrozen."""
    target = await queries.find_target(tx, caller, hub)
    if target is None:
        raise rules.HubNotFound
    if target.role == "viewer":
        raise refusal
    if topic is not None:
        if target.role == "contributor" and not target.topics_allowed:
            raise Forbidden("Contributors do not arrange topics in this hub.")
        # Whoever archives a topic locks its hub first, so this holds.
        found = await queries.find_topic(tx, caller, topic)
        if found is None or found.space_id != hub:
            raise rules.TopicNotFound
        if found.archived:
            raise rules.TopicArchived
    if target.frozen:
        raise rules.HubFrozen
    return target


def _check_room(caller: Caller, target: queries.Target, coming: int) -> None:
    most = caller.service.most_hub_memories
    if most is not None and coming and target.memory_count + coming > most:
        raise full(target.space_id, target.memory_count, caller, personal=target.is_personal)


async def share(tx: Write, caller: Caller, raw_id: str, data: Sent[Share]) -> str:
    """Move a memory of one's own into another hub; answers it as JSON.

    Raises NotFound, MissingTarget, HubNotFound, NoAccess, Forbidden, HubFrozen, HubFull, PersonalHubFull.
    """
    memory = as_uuid(raw_id)
    seen = None if memory is None else await queries.find_memory(tx, caller, memory)
    if memory is None or seen is None or seen.memory is None:
        await check_alive(tx, caller)
        raise NotFound
    raw_hub = data.read().target_hub_id
    hub = as_uuid(raw_hub)
    found = await queries.lock_memories(tx, caller, [memory], [] if hub is None else [hub])
    if not found or not found[0].own:
        raise NotFound
    held = found[0]
    if raw_hub == "":
        raise rules.MissingTarget
    if hub is None:
        raise rules.HubNotFound
    target = await _check_target(tx, caller, hub, None, rules.NoAccess)
    if held.space_id == hub:
        return await queries.read_memory(tx, held.id)
    if not rules.may_take_out(held.role, held.policy):
        raise Forbidden("This hub does not let you take out what you wrote.")
    _check_room(caller, target, int(held.state != "archived"))
    await queries.move_memories(tx, [held.id], hub, None)
    await tell_settled(tx, caller.user)
    tell(tx, caller.user, held.space_id, held.id, "moved", personal=held.is_personal)
    tell(tx, caller.user, hub, held.id, held.state, personal=target.is_personal)
    return await queries.read_memory(tx, held.id)


def _bytea(content: str) -> str:
    """The hash of content, spelled as the database reads bytes in JSON."""
    return "\\x" + hashlib.sha256(content.encode()).hexdigest()
