"""Long memories in pieces, each of which says one thing: by headings, paragraphs, sentences.

A piece has at most about 512 tokens, where a character of Chinese, Japanese or Korean counts for one and any
other for a quarter. Code between fences stays together as far as it fits. Pieces that would be too small
to say anything join their neighbour. It takes time in step with the length of the text, whatever that is.
"""

import re
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

MOST_TOKENS = 512
FEWEST_TOKENS = 20
# What is longer is still stored whole; only so many pieces of it are found by their words.
MOST_CHUNKS = 600
# A longer line is a text, even if it begins as a heading does.
MOST_HEADING = 200

_FENCE = re.compile(r"\s*(```|~~~)")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|(?<=[。！？])")
_TAG = re.compile(r"<(/?)([A-Za-z][^\s<>/]*)(?:[\s/][^<>]*)?>|<[^<>]+>")
# Headings and how deep each is, the outermost first.
Chain: TypeAlias = list[tuple[int, str]]

_BLOCKS = frozenset(["p", "div", "li", "tr", "br", "section", "article"])
_HEADINGS = frozenset(["h1", "h2", "h3", "h4", "h5", "h6"])


class Chunk(msgspec.Struct, frozen=True):
    chunk: int
    heading_chain: str
    content: str


def tokens(text: str) -> float:
    """About how many tokens a text has."""
    if text.isascii():
        return len(text) / 4
    wide = len(_WIDE.findall(text))
    return wide + (len(text) - wide) / 4


def split(content: str, content_type: str) -> list[Chunk]:
    """The pieces of a long text in order; none where it is short enough to be one."""
    if len(content) <= 4 * FEWEST_TOKENS or tokens(content) <= MOST_TOKENS:
        return []
    text = _marked(content) if content_type == "html" else content
    pieces: list[_Piece] = []
    for chain, section in _sections(text):
        for said, size in _pieces(section):
            if pieces and _belong_together(pieces[-1].size, size):
                pieces[-1].join(chain, said, size)
            else:
                pieces.append(_Piece(chain, chain, [said], size))
        if len(pieces) > MOST_CHUNKS:
            break
    if len(pieces) < 2:
        return []
    return [Chunk(n, _shown(piece.chain), piece.content) for n, piece in enumerate(pieces[:MOST_CHUNKS])]


class _Piece(msgspec.Struct):
    """A piece in the making: the headings it begins and ends under, what it says, how many tokens it has."""

    chain: Chain
    last: Chain
    said: list[str]
    size: float

    @property
    def content(self) -> str:
        return "\n\n".join(self.said)

    def join(self, chain: Chain, said: str, size: float) -> None:
        """Take in what follows, and the headings that are new with it."""
        same = next((n for n, (a, b) in enumerate(zip(self.last, chain, strict=False)) if a is not b), None)
        new = [name for _, name in chain[len(self.last) if same is None else same :]]
        if not self.chain and not self.last:
            self.chain, new = chain, []
        self.said += [*new, said]
        self.size += sum(map(tokens, new)) + size + (len(new) + 1) / 2
        self.last = chain


def _belong_together(before: float, piece: float) -> bool:
    """Whether one of two pieces is too small to say anything, and both together not too large."""
    return min(before, piece) < FEWEST_TOKENS and before + piece <= MOST_TOKENS


def _marked(html: str) -> str:
    """HTML as text with its headings marked."""
    made: list[str] = []
    heading: tuple[str, int] | None = None
    at = 0
    for found in _TAG.finditer(html):
        made.append(html[at : found.start()])
        at = found.end()
        closes, name = found[1], (found[2] or "").lower()
        if name in _HEADINGS:
            if heading is not None:
                # A heading is one line, whatever is in it.
                level, begin = heading
                line = " ".join("".join(made[begin:]).split())
                made[begin:] = [f"\n\n{'#' * int(level[1])} {line}\n\n" if line else "\n\n"]
            else:
                made.append("\n\n")
            heading = None if closes else (name, len(made))
        elif heading is not None:
            made.append(" ")
        else:
            made.append("\n\n" if closes or name in _BLOCKS else " ")
    made.append(html[at:])
    return "".join(made)


def _heading_of(line: str) -> tuple[int, str] | None:
    """How deep a heading is, and what it says; None for any other line."""
    if not line.startswith("#") or len(line) > 2 * MOST_HEADING:
        return None
    rest = line.lstrip("#")
    depth = len(line) - len(rest)
    name = rest.strip()
    bare = name.rstrip("#").rstrip()
    if depth > 6 or not rest[:1].isspace() or not bare or len(bare) > MOST_HEADING:
        return None
    return depth, bare


def _sections(text: str) -> Iterator[tuple[Chain, str]]:
    """Each part under a heading, with the chain of headings that leads to it.

    A heading that leads to nothing is itself what is said there.
    """
    chain: Chain = []
    # How many headings of the chain lead to something.
    used = 0
    lines: list[str] = []
    fence: str | None = None
    for line in text.splitlines():
        if (mark := _FENCE.match(line)) is not None:
            fence = None if fence == mark[1] else fence or mark[1]
        heading = None if fence else _heading_of(line)
        if heading is None:
            lines.append(line)
            continue
        if any(part.strip() for part in lines):
            yield chain, "\n".join(lines).strip()
            used = len(chain)
        lines = []
        stays = sum(level < heading[0] for level, _ in chain)
        if (kept := max(used, stays)) < len(chain):
            yield chain[:kept], "\n".join(name for _, name in chain[kept:])
        used = min(used, stays) if kept == len(chain) else stays
        chain = [*chain[:stays], heading]
    if any(part.strip() for part in lines):
        yield chain, "\n".join(lines).strip()
    elif used < len(chain):
        yield chain[:used], "\n".join(name for _, name in chain[used:])


def _shown(chain: Chain) -> str:
    return " > ".join(name for _, name in chain)


def _pieces(section: str) -> Iterator[tuple[str, float]]:
    """A section in pieces that are small enough, as few as there can be, with how many tokens each has."""
    held: list[str] = []
    size = 0.0
    for paragraph in _paragraphs(section):
        needed = tokens(paragraph)
        if held and size + needed > MOST_TOKENS:
            yield "\n\n".join(held), size
            held, size = [], 0.0
        if needed <= MOST_TOKENS:
            held.append(paragraph)
            size += needed + 0.5
            continue
        said: list[str] = []
        for sentence in _sentences(paragraph):
            needed = tokens(sentence)
            if said and size + needed > MOST_TOKENS:
                yield " ".join(said), size
                said, size = [], 0.0
            said.append(sentence)
            size += needed + 0.25
        held = [" ".join(said)] if said else []
    if held:
        yield "\n\n".join(held), size


def _paragraphs(section: str) -> Iterator[str]:
    """Split at empty lines, though not inside a fence."""
    held: list[str] = []
    fence: str | None = None
    for line in section.splitlines():
        if (mark := _FENCE.match(line)) is not None:
            fence = None if fence == mark[1] else fence or mark[1]
        if line.strip() or fence:
            held.append(line)
        elif held:
            yield "\n".join(held)
            held = []
    if held:
        yield "\n".join(held)


def _sentences(paragraph: str) -> Iterator[str]:
    """Split after sentences, and what is still too long wherever it must be."""
    for sentence in _SENTENCE.split(paragraph):
        at = 0
        while at < len(sentence):
            rest = sentence[at : at + 4 * MOST_TOKENS]
            if len(sentence) - at <= 4 * MOST_TOKENS and tokens(rest) <= MOST_TOKENS:
                cut = len(rest)
            else:
                most = MOST_TOKENS if _WIDE.search(rest) else 4 * MOST_TOKENS
                cut = rest.rfind(" ", most // 2, most)
                cut = most if cut < 0 else cut
            piece = rest[:cut]
            at += cut
            while at < len(sentence) and sentence[at].isspace():
                at += 1
            if piece:
                yield piece
