"""The wire of `/api/auth`, `/api/users` and `/api/members/:id/profile`."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from guildhall.users.accounts import Own
from guildhall.users.profiles import Seen
from guildhall.users.sign_in import SessionRow
from guildhall.web.wire import Email, FileUrl, Optional, Wire, text

DisplayName = Annotated[str, text(2, 80), Meta(examples=["Ada Lovelace"])]
Bio = Annotated[str, text(0, 500, "prose"), Meta(examples=["Grows tomatoes, writes compilers."])]
PhoneNumber = Annotated[str, text(1, 20, "line", r"^[0-9+()\-. ]+$"), Meta(examples=["+49 30 123456"])]


class UserProfile(Optional, frozen=True, kw_only=True):
    """A person. The fields from `email` on are there for the person alone."""

    id: str
    display_name: str
    avatar_url: str | None
    bio: str | None
    email: str | UnsetType | None = UNSET
    email_verified: bool | UnsetType = UNSET
    phone_number: str | UnsetType | None = UNSET
    created_at: str | UnsetType = UNSET
    updated_at: str | UnsetType = UNSET

    @classmethod
    def own(cls, row: Own) -> "UserProfile":
        return cls(
            id=row.id,
            display_name=row.display_name,
            avatar_url=row.avatar_url,
            bio=row.bio,
            email=row.email,
            email_verified=row.email_verified,
            phone_number=row.phone_number,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )

    @classmethod
    def of(cls, row: Seen) -> "UserProfile":
        return cls(id=row.id, display_name=row.display_name, avatar_url=row.avatar_url, bio=row.bio)


class ChangeProfile(Wire, frozen=True, kw_only=True):
    """Absent fields stay as they are. Null clears a field, and lets the identity provider set it again."""

    display_name: DisplayName | UnsetType | None = UNSET
    bio: Bio | UnsetType | None = UNSET
    phone_number: PhoneNumber | UnsetType | None = UNSET
    avatar_url: FileUrl | UnsetType | None = UNSET


class AskForCode(Wire, frozen=True, kw_only=True):
    email: Email


class CodeSent(Wire, frozen=True, kw_only=True):
    """Said for every address alike."""

    status: Literal["sent"]
    expires_in: Annotated[int, Meta(description="Seconds.")]


class SignIn(Wire, frozen=True, kw_only=True):
    """`label` is how the session is called in the list of sessions."""

    email: Email
    code: Annotated[str, text(6, 6, "exact", r"^[0-9]{6}$")]
    label: Annotated[str, text(1, 80), Meta(examples=["Ada's laptop"])] = "Unnamed session"


class Refresh(Wire, frozen=True, kw_only=True):
    refresh_token: Annotated[str, text(1, 128, "exact")]


class Tokens(Wire, frozen=True, kw_only=True):
    """`token` goes as `Authorization: Bearer …` until `expiresAt`; `refreshToken` gets the next, once."""

    token: str
    expires_at: str
    refresh_token: str


class SignedIn(Tokens, frozen=True, kw_only=True):
    user: UserProfile


class Session(Wire, frozen=True, kw_only=True):
    id: str
    label: str
    current: bool
    created_at: str
    refreshed_at: str
    expires_at: str

    @classmethod
    def of(cls, row: SessionRow, current: str | None) -> "Session":
        return cls(
            id=row.id,
            label=row.label,
            current=row.id == current,
            created_at=row.created_at,
            refreshed_at=row.refreshed_at,
            expires_at=row.expires_at,
        )


class SessionList(Wire, frozen=True, kw_only=True):
    """One's live sessions, newest first."""

    items: list[Session]


class JsonWebKeySet(Wire, frozen=True, kw_only=True):
    """The public keys by which session tokens can be verified elsewhere (RFC 7517)."""

    keys: list[dict[str, str]]


class Export(Wire, frozen=True, kw_only=True):
    """An archive of one's own data. `url` opens it for 24 hours, without a session, once it is ready."""

    status: Literal["queued", "ready"]
    requested_at: str
    url: str | None
