"""Requests end in time, and only those whose time is up."""

import asyncio

import pytest

from guildhall.web.bound import Bounds


async def test_what_takes_too_long_ends_and_what_began_later_goes_on() -> None:
    bounds = Bounds(0.2)

    async def work(seconds: float) -> str:
        try:
            with bounds.bound():
                await asyncio.sleep(seconds)
        except TimeoutError:
            return "too late"
        return "done"

    async def later(wait: float, seconds: float) -> str:
        await asyncio.sleep(wait)
        return await work(seconds)

    assert await asyncio.gather(work(30), work(0), later(0.1, 0), later(0.15, 30), later(0.3, 0)) == [
        "too late",
        "done",
        "done",
        "too late",
        "done",
    ]
    # The same holds after a while in which nobody asked for anything.
    assert await asyncio.gather(work(0), work(30)) == ["done", "too late"]


async def test_a_cancellation_by_somebody_else_is_no_timeout() -> None:
    bounds = Bounds(30)

    async def work() -> None:
        with bounds.bound():
            await asyncio.sleep(30)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_was_raised_inside_is_heard_outside() -> None:
    with pytest.raises(LookupError), Bounds(30).bound():
        raise LookupError
