"""`/v1/events/stream`: server-sent events."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, get_args
from uuid import UUID

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter
from litestar.response.base import ASGIResponse

from guildhall.db import Read
from guildhall.errors import Forbidden
from guildhall.events.event import Event, EventType
from guildhall.events.streams import Stream, Streams, frame
from guildhall.web.caller import Caller, explain_absence
from guildhall.web.docs import facts

TYPES: frozenset[str] = frozenset(get_args(EventType))
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-store"),
    (b"x-accel-buffering", b"no"),
]

OneHub = Annotated[str | None, Parameter(max_length=64, description="Only what concerns this hub.")]
OnlyTypes = Annotated[
    str | None, Parameter(max_length=512, description="Only these types of events, by commas.")
]


@get(
    "/v1/events/stream",
    summary="Hear of changes as they happen",
    opt=facts(Forbidden, atom="any", media="text/event-stream", answers=str, tells=Event),
)
async def stream_events(
    caller: NamedDependency[Caller], hub_id: OneHub = None, types: OnlyTypes = None
) -> Response[Any]:
    """Server-sent events, each a hint to look again. First comes `ready`, and every 25 seconds `ping`.

    Delivery is best effort: a slow reader loses events, and nothing is told again. A stream is ended by
    the server after an hour, or earlier; look at everything again after opening another.
    """
    wanted = frozenset(types.split(",")) & TYPES if types else None
    hub = _find_hub(hub_id) if hub_id else None
    stream = Stream(caller.user, caller.issuer, caller.session, caller.access, hub=hub, types=wanted)
    streams = caller.service.streams
    # Opened first: what changes from here on is in the list, or heard, or both.
    await streams.open(stream)
    try:
        async with caller.db.reading() as read:
            hubs = await _hubs_of(read, caller)
        if hub_id and hub_id not in map(str, hubs):
            raise Forbidden("You are not in this hub.")
    except BaseException:
        streams.remove(stream)
        raise
    shown = hubs if hub is None else [hub]
    ready = msgspec.json.encode({"user_id": caller.user, "hub_ids": shown})
    return _EventStream(streams, stream, frame("ready", ready))


def _find_hub(raw: str) -> UUID:
    try:
        return UUID(raw)
    except ValueError:
        # Of nobody's; it is refused like any other that the caller is not in.
        return UUID(int=0)


class _Reach(msgspec.Struct, frozen=True):
    hubs: list[UUID]


async def _hubs_of(read: Read, caller: Caller) -> Sequence[UUID]:
    found = await read.maybe(
        _Reach,
        "SELECT ARRAY(SELECT m.space_id FROM members m"
        "    JOIN spaces s ON s.id = m.space_id AND s.deleted_at IS NULL"
        "   WHERE m.user_id = asking.user_id AND m.kind = 'hub' AND m.status = 'active'"
        "     AND reaches($3, m.space_id) ORDER BY m.joined_at, m.space_id) AS hubs"
        " FROM me($1, $2, $3) AS asking",
        *caller.me,
    )
    if found is None:
        raise await explain_absence(read, caller)
    return found.hubs


class _EventStream(Response[bytes]):
    def __init__(self, streams: Streams, stream: Stream, first: bytes) -> None:
        super().__init__(content=b"")
        self._parts = (streams, stream, first)

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIResponse:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Sending(*self._parts)


class _Sending(ASGIResponse):
    """Sends what a stream hears until its reader goes or it is ended."""

    __slots__ = ("_first", "_stream", "_streams")

    def __init__(self, streams: Streams, stream: Stream, first: bytes) -> None:
        self._streams = streams
        self._stream = stream
        self._first = first

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        stream = self._stream
        if scope["state"]["head"]:
            # Asked only what the answer would look like.
            self._streams.remove(stream)
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        going = asyncio.ensure_future(_gone(receive))
        going.add_done_callback(lambda _: stream.close())
        stream.sending = asyncio.current_task()
        try:
            # It takes as long as it takes, and none of the places for requests.
            scope["state"]["outlast"](None)
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            while (frames := await stream.next()) is not None and not going.done():
                await send({"type": "http.response.body", "body": frames, "more_body": True})
            if not going.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if not stream.was_cut:
                raise
        finally:
            stream.sending = None
            self._streams.remove(stream)
            going.cancel()


async def _gone(receive: Any) -> None:
    """Wait until the reader has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


ROUTES: list[HTTPRouteHandler] = [stream_events]
