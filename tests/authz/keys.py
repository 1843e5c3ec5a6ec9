"""Keys as callers of the table: all of them the owner's, each with less than their person may.

What a route asks of a key is written here by hand, so that a route that asks for less is found out.
"""

from collections.abc import Mapping

READ = frozenset({"memory:read", "topic:read", "dream:read", "hub:read", "hub:members:read"})
ALL = READ | {
    "memory:write",
    "memory:delete",
    "topic:write",
    "dream:run",
    "hub:manage",
    "settings:read",
    "settings:write",
    "config:read",
    "config:write",
    "chat:read",
    "chat:write",
    "account:delete",
}
# What is about the person, which a key for certain hubs loses whatever it asked for.
PERSONAL = frozenset({"settings:read", "settings:write", "config:read", "config:write", "account:delete"})

# `read_key` may read; `hub_key` may everything in the one hub of the table; `full_key` everything.
HELD: Mapping[str, frozenset[str]] = {"read_key": READ, "hub_key": ALL - PERSONAL, "full_key": ALL}
KEYS = tuple(HELD)
# Keys are of no use on the other surface, which one of them shows.
KEYS_ELSEWHERE = ("full_key",)

# What a key needs for a route; "any" is any key, "whole" any that is not for certain hubs, alone or before
# what else it needs. What is not named here is for sessions alone.
NEEDS: Mapping[str, str] = {
    "GET /v1/hubs": "hub:read",
    "GET /v1/hubs/check-slug": "hub:read",
    "POST /v1/hubs": "whole hub:manage",
    "GET /v1/hubs/{}": "hub:read",
    "GET /v1/hubs/{}/summary": "hub:read",
    "POST /v1/hubs/{}/visit": "hub:read",
    "PATCH /v1/hubs/{}": "hub:manage",
    "DELETE /v1/hubs/{}": "hub:manage",
    "POST /v1/hubs/{}/members": "hub:manage",
    "PATCH /v1/hubs/{}/members/{}": "hub:manage",
    "DELETE /v1/hubs/{}/members/{}": "hub:manage",
    "POST /v1/hubs/{}/leave": "hub:manage",
    "POST /v1/hubs/{}/ownership-transfer": "hub:manage",
    "POST /v1/hubs/{}/ownership-transfer/{}/accept": "hub:manage",
    "POST /v1/hubs/{}/ownership-transfer/{}/cancel": "hub:manage",
    "POST /v1/hubs/{}/invites": "hub:manage",
    "GET /v1/hubs/{}/invites": "hub:manage",
    "DELETE /v1/hubs/{}/invites/{}": "hub:manage",
    "POST /v1/hubs/{}/invites/{}/resend": "hub:manage",
    "POST /v1/hubs/{}/invites/{}/regenerate": "hub:manage",
    "POST /v1/invites/{}/accept": "whole",
    "POST /v1/auth/api-keys": "any",
    "GET /v1/auth/api-keys": "any",
    "DELETE /v1/auth/api-keys/{}": "any",
    "GET /v1/agents": "any",
    "GET /v1/auth/me": "any",
    "PATCH /v1/auth/me": "settings:write",
    "GET /v1/settings": "settings:read",
    "PATCH /v1/settings": "settings:write",
    "GET /v1/usage": "any",
    "GET /v1/onboarding/state": "any",
    "POST /v1/onboarding/restart": "whole",
    "GET /v1/notifications": "dream:read",
    "GET /v1/notifications/summary": "dream:read",
    "POST /v1/notifications/seen": "dream:read",
    "POST /v1/notifications/dismiss": "dream:read",
    "POST /v1/notifications/{}/seen": "dream:read",
    "POST /v1/notifications/{}/dismiss": "dream:read",
    "POST /v1/notifications/{}/resolve": "dream:read",
    "POST /v1/notifications/{}/items/{}/view": "dream:read",
    "POST /v1/notifications/{}/items/{}/complete": "dream:read",
    "GET /v1/memories": "memory:read",
    "POST /v1/memories": "memory:write",
    "GET /v1/memories/{}": "memory:read",
    "POST /v1/memories/{}/access": "memory:read",
    "GET /v1/memories/{}/versions": "memory:read",
    "PATCH /v1/memories/{}": "memory:write",
    "POST /v1/memories/{}/versions/{}/restore": "memory:write",
    "DELETE /v1/memories/{}": "memory:delete",
    "POST /v1/memories/batch-delete": "memory:delete",
    "POST /v1/memories/batch-move": "memory:write",
    "POST /v1/memories/{}/share": "memory:write",
    "DELETE /v1/account/data": "account:delete",
    "GET /v1/memories/{}/related": "memory:read",
    "GET /v1/memories/search": "memory:read",
    "GET /v1/bar/search": "memory:read",
    "POST /v1/recall": "memory:read",
    "POST /v1/uploads": "memory:write",
    "GET /v1/memories/{}/attachments/{}/download": "memory:read",
    "POST /v1/memories/{}/attachments/{}/view-url": "memory:read",
    "POST /v1/ask": "memory:read",
    "POST /v1/dreams/trigger": "dream:run",
    "GET /v1/dreams": "dream:read",
    "GET /v1/dreams/report": "dream:read",
    "GET /v1/dreams/{}": "dream:read",
    "POST /v1/dreams/{}/undo": "dream:run",
    "POST /v1/dreams/{}/actions/{}/undo": "dream:run",
    "GET /v1/usage/dreams": "dream:read",
    "GET /v1/topics": "topic:read",
    "GET /v1/topics/archived": "topic:read",
    "GET /v1/topics/{}": "topic:read",
    "GET /v1/topics/{}/memories": "topic:read",
    "POST /v1/topics/{}/visit": "topic:read",
    "POST /v1/topics": "topic:write",
    "POST /v1/topics/reorder": "topic:write",
    "PATCH /v1/topics/{}": "topic:write",
    "DELETE /v1/topics/{}": "topic:write",
    "POST /v1/topics/{}/archive": "topic:write",
    "POST /v1/topics/{}/restore": "topic:write",
    "POST /v1/topics/{}/memories": "topic:write",
    "DELETE /v1/topics/{}/memories/{}": "topic:write",
    "GET /v1/events/stream": "any",
    "POST /mcp": "any",
}


def refusal(route: str, key: str) -> str | None:
    """The code by which a key is refused before anything else is asked; None for one that may go on."""
    need = NEEDS.get(route)
    if need is None:
        return "forbidden"
    *whole, atom = need.split()
    if (whole or atom == "whole") and key == "hub_key":
        return "permission_denied"
    return None if atom in ("any", "whole") or atom in HELD[key] else "permission_denied"
