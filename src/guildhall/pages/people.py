"""Oneself in a browser: profile, sessions, and API keys."""

from litestar import get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from guildhall.access_keys import queries as key_queries
from guildhall.errors import NotFound
from guildhall.pages import queries
from guildhall.pages.frame import page_facts, require_frame
from guildhall.pages.render import page
from guildhall.users import accounts, sign_in
from guildhall.web.app import Answer
from guildhall.web.caller import Caller


@get("/profile", opt=page_facts())
async def show_profile(caller: NamedDependency[Caller]) -> Answer:
    async with caller.db.reading() as read:
        me = await require_frame(read, caller)
        own = await accounts.find_own(read, me.id)
    return page(caller.service, "profile", me, own=own)


@get("/sessions", opt=page_facts())
async def show_sessions(caller: NamedDependency[Caller]) -> Answer:
    if caller.service.issuer is None:
        # Sessions are kept, listed and ended by whoever issues them.
        raise NotFound
    async with caller.db.reading() as read:
        me = await require_frame(read, caller)
        sessions = await sign_in.list_sessions(read, caller)
    return page(caller.service, "sessions", me, sessions=sessions, current=caller.session)


@get("/keys", opt=page_facts())
async def show_keys(caller: NamedDependency[Caller]) -> Answer:
    async with caller.db.reading() as read:
        me = await require_frame(read, caller)
        keys = await key_queries.list_keys(read, caller)
        spaces = await queries.list_spaces(read, caller)
    hubs = [space for space in spaces if space.kind == "hub"]
    return page(
        caller.service, "keys", me, keys=keys, hubs=hubs, hub_names={hub.id: hub.name for hub in hubs}
    )


ROUTES: list[HTTPRouteHandler] = [show_profile, show_sessions, show_keys]
