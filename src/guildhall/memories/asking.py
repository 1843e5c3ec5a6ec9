"""What a question wants, told from its words. No I/O, no clock, no SQL."""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Literal, TypeAlias

from guildhall.memories.english import other_forms

Intent: TypeAlias = Literal["how_to", "why", "what_is", "where", "debug", "reference", "temporal", "general"]

# Each of these is looked for among the speakers of every hub.
MOST_WORDS = 64
_WORD = re.compile(r"\w+")
_EDGES = re.compile(r"^\W+|\W+$")
_ACCENT = re.compile("[\u0300-\u036f]")
_MONTH = (
    r"january|february|march|april|may|june|july|august|september|october|november|december"
    r"|jan|feb|mar|apr|jun|jul|aug|sep|oct|nov|dec"
)
_PATTERNS: Sequence[tuple[Intent, str]] = (
    ("debug", r"\b(error|exception|traceback|crash\w*|fail(s|ed|ing|ure)?|bug|broken|debug\w*)\b"),
    ("temporal", r"\b(when|yesterday|today|last (week|month|year)|ago)\b|\b\d{1,2} (" + _MONTH + r")\b"),
    ("how_to", r"\bhow (to|do|does|can|should|would)\b|^(steps|guide)\b"),
    ("why", r"\bwhy\b|\breasons?\b|\bdecision\b"),
    ("where", r"\bwhere\b|\bwhich (file|folder|directory|page)\b"),
    ("what_is", r"\b(what|who) (is|are|was|were)\b|\bdefin(e|ition)\b|\bmeaning of\b"),
    ("reference", r"\b(docs?|documentation|reference|api|syntax|endpoint)\b"),
)
_INTENTS: Sequence[tuple[Intent, re.Pattern[str]]] = [
    (intent, re.compile(pattern, re.IGNORECASE)) for intent, pattern in _PATTERNS
]
# Chinese, Japanese and Korean.
_WIDE = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


def words_of(query: str) -> list[str]:
    """The first words of a query in lower case and without accents; single letters are no names."""
    words = dict.fromkeys(word for word in _WORD.findall(_plain(query)) if len(word) > 1)
    return list(words)[:MOST_WORDS]


def beginning_of(text: str) -> str | None:
    """The last word of a text, which is perhaps unfinished; None where there is too little of it."""
    if not text or text[-1].isspace():
        return None
    last = _EDGES.sub("", _plain(text.split()[-1]))
    return last if len(last) >= 2 or _WIDE.match(last) else None


def _plain(text: str) -> str:
    """As the database's plain_text has it."""
    if text.isascii():
        return text.lower()
    bare = _ACCENT.sub("", unicodedata.normalize("NFKD", text.lower())).replace("ß", "ss")
    return unicodedata.normalize("NFC", bare)


def intent_of(query: str) -> Intent:
    for intent, pattern in _INTENTS:
        if pattern.search(query):
            return intent
    return "general"


def age_of(moment: datetime, now: datetime) -> str:
    """How long ago, as people say it."""
    seconds = (now - moment).total_seconds()
    for unit, size in (("year", 31_557_600), ("month", 2_629_800), ("week", 604_800), ("day", 86_400)):
        if seconds >= size:
            return _several(int(seconds // size), unit)
    if seconds >= 3600:
        return _several(int(seconds // 3600), "hour")
    return _several(int(seconds // 60), "minute") if seconds >= 60 else "just now"


def _several(count: int, unit: str) -> str:
    return f"{count} {unit}{'' if count == 1 else 's'} ago"


def term_of(word: str, terms: Sequence[str]) -> str | None:
    """The term that a word of a text is an inflection of, as far as can be told from its letters."""
    for term in terms:
        stem = term[:-1] if len(term) > 4 else term
        if word.startswith(stem) and len(word) <= len(term) + 5:
            return term
    return None


def grasp_of(words: Sequence[str], weights: Mapping[str, float], met: Collection[str]) -> float:
    """How much of what a question asks for is met, from 0 to 1: by its words, each as rare as it is.

    A word is met in any of its forms. `weights` are of the words as they are looked up. Chinese, Japanese and
    Korean are looked up by pairs of characters, most of them no words: of those only what is met counts.
    """
    asked: list[tuple[float, bool]] = []
    claimed: set[str] = set()
    for word in words:
        forms = [word, *other_forms([word]).split()]
        terms = {
            term for term in weights if not _WIDE.match(term) and any(term_of(form, [term]) for form in forms)
        }
        if terms:
            claimed |= terms
            known = terms & set(met)
            asked.append((max(weights[term] for term in known or terms), bool(known)))
    for term in weights.keys() - claimed:
        if term in met or not _WIDE.match(term):
            asked.append((weights[term], term in met))
    whole = sum(weight for weight, _ in asked)
    return sum(weight for weight, is_met in asked if is_met) / whole if whole else 0.0


def snippet_of(text: str, terms: Sequence[str], most: int = 200) -> str:
    """About this much of a text, where the terms are met first."""
    plain = " ".join(text.split())
    if len(plain) <= most:
        return plain
    at = 0
    for found in _WORD.finditer(plain.lower()):
        if term_of(found[0], terms):
            at = max(0, found.start() - most // 4)
            break
    start = plain.rfind(" ", 0, at) + 1 if at else 0
    cut = plain[start : start + most]
    if start + most < len(plain) and " " in cut:
        cut = cut.rpartition(" ")[0] + "…"
    return ("…" if start else "") + cut


def best_sentence(text: str, terms: Sequence[str]) -> tuple[str, float]:
    """The sentence of a text that says most about the terms, word for word, and how much that is.

    Earlier terms are rarer, so they count for more.
    """
    best, most = "", 0.0
    for raw in _SENTENCE.split(text):
        sentence = raw.strip()
        if not sentence or sentence.startswith(("#", "```")):
            continue
        met = {term for word in _WORD.findall(sentence.lower()) if (term := term_of(word, terms))}
        met |= {term for term in terms if not term.isascii() and term in sentence}
        value = sum(1 / (1 + terms.index(term)) for term in met)
        if value > most or not best:
            best, most = sentence, value
    return best, most
