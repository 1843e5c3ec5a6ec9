"""Short reads of one kind, in one statement for all that come at the same time.

A statement costs this process more than the row in it does, and the busiest reads come in crowds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from guildhall.errors import Unavailable

# Whoever comes while a statement is under way waits for the next, but no longer than this.
PATIENCE_S = 0.02
MOST = 200


class Numbered(Protocol):
    """A row that says whose it is: `n` counts those who ask, from 1."""

    @property
    def n(self) -> int: ...


T = TypeVar("T", bound=Numbered)


class Together(Generic[T]):
    """`read` takes a list for each argument of the statement, and answers the rows that there are."""

    def __init__(self, read: Callable[[Sequence[Sequence[object]]], Awaitable[list[T]]]) -> None:
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._asking: list[tuple[tuple[object, ...], asyncio.Future[T | None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._free_at = 0.0

    def ask(self, *args: object) -> Awaitable[T | None]:
        """The row for these arguments, None where there is none. Raises what the statement raises."""
        answer: asyncio.Future[T | None] = self._loop.create_future()
        self._asking.append((args, answer))
        if self._loop.time() >= self._free_at:
            self._free_at = self._loop.time() + PATIENCE_S
            task = self._loop.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return answer

    async def _work(self) -> None:
        while asking := self._asking[:MOST]:
            del self._asking[:MOST]
            self._free_at = self._loop.time() + PATIENCE_S
            await self._answer(asking)
        self._free_at = 0.0

    async def _answer(self, asking: list[tuple[tuple[object, ...], asyncio.Future[T | None]]]) -> None:
        try:
            rows = await self._read(list(zip(*(args for args, _ in asking), strict=True)))
        except BaseException as error:
            # Nobody may wait for ever, and who is cancelled here did not cancel them.
            told = error if isinstance(error, Exception) else Unavailable(retry_after_s=1)
            for _, answer in asking:
                if not answer.done():
                    answer.set_exception(told)
            if not isinstance(error, Exception):
                raise
            return
        found = {row.n: row for row in rows}
        for n, (_, answer) in enumerate(asking, 1):
            # Somebody may have gone meanwhile.
            if not answer.done():
                answer.set_result(found.get(n))
