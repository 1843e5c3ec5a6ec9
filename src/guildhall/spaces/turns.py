"""Whose turn it is to make a space's channels match: one worker at a time, and whoever comes meanwhile asks
it to look once more. So a burst of changes costs two passes, and no pass works on rows older than another's.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec

from guildhall.db import Db, Write
from guildhall.errors import AppError

# Shorter than a job's lease, so that the job of a worker that died finds the turn free.
HELD_FOR = timedelta(seconds=20)
RENEW_EVERY_S = 5.0


class TurnLost(Exception):
    """Another worker took over, as this one was not heard of for a while."""


class _Taken(msgspec.Struct, frozen=True):
    mine: bool


class Turn:
    """Held until `finish` says that nothing changed since `begin`, or it is put down."""

    def __init__(self, db: Db, space: UUID) -> None:
        self._db = db
        self.space = space
        self.holder = uuid4()

    async def take(self) -> bool:
        """False when another has the turn; it will look once more."""
        async with self._db.single() as tx:
            taken = await tx.one(
                _Taken,
                "INSERT INTO chat_spaces AS c (space_id, holder, held_until) VALUES ($1, $2, now() + $3)"
                " ON CONFLICT (space_id) DO UPDATE SET"
                " again = c.again OR coalesce(c.held_until > now(), false),"
                " holder = CASE WHEN c.held_until > now() THEN c.holder ELSE $2 END,"
                " held_until = CASE WHEN c.held_until > now() THEN c.held_until ELSE now() + $3 END"
                " RETURNING c.holder = $2 AS mine",
                self.space,
                self.holder,
                HELD_FOR,
            )
        return taken.mine

    async def begin(self) -> int | None:
        """The community's version that the next look is good for; None when it is gone. Raises TurnLost."""
        async with self._db.single() as tx:
            held = await tx.value(
                "UPDATE chat_spaces SET again = false, held_until = now() + $3"
                " WHERE space_id = $1 AND holder = $2 RETURNING true",
                self.space,
                self.holder,
                HELD_FOR,
            )
        if not held:
            raise TurnLost
        # A statement of its own, so that it sees every change whose job came before `again` was cleared.
        async with self._db.single() as tx:
            return await tx.value(
                "SELECT version FROM spaces WHERE id = $1 AND kind = 'community' AND deleted_at IS NULL",
                self.space,
            )

    async def finish(self, version: int | None) -> bool:
        """Give the turn back; False when somebody asked to look again. Raises TurnLost."""
        async with self._db.single() as tx:
            again = await tx.value(
                "UPDATE chat_spaces SET"
                " holder = CASE WHEN again THEN holder END,"
                " held_until = CASE WHEN again THEN held_until END,"
                " done_version = CASE WHEN again THEN done_version ELSE $3 END"
                " WHERE space_id = $1 AND holder = $2 RETURNING again",
                self.space,
                self.holder,
                version,
            )
        if again is None:
            raise TurnLost
        if not again and version is None:
            async with self._db.single() as tx:
                await tx.run(
                    "DELETE FROM chat_spaces WHERE space_id = $1 AND holder IS NULL AND NOT again"
                    " AND NOT EXISTS (SELECT FROM chat_channels c WHERE c.space_id = $1)",
                    self.space,
                )
        return not again

    async def put_down(self) -> None:
        """Give the turn back unfinished: whoever comes next starts by looking."""
        async with self._db.single() as tx:
            await tx.run(
                "UPDATE chat_spaces SET holder = NULL, held_until = NULL, again = true"
                " WHERE space_id = $1 AND holder = $2",
                self.space,
                self.holder,
            )

    async def check(self, tx: Write) -> None:
        """Make sure, until the transaction ends, that nobody takes over. Raises TurnLost."""
        held = await tx.value(
            "SELECT true FROM chat_spaces WHERE space_id = $1 AND holder = $2 FOR SHARE",
            self.space,
            self.holder,
        )
        if not held:
            raise TurnLost

    @asynccontextmanager
    async def kept(self) -> AsyncGenerator[None]:
        """Keep the turn for the length of the block, and put it down when the block fails."""
        keeping = asyncio.create_task(self._keep())
        try:
            yield
        except BaseException:
            # Should this fail as well, the turn runs out by itself.
            with contextlib.suppress(AppError):
                await self.put_down()
            raise
        finally:
            keeping.cancel()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            with contextlib.suppress(AppError):
                async with self._db.single() as tx:
                    await tx.run(
                        "UPDATE chat_spaces SET held_until = now() + $3 WHERE space_id = $1 AND holder = $2",
                        self.space,
                        self.holder,
                        HELD_FOR,
                    )
