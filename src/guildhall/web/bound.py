"""How long a request may take."""

import asyncio
from types import TracebackType


class Bounds:
    """Ends what takes longer than `limit_s`, by one timer for all: one for each costs more than a short
    request does.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        # In the order of their beginning, which is that of their end.
        self._open: dict[Bound, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        # To ask for it each time costs more than all the rest of this.
        self.loop = asyncio.get_running_loop()

    def bound(self) -> "Bound":
        """To be entered by the task that is to end in time."""
        return Bound(self)

    def watch(self, bound: "Bound", due: float) -> None:
        self._open[bound] = None
        if self._timer is None:
            self._timer = self.loop.call_at(due, self._look)

    def forget(self, bound: "Bound") -> None:
        self._open.pop(bound, None)

    def _look(self) -> None:
        now = self.loop.time()
        self._timer = None
        for bound in list(self._open):
            if bound.due > now:
                self._timer = self.loop.call_at(bound.due, self._look)
                break
            del self._open[bound]
            bound.expire()


class Bound:
    """The length of a block, in which TimeoutError is raised when the time is up."""

    __slots__ = ("_bounds", "_cancelling", "_expired", "_task", "due")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._expired = False

    def expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def __enter__(self) -> "Bound":
        loop = self._bounds.loop
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self.due = loop.time() + self._bounds.limit_s
        self._bounds.watch(self, self.due)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bounds.forget(self)
        # Somebody else may have cancelled the task too, and is to be heard.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
