"""What Blobs promises, run over a local folder and over an S3-compatible server on a real socket."""

import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from guildhall.errors import NotFound, Unavailable
from guildhall.providers.blobs import (
    Blobs,
    BlobsSettings,
    ContentMismatch,
    TooLarge,
    UnsupportedType,
    open_blobs,
)
from guildhall.providers.blobs.store import PART_BYTES, StoredBlobs
from guildhall.secret import Secret
from tests.providers.http_server import Request, Response
from tests.providers.s3_server import BUCKET, S3Server, serve_s3

MIB = 1024 * 1024
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + bytes(32)
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(32)
GIF = b"GIF89a\x01\x00\x01\x00" + bytes(32)
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 " + bytes(32)
PDF = b"%PDF-1.7\n" + bytes(32)
SVG = b"<svg onload=alert(1)>"
TEXT = "Grüße aus der Gilde\n".encode()

SAMPLES = [
    ("a/one.png", "image/png", PNG),
    ("a/one.jpg", "image/jpeg", JPEG),
    ("a/one.gif", "image/gif", GIF),
    ("a/one.webp", "image/webp", WEBP),
    ("a/one.pdf", "application/pdf", PDF),
    ("a/one.txt", "text/plain", TEXT),
    ("a/one.md", "text/markdown", TEXT),
    ("a/one.html", "text/html", b"<script>alert(1)</script>"),
]


@dataclass
class Bench:
    blobs: Blobs
    # Everything there is in the store, also what its users cannot see.
    residue: Callable[[], list[str]]
    server: S3Server | None = None


OpenBench = Callable[[Path], AbstractAsyncContextManager[Bench]]


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def settings_for(options: dict[str, str]) -> BlobsSettings:
    return BlobsSettings(f"s3://{BUCKET}/halls/one", {k: Secret(v) for k, v in options.items()})


@asynccontextmanager
async def folder_bench(folder: Path) -> AsyncIterator[Bench]:
    home = folder / "blo bs"
    blobs = open_blobs(BlobsSettings(home.as_uri()))
    yield Bench(blobs, lambda: files_in(home))
    await blobs.aclose()


@asynccontextmanager
async def s3_bench(_folder: Path) -> AsyncIterator[Bench]:
    async with serve_s3() as (server, options):
        blobs = StoredBlobs(settings_for(options), connect_s=0.5, total_s=2)
        prefix = "halls/one/"
        yield Bench(
            blobs,
            lambda: [key.removeprefix(prefix) for key in server.objects] + list(server.open_uploads),
            server,
        )
        await blobs.aclose()


BENCHES: dict[str, OpenBench] = {"folder": folder_bench, "s3": s3_bench}
every_store = pytest.mark.parametrize("bench", BENCHES.values(), ids=BENCHES.keys())


async def pieces(body: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def read(blobs: Blobs, name: str) -> bytes:
    return b"".join([chunk async for chunk in (await blobs.open(name)).chunks])


def png_of(size: int) -> bytes:
    return PNG + os.urandom(size - len(PNG))


# --- storing and reading --------------------------------------------------------------------------------


@every_store
@pytest.mark.parametrize(("name", "content_type", "body"), SAMPLES, ids=[t for _, t, _ in SAMPLES])
async def test_a_file_comes_back_as_it_was_stored(
    bench: OpenBench, tmp_path: Path, name: str, content_type: str, body: bytes
) -> None:
    async with bench(tmp_path) as b:
        assert not await b.blobs.exists(name)
        stored = await b.blobs.put(name, pieces(body, 7), content_type, 1_000)
        assert (stored.size_bytes, stored.sha256) == (len(body), hashlib.sha256(body).hexdigest())
        assert await b.blobs.exists(name)
        opened = await b.blobs.open(name)
        assert (opened.content_type, opened.size_bytes) == (content_type, len(body))
        assert await read(b.blobs, name) == body
        assert b.residue() == [name]


@every_store
@pytest.mark.parametrize(
    "size", [PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, PART_BYTES + MIB, 2 * PART_BYTES, 25 * MIB]
)
async def test_large_files_come_back_unchanged_at_every_boundary(
    bench: OpenBench, tmp_path: Path, size: int
) -> None:
    body = png_of(size)
    async with bench(tmp_path) as b:
        stored = await b.blobs.put("big/file.png", pieces(body), "image/png", 25 * MIB)
        assert stored.size_bytes == size
        assert await read(b.blobs, "big/file.png") == body
        assert b.residue() == ["big/file.png"]


@every_store
async def test_an_empty_text_is_a_file_and_an_empty_image_is_none(bench: OpenBench, tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        assert (await b.blobs.put("a/empty.txt", pieces(b""), "text/plain", 10)).size_bytes == 0
        assert await read(b.blobs, "a/empty.txt") == b""
        with pytest.raises(ContentMismatch):
            await b.blobs.put("a/empty.png", pieces(b""), "image/png", 10)
        assert b.residue() == ["a/empty.txt"]


@every_store
async def test_deleting_is_harmless_to_repeat_and_what_is_gone_is_not_found(
    bench: OpenBench, tmp_path: Path
) -> None:
    async with bench(tmp_path) as b:
        await b.blobs.put("a/one.png", pieces(PNG), "image/png", 100)
        for _ in range(3):
            await b.blobs.delete("a/one.png")
        assert not await b.blobs.exists("a/one.png")
        with pytest.raises(NotFound):
            await b.blobs.open("a/one.png")
        assert b.residue() == []


@every_store
async def test_two_readers_and_a_writer_do_not_disturb_each_other(bench: OpenBench, tmp_path: Path) -> None:
    one, two = png_of(6 * MIB), png_of(3 * MIB)
    async with bench(tmp_path) as b:
        await b.blobs.put("a/one.png", pieces(one), "image/png", 25 * MIB)
        answers = await asyncio.gather(
            read(b.blobs, "a/one.png"),
            read(b.blobs, "a/one.png"),
            b.blobs.put("a/two.png", pieces(two), "image/png", 25 * MIB),
        )
        assert answers[0] == answers[1] == one
        assert await read(b.blobs, "a/two.png") == two


@every_store
async def test_a_file_deleted_while_it_is_read_ends_in_an_error_and_not_in_silence(
    bench: OpenBench, tmp_path: Path
) -> None:
    async with bench(tmp_path) as b:
        await b.blobs.put("a/one.png", pieces(png_of(6 * MIB)), "image/png", 25 * MIB)
        opened = await b.blobs.open("a/one.png")
        assert await anext(opened.chunks)
        await b.blobs.delete("a/one.png")
        with pytest.raises(Unavailable):
            await anext(opened.chunks)


@every_store
async def test_a_file_replaced_while_it_is_read_is_never_mixed(bench: OpenBench, tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.blobs.put("a/one.png", pieces(png_of(6 * MIB)), "image/png", 25 * MIB)
        opened = await b.blobs.open("a/one.png")
        assert await anext(opened.chunks)
        await b.blobs.put("a/one.png", pieces(png_of(6 * MIB)), "image/png", 25 * MIB)
        with pytest.raises(Unavailable):
            await anext(opened.chunks)


# --- what is refused ------------------------------------------------------------------------------------


@every_store
@pytest.mark.parametrize("claimed", [(n, t) for n, t, _ in SAMPLES], ids=[t for _, t, _ in SAMPLES])
@pytest.mark.parametrize(
    "body",
    [
        PNG,
        JPEG,
        GIF,
        WEBP,
        PDF,
        TEXT,
        b"<svg onload=alert(1)>",
        b"\x89PNG\r\n\x1a\n<script>",
        b"RIFFxxxxWAVE",
    ],
    ids=["png", "jpeg", "gif", "webp", "pdf", "text", "svg", "half a png", "wave"],
)
async def test_a_file_is_stored_only_as_what_it_is(
    bench: OpenBench, tmp_path: Path, claimed: tuple[str, str], body: bytes
) -> None:
    name, content_type = claimed
    honest = next((t for _, t, sample in SAMPLES if sample == body), None)
    is_text = body in (TEXT, SVG, b"RIFFxxxxWAVE")
    async with bench(tmp_path) as b:
        if content_type == honest or (is_text and content_type.startswith("text/")):
            await b.blobs.put(name, pieces(body), content_type, 1_000)
            assert b.residue() == [name]
        else:
            with pytest.raises(ContentMismatch):
                await b.blobs.put(name, pieces(body), content_type, 1_000)
            assert b.residue() == []


@every_store
@pytest.mark.parametrize("tail", [b"\xff", b"\x00", b"\xc3", b"\xed\xa0\x80"])
async def test_text_that_stops_being_text_late_leaves_nothing(
    bench: OpenBench, tmp_path: Path, tail: bytes
) -> None:
    body = TEXT * (7 * MIB // len(TEXT)) + tail
    async with bench(tmp_path) as b:
        with pytest.raises(ContentMismatch):
            await b.blobs.put("a/one.txt", pieces(body), "text/plain", 25 * MIB)
        assert b.residue() == []


@every_store
@pytest.mark.parametrize("limit", [len(PNG), 25 * MIB])
async def test_the_limit_is_exact(bench: OpenBench, tmp_path: Path, limit: int) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(TooLarge):
            await b.blobs.put("a/over.png", pieces(png_of(limit) + b"x"), "image/png", limit)
        assert b.residue() == []
        await b.blobs.put("a/at.png", pieces(png_of(limit)), "image/png", limit)
        assert b.residue() == ["a/at.png"]


@every_store
@pytest.mark.parametrize(
    "content_type",
    ["image/x-icon", "application/json", "application/x-msdownload", "video/mp4", "", "text/"],
)
async def test_other_types_are_not_accepted(bench: OpenBench, tmp_path: Path, content_type: str) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(UnsupportedType):
            await b.blobs.put("a/one.txt", pieces(TEXT), content_type, 100)


HOSTILE_NAMES = [
    "",
    ".png",
    "a",
    "a.",
    "a.exe",
    "a.PNG",
    "A.png",
    "/a.png",
    "a//b.png",
    "a/.png",
    "../a.png",
    "a/../b.png",
    "a/./b.png",
    "..png",
    "a.b.png",
    "a.png/b.png",
    "a.png\n",
    "a.png\x00",
    "a\x00.png",
    "a b.png",
    "a%2e%2e.png",
    "a\\b.png",
    "a#1.png",
    "a.png#1",
    "a?.png",
    "ä.png",
    "a\u2215b.png",
    "a\u0660.png",
    "~.png",
    "c:/a.png",
    "a" * 201 + ".png",
    "file:///a.png",
]


@every_store
async def test_a_name_that_is_not_ours_touches_nothing(bench: OpenBench, tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        for name in HOSTILE_NAMES:
            with pytest.raises(ValueError):
                await b.blobs.put(name, pieces(PNG), "image/png", 1_000)
            for verb in (b.blobs.open, b.blobs.exists, b.blobs.delete):
                with pytest.raises(ValueError):
                    await verb(name)
        assert b.residue() == []
        longest = "a" * 200 + ".png"
        await b.blobs.put(longest, pieces(PNG), "image/png", 1_000)
        assert b.residue() == [longest]


async def test_a_name_says_its_type(tmp_path: Path) -> None:
    async with folder_bench(tmp_path) as b:
        with pytest.raises(ValueError):
            await b.blobs.put("a/one.html", pieces(PNG), "image/png", 1_000)


@pytest.mark.parametrize(
    "settings",
    [
        BlobsSettings(""),
        BlobsSettings("/var/blobs"),
        BlobsSettings("file://host/var/blobs"),
        BlobsSettings("file:///tmp/blobs?x=1"),
        BlobsSettings("https://example.com/blobs"),
        BlobsSettings("memory:///"),
        BlobsSettings("s3://bucket", {"no_such_option": Secret("5up3rs3cr3t")}),
        BlobsSettings("s3://bucket", {"allow_http": Secret("5up3rs3cr3t")}),
    ],
)
def test_settings_that_no_store_understands_are_refused_without_showing_them(
    settings: BlobsSettings,
) -> None:
    with pytest.raises(ValueError) as refused:
        open_blobs(settings)
    assert "5up3rs3cr3t" not in str(refused.value) + repr(settings)


# --- faults ---------------------------------------------------------------------------------------------


class ClientGone(Exception):
    pass


async def breaking_off(body: bytes, after: int) -> AsyncIterator[bytes]:
    async for piece in pieces(body[:after]):
        yield piece
    raise ClientGone


async def hanging(body: bytes, after: int, hung: asyncio.Event) -> AsyncIterator[bytes]:
    async for piece in pieces(body[:after]):
        yield piece
    hung.set()
    await asyncio.sleep(60)


@every_store
@pytest.mark.parametrize("after", [0, 100, 4 * MIB, 6 * MIB, 12 * MIB, 20 * MIB])
async def test_an_upload_that_breaks_off_leaves_nothing(bench: OpenBench, tmp_path: Path, after: int) -> None:
    body = png_of(20 * MIB)
    async with bench(tmp_path) as b:
        with pytest.raises(ClientGone):
            await b.blobs.put("a/one.png", breaking_off(body, after), "image/png", 25 * MIB)
        assert b.residue() == []


@every_store
@pytest.mark.parametrize("after", [0, 100, 6 * MIB, 12 * MIB])
async def test_a_cancelled_upload_leaves_nothing(bench: OpenBench, tmp_path: Path, after: int) -> None:
    async with bench(tmp_path) as b:
        hung = asyncio.Event()
        body = png_of(20 * MIB)
        putting = asyncio.create_task(
            b.blobs.put("a/one.png", hanging(body, after, hung), "image/png", 25 * MIB)
        )
        await hung.wait()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert b.residue() == []


@every_store
@pytest.mark.parametrize("size", [MIB, 12 * MIB])
async def test_an_upload_cancelled_at_any_moment_leaves_nothing_or_was_already_done(
    bench: OpenBench, tmp_path: Path, size: int
) -> None:
    body = png_of(size)
    outcomes: set[str] = set()
    async with bench(tmp_path) as b:
        for turn in range(60):
            name = f"a/turn-{turn}.png"
            putting = asyncio.create_task(b.blobs.put(name, pieces(body), "image/png", 25 * MIB))
            # A moment is counted in turns of the loop at first, then in time, to reach the last step too.
            for _ in range(turn):
                await asyncio.sleep(0)
            await asyncio.sleep(turn / 1_000 if turn % 2 else 0)
            putting.cancel()
            try:
                await putting
                outcomes.add("done")
                await b.blobs.delete(name)
            except asyncio.CancelledError:
                outcomes.add("cancelled")
            assert b.residue() == []
    assert "cancelled" in outcomes


@every_store
async def test_an_upload_cancelled_twice_still_leaves_nothing(bench: OpenBench, tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        hung = asyncio.Event()
        body = png_of(20 * MIB)
        putting = asyncio.create_task(
            b.blobs.put("a/one.png", hanging(body, 12 * MIB, hung), "image/png", 25 * MIB)
        )
        await hung.wait()
        putting.cancel()
        await asyncio.sleep(0)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        await b.blobs.aclose()
        assert b.residue() == []


async def test_a_store_that_stops_taking_parts_leaves_no_upload_open_and_tells_the_uploader(
    tmp_path: Path,
) -> None:
    async with s3_bench(tmp_path) as b:
        assert b.server is not None

        async def full(request: Request) -> Response:
            wanted = request.method == "PUT" and request.query.get("partNumber") == "2"
            return Response(507 if wanted else 0)

        b.server.fault = full
        with pytest.raises(Unavailable):
            await b.blobs.put("a/one.png", pieces(png_of(20 * MIB)), "image/png", 25 * MIB)
        assert b.residue() == []


async def test_a_store_that_cannot_finish_an_upload_leaves_nothing_visible(tmp_path: Path) -> None:
    async with s3_bench(tmp_path) as b:
        assert b.server is not None

        async def unfinishable(request: Request) -> Response:
            return Response(500 if request.method == "POST" and "uploadId" in request.query else 0)

        b.server.fault = unfinishable
        with pytest.raises(Unavailable):
            await b.blobs.put("a/one.png", pieces(png_of(8 * MIB)), "image/png", 25 * MIB)
        assert b.residue() == []


FAULTS: dict[str, Callable[[Request], Awaitable[Response | None]]] = {}


def fault(function: Callable[[Request], Awaitable[Response | None]]) -> None:
    FAULTS[function.__name__.replace("_", " ")] = function


@fault
async def is_broken(_: Request) -> Response:
    return Response(500)


@fault
async def is_busy(_: Request) -> Response:
    return Response(503, {"Retry-After": "1"})


@fault
async def forbids(_: Request) -> Response:
    return Response(403)


@fault
async def hangs_up(_: Request) -> None:
    return None


@fault
async def is_slow(_: Request) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize("name", FAULTS)
async def test_a_store_that_fails_is_unavailable_and_soon(tmp_path: Path, name: str) -> None:
    async with serve_s3() as (server, options):
        blobs = StoredBlobs(settings_for(options), connect_s=0.2, total_s=0.3)
        await blobs.put("a/kept.png", pieces(PNG), "image/png", 1_000)
        server.fault = FAULTS[name]
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: blobs.put("a/new.png", pieces(PNG), "image/png", 1_000),
            lambda: blobs.put("a/big.png", pieces(png_of(6 * MIB)), "image/png", 25 * MIB),
            lambda: blobs.open("a/kept.png"),
            lambda: blobs.exists("a/kept.png"),
            lambda: blobs.delete("a/kept.png"),
        ]
        for call in calls:
            started = time.monotonic()
            with pytest.raises(Unavailable) as failed:
                await call()
            assert time.monotonic() - started < 8
            assert "127.0.0.1" not in str(failed.value) and failed.value.__suppress_context__
        server.fault = None
        assert list(server.objects) == ["halls/one/a/kept.png"]
        assert await read(blobs, "a/kept.png") == PNG
        await blobs.aclose()


async def test_a_file_is_not_sent_where_a_redirect_points(tmp_path: Path) -> None:
    async with s3_bench(tmp_path) as b, serve_s3() as (elsewhere, options):
        assert b.server is not None

        async def redirect(_: Request) -> Response:
            return Response(307, {"Location": f"{options['endpoint']}/{BUCKET}/stolen"})

        b.server.fault = redirect
        for size in (len(PNG), 8 * MIB):
            with pytest.raises(Unavailable):
                await b.blobs.put("a/one.png", pieces(png_of(size)), "image/png", 25 * MIB)
        assert elsewhere.objects == {}
        assert not any(PNG in request.body for request in elsewhere.requests)


async def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    async with folder_bench(tmp_path) as b:
        (tmp_path / "blo bs" / "a").write_text("a file where a folder is needed")
        with pytest.raises(Unavailable):
            await b.blobs.put("a/one.png", pieces(PNG), "image/png", 1_000)
        with pytest.raises(Unavailable):
            await b.blobs.put("a/big.png", pieces(png_of(6 * MIB)), "image/png", 25 * MIB)
        assert b.residue() == ["a"]


# --- processes that are killed, and memory --------------------------------------------------------------

UPLOADER = """
import asyncio, json, os, sys
from guildhall.providers.blobs import BlobsSettings, open_blobs
from guildhall.secret import Secret

async def chunks(png, count):
    yield png
    for number in range(count):
        yield os.urandom(1024 * 1024)
        if number == 13 and hang:
            print("hanging", flush=True)
            await asyncio.sleep(60)

async def main():
    await blobs.put("a/one.png", chunks(bytes.fromhex(png), count), "image/png", 2**40)
    read = 0
    async for chunk in (await blobs.open("a/one.png")).chunks:
        read += len(chunk)
    return read

url, options, png, count, hang = json.loads(sys.argv[1])
blobs = open_blobs(BlobsSettings(url, {name: Secret(value) for name, value in options.items()}))
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
before = peak()
read = asyncio.run(main())
print(json.dumps([read, peak() - before]))
"""


async def uploader(
    url: str, options: dict[str, str], count: int, *, hang: bool
) -> asyncio.subprocess.Process:
    arguments = json.dumps([url, options, PNG.hex(), count, hang])
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", UPLOADER, arguments, stdout=asyncio.subprocess.PIPE
    )


async def kill_while_hanging(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 30) == b"hanging\n"
    process.send_signal(signal.SIGKILL)
    await process.wait()


async def test_a_process_killed_while_writing_a_file_leaves_nothing_visible_and_the_rest_is_swept(
    tmp_path: Path,
) -> None:
    await kill_while_hanging(await uploader(tmp_path.as_uri(), {}, 20, hang=True))
    blobs = open_blobs(BlobsSettings(tmp_path.as_uri()))
    assert not await blobs.exists("a/one.png")
    with pytest.raises(NotFound):
        await blobs.open("a/one.png")
    assert len(files_in(tmp_path)) == 1
    await blobs.put("a/one.png", pieces(PNG), "image/png", 1_000)
    # An upload in progress is younger than a day and is left alone.
    assert await blobs.sweep() == 0
    assert await blobs.sweep(older_than_s=-1) == 1
    assert files_in(tmp_path) == ["a/one.png"]


async def test_a_process_killed_while_writing_to_an_object_store_leaves_nothing_visible() -> None:
    async with serve_s3() as (server, options):
        await kill_while_hanging(await uploader(f"s3://{BUCKET}", options, 20, hang=True))
        assert server.objects == {}
        assert len(server.open_uploads) == 1


async def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    process = await uploader(tmp_path.as_uri(), {}, 200, hang=False)
    output, _ = await process.communicate()
    read_bytes, grown_bytes = json.loads(output)
    assert read_bytes == 200 * MIB + len(PNG)
    assert grown_bytes < 64 * MIB


async def test_a_reader_that_stops_early_holds_nothing_open(tmp_path: Path) -> None:
    async with s3_bench(tmp_path) as b:
        assert b.server is not None
        await b.blobs.put("a/one.png", pieces(png_of(20 * MIB)), "image/png", 25 * MIB)
        before = len(b.server.requests)
        opened = await b.blobs.open("a/one.png")
        assert await anext(opened.chunks)
        await asyncio.sleep(0.1)
        # One question for the size, one piece; the rest was never asked for.
        assert len(b.server.requests) - before == 2
