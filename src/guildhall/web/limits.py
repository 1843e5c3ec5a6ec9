"""Rate limits: token buckets. General ones live in the process; those on costly actions in the database.

A bucket holds `capacity` tokens and fills in `period_s` seconds. `scale` multiplies every capacity
(and shortens nothing), so that a measurement runs the same code; 0 means no limit.
"""

import hashlib
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import msgspec

from guildhall.db import Write
from guildhall.errors import Taken, TooManyRequests


class Rate(msgspec.Struct, frozen=True):
    """So many per so many seconds, with a burst of `burst` (the number itself where absent)."""

    count: int
    period_s: int
    burst: int | None = None


MINUTE, HOUR, DAY = 60, 3_600, 86_400

# Each takes about half a kibibyte, and all of them together may take 64 MiB.
MOST_BUCKETS = 100_000

# In the process: cheap, and approximately right over several processes.
LOCAL: Mapping[str, tuple[Rate, ...]] = {
    "user": (Rate(1_200, MINUTE, burst=200),),
    "user writes": (Rate(240, MINUTE),),
    "content": (Rate(80, MINUTE), Rate(500, HOUR)),
    "address": (Rate(120, MINUTE),),
    "invite look-up": (Rate(30, MINUTE),),
    "invite misses": (Rate(600, MINUTE),),
    "accept": (Rate(10, MINUTE),),
    "slug check": (Rate(30, MINUTE),),
    "profile": (Rate(120, MINUTE),),
    "direct add": (Rate(30, MINUTE),),
    "sync": (Rate(30, MINUTE),),
    "search": (Rate(60, MINUTE),),
    "code request": (Rate(5, MINUTE),),
    "code try": (Rate(20, MINUTE),),
    "tokens": (Rate(30, MINUTE),),
    "type-ahead": (Rate(300, MINUTE),),
    "ask": (Rate(30, MINUTE),),
    "batch": (Rate(15, MINUTE),),
}

# At once, in the process.
TOGETHER: Mapping[str, int] = {"search": 4}

# In the database: exact over all processes.
EXACT: Mapping[str, tuple[Rate, ...]] = {
    "invites by a user": (Rate(20, HOUR),),
    "invites of a space": (Rate(100, DAY),),
    "invites to an address": (Rate(3, DAY),),
    "backlog from an address": (Rate(10, MINUTE), Rate(200, DAY)),
    "backlog": (Rate(60, MINUTE),),
    "chat token": (Rate(20, MINUTE),),
    "code to an address": (Rate(5, HOUR),),
    "codes from an address": (Rate(20, HOUR),),
    "code tries from an address": (Rate(60, HOUR),),
    "export": (Rate(3, DAY),),
    "keys by a user": (Rate(30, HOUR),),
    "onboarding restarts": (Rate(3, DAY),),
}


class Limiter:
    """Token buckets by (limit, subject), the least recently used forgotten first, so memory is bounded."""

    def __init__(self, scale: float = 1.0, max_buckets: int = MOST_BUCKETS) -> None:
        self.scale = scale
        self._max = max_buckets
        # Each kind of bucket: its number, its capacity, and how fast it fills.
        self._kinds: dict[str, list[tuple[int, float, float]]] = {}
        for limit, rates in LOCAL.items():
            self._kinds[limit] = [
                (index, (rate.burst or rate.count) * scale, rate.count * scale / rate.period_s)
                for index, rate in enumerate(rates)
            ]
        self._busy = {limit: Counter[str]() for limit in TOGETHER}
        self._buckets: OrderedDict[tuple[str, int, str], tuple[float, float]] = OrderedDict()

    def per_minute(self, limit: str) -> int:
        """How many a minute this lets through in the long run; -1 where there is no limit."""
        if self.scale == 0:
            return -1
        return math.floor(self._kinds[limit][0][2] * MINUTE + 1e-9)

    def take(self, limit: str, subject: str, now: float | None = None) -> Taken | None:
        """Take one token for `subject`; answers how its scarcest bucket stands, None without limits.

        Raises TooManyRequests with the whole seconds to wait.
        """
        if self.scale == 0:
            return None
        moment = time.monotonic() if now is None else now
        buckets = self._buckets
        scarcest, left = (1.0, 1.0, 1.0), math.inf
        for index, capacity, per_second in self._kinds[limit]:
            key = (limit, index, subject)
            level, since = buckets.get(key, (capacity, moment))
            level += (moment - since) * per_second
            if level > capacity:
                level = capacity
            if level < 1:
                raise refusal((1 - level) / per_second, taken(capacity, level, per_second))
            buckets[key] = (level - 1, moment)
            buckets.move_to_end(key)
            if level - 1 < left:
                left = level - 1
                scarcest = (capacity, left, per_second)
        while len(buckets) > self._max:
            buckets.popitem(last=False)
        return taken(*scarcest)

    @contextmanager
    def place(self, limit: str, subject: str) -> Generator[None]:
        """Be one of those whom `subject` may keep busy at once. Raises TooManyRequests."""
        busy = self._busy[limit]
        if self.scale and busy[subject] >= max(1, TOGETHER[limit] * self.scale):
            raise refusal(1)
        busy[subject] += 1
        try:
            yield
        finally:
            busy[subject] -= 1
            if not busy[subject]:
                del busy[subject]

    @contextmanager
    def searching(self, subject: str, words: str | None) -> Generator[None]:
        """Look for `words` in the block, if there are any. Raises TooManyRequests."""
        if not words:
            yield
            return
        self.take("search", subject)
        with self.place("search", subject):
            yield

    async def take_exact(self, tx: Write, *wanted: tuple[str, str]) -> None:
        """Take one token for each (limit, subject), all or none, in one round trip.

        Raises TooManyRequests. Inside a transaction the tokens come back when it rolls back.
        """
        if self.scale == 0:
            return
        keys: list[bytes] = []
        capacities: list[float] = []
        periods: list[float] = []
        for limit, subject in wanted:
            for index, rate in enumerate(EXACT[limit]):
                # Subjects may be addresses of people: only a digest is kept.
                keys.append(hashlib.sha256(f"{limit}\0{index}\0{subject}".encode()).digest())
                capacities.append(rate.count * self.scale)
                periods.append(float(rate.period_s))
        empty = await tx.maybe(
            _Empty,
            "SELECT wait_s, nth FROM take_tokens($1::bytea[], $2::float8[], $3::float8[])",
            keys,
            capacities,
            periods,
        )
        if empty is not None:
            capacity, period_s = capacities[empty.nth - 1], periods[empty.nth - 1]
            per_second = capacity / period_s
            raise refusal(empty.wait_s, taken(capacity, 1 - empty.wait_s * per_second, per_second))


class _Empty(msgspec.Struct, frozen=True):
    """The bucket that lets through last, by its place among those asked for, from 1."""

    wait_s: float
    nth: int


def taken(capacity: float, level: float, per_second: float) -> Taken:
    return Taken(math.floor(capacity), math.floor(level), math.ceil((capacity - level) / per_second))


def rate_headers(rate: Taken) -> list[tuple[bytes, bytes]]:
    """How a limit stands, as clients of `/v1` read it; the reset is when nothing of it is used any more."""
    return [
        (b"x-ratelimit-limit", b"%d" % rate.limit),
        (b"x-ratelimit-remaining", b"%d" % rate.remaining),
        (b"x-ratelimit-reset", b"%d" % (int(time.time()) + rate.full_in_s)),
    ]


def refusal(wait_s: float, bucket: Taken | None = None) -> TooManyRequests:
    """What to answer when the next token is `wait_s` seconds away, from the bucket that is empty."""
    retry_after_s = max(1, math.ceil(wait_s))
    details: dict[str, object] = {
        "retry_after": retry_after_s,
        "reset_at": math.ceil(time.time()) + retry_after_s,
    }
    if bucket is not None:
        details |= {"limit": bucket.limit, "current": bucket.limit}
    error = TooManyRequests(retry_after_s=retry_after_s, details=details)
    error.bucket = bucket
    return error
