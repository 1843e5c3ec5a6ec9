"""What an operator does about jobs that rest because trying again was no use."""

import asyncio
from typing import Annotated

from cyclopts import App, Parameter

from guildhall.commands import DataDir, Problem, current_database, operating
from guildhall.commands.tables import print_table
from guildhall.settings import Settings

jobs = App(name="jobs", help="List jobs that were given up, or try them again.")


@jobs.command(name="list")
def list_jobs(
    *, limit: Annotated[int, Parameter(help="How many at most.")] = 100, data_dir: DataDir = None
) -> None:
    """List jobs that were given up, with why, the newest first. After 30 days they are removed."""
    with current_database(data_dir) as settings:
        asyncio.run(_list(settings, limit))


async def _list(settings: Settings, limit: int) -> None:
    from guildhall.worker.resting import list_failed

    async with operating(settings) as db:
        found = await list_failed(db, limit)
    print_table(
        ("ID", "KIND", "GIVEN UP", "TRIES", "WHY"),
        [
            (job.id, job.kind, f"{job.rests_since:%Y-%m-%dT%H:%M}", job.attempts + 1, job.reason)
            for job in found
        ],
        none="None was given up.",
    )


@jobs.command
def retry(
    *ids: Annotated[int, Parameter(help="Their ids.")],
    everything: Annotated[
        bool, Parameter(name="--all", negative="", help="Try all that were given up.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Try jobs again as if they were new. A mail that did go out, unnoticed, goes out a second time."""
    if bool(ids) == everything:
        raise Problem("Say which jobs, by their ids, or --all.")
    with current_database(data_dir) as settings:
        asyncio.run(_retry(settings, list(ids)))


async def _retry(settings: Settings, ids: list[int]) -> None:
    from guildhall.worker.resting import list_failed, retry_failed

    async with operating(settings) as db:
        wanted = ids or [job.id for job in await list_failed(db, 1_000_000)]
        missing = [str(job) for job in wanted if not await retry_failed(db, job)]
    retried = len(wanted) - len(missing)
    print(f"{retried} {'job is' if retried == 1 else 'jobs are'} tried again.")
    if missing:
        raise Problem(f"None was given up by the id {', '.join(missing)}.")
