"""A provider that keeps people waiting for nothing is left alone for a while."""

import time
from collections.abc import Generator
from contextlib import contextmanager

# So many in a row have waited in vain before it is.
MOST_IN_VAIN = 3


class Pause:
    """Whether to ask a provider for which somebody waits, who is also served without it.

    After some who waited in vain nobody asks for `rest_s`, and then one at a time until it is back: one
    request in many waits for what is dead, not each. What fails at once costs no time, and is asked again.
    """

    def __init__(self, rest_s: float = 15.0, *, soon_s: float = 0.1) -> None:
        self._rest_s = rest_s
        self._soon_s = soon_s
        self._in_vain = 0
        self._until = 0.0

    def may_ask(self) -> bool:
        if self._in_vain < MOST_IN_VAIN:
            return True
        now = time.monotonic()
        if now < self._until:
            return False
        # Whoever comes while this one finds out does not wait as well.
        self._until = now + self._rest_s
        return True

    @contextmanager
    def asking(self, *failures: type[BaseException]) -> Generator[None]:
        """Ask in the block, which raises one of `failures` where there is no answer."""
        began = time.monotonic()
        try:
            yield
        except failures:
            now = time.monotonic()
            self._in_vain = self._in_vain + 1 if now - began > self._soon_s else 0
            self._until = now + self._rest_s
            raise
        self._in_vain = 0
