"""What every implementation checks first: one recipient, a subject on one line, one sender."""

import re
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

import msgspec

from guildhall.providers.email import Message, Rejected

LONGEST_ADDRESS = 254

# Narrower than RFC 5322 on purpose: without quotes, comments, commas and brackets a second recipient,
# a display name or a header cannot hide in an address.
_ADDRESS = re.compile(r"[^\s@,;:<>()\[\]\\\"\x00-\x1f\x7f-\x9f]+@[^\s@,;:<>()\[\]\\\"\x00-\x1f\x7f-\x9f]+")

# Everything a mail program, a terminal or str.splitlines takes for the end of a line, and the other controls.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def one_line(text: str) -> str:
    return _CONTROLS.sub(" ", text).strip()


def check(message: Message) -> Message:
    """The message with its subject on one line. Raises Rejected for what no provider could deliver."""
    if len(message.to) > LONGEST_ADDRESS or _ADDRESS.fullmatch(message.to) is None:
        raise Rejected("the recipient is not one plain address")
    try:
        for part in (message.to, message.subject, message.text, message.html, message.dedupe_key):
            part.encode()
    except UnicodeEncodeError:
        raise Rejected("the message is not valid Unicode") from None
    return msgspec.structs.replace(message, subject=one_line(message.subject))


def parse_sender(sender: str) -> Address:
    """Reads `Name <address>` or a bare address. Raises ValueError for anything else."""
    header = EmailMessage(policy=SMTP)
    header["From"] = sender
    addresses = header["From"].addresses
    if len(addresses) != 1 or _ADDRESS.fullmatch(addresses[0].addr_spec) is None:
        raise ValueError("a sender is one address, or a name and an address in angle brackets")
    return addresses[0]
