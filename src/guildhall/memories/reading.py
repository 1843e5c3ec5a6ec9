"""The text in files, and HTML made harmless: read by a process of its own, which may take only so much.

What somebody sends may be made to break whoever reads it, or to keep them busy for hours.
`python -m guildhall.memories.reading KIND` reads from its input and writes the text to its output.
"""

import asyncio
import io
import re
import resource
import sys

from guildhall.web.markup import clean

MAX_CHARACTERS = 2_000_000
MAX_PAGES = 2_000
TIMEOUT_S = 30.0
CPU_S = 25
MEMORY_BYTES = 1024**3

# HTML that is pushed has somebody waiting for it.
CLEAN_TIMEOUT_S = 5.0
CLEAN_CPU_S = 2
# So little is clean at once, however it is built.
SMALL = 4096
# As deep as browsers go.
MOST_DEPTH = 512

_NAME = re.compile(r"<(/?)([A-Za-z][^\s/>]*)")
# What has no end, and what ends where the next of its kind begins.
_FLAT = frozenset(
    (
        *("area", "base", "br", "col", "colgroup", "dd", "dt", "embed", "hr", "img", "input", "li", "link"),
        *("meta", "optgroup", "option", "p", "param", "rp", "rt", "source", "tbody", "td", "tfoot", "th"),
        *("thead", "tr", "track", "wbr"),
    )
)


class Unreadable(Exception):
    """There is no text to be had from the file."""


async def read_text(content_type: str, data: bytes) -> str:
    """The text of a file. Raises Unreadable."""
    kind = {"application/pdf": "pdf", "text/html": "html"}.get(content_type)
    if kind is None:
        if content_type.startswith("image/"):
            return ""
        return data.decode("utf-8", "replace").replace("\x00", "")[:MAX_CHARACTERS]
    return await _apart(kind, data, TIMEOUT_S)


async def clean_html(html: str) -> str:
    """HTML without what could do something in a browser. Raises Unreadable where it is made to keep one busy.

    A parser's time grows with the square of the depth, so what is not small is parsed where it hurts nobody.
    """
    if depth_of(html[: SMALL + 1]) > MOST_DEPTH:
        raise Unreadable("it is nested too deeply")
    if len(html) <= SMALL:
        return clean(html)
    return await _apart("clean", html.encode(), CLEAN_TIMEOUT_S)


def depth_of(html: str) -> int:
    """How deep tags lie in each other, about: enough to tell a page from what is built to be deep."""
    depth = deepest = 0
    opened: dict[str, int] = {}
    for found in _NAME.finditer(html):
        name = found[2].lower()
        if name in _FLAT:
            continue
        if not found[1]:
            opened[name] = opened.get(name, 0) + 1
            depth += 1
            deepest = max(deepest, depth)
        elif opened.get(name):
            opened[name] -= 1
            depth -= 1
    return deepest


async def _apart(kind: str, data: bytes, timeout_s: float) -> str:
    """What a process of its own makes of it. Raises Unreadable."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "guildhall.memories.reading",
        kind,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(timeout_s):
            text, _ = await process.communicate(data)
    except TimeoutError as error:
        raise Unreadable("it took too long") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise Unreadable("it is broken, or too large")
    return text.decode("utf-8", "replace")


def pdf_text(data: bytes) -> str:
    """The text of a PDF, its pages with an empty line between them."""
    import pypdf

    pages: list[str] = []
    size = 0
    for page in pypdf.PdfReader(io.BytesIO(data)).pages[:MAX_PAGES]:
        text = (page.extract_text() or "").strip()
        pages.append(text)
        size += len(text)
        if size > MAX_CHARACTERS:
            break
    return "\n\n".join(page for page in pages if page)


def html_text(data: bytes) -> str:
    """What a reader of a page sees, with its headings marked as in Markdown."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(data.decode("utf-8", "replace"))
    for hidden in tree.css("script, style, noscript, template, nav, svg"):
        hidden.decompose()
    for depth in range(1, 7):
        for heading in tree.css(f"h{depth}"):
            heading.replace_with(f"\n\n{'#' * depth} {' '.join(heading.text().split())}\n\n")
    body = tree.body
    lines = (body.text(separator="\n") if body is not None else "").splitlines()
    kept: list[str] = []
    for line in (" ".join(line.split()) for line in lines):
        if line.startswith("#") and kept and kept[-1]:
            kept.append("")
        if line:
            kept.append(line)
        if line.startswith("#"):
            kept.append("")
    return "\n".join(kept).strip()


def cleaned_text(data: bytes) -> str:
    html = data.decode()
    if depth_of(html) > MOST_DEPTH:
        raise Unreadable("it is nested too deeply")
    return clean(html)


def main() -> None:
    kind = sys.argv[1]
    cpu_s = CLEAN_CPU_S if kind == "clean" else CPU_S
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    data = sys.stdin.buffer.read()
    text = {"pdf": pdf_text, "html": html_text, "clean": cleaned_text}[kind](data)
    if kind != "clean":
        text = text.replace("\x00", "")[:MAX_CHARACTERS]
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))


if __name__ == "__main__":
    main()
