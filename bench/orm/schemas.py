"""The wire, as pydantic models."""
# pyright: reportMissingImports=false

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    model_config = ConfigDict(from_attributes=True, alias_generator=to_camel, populate_by_name=True)


class Author(Model):
    id: str
    display_name: str
    avatar_url: str | None


class PostOut(Model):
    id: UUID
    community_id: Annotated[UUID, Field(validation_alias="space_id")]
    group_id: UUID | None
    author: Author
    title: str | None
    content: str
    attachments: list[str]
    is_pinned: bool
    created_at: datetime
    updated_at: datetime
    edited_at: datetime | None


class Feed(Model):
    items: list[PostOut]
    page: int
    limit: int
    total: int
    has_more: bool
    next_cursor: str | None


class CommunityOut(Model):
    id: UUID
    name: str
    slug: str
    description: str | None
    is_private: bool
    logo_url: str | None
    cover_image_url: str | None
    owner_id: str
    role: str | None
    member_count: int
    stream_channel_id: UUID
    created_at: datetime
    updated_at: datetime


class ProfileOut(Model):
    id: str
    display_name: str
    avatar_url: str | None
    bio: str | None


class MemberOut(Model):
    user_id: str
    display_name: str
    avatar_url: str | None
    bio: str | None
    role: str
    status: str
    joined_at: datetime


class CreatePost(Model):
    community_id: UUID
    content: Annotated[str, Field(min_length=1, max_length=10_000)]
    title: Annotated[str | None, Field(max_length=200)] = None
    is_pinned: bool = False
