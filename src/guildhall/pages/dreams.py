"""What dreams did in a hub, in a browser: each run with all it did, and how to take it back."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from guildhall.dreams import reading
from guildhall.errors import NotFound
from guildhall.pages import queries
from guildhall.pages.frame import page_facts
from guildhall.pages.hubs import read_view
from guildhall.pages.render import markdown, page
from guildhall.spaces.seats import as_uuid
from guildhall.web.app import Answer
from guildhall.web.caller import Caller

LIMIT = 20

RunId = Annotated[str | None, Parameter(max_length=64)]


@get("/h/{hub_id:str}/dreams", opt=page_facts())
async def show_dreams(caller: NamedDependency[Caller], hub_id: str, run: RunId = None) -> Answer:
    """The latest run, or the one that is named."""
    async with caller.db.reading() as read:
        view = await read_view(read, caller, hub_id)
        found = await reading.list_runs(read, caller, view.space, LIMIT, None)
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
    return page(
        caller.service,
        "hubs/dreams",
        view.me,
        view=view,
        tab="dreams",
        runs=runs,
        run=shown,
        report=None if shown is None else markdown(shown["report"]),
        actions=actions,
        titles=titles,
        undoable=any(action["status"] == "applied" for action in actions),
    )


def _wanted(runs: list[dict[str, Any]], named: str | None) -> UUID | None:
    if named is not None:
        return as_uuid(named)
    # One that was skipped has nothing to tell.
    return next((UUID(each["id"]) for each in runs if each["status"] != "skipped"), None)


ROUTES: list[HTTPRouteHandler] = [show_dreams]
