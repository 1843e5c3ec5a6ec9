"""Which blob URLs are taken from users, and how a stored file is handed to a browser."""

from string import printable
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guildhall.providers.blobs import is_name
from guildhall.providers.blobs.content import content_type_of, disposition, extension_of
from guildhall.providers.blobs.urls import is_allowed_blob_url

HOST = "abc123.public.blob.vercel-storage.com"
OTHER = "blobs.example.org"
OWN = "http://localhost:3002/blobs/"
HOSTS = {HOST, OTHER}
OWN_PREFIXES = [OWN]

ALLOWED = [
    f"https://{HOST}/avatars/ada.png",
    f"https://{OTHER}/a",
    f"https://{HOST}/avatars/ada%20l.png?download=1",
    f"https://{HOST}/a/(b)/c~d_e-f.tar.gz",
    f"https://{HOST}/%C3%A4.png",
    f"https://{HOST}/@user/it's",
    f"https://{HOST}/" + "a" * (2_048 - len(HOST) - 9),
    f"{OWN}avatars/0192aa.png",
    f"{OWN}a.txt",
]

HOSTILE = [
    "",
    "/",
    "//",
    HOST,
    f"{HOST}/a.png",
    f"//{HOST}/a.png",
    f"http://{HOST}/a.png",
    f"HTTPS://{HOST}/a.png",
    f"ftp://{HOST}/a.png",
    f"https:/{HOST}/a.png",
    f"https:///{HOST}/a.png",
    f"https:{HOST}/a.png",
    f"https:\\\\{HOST}\\a.png",
    f"https://{HOST}",
    f"https://{HOST}/",
    f"https://{HOST}?a.png",
    f"https://{HOST}#a.png",
    f"https://{HOST}\\a.png",
    f"https://{HOST}/a\\b.png",
    f"https://{HOST}:443/a.png",
    f"https://{HOST}:8443/a.png",
    f"https://{HOST}:/a.png",
    f"https://user@{HOST}/a.png",
    f"https://user:password@{HOST}/a.png",
    f"https://@{HOST}/a.png",
    f"https://:@{HOST}/a.png",
    f"https://{HOST}@evil.example/a.png",
    f"https://evil.example@{OTHER}@evil.example/a.png",
    f"https://evil.example/{HOST}/a.png",
    f"https://evil.example/?https://{HOST}/a.png",
    f"https://evil.example#{HOST}/a.png",
    f"https://evil.example\\@{HOST}/a.png",
    f"https://{HOST}.evil.example/a.png",
    f"https://{HOST}./a.png",
    f"https://evil-{HOST}/a.png",
    f"https://x.{HOST}/a.png",
    f"https://{HOST.upper()}/a.png",
    f"https://{HOST[1:]}/a.png",
    "https://public.blob.vercel-storage.com/a.png",
    "https://vercel-storage.com/a.png",
    f"https://{HOST.replace('.', '。')}/a.png",
    f"https://{HOST.replace('a', 'а')}/a.png",
    f"https://{HOST}%00/a.png",
    f"https://%61{HOST[1:]}/a.png",
    f"https://{HOST}%2fa.png",
    "https://127.0.0.1/a.png",
    "https://[::1]/a.png",
    "https://localhost/a.png",
    "https://169.254.169.254/latest/meta-data/",
    "https://0x7f000001/a.png",
    f" https://{HOST}/a.png",
    f"https://{HOST}/a.png ",
    f"https://{HOST}/a b.png",
    f"https://{HOST}/a.png\n",
    f"https://{HOST}/a\r\nX-Evil: 1",
    f"https://{HOST}/a\x00.png",
    f"https://{HOST}/a\x7f.png",
    f"https://{HOST}/a\x85.png",
    f"https://{HOST}/a\u2028.png",
    f"https://{HOST}/a\u202egnp.exe",
    f"https://{HOST}/a\u200b.png",
    f"https://{HOST}/ä.png",
    f"https://{HOST}/a\ud800.png",
    f"https://{HOST}\t/a.png",
    f"ht\ntps://{HOST}/a.png",
    f"https://\u200b{HOST}/a.png",
    f"https://{HOST}/%00.png",
    f"https://{HOST}/%0d%0aSet-Cookie:x",
    f"https://{HOST}/%1F.png",
    f"https://{HOST}/%7f.png",
    f"https://{HOST}/%.png",
    f"https://{HOST}/%4",
    f"https://{HOST}/%zz.png",
    f'https://{HOST}/"onload="alert(1)',
    f"https://{HOST}/<script>",
    f"https://{HOST}/a`b`",
    f"https://{HOST}/{{a}}",
    f"https://{HOST}/a|b",
    f"https://{HOST}/a^b",
    f"https://{HOST}/a.png#fragment",
    f"https://{HOST}/" + "a" * (2_048 - len(HOST) - 8),
    "javascript:alert(1)",
    f"javascript://{HOST}/%0aalert(1)",
    "data:image/png;base64,AAAA",
    f"blob:https://{HOST}/a.png",
    "file:///etc/passwd",
    f"view-source:https://{HOST}/a.png",
    f"url:https://{HOST}/a.png",
    OWN,
    OWN[:-1],
    f"{OWN}../secret.png",
    f"{OWN}a/../../b.png",
    f"{OWN}/a.png",
    f"{OWN}a.png?x=1",
    f"{OWN}a.png#x",
    f"{OWN}a.png\n",
    f"{OWN}%61.png",
    f"{OWN}a.ico",
    f"{OWN}A.png",
    f"{OWN}https://evil.example/a.png",
    "http://localhost:3002/blobs.evil.example/a.png",
    "http://localhost:3002@evil.example/blobs/a.png",
    "http://localhost:30020/blobs/a.png",
    "http://localhost/blobs/a.png",
    "https://localhost:3002/blobs/a.png",
    "HTTP://localhost:3002/blobs/a.png",
    "http://LOCALHOST:3002/blobs/a.png",
    "http://localhost:3002/Blobs/a.png",
    "http://localhost:3002//blobs/a.png",
    "/blobs/a.png",
    "blobs/a.png",
]


@pytest.mark.parametrize("url", ALLOWED)
def test_a_blob_url_of_ours_or_of_a_configured_host_is_taken(url: str) -> None:
    assert is_allowed_blob_url(url, HOSTS, OWN_PREFIXES)


def test_the_list_of_hostile_urls_is_long_and_without_repetition() -> None:
    assert len(HOSTILE) == len(set(HOSTILE)) >= 60


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_url_is_refused(url: str) -> None:
    assert not is_allowed_blob_url(url, HOSTS, OWN_PREFIXES)


@pytest.mark.parametrize("url", [*ALLOWED, *HOSTILE])
def test_with_nothing_configured_every_url_is_refused(url: str) -> None:
    assert not is_allowed_blob_url(url, [], [])
    assert not is_allowed_blob_url(url, [""], [""])
    # One text given for a list must not admit every part of itself.
    assert not is_allowed_blob_url(url, f"x{HOST}", OWN)


def test_a_prefix_without_its_slash_admits_nothing() -> None:
    assert not is_allowed_blob_url("http://hall/blobsx.png", [], ["http://hall/blobs"])


fragments = st.sampled_from(
    ["https://", "http://", HOST, OTHER, OWN, "/", "//", "@", ":", "?", "#", "\\", ".", "..", "%", "%00", "a"]
)


@given(st.lists(fragments | st.text(max_size=4), max_size=8).map("".join))
@example(f"https://{HOST}/a")
def test_whatever_is_taken_is_read_alike_by_every_parser(url: str) -> None:
    if not is_allowed_blob_url(url, HOSTS, OWN_PREFIXES):
        return
    assert len(url) <= 2_048 and url.isascii() and url.isprintable() and " " not in url
    if url.startswith(OWN):
        assert is_name(url.removeprefix(OWN))
        return
    standard, other = urlsplit(url), httpx.URL(url)
    assert standard.scheme == other.scheme == "https"
    assert standard.netloc == standard.hostname == other.host and other.host in HOSTS
    assert other.port is None and other.userinfo == b"" and other.fragment == ""


@given(st.text(max_size=30) | st.text(alphabet="a/-.0png", max_size=30))
def test_a_name_never_leaves_its_folder(name: str) -> None:
    if is_name(name):
        segments = name.split("/")
        assert all(segment not in ("", ".", "..") for segment in segments)
        assert name.count(".") == 1 and "." in segments[-1]
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-/.")


# --- how a file is served -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "shown"),
    [
        ("image/png", "inline"),
        ("image/jpeg", "inline"),
        ("image/webp", "inline"),
        ("image/gif", "inline"),
        ("IMAGE/PNG; x=1", "inline"),
        ("image/svg+xml", "attachment"),
        ("application/pdf", "attachment"),
        ("text/html", "attachment"),
        ("text/plain", "attachment"),
        ("application/xhtml+xml", "attachment"),
        ("", "attachment"),
        ("image/png\r\nX-Evil: 1", "attachment"),
    ],
)
def test_only_raster_images_are_shown_in_place(content_type: str, shown: str) -> None:
    headers = disposition(content_type, "file")
    assert headers["Content-Disposition"].startswith(f"{shown};")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"


@pytest.mark.parametrize(
    ("content_type", "sent"),
    [
        ("image/png", "image/png"),
        ("text/html", "text/html; charset=utf-8"),
        ("text/plain; charset=latin-1", "text/plain; charset=utf-8"),
        ("image/svg+xml", "image/svg+xml; charset=utf-8"),
        ("image/x-icon", "application/octet-stream"),
        ("text/xml", "application/octet-stream"),
    ],
)
def test_a_file_is_sent_under_a_type_we_know(content_type: str, sent: str) -> None:
    assert disposition(content_type, "file")["Content-Type"] == sent


@pytest.mark.parametrize(
    ("filename", "suggested"),
    [
        ("Zoë – résumé.pdf", "Zoë – résumé.pdf"),
        ("", "file"),
        ("...", "file"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\Windows\\a.exe", "C__Windows_a.exe"),
        ('a"; filename="evil.exe', "a_; filename=_evil.exe"),
        ("a\r\nX-Evil: 1", "a__X-Evil_ 1"),
        ("invoice\u202efdp.exe", "invoice_fdp.exe"),
        ("a\ud800b\x00c", "a_b_c"),
        ("x" * 500, "x" * 150),
        ("日本語.txt", "日本語.txt"),
    ],
)
def test_a_filename_is_suggested_without_what_could_mislead(filename: str, suggested: str) -> None:
    header = disposition("application/pdf", filename)["Content-Disposition"]
    assert header.endswith(f"; filename*=UTF-8''{quote(suggested, safe='')}")
    assert header.isascii() and set(header) <= set(printable) - set("\r\n\t\x0b\x0c")
    assert header.count('"') == 2


@given(st.text(max_size=200), st.text(max_size=40))
def test_no_filename_and_no_type_breaks_a_header(filename: str, content_type: str) -> None:
    for name, value in disposition(content_type, filename).items():
        assert name.isascii() and value.isascii() and value.isprintable()


def test_every_accepted_type_has_one_extension_that_leads_back_to_it() -> None:
    for kind in ("image/png", "image/jpeg", "image/webp", "image/gif", "application/pdf", "text/plain"):
        extension = extension_of(kind)
        assert extension is not None and content_type_of(f"a.{extension}") == kind
    assert extension_of("text/x-python") == "txt"
    assert extension_of("Text/Markdown; charset=UTF-8") == "md"
    assert extension_of("image/svg+xml") == "svg"
    assert extension_of("image/x-icon") is None
