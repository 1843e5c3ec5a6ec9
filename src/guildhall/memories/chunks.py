"""Long memories in pieces, each of which says one thing: by headings, paragraphs, sentences.

A piece has at most about 512 tokens, where a character of Chinese, Japanese or Korean counts for one and any
other for a quarter. Code between fences stays together as far as it fits. Pieces that would be too small
to say anything join their neighbour.
"""

import re
from collections.abc import Iterator

import msgspec

MOST_TOKENS = 512
FEWEST_TOKENS = 20
# What is longer is still stored whole; only so many pieces of it are found by their words.
MOST_CHUNKS = 600

_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"\s*(```|~~~)")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|(?<=[。！？])")
_TAG = re.compile(
    r"<(h[1-6])[^>]*>(.*?)</\1>|</?(?:p|div|li|tr|br|section|article)[^>]*>|<[^<>]+>", re.DOTALL
)


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
    pieces: list[tuple[str, str]] = []
    for chain, section in _sections(text):
        for piece in _pieces(section):
            if pieces and _belong_together(pieces[-1][1], piece):
                before_chain, before = pieces.pop()
                heading = chain.rpartition(" > ")[2] if chain != before_chain else ""
                joined = "\n\n".join(part for part in (before, heading, piece) if part)
                pieces.append((before_chain or chain, joined))
            else:
                pieces.append((chain, piece))
            if len(pieces) >= MOST_CHUNKS:
                break
    if len(pieces) < 2:
        return []
    return [Chunk(n, chain[:500], text) for n, (chain, text) in enumerate(pieces[:MOST_CHUNKS])]


def _belong_together(before: str, piece: str) -> bool:
    """Whether one of two pieces is too small to say anything, and both together not too large."""
    first, second = tokens(before), tokens(piece)
    return min(first, second) < FEWEST_TOKENS and first + second <= MOST_TOKENS


def _marked(html: str) -> str:
    """HTML as text with its headings marked."""

    def shown(found: re.Match[str]) -> str:
        if found[1]:
            return "\n\n" + "#" * int(found[1][1]) + " " + " ".join(found[2].split()) + "\n\n"
        return "\n\n" if found[0][1:2] in "/p" else " "

    return _TAG.sub(shown, html)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Each part under a heading, with the chain of headings that leads to it."""
    chain: list[tuple[int, str]] = []
    lines: list[str] = []
    fence: str | None = None
    for line in text.splitlines():
        if (mark := _FENCE.match(line)) is not None:
            fence = None if fence == mark[1] else fence or mark[1]
        heading = None if fence else _HEADING.match(line)
        if heading is None:
            lines.append(line)
            continue
        if any(part.strip() for part in lines):
            yield " > ".join(name for _, name in chain), "\n".join(lines).strip()
        lines = []
        depth = len(heading[1])
        chain = [(level, name) for level, name in chain if level < depth]
        chain.append((depth, heading[2]))
    if any(part.strip() for part in lines):
        yield " > ".join(name for _, name in chain), "\n".join(lines).strip()


def _pieces(section: str) -> Iterator[str]:
    """A section in pieces that are small enough, as few as there can be."""
    held = ""
    for paragraph in _paragraphs(section):
        if held and tokens(held) + tokens(paragraph) > MOST_TOKENS:
            yield held
            held = ""
        if tokens(paragraph) <= MOST_TOKENS:
            held = f"{held}\n\n{paragraph}" if held else paragraph
            continue
        for sentence in _sentences(paragraph):
            if held and tokens(held) + tokens(sentence) > MOST_TOKENS:
                yield held
                held = ""
            held = f"{held} {sentence}" if held else sentence
    if held:
        yield held


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
        rest = sentence
        while tokens(rest) > MOST_TOKENS:
            most = MOST_TOKENS if _WIDE.search(rest) else 4 * MOST_TOKENS
            cut = rest.rfind(" ", most // 2, most)
            cut = most if cut < 0 else cut
            yield rest[:cut]
            rest = rest[cut:].lstrip()
        if rest:
            yield rest
