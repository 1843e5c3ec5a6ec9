"""The header of a hub's summary: which state the hub is in, and how to greet whoever opens it.

Plain functions of what the summary's statement has read.
"""

from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

Bucket: TypeAlias = Literal["deep-night", "morning", "noon", "afternoon", "evening", "late-night"]
State: TypeAlias = Literal[
    "first_time",
    "review_needed",
    "dream_deltas",
    "inbox_overflow",
    "return_after_absence",
    "team_activity",
    "clean",
]

FULL_INBOX = 20
ABSENCE = timedelta(days=7)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the header depends on. `last_visit` is None for somebody who has never visited."""

    hub_id: str
    user_id: str
    personal: bool
    memories: int
    topics: int
    inbox: int
    pending_review: int
    dream_topics: int
    team_activity: int
    last_visit: datetime | None
    now: datetime


class Greeting(msgspec.Struct, frozen=True):
    state: State
    key: str
    bucket: Bucket
    count: str | None


def greet(facts: Facts, zone: ZoneInfo | None) -> Greeting:
    """The header by the clock of `zone`, UTC where there is none."""
    local = facts.now.astimezone(zone or UTC)
    bucket = time_bucket(local.hour)
    state = state_of(facts, bucket)
    letter = "AB"[fnv1a(f"{facts.hub_id}:{facts.user_id}:{local.date().isoformat()}") % 2]
    counts = (facts.pending_review, facts.dream_topics, facts.inbox, facts.team_activity)
    count = next((str(n) for n in counts if n), None)
    return Greeting(state, _stem(state, bucket, personal=facts.personal) + letter, bucket, count)


def zone_of(name: str | None) -> ZoneInfo | None:
    """The zone of an IANA name, None for one that is absent or unknown."""
    try:
        return ZoneInfo(name) if name and len(name) <= 64 else None
    except (ValueError, OSError, KeyError):
        return None


def time_bucket(hour: int) -> Bucket:
    match hour:
        case h if h < 5:
            return "deep-night"
        case h if h < 12:
            return "morning"
        case h if h < 14:
            return "noon"
        case h if h < 18:
            return "afternoon"
        case h if h < 22:
            return "evening"
        case _:
            return "late-night"


def state_of(facts: Facts, bucket: Bucket) -> State:
    """The first of these that fits."""
    if not facts.memories and not facts.topics:
        return "first_time"
    if facts.pending_review:
        return "review_needed"
    if facts.dream_topics:
        return "dream_deltas"
    if facts.inbox >= FULL_INBOX:
        return "inbox_overflow"
    if facts.last_visit is not None and facts.now - facts.last_visit > ABSENCE:
        return "return_after_absence"
    if facts.team_activity and bucket == "morning":
        return "team_activity"
    return "clean"


def _stem(state: State, bucket: Bucket, *, personal: bool) -> str:
    match state:
        case "first_time":
            return "firstTime"
        case "review_needed":
            return "reviewNeeded" if personal else "teamReview"
        case "dream_deltas":
            return "morningDream" if bucket == "morning" else "dreamDeltas"
        case "inbox_overflow":
            return "inboxOverflow"
        case "return_after_absence":
            return "returnAfterAbsence"
        case "team_activity":
            return "teamMorning"
        case "clean":
            return _CLEAN[bucket]


_CLEAN: dict[Bucket, str] = {
    "deep-night": "deepNightClean",
    "late-night": "deepNightClean",
    "morning": "morningClean",
    "noon": "timeNoon",
    "afternoon": "afternoonClean",
    "evening": "timeEvening",
}


def fnv1a(text: str) -> int:
    """The 32-bit FNV-1a hash of a text's UTF-8."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def first_word(display_name: str) -> str:
    """How to address somebody of this name."""
    words = display_name.split()
    return words[0] if words else "there"
