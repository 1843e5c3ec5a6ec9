"""The shapes of hubs on `/v1`. The database writes some of them as JSON itself; then they are passed on."""

from typing import Annotated, Any, ClassVar, Literal, TypeAlias, cast, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from guildhall.hubs.greeting import Bucket, State
from guildhall.hubs.rules import LANGUAGES, ROLES, Accent, DeletePolicy, HeaderMode
from guildhall.spaces.invites import Invite as InviteRow
from guildhall.spaces.rules import HubRole
from guildhall.spaces.transfer import Transfer as TransferRow
from guildhall.web.app import Raw
from guildhall.web.service import Service
from guildhall.web.wire import Data, OptionalV1, WireV1, one_of

# Empty where there is none, since the field is always there.
UrlOrNothing: TypeAlias = Annotated[str, Meta(pattern="^(https?://.*)?$")]

# Words that the rules of hubs judge; each refusal has a code of its own.
AnyRole: TypeAlias = Annotated[str, one_of(*ROLES, example="contributor")]
AnyAccent: TypeAlias = Annotated[str, one_of(*get_args(Accent), "")]
AnyPolicy: TypeAlias = Annotated[str, one_of(*get_args(DeletePolicy), example="own")]
AnyMode: TypeAlias = Annotated[str, one_of(*get_args(HeaderMode), "", example="time")]
AnyLanguage: TypeAlias = Annotated[str, one_of(*sorted(LANGUAGES), "", example="english")]

json_type = (b"content-type", b"application/json; charset=utf-8")
_encode = msgspec.json.Encoder().encode


def sent(data: object, status: int = 200) -> Raw:
    """An answer in the envelope."""
    return Raw(status, (json_type,), _encode(Data(data)))


def made(json: str | None) -> Any:
    """A value that the database has written as JSON, to be put into a shape as it is."""
    return cast("Any", msgspec.Raw(b"null" if json is None else json.encode()))


class Hub(OptionalV1, frozen=True, kw_only=True):
    """A hub. `settings` holds only what was set here; for the rest the defaults apply. `language` is that of
    its memories: by it words are cut to their stems."""

    id: str
    name: str
    slug: str
    hub_type: Literal["personal", "team"]
    owner_id: str
    allow_contributor_topics: bool
    allow_contributor_dreams: bool
    contributor_delete_policy: DeletePolicy
    created_at: str
    updated_at: str
    icon: str | UnsetType = UNSET
    accent: Accent | UnsetType = UNSET
    plan: str | UnsetType = UNSET
    header_aurora_mode: HeaderMode | UnsetType = UNSET
    language: str | UnsetType = UNSET
    settings: dict[str, bool] | UnsetType = UNSET


class HubWithRole(WireV1, frozen=True, kw_only=True):
    """`memory_count` is of memories that are not archived."""

    hub: Hub
    role: HubRole
    memory_count: int


class HubMember(OptionalV1, frozen=True, kw_only=True):
    """Of addresses only one's own is shown. `last_visited_at` is told to the hub's owner and admins."""

    hub_id: str
    user_id: str
    role: HubRole
    joined_at: str
    user_name: str
    user_email: str
    user_avatar_url: UrlOrNothing
    last_visited_at: str | UnsetType = UNSET


class HubOwnershipTransfer(OptionalV1, frozen=True, kw_only=True):
    id: str
    hub_id: str
    initiated_by: str
    target_user_id: str
    expires_at: str
    created_at: str
    accepted_at: str | UnsetType = UNSET
    cancelled_at: str | UnsetType = UNSET
    target_user_name: str | UnsetType = UNSET
    target_user_email: str | UnsetType = UNSET

    @classmethod
    def of(cls, row: TransferRow, *, name: str, email: str | None) -> "HubOwnershipTransfer":
        return cls(
            id=str(row.id),
            hub_id=str(row.space_id),
            initiated_by=row.initiated_by,
            target_user_id=row.target_user_id,
            expires_at=row.expires_at,
            created_at=row.created_at,
            accepted_at=row.accepted_at or UNSET,
            cancelled_at=row.cancelled_at or UNSET,
            target_user_name=name,
            target_user_email=email or UNSET,
        )


class HubDetail(WireV1, frozen=True, kw_only=True):
    """Members are by rank, then by when they joined."""

    hub: Hub
    role: HubRole
    pending_transfer: HubOwnershipTransfer | None
    is_frozen: bool
    # Last, since there may be very many, which are sent a part at a time.
    members: list[HubMember]


class Stats(OptionalV1, frozen=True, kw_only=True):
    """`inbox` are memories without a topic, `pending_review` what waits for the caller's decision."""

    memories: int
    topics: int
    inbox: int
    pending_review: int
    members: int | UnsetType = UNSET
    dream_topics: int | UnsetType = UNSET
    team_activity: int | UnsetType = UNSET


class MemberPreview(OptionalV1, frozen=True, kw_only=True):
    user_id: str
    user_name: str
    user_avatar_url: str | UnsetType = UNSET


class GreetingParams(OptionalV1, frozen=True, kw_only=True):
    name: str
    n: str | UnsetType = UNSET


class Header(WireV1, frozen=True, kw_only=True):
    """How to greet the caller: which text, by `greeting_key`, and what to fill in."""

    state: State
    greeting_key: str
    greeting_params: GreetingParams
    time_bucket: Bucket


class HubSummary(OptionalV1, frozen=True, kw_only=True):
    hub: Hub
    role: HubRole
    stats: Stats
    header: Header
    members_preview: list[MemberPreview] | UnsetType = UNSET


class SlugCheck(OptionalV1, frozen=True, kw_only=True):
    """Used and reserved slugs are both `taken`."""

    available: bool
    reason: Literal["invalid", "taken"] | UnsetType = UNSET


class CreateHub(OptionalV1, frozen=True, kw_only=True):
    """Without a slug one is made from the name."""

    name: str = ""
    slug: str = ""


class UpdateHub(OptionalV1, frozen=True, kw_only=True):
    """What is absent stays. An empty name or slug changes nothing; an empty icon, accent or header mode
    goes back to the default, and so does a setting that is null."""

    name: str | UnsetType = UNSET
    slug: str | UnsetType = UNSET
    icon: str | UnsetType = UNSET
    accent: AnyAccent | UnsetType = UNSET
    allow_contributor_topics: bool | UnsetType = UNSET
    allow_contributor_dreams: bool | UnsetType = UNSET
    contributor_delete_policy: AnyPolicy | UnsetType = UNSET
    header_aurora_mode: AnyMode | UnsetType = UNSET
    language: AnyLanguage | UnsetType = UNSET
    settings: Annotated[dict[str, Any], Meta(examples=[{"dreams_enabled": False}])] | UnsetType = UNSET


class HubDeleted(WireV1, frozen=True, kw_only=True):
    deleted: Literal[True]
    hub_id: str


class Visited(WireV1, frozen=True, kw_only=True):
    status: Literal["ok"]
    hub_id: str


class Left(WireV1, frozen=True, kw_only=True):
    status: Literal["left"]
    hub_id: str


class AddMember(OptionalV1, frozen=True, kw_only=True):
    """A role is admin, contributor or viewer; none means contributor."""

    user_id: str = ""
    role: AnyRole = ""


class ChangeRole(OptionalV1, frozen=True, kw_only=True):
    """A role is admin, contributor or viewer; none means contributor."""

    role: AnyRole = ""


class MemberAdded(WireV1, frozen=True, kw_only=True):
    status: Literal["added"]
    user_id: str
    role: HubRole


class MemberUpdated(WireV1, frozen=True, kw_only=True):
    status: Literal["updated"]
    user_id: str
    role: HubRole


class MemberRemoved(WireV1, frozen=True, kw_only=True):
    status: Literal["removed"]
    user_id: str


class OfferOwnership(OptionalV1, frozen=True, kw_only=True):
    target_user_id: str = ""


class TransferCanceled(WireV1, frozen=True, kw_only=True):
    status: Literal["canceled"]
    transfer_id: str


class Invitee(OptionalV1, frozen=True, kw_only=True):
    """Whom an invite is for: the person of this id, else the person of this address."""

    user_id: str = ""
    email: str = ""


class CreateInvite(OptionalV1, frozen=True, kw_only=True):
    """Without an invitee, the link admits whoever comes first."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"role": "contributor", "invitee": {"email": "bo@example.org"}}

    role: AnyRole = ""
    invitee: Invitee | UnsetType = UNSET


class HubInvite(OptionalV1, frozen=True, kw_only=True):
    """An open invite, as those see it who may invite. `invite_url` comes with a new one."""

    id: str
    hub_id: str
    token: str
    invited_by: str
    role: HubRole
    expires_at: str
    created_at: str
    invite_url: str | UnsetType = UNSET
    invitee_user_id: str | UnsetType = UNSET
    invitee_email: str | UnsetType = UNSET
    email_enqueued_at: str | UnsetType = UNSET

    @classmethod
    def of(cls, row: InviteRow, service: Service, *, new: bool = False) -> "HubInvite":
        # An invite whose key was retired opens nothing any more and can still be regenerated.
        token = row.token(service) or ""
        return cls(
            id=str(row.id),
            hub_id=str(row.space_id),
            token=token,
            invited_by=row.invited_by,
            role=cast("HubRole", row.role),
            expires_at=row.expires_at,
            created_at=row.created_at,
            invite_url=f"{service.public_url}/join/{token}" if new else UNSET,
            invitee_user_id=row.invitee_user_id or UNSET,
            invitee_email=row.email or UNSET,
            email_enqueued_at=row.enqueued_at or UNSET,
        )


class InviteRevoked(WireV1, frozen=True, kw_only=True):
    status: Literal["revoked"]
    invite_id: str


class InviteResent(WireV1, frozen=True, kw_only=True):
    status: Literal["resent"]
    email_enqueued_at: str | None


class OfferedInvite(WireV1, frozen=True, kw_only=True):
    """An invite as its link shows it to anybody; whom it is for is not told."""

    id: str
    hub_id: str
    token: str
    role: HubRole
    expires_at: str
    created_at: str
    invited_by: str


class OfferedHub(OptionalV1, frozen=True, kw_only=True):
    id: str
    name: str
    slug: str
    hub_type: Literal["personal", "team"]
    owner_id: str
    icon: str | UnsetType = UNSET
    accent: Accent | UnsetType = UNSET


class InviteCard(WireV1, frozen=True, kw_only=True):
    """`invited_by` is the inviter's name."""

    invite: OfferedInvite
    hub: OfferedHub
    member_count: int
    invited_by: str


class AcceptedInvite(WireV1, frozen=True, kw_only=True):
    hub: Hub
    role: HubRole
