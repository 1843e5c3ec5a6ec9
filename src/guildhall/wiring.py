"""Builds everything from the settings, once. The only room that sees every other.

Nothing is built at import: a server calls `application()`, a command or a test calls `open_house()`.
"""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from guildhall import backlog, system
from guildhall.access_keys import routes as key_routes
from guildhall.access_keys.ring import Ring
from guildhall.chat import routes as chat_routes
from guildhall.communities import invites as community_invites
from guildhall.communities import routes as community_routes
from guildhall.db import Db, open_db
from guildhall.dreams import jobs as dream_jobs
from guildhall.dreams import reviews as dream_reviews
from guildhall.dreams import routes as dream_routes
from guildhall.events import routes as event_routes
from guildhall.events.bus import Bus, PostgresBus
from guildhall.events.streams import Streams
from guildhall.groups import routes as group_routes
from guildhall.hubs import invites as hub_invites
from guildhall.hubs import members as hub_members
from guildhall.hubs import routes as hub_routes
from guildhall.inbox import items as inbox_items
from guildhall.inbox import jobs as inbox_jobs
from guildhall.inbox import routes as inbox_routes
from guildhall.instance import embedded_issuer, instance_keys
from guildhall.mcp import routes as mcp_routes
from guildhall.me import onboarding as my_onboarding
from guildhall.me import routes as my_routes
from guildhall.me import settings as my_settings
from guildhall.me import usage as my_usage
from guildhall.memories import files as memory_files
from guildhall.memories import jobs as memory_jobs
from guildhall.memories import many as memory_batches
from guildhall.memories import meaning, vector_indexes
from guildhall.memories import recall_routes as memory_recall
from guildhall.memories import routes as memory_routes
from guildhall.outbox import Handlers, Scheduled
from guildhall.pages import communities as community_pages
from guildhall.pages import dreams as dream_pages
from guildhall.pages import front as front_pages
from guildhall.pages import hubs as hub_pages
from guildhall.pages import inbox as inbox_pages
from guildhall.pages import memory as memory_pages
from guildhall.pages import people as people_pages
from guildhall.pages import portal as portal_pages
from guildhall.pages import status as status_pages
from guildhall.pages import topics as topic_pages
from guildhall.pages.render import error_page
from guildhall.posts import routes as post_routes
from guildhall.providers.blobs import open_blobs
from guildhall.providers.blobs.urls import is_allowed_blob_url
from guildhall.providers.chat import open_chat
from guildhall.providers.email import OutboxOnly, open_email
from guildhall.providers.embeddings import LocalModel, open_embedder
from guildhall.providers.identity import Issuer, clerk_issuer, open_clerk_profiles
from guildhall.providers.identity.verify import Verifier
from guildhall.providers.pause import Pause
from guildhall.settings import PREFIX, Settings, SettingsError, read_settings
from guildhall.spaces import handlers as space_handlers
from guildhall.tokens import Tokens
from guildhall.topics import routes as topic_routes
from guildhall.uploads import routes as upload_routes
from guildhall.users import auth as user_auth
from guildhall.users import auth_v1 as user_auth_v1
from guildhall.users import handlers as user_handlers
from guildhall.users import routes as user_routes
from guildhall.users import webhooks as user_webhooks
from guildhall.web.app import QuickRoutes, build_app, changing_routes
from guildhall.web.door import Door
from guildhall.web.edge import Edge, Rules
from guildhall.web.limits import Limiter
from guildhall.web.log import configure_logs
from guildhall.web.service import Quotas, Service
from guildhall.web.tally import Tally
from guildhall.web.traffic import Traffic
from guildhall.worker import Work, housekeeping

ROUTES: Sequence[HTTPRouteHandler] = [
    *system.ROUTES,
    *user_auth.ROUTES,
    *user_routes.ROUTES,
    *user_webhooks.ROUTES,
    *community_routes.ROUTES,
    *community_invites.ROUTES,
    *group_routes.ROUTES,
    *post_routes.ROUTES,
    *backlog.ROUTES,
    *upload_routes.ROUTES,
    *chat_routes.ROUTES,
    *key_routes.ROUTES,
    *hub_routes.ROUTES,
    *hub_members.ROUTES,
    *hub_invites.ROUTES,
    *event_routes.ROUTES,
    *inbox_routes.ROUTES,
    *inbox_items.ROUTES,
    *user_auth_v1.ROUTES,
    *my_routes.ROUTES,
    *my_settings.ROUTES,
    *my_usage.ROUTES,
    *my_onboarding.ROUTES,
    *memory_routes.ROUTES,
    *memory_batches.ROUTES,
    *memory_recall.ROUTES,
    *memory_files.ROUTES,
    *mcp_routes.ROUTES,
    *topic_routes.ROUTES,
    *dream_routes.ROUTES,
]

# What browsers are shown; not part of the documented APIs.
PAGES: Sequence[HTTPRouteHandler] = [
    *front_pages.ROUTES,
    *people_pages.ROUTES,
    *community_pages.ROUTES,
    *hub_pages.ROUTES,
    *memory_pages.ROUTES,
    *topic_pages.ROUTES,
    *dream_pages.ROUTES,
    *inbox_pages.ROUTES,
    *portal_pages.ROUTES,
    *status_pages.ROUTES,
]

HANDLERS: Handlers = {
    **housekeeping.HANDLERS,
    **space_handlers.HANDLERS,
    **user_handlers.HANDLERS,
    **inbox_jobs.HANDLERS,
    **memory_jobs.HANDLERS,
    **meaning.HANDLERS,
    **vector_indexes.HANDLERS,
    **dream_jobs.HANDLERS,
}

SCHEDULES: Sequence[Scheduled] = [
    *housekeeping.SCHEDULES,
    *space_handlers.SCHEDULES,
    *inbox_jobs.SCHEDULES,
    *memory_jobs.SCHEDULES,
    *meaning.SCHEDULES,
    *vector_indexes.SCHEDULES,
    *dream_jobs.SCHEDULES,
]


class House(msgspec.Struct, frozen=True):
    """What a process of the service needs: the database, what requests share, and what jobs are done with."""

    settings: Settings
    db: Db
    service: Service
    verifier: Verifier
    keys: Ring
    own_issuer: str | None
    work: Work
    handlers: Handlers
    schedules: Sequence[Scheduled]

    @property
    def database_url(self) -> str:
        assert self.settings.database.app_url is not None
        return self.settings.database.app_url


def open_bus(settings: Settings, db: Db, url: str) -> Bus:
    """What carries events. Raises SettingsError without the library that a setting asks for."""
    if settings.redis_url is None:
        return PostgresBus(db, url)
    try:
        from guildhall.events.redis_bus import RedisBus
    except ImportError as error:
        raise SettingsError(
            [f"{PREFIX}REDIS_URL is set, but its library is not installed. Install guildhall[redis]."]
        ) from error
    return RedisBus(settings.redis_url.reveal(), "guildhall events of " + settings.public_url)


@asynccontextmanager
async def open_house(settings: Settings) -> AsyncGenerator[House]:
    """Open the pools and the providers; close them after. The database is reached by `settings.database`."""
    url = settings.database.app_url
    owner_url = settings.database.owner_url or settings.database.url
    assert url is not None and owner_url is not None, "the embedded database is started before"
    keys = instance_keys(settings)
    issuers: list[Issuer] = []
    issuer = profiles = None
    if settings.identity is None:
        issuer = embedded_issuer(keys)
        issuers.append(issuer.trusted())
    else:
        issuers.append(clerk_issuer(settings.identity))
        if settings.identity.secret_key is not None:
            profiles = open_clerk_profiles(settings.identity)
    verifier = Verifier(issuers)
    chat = open_chat(settings.chat) if settings.chat else None
    email = open_email(settings.email)
    blobs = open_blobs(settings.blobs)
    embedder = open_embedder(settings.embeddings) if settings.embeddings else None
    own_prefix = settings.public_url + "/blobs/"
    db = await open_db(url, read_url=settings.database.app_read_url, size=settings.database.pool)
    bus = open_bus(settings, db, url)
    streams = Streams(db, bus)
    db.pass_on = bus.send
    ring = Ring(db)
    tally = Tally(db)
    keeping = [asyncio.create_task(ring.keep()), asyncio.create_task(tally.keep())]
    try:
        service = Service(
            limiter=Limiter(settings.rate_limit_scale),
            name=settings.name,
            about=settings.about,
            public_url=settings.public_url,
            keys=keys,
            invite_tokens=Tokens(keys, "invites", "inv_"),
            is_blob_url=lambda url: is_allowed_blob_url(url, settings.blob_hosts, [own_prefix]),
            content_hosts=settings.blob_hosts,
            blobs=blobs,
            issuer=issuer,
            clerk=settings.identity,
            profiles=profiles,
            profiles_pause=Pause(),
            chat=chat,
            chat_pause=Pause(),
            streams=streams,
            chat_api_key=settings.chat.api_key if settings.chat else None,
            chat_url=settings.chat.base_url if settings.chat else None,
            operators=settings.operators,
            backlog_open=settings.backlog_open,
            development=settings.mode == "development",
            docs=settings.docs,
            metrics=settings.metrics,
            traffic=Traffic(),
            outbox=settings.email.folder if isinstance(settings.email, OutboxOnly) else None,
            error_page=error_page,
            most_owned_hubs=settings.most_owned_hubs,
            most_hub_members=settings.most_hub_members,
            quotas=Quotas(settings.monthly_pushes, settings.monthly_recalls, settings.monthly_asks),
            tally=tally,
            most_hub_memories=settings.most_hub_memories,
            embedder=embedder,
            # A model of one's own is slow at times, and never gone.
            embedder_pause=Pause(0.0 if isinstance(settings.embeddings, LocalModel) else 15.0),
            decide=dream_reviews.decide,
        )
        yield House(
            settings=settings,
            db=db,
            service=service,
            verifier=verifier,
            keys=ring,
            own_issuer=issuer.issuer if issuer else None,
            work=Work(db, service, email, owner_url),
            handlers=HANDLERS,
            schedules=SCHEDULES,
        )
    finally:
        for task in keeping:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await streams.aclose()
        await bus.aclose()
        await db.close()
        await verifier.aclose()
        await blobs.aclose()
        await email.aclose()
        if embedder is not None:
            await embedder.aclose()
        if chat is not None:
            await chat.aclose()
        if profiles is not None:
            await profiles.aclose()


def build_edge(house: House) -> Edge:
    """The ASGI application of an open house."""
    return _edge(house, build_app([*ROUTES, *PAGES]))


def _edge(house: House, app: Litestar) -> Edge:
    settings = house.settings
    return Edge(
        app,
        db=house.db,
        verifier=house.verifier,
        keys=house.keys,
        service=house.service,
        quick=QuickRoutes(ROUTES),
        changing=changing_routes(ROUTES),
        door=Door(app),
        rules=Rules(
            origins=settings.origins,
            trusted_proxies=settings.trusted_proxies,
            tls=urlsplit(settings.public_url).scheme == "https",
            own_issuer=house.own_issuer,
        ),
    )


def _on_stop(close: Callable[[], None]) -> None:
    """Call `close` when this process is told to stop, before the server does what it does.

    A server that stops waits for the requests it has, and a stream of events would have no end. Whatever
    handles the signal is called after, and a loop that watches for it still hears of it.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def stop(signum: int, stack: FrameType | None, before: Any = before) -> None:
            loop.call_soon_threadsafe(close)
            if callable(before):
                before(signum, stack)
            elif before == signal.SIG_DFL:
                signal.signal(signum, signal.SIG_DFL)
                signal.raise_signal(signum)

        signal.signal(number, stop)


class Application:
    """The ASGI application a server starts: opens the house with the server and closes it with it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._edge: Edge | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._edge is not None:
            await self._edge(scope, receive, send)

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        try:
            house = open_house(self._settings)
            opened = await house.__aenter__()
            _on_stop(opened.service.streams.close_all)
            self._edge = build_edge(opened)
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await house.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})


def application() -> Application:
    """What a server is pointed at: `guildhall.wiring:application`, a factory. Raises SettingsError."""
    settings = read_settings(os.environ)
    if settings.database.url is None:
        raise SettingsError(
            [f"{PREFIX}DATABASE_URL is not set. Only `guildhall serve` runs an embedded database."]
        )
    configure_logs(settings.log_level, settings.log_format)
    return Application(settings)
