"""The wire of `/v1/auth/api-keys` and `/v1/agents`."""

from typing import Annotated, Any, ClassVar, Literal, get_args
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from guildhall.access_keys import queries
from guildhall.access_keys.rules import BUNDLES
from guildhall.web.access import Atom, TrustLevel
from guildhall.web.wire import OptionalV1, WireV1, one_of

Wanted = Annotated[
    list[Annotated[str, one_of(*BUNDLES, *get_args(Atom))]], Meta(examples=[["read", "write"]])
]
Scopes = Annotated[list[str], Meta(examples=[["read", "write"]])]
Atoms = Annotated[list[str], Meta(examples=[["hub:read", "memory:read", "memory:write"]])]
AgentName = Annotated[str, Meta(examples=["claude-code"])]
HubIds = Annotated[list[str], Meta(examples=[["0195e3a1-02b4-7d10-8a6e-1c2d3e4f5a6b"]])]
KeyName = Annotated[str, Meta(examples=["Laptop"])]
Prefix = Annotated[str, Meta(examples=["mxk_3fa9"])]
Secret = Annotated[
    str, Meta(examples=["mxk_3fa91c0be27d4466b1f4d7a5809e35c2d1760ab94e8f23715c9d2a6ed41b8f03"])
]
ScopeText = Annotated[str, Meta(examples=["all hubs"])]


class CreateKey(OptionalV1, frozen=True, kw_only=True):
    """`scopes` and `permissions` are united; neither is read and write. No hub named means all of them."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "name": "Laptop",
        "hub_ids": ["0195e3a1-02b4-7d10-8a6e-1c2d3e4f5a6b"],
        "agent_name": "claude-code",
        "expires_in_days": 90,
        "scopes": ["read", "write"],
        "trust_level": "standard",
    }

    name: KeyName | None = None
    hub_id: str | None = None
    hub_ids: HubIds | None = None
    agent_name: AgentName | None = None
    standalone: bool | None = None
    expires_in_days: int | None = None
    scopes: Wanted | None = None
    permissions: Wanted | None = None
    trust_level: Annotated[str, one_of(*get_args(TrustLevel), example="standard")] | None = None


class UpdateKey(OptionalV1, frozen=True, kw_only=True):
    """Naming an agent ends standing alone, and the other way round."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"agent_name": "claude-code"}

    agent_name: AgentName | UnsetType | None = UNSET
    standalone: bool | UnsetType | None = UNSET


class _Scope(OptionalV1, frozen=True, kw_only=True):
    """`hub_id` is the hub of a key that is for one; `hub_ids` are those of a key that is for certain hubs."""

    id: UUID
    name: KeyName
    prefix: Prefix
    scope: ScopeText
    hub_id: UUID | None
    hub_ids: list[UUID] | UnsetType = UNSET
    hub_scope_mode: Literal["all_accessible", "hub_allowlist"]
    default_permissions: Atoms
    trust_level: TrustLevel
    agent_name: AgentName | UnsetType = UNSET
    standalone: bool | UnsetType = UNSET
    expires_at: str | None
    created_at: str


class CreatedKey(_Scope, frozen=True, kw_only=True):
    """`key` is shown this once."""

    key: Secret


class ListedKey(_Scope, frozen=True, kw_only=True):
    scopes: Scopes
    last_used: str | None


def created(row: queries.Key, key: str) -> CreatedKey:
    return CreatedKey(**_fields(row), key=key)  # pyright: ignore[reportArgumentType] - by name


def listed(row: queries.Key) -> ListedKey:
    return ListedKey(**_fields(row), scopes=row.scopes, last_used=row.last_used_at)  # pyright: ignore[reportArgumentType] - by name


def _fields(row: queries.Key) -> dict[str, object]:
    return {
        "id": row.id,
        "name": row.name,
        "prefix": row.prefix,
        "scope": _scope(row),
        "hub_id": row.hubs[0] if len(row.hubs) == 1 else None,
        "hub_ids": row.hubs if row.limited else UNSET,
        "hub_scope_mode": "hub_allowlist" if row.limited else "all_accessible",
        "default_permissions": row.atoms,
        "trust_level": row.trust_level,
        "agent_name": row.agent_name or UNSET,
        "standalone": row.standalone or UNSET,
        "expires_at": row.expires_at,
        "created_at": row.created_at,
    }


def _scope(row: queries.Key) -> str:
    if not row.limited:
        return "all hubs"
    return str(row.hubs[0]) if len(row.hubs) == 1 else f"{len(row.hubs)} hubs"


class UpdatedKey(WireV1, frozen=True, kw_only=True):
    id: UUID
    agent_name: AgentName | None
    standalone: bool


class Skipped(WireV1, frozen=True, kw_only=True):
    id: str
    reason: Literal["not_found", "revoke_failed", "cascade_failed"]


class RevokedKey(WireV1, frozen=True, kw_only=True):
    """A key that is not there counts as revoked before: that is no error."""

    revoked: bool
    skipped: list[Skipped]


class Agent(WireV1, frozen=True, kw_only=True):
    """`status` is disconnected when no key of the agent lives; `memory_count` is of what it wrote for its
    person in the hubs where they are."""

    id: UUID
    owner_id: str
    agent_name: AgentName
    display_name: Annotated[str, Meta(examples=["Claude Code"])]
    icon: str
    status: Literal["active", "disconnected"]
    created_at: str
    updated_at: str
    key_count: int
    config_count: int
    memory_count: int
    last_active_at: str | None

    @classmethod
    def of(cls, row: queries.Agent) -> "Agent":
        return cls(
            id=row.id,
            owner_id=row.user_id,
            agent_name=row.agent_name,
            display_name=row.display_name,
            icon=row.icon,
            status="active" if row.key_count else "disconnected",
            created_at=row.created_at,
            updated_at=row.updated_at,
            key_count=row.key_count,
            config_count=0,
            memory_count=row.memory_count,
            last_active_at=row.last_active_at,
        )


class UpdateAgent(OptionalV1, frozen=True, kw_only=True):
    display_name: Annotated[str, Meta(examples=["Claude Code"])] | None = None
    icon: str | None = None


class DisconnectedAgent(WireV1, frozen=True, kw_only=True):
    disconnected: bool
    keys_revoked: int
    configs_tombstoned: int
    skipped: list[Skipped]
