"""What dreams did in a hub, in a browser: each run with all it did, to be decided on and taken back."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from guildhall.db import Read
from guildhall.dreams import reading
from guildhall.errors import NotFound
from guildhall.inbox import queries as inbox
from guildhall.inbox.rules import ANSWERS
from guildhall.pages import queries
from guildhall.pages.frame import page_facts
from guildhall.pages.hubs import read_view
from guildhall.pages.render import markdown, page
from guildhall.spaces.seats import as_uuid
from guildhall.web.app import Answer
from guildhall.web.caller import Caller
from guildhall.web.paging import decode_cursor, encode_cursor

LIMIT = 20

RunId = Annotated[str | None, Parameter(max_length=64)]
Cursor = Annotated[str | None, Parameter(max_length=2048)]


class Decision(msgspec.Struct, frozen=True):
    """What the reader was asked about an action: the notification, and what can be answered."""

    id: UUID
    answers: list[str]


@get("/h/{hub_id:str}/dreams", opt=page_facts())
async def show_dreams(
    caller: NamedDependency[Caller], hub_id: str, run: RunId = None, cursor: Cursor = None
) -> Answer:
    """The latest run, or the one that is named."""
    after = decode_cursor(cursor, tuple[datetime, UUID]) if cursor else None
    async with caller.db.reading() as read:
        view = await read_view(read, caller, hub_id)
        found = await reading.list_runs(read, caller, view.space, LIMIT, after)
        runs: list[dict[str, Any]] = [msgspec.json.decode(row) for row in (found and found.rows) or []][
            :LIMIT
        ]
        wanted = _wanted(runs, run)
        detail = None if wanted is None else await reading.find_run(read, caller, wanted)
        shown: dict[str, Any] | None = None
        actions: list[dict[str, Any]] = []
        if detail is not None and detail.run is not None:
            shown = msgspec.json.decode(detail.run)
            actions = msgspec.json.decode(detail.actions or "[]")
        if run is not None and (shown is None or shown["hub_id"] != view.hub["id"]):
            raise NotFound
        memories = {UUID(id) for action in actions for id in action["source_memory_ids"]}
        titles = await queries.list_titles(read, view.space, list(memories))
        places = {action.get(end) for action in actions for end in ("from_topic_id", "to_topic_id")}
        topics = await queries.list_topic_names(read, view.space, [UUID(id) for id in places if id])
        waiting = any(action["status"] == "waiting" for action in actions)
        decisions = await _decisions(read, caller, view.space) if waiting else {}
    return page(
        caller.service,
        "hubs/dreams",
        view.me,
        view=view,
        tab="dreams",
        runs=runs,
        next=_next(found),
        run=shown,
        report=None if shown is None else markdown(shown["report"]),
        actions=actions,
        titles=titles,
        topics=topics,
        decisions=decisions,
        undoable=any(action["status"] == "applied" for action in actions),
    )


def _wanted(runs: list[dict[str, Any]], named: str | None) -> UUID | None:
    if named is not None:
        return as_uuid(named)
    # One that was skipped has nothing to tell.
    return next((UUID(each["id"]) for each in runs if each["status"] != "skipped"), None)


def _next(found: reading.Page | None) -> str | None:
    if found is None or len(found.rows or []) <= LIMIT:
        return None
    assert found.started is not None and found.ids is not None
    return encode_cursor(found.started[LIMIT - 1], found.ids[LIMIT - 1])


async def _decisions(read: Read, caller: Caller, hub: UUID) -> dict[str, Decision]:
    """What waits for the reader in this hub, by the action it is about."""
    wanted = inbox.Filter(
        hub=hub,
        status="pending",
        kinds=[kind for kind in ANSWERS if kind.startswith("review_")],
        resolutions=None,
        unseen_only=False,
        since=None,
        before=None,
        limit=reading.MOST_ACTIONS,
    )
    rows = await inbox.list_rows(read, caller, wanted)
    return {str(row.dream_action_id): Decision(row.id, list(ANSWERS[row.kind])) for row in rows}


ROUTES: list[HTTPRouteHandler] = [show_dreams]
