"""Content as it is kept: as given, but HTML without what could do something, and cut into pieces."""

import asyncio

import msgspec

from guildhall.memories import chunks, rules
from guildhall.memories.chunks import Chunk
from guildhall.memories.reading import Unreadable, clean_html

# What is longer is cut beside the loop, so that nobody else waits for it.
SHORT = 32_768


class Prepared(msgspec.Struct, frozen=True):
    """`given` is what was sent, `content` what is kept of it."""

    given: str
    content: str
    content_type: str
    pieces: list[Chunk]


async def prepare(given: str, content_type: str) -> Prepared:
    """Make ready what was sent, before a transaction is open for it. Raises ContentTooComplex."""
    content = given
    if content_type == "html":
        try:
            content = await clean_html(given)
        except Unreadable as error:
            raise rules.ContentTooComplex from error
    return Prepared(given, content, content_type, await cut(content, content_type))


async def cut(content: str, content_type: str) -> list[Chunk]:
    """The pieces of a text, as `chunks.split` makes them."""
    if len(content) <= SHORT:
        return chunks.split(content, content_type)
    return await asyncio.to_thread(chunks.split, content, content_type)
