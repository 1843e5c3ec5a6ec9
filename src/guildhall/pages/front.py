"""The way in: home, signing in, invitations, and the files that pages load."""

from typing import Annotated, Any

import anyio.to_thread
import msgspec
from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from guildhall.errors import NotFound
from guildhall.pages import queries
from guildhall.pages.frame import frame_of, page_facts, require_frame
from guildhall.pages.outbox import latest_mails
from guildhall.pages.render import inside, markdown, page, redirect, static_files
from guildhall.spaces import invite_links
from guildhall.web.app import Answer
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, Guest
from guildhall.web.docs import facts
from guildhall.web.wire import Wire

Next = Annotated[str | None, Parameter(query="next", max_length=2048)]

OUTBOX_LIMIT = 50


@get("/static/{name:str}", opt=facts(NotFound, unlimited=True))
async def read_static(guest: NamedDependency[Guest], request: Request[Any, Any, Any], name: str) -> Answer:
    file = static_files().get(name)
    if file is None:
        raise NotFound
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Answer(
            200, [*file.headers, (b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")], file.gzipped
        )
    return Answer(200, [*file.headers, (b"vary", b"Accept-Encoding")], file.body)


@get("/favicon.ico", opt=facts(unlimited=True))
async def read_icon(guest: NamedDependency[Guest]) -> Answer:
    """For browsers that ask without having read a page."""
    icon = next(file for name, file in static_files().items() if name.startswith("icon."))
    return Answer(200, icon.headers, icon.body)


@get("/", opt=page_facts())
async def show_home(guest: NamedDependency[Guest]) -> Answer:
    async with guest.db.reading() as read:
        me = await frame_of(read, guest)
        if me is None or guest.caller is None:
            return page(guest.service, "home", None)
        spaces = await queries.list_spaces(read, guest.caller)
    return page(
        guest.service,
        "home",
        me,
        section="home",
        communities=[space for space in spaces if space.kind == "community"],
        hubs=[space for space in spaces if space.kind == "hub"],
    )


@get("/sign-in", opt=page_facts())
async def show_sign_in(guest: NamedDependency[Guest], next_path: Next = None) -> Answer:
    then = inside(next_path)
    async with guest.db.reading() as read:
        if await frame_of(read, guest) is not None:
            return redirect(then)
    return page(
        guest.service,
        "sign_in",
        None,
        embedded=guest.service.issuer is not None,
        sign_in_url=guest.service.clerk.sign_in_link(guest.service.public_url + then)
        if guest.service.clerk
        else None,
        outbox=_may_see_outbox(guest),
        next=then,
    )


class Invitation(msgspec.Struct, frozen=True):
    """What the page of an invite's link needs of it: the call that accepts it, and where one is then."""

    status: str
    space: str
    inviter: str
    role: str
    expires_at: str
    accept: str
    then: str


@get("/join/{token:str}", opt=page_facts(limits=("invite look-up",)))
async def show_invite(guest: NamedDependency[Guest], token: str) -> Answer:
    async with guest.db.reading() as read:
        me = await frame_of(read, guest)
        try:
            card = await invite_links.look_up(read, guest.service, token)
        except NotFound:
            return page(guest.service, "join", me, invite=None, own=None, here="/")
        slug = await queries.find_own_slug(read, guest.caller, card.space_id) if guest.caller else None
    own = None if slug is None else f"/c/{slug}" if card.kind == "community" else f"/h/{slug}"
    calls = (
        (f"POST /api/invites/{token}/accept", "/c/{community.slug}")
        if card.kind == "community"
        else (f"POST /v1/invites/{token}/accept", "/h/{hub_id}")
    )
    invite = Invitation(card.status, card.space_name, card.inviter_name, card.role, card.expires_at, *calls)
    return page(guest.service, "join", me, invite=invite, own=own, here=f"/join/{token}")


@get("/invite/{token:str}", opt=page_facts(limits=("invite look-up",)))
async def show_invite_elsewhere(guest: NamedDependency[Guest], token: str) -> Answer:
    """Clients of hubs that know only this service's address make links of this form."""
    return redirect(f"/join/{token}")


class Draft(Wire, frozen=True, kw_only=True):
    content: Annotated[str, msgspec.Meta(max_length=10_000)]


class Preview(Wire, frozen=True, kw_only=True):
    html: str


@post("/preview", status_code=200, opt=facts())
async def preview(caller: NamedDependency[Caller], data: Sent[Draft]) -> Preview:
    """Markdown as the pages show it."""
    async with caller.db.reading() as read:
        await require_frame(read, caller)
    return Preview(html=str(await anyio.to_thread.run_sync(markdown, data.read().content)))


@get("/outbox", opt=page_facts())
async def show_outbox(guest: NamedDependency[Guest]) -> Answer:
    """The mails that stay here: for operators, and on a machine for development for whoever sits at it."""
    async with guest.db.reading() as read:
        me = await frame_of(read, guest)
    folder = guest.service.outbox
    if folder is None or not (_may_see_outbox(guest) or (me is not None and me.operator)):
        raise NotFound
    mails = await anyio.to_thread.run_sync(latest_mails, folder, OUTBOX_LIMIT)
    return page(guest.service, "outbox", me, mails=mails)


def _may_see_outbox(guest: Guest) -> bool:
    service = guest.service
    return service.outbox is not None and service.development and guest.address in ("127.0.0.1", "::1")


ROUTES: list[HTTPRouteHandler] = [
    read_static,
    read_icon,
    show_home,
    show_sign_in,
    show_invite,
    show_invite_elsewhere,
    preview,
    show_outbox,
]
