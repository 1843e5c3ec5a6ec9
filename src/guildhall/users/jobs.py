"""What follows a change of an account."""

from uuid import UUID

from guildhall.outbox import Job


class CodeAsked(Job, frozen=True, kw_only=True):
    """Mail a sign-in code. It is derived again from the id of its row, so the job holds nothing secret."""

    entrypoint = "user.code"
    calls = "email"
    code_id: UUID


class ProfileChanged(Job, frozen=True, kw_only=True):
    """A name or picture changed: the chat service shows them too."""

    entrypoint = "user.profile"
    calls = "chat"
    user_id: str


class UserDisabled(Job, frozen=True, kw_only=True):
    """An account was closed: chat tokens given out before must stop working."""

    entrypoint = "user.disabled"
    calls = "chat"
    user_id: str


class UserErased(Job, frozen=True, kw_only=True):
    """An account was erased: what is kept of the person outside the database goes too.

    That is the person at the chat service with all they wrote there, and mails kept in the outbox. The
    address is there as a keyed MAC, since no job may bring back what was erased.
    """

    entrypoint = "user.erased"
    calls = "chat"
    user_id: str
    address_mac: str | None = None


class ExportAsked(Job, frozen=True, kw_only=True):
    """Gather a person's data into an archive."""

    entrypoint = "user.export"
    export_id: UUID


class ExportExpired(Job, frozen=True, kw_only=True):
    """An archive's link is out of time: remove it."""

    entrypoint = "user.export-expired"
    export_id: UUID
