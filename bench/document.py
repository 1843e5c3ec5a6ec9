"""`docs/performance.md`, made from the results."""

from bench.accepts import AT_ONCE
from bench.results import FLOOR, ORM, OURS, Found, Results, number, speed_table, table, target_table


def document(results: Results, recall: Found) -> str:
    machine, scale, plan = results.machine, results.scale, results.plan
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    start = sorted(results.starts_s)
    return f"""\
# Performance

`make bench` measures this service beside two others and writes this page. Figures depend on the machine, so
it is the ratios that carry over; run it where you mean to run the service.

- **guildhall**: this service as it ships, with session check, rank check, rate limits and request log on.
- **floor**: what the same rows cost when nothing is checked. A bare ASGI function, one statement through
  asyncpg's own pool, and msgspec's encoder.
- **floor without pool**: the same with connections in a list, to tell how much of the floor is the pool.
  Nobody could serve so: a connection that is lost stays lost.
- **orm**: what people would pick instead. FastAPI with SQLAlchemy's async ORM over asyncpg, written as their
  documentation advises, with the same checks of token, session, account and rank, and a log line; without
  rate limits and ETags. Its sources are in `bench/orm/`.

## What is to be reached

{target_table(results)}

Ratios are of processor time of the process that runs the application, taken round by round; here is the
middle half of the rounds:

{_ratios(results)}

## Side by side

Processor time is per request, of the application's process, user and system. Latencies are those a client
sees with {plan.connections} connections that are always busy, on a machine that also runs the client and
PostgreSQL.

{speed_table(results)}

Memory of the process after all of that, shared pages included: {_memory(results)}.

"unchanged" is the feed asked for with `If-None-Match` while nothing has changed: 304, after the same checks.

## Accepting invites

{AT_ONCE} people at once, each with an invite to a hub of their own, next to the three bare statements that
this cannot do without. Ours also looks at the session and the rank, writes the audit, tells both inboxes and
every open stream, and does it in one round trip.

{_accepts(results)}

## Hub memory

Recall over HTTP, one question at a time, made-up words as unevenly common as words are; made by
`python -m bench.recall`. It ranks by words alone.

{_recall(recall)}

Pushes a second, each a commit of its own and found by the next request: {_pushes(recall)}. Memory of the
process from the first question to the last: {min(recall.memory_mib):.0f} to {max(recall.memory_mib):.0f} MiB.

## The directory of {results.directories[OURS].members:,} members

It is streamed. "Growth" is how far the process's memory ever rose above what it was before.

{_directories(results)}

## Round trips

Counted by a relay between the service and PostgreSQL, with the statements already prepared on the connection:

{table(("", "round trips"), [(kind, number(found)) for kind, found in results.round_trips.items()])}

Creating a post takes {number(results.commits_per_post)} commit, counted by PostgreSQL's transaction ids.

## Start

`guildhall serve` on the data directory of this run, embedded database included, from the command to the first
feed that was answered: {", ".join(f"{took:.2f} s" for took in start)}.

## How it was measured

On {results.taken_on}: {machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB, {machine.kernel},
Python {machine.python}, PostgreSQL {machine.postgresql}, {packages}. Load average before and after:
{machine.load[0]:.1f} and {machine.load[1]:.1f}.

- The database holds {scale.communities} communities with {scale.people:,} members and
  {scale.posts:,} posts, and one community of {scale.large:,} members. It is the embedded PostgreSQL with its
  own settings; `fsync` is on.
- The three applications run side by side behind the service's own server (granian, uvloop, one worker process
  each, the same settings) on the same database, each with up to ten connections to it.
- {results.askers:,} people ask, each with a session of their own, in an order without rhythm. Every server
  gets the same requests, and before anything is measured their answers are compared: the same rows, the same
  values.
- A round is {plan.round_s:g} s of one server. Rounds take turns and change who goes first; there are
  {plan.rounds} of each after one to warm up. A figure is the median of the rounds, a ratio the median of the
  ratios of neighbouring rounds, so that what else the machine does falls on all alike.
- Rate limits are on, with a scale that nobody reaches (`GUILDHALL_RATE_LIMIT_SCALE`).

To repeat it: `make bench`, some minutes; `python -m bench --quick` for a look at a small database. The
figures are in `bench/results.json`.
"""


def _ratios(results: Results) -> str:
    names = {
        "feed to floor": "feed: guildhall to floor",
        "orm to feed": "feed: orm to guildhall",
        "unchanged to floor": "feed unchanged: guildhall to floor",
        "feed to bare floor": "feed: guildhall to floor without pool",
        "unchanged to bare floor": "feed unchanged: guildhall to floor without pool",
    }
    rows = [
        (name, f"{found.median:.2f}", f"{found.low:.2f} to {found.high:.2f}")
        for key, name in names.items()
        for found in (results.ratios[key],)
    ]
    return table(("", "median", "middle half"), rows)


def _memory(results: Results) -> str:
    return ", ".join(f"{name} {results.memory_mib[name]:.0f} MiB" for name in (OURS, FLOOR, ORM))


def _directories(results: Results) -> str:
    rows = [
        (
            name,
            f"{number(found.first_byte_ms)} ms",
            f"{number(found.worst_first_byte_ms)} ms",
            f"{number(found.took_s)} s",
            f"{number(found.cpu_s)} s",
            f"{number(found.growth_mib)} MiB",
            f"{number(found.size_mib)} MiB",
        )
        for name, found in results.directories.items()
    ]
    head = ("", "first byte", "at worst", "whole", "processor time", "growth", "size")
    return table(head, rows)


def _accepts(results: Results) -> str:
    rows = [
        (
            name,
            f"{number(found.cpu_us)} µs",
            f"{number(found.requests_per_s)}",
            f"{number(found.p50_ms)} ms",
            f"{number(found.p99_ms)} ms",
        )
        for name, found in results.accepts.items()
    ]
    return table(("", "processor time", "a second", "p50", "p99"), rows)


def _recall(recall: Found) -> str:
    rows = [
        (
            each.hubs,
            each.words,
            f"{number(each.p50)} ms",
            f"{number(each.p95)} ms",
            "" if each.bar is None else f"≤ {each.bar:g} ms",
        )
        for each in recall.recall
    ]
    return table(("in", "words", "p50", "p95", "to reach"), rows)


def _pushes(recall: Found) -> str:
    rates = ", ".join(f"{rate:,.0f} into {name}" for name, rate in recall.pushes_per_s.items())
    return f"{rates} (to reach: {recall.push_bar:g})"
