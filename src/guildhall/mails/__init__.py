"""Mails as people read them: a text and an HTML part from one template each, with the names in them tamed."""

import functools
import re
import unicodedata
from typing import TYPE_CHECKING

from guildhall.providers.email import Message

if TYPE_CHECKING:
    import jinja2

LONGEST_NAME = 100

# What mail programs make links of: a domain's dots, an address's sign, a scheme's slashes.
_LINKING = re.compile(r"([.\u3002\uff0e\uff61@\uff20])(?=\S)|(:)(?=//)")
_DROPPED = {"Cc", "Cf", "Co", "Cs", "Cn"}


def plain_name(text: str) -> str:
    """A person's text for use in a mail: on one line, and nothing a mail program makes a link of."""
    # To normalise a pile of marks takes time by the square of its height.
    normal = unicodedata.normalize("NFC", text[: 10 * LONGEST_NAME])
    spaced = "".join(
        " " if unicodedata.category(c) in ("Zl", "Zp") or c in "\t\r\n\x0b\x0c\x85" else c for c in normal
    )
    kept = "".join(c for c in spaced if unicodedata.category(c) not in _DROPPED)
    short = " ".join(kept.split())
    if len(short) > LONGEST_NAME:
        short = short[: LONGEST_NAME - 1].rstrip() + "…"
    return _LINKING.sub(lambda found: found[0] + " ", short)


def compose(template: str, *, to: str, subject: str, dedupe_key: str, **values: str) -> Message:
    """The message of `templates/{template}.txt` and `.html`. Names in the values have passed `plain_name`."""
    return Message(
        to=to,
        subject=subject,
        text=_templates(html=False).get_template(f"{template}.txt").render(values),
        html=_templates(html=True).get_template(f"{template}.html").render(values, subject=subject),
        dedupe_key=dedupe_key,
    )


@functools.cache
def _templates(*, html: bool) -> "jinja2.Environment":
    # Only the worker writes mails; every other process starts sooner without the library.
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("guildhall.mails"),
        autoescape=html,  # noqa: S701 - plain text has nothing to escape
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
