"""The mails that stay on this machine, as files of the outbox."""

from pathlib import Path

import msgspec


class Mail(msgspec.Struct, frozen=True):
    id: str
    sent_at: str
    to: str
    subject: str
    text: str


def latest_mails(folder: Path, limit: int) -> list[Mail]:
    """The newest first. Reads files: not for the event loop."""
    files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [msgspec.json.decode(path.read_bytes(), type=Mail) for path in files[:limit]]
