"""Telling a person who waits what is being done, once it takes long enough to wonder."""

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

Say: TypeAlias = Callable[[str], None]

FIRST_AFTER_S = 1.5
THEN_EVERY_S = 5.0


def say(line: str) -> None:
    """Tell how it goes. On standard error, so that standard output holds only what was asked for."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def telling(doing: str) -> Generator[Say]:
    """Say `doing` when the block takes a while, and from then on now and then what it last said it does."""
    telling = Telling(doing)
    telling.start()
    try:
        yield telling.note
    finally:
        telling.stop()


class Telling:
    """The same, for what begins and ends in different places."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._since = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="telling", daemon=True)

    def start(self) -> None:
        self._since = time.monotonic()
        self._thread.start()

    def note(self, doing: str) -> None:
        self._doing, self._since = doing, time.monotonic()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _tell(self) -> None:
        said = None
        wait_s = FIRST_AFTER_S
        while not self._over.wait(wait_s):
            doing, wait_s = self._doing, THEN_EVERY_S
            say(doing if doing != said else f"{doing} {time.monotonic() - self._since:.0f} s")
            said = doing
