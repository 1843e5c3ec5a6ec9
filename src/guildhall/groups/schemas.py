"""The wire of `/api/groups`."""

from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from guildhall.web.wire import Optional, UserIdText, UuidText, Wire, text

GROUP_CHANNEL = "guildhall-group"

GroupRole: TypeAlias = Literal["admin", "member"]
Name = Annotated[str, text(2, 80), Meta(examples=["Tomato growers"])]
Description = Annotated[str, text(0, 300, "prose"), Meta(examples=["Everything about tomatoes."])]


class Group(Wire, frozen=True, kw_only=True):
    """A group as the caller sees it; `role` is null for somebody who does not belong to it."""

    id: UUID
    community_id: UUID
    name: str
    description: str | None
    is_private: bool
    role: GroupRole | None
    member_count: int
    stream_channel_id: str
    stream_channel_type: str
    created_by: str
    created_at: str
    updated_at: str


class GroupList(Wire, frozen=True, kw_only=True):
    """The groups the caller may see, by name."""

    items: list[Group]


class CreateGroup(Wire, frozen=True, kw_only=True):
    community_id: UuidText
    name: Name
    description: Description | None = None
    is_private: bool = False


class UpdateGroup(Wire, frozen=True, kw_only=True):
    """Absent fields stay as they are; null clears the description."""

    name: Name | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    is_private: bool | UnsetType = UNSET


class AddToGroup(Wire, frozen=True, kw_only=True):
    target_user_id: UserIdText
    role: GroupRole = "member"


class GroupMember(Wire, frozen=True, kw_only=True):
    """`role` is the one in the group; `status` is the membership's in the community."""

    user_id: str
    display_name: str
    avatar_url: str | None
    bio: str | None
    role: GroupRole
    status: Literal["active", "suspended"]
    joined_at: str


class GroupMemberList(Optional, frozen=True, kw_only=True):
    """Admins first, then by name. Without `page`, `limit` and `cursor` it is the full list."""

    items: list[GroupMember]
    page: int | None = None
    limit: int | None = None
    total: int | None = None
    has_more: bool | None = None
    next_cursor: str | None = None
