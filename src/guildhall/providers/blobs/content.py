"""What a file is, judged by its bytes, and how it may be shown to a browser."""

import codecs
import unicodedata
from urllib.parse import quote

LONGEST_FILENAME = 150

# How many first bytes `sniff` needs.
HEAD_BYTES = 32

RASTER_IMAGES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})

_EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "application/pdf": "pdf",
    "text/plain": "txt",
    "text/markdown": "md",
    "text/csv": "csv",
    "text/html": "html",
    "text/calendar": "ics",
    "image/svg+xml": "svg",
}
_CONTENT_TYPES = {extension: content_type for content_type, extension in _EXTENSIONS.items()}


def essence(content_type: str) -> str:
    """The type without parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def extension_of(content_type: str) -> str | None:
    """The one extension for a content type we accept, else None. Any other `text/…` is kept as plain text."""
    kind = essence(content_type)
    if kind.startswith("text/") and kind != "text/":
        return _EXTENSIONS.get(kind, "txt")
    return _EXTENSIONS.get(kind)


def is_text(kind: str) -> bool:
    """Whether files of this type are read as text. A drawing may hold scripts, like a page."""
    return kind.startswith("text/") or kind == "image/svg+xml"


def content_type_of(name: str) -> str | None:
    return _CONTENT_TYPES.get(name.rpartition(".")[2])


def sniff(head: bytes) -> str | None:
    """The type whose signature the first bytes carry; None when they carry none we know."""
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:15] == b"WEBPVP8":
        return "image/webp"
    if head.startswith(b"%PDF-"):
        return "application/pdf"
    return None


class TextCheck:
    """Whether a stream of bytes is UTF-8 text without NUL, judged chunk by chunk."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def accepts(self, chunk: bytes, *, final: bool = False) -> bool:
        try:
            self._decoder.decode(chunk, final)
        except UnicodeDecodeError:
            return False
        return b"\x00" not in chunk


def disposition(content_type: str, filename: str) -> dict[str, str]:
    """Headers for serving a stored blob: never sniffed, never scripted, shown in place only if an image.

    `filename` is the user's own and only suggested; what could mislead in it becomes `_`.
    """
    kind = essence(content_type)
    if kind not in _EXTENSIONS:
        kind = "application/octet-stream"
    shown = "inline" if kind in RASTER_IMAGES else "attachment"
    safe = _safe_filename(filename)
    ascii_only = "".join(letter if letter.isascii() else "_" for letter in safe)
    return {
        "Content-Type": f"{kind}; charset=utf-8" if is_text(kind) else kind,
        "Content-Disposition": f"{shown}; filename=\"{ascii_only}\"; filename*=UTF-8''{quote(safe, safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
    }


def _safe_filename(filename: str) -> str:
    shortened = filename[:LONGEST_FILENAME]
    return "".join("_" if _misleads(letter) else letter for letter in shortened).strip(" .") or "file"


def _misleads(letter: str) -> bool:
    """Separators of paths, what header syntax or Windows treats specially, controls, and odd spaces."""
    return letter in '/\\"%:*?<>|' or (unicodedata.category(letter)[0] in "CZ" and letter != " ")
