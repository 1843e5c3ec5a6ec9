"""HTML that somebody else wrote, without what could do something in a browser."""

import nh3

_ATTRIBUTES = {"a": {"href"}}


def clean(html: str) -> str:
    """HTML as it was sent, as far as it only says something."""
    return nh3.clean(html)


def clean_text(html: str, tags: set[str]) -> str:
    """As `clean`, with these tags alone and links to the web and to addresses."""
    return nh3.clean(
        html,
        tags=tags,
        attributes=_ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow ugc noopener noreferrer",
    )
