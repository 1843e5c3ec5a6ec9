"""What the chat client takes, gives and raises, in our words."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from types import MappingProxyType
from typing import Literal, TypeVar

import msgspec

from guildhall.secret import Secret

T = TypeVar("T")

ChannelType = Literal["guildhall-space", "guildhall-group"]
ChannelRole = Literal["channel_moderator", "channel_member"]

SPACE: ChannelType = "guildhall-space"
GROUP: ChannelType = "guildhall-group"
MODERATOR: ChannelRole = "channel_moderator"
MEMBER: ChannelRole = "channel_member"

COMMUNITY_CHANNEL_ROLES: Mapping[str, ChannelRole] = MappingProxyType(
    {"owner": MODERATOR, "admin": MODERATOR, "moderator": MODERATOR, "member": MEMBER}
)
GROUP_CHANNEL_ROLES: Mapping[str, ChannelRole] = MappingProxyType({"admin": MODERATOR, "member": MEMBER})

BATCH = 100
"""The service takes and gives at most this many users or members per call."""
MAX_TOKEN_TTL_S = 3600
MIN_SECRET_BYTES = 32

_USER_ID = re.compile(r"[A-Za-z0-9@_-]{1,255}")
_CHANNEL_TYPE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CHANNEL_ID = re.compile(r"[A-Za-z0-9_!-]{1,64}")


class ChatSettings(msgspec.Struct, frozen=True):
    """Where the service is, and the key and secret of our application there."""

    base_url: str
    api_key: str
    secret: Secret[str]


class UserToken(msgspec.Struct, frozen=True):
    """Lets one person talk to the chat service. The repr hides it, since holding it is enough to use it."""

    token: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"UserToken(…, expires_at={self.expires_at!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("expires_at", self.expires_at)]


class ChatUser(msgspec.Struct, frozen=True):
    id: str
    name: str
    image: str | None


class ChannelWanted(msgspec.Struct, frozen=True):
    """How a channel ought to be. `members` maps user ids to channel roles and is complete: others leave."""

    type: str
    id: str
    name: str
    image: str | None
    created_by: str
    members: Mapping[str, str]


class ChatRejected(Exception):
    """The service will not do this however often it is asked: a bad request, key, or setting.

    `status` and `code` are the service's, where it was asked at all. `reason` is its own wording, which
    may quote names, so it is not part of the text. `user_ids` are the people it does not take, when that
    is why: at most a few are found before it gives up, and everyone else in the same call is in.
    """

    def __init__(
        self,
        what: str,
        *,
        status: int | None = None,
        code: int | None = None,
        reason: str = "",
        user_ids: tuple[str, ...] = (),
    ) -> None:
        detail = "".join(
            f", {name} {value}" for name, value in (("status", status), ("code", code)) if value is not None
        )
        super().__init__(f"The chat service rejected it: {what}{detail}.")
        self.status = status
        self.code = code
        self.reason = reason
        self.user_ids = user_ids


class ChatUnavailable(Exception):
    """The service did not answer, or not now; whether it acted is unknown, and asking again is harmless.

    `retry_after_s` is how long the service wants to be left alone, None when it does not say.
    """

    def __init__(self, what: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"The chat service is unavailable: {what}.")
        self.retry_after_s = retry_after_s


def check_user_id(user_id: str) -> str:
    if _USER_ID.fullmatch(user_id) is None:
        raise ChatRejected("a user id it cannot hold")
    return user_id


def check_role(role: str) -> str:
    if role not in (MODERATOR, MEMBER):
        raise ChatRejected("a channel role that is not ours")
    return role


def channel_path(channel_type: str, channel_id: str) -> str:
    """The channel's path. Both parts are checked, so neither can name another resource."""
    if _CHANNEL_TYPE.fullmatch(channel_type) is None or _CHANNEL_ID.fullmatch(channel_id) is None:
        raise ChatRejected("a channel name it cannot hold")
    return f"/channels/{channel_type}/{channel_id}"


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """The items by BATCH, none of them empty."""
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
