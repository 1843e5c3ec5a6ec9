"""Blobs: files people upload, kept in a local folder or an object store, and always served through us."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple, Protocol

import msgspec

from guildhall.errors import AppError
from guildhall.providers.blobs.content import content_type_of
from guildhall.secret import Secret

LONGEST_STEM = 200

# No dots but the one before the extension, no empty segment, nothing a file system or a URL treats specially.
_NAME = re.compile(r"([a-z0-9-]+(?:/[a-z0-9-]+)*)\.[a-z0-9]{1,8}")


class TooLarge(AppError):
    status, code = 413, "too_large"
    title = "The file is larger than allowed."


class ContentMismatch(AppError):
    status, code = 400, "content_mismatch"
    title = "The file is not what its content type says."


class UnsupportedType(AppError):
    status, code = 415, "unsupported_type"
    title = "Files of this type are not accepted."


class Stored(msgspec.Struct, frozen=True):
    """`sha256` is in hexadecimal."""

    size_bytes: int
    sha256: str


class Opened(NamedTuple):
    """`chunks` reads from the store only as fast as it is asked, and may raise Unavailable midway."""

    content_type: str
    size_bytes: int
    chunks: AsyncIterator[bytes]


class Blobs(Protocol):
    """Keeps files by names of our own making; a name is used for one upload only, also if that failed.

    The extension of a name tells its content type, since not every store remembers one. A name that
    `is_name` does not accept raises ValueError everywhere. A store that fails raises errors.Unavailable.
    """

    async def put(self, name: str, chunks: AsyncIterator[bytes], content_type: str, max_bytes: int) -> Stored:
        """Stores all chunks or, after any fault or cancellation, nothing that can be opened.

        Raises TooLarge, UnsupportedType, or ContentMismatch when the bytes are not of `content_type`;
        ValueError when the extension of `name` is not the one of `content_type`.
        """
        ...

    async def open(self, name: str) -> Opened:
        """Raises errors.NotFound."""
        ...

    async def exists(self, name: str) -> bool: ...

    async def delete(self, name: str) -> None:
        """A missing blob counts as deleted."""
        ...

    async def sweep(self, older_than_s: float = 86_400) -> int:
        """Removes what killed processes left half written, and says how much; run it now and then."""
        ...

    async def aclose(self) -> None: ...


class BlobsSettings(msgspec.Struct, frozen=True):
    """`url` is `file:///folder`, `s3://bucket/prefix`, `gs://…` or `az://…`.

    `options` are the object store's own by their documented names in lower case, such as `endpoint`,
    `region`, `access_key_id`, `secret_access_key`; any of them may be secret, so all are wrapped.
    Credentials left out here are looked for where the store's vendor has them: AWS_… and the like, or
    the role of the machine.
    """

    url: str
    options: Mapping[str, Secret[str]] = {}


def is_name(name: str) -> bool:
    """Whether `name` is `[a-z0-9/-]{1,200}` and an extension, without empty segments."""
    match = _NAME.fullmatch(name)
    return match is not None and len(match[1]) <= LONGEST_STEM and content_type_of(name) is not None


def open_blobs(settings: BlobsSettings) -> Blobs:
    """Raises ValueError for a URL or an option that no store understands. A local folder is made."""
    from guildhall.providers.blobs.store import StoredBlobs

    return StoredBlobs(settings)
