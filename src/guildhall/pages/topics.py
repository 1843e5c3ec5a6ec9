"""A hub's topics in a browser: a tree that is arranged by dragging, or by choosing where to."""

from collections.abc import Iterator
from typing import Any

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from guildhall.pages.frame import page_facts
from guildhall.pages.hubs import read_view
from guildhall.pages.render import page
from guildhall.topics import queries as topic_queries
from guildhall.topics.schemas import TopicTree
from guildhall.topics.trees import grow
from guildhall.web.app import Answer
from guildhall.web.caller import Caller, explain_absence

# How far a name is set in where topics are chosen from a list.
_STEP = "\u2003"


def options(rows: str) -> list[tuple[str, str]]:
    """The topics as a list to choose from: ids and names, each under its parent and set in."""
    return list(_options(grow(rows), 0))


def _options(topics: list[TopicTree], depth: int) -> Iterator[tuple[str, str]]:
    for topic in topics:
        yield topic.id, _STEP * depth + topic.name
        yield from _options(topic.children, depth + 1)


@get("/h/{hub_id:str}/topics", opt=page_facts())
async def show_topics(caller: NamedDependency[Caller], hub_id: str) -> Answer:
    async with caller.db.reading() as read:
        view = await read_view(read, caller, hub_id)
        forest = await topic_queries.list_topics(read, caller, str(view.space), None)
        archived = await topic_queries.list_archived(read, caller, str(view.space), None)
        if forest is None or archived is None:
            raise await explain_absence(read, caller)
    put_away: list[dict[str, Any]] = msgspec.json.decode(archived.topics or "[]")
    return page(
        caller.service,
        "hubs/topics",
        view.me,
        view=view,
        tab="topics",
        topics=grow(forest.topics or "[]"),
        choices=options(forest.topics or "[]"),
        unassigned=forest.unassigned or 0,
        archived=put_away,
    )


ROUTES: list[HTTPRouteHandler] = [show_topics]
