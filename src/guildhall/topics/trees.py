"""A tree out of a list: each topic with its children in their order, and with what is in all of them."""

from typing import Any

import msgspec
from msgspec import UNSET

from guildhall.topics.schemas import Topic, TopicTree


class _Row(msgspec.Struct, frozen=True):
    topic: Topic
    memories: int
    kinds: list[str] | None


_decode = msgspec.json.Decoder(list[_Row]).decode


def grow(rows: str) -> list[TopicTree]:
    """The roots. `rows` is JSON of the active topics in their order.

    One whose parent is not among them would be lost; the schema does not let that be, and here it is a root.
    """
    below: dict[str | None, list[_Row]] = {}
    known = _decode(rows)
    ids = {row.topic.id for row in known}
    for row in known:
        below.setdefault(row.topic.parent_id if row.topic.parent_id in ids else None, []).append(row)
    return [_grown(row, below) for row in below.get(None, [])]


def _grown(row: _Row, below: dict[str | None, list[_Row]]) -> TopicTree:
    children = [_grown(child, below) for child in below.get(row.topic.id, [])]
    fields: dict[str, Any] = msgspec.structs.asdict(row.topic)
    return TopicTree(
        **fields,
        memory_count=row.memories,
        total_memory_count=row.memories + sum(child.total_memory_count for child in children),
        children=children,
        kind_dots=row.kinds or UNSET,
    )
