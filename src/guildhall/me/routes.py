"""`/v1/auth/me` and how one signs in."""

from typing import Annotated, Literal

import msgspec
from litestar import delete, get, patch
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from msgspec import UNSET, Meta, UnsetType

from guildhall.db import Read
from guildhall.errors import Conflict, InvalidRequest, NotFound
from guildhall.hubs import queries as hub_queries
from guildhall.hubs.schemas import HubWithRole, UrlOrNothing, made, sent
from guildhall.usage import PERSONAL, Used, find_used
from guildhall.users import profiles
from guildhall.users.accounts import lock_me
from guildhall.users.schemas import ChangeProfile
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, explain_absence
from guildhall.web.docs import facts
from guildhall.web.service import Service
from guildhall.web.wire import Data, OptionalV1, WireV1, tidy

NAME_MIN, NAME_MAX = 2, 80
Provider = Annotated[str, Meta(examples=["email"])]


class LastIdentity(Conflict):
    code = "last_identity"
    title = "This is the only way you sign in. Without it nobody could."


class Account(WireV1, frozen=True, kw_only=True):
    """`name` and `display_name` are the same here. What is not known is an empty text."""

    id: str
    email: str
    name: str
    display_name: str
    avatar_url: UrlOrNothing
    plan: str
    personal_plan_id: str
    can_create_hub: bool
    created_at: str
    updated_at: str


class MonthlyUse(WireV1, frozen=True, kw_only=True):
    """Counts of this calendar month, of UTC. Of what only reads they are some seconds behind."""

    user_id: str
    period_start: str
    period_end: str
    push_count: int
    recall_count: int
    ask_count: int

    @classmethod
    def of(cls, used: Used) -> "MonthlyUse":
        return cls(
            user_id=used.user_id,
            period_start=used.period_start,
            period_end=used.period_end,
            push_count=used.push_count,
            recall_count=used.recall_count,
            ask_count=used.ask_count,
        )


class Me(OptionalV1, frozen=True, kw_only=True):
    """`dev_access` and `admin_role` are for the people who run the server. A key is shown its hubs alone."""

    user: Account
    connected_providers: list[Provider]
    usage: MonthlyUse
    hubs: list[HubWithRole]
    dev_access: bool
    admin_role: Literal["operator"] | UnsetType = UNSET


class ChangeMe(OptionalV1, frozen=True, kw_only=True):
    display_name: str = ""


class MeChanged(WireV1, frozen=True, kw_only=True):
    status: Literal["updated"]
    display_name: str


class Identity(WireV1, frozen=True, kw_only=True):
    """One way in which somebody signs in."""

    id: str
    user_id: str
    provider: Provider
    provider_id: Annotated[str, Meta(examples=["bo@example.org"])]
    provider_email: Annotated[str, Meta(examples=["bo@example.org"])]
    provider_name: str
    created_at: str


class Unlinked(WireV1, frozen=True, kw_only=True):
    status: Literal["unlinked"]


class _Row(msgspec.Struct, frozen=True):
    id: str
    email: str | None
    email_verified: bool
    display_name: str
    avatar_url: str | None
    created_at: str
    updated_at: str
    owned: int


async def _find(read: Read, caller: Caller) -> _Row:
    row = await read.maybe(
        _Row,
        "SELECT u.id, u.email, u.email_verified, u.display_name, u.avatar_url,"
        " rfc3339(u.created_at) AS created_at, rfc3339(u.updated_at) AS updated_at,"
        " (SELECT count(*) FROM spaces s WHERE s.owner_id = u.id AND s.deleted_at IS NULL AND s.kind = 'hub'"
        "     AND NOT s.is_personal AND s.plan = 'hub_free_team')::integer AS owned"
        " FROM me($1, $2, $3) AS asking JOIN users u ON u.id = asking.user_id",
        *caller.me,
    )
    if row is None:
        raise await explain_absence(read, caller)
    return row


def provider_of(service: Service) -> str:
    """How people sign in to this service: in one way only."""
    return "email" if service.issuer is not None else "clerk"


@get("/v1/auth/me", summary="Read who one is", opt=facts(answers=Data[Me], atom="any"))
async def read_me(caller: NamedDependency[Caller]) -> ASGIResponse:
    async with caller.db.reading() as read:
        row = await _find(read, caller)
        used = await find_used(read, caller)
        hubs = await hub_queries.list_hubs(read, caller)
    most = caller.service.most_owned_hubs
    operator = row.email_verified and (row.email or "").lower() in caller.service.operators
    account = Account(
        id=row.id,
        email=row.email or "",
        name=row.display_name,
        display_name=row.display_name,
        avatar_url=row.avatar_url or "",
        plan=PERSONAL.id,
        personal_plan_id=PERSONAL.id,
        can_create_hub=most is None or row.owned < most,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
    return sent(
        Me(
            user=account,
            connected_providers=[provider_of(caller.service)],
            usage=MonthlyUse.of(used),
            hubs=made(hubs or "[]"),
            dev_access=operator,
            admin_role="operator" if operator else UNSET,
        )
    )


@patch(
    "/v1/auth/me",
    summary="Change one's name",
    opt=facts(InvalidRequest, atom="settings:write"),
)
async def change_me(caller: NamedDependency[Caller], data: Sent[ChangeMe]) -> Data[MeChanged]:
    """The name is one's own from then on, also where an identity provider says otherwise."""
    async with caller.db.writing() as tx:
        await lock_me(tx, caller)
        name = tidy(data.read().display_name)
        if name is None or not NAME_MIN <= len(name) <= NAME_MAX:
            raise InvalidRequest(f"A display_name has {NAME_MIN} to {NAME_MAX} visible characters.")
        row = await profiles.change(tx, caller, ChangeProfile(display_name=name))
    return Data(MeChanged(status="updated", display_name=row.display_name))


@get("/v1/auth/identities", summary="List how one signs in", opt=facts())
async def list_identities(caller: NamedDependency[Caller]) -> Data[list[Identity]]:
    async with caller.db.reading() as read:
        row = await _find(read, caller)
    provider = provider_of(caller.service)
    identity = Identity(
        id=f"{provider}:{row.id}",
        user_id=row.id,
        provider=provider,
        provider_id=(row.email or row.id) if provider == "email" else row.id,
        provider_email=row.email or "",
        provider_name=row.display_name,
        created_at=row.created_at,
    )
    return Data([identity])


@delete(
    "/v1/auth/link/{provider:str}",
    status_code=200,
    summary="Give up a way to sign in",
    opt=facts(NotFound, LastIdentity),
)
async def unlink_provider(caller: NamedDependency[Caller], provider: str) -> Data[Unlinked]:
    """Never the last one, and there is one only: whoever wants to leave erases the account."""
    async with caller.db.reading() as read:
        await _find(read, caller)
    if provider != provider_of(caller.service):
        raise NotFound("You do not sign in that way.")
    raise LastIdentity


ROUTES: list[HTTPRouteHandler] = [read_me, change_me, list_identities, unlink_provider]
