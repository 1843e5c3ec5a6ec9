"""What follows a change of a space."""

from uuid import UUID

from guildhall.outbox import Job


class SpaceChanged(Job, frozen=True, kw_only=True):
    """Members, ranks, groups, name or picture changed, or the space is gone: its channels must match."""

    entrypoint = "space.changed"
    space_id: UUID
    # The group that changed, where only one did. It is named because its row may be gone.
    group_id: UUID | None = None


class InviteMade(Job, frozen=True, kw_only=True):
    """Mail an invite. `attempt` tells a resend from a repeat of the same job."""

    entrypoint = "invite.made"
    invite_id: UUID
    attempt: int = 0


class BlobUnused(Job, frozen=True, kw_only=True):
    """A stored file lost the row that named it."""

    entrypoint = "blob.unused"
    name: str
