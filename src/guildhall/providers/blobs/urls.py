"""Which URLs of blobs a user may give us. None of them is ever fetched."""

import re
from collections.abc import Collection

from guildhall.providers.blobs import is_name

LONGEST_URL = 2_048

# Only what RFC 3986 allows, whole percent escapes, and none of those for a control character. This is
# narrower than any URL parser, so no two parsers can read an accepted URL differently.
_AFTER_HOST = re.compile(
    r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%(?!(?:[01][0-9A-Fa-f]|7[Ff]))[0-9A-Fa-f]{2})+", re.ASCII
)


def is_allowed_blob_url(url: str, allowed_hosts: Collection[str], own_prefixes: Collection[str]) -> bool:
    """True for `https://` on exactly one of the hosts, or one of our own prefixes followed by a name.

    A prefix ends in a slash, such as `http://localhost:3002/blobs/`. Upper case in scheme or host,
    user info, a port and a fragment are refused.
    """
    if len(url) > LONGEST_URL:
        return False
    for prefix in own_prefixes:
        if (
            "://" in prefix
            and prefix.endswith("/")
            and url.startswith(prefix)
            and is_name(url[len(prefix) :])
        ):
            return True
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return (
        scheme == "https"
        and separator == "://"
        and host != ""
        and any(host == allowed for allowed in allowed_hosts)
        and _AFTER_HOST.fullmatch(slash + path) is not None
    )
