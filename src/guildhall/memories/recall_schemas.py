"""The shapes of recall, search, the bar and ask on `/v1`."""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, UnsetType

from guildhall.memories.asking import Intent
from guildhall.memories.rules import Kind, Stability
from guildhall.memories.schemas import Memory, Name, Path, Short
from guildhall.web.wire import OptionalV1, WireV1, text

Query = Annotated[str, text(0, 4000, "exact")]
# What the sender does with it is theirs; how many there are is not.
Count = Annotated[int, Meta(ge=-(2**53), le=2**53)]


class Recall(OptionalV1, frozen=True, kw_only=True):
    """`hub_ids`, `tags`, `topic_id` and the times bind. `kind`, the hub in X-Hub-ID, the repository in
    `project_context` and `working_dir` raise what fits them. `recency` prefers what is new."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "query": "Who has tomato seeds?",
        "limit": 5,
        "hub_ids": ["0195e3a1-02b4-7d10-8a6e-1c2d3e4f5a6b"],
        "created_after": "2026-01-01T00:00:00Z",
    }

    query: Query = ""
    limit: Count = 10
    hub_ids: list[str] | UnsetType = UNSET
    kind: Short = ""
    tags: list[str] = []  # noqa: RUF012 - a default of a struct, which copies it
    topic_id: Short = ""
    include_archived: bool = False
    no_rerank: bool = False
    source: Short = ""
    working_dir: Path = ""
    project_context: dict[str, str] | UnsetType = UNSET
    created_after: Short = ""
    created_before: Short = ""
    recency: bool = False


class Reasons(OptionalV1, frozen=True, kw_only=True):
    """Why a memory was found: by which words, the rarest first, as they are looked up; next to which other
    memory of its conversation; since the query names its speaker; what of the request fits it; and how near
    it is in meaning, from 0 to 1, where the service looks at that."""

    terms: list[str]
    speaker: bool
    fits: list[Literal["kind", "hub", "repository", "directory", "pinned"]]
    neighbour_id: str | UnsetType = UNSET
    meaning: float | UnsetType = UNSET


class RecalledMemory(OptionalV1, frozen=True, kw_only=True):
    """`relevance_score` is 1 for the best. `chunk_content` is the part of it that was found."""

    id: str
    title: str
    chunk_content: str
    heading_chain: str
    relevance_score: float
    kind: Kind
    stability: Stability
    source: str
    age: str
    created_at: str
    author_name: str
    hub_id: str
    hub_name: str
    reasons: Reasons
    summary: str | UnsetType = UNSET
    project_repo: str | UnsetType = UNSET
    hint: str | UnsetType = UNSET
    topic_id: str | UnsetType = UNSET
    topic_name: str | UnsetType = UNSET
    occurred_at: str | UnsetType = UNSET
    speaker: str | UnsetType = UNSET
    thread_id: str | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET


class QueryMetadata(OptionalV1, frozen=True, kw_only=True):
    """`filters` are those that were applied."""

    intent: Intent
    kinds_searched: list[str]
    total_candidates: int
    latency_ms: int
    reranked: bool
    filters: dict[str, str | list[str]] | UnsetType = UNSET


class Recalled(OptionalV1, frozen=True, kw_only=True):
    """A push with the `receipt_id` that only repeats one of the memories is kept as a reference to it."""

    memories: list[RecalledMemory]
    query_metadata: QueryMetadata
    receipt_id: str


class SearchResult(OptionalV1, frozen=True, kw_only=True):
    memory_id: str
    title: str
    snippet: str
    kind: Kind
    stability: Stability
    hub_id: str
    hub_name: str
    heading_chain: str | UnsetType = UNSET
    topic_id: str | UnsetType = UNSET
    topic_name: str | UnsetType = UNSET


class FoundTopic(OptionalV1, frozen=True, kw_only=True):
    id: str
    name: str
    hub_id: str
    description: str | UnsetType = UNSET


class FoundHub(WireV1, frozen=True, kw_only=True):
    id: str
    name: str


class BarResults(WireV1, frozen=True, kw_only=True):
    query: str
    memories: list[SearchResult]
    topics: list[FoundTopic]
    hubs: list[FoundHub]


class RelatedMemory(WireV1, frozen=True, kw_only=True):
    """`similarity` is how much of what is special about the one is in the other, up to 1."""

    memory: Memory
    similarity: float


class Ask(OptionalV1, frozen=True, kw_only=True):
    """`hub_ids`, `tags`, `topic_id` and the times bind, as in recall. `model` and `locale` are for
    installations with a language model; here answers are quotations."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"query": "Who has tomato seeds?"}

    query: Query = ""
    limit: Count = 6
    model: Short = "auto"
    locale: Name = ""
    no_rerank: bool = False
    topic_id: Short = ""
    hub_ids: list[str] | UnsetType = UNSET
    tags: list[str] = []  # noqa: RUF012 - a default of a struct, which copies it
    created_after: Short = ""
    created_before: Short = ""


class Citation(WireV1, frozen=True, kw_only=True):
    """`quote` stands in the memory word for word. `index` is its number in the answer."""

    index: int
    memory_id: str
    title: str
    kind: Kind
    quote: str


class AskMetadata(WireV1, frozen=True, kw_only=True):
    model: str
    answer_tokens: int
    retrieval_latency_ms: int
    synthesis_latency_ms: int
    total_latency_ms: int


class Answered(WireV1, frozen=True, kw_only=True):
    answer: str
    citations: list[Citation]
    sources: list[RecalledMemory]
    metadata: AskMetadata
