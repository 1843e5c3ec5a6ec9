"""What `guildhall check` asks the database: is it ours, up to date, and is its content as it must be."""

import time
from typing import TYPE_CHECKING

import asyncpg

from guildhall.commands import own_name
from guildhall.commands.claims import Running
from guildhall.commands.tables import several
from guildhall.providers.postgres.requirements import connect
from guildhall.settings import Settings

if TYPE_CHECKING:
    from guildhall.commands.check import Report
    from guildhall.providers.postgres.requirements import Connection

# A worker that was not seen for so long is not there; one that only now starts was not seen yet.
WORKER_SEEN_S = 60


async def look(settings: Settings, owner: str, running: Running | None, report: "Report") -> None:
    from guildhall.providers.postgres import DatabaseToolError, find_problems

    report.about("Database")
    problems = await find_problems(owner, settings.database.url)
    for problem in problems:
        report.problem(problem)
    try:
        async with connect(owner) as connection:
            if not problems:
                version = await connection.fetchval("SHOW server_version")
                vector = await connection.fetchval(
                    "SELECT coalesce(installed_version, default_version) FROM pg_available_extensions"
                    " WHERE name = 'vector'"
                )
                report.well(f"PostgreSQL {version} with pgvector {vector}")
            await _look_at_replica(settings, report)
            if await _look_at_tables(owner, report):
                await _look_at_jobs(connection, running, report)
                await _look_at_content(connection, report)
    except DatabaseToolError as error:
        if not problems:
            report.problem(error.message)
    except asyncpg.PostgresError as error:
        report.problem(f"could not be read: {error}")


async def _look_at_replica(settings: Settings, report: "Report") -> None:
    from guildhall.providers.postgres import DatabaseToolError, server_version

    if settings.database.read_url is None:
        return
    report.about("Read replica")
    try:
        report.well(f"PostgreSQL {await server_version(settings.database.read_url)}")
    except DatabaseToolError as error:
        report.problem(f"{error.message} Start it, or correct GUILDHALL_DATABASE_READ_URL.")


async def _look_at_tables(owner: str, report: "Report") -> bool:
    """Whether the tables are those of this release, so that they can be asked anything."""
    from guildhall.db.migrate import applied, names

    report.about("Tables")
    done, ours = await applied(owner), names()
    if newer := [name for name in done if name not in ours]:
        report.problem(
            f"belong to a newer release, which made {newer[-1]}. Install that release; there is no way back."
        )
        return False
    if not done:
        report.well("the first start makes them")
        return False
    if missing := [name for name in ours if name not in done]:
        report.problem(f"lack {', '.join(missing)}. Run: {own_name()} migrate")
        return False
    report.well(f"of this release, up to {ours[-1]}")
    return True


async def _look_at_jobs(connection: "Connection", running: Running | None, report: "Report") -> None:
    report.about("Jobs")
    facts = await connection.fetchrow(
        """
        SELECT (SELECT count(*) FROM workers WHERE seen_at > now() - interval '60 seconds') AS workers,
               (SELECT count(*) FROM pgqueuer WHERE status IN ('queued', 'picked')) AS waiting,
               (SELECT count(*) FROM pgqueuer WHERE status = 'failed') AS resting,
               (SELECT sending_held FROM installation) AS held
        """
    )
    assert facts is not None
    well = True
    if facts["held"]:
        well = False
        report.problem(
            f"are held since a restore, {facts['waiting']} of them, and nothing is sent."
            f" Run: {own_name()} release"
        )
    if running and time.time() - running.since > WORKER_SEEN_S and not facts["workers"]:
        well = False
        report.problem("no worker was seen within a minute. The log of the service says why.")
    if facts["resting"]:
        well = False
        report.problem(f"{facts['resting']} rest, since trying again was no use. Run: {own_name()} jobs list")
    if well:
        report.well(f"{facts['workers']} at work, {facts['waiting']} jobs to do")


async def _look_at_content(connection: "Connection", report: "Report") -> None:
    from guildhall.spaces.invariants import find_broken

    report.about("Content")
    broken = await find_broken(connection)
    for line in broken:
        report.problem(f"{line}. Restore the newest backup that has no such line, and report this as a bug.")
    if not broken:
        report.well(f"{await count(connection)}; all of it fits together")


async def count(connection: "Connection") -> str:
    """How much there is, in words."""
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM users WHERE status <> 'erased') AS people,"
        " count(*) FILTER (WHERE kind = 'community') AS communities,"
        " count(*) FILTER (WHERE kind = 'hub') AS hubs,"
        " (SELECT count(*) FROM posts) AS posts FROM spaces WHERE deleted_at IS NULL"
    )
    assert row is not None
    people = "1 person" if row["people"] == 1 else f"{row['people']} people"
    communities = "1 community" if row["communities"] == 1 else f"{row['communities']} communities"
    return f"{people}, {communities}, {several(row['hubs'], 'hub')}, {several(row['posts'], 'post')}"
