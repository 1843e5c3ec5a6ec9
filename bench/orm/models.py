"""The tables that are asked for, as the ORM sees them."""
# pyright: reportMissingImports=false
# The bench's own packages are not there when only the service is being worked on.

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, ForeignKey, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    type_annotation_map = {str: Text, datetime: DateTime(timezone=True)}  # noqa: RUF012


class User(Base):
    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True)
    issuer: Mapped[str]
    status: Mapped[str]
    display_name: Mapped[str]
    avatar_url: Mapped[str | None]
    bio: Mapped[str | None]


class UserSession(Base):
    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class Space(Base):
    __tablename__ = "spaces"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    slug: Mapped[str]
    description: Mapped[str | None]
    is_private: Mapped[bool]
    logo_url: Mapped[str | None]
    cover_image_url: Mapped[str | None]
    owner_id: Mapped[str]
    member_count: Mapped[int]
    post_count: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class Member(Base):
    __tablename__ = "members"

    space_id: Mapped[UUID] = mapped_column(ForeignKey("spaces.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True)
    role: Mapped[str]
    rank: Mapped[int]
    status: Mapped[str]
    sort_name: Mapped[str]
    joined_at: Mapped[datetime]

    space: Mapped[Space] = relationship()
    user: Mapped[User] = relationship()


class Post(Base):
    __tablename__ = "posts"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    space_id: Mapped[UUID] = mapped_column(ForeignKey("spaces.id"))
    group_id: Mapped[UUID | None]
    author_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    title: Mapped[str | None]
    content: Mapped[str]
    attachments: Mapped[list[str]] = mapped_column(ARRAY(Text))
    is_pinned: Mapped[bool]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    edited_at: Mapped[datetime | None]

    author: Mapped[User] = relationship()
