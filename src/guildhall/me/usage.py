"""`/v1/usage` and `/v1/plans`: what one has used, and what there is to be had."""

from typing import Any, Literal

from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from guildhall.me.routes import MonthlyUse
from guildhall.uploads.routes import MAX_ATTACHMENT_BYTES
from guildhall.usage import HUB, PERSONAL, Plan, find_used
from guildhall.usage.plans import or_endless
from guildhall.web.caller import Caller, Guest
from guildhall.web.docs import facts
from guildhall.web.service import Service
from guildhall.web.wire import Data, WireV1

# When the plans came to be what they are, apart from the limits that the operator sets.
SINCE = "2026-01-01T00:00:00.000000Z"


class _Limits(WireV1, frozen=True, kw_only=True):
    """-1 is no limit. Rates are requests in a minute: of any kind, of those that search, and of the rest."""

    memory_limit: int
    push_limit: int
    recall_limit: int
    ask_limit: int
    max_attachment_bytes: int
    storage_bytes_limit: int
    ask_model: str
    dreams_enabled: bool
    review_inbox: bool
    max_team_hubs: int
    rate_limit_rpm: int
    rate_limit_heavy_rpm: int
    rate_limit_light_rpm: int


class PlanLimits(_Limits, frozen=True, kw_only=True):
    """What holds for whoever asks. -1 is no limit; rates are requests in a minute."""

    plan_id: str
    plan_display_name: str


class Usage(MonthlyUse, frozen=True, kw_only=True):
    limits: PlanLimits
    plan: str
    plan_display_name: str


class PlanDefinition(_Limits, frozen=True, kw_only=True):
    """A plan with the limits that hold on this server, -1 where there is none. It costs nothing."""

    id: str
    scope: Literal["personal", "hub"]
    display_name: str
    tier_order: int
    entitlement_rank: int
    monthly_price_cents: int
    max_owned_free_team_hubs: int
    max_hub_members: int | None
    seat_minimum: int
    seat_billed: bool
    features: list[str]
    active: bool
    created_at: str
    updated_at: str


def _limits(service: Service) -> dict[str, Any]:
    per_minute = service.limiter.per_minute
    return {
        "memory_limit": or_endless(service.most_hub_memories),
        "push_limit": or_endless(service.quotas.pushes),
        "recall_limit": or_endless(service.quotas.recalls),
        "ask_limit": or_endless(service.quotas.asks),
        "max_attachment_bytes": MAX_ATTACHMENT_BYTES,
        "storage_bytes_limit": -1,
        "ask_model": "local",
        "dreams_enabled": True,
        "review_inbox": True,
        "max_team_hubs": or_endless(service.most_owned_hubs),
        "rate_limit_rpm": per_minute("user"),
        "rate_limit_heavy_rpm": per_minute("search"),
        "rate_limit_light_rpm": per_minute("user"),
    }


def _defined(service: Service, plan: Plan, order: int) -> PlanDefinition:
    return PlanDefinition(
        id=plan.id,
        scope=plan.scope,
        display_name=plan.display_name,
        tier_order=order,
        entitlement_rank=order,
        monthly_price_cents=0,
        max_owned_free_team_hubs=or_endless(service.most_owned_hubs),
        max_hub_members=service.most_hub_members if plan.scope == "hub" else 1,
        seat_minimum=1,
        seat_billed=False,
        features=[],
        active=True,
        created_at=SINCE,
        updated_at=SINCE,
        **_limits(service),
    )


@get("/v1/usage", summary="Read what one used this month", opt=facts(atom="any"))
async def read_usage(caller: NamedDependency[Caller]) -> Data[Usage]:
    async with caller.db.reading() as read:
        used = await find_used(read, caller)
    limits = PlanLimits(
        plan_id=PERSONAL.id, plan_display_name=PERSONAL.display_name, **_limits(caller.service)
    )
    return Data(
        Usage(
            user_id=used.user_id,
            period_start=used.period_start,
            period_end=used.period_end,
            push_count=used.push_count,
            recall_count=used.recall_count,
            ask_count=used.ask_count,
            limits=limits,
            plan=PERSONAL.id,
            plan_display_name=PERSONAL.display_name,
        )
    )


@get("/v1/plans", summary="List the plans", opt=facts())
async def list_plans(guest: NamedDependency[Guest]) -> Data[list[PlanDefinition]]:
    """One of every person, and one of every team hub, with the limits that the operator has set."""
    return Data([_defined(guest.service, plan, order) for order, plan in enumerate((PERSONAL, HUB))])


ROUTES: list[HTTPRouteHandler] = [read_usage, list_plans]
