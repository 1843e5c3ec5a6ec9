"""Texts as pages show them: with the words marked that were looked for, and with what has changed."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import islice
from typing import Literal, NamedTuple

from guildhall.memories.asking import term_of

# Longer texts are not compared: how long that takes grows by their square.
MOST_LINES = 4_000
CONTEXT = 3
_WORD = re.compile(r"\w+")


class Piece(NamedTuple):
    """Part of a text, and whether it is one of the words that were looked for."""

    text: str
    met: bool


def marked(text: str, terms: Sequence[str]) -> list[Piece]:
    """The text in pieces, the words that it was found by apart."""
    pieces: list[Piece] = []
    at = 0
    for start, end in _met(text, terms):
        if start < at:
            continue
        if start > at:
            pieces.append(Piece(text[at:start], met=False))
        pieces.append(Piece(text[start:end], met=True))
        at = end
    if at < len(text):
        pieces.append(Piece(text[at:], met=False))
    return pieces


def _met(text: str, terms: Sequence[str]) -> Iterator[tuple[int, int]]:
    wide = [term for term in terms if not term.isascii()]
    for found in _WORD.finditer(text):
        # Where words are not set apart, they are found by pairs of characters.
        inside = sorted(
            (match.start(), match.end()) for term in wide for match in re.finditer(re.escape(term), found[0])
        )
        if inside:
            yield from ((found.start() + start, found.start() + end) for start, end in inside)
        elif term_of(found[0].lower(), terms) is not None:
            yield found.span()


class Line(NamedTuple):
    """A line of a comparison: kept, gone, new, or left out because nothing changed there."""

    what: Literal["kept", "gone", "new", "skipped"]
    text: str


def difference(before: str, after: str) -> list[Line] | None:
    """What changed, line by line, with some lines around it. None where the texts are too long to compare.

    Takes a moment for long texts: not for the event loop.
    """
    if before.count("\n") + after.count("\n") > MOST_LINES:
        return None
    old, new = before.splitlines(), after.splitlines()
    lines: list[Line] = []
    reached = 0
    for group in SequenceMatcher(None, old, new).get_grouped_opcodes(CONTEXT):
        if group[0][1] > reached:
            lines.append(Line("skipped", ""))
        for tag, start, end, new_start, new_end in group:
            if tag == "equal":
                lines += [Line("kept", text) for text in islice(old, start, end)]
            else:
                lines += [Line("gone", text) for text in islice(old, start, end)]
                lines += [Line("new", text) for text in islice(new, new_start, new_end)]
        reached = group[-1][2]
    if lines and reached < len(old):
        lines.append(Line("skipped", ""))
    return lines
