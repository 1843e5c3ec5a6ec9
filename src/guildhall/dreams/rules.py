"""What dreams find: texts that say the same, that contradict each other, that nobody needs, or that belong
together.

Plain functions of texts and words: no I/O, no clock, no SQL, no chance. The same hub always gives the same.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

Phase: TypeAlias = Literal["merge", "contradiction", "archive", "organize", "restructure"]
PHASES: tuple[Phase, ...] = ("merge", "contradiction", "archive", "organize", "restructure")
Mode: TypeAlias = Literal["maintenance", "bootstrap"]

# Unsorted memories from which on a hub is put into a first order.
BOOTSTRAP_FROM = 40
# How alike two texts are that may contradict each other, and how much of a text a copy of it has at least,
# whatever somebody has set.
ALIKE, LEAST_THRESHOLD = 0.70, 0.75
# A text that differs from so many others in a number alone does not contradict them.
ONE_OF_A_ROW = 3
# Of memories that have not changed since they were compared, about so many have another turn in each run.
LOOKED_AT_AGAIN = 200
LONGEST = 20_000
# A memory that nobody has needed is put away when so much of it is left.
FADED = 0.35
HALF_LIFE_DAYS: Mapping[str, float] = {"volatile": 14.0, "evolving": 180.0}
FEWEST_IN_TOPIC = 3


class Budget(msgspec.Struct, frozen=True):
    """How much a phase looks at and does.

    At most so many memories, and no more of them once it has compared so many characters, which takes about
    two minutes.
    """

    candidate_limit: int
    action_limit: int
    characters: int = 100_000_000


_USUAL: Mapping[Phase, Budget] = {
    "merge": Budget(1000, 30),
    "contradiction": Budget(1000, 30),
    "archive": Budget(200, 100),
    "organize": Budget(200, 60),
    "restructure": Budget(60, 10),
}
BUDGETS: Mapping[Mode, Mapping[Phase, Budget]] = {
    "maintenance": _USUAL,
    "bootstrap": {
        **_USUAL,
        "merge": Budget(4000, 60),
        "contradiction": Budget(4000, 30),
        "organize": Budget(400, 120),
    },
}

_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W_]+(?:['’.,:/-][^\W_]+)*"
)
# Words that turn a sentence around, and such as name a number or a day, in the languages most hubs speak.
_NEGATIONS = frozenset(
    [
        "no",
        "not",
        "never",
        "none",
        "nobody",
        "nothing",
        "without",
        "neither",
        "nor",
        "cannot",
        "can't",
        "isn't",
        "wasn't",
        "don't",
        "doesn't",
        "didn't",
        "won't",
        "shouldn't",
        "wouldn't",
        "aren't",
        "weren't",
        "hasn't",
        "haven't",
        "nicht",
        "kein",
        "keine",
        "keinen",
        "nie",
        "ohne",
        "pas",
        "jamais",
        "sans",
        "nunca",
        "sin",
        "não",
        "sem",
        "non",
        "mai",
        "senza",
        "不",
        "没",
        "無",
        "非",
    ]
)
_MEASURES = frozenset(
    [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "hundred",
        "thousand",
        "million",
        "half",
        "twice",
        "first",
        "second",
        "third",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
        "january",
        "february",
        "march",
        "april",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
        "yesterday",
        "today",
        "tomorrow",
        "morning",
        "noon",
        "evening",
        "night",
        "true",
        "false",
        "on",
        "off",
        "enabled",
        "disabled",
        "always",
        "open",
        "closed",
    ]
)


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def similarity(a: str, b: str) -> float:
    """How much of two texts is the same in the same order, from 0 to 1, by words; 0 below what matters."""
    one, other = words_of(a), words_of(b)
    if not one or not other:
        return 0.0
    total = len(one) + len(other)
    # No more than what they have in common in any order, which is quicker to have.
    if 2 * (Counter(one) & Counter(other)).total() / total < ALIKE:
        return 0.0
    return 2 * _in_common(one, other) / total


def _in_common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence.

    As many steps as `other` has words, on numbers of as many bits as `one` has, however often words repeat.
    After H. Hyyrö, "Bit-parallel LCS-length computation revisited", 2004.
    """
    places: dict[str, int] = {}
    for at, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << at
    every = (1 << len(one)) - 1
    left = every
    for word in other:
        met = left & places.get(word, 0)
        left = (left + met | left - met) & every
    return len(one) - left.bit_count()


def measures(words: Iterable[str]) -> Counter[str]:
    """Numbers, dates, versions, and words that stand for such."""
    return Counter(word for word in words if word in _MEASURES or any(map(str.isdigit, word)))


def contradiction(a: str, b: str) -> str | None:
    """In which way two texts that are alike say different things; None where they do not."""
    one, other = words_of(a), words_of(b)
    only_one, only_other = measures(one) - measures(other), measures(other) - measures(one)
    if only_one and only_other:
        return f"One says {_listed(only_one)}, the other {_listed(only_other)}."
    denied = [sum(word in _NEGATIONS or word.endswith("n't") for word in words) for words in (one, other)]
    if denied[0] != denied[1]:
        return "One says that it is so, the other that it is not."
    return None


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words)[:5])


def freshness(age_days: float, stability: str) -> float:
    """How much of a memory is left after so long: 1 at first, halved each half-life, 1 for ever if stable."""
    half_life = HALF_LIFE_DAYS.get(stability)
    return 1.0 if half_life is None else 0.5 ** (max(age_days, 0.0) / half_life)


class Cluster(msgspec.Struct, frozen=True):
    """Things that share a word, and perhaps most of them a second one."""

    words: tuple[str, ...]
    members: tuple[int, ...]


def clusters(texts: Sequence[frozenset[str]], *, most: int, fewest: int = FEWEST_IN_TOPIC) -> list[Cluster]:
    """Groups by the word that most have in common and not too many; each text is in one at most."""
    total = len(texts)
    ceiling = total if total <= 10 else math.floor(0.6 * total)
    left = set(range(total))
    found: list[Cluster] = []
    while len(found) < most and len(left) >= fewest:
        counts = Counter(word for index in left for word in texts[index])
        usable = [(n, word) for word, n in counts.items() if fewest <= n <= ceiling]
        if not usable:
            break
        n, best = min(usable, key=lambda pair: (-pair[0] * math.log(1 + total / pair[0]), pair[1]))
        members = tuple(sorted(index for index in left if best in texts[index]))
        beside = Counter(word for index in members for word in texts[index] if word != best)
        # A second word that nearly all of them have makes the name say more.
        often = sorted(word for word, m in beside.items() if m >= 0.8 * n and counts[word] <= 1.2 * m)
        found.append(Cluster((best, *often[:1]), members))
        left -= set(members)
    return found


def sureness(size: int) -> float:
    """How sure it is that so many texts with a word in common are one topic: from 0.4 to 0.7."""
    return round(0.4 + 0.3 * min(1.0, (size - FEWEST_IN_TOPIC + 1) / 6), 4)


def names_alike(one: frozenset[str], other: frozenset[str]) -> Literal["same", "inside", "around"] | None:
    """Whether two names mean the same, or `one` is about a part of what `other` is, or the other way."""
    if not one or not other:
        return None
    if one == other:
        return "same"
    if other < one:
        return "inside"
    return "around" if one < other else None
