"""Hubs in a browser: members, invites, settings."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from guildhall.db import Read
from guildhall.errors import Forbidden
from guildhall.hubs import queries as hub_queries
from guildhall.pages.frame import Frame, page_facts, require_frame
from guildhall.pages.render import page
from guildhall.spaces import invites
from guildhall.spaces.rules import HUB_GRANTS, May
from guildhall.spaces.seats import NotMember, hub_place
from guildhall.web.app import Answer
from guildhall.web.caller import Caller, explain_absence
from guildhall.web.paging import decode_cursor, encode_cursor

Cursor = Annotated[str | None, Parameter(max_length=2048)]

MEMBERS_LIMIT = 50

_GIVES: tuple[str, ...] = ("admin", "contributor", "viewer")


class View(msgspec.Struct, frozen=True):
    """Who looks, at which hub (as the API shows it, with some of its members and the open transfer), and what
    they may do."""

    me: Frame
    hub: dict[str, Any]
    role: str
    members: list[dict[str, Any]]
    member_count: int
    # Where the members that are not shown begin.
    following: str | None
    offer: dict[str, Any] | None
    owner_name: str
    may: frozenset[str]

    @property
    def personal(self) -> bool:
        return self.hub["hub_type"] == "personal"

    @property
    def space(self) -> UUID:
        return UUID(self.hub["id"])

    @property
    def arranges(self) -> bool:
        """Whether they may change topics."""
        return self.role in ("owner", "admin") or (
            self.role == "contributor" and self.hub["allow_contributor_topics"]
        )

    @property
    def dreams(self) -> bool:
        """Whether they may have the hub tidied up, and take back what was done."""
        return self.role in ("owner", "admin") or (
            self.role == "contributor" and self.hub["allow_contributor_dreams"]
        )

    @property
    def deletes(self) -> bool:
        """Whether they may delete what others wrote."""
        return self.role in ("owner", "admin") or (
            self.role == "contributor" and self.hub["contributor_delete_policy"] == "any"
        )

    def require(self, may: May) -> None:
        if may.name not in self.may or self.personal:
            raise Forbidden


async def read_view(
    read: Read,
    caller: Caller,
    raw_id: str,
    after: hub_queries.After = hub_queries.FROM_THE_FIRST,
    most: int = 0,
) -> View:
    """With `most` members that follow `after`. Raises NotMember, and what explains a caller who is nobody."""
    me = await require_frame(read, caller)
    row = await hub_queries.read_detail(read, caller, hub_place(raw_id), after, most)
    if row is None:
        raise await explain_absence(read, caller)
    if row.role is None or row.hub is None:
        raise NotMember
    return View(
        me,
        msgspec.json.decode(row.hub),
        row.role,
        msgspec.json.decode(f"[{row.members or ''}]"),
        row.member_count or 0,
        None if row.last is None else encode_cursor(*msgspec.json.decode(row.last)),
        None if row.transfer is None else msgspec.json.decode(row.transfer),
        row.owner_name or "",
        frozenset(may.name for may in HUB_GRANTS[row.role]),
    )


@get("/new/hub", opt=page_facts())
async def show_new_hub(caller: NamedDependency[Caller]) -> Answer:
    async with caller.db.reading() as read:
        me = await require_frame(read, caller)
    return page(caller.service, "hubs/new", me)


@get("/h/{hub_id:str}/members", opt=page_facts())
async def show_hub_members(caller: NamedDependency[Caller], hub_id: str, cursor: Cursor = None) -> Answer:
    after = decode_cursor(cursor, hub_queries.After) if cursor else hub_queries.FROM_THE_FIRST
    async with caller.db.reading() as read:
        view = await read_view(read, caller, hub_id, after, MEMBERS_LIMIT)
    gives = _GIVES if May.MANAGE_MEMBERS.name in view.may and not view.personal else ()
    return page(caller.service, "hubs/members", view.me, view=view, tab="members", gives=gives)


@get("/h/{hub_id:str}/invites", opt=page_facts())
async def show_hub_invites(caller: NamedDependency[Caller], hub_id: str) -> Answer:
    async with caller.db.reading() as read:
        view = await read_view(read, caller, hub_id)
        view.require(May.INVITE)
        rows = await invites.list_open(read, view.space)
    links = {
        row.id: f"{caller.service.public_url}/join/{token}"
        for row in rows
        if (token := caller.service.invite_tokens.make_again(row.id, row.token_hash))
    }
    return page(caller.service, "hubs/invites", view.me, view=view, tab="invites", invites=rows, links=links)


@get("/h/{hub_id:str}/settings", opt=page_facts())
async def show_hub_settings(caller: NamedDependency[Caller], hub_id: str) -> Answer:
    async with caller.db.reading() as read:
        view = await read_view(read, caller, hub_id)
        if May.EDIT.name not in view.may:
            raise Forbidden
    return page(caller.service, "hubs/settings", view.me, view=view, tab="settings")


ROUTES: list[HTTPRouteHandler] = [show_new_hub, show_hub_members, show_hub_invites, show_hub_settings]
