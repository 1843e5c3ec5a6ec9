"""The text in files: read by a process of its own, which may take only so much time and memory.

A file is somebody's, and may be made to break whoever reads it. `python -m guildhall.memories.reading KIND`
reads one from its input and writes the text to its output.
"""

import asyncio
import io
import resource
import sys

MAX_CHARACTERS = 2_000_000
MAX_PAGES = 2_000
TIMEOUT_S = 30.0
CPU_S = 25
MEMORY_BYTES = 1024**3


class Unreadable(Exception):
    """There is no text to be had from the file."""


async def read_text(content_type: str, data: bytes) -> str:
    """The text of a file. Raises Unreadable."""
    kind = {"application/pdf": "pdf", "text/html": "html"}.get(content_type)
    if kind is None:
        if content_type.startswith("image/"):
            return ""
        return data.decode("utf-8", "replace").replace("\x00", "")[:MAX_CHARACTERS]
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
        async with asyncio.timeout(TIMEOUT_S):
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


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    data = sys.stdin.buffer.read()
    text = {"pdf": pdf_text, "html": html_text}[sys.argv[1]](data)
    clean = text.replace("\x00", "")[:MAX_CHARACTERS].encode("utf-8", "replace")
    sys.stdout.buffer.write(clean)


if __name__ == "__main__":
    main()
