"""The chat service: a thin client of the documented REST API of Stream Chat, hosted or embedded by base URL.

No vendor's SDK is used. What the channels and people there should be is for the caller to say; this makes
them so. The errors are ChatRejected (give up) and ChatUnavailable (try later), nothing else.
"""

from guildhall.providers.chat.client import Chat, open_chat
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
