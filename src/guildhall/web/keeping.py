"""What a process gathers and writes together, now and then."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from guildhall.db import Retryable
from guildhall.errors import AppError
from guildhall.web.log import logger


async def keep_writing(flush: Callable[[], Awaitable[None]], every_s: float, problem: str) -> None:
    """Flush every so often, until cancelled; once more then. What fails is logged as `problem`."""
    try:
        while True:
            await asyncio.sleep(every_s)
            try:
                await flush()
            except (AppError, Retryable) as error:
                logger().warning(problem, reason=str(error))
    finally:
        with contextlib.suppress(AppError, Retryable):
            await flush()
