"""The file that a backup is: a tar archive of the database's dump and the uploaded files, and their digests.

`guildhall.json` comes first and says what the file is; `contents.json` comes last, so that a file that was
cut off, damaged or altered is noticed before anything is restored from it.
"""

import contextlib
import hashlib
import io
import os
import secrets
import tarfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO

import msgspec

from guildhall.commands import Problem

FORMAT = 1
ABOUT, CONTENTS, DATABASE, FILES = "guildhall.json", "contents.json", "database.dump", "files/"
READ_BYTES = 1 << 20


class About(msgspec.Struct, frozen=True):
    """`files` is None where uploaded files are kept in an object store, and are not part of the backup."""

    format: int
    release: str
    made_at: str
    migrations: list[str]
    files: int | None


class Member(msgspec.Struct, frozen=True):
    size_bytes: int
    sha256: str


class _Counted(io.RawIOBase):
    """Passes on what is read, and knows its digest."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._sha256.update(data)
        self._size_bytes += len(data)
        return data

    def member(self) -> Member:
        return Member(self._size_bytes, self._sha256.hexdigest())


class Writer:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._members: dict[str, Member] = {}

    def add(self, name: str, source: IO[bytes], size_bytes: int) -> None:
        counted = _Counted(source)
        info = tarfile.TarInfo(name)
        info.size, info.mode = size_bytes, 0o600
        self._tar.addfile(info, counted)
        self._members[name] = counted.member()

    def add_json(self, name: str, value: object) -> None:
        data = msgspec.json.encode(value)
        self.add(name, io.BytesIO(data), len(data))

    def finish(self) -> None:
        self.add_json(CONTENTS, self._members)


@contextlib.contextmanager
def writing(path: Path) -> Generator[tuple[Writer, Path]]:
    """A writer of the new archive `path`, and a folder to work in.

    The archive gets its name when the block ends well; otherwise nothing of it stays.
    """
    room = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    room.mkdir(mode=0o700)
    try:
        making = room / "archive"
        descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                writer = Writer(tar)
                yield writer, room
                writer.finish()
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link takes no name that somebody else has taken meanwhile.
        os.link(making, path)
        _make_durable(path.parent)
    finally:
        _remove(room)


class Archive:
    """An archive that was found to be whole."""

    def __init__(self, tar: tarfile.TarFile, about: About, members: dict[str, tarfile.TarInfo]) -> None:
        self._tar = tar
        self._members = members
        self.about = about

    def files(self) -> dict[str, int]:
        """The names of the uploaded files, and their sizes in bytes."""
        return {
            name.removeprefix(FILES): info.size
            for name, info in self._members.items()
            if name.startswith(FILES)
        }

    def open_file(self, name: str) -> IO[bytes]:
        return self._open(FILES + name)

    def extract_database(self, to: Path) -> None:
        with self._open(DATABASE) as source, to.open("xb") as target:
            while data := source.read(READ_BYTES):
                target.write(data)

    def _open(self, name: str) -> IO[bytes]:
        opened = self._tar.extractfile(self._members[name])
        assert opened is not None
        return opened


@contextlib.contextmanager
def reading(path: Path, say: Callable[[str], None]) -> Generator[Archive]:
    """The archive at `path`, once all of it was read and agrees with its own table. Raises Problem."""
    try:
        with tarfile.open(path, "r:") as tar:
            say("Reading the backup …")
            about, members = _verify(tar, path)
            yield Archive(tar, about, members)
    except tarfile.TarError:
        raise Problem(f"{path} is not a backup, or is damaged.") from None
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror or error}.") from None


def _verify(tar: tarfile.TarFile, path: Path) -> tuple[About, dict[str, tarfile.TarInfo]]:
    infos: dict[str, tarfile.TarInfo] = {}
    found: dict[str, Member] = {}
    about: About | None = None
    table: dict[str, Member] | None = None
    for info in tar:
        if table is not None or not info.isreg() or info.name in infos:
            raise Problem(f"{path} is not a backup as it was written.")
        source = tar.extractfile(info)
        assert source is not None
        try:
            if info.name == CONTENTS:
                table = msgspec.json.decode(source.read(), type=dict[str, Member])
                continue
            counted = _Counted(source)
            if about is None:
                if info.name != ABOUT:
                    raise Problem(f"{path} is not a backup.")
                about = _read_about(counted.read(), path)
            while counted.read(READ_BYTES):
                pass
        except msgspec.DecodeError:
            raise Problem(f"{path} is damaged.") from None
        infos[info.name], found[info.name] = info, counted.member()
    if about is None or table is None or DATABASE not in table:
        raise Problem(f"{path} is not a whole backup: its end is missing.")
    if table != found:
        wrong = sorted(name for name in {*table, *found} if table.get(name) != found.get(name))
        raise Problem(f"{path} is damaged: {wrong[0]} is not what was written.")
    return about, infos


def _read_about(data: bytes, path: Path) -> About:
    kind = msgspec.json.decode(data, type=_Kind).format
    if kind != FORMAT:
        raise Problem(f"{path} was made by another release, in a form that this one does not know ({kind}).")
    return msgspec.json.decode(data, type=About)


class _Kind(msgspec.Struct, frozen=True):
    format: int


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(room: Path) -> None:
    for path in room.iterdir():
        path.unlink(missing_ok=True)
    room.rmdir()
