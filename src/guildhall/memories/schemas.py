"""The shapes of memories on `/v1`. The database writes most answers as JSON itself."""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, UnsetType

from guildhall.hubs.schemas import UrlOrNothing
from guildhall.memories.rules import Initiation, Kind, Stability, State
from guildhall.web.wire import OptionalV1, WireV1, text

Short = Annotated[str, text(0, 100, "exact")]
Name = Annotated[str, text(0, 200, "exact")]
Path = Annotated[str, text(0, 2048, "exact")]
Line = Annotated[str, text(0, 4000, "exact")]


class FileRef(OptionalV1, frozen=True, kw_only=True):
    """A file that was sent to where `POST /v1/uploads` said."""

    object_key: str = ""
    filename: Name = ""
    content_type: Short = ""
    size_bytes: int | UnsetType = UNSET
    sha256: str = ""


class PushMemory(OptionalV1, frozen=True, kw_only=True):
    """An empty text is as good as none.

    `source_path` and the content's hash tell what was pushed before. `occurred_at`, `thread_id` with `seq`,
    and `speaker` place something that was said: recall then finds it by its date, by what was said around it,
    and by who said it. `receipt_id` is that of the recall whose answer the memory may repeat.
    """

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "content": "I have **tomato seeds** to share. Who wants some?",
        "title": "Seeds to share",
        "kind": "semantic",
        "stability": "evolving",
        "tags": ["garden"],
        "source": "cli",
        "source_path": "notes/seeds.md",
        "content_type": "markdown",
    }

    content: str = ""
    title: Line = ""
    hint: Line = ""
    kind: Short = ""
    stability: Short = ""
    tags: list[str] = []  # noqa: RUF012 - a default of a struct, which copies it
    source: Short = ""
    source_agent: Short = ""
    assisted_by_agent: Short = ""
    initiation_type: Short = ""
    source_path: Path = ""
    hub_reason: Line = ""
    content_type: Short = ""
    project_context: dict[str, str] | UnsetType = UNSET
    batch_id: Name = ""
    file_ref: FileRef | UnsetType = UNSET
    occurred_at: Short = ""
    thread_id: Name = ""
    seq: Annotated[int, Meta(ge=-(2**53), le=2**53)] | UnsetType = UNSET
    speaker: Name = ""
    receipt_id: Short = ""


class UpdateMemory(OptionalV1, frozen=True, kw_only=True):
    """What is absent or empty stays; `tags` replaces all tags. `state` is active or archived."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"title": "Seeds to share", "tags": ["garden"], "pinned": True}

    title: Line = ""
    content: str = ""
    content_type: Short = ""
    kind: Short = ""
    stability: Short = ""
    hint: Line = ""
    tags: list[str] | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET
    state: Short = ""
    occurred_at: Short = ""
    speaker: Name = ""


class Attachment(OptionalV1, frozen=True, kw_only=True):
    id: str
    memory_id: str
    owner_id: str
    kind: Literal["original"]
    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    inline_eligible: bool
    created_at: str


class Provenance(OptionalV1, frozen=True, kw_only=True):
    created_by_type: Literal["human", "agent"]
    created_via: str
    initiation_type: Initiation
    created_by_slug: str | UnsetType = UNSET
    created_by_display_name: str | UnsetType = UNSET
    assisted_by_agent: str | UnsetType = UNSET


class Lifecycle(WireV1, frozen=True, kw_only=True):
    """What dreams propose to do with a memory, and what they did."""

    pending_dream_action: dict[str, Any] | None
    dream_history: list[dict[str, Any]]


class Memory(OptionalV1, frozen=True, kw_only=True):
    """`owner_id` is who wrote it; `version` counts its changes from 1."""

    id: str
    hub_id: str
    owner_id: str
    title: str
    content: str
    content_type: str
    content_hash: str
    summary: str
    kind: Kind
    stability: Stability
    retrieval_weight: float
    tags: list[str]
    boundary: Literal["private"]
    state: State
    pinned: bool
    source: str
    version: int
    access_count: int
    shown_count: int
    created_at: str
    updated_at: str
    accessed_at: str
    author_name: str
    hub_name: str
    provenance: Provenance
    hint: str | UnsetType = UNSET
    source_agent: str | UnsetType = UNSET
    assisted_by_agent: str | UnsetType = UNSET
    source_path: str | UnsetType = UNSET
    hub_reason: str | UnsetType = UNSET
    batch_id: str | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    project_context: dict[str, str] | UnsetType = UNSET
    attachments: list[Attachment] | UnsetType = UNSET
    topic_id: str | UnsetType = UNSET
    occurred_at: str | UnsetType = UNSET
    thread_id: str | UnsetType = UNSET
    seq: int | UnsetType = UNSET
    speaker: str | UnsetType = UNSET
    author_avatar_url: UrlOrNothing | UnsetType = UNSET
    agent_display_name: str | UnsetType = UNSET
    agent_icon: str | UnsetType = UNSET
    lifecycle: Lifecycle | UnsetType = UNSET


class MemoryList(OptionalV1, frozen=True, kw_only=True):
    """`next_cursor` is empty at the end. On the first page, `actors` counts who wrote the latest."""

    memories: list[Memory]
    next_cursor: str
    has_more: bool
    total: int
    actors: dict[str, int] | UnsetType = UNSET


class MemoryVersion(OptionalV1, frozen=True, kw_only=True):
    """What a memory was, or is. `saved_by` made it so."""

    memory_id: str
    version: int
    is_current: bool
    title: str
    content: str
    content_type: str
    content_hash: str
    hint: str
    kind: Kind
    stability: Stability
    tags: list[str]
    saved_at: str
    saved_by: str
    saved_by_name: str


class VersionList(WireV1, frozen=True, kw_only=True):
    """The newest first, which is the memory as it is now. `next_cursor` is empty at the end."""

    versions: list[MemoryVersion]
    next_cursor: str
    has_more: bool


class Deleted(WireV1, frozen=True, kw_only=True):
    deleted: Literal[True]


class BatchDelete(OptionalV1, frozen=True, kw_only=True):
    ids: list[str] = []  # noqa: RUF012 - a default of a struct, which copies it


class BatchMove(OptionalV1, frozen=True, kw_only=True):
    """To a topic of a hub, or to a hub and no topic. Without `hub_id`, the topic says which hub."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "ids": ["0195e3a6-d0fb-7f9c-b405-6b7c8d9eafb0"],
        "hub_id": "0195e3a1-02b4-7d10-8a6e-1c2d3e4f5a6b",
    }

    ids: list[str] = []  # noqa: RUF012 - a default of a struct, which copies it
    topic_id: str | UnsetType | None = UNSET
    hub_id: str | UnsetType | None = UNSET


class Share(OptionalV1, frozen=True, kw_only=True):
    target_hub_id: str = ""


class Skipped(WireV1, frozen=True, kw_only=True):
    id: str
    reason: Literal["not_found", "not_owned", "delete_failed", "already_at_target", "source_delete_forbidden"]


class BatchDeleted(WireV1, frozen=True, kw_only=True):
    deleted: int
    skipped: list[Skipped]


class BatchMoved(WireV1, frozen=True, kw_only=True):
    moved: int
    skipped: list[Skipped]
