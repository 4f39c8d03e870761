"""Those who wait for pieces, and what is remembered of who holds them."""

import asyncio
import hashlib

import pytest

from edge.held import EVERYTHING, MOST_PROVIDERS, Awaits, Held, Waiter
from swarm.accounting import Source
from swarm.errors import OriginUnreachable
from swarm.metainfo import Metainfo, Page, Signed
from swarm.names import Path

PIECE = 16384
VERSION = bytes(16)


def held_of(size: int | None = 4 * PIECE) -> Held:
    return Held(Path("default", "/film.mp4", ""), Metainfo(VERSION, PIECE, size), "signed", 0.0)


def landed(held: Held, *numbers: int) -> None:
    for piece in numbers:
        held.in_memory |= 1 << piece
        held.on_landed(piece)


def page(first: int, count: int, *, is_last: bool = False) -> Page:
    digests = hashlib.sha256(bytes(PIECE)).digest() * count
    end = (first + count) * PIECE
    return Page(
        version=VERSION,
        first_piece=first,
        offset=first * PIECE,
        length=count * PIECE,
        piece_bytes=PIECE,
        digests=digests,
        size=end if is_last else None,
    )


async def is_waiting(task: "asyncio.Task[object]") -> bool:
    """Whether it still waits when everything that could run has run."""
    for _ in range(3):
        await asyncio.sleep(0)
    return not task.done()


# --- next: piece after piece


async def test_what_is_held_comes_at_once_in_rising_order_and_the_rest_as_it_lands():
    held = held_of()
    landed(held, 3, 1)
    waiter = held.wait_for(0b1111)
    assert [await waiter.next(), await waiter.next()] == [1, 3]
    landed(held, 2)
    assert await waiter.next() == 2
    task = asyncio.ensure_future(waiter.next())
    assert await is_waiting(task)
    landed(held, 0)
    assert await task == 0


async def test_pieces_that_nobody_asked_for_and_those_that_land_twice_wake_nobody():
    held = held_of()
    waiter = held.wait_for(0b0101)
    landed(held, 1, 0, 0)
    assert await waiter.next() == 0
    task = asyncio.ensure_future(waiter.next())
    assert await is_waiting(task)
    landed(held, 2)
    assert await task == 2


async def test_a_failure_is_told_after_all_that_landed_was_taken():
    held = held_of()
    waiter = held.wait_for(0b1111)
    landed(held, 2)
    waiter.on_failed(0b0001, OriginUnreachable("gone"))
    landed(held, 3)
    assert [await waiter.next(), await waiter.next()] == [2, 3]
    for _ in range(2):
        with pytest.raises(OriginUnreachable, match="gone"):
            await waiter.next()


async def test_a_failure_wakes_those_who_wait():
    waiter = held_of().wait_for(0b1)
    task = asyncio.ensure_future(waiter.next())
    assert await is_waiting(task)
    waiter.on_failed(0b1, OriginUnreachable("gone"))
    with pytest.raises(OriginUnreachable, match="gone"):
        await task


async def test_the_failure_of_pieces_that_are_not_wanted_or_came_already_is_none():
    held = held_of()
    waiter = held.wait_for(0b11)
    landed(held, 0)
    waiter.on_failed(0b1101, OriginUnreachable("gone"))
    landed(held, 1)
    assert [await waiter.next(), await waiter.next()] == [0, 1]


async def test_a_piece_evicted_before_it_was_taken_may_be_wanted_again():
    held = held_of()
    waiter = held.wait_for(0b1)
    landed(held, 0)
    assert waiter.take() == 0
    assert waiter.take() is None
    waiter.want_again(0)
    landed(held, 0)
    assert waiter.take() == 0


# --- changed: anything at all


async def test_what_happened_before_the_wait_is_not_missed():
    """A piece may land between a look at what is held and the first step of the waiting task."""
    held = held_of()
    waiter = held.wait_for(0b1)
    landed(held, 0)
    await waiter.changed()
    task = asyncio.ensure_future(waiter.changed())
    assert await is_waiting(task), "news is told once"
    task.cancel()


async def test_a_piece_that_lands_before_the_waiting_task_takes_its_first_step_is_told():
    held = held_of()
    waiter = held.wait_for(EVERYTHING)
    task = asyncio.ensure_future(waiter.changed())  # has not run yet
    landed(held, 0)
    await task


async def test_a_failure_meets_whoever_waits_and_whoever_comes_later():
    waiter = held_of().wait_for(EVERYTHING)
    task = asyncio.ensure_future(waiter.changed())
    waiter.on_failed(0b1, OriginUnreachable("gone"))
    with pytest.raises(OriginUnreachable):
        await task
    with pytest.raises(OriginUnreachable):
        await waiter.next()


async def test_a_failure_is_told_after_what_landed_was_looked_at():
    held = held_of()
    waiter = held.wait_for(0b11)
    landed(held, 0)
    waiter.on_failed(0b10, OriginUnreachable("gone"))
    await waiter.changed()
    for _ in range(2):
        with pytest.raises(OriginUnreachable, match="gone"):
            await waiter.changed()


async def test_growth_of_an_open_version_is_news():
    held = held_of(None)
    waiter = held.wait_for(EVERYTHING)
    task = asyncio.ensure_future(waiter.changed())
    assert await is_waiting(task)
    held.on_grown()
    await task


async def test_who_wants_everything_gets_pieces_that_nobody_knew_of_and_every_failure():
    held = held_of(None)
    waiter = held.wait_for(EVERYTHING)
    held.metainfo.add(page(0, 2), Signed(b"", b"", ""))
    landed(held, 0, 1)
    assert [await waiter.next(), await waiter.next()] == [0, 1]
    waiter.on_failed(EVERYTHING, OriginUnreachable("gone"))
    with pytest.raises(OriginUnreachable):
        await waiter.next()


# --- the version


def test_a_version_is_complete_when_every_piece_of_it_is_held_on_either_tier():
    held = held_of()
    assert (held.all_pieces, held.complete) == (0b1111, False)
    held.in_memory, held.on_disk = 0b0111, 0b1001
    assert held.complete
    assert repr(held) == "<Held '/film.mp4' 4 of 4 pieces>"


def test_an_open_version_is_never_complete():
    held = held_of(None)
    assert held.all_pieces == 0
    held.metainfo.add(page(0, 2), Signed(b"", b"", ""))
    held.in_memory = 0b11
    assert (held.all_pieces, held.complete) == (0b11, False)
    held.metainfo.add(page(2, 1, is_last=True), Signed(b"", b"", ""))
    held.in_memory = 0b111
    assert held.complete


def test_an_empty_version_is_complete_from_the_start():
    assert held_of(0).complete


def test_where_pieces_came_from_is_remembered_while_it_concerns_somebody():
    held = held_of()
    waiter = held.wait_for(0b1)
    held.fresh_from[0] = Source.PEER
    held.settle()
    assert held.fresh_from == {0: Source.PEER}
    held.filling = True
    held.stop_waiting(waiter)
    assert held.fresh_from == {0: Source.PEER}
    held.filling = False
    held.settle()
    assert held.fresh_from == {}


def test_who_no_longer_waits_is_told_nothing():
    held = held_of()
    waiter = held.wait_for(0b1)
    held.stop_waiting(waiter)
    held.stop_waiting(waiter)
    landed(held, 0)
    assert waiter.take() is None


def test_a_waiter_knows_on_whom_it_waits():
    assert [held_of().wait_for(0b1, awaits).awaits for awaits in Awaits] == list(Awaits)
    assert held_of().wait_for(0b1).awaits is Awaits.PLAN
    assert Waiter(0b1, Awaits.DUTY).wanted == 0b1


# --- provider records


def test_those_who_hold_most_of_what_is_wanted_are_named_first():
    held = held_of()
    held.note_provider("a", 0b0001)
    held.note_provider("b", 0b0110)
    held.note_provider("c", 0b1000)
    held.note_provider("a", 0b0110)
    assert held.holders_of(0b0111) == ["a", "b"]
    assert held.holders_of(0b1111, but=["a"]) == ["b", "c"]
    assert held.holders_of(0b0) == []


def test_provider_records_are_bounded():
    held = held_of()
    for number in range(MOST_PROVIDERS + 5):
        held.note_provider(f"edge-{number}", 0b1)
    held.note_provider("edge-0", 0b10)
    assert len(held.providers) == MOST_PROVIDERS
    assert held.holders_of(0b10) == ["edge-0"]
