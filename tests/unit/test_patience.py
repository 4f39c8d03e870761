"""A deadline that does not count the time in which we were not listening ourselves."""

import asyncio
import time

import pytest

from daemon.patience import Patience


async def test_what_is_done_in_time_is_done():
    async with Patience(5.0):
        await asyncio.sleep(0)


async def test_silence_ends_in_a_timeout():
    with pytest.raises(TimeoutError):
        async with Patience(0.02):
            await asyncio.Event().wait()


async def test_an_error_inside_is_itself():
    with pytest.raises(KeyError):
        async with Patience(5.0):
            raise KeyError


async def test_what_came_while_our_own_loop_stood_still_is_still_taken():
    loop = asyncio.get_running_loop()
    came = asyncio.Event()

    def stand_still() -> None:
        time.sleep(0.4)  # the loop's own, four times the patience
        loop.call_soon(loop.call_soon, came.set)  # noticed a little later, as a socket is

    loop.call_soon(stand_still)
    async with Patience(0.1):
        await came.wait()


async def test_cancelling_from_outside_is_cancelling():
    waiting = asyncio.create_task(_wait_for_ever())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def _wait_for_ever() -> None:
    async with Patience(5.0):
        await asyncio.Event().wait()
