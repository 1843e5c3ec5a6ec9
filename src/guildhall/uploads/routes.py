"""`/api/uploads` and `/blobs`: files in, files out."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, get, post, put
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter
from litestar.response.base import ASGIResponse

from guildhall.db import new_id
from guildhall.errors import AppError, Conflict, FieldError, Forbidden, Invalid, NotFound
from guildhall.providers.blobs import ContentMismatch, Opened, TooLarge, UnsupportedType, is_name
from guildhall.providers.blobs.content import RASTER_IMAGES, disposition, essence, extension_of
from guildhall.spaces.seats import as_uuid
from guildhall.uploads import links, queries
from guildhall.uploads.schemas import CreateUpload, Upload
from guildhall.web.app import Raw
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, Guest, check_alive, explain_absence
from guildhall.web.docs import facts
from guildhall.web.etag import tag, wanted
from guildhall.web.lists import DOWNLOAD_S
from guildhall.web.screen import LengthRequired, TooSlow

MEBIBYTE = 1024 * 1024
MAX_IMAGE_BYTES = 8 * MEBIBYTE
MAX_ATTACHMENT_BYTES = 25 * MEBIBYTE
UPLOAD_S = 60.0


class UploadLinkInvalid(Forbidden):
    code = "upload_link_invalid"
    title = "This is not the address an upload was answered with. Use uploadUrl as it is."


class UploadExpired(AppError):
    status, code = 410, "upload_expired"
    title = "The upload was not begun within 15 minutes. Ask for a new one."


class UploadUsed(Conflict):
    code = "upload_used"
    title = "This address took a file already, or tried to. Ask for a new one."


class Broken(AppError):
    """Nobody hears it: the connection is gone."""

    status, code = 400, "incomplete"
    title = "The connection ended before the file did."


@post(
    "/api/uploads",
    summary="Ask where to send a file",
    opt=facts(UnsupportedType, TooLarge, limits=("content",)),
)
async def create_upload(caller: NamedDependency[Caller], data: Sent[CreateUpload]) -> Upload:
    """Pictures of people and communities are PNG, JPEG, WebP or GIF of up to 8 MiB; attachments may also be
    PDF, SVG or text, of up to 25 MiB. The address is good for one PUT that begins within 15 minutes."""
    try:
        asked = data.read()
        kind, extension = _judge(asked)
    except AppError:
        async with caller.db.reading() as read:
            await check_alive(read, caller)
        raise
    upload_id = new_id()
    # Whoever knows the name may read the file, so the name cannot be guessed.
    name = f"{secrets.token_hex(1)}/{secrets.token_hex(16)}.{extension}"
    async with caller.db.single() as tx:
        expires_at = await queries.insert_upload(
            tx,
            caller,
            upload_id,
            name=name,
            filename=asked.filename,
            content_type=kind,
            size_bytes=asked.size_bytes,
            purpose=asked.purpose,
        )
        if expires_at is None:
            raise await explain_absence(tx, caller)
    return Upload(
        upload_url=links.make(caller.service, upload_id, int(expires_at.timestamp())),
        method="PUT",
        headers={"Content-Type": kind},
        url=f"{caller.service.public_url}/blobs/{name}",
        expires_at=expires_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
    )


def _judge(asked: CreateUpload) -> tuple[str, str]:
    """The content type without parameters, and its extension. Raises UnsupportedType, Invalid, TooLarge."""
    kind = essence(asked.content_type)
    extension = extension_of(kind)
    if extension is None:
        raise UnsupportedType
    picture = asked.purpose != "attachment"
    if picture and kind not in RASTER_IMAGES:
        problem = FieldError("/contentType", "not_allowed", "A picture is PNG, JPEG, WebP or GIF.")
        raise Invalid(errors=[problem])
    most = MAX_IMAGE_BYTES if picture else MAX_ATTACHMENT_BYTES
    if asked.size_bytes > most:
        raise TooLarge(f"Such a file has at most {most} bytes.")
    return kind, extension


@put(
    "/api/uploads/{upload_id:str}",
    status_code=204,
    summary="Send a file",
    request_max_body_size=None,
    opt=facts(
        UploadLinkInvalid, UploadExpired, UploadUsed, LengthRequired, TooLarge, ContentMismatch, NotFound
    ),
)
async def receive_file(
    request: Request[Any, Any, Any],
    guest: NamedDependency[Guest],
    upload_id: str,
    expires: Annotated[str, Parameter(max_length=12, description="As in `uploadUrl`.")] = "",
    signature: Annotated[str, Parameter(max_length=64, description="As in `uploadUrl`.")] = "",
) -> None:
    """The body is the file itself, sent with the headers that came with the address; no session is needed.
    An address whose PUT failed half-way is used up."""
    wanted_id = as_uuid(upload_id)
    if wanted_id is None:
        raise NotFound
    if not links.is_ours(guest.service, wanted_id, expires, signature):
        raise UploadLinkInvalid
    claim = await _claim(request, guest, wanted_id)
    blobs = guest.service.blobs
    try:
        async with asyncio.timeout(UPLOAD_S):
            stored = await blobs.put(claim.name, _chunks(request), claim.content_type, claim.size_bytes)
    except TimeoutError as error:
        raise TooSlow from error
    try:
        async with guest.db.single() as tx:
            if not await queries.mark_stored(tx, wanted_id, stored.size_bytes, stored.sha256):
                raise NotFound
    except AppError:
        with contextlib.suppress(AppError):
            await blobs.delete(claim.name)
        raise


async def _claim(request: Request[Any, Any, Any], guest: Guest, upload_id: UUID) -> queries.Claim:
    """Take the upload for this request, or say why not; then nothing was read and nothing is used up."""
    headers = dict(request.scope["headers"])
    length = headers.get(b"content-length", b"")
    if not length:
        raise LengthRequired
    if not length.isdigit() or len(length) > 12 or int(length) == 0:
        raise Invalid("Content-Length must be the size of the file.")
    kind = essence(headers.get(b"content-type", b"").decode("latin-1")) or None
    async with guest.db.single() as tx:
        claim = await queries.claim_upload(tx, upload_id, int(length), kind)
    if claim is None:
        raise NotFound
    if claim.claimed:
        return claim
    if not claim.unused:
        raise UploadUsed
    if not claim.open:
        raise UploadExpired
    if int(length) > claim.size_bytes:
        raise TooLarge(f"The file was announced with {claim.size_bytes} bytes.")
    if kind is not None and kind != claim.content_type:
        raise ContentMismatch(f"The file was announced as {claim.content_type}.")
    raise UploadUsed


async def _chunks(request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
    """The body as it comes. Raises Broken when it ends before it should."""
    more = True
    while more:
        message: Any = await request.receive()
        if message["type"] == "http.disconnect":
            raise Broken
        if body := message.get("body", b""):
            yield body
        more = message.get("more_body", False)


@get(
    "/blobs/{name:path}",
    summary="Read a file",
    opt=facts(NotFound, unlimited=True, etag=True, media="application/octet-stream", answers=bytes),
)
async def read_blob(
    request: Request[Any, Any, Any], guest: NamedDependency[Guest], name: str
) -> ASGIResponse:
    """Pictures are shown in place and kept by browsers; everything else is a download."""
    _limit(request, guest)
    name = name.removeprefix("/")
    if not is_name(name):
        raise NotFound
    async with guest.db.reading() as read:
        file = await queries.find_file(read, name)
    if file is None:
        raise NotFound
    picture = file.content_type in RASTER_IMAGES
    etag = tag(name)
    keep = (b"cache-control", b"public, max-age=31536000, immutable" if picture else b"private, no-cache")
    known = wanted(request.scope)
    if known is not None and etag[1] in known:
        return Raw(304, (etag, keep), b"")
    state: Any = request.scope["state"]
    if not state["head"]:
        state["outlast"](DOWNLOAD_S)
    opened = await guest.service.blobs.open(name)
    shown = disposition(opened.content_type, file.filename)
    # The edge adds nosniff to every answer.
    del shown["X-Content-Type-Options"]
    headers = [(key.lower().encode(), value.encode("latin-1")) for key, value in shown.items()]
    return StoredFile([etag, keep, *headers], opened, head=state["head"])


def _limit(request: Request[Any, Any, Any], guest: Guest) -> None:
    """A page shows many pictures: with a session they count as requests of its person."""
    caller: Caller | None = request.scope["state"].get("caller")
    if caller is None:
        guest.service.limiter.take("address", guest.address)
    else:
        guest.service.limiter.take("user", caller.user)


class StoredFile(ASGIResponse):
    """A stored file, sent as it is read."""

    __slots__ = ("file_headers", "head", "opened")

    def __init__(self, headers: Sequence[tuple[bytes, bytes]], opened: Opened, *, head: bool) -> None:
        self.file_headers = headers
        self.opened = opened
        self.head = head

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        length = (b"content-length", str(self.opened.size_bytes).encode())
        headers = [*self.file_headers, length]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if not self.head:
            async for chunk in self.opened.chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


ROUTES: list[HTTPRouteHandler] = [create_upload, receive_file, read_blob]
