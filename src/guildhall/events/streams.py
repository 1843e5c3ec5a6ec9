"""The open streams of this process, and which of them hears what.

Who may hear an event is asked of the database when it is told: whether the stream's session or key still
lives, and whether its person is in the hub then. So nothing is heard after a right has ended, and a new
member hears without opening a new stream.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Db, Retryable
from guildhall.errors import AppError, TooManyRequests, Unavailable
from guildhall.events.bus import MISSED, Bus
from guildhall.events.event import ATOMS, Told
from guildhall.web.access import Access
from guildhall.web.log import logger

QUEUE = 32
PING_S = 25
LIFETIME_S = 3_600.0
PATIENCE_S = 2.0
MOST_STREAMS = 4_000
MOST_OF_ONE = 50
GATHER_S = 0.005


class _Member(msgspec.Struct, frozen=True):
    space_id: UUID
    user_id: str
    role: str


# Of these, whose session or key lives, and whether it reaches the space.
_LIVE: LiteralString = """
    SELECT open.n, open.space IS NULL OR reaches(open.session, open.space) AS reached
      FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::uuid[])
                    AS open (n, caller, issuer, session, space)
     WHERE EXISTS (SELECT FROM me(open.caller, open.issuer, open.session))
"""


class _Live(msgspec.Struct, frozen=True):
    n: int
    reached: bool


class Stream:
    """One open stream. What it has not sent waits in a short queue; what does not fit is lost."""

    __slots__ = (
        "_closed",
        "_queue",
        "_wake",
        "access",
        "hub",
        "issuer",
        "lost",
        "opened",
        "sending",
        "session",
        "types",
        "user",
        "was_cut",
    )

    def __init__(
        self,
        user: str,
        issuer: str,
        session: str | None,
        access: Access | None,
        *,
        hub: UUID | None,
        types: frozenset[str] | None,
    ) -> None:
        self.user = user
        self.issuer = issuer
        self.session = session
        self.access = access
        self.hub = hub
        self.types = types
        self.opened = time.monotonic()
        self.lost = 0
        # What sends, while it does, and whether it was cut off because nobody read.
        self.sending: asyncio.Task[None] | None = None
        self.was_cut = False
        self._queue: deque[bytes] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._closed = False

    def wants(self, told: Told) -> bool:
        """Whether its filters let an event through; a key hears of what it may read, in its own hubs."""
        if self.types is not None and told.type not in self.types:
            return False
        if self.hub is not None and told.about != self.hub:
            return False
        access = self.access
        if access is None:
            return True
        if access.hubs is not None and told.about not in access.hubs:
            return False
        atom = ATOMS.get(told.type)
        return atom is None or atom in access.atoms

    def put(self, frame: bytes) -> bool:
        """Have a frame sent; False when too many wait already, and it is lost."""
        if len(self._queue) >= QUEUE:
            self.lost += 1
            return False
        self._queue.append(frame)
        self._stir()
        return True

    async def next(self) -> bytes | None:
        """All that waits, as soon as anything does; None when the stream is over."""
        while not self._queue:
            if self._closed:
                return None
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        frames = b"".join(self._queue)
        self._queue.clear()
        return frames

    def close(self) -> None:
        """End it after what waits is sent, and soon also where nobody reads that."""
        if not self._closed:
            self._closed = True
            self._stir()
            if self.sending is not None:
                asyncio.get_running_loop().call_later(PATIENCE_S, self._cut, self.sending)

    def _cut(self, sending: "asyncio.Task[None]") -> None:
        if not sending.done():
            self.was_cut = True
            sending.cancel()

    def _stir(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def frame(name: str, data: bytes) -> bytes:
    """A server-sent event as simple readers take it: one line of each."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


class Streams:
    """All open streams of this process."""

    def __init__(self, db: Db, bus: Bus) -> None:
        self._db = db
        self._bus = bus
        self._by_user: dict[str, set[Stream]] = {}
        # One part is pinged in each second, so that not all are at once.
        self._parts: list[set[Stream]] = [set() for _ in range(PING_S)]
        self._count = 0
        self._heard: list[bytes] = []
        self._telling: asyncio.Task[None] | None = None
        self._pinging: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return self._count

    async def open(self, stream: Stream) -> None:
        """Let a stream hear from now on. Raises TooManyRequests, Unavailable."""
        if self._closed or self._count >= MOST_STREAMS:
            raise Unavailable("Too many streams are open here; try again shortly.", retry_after_s=5)
        own = self._by_user.setdefault(stream.user, set())
        if len(own) >= MOST_OF_ONE:
            raise TooManyRequests(
                "Too many of your streams are open. Close some first.", retry_after_s=PING_S
            )
        own.add(stream)
        self._parts[int(stream.opened) % PING_S].add(stream)
        self._count += 1
        try:
            if self._pinging is None:
                self._pinging = asyncio.create_task(self._ping())
            if self._listening is None:
                self._listening = asyncio.create_task(self._listen())
            await asyncio.shield(self._listening)
        except BaseException:
            self.remove(stream)
            raise

    async def _listen(self) -> None:
        try:
            await self._bus.listen(self._hear, self._lose)
        except BaseException as error:
            self._listening = None
            if isinstance(error, Exception):
                raise Unavailable("Events cannot be heard just now.", retry_after_s=2) from error
            raise

    def _lose(self) -> None:
        """Something may have been missed: whoever opens a new stream looks again at everything."""
        self._listening = None
        self._end(self._all())

    def remove(self, stream: Stream) -> None:
        own = self._by_user.get(stream.user)
        if own is None or stream not in own:
            return
        own.discard(stream)
        if not own:
            del self._by_user[stream.user]
        self._parts[int(stream.opened) % PING_S].discard(stream)
        self._count -= 1

    def close_all(self) -> None:
        """End every stream, and let none be opened: the process is about to stop."""
        self._closed = True
        self._end(self._all())

    def _all(self) -> list[Stream]:
        return [stream for own in self._by_user.values() for stream in own]

    @staticmethod
    def _end(streams: Iterable[Stream]) -> None:
        for stream in streams:
            stream.close()

    def _hear(self, message: bytes) -> None:
        if self._count == 0:
            return
        if message == MISSED:
            self._end(self._all())
            return
        self._heard.append(message)
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        """Judge what was heard within a few milliseconds in one query."""
        try:
            while self._heard:
                await asyncio.sleep(GATHER_S)
                messages, self._heard = self._heard, []
                told = [msgspec.json.decode(message, type=Told) for message in messages]
                try:
                    await self._judge(told)
                except (AppError, Retryable) as error:
                    # Nobody hears what nobody could be asked about.
                    logger().warning("events.not_judged", reason=str(error))
                    self._end(self._all())
        finally:
            self._telling = None

    async def _judge(self, told: list[Told]) -> None:
        members = await self._members({item.space for item in told if item.space is not None})
        hearing: list[tuple[Told, list[Stream]]] = []
        for item in told:
            if item.people is not None:
                people: Iterable[str] = item.people
            else:
                roles = members.get(item.space, {})
                people = [user for user, role in roles.items() if item.role in (None, role)]
            streams = [
                stream for user in people for stream in self._by_user.get(user, ()) if stream.wants(item)
            ]
            hearing.append((item, streams))
        pairs = list(dict.fromkeys((stream, item.about) for item, streams in hearing for stream in streams))
        reached = await self._live(pairs)
        for n, (stream, _) in enumerate(pairs):
            if n not in reached:
                stream.close()
        may_hear = {pairs[n] for n, may in reached.items() if may}
        for item, streams in hearing:
            line = frame(item.type, bytes(item.event))
            for stream in streams:
                if (stream, item.about) in may_hear:
                    stream.put(line)

    async def _members(self, spaces: set[UUID]) -> dict[UUID | None, dict[str, str]]:
        """Who of those that listen is a member of these spaces now, as what."""
        found: dict[UUID | None, dict[str, str]] = {}
        if spaces:
            async with self._db.single() as tx:
                rows = await tx.many(
                    _Member,
                    "SELECT m.space_id, m.user_id, m.role FROM members m"
                    " JOIN spaces s ON s.id = m.space_id AND s.deleted_at IS NULL"
                    " WHERE m.space_id = ANY ($1) AND m.user_id = ANY ($2) AND m.status = 'active'",
                    list(spaces),
                    list(self._by_user),
                )
            for row in rows:
                found.setdefault(row.space_id, {})[row.user_id] = row.role
        return found

    async def _live(self, pairs: Sequence[tuple[Stream, UUID | None]]) -> dict[int, bool]:
        """By its number, each that lives, and whether it reaches the space."""
        if not pairs:
            return {}
        async with self._db.single() as tx:
            rows = await tx.many(
                _Live,
                _LIVE,
                list(range(len(pairs))),
                [stream.user for stream, _ in pairs],
                [stream.issuer for stream, _ in pairs],
                [stream.session for stream, _ in pairs],
                [space for _, space in pairs],
            )
        return {row.n: row.reached for row in rows}

    async def _ping(self) -> None:
        """One part of the streams each second. A stream is over with its right, its time, or its reader."""
        second = int(time.monotonic())
        while True:
            await asyncio.sleep(max(0.0, second + 1 - time.monotonic()))
            second += 1
            streams = list(self._parts[second % PING_S])
            if not streams:
                continue
            try:
                live = await self._live([(stream, None) for stream in streams])
            except (AppError, Retryable):
                continue
            ping = frame("ping", msgspec.json.encode({"ts": datetime.now(UTC)}))
            for n, stream in enumerate(streams):
                young = time.monotonic() - stream.opened < LIFETIME_S
                if not (n in live and young and stream.put(ping)):
                    stream.close()
                    self.remove(stream)

    async def aclose(self) -> None:
        self.close_all()
        for task in (self._pinging, self._telling, self._listening):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, AppError):
                    await task
