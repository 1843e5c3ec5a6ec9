"""Blobs on obstore: one code path for the local folder and for every object store."""

import asyncio
import contextlib
import hashlib
import os
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import obstore
import obstore.store
from obstore.exceptions import BaseError

from guildhall.errors import NotFound, Unavailable
from guildhall.providers.blobs import (
    BlobsSettings,
    ContentMismatch,
    Opened,
    Stored,
    TooLarge,
    UnsupportedType,
    is_name,
)
from guildhall.providers.blobs.content import (
    HEAD_BYTES,
    TextCheck,
    content_type_of,
    essence,
    extension_of,
    is_text,
    sniff,
)

# Up to one part goes in one request. S3 wants 5 MiB in every part of a larger upload but the last.
PART_BYTES = 5 * 1024 * 1024
BLOCK_BYTES = 1024 * 1024
READ_BYTES = 2 * 1024 * 1024
UNDO_S = 5.0

_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss"})
# These belong to the HTTP client; obstore takes them apart from the store's own.
_CLIENT_OPTIONS = frozenset(
    {"allow_http", "root_certificate", "proxy_url", "proxy_ca_certificate", "proxy_excludes", "user_agent"}
)
# The store stages a write beside its target, under the same name with `#` and a number.
_STAGED = re.compile(r".+#[0-9]+")

# The store's own type is a union that pyright knows only in part.
_Store = Any


class _Abandoned(Exception):
    """Given to the store in place of the next block, so that it aborts the upload itself."""


class StoredBlobs:
    """`connect_s` and `total_s` bound each request to an object store; a large file takes several."""

    def __init__(self, settings: BlobsSettings, *, connect_s: float = 3.0, total_s: float = 10.0) -> None:
        self._folder: Path | None = None
        self._undoing: set[asyncio.Task[None]] = set()
        scheme = urlsplit(settings.url).scheme
        if scheme == "file":
            self._folder = _folder(settings)
            self._store: _Store = obstore.store.LocalStore(self._folder)
        elif scheme in _OBJECT_STORES:
            self._store = _object_store(settings, connect_s, total_s)
        else:
            raise ValueError("blobs are kept at file:///…, s3://…, gs://… or az://…")

    async def put(self, name: str, chunks: AsyncIterator[bytes], content_type: str, max_bytes: int) -> Stored:
        _check_name(name)
        extension = extension_of(content_type)
        if extension is None:
            raise UnsupportedType()
        if not name.endswith(f".{extension}"):
            raise ValueError(f"a blob of type {content_type} has a name ending in .{extension}")
        upload = _Upload(self._store, name)
        inspection = _Inspection(content_type, max_bytes)
        try:
            async for chunk in chunks:
                inspection.add(chunk)
                await upload.write(chunk)
            stored = inspection.finish()
            await upload.commit()
            await self._make_durable(name)
        except BaseException:
            # Also when this task is cancelled once more: the undoing goes on by itself.
            undoing = asyncio.create_task(upload.undo())
            self._undoing.add(undoing)
            undoing.add_done_callback(self._undoing.discard)
            await asyncio.wait({undoing}, timeout=UNDO_S)
            raise
        return stored

    async def open(self, name: str) -> Opened:
        _check_name(name)
        with _store_errors():
            meta = await obstore.head_async(self._store, name)
        content_type = content_type_of(name)
        assert content_type is not None
        return Opened(content_type, meta["size"], self._read(name, meta["size"], meta["e_tag"]))

    async def exists(self, name: str) -> bool:
        _check_name(name)
        try:
            with _store_errors():
                await obstore.head_async(self._store, name)
        except NotFound:
            return False
        return True

    async def delete(self, name: str) -> None:
        _check_name(name)
        with contextlib.suppress(NotFound), _store_errors():
            await obstore.delete_async(self._store, name)

    async def sweep(self, older_than_s: float = 86_400) -> int:
        # An object store hides an unfinished upload and drops it by a lifecycle rule of the bucket.
        if self._folder is None:
            return 0
        return await asyncio.to_thread(_sweep, self._folder, older_than_s)

    async def aclose(self) -> None:
        if self._undoing:
            await asyncio.wait(self._undoing, timeout=UNDO_S)

    async def _read(self, name: str, size_bytes: int, e_tag: str | None) -> AsyncGenerator[bytes]:
        """One short request for each piece: a slow reader holds no connection to the store."""
        for start in range(0, size_bytes, READ_BYTES):
            options: dict[str, Any] = {"range": (start, min(start + READ_BYTES, size_bytes))}
            if e_tag is not None:
                options["if_match"] = e_tag
            try:
                with _store_errors():
                    result = await obstore.get_async(self._store, name, options=cast("Any", options))
                    piece = await result.bytes_async()
            except NotFound:
                raise Unavailable("The file was deleted while it was read.") from None
            yield bytes(piece)

    async def _make_durable(self, name: str) -> None:
        """The store leaves it to the system when a finished file reaches the disk; we do not."""
        if self._folder is not None:
            with _store_errors():
                await asyncio.to_thread(_sync, self._folder, self._folder / name)


class _Inspection:
    """Counts, hashes and judges the bytes as they pass."""

    def __init__(self, content_type: str, max_bytes: int) -> None:
        self._kind = essence(content_type)
        self._text = TextCheck() if is_text(self._kind) else None
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._head = b""

    def add(self, chunk: bytes) -> None:
        self._size_bytes += len(chunk)
        if self._size_bytes > self._max_bytes:
            raise TooLarge(f"The file is larger than {self._max_bytes} bytes.")
        if len(self._head) < HEAD_BYTES:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
            if len(self._head) == HEAD_BYTES:
                self._judge_head()
        if self._text is not None and not self._text.accepts(chunk):
            raise ContentMismatch("The file is not text in UTF-8.")
        self._sha256.update(chunk)

    def finish(self) -> Stored:
        if len(self._head) < HEAD_BYTES:
            self._judge_head()
        if self._text is not None and not self._text.accepts(b"", final=True):
            raise ContentMismatch("The file is not text in UTF-8.")
        return Stored(self._size_bytes, self._sha256.hexdigest())

    def _judge_head(self) -> None:
        expected = None if self._text is not None else self._kind
        if sniff(self._head) != expected:
            raise ContentMismatch()


class _Upload:
    """Writes one object. Up to one part is kept here and sent in a single request; more is streamed.

    A cancelled call to the store would leave its multipart upload open, so the call runs in a task of its
    own, takes its blocks from a queue, and is ended by an exception in place of a block: then it aborts.
    """

    def __init__(self, store: _Store, name: str) -> None:
        self._store = store
        self._name = name
        self._buffer = bytearray()
        self._blocks: asyncio.Queue[bytes | _Abandoned | None] = asyncio.Queue(maxsize=1)
        self._task: asyncio.Task[None] | None = None
        self._streams = False

    async def write(self, chunk: bytes) -> None:
        self._buffer += chunk
        if len(self._buffer) > (BLOCK_BYTES if self._streams else PART_BYTES):
            if not self._streams:
                self._streams = True
                self._task = asyncio.create_task(self._stream())
            await self._hand_over(self._take())

    async def commit(self) -> None:
        if self._streams:
            if self._buffer:
                await self._hand_over(self._take())
            await self._hand_over(None)
        else:
            self._task = asyncio.create_task(self._put(self._take()))
        assert self._task is not None
        await asyncio.shield(self._task)

    async def undo(self) -> None:
        """Ends the upload and removes the object, should it be complete by now."""
        self._buffer.clear()
        if self._task is None:
            return
        if not self._task.done():
            with contextlib.suppress(Exception):
                await self._hand_over(_Abandoned())
            await asyncio.wait({self._task})
        # Also after a failure: a request that timed out may have been carried out.
        self._task.exception()
        with contextlib.suppress(NotFound, Unavailable), _store_errors():
            await obstore.delete_async(self._store, self._name)

    def _take(self) -> bytes:
        block = bytes(self._buffer)
        self._buffer.clear()
        return block

    async def _put(self, block: bytes) -> None:
        with _store_errors():
            await obstore.put_async(self._store, self._name, block, use_multipart=False)

    async def _stream(self) -> None:
        with _store_errors():
            await obstore.put_async(
                self._store, self._name, self._queued(), chunk_size=PART_BYTES, max_concurrency=1
            )

    async def _queued(self) -> AsyncGenerator[bytes]:
        while (block := await self._blocks.get()) is not None:
            if isinstance(block, _Abandoned):
                raise block
            yield block

    async def _hand_over(self, block: bytes | _Abandoned | None) -> None:
        """Waits for room in the queue, or raises what ended the upload."""
        assert self._task is not None
        putting = asyncio.create_task(self._blocks.put(block))
        try:
            await asyncio.wait({putting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()
        if self._task.done():
            self._task.result()


@contextlib.contextmanager
def _store_errors() -> Generator[None]:
    """The store's exceptions as ours. Theirs quote URLs, paths and answers, so they are not passed on."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound("There is no such file.") from None
    except (BaseError, OSError, NotImplementedError):
        raise Unavailable("The file store cannot answer just now; try again shortly.") from None


def _check_name(name: str) -> None:
    if not is_name(name):
        raise ValueError("not the name of a blob")


def _folder(settings: BlobsSettings) -> Path:
    parts = urlsplit(settings.url)
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not path.is_absolute():
        raise ValueError("a folder for blobs is an absolute path, as in file:///var/lib/guildhall/blobs")
    if settings.options:
        raise ValueError("a folder for blobs takes no options")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _object_store(settings: BlobsSettings, connect_s: float, total_s: float) -> _Store:
    revealed = {name: value.reveal() for name, value in settings.options.items()}
    config = {name: value for name, value in revealed.items() if name not in _CLIENT_OPTIONS}
    client: Mapping[str, Any] = {
        **{name: value for name, value in revealed.items() if name in _CLIENT_OPTIONS},
        "connect_timeout": timedelta(seconds=connect_s),
        "timeout": timedelta(seconds=total_s),
    }
    try:
        return obstore.store.from_url(
            settings.url,
            config=cast("Any", config),
            client_options=cast("Any", client),
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=total_s)},
        )
    except (BaseError, ValueError, TypeError) as error:
        raise ValueError(
            f"the blob store's URL or options are not understood ({type(error).__name__})"
        ) from None


def _sync(folder: Path, path: Path) -> None:
    """Flushes a file and the folders above it, up to the store's own, whose entries may be new as well."""
    for each in (path, *path.parents):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if each == folder:
            break


def _sweep(folder: Path, older_than_s: float) -> int:
    removed = 0
    for path in folder.rglob("*#*"):
        with contextlib.suppress(FileNotFoundError):
            if _STAGED.fullmatch(path.name) and time.time() - path.stat().st_mtime > older_than_s:
                path.unlink()
                removed += 1
    return removed
