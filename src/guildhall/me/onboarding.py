"""`/v1/onboarding`: a newcomer's first steps, as a checklist in the inbox."""

from typing import Literal

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, UnsetType

from guildhall.db import Read
from guildhall.errors import TooManyRequests
from guildhall.inbox import queries
from guildhall.inbox.items import Checklist, Item
from guildhall.inbox.schemas import Notification
from guildhall.spaces.notices import tell
from guildhall.users.accounts import lock_me
from guildhall.web.caller import Caller, explain_absence
from guildhall.web.docs import facts
from guildhall.web.wire import Data, OptionalV1

VERSION = 1


def first_steps() -> Checklist:
    return Checklist(
        version=VERSION,
        title="First steps",
        items=[
            Item(id="profile", title="Say what you are called"),
            Item(id="hub", title="Make a hub for your team"),
            Item(id="invite", title="Invite somebody to it", after="hub"),
            Item(id="key", title="Make a key for your agent"),
        ],
    )


class OnboardingState(OptionalV1, frozen=True, kw_only=True):
    """`has_prior` is whether one was ever given the checklist, `current_status` how that stands."""

    has_prior: bool
    current_version: int
    current_status: Literal["pending", "resolved", "dismissed", "expired"] | UnsetType = UNSET


class _State(msgspec.Struct, frozen=True):
    user_id: str
    version: int | None
    status: str | None


async def _find(read: Read, caller: Caller) -> _State:
    state = await read.maybe(
        _State,
        "SELECT asking.user_id, (n.payload ->> 'version')::integer AS version, n.status"
        " FROM me($1, $2, $3) AS asking LEFT JOIN notifications n"
        "   ON n.source_kind = 'onboarding' AND n.source_id = asking.user_id",
        *caller.me,
    )
    if state is None:
        raise await explain_absence(read, caller)
    return state


@get("/v1/onboarding/state", summary="Ask how far one's first steps are", opt=facts(atom="any"))
async def read_state(caller: NamedDependency[Caller]) -> Data[OnboardingState]:
    async with caller.db.reading() as read:
        state = await _find(read, caller)
    if state.status is None:
        return Data(OnboardingState(has_prior=False, current_version=VERSION))
    return Data(
        OnboardingState(
            has_prior=True,
            current_version=state.version or VERSION,
            current_status=state.status,  # pyright: ignore[reportArgumentType] - the table's check
        )
    )


@post(
    "/v1/onboarding/restart",
    status_code=200,
    summary="Begin one's first steps, or begin them again",
    opt=facts(TooManyRequests, atom="any", unlimited_key=True),
)
async def restart(caller: NamedDependency[Caller]) -> Data[Notification]:
    """Puts the checklist into the inbox, with nothing done. Three times a day at most."""
    async with caller.db.writing() as tx:
        await lock_me(tx, caller)
        await caller.service.limiter.take_exact(tx, ("onboarding restarts", caller.user))
        begun = await queries.begin_steps(tx, caller.user, msgspec.json.encode(first_steps()).decode())
        row = await queries.find_row(tx, caller, begun.id)
        if row is None:
            raise await explain_absence(tx, caller)
        tell(tx, caller.user, begun)
    return Data(Notification.of(row))


ROUTES: list[HTTPRouteHandler] = [read_state, restart]
