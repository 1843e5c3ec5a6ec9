"""`/v1/uploads` and the files of memories: sent, pushed by name, read by the worker, handed out again."""

import hmac
import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter
from litestar.response.base import ASGIResponse

from guildhall.db import Read, Write, new_id
from guildhall.errors import AppError, Forbidden, NotFound, Unavailable
from guildhall.memories import actions, queries, rules
from guildhall.memories.content import prepare
from guildhall.memories.jobs import FileArrived
from guildhall.memories.schemas import PushMemory
from guildhall.outbox import put as leave
from guildhall.providers.blobs.content import disposition, essence, extension_of
from guildhall.spaces.jobs import RemainsLeft
from guildhall.spaces.seats import HubSeat, Place, as_uuid, lock_hub_seat
from guildhall.uploads import links
from guildhall.uploads import queries as upload_queries
from guildhall.uploads.routes import MAX_ATTACHMENT_BYTES, StoredFile
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, Guest, check_alive, explain_absence
from guildhall.web.docs import facts
from guildhall.web.lists import DOWNLOAD_S
from guildhall.web.service import Service
from guildhall.web.wire import Data, OptionalV1, WireV1, one_of

PURPOSE = "memory_attachment"
VIEW_S = 300
_VIEWS = "attachment views"
_Me: TypeAlias = tuple[str, str, str | None]
TYPES = frozenset(
    {
        "application/pdf",
        "text/plain",
        "text/markdown",
        "text/html",
        "text/csv",
        "application/json",
        "image/png",
        "image/jpeg",
        "image/webp",
        "image/gif",
    }
)


class MissingFilename(AppError):
    code = "missing_filename"
    title = "Say what the file is called, in up to 255 characters."


class MissingContentType(AppError):
    code = "missing_content_type"
    title = "Say of which content type the file is."


class InvalidSize(AppError):
    code = "invalid_size"
    title = "Say how many bytes the file has; it must have one at least."


class MissingPurpose(AppError):
    code = "missing_purpose"
    title = f"Say what the file is for: {PURPOSE}."


class InvalidPurpose(AppError):
    code = "invalid_purpose"
    title = f"A file for a memory is for {PURPOSE}."


class UnsupportedContentType(AppError):
    status, code = 415, "unsupported_content_type"
    title = "A file is a PDF, a text, HTML, CSV, JSON, or a PNG, JPEG, WebP or GIF image."


class FileTooLarge(AppError):
    status, code = 413, "file_too_large"
    title = f"A file has at most {MAX_ATTACHMENT_BYTES} bytes."


class InvalidFileRef(AppError):
    code = "invalid_file_ref"
    title = "The field file_ref names no file that you sent for a memory and that is not one's already."


class SendFile(OptionalV1, frozen=True, kw_only=True):
    filename: str = ""
    content_type: str = ""
    size_bytes: int = 0
    purpose: Annotated[str, one_of("memory_attachment")] = ""


class UploadIntent(WireV1, frozen=True, kw_only=True):
    """PUT the bytes to `upload_url` with `headers`, then push with `object_key` in `file_ref`."""

    object_key: str
    upload_url: str
    headers: dict[str, str]
    filename: str
    content_type: str
    size_bytes: int
    purpose: Literal["memory_attachment"]
    max_bytes: int
    expires_in: int


class ViewUrl(WireV1, frozen=True, kw_only=True):
    """`expires_at` is in seconds since 1970."""

    url: str
    expires_at: int


@post(
    "/v1/uploads",
    status_code=200,
    summary="Ask where to send a file for a memory",
    opt=facts(
        MissingFilename,
        MissingContentType,
        InvalidSize,
        MissingPurpose,
        InvalidPurpose,
        UnsupportedContentType,
        FileTooLarge,
        limits=("content",),
        atom="memory:write",
    ),
)
async def send_file(caller: NamedDependency[Caller], data: Sent[SendFile]) -> Data[UploadIntent]:
    """The address is good for one PUT that begins within 15 minutes."""
    try:
        asked = data.read()
        kind = _judge(asked)
    except AppError:
        async with caller.db.reading() as read:
            await check_alive(read, caller)
        raise
    upload = new_id()
    name = f"memories/{secrets.token_hex(16)}.{'txt' if kind == 'application/json' else extension_of(kind)}"
    stored_as = "text/plain" if kind == "application/json" else kind
    async with caller.db.single() as tx:
        expires_at = await upload_queries.insert_upload(
            tx,
            caller,
            upload,
            name=name,
            filename=asked.filename,
            content_type=stored_as,
            size_bytes=asked.size_bytes,
            purpose="memory",
        )
        if expires_at is None:
            raise await explain_absence(tx, caller)
    return Data(
        UploadIntent(
            object_key=f"{_prefix(caller.user)}{upload}",
            upload_url=links.make(caller.service, upload, int(expires_at.timestamp())),
            headers={"Content-Type": stored_as},
            filename=asked.filename,
            content_type=kind,
            size_bytes=asked.size_bytes,
            purpose=PURPOSE,
            max_bytes=MAX_ATTACHMENT_BYTES,
            expires_in=900,
        )
    )


def _judge(asked: SendFile) -> str:
    """The content type without parameters. Raises what is wrong, in this order."""
    if not asked.filename.strip() or len(asked.filename) > 255:
        raise MissingFilename
    if not asked.content_type:
        raise MissingContentType
    if asked.size_bytes < 1:
        raise InvalidSize
    if not asked.purpose:
        raise MissingPurpose.at("/purpose")
    if asked.purpose != PURPOSE:
        raise InvalidPurpose.at("/purpose")
    kind = essence(asked.content_type)
    if kind not in TYPES:
        raise UnsupportedContentType
    if asked.size_bytes > MAX_ATTACHMENT_BYTES:
        raise FileTooLarge
    return kind


def _prefix(user: str) -> str:
    return f"owners/{user}/memory/"


class _Upload(msgspec.Struct, frozen=True):
    id: UUID
    name: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: bytes


async def push_file(tx: Write, caller: Caller, wanted: Place, data: PushMemory) -> actions.Pushed:
    """Keep a memory that is a file, read by a job where no text comes with it.

    Raises as `actions.push` does, and InvalidFileRef.
    """
    raw = str(wanted.space_id or wanted.slug or await queries.usual_hub(tx, caller) or "")
    seat = await lock_hub_seat(tx, caller, raw)
    await actions.check_writer(tx, caller, wanted)
    upload = await _find_upload(tx, caller, data)
    known = await _find_copy(tx, seat, upload.sha256, data.source_path)
    if known is not None:
        await _forget(tx, upload)
        if known.state == "archived":
            await tx.run("UPDATE memories SET state = 'active', updated_at = now() WHERE id = $1", known.id)
            actions.tell(tx, caller.user, seat.space, known.id, "active", personal=seat.personal)
        outcome = "restored" if known.state == "archived" else "unchanged"
        return actions.Pushed(known.id, seat.space, outcome, await queries.read_memory(tx, known.id))
    content_type = rules.content_type_of(data.content_type, upload.filename, upload.content_type)
    text = await prepare(data.content, content_type)
    content = text.content
    given = actions.columns(caller, data, text)
    given["title"] = given["title"] or rules.clean_line(upload.filename, rules.MAX_TITLE)
    if content == "":
        given |= {"state": "processing", "content_hash": "\\x" + upload.sha256.hex()}
    kept = await actions.keep(tx, caller, wanted, given, text, data.receipt_id)
    if kept.outcome not in ("created", "replaced"):
        await _forget(tx, upload)
        return kept
    if not kept.is_new and await tx.run("DELETE FROM memory_attachments WHERE memory_id = $1", kept.id):
        await leave(tx, RemainsLeft())
    await tx.run(
        "INSERT INTO memory_attachments (id, space_id, memory_id, owner_id, upload_id, name, filename,"
        " content_type, size_bytes, sha256) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        new_id(),
        kept.hub,
        kept.id,
        seat.user,
        upload.id,
        upload.name,
        upload.filename,
        upload.content_type,
        upload.size_bytes,
        upload.sha256,
    )
    if content == "":
        await leave(tx, FileArrived(memory_id=kept.id))
    return actions.Pushed(kept.id, kept.hub, kept.outcome, await queries.read_memory(tx, kept.id))


class _Copy(msgspec.Struct, frozen=True):
    id: UUID
    state: str


async def _find_copy(tx: Write, seat: HubSeat, sha256: bytes, path: str) -> _Copy | None:
    """The memory of the same person in this hub that has the same file, unless another comes from the path.

    One that comes from nowhere yet comes from the path from now on.
    """
    known = await tx.maybe(
        _Copy,
        """
        WITH copy AS (
            SELECT m.id FROM memory_attachments a JOIN memories m ON m.id = a.memory_id
             WHERE a.space_id = $1 AND m.author_id = $2 AND a.sha256 = $3
               AND ($4 = '' OR m.source_path = $4 OR NOT EXISTS (
                    SELECT FROM memories o WHERE o.space_id = $1 AND o.author_id = $2
                       AND md5(o.source_path) = md5($4) AND o.source_path IS NOT NULL))
             ORDER BY (m.source_path = $4) IS TRUE DESC, m.state = 'archived', m.created_at LIMIT 1)
        SELECT m.id, m.state FROM copy JOIN memories m ON m.id = copy.id
        """,
        seat.space,
        seat.user,
        sha256,
        path,
    )
    if known is not None and path:
        await tx.run(
            "UPDATE memories SET source_path = $2 WHERE id = $1 AND source_path IS NULL", known.id, path
        )
    return known


async def _find_upload(tx: Write, caller: Caller, data: PushMemory) -> _Upload:
    """The file in `file_ref`. Raises InvalidFileRef for one that is not the caller's to use."""
    ref: Any = data.file_ref
    prefix = _prefix(caller.user)
    upload = as_uuid(ref.object_key.removeprefix(prefix)) if ref.object_key.startswith(prefix) else None
    if upload is None:
        raise InvalidFileRef
    found = await tx.maybe(
        _Upload,
        "SELECT id, name, filename, content_type, size_bytes, sha256 FROM uploads u"
        " WHERE id = $1 AND user_id = $2 AND purpose = 'memory' AND stored_at IS NOT NULL"
        "   AND sha256 IS NOT NULL"
        "   AND NOT EXISTS (SELECT FROM memory_attachments a WHERE a.upload_id = u.id) FOR UPDATE",
        upload,
        caller.user,
    )
    if found is None or (ref.sha256 and ref.sha256.lower() != found.sha256.hex()):
        raise InvalidFileRef
    return found


async def _forget(tx: Write, upload: _Upload) -> None:
    """The file is there already; this copy goes."""
    await tx.run("INSERT INTO stray_blobs (name) VALUES ($1) ON CONFLICT DO NOTHING", upload.name)
    await leave(tx, RemainsLeft())


class _Attachment(msgspec.Struct, frozen=True):
    name: str
    filename: str
    content_type: str


async def _find_attachment(read: Read, caller: Caller, memory: str, attachment: str) -> _Attachment:
    """A file of a memory that the caller may read. Raises NotFound."""
    memory_id, attachment_id = as_uuid(memory), as_uuid(attachment)
    found = None
    if memory_id is not None and attachment_id is not None:
        found = await read.maybe(
            _Attachment,
            "SELECT a.name, a.filename, a.content_type FROM read_hubs($1, $2, $3) AS hub"
            " JOIN memory_attachments a ON a.space_id = hub.space_id WHERE a.memory_id = $4 AND a.id = $5",
            *caller.me,
            memory_id,
            attachment_id,
        )
    if found is None:
        await check_alive(read, caller)
        raise NotFound
    return found


@get(
    "/v1/memories/{memory_id:str}/attachments/{attachment_id:str}/download",
    summary="Download a memory's file",
    opt=facts(NotFound, Unavailable, answers=bytes, media="application/octet-stream", atom="memory:read"),
)
async def download_attachment(
    request: Request[Any, Any, Any],
    caller: NamedDependency[Caller],
    memory_id: str,
    attachment_id: str,
) -> ASGIResponse:
    async with caller.db.reading() as read:
        file = await _find_attachment(read, caller, memory_id, attachment_id)
    return await _served(request, caller.service, file, inline=False)


@post(
    "/v1/memories/{memory_id:str}/attachments/{attachment_id:str}/view-url",
    status_code=200,
    summary="Ask for an address that shows a memory's file",
    opt=facts(NotFound, atom="memory:read"),
)
async def view_url(caller: NamedDependency[Caller], memory_id: str, attachment_id: str) -> Data[ViewUrl]:
    """Whoever holds the address sees the file for five minutes, while who asked for it may read it."""
    async with caller.db.reading() as read:
        await _find_attachment(read, caller, memory_id, attachment_id)
    expires = int(time.time()) + VIEW_S
    by = caller.service.keys.seal(_VIEWS, msgspec.json.encode(caller.me)).hex()
    signature = caller.service.keys.macs(_VIEWS, _signed(attachment_id, by, str(expires)))[0].hex()
    query = urlencode({"id": attachment_id, "by": by, "exp": expires, "sig": signature})
    return Data(ViewUrl(url=f"{caller.service.public_url}/v1/attachments/view?{query}", expires_at=expires))


@get(
    "/v1/attachments/view",
    summary="See a memory's file",
    opt=facts(Forbidden, NotFound, Unavailable, answers=bytes, media="application/octet-stream"),
)
async def view_attachment(
    request: Request[Any, Any, Any],
    guest: NamedDependency[Guest],
    attachment: Annotated[str, Parameter(query="id", max_length=36, description="As in the address.")] = "",
    by: Annotated[str, Parameter(max_length=2048, description="As in the address.")] = "",
    expires: Annotated[str, Parameter(query="exp", max_length=12, description="As in the address.")] = "",
    signature: Annotated[str, Parameter(query="sig", max_length=64, description="As in the address.")] = "",
) -> ASGIResponse:
    """By an address that `view-url` gave; images are shown in place, everything else is a download."""
    wanted = as_uuid(attachment)
    if wanted is None or not _is_ours(guest.service, attachment, by, expires, signature):
        raise Forbidden("This address is not one of ours, or it is out of time.")
    me = msgspec.json.decode(guest.service.keys.open(_VIEWS, bytes.fromhex(by)), type=_Me)
    async with guest.db.reading() as read:
        file = await read.maybe(
            _Attachment,
            "SELECT a.name, a.filename, a.content_type FROM read_hubs($1, $2, $3) AS hub"
            "  JOIN memory_attachments a ON a.space_id = hub.space_id WHERE a.id = $4",
            *me,
            wanted,
        )
    if file is None:
        raise NotFound
    return await _served(request, guest.service, file, inline=True)


def _signed(attachment: str, by: str, expires: str) -> bytes:
    return "\0".join((attachment, by, expires)).encode()


def _is_ours(service: Service, attachment: str, by: str, expires: str, signature: str) -> bool:
    if not (expires.isascii() and expires.isdigit() and signature.isascii()):
        return False
    macs = service.keys.macs(_VIEWS, _signed(attachment, by, expires))
    matches = [hmac.compare_digest(mac.hex(), signature) for mac in macs]
    return any(matches) and int(expires) >= time.time()


async def _served(
    request: Request[Any, Any, Any], service: Service, file: _Attachment, *, inline: bool
) -> ASGIResponse:
    state: Any = request.scope["state"]
    if not state["head"]:
        state["outlast"](DOWNLOAD_S)
    opened = await service.blobs.open(file.name)
    shown = disposition(file.content_type, file.filename)
    del shown["X-Content-Type-Options"]
    if not inline:
        shown["Content-Disposition"] = shown["Content-Disposition"].replace("inline", "attachment", 1)
    headers: Sequence[tuple[bytes, bytes]] = [
        (key.lower().encode(), value.encode("latin-1")) for key, value in shown.items()
    ]
    return StoredFile([(b"cache-control", b"no-store"), *headers], opened, head=state["head"])


ROUTES: list[HTTPRouteHandler] = [send_file, download_attachment, view_url, view_attachment]
