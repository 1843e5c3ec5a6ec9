"""What this process has answered so far: how often, with which status, and how quickly."""

from bisect import bisect_left
from collections import Counter

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Traffic:
    """Counts, cheap enough to be kept whether anybody asks for them or not.

    `answered` is by method and status; `within` by the first of BUCKETS_S that the time fits, then the rest.
    """

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, int]] = Counter()
        self.within = [0] * (len(BUCKETS_S) + 1)
        self.seconds = 0.0

    def note(self, method: str, status: int, seconds: float) -> None:
        self.answered[method, status] += 1
        self.within[bisect_left(BUCKETS_S, seconds)] += 1
        self.seconds += seconds
