"""The plans there are: one of every person and one of every team hub, as the operator has set them."""

from typing import Literal

import msgspec

from guildhall.web.service import Service


class Plan(msgspec.Struct, frozen=True):
    id: str
    scope: Literal["personal", "hub"]
    display_name: str


PERSONAL = Plan("personal_free", "personal", "Personal")
HUB = Plan("hub_free_team", "hub", "Team")


def or_endless(limit: int | None) -> int:
    """A limit as clients know it: -1 where there is none."""
    return -1 if limit is None else limit


def quota_of(service: Service, operation: Literal["push", "recall", "ask"]) -> int | None:
    quotas = service.quotas
    return {"push": quotas.pushes, "recall": quotas.recalls, "ask": quotas.asks}[operation]
