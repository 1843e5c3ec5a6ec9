"""What a run found, as it is kept in `bench/results.json`, and the targets it is held against."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec

from bench.measure import Directory, Plan, Ratio, Speed
from bench.questions import HUBS, SUMMARY
from bench.seed import Scale

OURS, UNCHANGED, FLOOR, BARE, ORM = (
    "guildhall",
    "guildhall, unchanged",
    "floor",
    "floor without pool",
    "orm",
)
PACKAGES = ("granian", "uvloop", "litestar", "msgspec", "asyncpg", "fastapi", "pydantic", "sqlalchemy")


class Machine(msgspec.Struct, frozen=True):
    """`load` is the load average before and after: what else the machine had to do."""

    processor: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    postgresql: str
    packages: dict[str, str]
    load: tuple[float, float]


class Results(msgspec.Struct, frozen=True):
    """`speeds` by kind of request and server; `memory_mib` after all of them; `ratios` of processor time.

    `accepts` by server, with many at once.
    """

    taken_on: str
    machine: Machine
    scale: Scale
    plan: Plan
    askers: int
    speeds: dict[str, dict[str, Speed]]
    ratios: dict[str, Ratio]
    accepts: dict[str, Speed]
    memory_mib: dict[str, float]
    directories: dict[str, Directory]
    round_trips: dict[str, float]
    commits_per_post: float
    starts_s: list[float]


class Figures(msgspec.Struct, frozen=True):
    """Of recall: latencies in milliseconds, of whole requests over HTTP, one at a time. `bar` is for p95."""

    hubs: str
    words: str
    p50: float
    p95: float
    bar: float | None


class Found(msgspec.Struct, frozen=True):
    """What `bench.recall` writes. The memory is the process's, after each of its parts."""

    recall: list[Figures]
    pushes_per_s: dict[str, float]
    push_bar: float
    memory_mib: list[float]


class Target(msgspec.Struct, frozen=True):
    """What is to be reached. `at_least` turns the limit round."""

    what: str
    limit: float
    found: float
    unit: str = ""
    at_least: bool = False

    @property
    def reached(self) -> bool:
        return self.found >= self.limit if self.at_least else self.found <= self.limit


def targets(results: Results) -> list[Target]:
    ratios, ours = results.ratios, results.directories[OURS]
    return [
        Target("Feed page of 20: processor time to the floor's", 1.7, ratios["feed to floor"].median, "×"),
        Target(
            "Feed page of 20: the ORM's processor time to ours", 5, ratios["orm to feed"].median, "×", True
        ),
        Target(
            "Unchanged feed: processor time to the floor's", 0.5, ratios["unchanged to floor"].median, "×"
        ),
        *(
            Target(f"{what}: round trips to the database", 2, results.round_trips[kind])
            for kind, what in (
                ("community", "One community"),
                ("profile", "One profile"),
                ("post", "One post"),
                ("chat token", "Chat token"),
                ("create", "Create a post"),
            )
        ),
        *(
            Target(f"{what}: round trips to the database", 1, results.round_trips[kind])
            for kind, what in ((HUBS, "Hubs of a person in 50"), (SUMMARY, "Summary of a hub"))
        ),
        *(
            Target(f"{what}: processor time to the floor's", 1.8, ratios[f"{kind} to floor"].median, "×")
            for kind, what in ((HUBS, "Hubs of a person in 50"), (SUMMARY, "Summary of a hub"))
        ),
        Target(
            "Summary of a hub: processor time to its detail's", 1, ratios["summary to detail"].median, "×"
        ),
        Target("Accept an invite, 50 at once: p99", 25, results.accepts[OURS].p99_ms, "ms"),
        Target("Create a post: commits", 1, results.commits_per_post),
        Target("Full directory: growth of the process", 30, ours.growth_mib, "MiB"),
        Target("Full directory: first byte", 200, ours.worst_first_byte_ms, "ms"),
        Target("Start to the first answer, slowest", 3, max(results.starts_s), "s"),
    ]


def machine(postgresql: str, load: tuple[float, float]) -> Machine:
    return Machine(
        processor=_first("/proc/cpuinfo", "model name"),
        cores=os.cpu_count() or 0,
        memory_gib=round(int(_first("/proc/meminfo", "MemTotal").split()[0]) / 2**20, 1),
        kernel=f"{platform.system()} {platform.release().split('-')[0]}",
        python=platform.python_version(),
        postgresql=postgresql,
        packages={name: version(name) for name in PACKAGES},
        load=load,
    )


def _first(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that reads well as text and is Markdown; all columns but the first to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        parts = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        return "| " + " | ".join(parts) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def number(value: float) -> str:
    """Three figures, or all those before the point."""
    if value == 0:
        return "0"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def speed_table(results: Results) -> str:
    return table(
        ("", "processor time", "requests/s", "p50", "p99"),
        [
            (
                f"{kind}: {name}",
                f"{number(found.cpu_us)} µs",
                number(found.requests_per_s),
                f"{number(found.p50_ms)} ms",
                f"{number(found.p99_ms)} ms",
            )
            for kind, servers in results.speeds.items()
            for name, found in servers.items()
        ],
    )


def target_table(results: Results) -> str:
    return table(
        ("", "found", "target", ""),
        [
            (
                target.what,
                f"{number(target.found)} {target.unit}".strip(),
                f"{'≥' if target.at_least else '≤'} {target.limit:g} {target.unit}".strip(),
                "reached" if target.reached else "missed",
            )
            for target in targets(results)
        ],
    )
