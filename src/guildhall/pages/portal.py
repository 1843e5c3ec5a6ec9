"""The developer portal: the API documentation, and the backlog that anybody may write on."""

from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from litestar import Request, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from guildhall import backlog, system
from guildhall.pages.frame import frame_of, page_facts
from guildhall.pages.reference import read_reference
from guildhall.pages.render import page
from guildhall.web.app import Answer, NoSuchRoute
from guildhall.web.caller import Guest
from guildhall.web.openapi import API, V1
from guildhall.web.paging import decode_cursor, encode_cursor
from guildhall.web.wire import clean_query

Cursor = Annotated[str | None, Parameter(max_length=2048)]
Search = Annotated[str | None, Parameter(max_length=512)]
Prefill = Annotated[str | None, Parameter(max_length=4_000)]

COLUMN_LIMIT = 20
STATUSES: tuple[backlog.Status, ...] = ("open", "in-progress", "done")
_SURFACES = {"api": API, "v1": V1}


def _check_shown(guest: Guest) -> None:
    if not guest.service.docs:
        raise NoSuchRoute


@get("/docs", opt=page_facts())
async def show_docs(guest: NamedDependency[Guest], request: Request[Any, Any, Any]) -> Answer:
    _check_shown(guest)
    async with guest.db.reading() as read:
        me = await frame_of(read, guest)
    surfaces = {
        name: read_reference(system.document(request.app, surface), guest.service.public_url)
        for name, surface in _SURFACES.items()
    }
    return page(guest.service, "docs/index", me, section="docs", surfaces=surfaces)


@get("/docs/{surface:str}/{subject:str}", opt=page_facts())
async def show_subject(
    guest: NamedDependency[Guest], request: Request[Any, Any, Any], surface: str, subject: str
) -> Answer:
    _check_shown(guest)
    if surface not in _SURFACES:
        raise NoSuchRoute
    subjects = read_reference(system.document(request.app, _SURFACES[surface]), guest.service.public_url)
    found = next((each for each in subjects if each.name == subject), None)
    if found is None:
        raise NoSuchRoute
    async with guest.db.reading() as read:
        me = await frame_of(read, guest)
    return page(
        guest.service,
        "docs/subject",
        me,
        section="docs",
        surface=surface,
        subjects=subjects,
        subject=found,
    )


class Column(msgspec.Struct, frozen=True):
    """A part of the items of a status; `total` is how many there are, `next` the cursor of the rest."""

    status: backlog.Status
    total: int
    items: list[backlog.Row]
    next: str | None


def _column(status: backlog.Status, total: int, rows: list[backlog.Row]) -> Column:
    items = rows[:COLUMN_LIMIT]
    following = encode_cursor(items[-1].at, items[-1].id) if len(rows) > COLUMN_LIMIT else None
    return Column(status, total, items, following)


@get("/backlog", opt=page_facts())
async def show_backlog(
    guest: NamedDependency[Guest],
    item_type: Annotated[backlog.Type | Literal[""] | None, Parameter(query="type")] = None,
    priority: backlog.Priority | Literal[""] | None = None,
    item_session: Annotated[backlog.Session | Literal[""] | None, Parameter(query="session")] = None,
    q: Search = None,
    title: Prefill = None,
    description: Prefill = None,
    endpoint: Prefill = None,
    status: backlog.Status | None = None,
    cursor: Cursor = None,
) -> Answer:
    """The board; with a status, that column alone from the cursor on.

    `title`, `description` and `endpoint` fill in the form for a new item, for links to it. A form sends what
    is not chosen as an empty text.
    """
    words = clean_query(q, "q") or None
    if words:
        guest.service.limiter.take("search", guest.address)
    after = decode_cursor(cursor, tuple[datetime, UUID]) if status and cursor else None
    wanted = backlog.Wanted(None, item_type or None, priority or None, item_session or None, words)
    async with guest.db.reading() as read:
        me = await frame_of(read, guest)
        counts = await backlog.count_items(read, wanted)
        columns = [
            _column(
                each,
                counts.get(each, 0),
                await backlog.list_items(read, wanted._replace(status=each), after, COLUMN_LIMIT + 1),
            )
            for each in STATUSES
            if status in (None, each)
        ]
    filters = {"type": item_type or "", "priority": priority or "", "session": item_session or ""}
    return page(
        guest.service,
        "backlog",
        me,
        section="backlog",
        columns=columns,
        statuses=STATUSES,
        filters=filters,
        here="/backlog?" + urlencode({"q": words or "", **filters}),
        q=words or "",
        prefill={"title": title or "", "description": description or "", "apiEndpoint": endpoint or ""},
        choices={
            "type": ("feature", "bug", "enhancement", "question"),
            "priority": ("high", "medium", "low"),
            "session": ("api", "web", "mobile", "onboarding", "account-portal"),
        },
        open=guest.service.backlog_open,
    )


@get("/backlog/{item_id:str}", opt=page_facts())
async def show_item(guest: NamedDependency[Guest], item_id: str) -> Answer:
    """An item with all that it says."""
    async with guest.db.reading() as read:
        me = await frame_of(read, guest)
        item = await backlog.find_item(read, item_id)
    return page(guest.service, "backlog_item", me, section="backlog", item=item)


ROUTES: list[HTTPRouteHandler] = [show_docs, show_subject, show_backlog, show_item]
