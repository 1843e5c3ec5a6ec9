"""What follows a change of a space."""

from collections.abc import Iterable
from uuid import UUID

from guildhall.outbox import Job
from guildhall.providers.blobs import is_name


class SpaceChanged(Job, frozen=True, kw_only=True):
    """Members, ranks, groups, name or picture changed, or the space is gone: its channels must match."""

    entrypoint = "space.changed"
    space_id: UUID


class InviteMade(Job, frozen=True, kw_only=True):
    """Mail an invite. `attempt` tells a resend from a repeat of the same job."""

    entrypoint = "invite.made"
    invite_id: UUID
    attempt: int = 0


class BlobUnused(Job, frozen=True, kw_only=True):
    """A stored file lost the row that named it."""

    entrypoint = "blob.unused"
    name: str


def blobs_unused(public_url: str, urls: Iterable[str]) -> list[BlobUnused]:
    """A job for each of these addresses that is a file of our own."""
    prefix = public_url + "/blobs/"
    names = dict.fromkeys(url.removeprefix(prefix) for url in urls if url.startswith(prefix))
    return [BlobUnused(name=name) for name in names if is_name(name)]
