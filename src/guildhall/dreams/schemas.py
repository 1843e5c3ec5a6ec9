"""The wire of `/v1/dreams`. The database writes runs and actions as JSON itself."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from guildhall.dreams.rules import Mode, Phase
from guildhall.web.wire import OptionalV1, WireV1

RunStatus = Literal["running", "completed", "partial_failed", "failed", "skipped"]
ActionStatus = Literal["proposed", "waiting", "applied", "rejected", "undone", "dropped"]
Numbers = Annotated[dict[str, Any], Meta(examples=[{"merge": {"candidates": 12, "actions": 1}}])]


class DreamRun(OptionalV1, frozen=True, kw_only=True):
    """One time that a hub was tidied up. `report` is Markdown."""

    id: str
    owner_id: str
    hub_id: str
    mode: Mode
    status: RunStatus
    started_at: str
    memories_scanned: int
    duplicates_merged: int
    contradictions_found: int
    memories_archived: int
    memories_organized: int
    topics_restructured: int
    report: str
    last_heartbeat_at: str
    finished_at: str | UnsetType = UNSET
    phase_metrics: Numbers | UnsetType = UNSET
    phase_budgets: Numbers | UnsetType = UNSET


class DreamAction(OptionalV1, frozen=True, kw_only=True):
    """What a run did or proposes. `waiting` ones are in the inbox, `applied` ones can be undone; those
    `dropped` lost their ground. `confidence` says how sure the rule is, `evidence` what of."""

    id: str
    run_id: str
    action_type: Phase
    status: ActionStatus
    automatic: bool
    confidence: float
    similarity: float
    reason: str
    evidence: Annotated[dict[str, Any], Meta(examples=[{"name": "Tomatoes"}])]
    source_memory_ids: list[str]
    created_at: str
    result_memory_id: str | UnsetType = UNSET
    from_topic_id: str | UnsetType = UNSET
    to_topic_id: str | UnsetType = UNSET
    decided_at: str | UnsetType = UNSET
    decided_by: str | UnsetType = UNSET
    undone_at: str | UnsetType = UNSET


class DreamDetail(WireV1, frozen=True, kw_only=True):
    run: DreamRun
    actions: list[DreamAction]


class DreamList(OptionalV1, frozen=True, kw_only=True):
    """`next_cursor` is absent on the last page."""

    runs: list[DreamRun]
    next_cursor: str | UnsetType = UNSET


class LatestRun(WireV1, frozen=True, kw_only=True):
    merged: int
    contradictions_found: int
    archived: int
    organized: int
    restructured: int


class PendingReview(WireV1, frozen=True, kw_only=True):
    """What waits for somebody's decision in the hub."""

    contradictions: int
    topic_merges: int
    topic_restructures: int
    total: int


class Intelligence(OptionalV1, frozen=True, kw_only=True):
    pending_review: PendingReview
    latest_run: LatestRun | UnsetType = UNSET


class DreamReport(OptionalV1, frozen=True, kw_only=True):
    has_run: bool
    intelligence: Intelligence
    message: str | UnsetType = UNSET
    run: DreamRun | UnsetType = UNSET
    actions: list[DreamAction] | UnsetType = UNSET


class Queued(WireV1, frozen=True, kw_only=True):
    status: Literal["queued"]


class UndoDream(OptionalV1, frozen=True, kw_only=True):
    """Without ids, all that the run did."""

    action_ids: list[str] | UnsetType = UNSET


class NotUndone(WireV1, frozen=True, kw_only=True):
    """`changed_since`: somebody has changed what the action was about. `gone`: it is not there any more.
    `not_applied`: there is nothing to undo."""

    id: str
    reason: Literal["changed_since", "gone", "not_applied"]


class Undone(WireV1, frozen=True, kw_only=True):
    undone: list[str]
    skipped: list[NotUndone]


class DreamUsage(OptionalV1, frozen=True, kw_only=True):
    """`limit` is -1 where there is none. `used` counts the runs of the month."""

    scope: Literal["personal", "hub"]
    tier: Literal["basic", "lucid"]
    mode: Literal["soft", "hard"]
    limit: int
    used: int
    allowed: bool
    period_start: str
    period_end: str
    quota_source: Annotated[str, Meta(examples=["none"])]
    hub_id: str | UnsetType = UNSET
    remaining: int | UnsetType = UNSET
