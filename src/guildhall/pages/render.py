"""How a page is made: its template, its words, the files it loads, and the headers it goes out with."""

import functools
import gzip
import hashlib
import importlib.resources
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import jinja2
import markdown_it
import msgspec
from litestar import Request
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import Markup, escape

from guildhall import __version__
from guildhall.errors import AppError, NotFound
from guildhall.pages.frame import SOMEBODY, Frame
from guildhall.web.app import Answer, Raw
from guildhall.web.markup import clean_text
from guildhall.web.problem import Headers
from guildhall.web.service import Service

_CONTENT_TYPE = (b"content-type", b"text/html; charset=utf-8")
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_VARY = (b"vary", b"Accept-Encoding")
# A page of at most so many bytes goes out as it is.
SMALL = 2048
_FOREVER = (b"cache-control", b"public, max-age=31536000, immutable")


class StaticFile(NamedTuple):
    """A file of the pages. Its address holds a hash of it, so that it may be kept for ever."""

    url: str
    headers: Headers
    body: bytes
    gzipped: bytes


@functools.cache
def static_files() -> Mapping[str, StaticFile]:
    """The files by the last part of their address."""
    found: dict[str, StaticFile] = {}
    for path in (importlib.resources.files("guildhall.pages") / "static").iterdir():
        stem, _, kind = path.name.rpartition(".")
        if kind not in _TYPES:
            continue
        body = path.read_bytes()
        name = f"{stem}.{hashlib.sha256(body).hexdigest()[:10]}.{kind}"
        headers = [(b"content-type", f"{_TYPES[kind]}; charset=utf-8".encode()), _FOREVER]
        found[name] = StaticFile(f"/static/{name}", headers, body, gzip.compress(body, mtime=0))
    return found


def _static_url(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    return next(
        file.url
        for known, file in static_files().items()
        if known.startswith(f"{stem}.") and known.endswith(f".{kind}")
    )


@functools.cache
def _words() -> Mapping[str, str]:
    """Every sentence of the pages by its key, `section.name`."""
    text = (importlib.resources.files("guildhall.pages") / "locales" / "en.toml").read_text("utf-8")
    return {
        f"{section}.{name}": sentence
        for section, sentences in tomllib.loads(text).items()
        for name, sentence in sentences.items()
    }


def words(key: str, **values: object) -> Markup:
    """The sentence of that key, with the values in its {places} escaped. Raises KeyError."""
    return escape(_words()[key]).format(**values)


@functools.lru_cache(maxsize=256)
def markdown(text: str) -> Markup:
    """Somebody's Markdown as HTML: no raw HTML, no images from elsewhere, links to https, http, mailto.

    The longest posts take tens of milliseconds: not for the event loop.
    """
    html = clean_text(_markdown().render(text), _MARKDOWN_TAGS)
    # What scrolls can be scrolled by keyboard. A text has no such mark left that is not an element.
    return Markup(html.replace("<pre>", '<pre tabindex="0">'))  # noqa: S704 - cleaned above


_MARKDOWN_TAGS = {
    *("p", "br", "hr", "em", "strong", "del", "s", "a", "code", "pre", "blockquote", "ul", "ol", "li"),
    *("h1", "h2", "h3", "h4", "h5", "h6"),
}


@functools.cache
def _markdown() -> markdown_it.MarkdownIt:
    # Tables are left out: every row has as many cells as the first, so that a short text makes a huge one.
    made = markdown_it.MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["strikethrough"])
    made.core.ruler.push("bare_links", _link_bare)
    return made


# An address that stands in a text by itself, without the punctuation that follows it.
_BARE = re.compile(r"https?://[^\s<>]*[^\s<>.,;:!?'\")\]}*_~]")


def _link_bare(state: StateCore) -> None:
    for token in state.tokens:
        if token.children:
            token.children = list(_linked(token.children))


def _linked(tokens: Sequence[Token]) -> Iterator[Token]:
    inside = 0
    for token in tokens:
        if token.type in ("link_open", "link_close"):
            inside += token.nesting
        if token.type != "text" or inside:
            yield token
            continue
        at = 0
        for found in _BARE.finditer(token.content):
            yield Token("text", "", 0, content=token.content[at : found.start()])
            yield Token("link_open", "a", 1, attrs={"href": found[0]})
            yield Token("text", "", 0, content=found[0])
            yield Token("link_close", "a", -1)
            at = found.end()
        yield Token("text", "", 0, content=token.content[at:])


def _links(text: str, public_url: str) -> Markup:
    """Text of ours with its links to this server as links."""
    return Markup(  # noqa: S704 - what is not the link was escaped
        _LINK.sub(lambda found: _link(found[0], public_url), str(escape(text)))
    )


_LINK = re.compile(r"https?://[^\s<>&]+")


def _link(url: str, public_url: str) -> str:
    path = url.removeprefix(public_url)
    return f'<a href="{path}">{url}</a>' if path.startswith("/") else url


def _code(text: str) -> Markup:
    """Text of ours with what stands between `marks` as code."""
    return Markup(_MARKED.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped


_MARKED = re.compile(r"`([^`]+)`")


def _initials(name: str | None) -> str:
    parts = (name or "?").split()
    return "".join(part[0] for part in (parts[:1] + parts[1:][-1:])).upper() or "?"


@functools.cache
def _templates() -> jinja2.Environment:
    # Untyped, since the library leaves the kinds of its own tables open.
    made: Any = jinja2.Environment(
        loader=jinja2.PackageLoader("guildhall.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(links=_links, initials=_initials, path=_path, json=_json)
    made.filters.update(is_image=_is_image, code=_code)
    made.globals.update(
        t=words,
        static=_static_url,
        version=__version__,
        script_words={
            key.removeprefix("script."): sentence
            for key, sentence in _words().items()
            if key.startswith("script.")
        },
    )
    made.globals.update(made.get_template("parts.html").module.__dict__)
    return made


def file_name(url: str) -> str:
    """The last part of an address, for a file of which no better name is known."""
    return unquote(urlsplit(url).path.rpartition("/")[2])


def _is_image(url: str) -> bool:
    return file_name(url).lower().endswith((".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif"))


def _path(value: object) -> str:
    """A value as one part of a path."""
    return quote(str(value), safe="")


def _json(value: Any) -> str:
    """JSON for an attribute, which the template escapes like any other text."""
    return msgspec.json.encode(value).decode()


def page(
    service: Service, template: str, frame: Frame | None, *, section: str = "", **values: object
) -> Answer:
    """The page of `templates/{template}.html`, as `frame` (who looks at it, or nobody) sees it."""
    return _Page(200, _headers(service), _html(service, template, frame, section=section, **values))


class _Page(Answer):
    """HTML, compressed where it is worth it and the browser takes it.

    Nobody learns a secret from a page's size: the pages that hold one, the link of an invite, show nothing
    that whoever may not see the link could have put there.
    """

    def to_asgi_response(self, *_: Any, request: Request[Any, Any, Any], **__: Any) -> Raw:  # pyright: ignore[reportIncompatibleMethodOverride]
        headers, body = [*self._raw, _VARY], self.content
        if len(body) > SMALL and "gzip" in request.headers.get("accept-encoding", ""):
            headers.append((b"content-encoding", b"gzip"))
            body = gzip.compress(body, compresslevel=4, mtime=0)
        return Raw(self.status_code or 200, headers, body)


def _html(service: Service, template: str, frame: Frame | None, **values: object) -> bytes:
    return _templates().get_template(f"{template}.html").render(values, me=frame, service=service).encode()


def _headers(service: Service) -> Headers:
    return [_CONTENT_TYPE, _policy(service.content_hosts)]


@functools.cache
def _policy(content_hosts: frozenset[str]) -> tuple[bytes, bytes]:
    """Scripts and styles from us alone; pictures and uploads also from where files are kept."""
    hosts = "".join(f" https://{host}" for host in sorted(content_hosts))
    return (
        b"content-security-policy",
        (
            "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
            f"img-src 'self' data:{hosts}; connect-src 'self'{hosts}; "
            "form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'"
        ).encode(),
    )


def error_page(
    service: Service, error: AppError, path: str, request_id: str, signed_in: bool
) -> tuple[int, Headers, bytes]:
    """What a browser is shown in place of a problem document.

    Somebody signed in keeps the way to what is theirs; their name is not read for it.
    """
    if error.status == 401:
        return 303, [(b"location", f"/sign-in?next={quote(path, safe='/')}".encode())], b""
    if error.code == "not_synced":
        return 200, _headers(service), _html(service, "welcome", None, section="")
    status = "404" if isinstance(error, NotFound) else str(error.status)
    known = status if status in ("403", "404", "429", "500", "503") else "other"
    body = _html(
        service,
        "error",
        SOMEBODY if signed_in else None,
        section="",
        known=known,
        error=error,
        request_id=request_id,
    )
    return error.status, _headers(service), body


def redirect(path: str) -> Answer:
    """Go on to a page of ours."""
    return Answer(303, [(b"location", inside(path).encode())], b"")


def inside(path: str | None) -> str:
    """The path, where it is one within this site; the home page else."""
    if (
        path is None
        or not path.startswith("/")
        or path.startswith(("//", "/\\"))
        or not path.isascii()
        or any(character <= " " or character in "\\{}\x7f" for character in path)
    ):
        return "/"
    return path
