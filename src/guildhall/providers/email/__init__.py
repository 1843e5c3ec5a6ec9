"""Mail: one message to one person, through Resend, an SMTP server, or the outbox on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol, assert_never

import msgspec

from guildhall.secret import Secret


class Message(msgspec.Struct, frozen=True):
    """One mail to one address. `dedupe_key` stays the same over retries, so the mail arrives once."""

    to: str
    subject: str
    text: str
    html: str
    dedupe_key: str

    # A message carries sign-in codes and invite links; neither a log nor a traceback may show them.
    def __repr__(self) -> str:
        return f"Message(dedupe_key={self.dedupe_key!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("dedupe_key", self.dedupe_key)]


class Rejected(Exception):
    """This message will never be taken; give up. The text names no address and no content."""


class Unavailable(Exception):
    """Not now; the same message may be sent again, not before `retry_after_s` where the provider said so."""

    def __init__(self, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Email(Protocol):
    """Delivers one message. Raises Rejected (give up) or Unavailable (try later), nothing else."""

    async def send(self, message: Message) -> None: ...

    async def check(self) -> None:
        """Find out whether mail would be taken from us, without sending any. Raises as `send` does."""
        ...

    async def forget(self, unwanted: Callable[[str, str], bool]) -> None:
        """Remove messages that are kept here, by their address and dedupe key, when somebody is erased.

        What was delivered elsewhere is out of reach. Raises Unavailable.
        """
        ...

    async def aclose(self) -> None: ...


class Resend(msgspec.Struct, frozen=True, tag=True):
    api_key: Secret[str]
    sender: str
    base_url: str = "https://api.resend.com"


class Smtp(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """`security` is how the connection is encrypted: by STARTTLS, from its first byte, or not at all."""

    host: str
    sender: str
    port: int = 587
    username: str | None = None
    password: Secret[str] | None = None
    security: Literal["starttls", "tls", "none"] = "starttls"

    def __post_init__(self) -> None:
        if (self.username is None) != (self.password is None):
            raise ValueError("SMTP needs a user name and a password together, or neither")
        if self.password is not None and self.security == "none":
            raise ValueError("SMTP sends a password only over starttls or tls")


class OutboxOnly(msgspec.Struct, frozen=True, tag=True):
    """`console` shows the links and codes in mails to who started the service, where that is a terminal."""

    folder: Path
    sender: str
    console: bool = True


EmailSettings = Resend | Smtp | OutboxOnly


def open_email(settings: EmailSettings) -> Email:
    """Raises ValueError for a sender that is not one address, ImportError without the extra it needs."""
    match settings:
        case Resend():
            from guildhall.providers.email.resend import ResendEmail

            return ResendEmail(settings)
        case Smtp():
            from guildhall.providers.email.smtp import SmtpEmail

            return SmtpEmail(settings)
        case OutboxOnly():
            from guildhall.providers.email.outbox import OutboxOnlyEmail

            return OutboxOnlyEmail(settings)
        case _:
            assert_never(settings)
