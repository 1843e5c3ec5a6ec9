"""The inbox in a browser: decisions that wait, and what happened."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from guildhall.inbox import queries
from guildhall.inbox.rules import ANSWERS
from guildhall.inbox.schemas import Notification
from guildhall.pages.frame import page_facts, require_frame
from guildhall.pages.render import page
from guildhall.spaces.notices import KINDS
from guildhall.web.app import Answer
from guildhall.web.caller import Caller
from guildhall.web.paging import decode_cursor, encode_cursor

Cursor = Annotated[str | None, Parameter(max_length=2048)]

LIMIT = 50


class Entry(msgspec.Struct, frozen=True):
    """A notification in words. `sentence` is a key of the locale, the rest is what to fill in.

    `answers` are what can be decided about it; `news` is only to be seen. `about` are names with links of
    what is to be decided on, and `reason` is why.
    """

    id: UUID
    sentence: str
    who: str
    space: str
    role: str | None
    link: str | None
    created_at: str
    seen: bool
    answers: list[str]
    news: bool
    about: list[tuple[str, str]]
    reason: str


def _entry(shown: Notification) -> Entry:
    payload: dict[str, Any] = shown.payload or {}
    people = (payload.get(name) for name in ("inviter", "initiator", "member", "invitee", "by", "new_owner"))
    person: dict[str, Any] = next(filter(None, people), None) or {}
    space: dict[str, Any] = payload.get("hub") or payload.get("community") or {}
    base = "/h/" if "hub" in payload else "/c/"
    return Entry(
        id=shown.id,
        sentence=f"inbox.{shown.kind}",
        who=person.get("display", ""),
        space=space.get("name", ""),
        role=payload.get("role"),
        # An invited person is not in yet.
        link=base + str(space["id"]) if space.get("id") and not shown.kind.endswith("_invite") else None,
        created_at=shown.created_at,
        seen=isinstance(shown.seen_at, str),
        answers=list(ANSWERS.get(shown.kind, ())),
        news=KINDS[shown.kind] == "update",
        about=list(_about(payload, base + str(space.get("id")))),
        reason=payload.get("reason") or "",
    )


def _about(payload: dict[str, Any], hub: str) -> Iterator[tuple[str, str]]:
    """The memories and topics that a decision is about."""
    for name in ("memory_a", "memory_b"):
        if memory := payload.get(name):
            yield memory["title"], f"{hub}/m/{memory['id']}"
    topics = [payload.get("target_topic"), *payload.get("source_topics", ())]
    for topic in filter(None, (*topics, payload.get("child_topic"), payload.get("parent_topic"))):
        yield topic["name"], f"{hub}?topic={topic['id']}"


@get("/inbox", opt=page_facts())
async def show_inbox(caller: NamedDependency[Caller], cursor: Cursor = None) -> Answer:
    wanted = queries.Filter(
        hub=None,
        status="pending",
        kinds=None,
        resolutions=None,
        unseen_only=False,
        since=None,
        before=decode_cursor(cursor, tuple[datetime, UUID]) if cursor else None,
        limit=LIMIT + 1,
    )
    async with caller.db.reading() as read:
        me = await require_frame(read, caller)
        rows = await queries.list_rows(read, caller, wanted)
    entries = [_entry(Notification.of(row)) for row in rows[:LIMIT]]
    following = encode_cursor(rows[LIMIT - 1].created_at, rows[LIMIT - 1].id) if len(rows) > LIMIT else None
    return page(caller.service, "inbox", me, section="inbox", entries=entries, next=following)


ROUTES: list[HTTPRouteHandler] = [show_inbox]
