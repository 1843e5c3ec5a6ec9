"""Mail through any SMTP server."""

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime

import aiosmtplib

from guildhall.providers.email import Message, Rejected, Smtp, Unavailable
from guildhall.providers.email.envelope import check, parse_sender

# Eight-bit text would need an extension that not every server has.
_POLICY = SMTP_POLICY.clone(cte_type="7bit")


class SmtpEmail:
    """One connection a message: the server may close an idle one at any time, and mail is rare.

    `tls_context` is for a certificate that the system's authorities did not sign.
    """

    def __init__(
        self,
        settings: Smtp,
        *,
        connect_s: float = 3.0,
        total_s: float = 10.0,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._sender = parse_sender(settings.sender)
        # An international domain is written in ASCII where the protocol wants a host name.
        self._domain = self._sender.domain.encode("idna").decode("ascii")
        self._connect_s = connect_s
        self._total_s = total_s
        self._tls_context = tls_context

    async def send(self, message: Message) -> None:
        message = check(message)
        client = self._client()
        try:
            mail = self._compose(message)
            async with asyncio.timeout(self._total_s):
                await client.connect(timeout=self._connect_s)
                await client.send_message(mail, sender=self._sender.addr_spec, recipients=[message.to])
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _refusal(error.recipients[0].code) from None
        except aiosmtplib.SMTPResponseException as error:
            raise _refusal(error.code) from None
        except aiosmtplib.SMTPNotSupported:
            raise Rejected("the SMTP server lacks what this message needs") from None
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise Unavailable(f"the SMTP server is not available ({type(error).__name__})") from None
        except (ValueError, UnicodeError):
            raise Rejected("the message cannot be written as mail") from None
        else:
            # The server has taken the message; what happens to the farewell changes nothing.
            with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                await client.quit(timeout=1)
        finally:
            client.close()

    async def check(self) -> None:
        client = self._client()
        try:
            async with asyncio.timeout(self._total_s):
                await client.connect(timeout=self._connect_s)
                await client.mail(self._sender.addr_spec)
                await client.rset()
        except aiosmtplib.SMTPAuthenticationError as error:
            raise _refusal(error.code, "user name and password") from None
        except aiosmtplib.SMTPSenderRefused as error:
            raise _refusal(error.code, "sender's address") from None
        except aiosmtplib.SMTPResponseException as error:
            raise _refusal(error.code) from None
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise Unavailable(f"the SMTP server is not available ({type(error).__name__})") from None
        else:
            with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                await client.quit(timeout=1)
        finally:
            client.close()

    async def forget(self, unwanted: Callable[[str, str], bool]) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def _client(self) -> aiosmtplib.SMTP:
        settings = self._settings
        return aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            username=settings.username,
            password=settings.password.reveal() if settings.password is not None else None,
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",
            tls_context=self._tls_context,
            # The default asks the DNS for this machine's name, which is slow and tells it to the server.
            local_hostname=self._domain,
            timeout=self._total_s,
        )

    def _compose(self, message: Message) -> EmailMessage:
        """Text and HTML as alternatives. The email package refuses a header with a line break in it."""
        mail = EmailMessage(policy=_POLICY)
        mail["From"] = self._sender
        mail["To"] = message.to
        mail["Subject"] = message.subject
        mail["Date"] = format_datetime(datetime.now(UTC))
        # The same message keeps its id over retries, so a receiver that saw the first try shows one mail.
        digest = hashlib.sha256(message.dedupe_key.encode()).hexdigest()[:40]
        mail["Message-ID"] = f"<{digest}@{self._domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        mail.add_alternative(message.html, subtype="html")
        return mail


def _refusal(code: int, what: str = "message") -> Rejected | Unavailable:
    if 500 <= code < 600:
        return Rejected(f"the SMTP server refused the {what} ({code})")
    return Unavailable(f"the SMTP server cannot take the {what} now ({code})")
