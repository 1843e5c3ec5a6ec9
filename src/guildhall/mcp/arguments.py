"""What each tool takes. Agents read these words; whatever is not named here is refused."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from guildhall.memories.rules import Kind

HubName = Annotated[
    str | UnsetType, Meta(description="A hub: its id, its slug, or `personal`. `hubs` lists those there are.")
]
KindName = Annotated[
    Kind | UnsetType,
    Meta(description="episodic: what happened. semantic: facts. procedural: how to. rationale: why."),
]
TopicId = Annotated[str | UnsetType, Meta(description="The id of a topic.")]
Since = Annotated[
    str | UnsetType, Meta(description="A time with its zone in RFC 3339, or how long ago, as 12h, 7d, 2w.")
]


class Push(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    content: Annotated[
        str, Meta(description="What is worth knowing, in full sentences that stand by themselves.")
    ]
    hub: HubName = UNSET
    title: Annotated[str | UnsetType, Meta(description="A line to know it by; made where absent.")] = UNSET
    tags: Annotated[list[str] | UnsetType, Meta(description="Words to filter by.")] = UNSET
    kind: KindName = UNSET
    hint: Annotated[str | UnsetType, Meta(description="When this is of use.")] = UNSET
    content_type: Annotated[str | UnsetType, Meta(description="text, markdown or html.")] = UNSET
    source_path: Annotated[
        str | UnsetType,
        Meta(description="Where it is from. Pushed again from there, it replaces what was pushed before."),
    ] = UNSET
    project_context: Annotated[
        dict[str, str] | UnsetType, Meta(description="Where you work: `repo`, `branch`, `dir`.")
    ] = UNSET
    occurred_at: Annotated[
        str | UnsetType, Meta(description="When it happened or was said, in RFC 3339 with a zone.")
    ] = UNSET
    thread_id: Annotated[str | UnsetType, Meta(description="The conversation that it is part of.")] = UNSET
    seq: Annotated[int | UnsetType, Meta(description="Its place in the conversation.")] = UNSET
    speaker: Annotated[str | UnsetType, Meta(description="Who said it.")] = UNSET
    receipt_id: Annotated[
        str | UnsetType, Meta(description="The `receipt_id` of the recall that this is drawn from.")
    ] = UNSET


class Recall(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    query: Annotated[str, Meta(description="A question, or the words that matter.")]
    limit: Annotated[int | UnsetType, Meta(description="How many at most; 10 where absent.")] = UNSET
    hub: Annotated[str | UnsetType, Meta(description="A hub to prefer: its id, its slug, or `personal`.")] = (
        UNSET
    )
    hubs: Annotated[
        list[str] | UnsetType, Meta(description="Look in these hubs alone: ids, slugs, or `personal`.")
    ] = UNSET
    kind: KindName = UNSET
    tags: Annotated[list[str] | UnsetType, Meta(description="Only what has all of these.")] = UNSET
    topic_id: TopicId = UNSET
    created_after: Since = UNSET
    created_before: Since = UNSET
    include_archived: Annotated[bool | UnsetType, Meta(description="Look into the archive too.")] = UNSET
    recency: Annotated[bool | UnsetType, Meta(description="Prefer what is new.")] = UNSET
    project_context: Annotated[
        dict[str, str] | UnsetType, Meta(description="Where you work: `repo`, `dir`. What fits is preferred.")
    ] = UNSET


class ListMemories(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    hub: HubName = UNSET
    limit: Annotated[int | UnsetType, Meta(description="How many, up to 50; 20 where absent.")] = UNSET
    cursor: Annotated[str | UnsetType, Meta(description="The `next_cursor` of the page before.")] = UNSET
    sort: Annotated[
        Literal["newest", "relevant"] | UnsetType, Meta(description="relevant: those used most first.")
    ] = UNSET
    kind: KindName = UNSET
    created_after: Since = UNSET
    created_before: Since = UNSET
    tags: Annotated[list[str] | UnsetType, Meta(description="Only what has all of these.")] = UNSET
    state: Annotated[
        Literal["active", "processing", "archived", "all"] | UnsetType,
        Meta(description="Without, all but what is archived."),
    ] = UNSET
    actor: Annotated[
        str | UnsetType, Meta(description="Whose: self, agent:NAME or author:NAME; all where absent.")
    ] = UNSET
    topic_id: TopicId = UNSET


class GetMemory(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: Annotated[str, Meta(description="The id of a memory.")]


class Topics(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    hub: HubName = UNSET


class Nothing(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass
