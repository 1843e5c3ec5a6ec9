"""A worker process of its own, for tests that kill it: `python -m tests.worker.crew`."""

import asyncio
import os
import signal

from guildhall.settings import read_settings
from guildhall.web.log import configure_logs
from guildhall.wiring import open_house
from guildhall.worker import run_worker


async def main() -> None:
    settings = read_settings(
        {k: v for k, v in os.environ.items() if k.startswith("GUILDHALL_") and k not in LEFT_OUT}
    )
    configure_logs(settings.log_level)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with open_house(settings) as house:
        print("ready", flush=True)
        await run_worker(house, stop)


LEFT_OUT = {"GUILDHALL_LONG", "GUILDHALL_TEST_DATABASE_URL", "GUILDHALL_TEST_APP_URL"}

if __name__ == "__main__":
    asyncio.run(main())
