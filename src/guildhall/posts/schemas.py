"""The wire of `/api/posts`."""

from typing import Annotated
from uuid import UUID

import msgspec
from litestar.params import Parameter
from msgspec import UNSET, Meta, UnsetType, field

from guildhall.web.paging import Cursor, Limit, Page
from guildhall.web.wire import FileUrl, Optional, UuidText, Wire, text

Title = Annotated[str, text(0, 200), Meta(examples=["Seeds to share"])]
Content = Annotated[str, text(1, 10_000, "prose"), Meta(examples=["I have **too many** tomatoes."])]
Attachments = Annotated[list[FileUrl], Meta(max_length=10)]


class Author(Wire, frozen=True, kw_only=True):
    """All null once the author's account was erased."""

    id: str | None
    display_name: str | None
    avatar_url: str | None


class Post(Wire, frozen=True, kw_only=True):
    """`content` is Markdown; `editedAt` is when title or content changed last."""

    id: UUID
    community_id: UUID
    group_id: UUID | None
    author: Author
    title: str | None
    content: str
    attachments: list[str]
    is_pinned: bool
    created_at: str
    updated_at: str
    edited_at: str | None


class PostList(Optional, frozen=True, kw_only=True):
    """Pinned first, then newest first."""

    items: list[Post]
    page: int
    limit: int
    total: int
    has_more: bool
    next_cursor: str | None


class FeedQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a feed. The handler reads them by hand; this is for the documentation."""

    community_id: Annotated[UuidText, Parameter(query="communityId", description="The community's id.")]
    group_id: (
        Annotated[
            UuidText,
            Parameter(query="groupId", description="A group's id, for its feed instead of the community's."),
        ]
        | None
    ) = None
    page: Page = None
    limit: Limit = None
    cursor: Cursor = None


class CreatePost(Wire, frozen=True, kw_only=True):
    community_id: UuidText
    group_id: UuidText | None = None
    content: Content
    title: Title | None = None
    attachments: Attachments = field(default_factory=list[str])
    is_pinned: bool = False


class UpdatePost(Wire, frozen=True, kw_only=True):
    """Absent fields stay as they are; null clears the title."""

    content: Content | UnsetType = UNSET
    title: Title | UnsetType | None = UNSET
    attachments: Attachments | UnsetType = UNSET
    is_pinned: bool | UnsetType = UNSET


class InFeed(Wire, frozen=True, kw_only=True):
    """Where a post is to go, which is looked at before the rest of it is judged."""

    community_id: UuidText
    group_id: UuidText | None = None
