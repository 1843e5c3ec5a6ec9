"""The chat service: a thin client of the documented REST API of Stream Chat, hosted or embedded by base URL.

No vendor's SDK is used. What the channels and people there should be is for the caller to say; this makes
them so. The errors are ChatRejected (give up) and ChatUnavailable (try later), nothing else.
"""

from typing import TYPE_CHECKING, Any

from guildhall.providers.chat.values import (
    COMMUNITY_CHANNEL_ROLES,
    GROUP,
    GROUP_CHANNEL_ROLES,
    MEMBER,
    MODERATOR,
    SPACE,
    ChannelRole,
    ChannelType,
    ChannelWanted,
    ChatRejected,
    ChatSettings,
    ChatUnavailable,
    ChatUser,
    UserToken,
)

if TYPE_CHECKING:
    from guildhall.providers.chat.client import Chat

__all__ = [
    "COMMUNITY_CHANNEL_ROLES",
    "GROUP",
    "GROUP_CHANNEL_ROLES",
    "MEMBER",
    "MODERATOR",
    "SPACE",
    "ChannelRole",
    "ChannelType",
    "ChannelWanted",
    "Chat",
    "ChatRejected",
    "ChatSettings",
    "ChatUnavailable",
    "ChatUser",
    "UserToken",
    "open_chat",
]


def open_chat(settings: ChatSettings) -> "Chat":
    """Raises ValueError for an address or a secret that cannot be used."""
    from guildhall.providers.chat.client import open_chat

    return open_chat(settings)


def __getattr__(name: str) -> Any:
    # The client brings an HTTP client along, which takes a quarter of a second that every command would pay.
    if name == "Chat":
        from guildhall.providers.chat.client import Chat

        return Chat
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
