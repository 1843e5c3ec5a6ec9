"""What an API key lets its holder do, and which keys a route is for.

A session may everything its person may. A key may what is in it: every route names the permission it asks of
keys, and a route that names none is not for keys at all.
"""

from collections.abc import Awaitable
from typing import Literal, Protocol, TypeAlias
from uuid import UUID

import msgspec

from guildhall.errors import Forbidden

Atom: TypeAlias = Literal[
    "memory:read",
    "memory:write",
    "memory:delete",
    "topic:read",
    "topic:write",
    "dream:read",
    "dream:run",
    "hub:read",
    "hub:members:read",
    "hub:manage",
    "settings:read",
    "settings:write",
    "config:read",
    "config:write",
    "chat:read",
    "chat:write",
    "account:delete",
]
TrustLevel: TypeAlias = Literal["public", "standard", "elevated", "admin"]

KEY_PREFIX = "mxk_"
"""How an API key begins, as clients of this API know it."""


class PermissionDenied(Forbidden):
    code = "permission_denied"
    title = "This API key lacks a permission. Use one that has it, or a session."


class Access(msgspec.Struct, frozen=True):
    """What a key holds. `hubs` are those it is limited to, in the order they were named; None is no limit.

    None of it changes while the key lives, but that a hub goes from the list with the membership in it.
    """

    id: UUID
    atoms: frozenset[str]
    hubs: tuple[UUID, ...] | None
    trust_level: TrustLevel


class KeyHolder(msgspec.Struct, frozen=True):
    """Whose key it is. `session` is what the database's me() knows the key by."""

    user: str
    issuer: str
    session: str
    access: Access


class KeyRing(Protocol):
    """Finds the person behind a key. Whether the key still lives is read with the rows it asks for."""

    def known(self, key: str) -> KeyHolder | None:
        """Without a query: a key that was found before."""
        ...

    def find(self, key: str) -> Awaitable[KeyHolder | None]:
        """With a query at most; none for what cannot be a key."""
        ...


def check_key(access: Access | None, atom: Atom | Literal["any"] | None, *, unlimited: bool) -> None:
    """Refuse a key that the route is not for. `unlimited` keeps out those that are for certain hubs only."""
    if access is None:
        return
    if atom is None:
        raise Forbidden("This is not for API keys. Use a session.")
    if atom != "any" and atom not in access.atoms:
        raise PermissionDenied(f"This needs a key with the permission {atom}.")
    if unlimited and access.hubs is not None:
        raise PermissionDenied("A key that is for certain hubs only may not do this.")
