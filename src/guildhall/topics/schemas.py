"""The wire of `/v1/topics`. The database writes topics as JSON itself."""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, UnsetType

from guildhall.hubs.schemas import UrlOrNothing
from guildhall.memories.schemas import Memory
from guildhall.web.wire import OptionalV1, WireV1, text

Description = Annotated[str, text(0, 1000, "prose")]
Icon = Annotated[str, text(0, 64)]
Position = Annotated[int, Meta(ge=0, le=1_000_000)]


class Contributor(OptionalV1, frozen=True, kw_only=True):
    user_id: str
    user_name: str
    user_avatar_url: UrlOrNothing | UnsetType = UNSET


class ActivitySummary(OptionalV1, frozen=True, kw_only=True):
    """What came into the topic within so many days."""

    window_days: int
    memory_count: int
    contributor_count: int
    contributors_preview: list[Contributor] | UnsetType = UNSET


class Delta(WireV1, frozen=True, kw_only=True):
    """What dreams did in the topic since one last said that one was there."""

    since_visit_at: str
    run_ids: list[str]
    added: int
    reorganized: int


class TopicLifecycle(WireV1, frozen=True, kw_only=True):
    delta_since_visit: Delta | None


class Topic(OptionalV1, frozen=True, kw_only=True):
    """`user_modified` says that a person made or changed it: dreams then only propose to rearrange it."""

    id: str
    owner_id: str
    hub_id: str
    parent_id: str | None
    name: Annotated[str, Meta(examples=["Tomatoes"])]
    icon: str
    position: int
    pinned: bool
    user_modified: bool
    created_at: str
    updated_at: str
    description: str | UnsetType = UNSET
    archived_at: str | UnsetType = UNSET
    activity_summary: ActivitySummary | UnsetType = UNSET
    lifecycle: TopicLifecycle | UnsetType = UNSET


class TopicTree(Topic, frozen=True, kw_only=True):
    """`total_memory_count` is with what is in the children; `kind_dots` are up to three kinds of its own."""

    memory_count: int
    total_memory_count: int
    children: "list[TopicTree]"
    kind_dots: list[str] | UnsetType = UNSET


class TopicForest(WireV1, frozen=True, kw_only=True):
    """`unassigned_count` is of memories in no topic."""

    topics: list[TopicTree]
    unassigned_count: int


class TopicList(WireV1, frozen=True, kw_only=True):
    topics: list[Topic]


class TopicPlace(OptionalV1, frozen=True, kw_only=True):
    """Where a new topic is to be, which is asked before what it is."""

    hub_id: str | UnsetType | None = UNSET


class CreateTopic(TopicPlace, frozen=True, kw_only=True):
    """Without a parent it is a root. `hub_id` goes before the header X-Hub-ID."""

    name: Annotated[str, Meta(examples=["Tomatoes"])] = ""
    description: Description = ""
    icon: Icon = ""
    parent_id: str | UnsetType | None = UNSET

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "hub_id": "0195e3a1-02b4-7d10-8a6e-1c2d3e4f5a6b",
        "name": "Tomatoes",
        "icon": "🍅",
    }


class UpdateTopic(OptionalV1, frozen=True, kw_only=True):
    """What is absent stays. An empty or null `parent_id` makes it a root."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"name": "Tomato plants", "pinned": True, "parent_id": None}

    name: Annotated[str, Meta(examples=["Tomatoes"])] | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    icon: Icon | UnsetType | None = UNSET
    position: Position | UnsetType = UNSET
    parent_id: str | UnsetType | None = UNSET
    pinned: bool | UnsetType = UNSET


class Archived(OptionalV1, frozen=True, kw_only=True):
    """The count is of topics, and absent where nothing was left to archive."""

    topic_id: str
    archived_count: int | UnsetType = UNSET


class Restored(OptionalV1, frozen=True, kw_only=True):
    """The count is of topics, and absent where nothing was archived."""

    topic_id: str
    restored_count: int | UnsetType = UNSET


class TopicMemories(WireV1, frozen=True, kw_only=True):
    """`next_cursor` is empty at the end."""

    memories: list[Memory]
    next_cursor: str
    has_more: bool


class AssignMemory(OptionalV1, frozen=True, kw_only=True):
    """The surer of two topics has the memory; at a draw the later one."""

    memory_id: str = ""
    confidence: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET


class Reordering(OptionalV1, frozen=True, kw_only=True):
    """An absent `parent_id` leaves the topic where it is, an empty or null one makes it a root."""

    topic_id: str
    position: Position
    parent_id: str | UnsetType | None = UNSET


class Reorder(OptionalV1, frozen=True, kw_only=True):
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "operations": [{"topic_id": "0195e3a7-e11c-70ad-a516-7c8d9eafb0c1", "position": 1}]
    }

    operations: list[Reordering] = []  # noqa: RUF012 - a default of a struct, which copies it


class Reordered(WireV1, frozen=True, kw_only=True):
    status: Literal["ok"]


class TopicVisited(WireV1, frozen=True, kw_only=True):
    status: Literal["ok"]
    topic_id: str
