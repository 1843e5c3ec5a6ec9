"""The official client's types of what a hub knows: what may be absent is never null, and the reverse."""

from datetime import datetime
from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType

Text: TypeAlias = str | UnsetType
Kind: TypeAlias = Literal["episodic", "semantic", "procedural", "rationale"]
Stability: TypeAlias = Literal["volatile", "evolving", "stable"]
ActionType: TypeAlias = Literal["organize", "merge", "archive", "restructure", "contradiction"]


class Attachment(Struct):
    id: str
    memory_id: str
    owner_id: str
    kind: Literal["original"]
    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    inline_eligible: bool
    created_at: datetime
    width: int | UnsetType = UNSET
    height: int | UnsetType = UNSET


class Provenance(Struct):
    created_by_type: Literal["human", "agent"]
    initiation_type: Literal[
        "human_direct",
        "human_requested_agent",
        "agent_proactive",
        "agent_automatic",
        "import",
        "unknown",
    ]
    created_by_slug: Text = UNSET
    created_by_display_name: Text = UNSET
    created_via: Text = UNSET
    assisted_by_agent: Text = UNSET
    attribution_source: Text = UNSET


class TopicRef(Struct):
    id: str
    name: str
    icon: Text = UNSET


class DreamRef(Struct):
    run_id: str
    action_type: Literal["organize", "merge", "archive", "restructure"]
    at: datetime
    from_topic: TopicRef | None
    to_topic: TopicRef | None
    reason: Text = UNSET


class Lifecycle(Struct):
    pending_dream_action: DreamRef | None
    dream_history: list[DreamRef]


class Memory(Struct):
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
    state: Literal["active", "processing", "archived"]
    pinned: bool
    source: str
    version: int
    access_count: int
    shown_count: int
    created_at: datetime
    updated_at: datetime
    accessed_at: datetime
    hint: Text = UNSET
    access_intents: dict[str, float] | UnsetType = UNSET
    source_kind: Text = UNSET
    source_agent: Text = UNSET
    assisted_by_agent: Text = UNSET
    source_path: Text = UNSET
    hub_reason: Text = UNSET
    original_file_ref: Text = UNSET
    batch_id: Text = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    project_context: dict[str, str] | UnsetType = UNSET
    attachments: list[Attachment] | UnsetType = UNSET
    topic_id: Text = UNSET
    author_name: Text = UNSET
    author_avatar_url: Text = UNSET
    hub_name: Text = UNSET
    agent_display_name: Text = UNSET
    agent_icon: Text = UNSET
    provenance: Provenance | UnsetType = UNSET
    lifecycle: Lifecycle | UnsetType = UNSET


class WholeMemory(Memory, kw_only=True):
    """One that is read by its id: with what dreams did."""

    lifecycle: Lifecycle  # pyright: ignore


class MemoryPage(Struct):
    memories: list[Memory]
    next_cursor: str
    has_more: bool
    total: int
    actors: dict[str, int] | UnsetType = UNSET


class RecalledMemory(Struct):
    id: str
    title: str
    chunk_content: str
    heading_chain: str
    relevance_score: float
    kind: Kind
    stability: Stability
    source: str
    age: str
    hub_name: str
    summary: Text = UNSET
    created_at: datetime | UnsetType = UNSET
    author_name: Text = UNSET
    hub_id: Text = UNSET
    project_repo: Text = UNSET
    hint: Text = UNSET
    topic_id: Text = UNSET
    topic_name: Text = UNSET


class QueryMetadata(Struct):
    intent: Literal["how_to", "why", "what_is", "where", "debug", "reference", "temporal", "general"]
    kinds_searched: list[str]
    total_candidates: int
    latency_ms: int
    reranked: bool | UnsetType = UNSET
    rerank_reason: Text = UNSET
    filters: dict[str, Any] | UnsetType = UNSET


class RecallResult(Struct):
    memories: list[RecalledMemory]
    query_metadata: QueryMetadata


class Citation(Struct):
    index: int
    memory_id: str
    title: str
    kind: Kind


class AskMetadata(Struct):
    model: str
    answer_tokens: int
    retrieval_latency_ms: int
    synthesis_latency_ms: int
    total_latency_ms: int


class AskResult(Struct):
    answer: str
    citations: list[Citation]
    sources: list[RecalledMemory]
    metadata: AskMetadata


class SearchResult(Struct):
    memory_id: str
    title: str
    snippet: str
    kind: Kind
    stability: Stability
    heading_chain: Text = UNSET
    hub_id: Text = UNSET
    hub_name: Text = UNSET
    topic_id: Text = UNSET
    topic_name: Text = UNSET


class Related(Struct):
    memory: Memory
    similarity: float


class Deleted(Struct):
    deleted: Literal[True]


class Skipped(Struct):
    id: str
    reason: str


class BatchDeleted(Struct):
    deleted: int
    skipped: list[Skipped]


class BatchMoved(Struct):
    moved: int
    skipped: list[Skipped]


class ViewUrl(Struct):
    url: str
    expires_at: int


class UploadIntent(Struct):
    object_key: str
    upload_url: str
    headers: dict[str, str]
    filename: str
    content_type: str
    size_bytes: int
    purpose: Literal["memory_attachment"]
    max_bytes: int
    expires_in: Literal[900]


class BarTopic(Struct):
    id: str
    name: str
    hub_id: str
    description: Text = UNSET


class BarHub(Struct):
    id: str
    name: str


class BarResult(Struct):
    query: str
    memories: list[SearchResult]
    topics: list[BarTopic]
    hubs: list[BarHub]


class Contributor(Struct):
    user_id: str
    user_name: str
    user_avatar_url: Text = UNSET


class ActivitySummary(Struct):
    window_days: Literal[7]
    memory_count: int
    contributor_count: int
    contributors_preview: list[Contributor] | UnsetType = UNSET


class TopicDelta(Struct):
    since_visit_at: datetime
    run_ids: list[str]
    added: int
    reorganized: int


class TopicLifecycle(Struct):
    delta_since_visit: TopicDelta | None


class Topic(Struct):
    id: str
    owner_id: str
    parent_id: str | None
    name: str
    icon: str
    position: int
    pinned: bool
    user_modified: bool
    created_at: datetime
    updated_at: datetime
    hub_id: Text = UNSET
    description: Text = UNSET
    archived_at: datetime | UnsetType = UNSET
    activity_summary: ActivitySummary | UnsetType = UNSET
    lifecycle: TopicLifecycle | UnsetType = UNSET


class TopicTree(Topic, kw_only=True):
    memory_count: int
    total_memory_count: int
    children: "list[TopicTree]"
    kind_dots: list[Kind] | UnsetType = UNSET


class TopicForest(Struct):
    topics: list[TopicTree]
    unassigned_count: int


class TopicList(Struct):
    topics: list[Topic]


class TopicArchived(Struct):
    topic_id: str
    archived_count: int | UnsetType = UNSET


class TopicRestored(Struct):
    topic_id: str
    restored_count: int | UnsetType = UNSET


class TopicMemories(Struct):
    memories: list[Memory]
    next_cursor: str
    has_more: bool


class DreamRun(Struct):
    id: str
    owner_id: str
    hub_id: str
    mode: Literal["maintenance", "bootstrap"]
    status: Literal["running", "completed", "partial_failed", "failed", "skipped"]
    started_at: datetime
    memories_scanned: int
    duplicates_merged: int
    contradictions_found: int
    memories_archived: int
    memories_organized: int
    topics_restructured: int
    report: str
    finished_at: datetime | UnsetType = UNSET
    phase_metrics: dict[str, dict[str, int]] | UnsetType = UNSET
    phase_budgets: dict[str, dict[str, int]] | UnsetType = UNSET
    last_heartbeat_at: datetime | UnsetType = UNSET


class DreamAction(Struct):
    id: str
    run_id: str
    action_type: ActionType
    source_memory_ids: list[str]
    reason: str
    similarity: float
    created_at: datetime
    result_memory_id: Text = UNSET
    from_topic_id: Text = UNSET
    to_topic_id: Text = UNSET


class DreamList(Struct):
    runs: list[DreamRun]
    next_cursor: Text = UNSET


class LatestRun(Struct):
    merged: int
    contradictions_found: int
    archived: int
    organized: int
    restructured: int


class PendingReview(Struct):
    contradictions: int
    topic_merges: int
    topic_restructures: int
    total: int


class Intelligence(Struct):
    pending_review: PendingReview
    latest_run: LatestRun | UnsetType = UNSET


class DreamReport(Struct):
    has_run: bool
    intelligence: Intelligence
    message: Text = UNSET
    run: DreamRun | UnsetType = UNSET
    actions: list[DreamAction] | UnsetType = UNSET


class DreamUsage(Struct):
    scope: Literal["personal", "hub"]
    tier: Literal["basic", "lucid"]
    mode: Literal["soft", "hard"]
    limit: int
    used: int
    allowed: bool
    period_start: datetime
    period_end: datetime
    quota_source: str
    hub_id: Text = UNSET
    remaining: int | UnsetType = UNSET


class Event(Struct):
    id: str
    type: str
    hub_id: str
    actor_id: str
    created_at: datetime
    entity_id: Text = UNSET
    state: Text = UNSET
    topic_id: Text = UNSET
