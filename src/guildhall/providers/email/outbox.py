"""The outbox: mail that stays on this machine, to be read at a page for operators and on the console."""

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from guildhall.providers.email import Message, OutboxOnly, Unavailable
from guildhall.providers.email.envelope import check, one_line, parse_sender

NEWEST_KEPT = 1_000

_ID = re.compile(r"[0-9a-f]{40}")
_LINK_OR_CODE = re.compile(r"https?://[^\s<>\"]+|(?<!\d)\d{6,8}(?!\d)")
_PART_WRITTEN_S = 60 * 60


class KeptMessage(msgspec.Struct, frozen=True):
    """A message as it lies in the outbox. `id` is derived from its dedupe key."""

    id: str
    sent_at: datetime
    sender: str
    to: str
    subject: str
    text: str
    html: str
    dedupe_key: str

    def __repr__(self) -> str:
        return f"KeptMessage(id={self.id!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("id", self.id)]


class OutboxOnlyEmail:
    """Keeps the newest 1,000 messages as files. Any number of processes may write to and read one folder."""

    def __init__(self, settings: OutboxOnly) -> None:
        parse_sender(settings.sender)
        self._settings = settings

    async def send(self, message: Message) -> None:
        message = check(message)
        try:
            new = await asyncio.to_thread(self._keep, message)
        except OSError as error:
            raise Unavailable(f"the outbox folder cannot be written ({type(error).__name__})") from None
        # What is not a terminal is kept as a log, where nothing may be that opens something.
        if new and self._settings.console and sys.stdout.isatty():
            await asyncio.to_thread(_print, message)

    async def check(self) -> None:
        try:
            await asyncio.to_thread(self._try)
        except OSError as error:
            raise Unavailable(f"the outbox folder cannot be written ({type(error).__name__})") from None

    async def forget(self, unwanted: Callable[[str, str], bool]) -> None:
        try:
            await asyncio.to_thread(self._forget, unwanted)
        except OSError as error:
            raise Unavailable(f"the outbox folder cannot be written ({type(error).__name__})") from None

    async def aclose(self) -> None:
        pass

    async def list_messages(self, limit: int) -> list[KeptMessage]:
        """The newest messages, newest first."""
        return await asyncio.to_thread(self._list, limit)

    async def find_message(self, message_id: str) -> KeptMessage | None:
        if _ID.fullmatch(message_id) is None:
            return None
        return await asyncio.to_thread(_read, self._settings.folder / f"{message_id}.json")

    def _try(self) -> None:
        folder = self._settings.folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = folder / f"{secrets.token_hex(16)}.part"
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        part.unlink()

    def _keep(self, message: Message) -> bool:
        """Writes the message unless it is there already, whole or not at all. True when it is new."""
        folder = self._settings.folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        message_id = hashlib.sha256(message.dedupe_key.encode()).hexdigest()[:40]
        now_ns = time.time_ns()
        kept = KeptMessage(
            id=message_id,
            sent_at=datetime.fromtimestamp(now_ns / 1e9, UTC),
            sender=self._settings.sender,
            to=message.to,
            subject=message.subject,
            text=message.text,
            html=message.html,
            dedupe_key=message.dedupe_key,
        )
        part = folder / f"{secrets.token_hex(16)}.part"
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(kept))
                file.flush()
                os.fsync(file.fileno())
            # The clock of the file system is coarse; two messages in one tick would lose their order.
            os.utime(part, ns=(now_ns, now_ns))
            try:
                # A link, unlike a rename, fails when the name exists, so of two writers one wins.
                os.link(part, folder / f"{message_id}.json")
            except FileExistsError:
                return False
        finally:
            part.unlink(missing_ok=True)
        self._prune()
        return True

    def _forget(self, unwanted: Callable[[str, str], bool]) -> None:
        for _, path in self._newest_first():
            message = _read(path)
            if message is not None and unwanted(message.to, message.dedupe_key):
                path.unlink(missing_ok=True)

    def _prune(self) -> None:
        for _, path in self._newest_first()[NEWEST_KEPT:]:
            path.unlink(missing_ok=True)
        # What a killed process was writing.
        for part in self._settings.folder.glob("*.part"):
            with contextlib.suppress(OSError):
                if time.time() - part.stat().st_mtime > _PART_WRITTEN_S:
                    part.unlink()

    def _newest_first(self) -> list[tuple[int, Path]]:
        found: list[tuple[int, Path]] = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._settings.folder) as entries:
            for entry in entries:
                if entry.name.endswith(".json"):
                    with contextlib.suppress(FileNotFoundError):
                        found.append((entry.stat().st_mtime_ns, Path(entry.path)))
        return sorted(found, reverse=True)

    def _list(self, limit: int) -> list[KeptMessage]:
        messages: list[KeptMessage] = []
        for _, path in self._newest_first():
            if len(messages) >= limit:
                break
            message = _read(path)
            if message is not None:
                messages.append(message)
        return messages


def _read(path: Path) -> KeptMessage | None:
    """None for a file that was pruned meanwhile or is not ours."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=KeptMessage)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _print(message: Message) -> None:
    """A block a person finds among log lines: to whom, about what, and the first link or code to use."""
    found = _LINK_OR_CODE.search(message.text)
    lines = ["", f"┌─ mail to {one_line(message.to)}", f"│  {one_line(message.subject)}"]
    if found is not None:
        lines.append(f"│  → {found[0]}")
    lines.append("└─ kept in the outbox; nothing was sent")
    encoding = sys.stdout.encoding or "utf-8"
    block = "\n".join(lines).encode(encoding, "replace").decode(encoding, "replace")
    # The message is kept; a console that went away is no reason to send it again.
    with contextlib.suppress(OSError, ValueError):
        print(block, flush=True)
