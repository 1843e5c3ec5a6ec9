"""`/v1/hubs`: hubs, and what is going on in them."""

from typing import Annotated, Any

from litestar import Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter
from litestar.types import Scope

from guildhall.errors import Forbidden
from guildhall.hubs import actions, queries, rules
from guildhall.hubs.greeting import Facts, first_word, greet, zone_of
from guildhall.hubs.schemas import (
    CreateHub,
    GreetingParams,
    Header,
    Hub,
    HubDeleted,
    HubDetail,
    HubSummary,
    HubWithRole,
    SlugCheck,
    Stats,
    UpdateHub,
    Visited,
    json_type,
    made,
    sent,
)
from guildhall.spaces import news, slugs
from guildhall.spaces.rules import May, require
from guildhall.spaces.seats import NotMember, hub_place, lock_hub_seat
from guildhall.web.app import Answer, Raw
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, check_alive, explain_absence
from guildhall.web.docs import facts
from guildhall.web.lists import streamed
from guildhall.web.wire import Data

Zone = Annotated[
    str | None,
    Parameter(header="X-Timezone", description="The caller's time zone, by its IANA name. Without it, UTC."),
]


@get(
    "/v1/hubs",
    summary="List one's hubs",
    opt=facts(answers=Data[list[HubWithRole]], quick=True, atom="hub:read"),
)
async def list_hubs(scope: Scope, caller: NamedDependency[Caller]) -> Raw:
    """The personal hub first, then team hubs by name."""
    async with caller.db.reading() as read:
        hubs = await queries.list_hubs(read, caller)
        if hubs is None:
            raise await explain_absence(read, caller)
    return Raw(200, (json_type,), b'{"data":' + hubs.encode() + b"}")


@get(
    "/v1/hubs/check-slug",
    summary="Ask whether a slug is free",
    opt=facts(limits=("slug check",), atom="hub:read"),
)
async def check_slug(caller: NamedDependency[Caller], slug: str = "") -> Data[SlugCheck]:
    async with caller.db.reading() as read:
        if not slugs.is_valid(slug):
            await check_alive(read, caller)
            return Data(SlugCheck(available=False, reason="invalid"))
        taken = await queries.is_slug_taken(read, caller, slug)
        if taken is None:
            raise await explain_absence(read, caller)
    if taken or slug in slugs.RESERVED:
        return Data(SlugCheck(available=False, reason="taken"))
    return Data(SlugCheck(available=True))


@post(
    "/v1/hubs",
    summary="Create a team hub",
    opt=facts(
        rules.OwnershipCapExceeded,
        rules.MissingName,
        rules.InvalidName,
        slugs.InvalidSlug,
        slugs.SlugTaken,
        limits=("content",),
        atom="hub:manage",
        unlimited_key=True,
    ),
)
async def create_hub(caller: NamedDependency[Caller], data: Sent[CreateHub]) -> Data[Hub]:
    async with caller.db.writing() as tx:
        hub = await actions.create(tx, caller, data)
    return Data(made(hub))


@get(
    "/v1/hubs/{hub_id:str}",
    summary="Read a hub and its members",
    opt=facts(NotMember, answers=Data[HubDetail], atom="hub:read"),
)
async def read_hub(
    request: Request[Any, Any, Any], caller: NamedDependency[Caller], hub_id: str
) -> Response[Any]:
    """However many members there are, the process holds some of them at a time."""
    wanted = hub_place(hub_id)
    async with caller.db.reading() as read:
        row = await queries.read_detail(read, caller, wanted)
        if row is None:
            raise await explain_absence(read, caller)
    if row.role is None:
        raise NotMember
    whole = sent(
        HubDetail(
            hub=made(row.hub),
            role=row.role,
            pending_transfer=made(row.transfer),
            is_frozen=bool(row.is_frozen),
            members=made(f"[{row.members}]"),
        )
    )
    if row.last is None:
        return Answer(whole.raw_status, whole.raw_headers, whole.raw_body)
    begin = whole.raw_body.removesuffix(f"{row.members}]}}}}".encode())
    members = queries.every_member(caller.db, caller, wanted, row)
    return streamed(request, members, begin=begin, end=b"]}}")


@get(
    "/v1/hubs/{hub_id:str}/summary",
    summary="Read a hub's numbers and greeting",
    opt=facts(NotMember, answers=Data[HubSummary], atom="hub:read", quick=True),
)
async def summarise_hub(scope: Scope, caller: NamedDependency[Caller], hub_id: str, zone: Zone = None) -> Raw:
    """Cheap however large the hub: every number is kept, none is counted."""
    async with caller.db.reading() as read:
        row = await queries.summarise(read, caller, hub_place(hub_id))
        if row is None:
            raise await explain_absence(read, caller)
    if row.role is None:
        raise NotMember
    return sent(_summary(row, row.role, zone))


def _summary(row: queries.Summary, role: Any, zone: str | None) -> HubSummary:
    assert row.hub_id is not None and row.is_personal is not None and row.memory_count is not None
    assert row.topic_count is not None and row.unsorted_count is not None and row.member_count is not None
    greeting = greet(
        Facts(
            hub_id=row.hub_id,
            user_id=row.user_id,
            personal=row.is_personal,
            memories=row.memory_count,
            topics=row.topic_count,
            inbox=row.unsorted_count,
            pending_review=row.pending_review,
            dream_topics=row.dream_topics,
            team_activity=row.team_activity,
            last_visit=row.visited_at,
            now=row.now,
        ),
        zone_of(zone),
    )
    header = Header(
        state=greeting.state,
        greeting_key=greeting.key,
        greeting_params=GreetingParams(name=first_word(row.display_name), **_given(n=greeting.count)),
        time_bucket=greeting.bucket,
    )
    stats = Stats(
        memories=row.memory_count,
        topics=row.topic_count,
        inbox=row.unsorted_count,
        pending_review=row.pending_review,
        dream_topics=row.dream_topics,
        **({} if row.is_personal else {"members": row.member_count, "team_activity": row.team_activity}),
    )
    preview = {} if row.is_personal else {"members_preview": made(row.preview)}
    return HubSummary(hub=made(row.hub), role=role, stats=stats, header=header, **preview)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


@post(
    "/v1/hubs/{hub_id:str}/visit",
    status_code=200,
    summary="Say that one has seen what is new",
    opt=facts(NotMember, atom="hub:read"),
)
async def visit_hub(caller: NamedDependency[Caller], hub_id: str) -> Data[Visited]:
    wanted = hub_place(hub_id)
    async with caller.db.writing() as tx:
        row = await queries.visit(tx, caller, wanted)
        if row is None:
            raise await explain_absence(tx, caller)
        if row.space_id is None:
            raise NotMember
        await news.announce(tx, caller, news.Visited(kind="hub", space=row.space_id))
    return Data(Visited(status="ok", hub_id=str(row.space_id)))


@patch(
    "/v1/hubs/{hub_id:str}",
    summary="Change a hub",
    opt=facts(
        Forbidden,
        rules.PersonalHub,
        slugs.InvalidSlug,
        slugs.SlugTaken,
        rules.InvalidName,
        rules.InvalidIcon,
        rules.InvalidAccent,
        rules.InvalidDeletePolicy,
        rules.PersonalHubHeaderMode,
        rules.InvalidHeaderAuroraMode,
        rules.InvalidLanguage,
        rules.UnknownSetting,
        rules.InvalidSettingValue,
        atom="hub:manage",
    ),
)
async def update_hub(caller: NamedDependency[Caller], hub_id: str, data: Sent[UpdateHub]) -> Data[Hub]:
    """All of it or nothing. A former slug stays the hub's for 90 days and leads to it."""
    async with caller.db.writing() as tx:
        seat = await lock_hub_seat(tx, caller, hub_id, Forbidden)
        require(seat, May.EDIT)
        hub = await actions.update(tx, caller, seat, data.read())
    return Data(made(hub))


@delete(
    "/v1/hubs/{hub_id:str}",
    status_code=200,
    summary="Delete a hub with all that is in it",
    opt=facts(Forbidden, rules.PersonalHub, atom="hub:manage"),
)
async def delete_hub(caller: NamedDependency[Caller], hub_id: str) -> Data[HubDeleted]:
    async with caller.db.writing() as tx:
        seat = await lock_hub_seat(tx, caller, hub_id, Forbidden)
        await actions.delete(tx, caller, seat)
    return Data(HubDeleted(deleted=True, hub_id=str(seat.space)))


ROUTES: list[HTTPRouteHandler] = [
    list_hubs,
    check_slug,
    create_hub,
    read_hub,
    summarise_hub,
    visit_hub,
    update_hub,
    delete_hub,
]
