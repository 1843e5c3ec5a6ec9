"""What a memory may hold, and what is made of what was sent. No I/O, no clock, no SQL."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias, get_args

from guildhall.errors import AppError, Conflict, Forbidden, NotFound
from guildhall.hubs.rules import BadField

Kind: TypeAlias = Literal["episodic", "semantic", "procedural", "rationale"]
Stability: TypeAlias = Literal["volatile", "evolving", "stable"]
State: TypeAlias = Literal["active", "processing", "archived"]
Initiation: TypeAlias = Literal[
    "human_direct", "human_requested_agent", "agent_proactive", "agent_automatic", "import", "unknown"
]
KINDS: tuple[str, ...] = get_args(Kind)
STABILITIES: tuple[str, ...] = get_args(Stability)
INITIATIONS: tuple[str, ...] = get_args(Initiation)

MAX_TITLE = 300
MAX_HINT = 500
MAX_SUMMARY = 240
MAX_TAGS = 50
MAX_TAG = 100
MAX_BATCH = 100
MAX_CONTEXT = 32
MAX_CONTEXT_TEXT = 1024
DERIVED_TITLE = 80

# The kinds of content that are told from the end of a name.
_BY_EXTENSION = {
    "md": "markdown",
    "markdown": "markdown",
    "pdf": "pdf",
    "html": "html",
    "htm": "html",
    "png": "image",
    "jpg": "image",
    "jpeg": "image",
    "webp": "image",
    "gif": "image",
}
_BY_MIME = {"application/pdf": "pdf", "text/markdown": "markdown", "text/html": "html"}
_TAG = re.compile(r"</?[A-Za-z!][^<>]*>")
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+")
_PROCEDURE = re.compile(r"^\s*(?:step\s+\d+|how to\b|1[.)]\s)", re.IGNORECASE | re.MULTILINE)
_REASON = re.compile(
    r"\b(?:we|i|they)\s+(?:decided|chose|picked|rejected)\b|\bdecision:|\brationale:", re.IGNORECASE
)
_AGO = re.compile(r"(\d{1,4})([hdw])")


class MissingContent(BadField):
    field = "content"
    code = "missing_content"
    title = "A memory needs content, or a file."


class ContentTooComplex(BadField):
    field = "content"
    code = "content_too_complex"
    title = "This HTML is nested too deeply, or takes too long to read."


class InvalidTags(BadField):
    field = "tags"
    code = "invalid_tags"
    title = f"A memory has at most {MAX_TAGS} tags of at most {MAX_TAG} characters each."


class InvalidOccurredAt(BadField):
    field = "occurred_at"
    code = "invalid_occurred_at"
    title = "The time it happened is a time with its zone, as 2026-03-01T09:30:00Z."


class InvalidThread(BadField):
    field = "seq"
    code = "invalid_thread"
    title = "A place in a conversation, seq, goes with the conversation's thread_id."


class NoWriteAccess(Forbidden):
    code = "no_write_access"
    title = "Your role in this hub does not let you write memories."


class NoAccess(Forbidden):
    code = "no_access"
    title = "You may not write into the hub you want to move this to."


class AttributionConflict(AppError):
    code = "attribution_conflict"
    title = "This key belongs to another agent than the one you name as source_agent."


class ConflictingAttribution(AppError):
    code = "conflicting_attribution_fields"
    title = "A memory is an agent's, as source_agent, or a person's, whom one assisted; not both."


class CollaboratorRequiresHuman(AppError):
    code = "collaborator_requires_human_actor"
    title = "An agent that acts by itself is not assisted by one."


class UnknownCollaborator(AppError):
    code = "unknown_collaborator_agent"
    title = "You have no agent of the name in assisted_by_agent."


class HubFrozen(AppError):
    status, code = 402, "hub_frozen"
    title = "This hub is frozen: it can be read, and nothing new goes in."


class HubFull(AppError):
    status, code = 402, "hub_memory_limit_reached"
    title = "This hub holds as many memories as it may."


class PersonalHubFull(AppError):
    status, code = 402, "memory_limit_reached"
    title = "Your hub holds as many memories as it may."


class InvalidTopicId(AppError):
    code = "invalid_topic_id"
    title = "This is no topic's id."


class InvalidKind(AppError):
    code = "invalid_kind"
    title = "A kind is episodic, semantic, procedural or rationale."


class InvalidStability(AppError):
    code = "invalid_stability"
    title = "A stability is volatile, evolving or stable."


class InvalidState(BadField):
    field = "state"
    code = "invalid_state"
    title = "A memory is active or archived; a list is of these, of those being processed, or of all."


class StillProcessing(Conflict):
    code = "memory_processing"
    title = "This memory's file is still being read."


class UnknownFilter(AppError):
    code = "unknown_filter"
    title = "Memories are not filtered by that."


class InvalidProjectContext(BadField):
    field = "project_context"
    code = "invalid_project_context"
    title = (
        f"A project's context has at most {MAX_CONTEXT} entries, with names of at most {MAX_TAG} and texts of"
        f" at most {MAX_CONTEXT_TEXT} characters."
    )


class InvalidSort(AppError):
    code = "invalid_sort"
    title = "Memories are sorted as newest or relevant."


class InvalidCreated(AppError):
    code = "invalid_created"
    title = "Give a time with its zone, as 2026-03-01T09:30:00Z, or how long ago, as 12h or 7d."


class InvalidActor(AppError):
    code = "invalid_actor"
    title = "An actor is self, all, agent:NAME or author:NAME."


class MissingQuery(AppError):
    code = "missing_query"
    title = "Say what to look for."


class MissingIds(BadField):
    field = "ids"
    code = "missing_ids"
    title = "Name at least one memory."


class TooMany(BadField):
    field = "ids"
    code = "too_many"
    title = f"Name at most {MAX_BATCH} memories at once."


class MissingTarget(AppError):
    code = "missing_target"
    title = "Say where to: a hub, a topic, or both."


class HubNotFound(NotFound):
    code = "hub_not_found"
    title = "There is no such hub, or you are not in it."


class TopicNotFound(NotFound):
    code = "topic_not_found"
    title = "There is no such topic in that hub."


class TopicArchived(Conflict):
    code = "topic_archived"
    title = "This topic is archived. Restore it first."


def clean_line(raw: str, most: int) -> str:
    """A title or hint as it is kept: one line, without HTML tags, cut."""
    return " ".join(_TAG.sub("", raw).split())[:most].strip()


def clean_tags(raw: Sequence[str]) -> list[str]:
    """Tags in their order, each once. Raises InvalidTags."""
    tags = list(dict.fromkeys(" ".join(tag.split()) for tag in raw if tag.strip()))
    if len(tags) > MAX_TAGS or any(len(tag) > MAX_TAG for tag in tags):
        raise InvalidTags
    return tags


def check_context(context: Mapping[str, str]) -> dict[str, str]:
    """Where somebody works, as it is kept. Raises InvalidProjectContext."""
    if len(context) > MAX_CONTEXT or any(
        len(name) > MAX_TAG or len(text) > MAX_CONTEXT_TEXT for name, text in context.items()
    ):
        raise InvalidProjectContext
    return dict(context)


def content_type_of(given: str, source_path: str, mime: str = "") -> str:
    """What kind of content it is: as said, else by the file's type or the end of its name."""
    if given:
        return given
    if mime:
        return "image" if mime.startswith("image/") else _BY_MIME.get(mime, "text")
    return _BY_EXTENSION.get(source_path.rpartition(".")[2].lower(), "text")


def title_of(content: str, content_type: str) -> str:
    """A title for content without one: its first heading or line, cut between words."""
    text = _TAG.sub(" ", content[:4000]) if content_type == "html" else content[:4000]
    for raw in text.splitlines():
        line = " ".join(raw.strip().lstrip("#>*-=").split())
        if line and line.strip("`"):
            return _cut(line, DERIVED_TITLE)
    return ""


def summary_of(content: str, content_type: str) -> str:
    """The first sentences of a longer text; empty where the text says it as shortly itself."""
    if len(content) <= MAX_SUMMARY:
        return ""
    text = _TAG.sub(" ", content[:4000]) if content_type == "html" else content[:4000]
    lines = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "```"))
    ]
    made = ""
    for sentence in _SENTENCE.split(" ".join(" ".join(lines).split())):
        if made and len(made) + len(sentence) >= MAX_SUMMARY:
            break
        made = f"{made} {sentence}".strip()
    return _cut(made, MAX_SUMMARY)


def kind_of(given: str, content: str, *, dated: bool) -> str:
    """As said where that is a kind; else by what the text looks like."""
    if given in KINDS:
        return given
    if given:
        return "semantic"
    if dated:
        return "episodic"
    head = content[:2000]
    if _PROCEDURE.search(head):
        return "procedural"
    return "rationale" if _REASON.search(head) else "semantic"


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return text[: most - 1].rpartition(" ")[0].rstrip(" ,;:") + "…" if " " in text[:most] else text[:most]


def read_time(raw: str, refusal: type[AppError]) -> datetime | None:
    """A time with its zone, None for none. Raises `refusal`."""
    if raw == "":
        return None
    try:
        moment = datetime.fromisoformat(raw)
    except ValueError as error:
        raise refusal from error
    if moment.tzinfo is None or not 1 < moment.year < 9999:
        raise refusal
    return moment


def read_since(raw: str | None, now: datetime | None = None) -> datetime | None:
    """A time, or how long ago. Raises InvalidCreated."""
    if not raw:
        return None
    if (ago := _AGO.fullmatch(raw)) is not None:
        hours = int(ago[1]) * {"h": 1, "d": 24, "w": 168}[ago[2]]
        return (now or datetime.now(UTC)) - timedelta(hours=hours)
    return read_time(raw, InvalidCreated)


def read_limit(raw: str | int | None, default: int, most: int) -> int:
    """How many rows: what cannot be meant is the default, what is too much the most."""
    text = str(raw)
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) == 0:
        return default
    return min(int(text), most)


def check_ids(ids: Sequence[str]) -> list[str]:
    """Each id once, in order. Raises MissingIds, TooMany."""
    if not ids:
        raise MissingIds
    if len(ids) > MAX_BATCH:
        raise TooMany
    return list(dict.fromkeys(ids))


def may_delete(role: str, policy: str, *, own: bool) -> bool:
    """Whether somebody in a hub may delete a memory there: its author always, others by rank and policy."""
    return own or role in ("owner", "admin") or (role == "contributor" and policy == "any")


def may_take_out(role: str, policy: str) -> bool:
    """Whether somebody may take memories of their own out of a hub."""
    return role in ("owner", "admin") or (role == "contributor" and policy in ("own", "any"))
