"""The wire of `/api/communities` and `/api/invites`."""

from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from guildhall.errors import FieldError, Invalid
from guildhall.spaces.invites import Invite as InviteRow
from guildhall.spaces.members import Member as MemberRow
from guildhall.spaces.rules import CommunityRole
from guildhall.spaces.transfer import Transfer as TransferRow
from guildhall.web.paging import Listing
from guildhall.web.service import Service
from guildhall.web.wire import Email, FileUrl, Optional, Slug, UserIdText, Wire, text

SPACE_CHANNEL = "guildhall-space"

Name = Annotated[str, text(2, 100), Meta(examples=["Rust Gardeners"])]
Description = Annotated[str, text(0, 500, "prose"), Meta(examples=["People who grow things and write Rust."])]
Invitable = Literal["admin", "moderator", "member"]


class Community(Wire, frozen=True, kw_only=True):
    """A community as the caller sees it; `role` is null for somebody who is no member."""

    id: UUID
    name: str
    slug: str
    description: str | None
    is_private: bool
    logo_url: str | None
    cover_image_url: str | None
    owner_id: str
    role: CommunityRole | None
    member_count: int
    stream_channel_id: str
    stream_channel_type: str
    created_at: str
    updated_at: str


class CreateCommunity(Wire, frozen=True, kw_only=True):
    name: Name
    description: Description | None = None
    is_private: bool = False
    slug: Slug | None = None


class UpdateCommunity(Wire, frozen=True, kw_only=True):
    """Absent fields stay as they are; null clears those that may be empty."""

    name: Name | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    logo_url: FileUrl | UnsetType | None = UNSET
    cover_image_url: FileUrl | UnsetType | None = UNSET
    is_private: bool | UnsetType = UNSET
    slug: Slug | UnsetType = UNSET


class Member(Wire, frozen=True, kw_only=True):
    user_id: str
    display_name: str
    avatar_url: str | None
    bio: str | None
    role: CommunityRole
    status: Literal["active", "suspended"]
    joined_at: str

    @classmethod
    def of(cls, row: MemberRow) -> "Member":
        return cls(
            user_id=row.user_id,
            display_name=row.display_name,
            avatar_url=row.avatar_url,
            bio=row.bio,
            role=row.role,  # pyright: ignore[reportArgumentType] - the table's check
            status=row.status,  # pyright: ignore[reportArgumentType] - the table's check
            joined_at=row.joined_at,
        )


class MemberList(Listing, frozen=True, kw_only=True):
    """By rank, then name. Without `page`, `limit` and `cursor` it is the full directory."""

    items: list[Member]


class CommunityList(Listing, frozen=True, kw_only=True):
    """The caller's communities, most recently active first."""

    items: list[Community]


class ChangeRole(Wire, frozen=True, kw_only=True):
    target_user_id: UserIdText
    role: CommunityRole


class TargetUser(Optional, frozen=True, kw_only=True):
    target_user_id: UserIdText | UnsetType = UNSET


def target(sent: TargetUser, in_query: str | None) -> str:
    """The person meant, from the body or the query; both must agree. Raises Invalid."""
    in_body = None if sent.target_user_id is UNSET else sent.target_user_id
    if in_body is None and in_query is None:
        raise Invalid(errors=[FieldError("/targetUserId", "required", "This field is required.")])
    if in_body is not None and in_query is not None and in_body != in_query:
        problem = FieldError("/targetUserId", "ambiguous", "Body and query name different people.")
        raise Invalid(errors=[problem])
    return in_body or in_query or ""


class Target(Wire, frozen=True, kw_only=True):
    target_user_id: UserIdText


class CreateInvite(Wire, frozen=True, kw_only=True):
    email: Email
    role: Invitable = "member"


class Invite(Optional, frozen=True, kw_only=True):
    """`token` and `url` only for those who may invite, and only where the link is shown."""

    id: UUID
    community_id: UUID
    email: str | None
    role: Invitable
    status: Literal["open", "accepted", "revoked", "expired"]
    invited_by: str
    created_at: str
    expires_at: str
    sent_at: str | None
    token: str | UnsetType = UNSET
    url: str | UnsetType = UNSET

    @classmethod
    def of(cls, row: InviteRow, service: Service, *, link: bool) -> "Invite":
        token = row.token(service) if link else None
        return cls(
            id=row.id,
            community_id=row.space_id,
            email=row.email,
            role=row.role,  # pyright: ignore[reportArgumentType] - the table's check
            status=row.status,  # pyright: ignore[reportArgumentType] - the function's values
            invited_by=row.invited_by,
            created_at=row.created_at,
            expires_at=row.expires_at,
            sent_at=row.sent_at,
            token=token if token else UNSET,
            url=f"{service.public_url}/join/{token}" if token else UNSET,
        )


class InviteList(Wire, frozen=True, kw_only=True):
    """Open invites, newest first."""

    items: list[Invite]


class InviteCard(Optional, frozen=True, kw_only=True):
    """What the holder of a link may know; a dead invite tells its status only."""

    status: Literal["open", "accepted", "revoked", "expired"]
    community_name: str | UnsetType = UNSET
    inviter_name: str | UnsetType = UNSET
    role: str | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET


class AcceptedInvite(Wire, frozen=True, kw_only=True):
    community: Community
    role: CommunityRole


class Summary(Optional, frozen=True, kw_only=True):
    """Counts of what the caller may see. `unreadPosts` are others' posts since the caller's last visit."""

    member_count: int
    group_count: int
    post_count: int
    unread_posts: int
    role: CommunityRole
    pending_invites: int | UnsetType = UNSET


class OwnershipTransfer(Wire, frozen=True, kw_only=True):
    id: UUID
    community_id: UUID
    initiated_by: str
    target_user_id: str
    created_at: str
    expires_at: str
    accepted_at: str | None
    cancelled_at: str | None

    @classmethod
    def of(cls, row: TransferRow) -> "OwnershipTransfer":
        return cls(
            id=row.id,
            community_id=row.space_id,
            initiated_by=row.initiated_by,
            target_user_id=row.target_user_id,
            created_at=row.created_at,
            expires_at=row.expires_at,
            accepted_at=row.accepted_at,
            cancelled_at=row.cancelled_at,
        )


class TransferCanceled(Wire, frozen=True, kw_only=True):
    status: Literal["canceled"]
    transfer_id: UUID
