"""Measurements. Rounds of the servers take turns, so that what else the machine does falls on all alike."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import msgspec

from bench import process
from bench.load import Burst, ask, burst, for_a_while
from bench.servers import Server

MIB = 2**20


class Speed(msgspec.Struct, frozen=True):
    """Of one server under one kind of request: medians over the rounds, latencies over all of them."""

    cpu_us: float
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    requests: int


class Ratio(msgspec.Struct, frozen=True):
    """Processor time of one server to another's, round by round: the median and the middle half."""

    median: float
    low: float
    high: float


class Round(msgspec.Struct, frozen=True):
    cpu_us: float
    burst: Burst


class Contender(msgspec.Struct, frozen=True):
    """A server with what it is asked. One server may stand in a comparison under several names."""

    name: str
    server: Server
    requests: list[bytes]
    status: int


class Plan(msgspec.Struct, frozen=True):
    """How long to measure: so many rounds, of so many seconds, over so many connections."""

    rounds: int
    round_s: float
    connections: int


class Unexpected(Exception):
    """A server refused or failed what it was asked, so that its speed means nothing."""


async def compare(contenders: Sequence[Contender], plan: Plan) -> dict[str, list[Round]]:
    """Rounds of each, in turn; who goes first changes."""
    rounds: dict[str, list[Round]] = {contender.name: [] for contender in contenders}
    for number in range(-1, plan.rounds):
        shift = number % len(contenders)
        for contender in (*contenders[shift:], *contenders[:shift]):
            done = await _round(contender, plan, number)
            # The first of each only warms it up.
            if number >= 0:
                rounds[contender.name].append(done)
    return rounds


async def _round(contender: Contender, plan: Plan, number: int) -> Round:
    requests = for_a_while(contender.requests, plan.round_s, start=number * 997)
    before = process.processor_s(contender.server.pid)
    done = await burst(contender.server.port, requests, plan.connections)
    used_s = process.processor_s(contender.server.pid) - before
    if set(done.statuses) != {contender.status}:
        raise Unexpected(f"{contender.name} answered {done.statuses} instead of {contender.status}")
    return Round(used_s / done.requests * 1e6, done)


def speed(rounds: Sequence[Round]) -> Speed:
    latencies = sorted(latency for each in rounds for latency in each.burst.latencies)
    return Speed(
        cpu_us=statistics.median(each.cpu_us for each in rounds),
        requests_per_s=statistics.median(each.burst.requests / each.burst.took_s for each in rounds),
        p50_ms=latencies[len(latencies) // 2] * 1000,
        p99_ms=latencies[len(latencies) * 99 // 100] * 1000,
        requests=len(latencies),
    )


def ratio(rounds: Sequence[Round], other: Sequence[Round]) -> Ratio:
    each = [one.cpu_us / two.cpu_us for one, two in zip(rounds, other, strict=True)]
    low, median, high = statistics.quantiles(each, n=4)
    return Ratio(median, low, high)


class Directory(msgspec.Struct, frozen=True):
    """The whole directory of the large community: medians, and the worst that was seen."""

    members: int
    size_mib: float
    first_byte_ms: float
    worst_first_byte_ms: float
    took_s: float
    cpu_s: float
    growth_mib: float


async def directory(server: Server, question: bytes, times: int, count: Callable[[bytes], int]) -> Directory:
    """Read it `times` times. `growth_mib` is how far the most memory ever was above that before the first."""
    firsts: list[float] = []
    took: list[float] = []
    used: list[float] = []
    members = size = 0
    before = process.memory_bytes(server.pid)
    process.forget_peak(server.pid)
    for _ in range(times):
        used_before = process.processor_s(server.pid)
        answer = await ask(server.port, question)
        used.append(process.processor_s(server.pid) - used_before)
        if answer.status != 200:
            raise Unexpected(f"{server.name} answered the directory with {answer.status}")
        firsts.append(answer.first_s)
        took.append(answer.took_s)
        members, size = count(answer.body), len(answer.body)
    return Directory(
        members=members,
        size_mib=size / MIB,
        first_byte_ms=statistics.median(firsts) * 1000,
        worst_first_byte_ms=max(firsts) * 1000,
        took_s=statistics.median(took),
        cpu_s=statistics.median(used),
        growth_mib=max(process.peak_memory_bytes(server.pid) - before, 0) / MIB,
    )


async def trips(port: int, requests: Sequence[bytes], asked: Callable[[], int], statuses: set[int]) -> float:
    """Round trips to the database for one request, once its statements are known to the connection."""
    counts: list[int] = []
    for request in requests:
        answer = await ask(port, request)
        if answer.status not in statuses:
            raise Unexpected(f"{answer.status} instead of {statuses}: {answer.body[:200]!r}")
        counts.append(asked())
    steps = [after - before for before, after in pairwise(counts)]
    return float(max(steps[len(steps) // 2 :]))


def by_name(rounds: Mapping[str, Sequence[Round]]) -> dict[str, Speed]:
    return {name: speed(each) for name, each in rounds.items()}
