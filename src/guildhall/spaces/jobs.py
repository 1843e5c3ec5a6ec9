"""What follows a change of a space."""

from collections.abc import Iterable
from typing import Literal
from uuid import UUID

from guildhall import outbox
from guildhall.db import Write
from guildhall.outbox import Job
from guildhall.providers.blobs import is_name


class SpaceChanged(Job, frozen=True, kw_only=True):
    """Members, ranks, groups, name or picture changed, or the space is gone: its channels must match."""

    entrypoint = "space.changed"
    calls = "chat"
    space_id: UUID


class SpaceSwept(Job, frozen=True, kw_only=True):
    """Compare a space's channels with what the chat service really has, and repair."""

    entrypoint = "space.swept"
    calls = "chat"
    space_id: UUID


class ChannelsDue(Job, frozen=True, kw_only=True):
    """Find spaces whose channels may not match and leave a job for each.

    "stalled" are those whose worker died and that another job had left to it.
    """

    entrypoint = "channels.due"
    calls = "chat"
    of: Literal["all", "unfinished", "stalled"]


class InviteMade(Job, frozen=True, kw_only=True):
    """Mail an invite. `attempt` tells a resend from a repeat of the same job."""

    entrypoint = "invite.made"
    calls = "email"
    invite_id: UUID
    attempt: int = 0


class InvitesDue(Job, frozen=True, kw_only=True):
    """Leave a reminder for each mailed invite to a hub whose end is near."""

    entrypoint = "invites.due"


class InviteEnding(Job, frozen=True, kw_only=True):
    """Remind whoever an invite is for, once, that it ends soon."""

    entrypoint = "invite.ending"
    calls = "email"
    invite_id: UUID


class BlobUnused(Job, frozen=True, kw_only=True):
    """A stored file lost a row that named it; it goes when no other row does."""

    entrypoint = "blob.unused"
    name: str


def blobs_unused(public_url: str, urls: Iterable[str]) -> list[BlobUnused]:
    """A job for each of these addresses that is a file of our own."""
    prefix = public_url + "/blobs/"
    names = dict.fromkeys(url.removeprefix(prefix) for url in urls if url.startswith(prefix))
    return [BlobUnused(name=name) for name in names if is_name(name)]


class FilesDue(Job, frozen=True, kw_only=True):
    """Find the files that were sent and are named by nothing."""

    entrypoint = "files.due"


class RemainsLeft(Job, frozen=True, kw_only=True):
    """A hub was deleted, or memories: what one statement could not take, and files, are still there."""

    entrypoint = "remains.left"


class HubLanguageChanged(Job, frozen=True, kw_only=True):
    """The words of a hub's memories are to be cut to their stems anew."""

    entrypoint = "hub.language_changed"
    space_id: UUID


class DeparturesDue(Job, frozen=True, kw_only=True):
    """Remove for good what was deleted long enough ago."""

    entrypoint = "departures.due"


async def note_change(tx: Write, kind: str, space: UUID) -> None:
    """Leave what follows a change of this kind of space. A hub has no channels that must match."""
    if kind == "community":
        await outbox.put(tx, SpaceChanged(space_id=space))
