"""What a dream can do to a hub, and how it is taken back: one pair of functions for each operation.

Whoever calls has locked the hub. `apply` looks again whether what the proposal was made of still holds, and
does nothing otherwise. `undo` gives back what was there before, as far as nobody has changed it since: what a
person did after a dream is never undone with it.
"""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec

from guildhall.db import Write
from guildhall.dreams import rules
from guildhall.dreams.queries import Action
from guildhall.topics.queries import insert as insert_topic
from guildhall.topics.queries import read_all
from guildhall.topics.rules import CycleDetected, MaxDepthSubtree, Tree

CHANGED = "changed_since"


class Done(msgspec.Struct, frozen=True):
    """What taking it back needs, and which memories it was about in the end."""

    before: dict[str, Any]
    memories: list[UUID] | None = None


class _Text(msgspec.Struct, frozen=True):
    id: UUID
    hash: str
    state: str
    pinned: bool


class _Id(msgspec.Struct, frozen=True):
    id: UUID


async def _texts(tx: Write, space: UUID, memories: list[UUID]) -> dict[UUID, _Text]:
    rows = await tx.many(
        _Text,
        "SELECT id, encode(content_hash, 'hex') AS hash, state, pinned FROM memories"
        " WHERE space_id = $1 AND id = ANY ($2) ORDER BY id FOR UPDATE",
        space,
        memories,
    )
    return {row.id: row for row in rows}


async def _set_state(tx: Write, space: UUID, memory: UUID, before: str, after: str) -> bool:
    return bool(
        await tx.run(
            "UPDATE memories SET state = $4 WHERE space_id = $1 AND id = $2 AND state = $3",
            space,
            memory,
            before,
            after,
        )
    )


async def _merge(tx: Write, action: Action, owner: str) -> Done | None:
    found = await _texts(tx, action.space_id, action.source_memory_ids)
    kept = None if action.result_memory_id is None else found.get(action.result_memory_id)
    other = next((row for id, row in found.items() if id != action.result_memory_id), None)
    if kept is None or other is None or any(row.state != "active" or row.pinned for row in (kept, other)):
        return None
    if sorted((kept.hash, other.hash)) != action.why["hashes"]:
        return None
    await _set_state(tx, action.space_id, other.id, "active", "archived")
    return Done({"copy": str(other.id)})


async def _split(tx: Write, action: Action) -> str | None:
    before = action.earlier
    if before.get("gone"):
        # What the copy was merged into is no more; the copy is all that is left.
        (copy,) = action.source_memory_ids
        return None if await _set_state(tx, action.space_id, copy, "archived", "active") else CHANGED
    fetched = await _set_state(tx, action.space_id, UUID(before["copy"]), "archived", "active")
    return None if fetched else CHANGED


async def _archive(tx: Write, action: Action, owner: str) -> Done | None:
    done = await tx.run(
        "UPDATE memories SET state = 'archived' WHERE space_id = $1 AND id = ANY ($2) AND state = 'active'"
        " AND NOT pinned AND access_count = 0 AND stability <> 'stable'",
        action.space_id,
        action.source_memory_ids,
    )
    return Done({}) if done else None


async def _fetch_back(tx: Write, action: Action) -> str | None:
    memory = action.earlier.get("archived")
    (wanted,) = action.source_memory_ids if memory is None else [UUID(memory)]
    return None if await _set_state(tx, action.space_id, wanted, "archived", "active") else CHANGED


async def _organize(tx: Write, action: Action, owner: str) -> Done | None:
    topic, why = action.to_topic_id, action.why
    assert topic is not None
    waiting = await tx.many(
        _Id,
        "SELECT id FROM memories WHERE space_id = $1 AND id = ANY ($2) AND topic_id IS NULL"
        " AND state = 'active' ORDER BY id FOR UPDATE",
        action.space_id,
        action.source_memory_ids,
    )
    ids = [row.id for row in waiting]
    known = await read_all(tx, action.space_id)
    if why["new_topic"]:
        taken = any(
            row.parent_id is None and not row.archived and row.name.lower() == why["name"].lower()
            for row in known
        )
        if taken or len(ids) < rules.FEWEST_IN_TOPIC:
            return None
        await insert_topic(
            tx,
            action.space_id,
            topic,
            owner=owner,
            parent=None,
            name=why["name"],
            description="",
            icon="folder",
            by_person=False,
        )
    elif not ids or not any(row.id == topic and not row.archived for row in known):
        return None
    await tx.run(
        "UPDATE memories SET topic_id = $3, topic_confidence = $4 WHERE space_id = $1 AND id = ANY ($2)",
        action.space_id,
        ids,
        topic,
        why["confidence"],
    )
    return Done({}, ids)


async def _take_out(tx: Write, action: Action) -> str | None:
    taken = await tx.run(
        "UPDATE memories SET topic_id = NULL, topic_confidence = NULL"
        " WHERE space_id = $1 AND id = ANY ($2) AND topic_id = $3 AND topic_confidence = $4::float8::real",
        action.space_id,
        action.source_memory_ids,
        action.to_topic_id,
        action.why["confidence"],
    )
    return None if taken else CHANGED


class Place(msgspec.Struct, frozen=True):
    """Why a topic cannot go where it should; None where it can."""

    problem: str | None
    parent: UUID | None = None
    position: int = 0


async def look_at_nesting(tx: Write, action: Action) -> Place:
    """Whether the topic `from` can go into the topic `to`: a word for what is in the way."""
    known = {row.id: row for row in await read_all(tx, action.space_id)}
    child = None if action.from_topic_id is None else known.get(action.from_topic_id)
    parent = None if action.to_topic_id is None else known.get(action.to_topic_id)
    if child is None:
        return Place("child_missing")
    if parent is None:
        return Place("parent_missing")
    if child.archived or parent.archived:
        return Place("archived")
    try:
        Tree({row.id: row.parent_id for row in known.values()}).move(child.id, parent.id)
    except (CycleDetected, MaxDepthSubtree):
        return Place("cycle")
    if any(
        row.parent_id == parent.id and not row.archived and row.name.lower() == child.name.lower()
        for row in known.values()
        if row.id != child.id
    ):
        return Place("name_taken")
    return Place(None, child.parent_id, child.position)


async def _nest(tx: Write, action: Action, owner: str) -> Done | None:
    place = await look_at_nesting(tx, action)
    if place.problem is not None:
        return None
    if action.automatic:
        own = await tx.value(
            "SELECT count(*) FROM topics WHERE space_id = $1 AND id = ANY ($2) AND NOT user_modified"
            " AND NOT pinned AND parent_id IS NULL",
            action.space_id,
            [action.from_topic_id, action.to_topic_id],
        )
        if own != 2:
            return None
    await tx.run(
        """
        UPDATE topics t
           SET parent_id = $3, updated_at = now(),
               position = coalesce((SELECT max(o.position) + 1 FROM topics o
                                     WHERE o.space_id = $1 AND o.parent_id = $3), 0)
         WHERE t.space_id = $1 AND t.id = $2
        """,
        action.space_id,
        action.from_topic_id,
        action.to_topic_id,
    )
    parent = None if place.parent is None else str(place.parent)
    return Done({"parent": parent, "position": place.position})


async def _take_apart(tx: Write, action: Action) -> str | None:
    before = action.earlier
    known = {row.id: row for row in await read_all(tx, action.space_id)}
    assert action.from_topic_id is not None
    child = known.get(action.from_topic_id)
    parent = None if before["parent"] is None else UUID(before["parent"])
    if child is None or child.parent_id != action.to_topic_id or (parent is not None and parent not in known):
        return CHANGED
    if not child.archived and _taken(known.values(), child.name, parent, but=child.id):
        return CHANGED
    await _put(tx, action.space_id, child.id, parent, before["position"])
    return None


def _taken(known: Any, name: str, parent: UUID | None, *, but: UUID) -> bool:
    return any(
        row.parent_id == parent and not row.archived and row.name.lower() == name.lower() and row.id != but
        for row in known
    )


async def _put(tx: Write, space: UUID, topic: UUID, parent: UUID | None, position: int) -> None:
    await tx.run(
        "UPDATE topics SET parent_id = $3, position = $4, updated_at = now() WHERE space_id = $1 AND id = $2",
        space,
        topic,
        parent,
        position,
    )


async def look_at_joining(tx: Write, action: Action) -> str | None:
    """Whether the topic `from` can be dissolved into the topic `to`: a word for what is in the way."""
    known = {row.id: row for row in await read_all(tx, action.space_id)}
    source = None if action.from_topic_id is None else known.get(action.from_topic_id)
    target = None if action.to_topic_id is None else known.get(action.to_topic_id)
    if target is None:
        return "target_missing"
    if source is None:
        return "source_missing"
    if source.archived or target.archived:
        return "archived"
    tree = Tree({row.id: row.parent_id for row in known.values()})
    for row in known.values():
        if row.parent_id != source.id:
            continue
        try:
            tree.move(row.id, target.id)
        except (CycleDetected, MaxDepthSubtree):
            return "cycle"
        if not row.archived and _taken(known.values(), row.name, target.id, but=row.id):
            return "name_taken"
    return None


async def _join(tx: Write, action: Action, owner: str) -> Done | None:
    if await look_at_joining(tx, action) is not None:
        return None
    space, source, target = action.space_id, action.from_topic_id, action.to_topic_id
    moved = await tx.many(
        _Id,
        "UPDATE memories SET topic_id = $3 WHERE space_id = $1 AND topic_id = $2 RETURNING id",
        space,
        source,
        target,
    )
    children = [row for row in await read_all(tx, space) if row.parent_id == source]
    for row in children:
        assert target is not None
        await _put(tx, space, row.id, target, row.position)
    await tx.run(
        "UPDATE topics SET archived_at = now(), updated_at = now() WHERE space_id = $1 AND id = $2",
        space,
        source,
    )
    return Done({"children": [str(row.id) for row in children]}, sorted(row.id for row in moved))


async def _part(tx: Write, action: Action) -> str | None:
    space, target = action.space_id, action.to_topic_id
    known = {row.id: row for row in await read_all(tx, space)}
    assert action.from_topic_id is not None
    source = known.get(action.from_topic_id)
    if source is None or not source.archived:
        return CHANGED
    above = None if source.parent_id is None else known[source.parent_id]
    if (above is not None and above.archived) or _taken(
        known.values(), source.name, source.parent_id, but=source.id
    ):
        return CHANGED
    await tx.run(
        "UPDATE topics SET archived_at = NULL, updated_at = now() WHERE space_id = $1 AND id = $2",
        space,
        source.id,
    )
    await tx.run(
        "UPDATE memories SET topic_id = $3 WHERE space_id = $1 AND id = ANY ($2) AND topic_id = $4",
        space,
        action.source_memory_ids,
        source.id,
        target,
    )
    for raw in action.earlier["children"]:
        row = known.get(UUID(raw))
        if row is not None and row.parent_id == target:
            await _put(tx, space, row.id, source.id, row.position)
    return None


async def _nothing(tx: Write, action: Action, owner: str) -> Done | None:
    """What says different things is for people alone."""
    return None


_APPLY: dict[str, Callable[[Write, Action, str], Awaitable[Done | None]]] = {
    "merge": _merge,
    "archive": _archive,
    "organize": _organize,
    "nest": _nest,
    "join": _join,
    "contradiction": _nothing,
}
_UNDO: dict[str, Callable[[Write, Action], Awaitable[str | None]]] = {
    "merge": _split,
    "archive": _fetch_back,
    "organize": _take_out,
    "nest": _take_apart,
    "join": _part,
    "contradiction": _fetch_back,
}


async def apply(tx: Write, action: Action, owner: str) -> Done | None:
    """Do it; None where its ground is gone and nothing was done. A new topic is the hub owner's."""
    return await _APPLY[action.operation](tx, action, owner)


async def undo(tx: Write, action: Action) -> str | None:
    """Take it back; answers why that cannot be, None where it is done."""
    if not action.source_memory_ids and action.operation in ("archive", "organize", "merge", "contradiction"):
        return "gone"
    problem = await _UNDO[action.operation](tx, action)
    if problem is None:
        await _drop_topics(tx, action)
    return problem


async def _drop_topics(tx: Write, action: Action) -> None:
    """Topics that an undone action had made go when nothing is left in them, whichever was undone last."""
    await tx.run(
        """
        DELETE FROM topics t
         WHERE t.space_id = $1 AND NOT t.user_modified AND NOT t.pinned
           AND t.id IN (SELECT a.to_topic_id FROM dream_actions a
                         WHERE a.space_id = $1 AND a.operation = 'organize'
                           AND (a.status = 'undone' OR a.id = $2) AND a.evidence ->> 'new_topic' = 'true')
           AND NOT EXISTS (SELECT FROM memories m WHERE m.space_id = $1 AND m.topic_id = t.id)
           AND NOT EXISTS (SELECT FROM topics c WHERE c.space_id = $1 AND c.parent_id = t.id)
        """,
        action.space_id,
        action.id,
    )


async def archive_one(tx: Write, action: Action, memory: UUID) -> Done | None:
    """Put one of two contradicting memories away, as somebody decided; None where the two do not say any more
    what they said when that was found, or one of them is not there to be found."""
    found = await _texts(tx, action.space_id, action.source_memory_ids)
    if len(found) < 2 or any(row.state != "active" for row in found.values()):
        return None
    if sorted(row.hash for row in found.values()) != action.why["hashes"]:
        return None
    await _set_state(tx, action.space_id, memory, "active", "archived")
    return Done({"archived": str(memory)})
