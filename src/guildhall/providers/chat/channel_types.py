"""Our two closed channel types: what they are, and how the service's copy differs.

A person who is no member of a channel holds only their global role, so those roles are granted nothing:
not reading, not joining, not creating. Inside a channel nobody may change its members either, since
membership is ours: a person who left the channel by themselves would still be a member of the space.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import msgspec

from guildhall.providers.chat.values import GROUP, MEMBER, MODERATOR, SPACE, ChannelType

# The service's own global roles. One that is left out of a new type gets the service's generous defaults.
_GLOBAL_ROLES = ("admin", "anonymous", "global_admin", "global_moderator", "guest", "moderator", "user")

_READ = frozenset(
    {"read-channel", "read-channel-members", "create-reaction", "delete-reaction-owner", "flag-message"}
) | {"mute-channel"}
_WRITE = _READ | {
    "add-links",
    "create-attachment",
    "create-mention",
    "create-message",
    "create-reply",
    "delete-message-owner",
    "update-message-owner",
    "upload-attachment",
}
_MODERATE = _WRITE | {"delete-message", "pin-message"}

Grants = Mapping[str, frozenset[str]]

GRANTS: Mapping[ChannelType, Grants] = MappingProxyType(
    {
        SPACE: MappingProxyType({MEMBER: _READ, MODERATOR: _MODERATE}),
        GROUP: MappingProxyType({MEMBER: _WRITE, MODERATOR: _MODERATE}),
    }
)

_FLAGS: Mapping[str, object] = MappingProxyType(
    {
        "automod": "disabled",
        "automod_behavior": "flag",
        "custom_events": False,
        "max_message_length": 5000,
        "message_retention": "infinite",
        "mutes": True,
        "push_notifications": True,
        "reactions": True,
        "read_events": True,
        "replies": True,
        "search": True,
        "typing_events": True,
        "uploads": True,
        # The service would fetch any address a member writes.
        "url_enrichment": False,
    }
)


class ChannelTypes(msgspec.Struct, frozen=True):
    """The service's answer: its types by name, each with its flags and `grants`."""

    channel_types: dict[str, dict[str, object]]


def definition(name: ChannelType, found: Mapping[str, object] | None) -> dict[str, object]:
    """The type as the service should have it. Roles it knows beyond ours (`found`) are named and emptied."""
    grants: dict[str, list[str]] = {role: [] for role in (*_GLOBAL_ROLES, *_found_grants(found))}
    grants |= {role: sorted(allowed) for role, allowed in GRANTS[name].items()}
    return {**_FLAGS, "grants": grants}


def differences(types: ChannelTypes) -> list[str]:
    """One sentence per difference between our two types and the service's. Empty when all is well."""
    return [line for name in GRANTS for line in type_differences(name, types.channel_types.get(name))]


def type_differences(name: ChannelType, found: Mapping[str, object] | None) -> Iterator[str]:
    if found is None:
        yield f"Channel type {name} is missing."
        return
    granted = _found_grants(found)
    for role in sorted(granted.keys() | GRANTS[name].keys()):
        has, wants = granted.get(role, frozenset()), GRANTS[name].get(role, frozenset())
        for grant in sorted(has - wants):
            yield f"Channel type {name} grants {grant} to {role}, which it should not."
        for grant in sorted(wants - has):
            yield f"Channel type {name} does not grant {grant} to {role}."
    for flag, wanted in _FLAGS.items():
        if found.get(flag) != wanted:
            yield f"Channel type {name} has {flag} {found.get(flag)!r} instead of {wanted!r}."


def _found_grants(found: Mapping[str, object] | None) -> dict[str, frozenset[str]]:
    try:
        granted = msgspec.convert((found or {}).get("grants") or {}, dict[str, frozenset[str] | None])
    except msgspec.ValidationError:
        # What cannot be read grants, for all we know, nothing of ours, and so is reported and replaced.
        return {}
    return {role: allowed or frozenset() for role, allowed in granted.items()}
