"""`guildhall worker`: runs jobs, as many processes of it as there is work for, on as many machines."""

import asyncio
import signal
from typing import Annotated

from cyclopts import Parameter

from guildhall.commands import DataDir, current_database
from guildhall.commands.children import follow
from guildhall.settings import Settings


def worker(
    *,
    data_dir: DataDir = None,
    parent: Annotated[int | None, Parameter(show=False, help="Stop when this process is gone.")] = None,
) -> None:
    """Run jobs until Ctrl-C or SIGTERM: mail, chat, clean-up. `serve` already runs one."""
    if parent is not None:
        follow(parent)
    with current_database(data_dir, make=True) as settings:
        asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    from guildhall.web.log import configure_logs
    from guildhall.wiring import open_house
    from guildhall.worker import run_worker

    configure_logs(settings.log_level, settings.log_format)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_house(settings) as house:
        await run_worker(house, stop)
