"""What a key may hold, and what a key may give to another. No I/O, no clock, no SQL."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args
from uuid import UUID

from guildhall.errors import AppError, Conflict, Forbidden, InvalidRequest
from guildhall.web.access import Access, Atom, TrustLevel

ATOMS: frozenset[str] = frozenset(get_args(Atom))
BUNDLES: Mapping[str, frozenset[str]] = {
    "read": frozenset({"memory:read", "topic:read", "dream:read", "hub:read", "hub:members:read"}),
    "write": frozenset({"memory:write"}),
    "organize": frozenset({"topic:write", "dream:run"}),
    "delete": frozenset({"memory:delete"}),
    "agent-sync": frozenset({"config:read", "config:write"}),
}
DEFAULT_SCOPES = ("read", "write")
# What concerns the person and not a hub, so that no key for certain hubs holds it.
PERSONAL = frozenset({"settings:read", "settings:write", "config:read", "config:write", "account:delete"})
TRUST: tuple[str, ...] = get_args(TrustLevel)
MAX_NAME = 100
MAX_HUBS = 100
MAX_KEYS = 200
MAX_DAYS = 3_650
_AGENT = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


class InvalidPermissions(AppError):
    code = "invalid_permissions"
    title = "A scope is one of read, write, organize, delete and agent-sync, or a single permission."


class InvalidTrustLevel(AppError):
    code = "invalid_trust_level"
    title = "A trust level is one of public, standard, elevated and admin."


class TooManyKeys(Conflict):
    code = "too_many_keys"
    title = f"One person has at most {MAX_KEYS} keys. Revoke some first."


def atoms_of(words: Sequence[str]) -> frozenset[str]:
    """The permissions that these bundles and single permissions stand for. Raises InvalidPermissions."""
    atoms: set[str] = set()
    for word in words:
        if word in ATOMS:
            atoms.add(word)
        elif word in BUNDLES:
            atoms |= BUNDLES[word]
        else:
            raise InvalidPermissions
    return frozenset(atoms)


def scopes_of(words: Sequence[str], atoms: frozenset[str]) -> list[str]:
    """The same bundles and single permissions, as far as these permissions go."""
    kept: list[str] = []
    for word in words:
        stands_for = BUNDLES.get(word, frozenset({word}))
        kept += [word] if stands_for <= atoms else sorted(stands_for & atoms)
    return list(dict.fromkeys(kept))


def check_weaker(
    maker: Access, atoms: frozenset[str], hubs: Sequence[UUID] | None, trust_level: TrustLevel
) -> None:
    """Refuse a key that may what its maker may not."""
    if not atoms <= maker.atoms:
        raise Forbidden("A key makes only keys with permissions that it has itself.")
    if maker.hubs is not None and (hubs is None or not set(hubs) <= set(maker.hubs)):
        raise Forbidden("A key that is for certain hubs makes only keys for these.")
    if TRUST.index(trust_level) > TRUST.index(maker.trust_level):
        raise Forbidden("A key makes only keys that are trusted no more than itself.")


def default_trust(hubs: Sequence[UUID] | None, maker: Access | None) -> TrustLevel:
    """Less for a key that is for certain hubs, and never more than its maker's."""
    usual = "elevated" if hubs is None else "standard"
    own = TRUST[-1] if maker is None else maker.trust_level
    return cast("TrustLevel", min(usual, own, key=TRUST.index))


def read_trust(raw: str) -> TrustLevel:
    if raw not in TRUST:
        raise InvalidTrustLevel.at("/trust_level")
    return cast("Any", raw)


def read_agent(raw: str) -> str:
    """An agent's name as it is kept. Raises InvalidRequest."""
    name = raw.strip().lower()
    if _AGENT.fullmatch(name) is None:
        raise InvalidRequest("An agent's name has up to 64 of a-z, 0-9, dot, hyphen and underscore.")
    return name


def title_of(agent: str) -> str:
    """What an agent is shown as until its person says otherwise: `claude-code` as `Claude Code`."""
    return " ".join(word.capitalize() for word in re.split(r"[._-]+", agent) if word)
