"""Requests that wait for their clients: for a body to come, or for a long answer to be read.

They are not among those in flight, so that whoever sends or reads nothing keeps nobody else from being
served. How many there may be is counted by who it is that waits.
"""

from collections import Counter

from guildhall.errors import TooManyRequests, Unavailable

MOST_EACH = 100
# By people without a session. The others are known, and can be shut out.
MOST_OF_GUESTS = 1_000


class Waiting:
    """Who waits, and how often: users by their id, guests by their address."""

    def __init__(self) -> None:
        self._users: Counter[str] = Counter()
        self._guests: Counter[str] = Counter()

    def take(self, user: str | None, address: str) -> None:
        """Begin to wait. Raises TooManyRequests, Unavailable."""
        kind, who = (self._guests, address) if user is None else (self._users, user)
        if kind[who] >= MOST_EACH:
            raise TooManyRequests("Too many of your requests are unfinished.", retry_after_s=1)
        if user is None and kind.total() >= MOST_OF_GUESTS:
            raise Unavailable("Too many requests are unfinished; try again shortly.", retry_after_s=1)
        kind[who] += 1

    def give(self, user: str | None, address: str) -> None:
        kind, who = (self._guests, address) if user is None else (self._users, user)
        kind[who] -= 1
        if not kind[who]:
            del kind[who]
