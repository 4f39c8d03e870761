"""Waiting for pieces: nothing that lands may go untold."""

import asyncio

import pytest

from edge.held import EVERYTHING, Held
from swarm.errors import OriginUnreachable
from swarm.metainfo import LEAST_PIECE_BYTES, Metainfo
from swarm.names import Path


@pytest.fixture
def held() -> Held:
    return Held(Path("default", "/a.m4s", ""), Metainfo(b"v" * 16, LEAST_PIECE_BYTES, 100), "signed", 0.0)


async def test_a_piece_that_lands_before_the_waiting_task_takes_its_first_step_is_told(held):
    waiter = held.wait_for(EVERYTHING)
    waiting = asyncio.ensure_future(waiter.changed())  # has not run yet
    held.on_landed(0)
    async with asyncio.timeout(5):
        await waiting


async def test_a_failure_meets_whoever_waits_and_whoever_comes_later(held):
    waiter = held.wait_for(EVERYTHING)
    waiting = asyncio.ensure_future(waiter.changed())
    waiter.on_failed(1, OriginUnreachable("gone"))
    async with asyncio.timeout(5):
        with pytest.raises(OriginUnreachable):
            await waiting
        with pytest.raises(OriginUnreachable):
            await waiter.next()


async def test_what_landed_is_taken_before_a_failure_is_met(held):
    waiter = held.wait_for(0b11)
    waiter.on_landed(0)
    waiter.on_failed(0b10, OriginUnreachable("gone"))
    async with asyncio.timeout(5):
        assert await waiter.next() == 0
        with pytest.raises(OriginUnreachable):
            await waiter.next()
