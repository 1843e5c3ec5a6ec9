"""Slugs: the name of a space in an address. One set of rules for communities and hubs."""

import re
import secrets

from guildhall.errors import AppError, Conflict

_FORM = re.compile(r"[a-z0-9][a-z0-9-]{2,48}[a-z0-9]")
_LIKE_AN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-.*")

# Words that would read as a part of the service itself.
RESERVED = frozenset(
    [
        "personal",
        "shared",
        "team",
        "teams",
        "public",
        "private",
        "internal",
        "external",
        "all",
        "everyone",
        "anyone",
        "new",
        "me",
        "my",
        "user",
        "users",
        "admin",
        "api",
        "auth",
        "dashboard",
        "dev",
        "docs",
        "help",
        "home",
        "hub",
        "hubs",
        "inbox",
        "login",
        "logout",
        "memories",
        "memory",
        "recall",
        "register",
        "settings",
        "signup",
        "support",
        "topic",
        "topics",
        "waitlist",
        "memax",
        "memaxlabs",
        "root",
        "test",
        "demo",
        "staging",
        "prod",
        "production",
        "null",
        "undefined",
        "true",
        "false",
        "community",
        "communities",
        "group",
        "groups",
        "post",
        "posts",
        "backlog",
        "join",
        "invite",
        "invites",
        "check-slug",
        "sign-in",
        "blobs",
        "status",
        "guildhall",
        "health",
        "metrics",
        "static",
    ]
)


class InvalidSlug(AppError):
    status, code = 400, "invalid_slug"
    title = "A slug has 4 to 50 of a-z, 0-9 and hyphens, none at its edges, and does not look like an id."


class SlugTaken(Conflict):
    """Said of used and of reserved ones alike, so that neither can be told from the other."""

    code = "slug_taken"
    title = "This slug is not available."


def is_valid(slug: str) -> bool:
    return (
        _FORM.fullmatch(slug) is not None and not slug.startswith("xn--") and not _LIKE_AN_ID.fullmatch(slug)
    )


def derive(name: str, ending: str) -> str:
    """A slug for a name; `ending` fills up what is too short, such as `-hub`."""
    words = re.sub(r"\s+", "-", name.strip().lower())
    slug = re.sub(r"[^a-z0-9-]", "", words).strip("-")[:50].strip("-")
    if not slug:
        return f"{ending.strip('-')}-{secrets.token_hex(4)}"
    if len(slug) < 4:
        slug += ending
    return slug if is_valid(slug) else f"{ending.strip('-')}-{secrets.token_hex(4)}"


def vary(slug: str) -> str:
    """Another slug close to this one, for when it is taken."""
    return f"{slug[:43].strip('-')}-{secrets.token_hex(3)}"
