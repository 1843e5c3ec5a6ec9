"""When one memory is a copy of another: nothing is said in it that does not stand in the other word for word.

How much alike two texts look says nothing about that: sentences about two customers, two days or two people
are alike in all but what matters. So no word may stand for another one, nor in between; only whole sentences
may come after. Plain functions of texts: no I/O, no clock, no SQL.
"""

import hashlib
import re
import unicodedata
from typing import Protocol
from uuid import UUID

from guildhall.memories.rules import title_of

# Where a sentence ends: at a line's end, and at a full stop before a space. Of Chinese and Japanese at each.
_END = re.compile(r"\n+|(?<=[.!…])[\"'”’»)\]]*\s+|(?<=[。！])")
_PAUSE = re.compile(r"[、，；：「」『』（）]")
_OPENING, _CLOSING = "\"'“‘„«‹([{", "\"'”’“»›)]},;:.!…。！"
# What has digits in it may mean something by every sign but those of the sentence.
_AFTER_NUMBERS = ",;:.!…。！"

STABILITIES = ("volatile", "evolving", "stable")


class Kept(Protocol):
    """What of a memory decides whether it may stand for another one."""

    @property
    def author_id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def content(self) -> str: ...
    @property
    def content_type(self) -> str: ...
    @property
    def hint(self) -> str: ...
    @property
    def tags(self) -> list[str]: ...
    @property
    def kind(self) -> str: ...
    @property
    def stability(self) -> str: ...
    @property
    def topic_id(self) -> UUID | None: ...
    @property
    def source_path(self) -> str | None: ...
    @property
    def context(self) -> str: ...


def _word(raw: str) -> str:
    """A word without the marks around it, in one case unless its case may mean something."""
    if any(map(str.isdigit, raw)):
        return raw.rstrip(_AFTER_NUMBERS) or raw
    bare = raw.lstrip(_OPENING).rstrip(_CLOSING) or raw
    spelt = bare.replace("'", "").replace("’", "").replace("-", "")
    plain = spelt.isalpha() and (spelt.islower() or spelt.isupper() or spelt == spelt.capitalize())
    return bare.casefold().replace("’", "'") if plain else bare


def sentences(text: str) -> list[tuple[str, ...]]:
    """The words of each sentence. Signs that may mean something are part of them: -5, .env, C++, why?"""
    spoken = unicodedata.normalize("NFC", text)
    parts = (_PAUSE.sub(" ", part).split() for part in _END.split(spoken))
    return [tuple(map(_word, part)) for part in parts if part]


def digest(text: str) -> bytes | None:
    """The same for texts of the same words in the same order, by sixteen bytes; None of what has no words."""
    words = [word for each in sentences(text) for word in each]
    return hashlib.blake2b("\0".join(words).encode(), digest_size=16).digest() if words else None


def repetition(kept: str, copy: str) -> float:
    """How much of `kept` is all of `copy`, word for word: twice the words in common by all there are. 1 where
    neither says more, 0 where `copy` says anything that `kept` does not say, or says in other places."""
    whole, part = sentences(kept), sentences(copy)
    if not part:
        return 0.0
    many, few = sum(map(len, whole)), sum(map(len, part))
    if many == few:
        same = [word for each in whole for word in each] == [word for each in part for word in each]
        return 1.0 if same else 0.0
    # What comes before a sentence may turn it around, as a heading does; what comes after is only more.
    return 2 * few / (many + few) if whole[: len(part)] == part else 0.0


def stands_for(kept: Kept, copy: Kept) -> float:
    """How sure it is that nothing is lost when `copy` is put away.

    0 where something may be: beside its text a title, hint or tag, the topic or project it is of, the file
    it is kept in step with. What somebody else wrote is only ever put away where it is the very same.
    """
    likeness = repetition(kept.content, copy.content)
    if kept.author_id != copy.author_id and likeness < 1:
        return 0.0
    said_elsewhere = (
        copy.title in ("", title_of(copy.content, copy.content_type)) or _same(kept.title, copy.title),
        copy.hint == "" or _same(kept.hint, copy.hint),
        set(copy.tags) <= set(kept.tags),
        copy.topic_id in (None, kept.topic_id),
        copy.source_path is None,
        copy.context == kept.context,
        (copy.kind, copy.content_type) == (kept.kind, kept.content_type),
        STABILITIES.index(copy.stability) <= STABILITIES.index(kept.stability),
    )
    return likeness if all(said_elsewhere) else 0.0


def _same(one: str, other: str) -> bool:
    return sentences(one) == sentences(other)
