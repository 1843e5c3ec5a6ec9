"""How a hub greets whoever opens it: by what is in it, by the clock where they are, by who they are."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from guildhall.hubs.greeting import Facts, first_word, fnv1a, greet, time_bucket, zone_of

MORNING = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


def facts(**more: Any) -> Facts:
    """A team hub in the morning with something in it and nothing going on."""
    quiet: dict[str, Any] = {
        "hub_id": "hub-1",
        "user_id": "user_a",
        "personal": False,
        "memories": 30,
        "topics": 2,
        "inbox": 0,
        "pending_review": 0,
        "dream_topics": 0,
        "team_activity": 0,
        "last_visit": None,
        "now": MORNING,
    }
    return Facts(**quiet | more)


BUCKETS = {
    "deep-night": range(5),
    "morning": range(5, 12),
    "noon": range(12, 14),
    "afternoon": range(14, 18),
    "evening": range(18, 22),
    "late-night": range(22, 24),
}


def test_every_hour_is_in_the_bucket_that_is_promised() -> None:
    assert {hour: time_bucket(hour) for hour in range(24)} == {
        hour: bucket for bucket, hours in BUCKETS.items() for hour in hours
    }


ALL_AT_ONCE: dict[str, Any] = {
    "pending_review": 2,
    "dream_topics": 3,
    "inbox": 20,
    "last_visit": MORNING - timedelta(days=8),
    "team_activity": 5,
}
WEEK = MORNING - timedelta(days=7)


@pytest.mark.parametrize(
    ("more", "state", "stem", "count"),
    [
        ({"memories": 0, "topics": 0, **ALL_AT_ONCE}, "first_time", "firstTime", "2"),
        ({"memories": 0, "topics": 1}, "clean", "morningClean", None),
        (ALL_AT_ONCE, "review_needed", "teamReview", "2"),
        (ALL_AT_ONCE | {"personal": True}, "review_needed", "reviewNeeded", "2"),
        (ALL_AT_ONCE | {"pending_review": 0}, "dream_deltas", "morningDream", "3"),
        ({"dream_topics": 3, "now": MORNING.replace(hour=13)}, "dream_deltas", "dreamDeltas", "3"),
        (ALL_AT_ONCE | {"pending_review": 0, "dream_topics": 0}, "inbox_overflow", "inboxOverflow", "20"),
        ({"inbox": 19}, "clean", "morningClean", "19"),
        (
            {"last_visit": WEEK - timedelta(seconds=1), "team_activity": 5},
            "return_after_absence",
            "returnAfterAbsence",
            "5",
        ),
        ({"last_visit": WEEK}, "clean", "morningClean", None),
        ({"team_activity": 5}, "team_activity", "teamMorning", "5"),
        ({"team_activity": 5, "now": MORNING.replace(hour=15)}, "clean", "afternoonClean", "5"),
        ({"now": MORNING.replace(hour=2)}, "clean", "deepNightClean", None),
        ({"now": MORNING.replace(hour=12)}, "clean", "timeNoon", None),
        ({"now": MORNING.replace(hour=20)}, "clean", "timeEvening", None),
        ({"now": MORNING.replace(hour=23)}, "clean", "deepNightClean", None),
    ],
)
def test_what_comes_first_in_the_list_of_states_greets(
    more: dict[str, Any], state: str, stem: str, count: str | None
) -> None:
    greeting = greet(facts(**more), None)
    assert (greeting.state, greeting.key[:-1], greeting.count) == (state, stem, count)


@pytest.mark.parametrize(("text", "value"), [("", 0x811C9DC5), ("a", 0xE40C292C), ("foobar", 0xBF9CF968)])
def test_the_hash_is_the_published_one(text: str, value: int) -> None:
    assert fnv1a(text) == value


def test_the_letter_changes_by_person_and_by_day() -> None:
    days = [MORNING + timedelta(days=n) for n in range(3)]
    letters = {
        user: "".join(greet(facts(user_id=user, now=day), None).key[-1] for day in days)
        for user in ("user_a", "user_b")
    }
    assert letters == {"user_a": "BAB", "user_b": "ABA"}


def test_the_day_is_that_of_where_the_person_is() -> None:
    late = facts(now=datetime(2026, 3, 1, 23, 30, tzinfo=UTC))
    at_home, in_utc = greet(late, zone_of("Pacific/Kiritimati")), greet(late, None)
    assert (at_home.bucket, in_utc.bucket) == ("noon", "late-night")
    tomorrow = facts(now=datetime(2026, 3, 2, 13, 30, tzinfo=UTC))
    assert at_home.key == greet(tomorrow, None).key
    for nowhere in (None, "", "Nowhere/At_All", "../../etc/passwd", "x" * 65, "Europe/\x00"):
        assert zone_of(nowhere) is None


@pytest.mark.parametrize(
    ("name", "word"), [("Ada Lovelace", "Ada"), ("  Bo  ", "Bo"), ("", "there"), ("\u3000", "there")]
)
def test_people_are_greeted_by_the_first_word_of_their_name(name: str, word: str) -> None:
    assert first_word(name) == word
