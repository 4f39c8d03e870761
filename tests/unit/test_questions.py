"""An answer for one viewer alone reaches whoever began the question, or nobody; and is always closed or handed over."""

import asyncio
from typing import Any

import pytest

from edge.pointers import Known
from edge.resolver import Question, Unshared
from swarm.names import Path

PATH = Path("default", "/private", "")


class Answer:
    """An origin's answer whose body nobody has read yet."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Asked:
    """A question whose answer, for one viewer alone, comes when the test says so."""

    def __init__(self) -> None:
        self.answer: Any = Answer()
        self.arrived = asyncio.Event()
        self.question = Question(PATH, self._work())

    async def _work(self) -> Known:
        await self.arrived.wait()
        raise Unshared(PATH.target, self.answer)

    async def arrive(self) -> None:
        self.arrived.set()
        await asyncio.wait((self.question.task,))
        await asyncio.sleep(0)  # its callbacks


async def test_whoever_began_it_gets_the_answer_and_others_none():
    asked = Asked()
    mine = asyncio.create_task(asked.question.result(mine=True))
    other = asyncio.create_task(asked.question.result(mine=False))
    await asyncio.sleep(0)
    await asked.arrive()
    with pytest.raises(Unshared) as handed_over:
        await mine
    with pytest.raises(Unshared) as refused:
        await other
    assert (handed_over.value.answer, refused.value.answer) == (asked.answer, None)
    assert not asked.answer.closed


async def test_an_answer_to_a_viewer_who_has_left_is_closed():
    asked = Asked()
    mine = asyncio.create_task(asked.question.result(mine=True))
    other = asyncio.create_task(asked.question.result(mine=False))
    await asyncio.sleep(0)
    mine.cancel()
    await asyncio.wait((mine,))
    await asked.arrive()
    with pytest.raises(Unshared) as refused:
        await other
    assert refused.value.answer is None
    assert asked.answer.closed


async def test_a_viewer_who_leaves_as_the_answer_comes_does_not_leave_it_open():
    asked = Asked()
    mine = asyncio.create_task(asked.question.result(mine=True))
    await asyncio.sleep(0)
    asked.arrived.set()
    await asyncio.wait((asked.question.task,))
    mine.cancel()
    await asyncio.wait((mine,))
    if mine.cancelled():
        assert asked.answer.closed
    else:
        assert isinstance(mine.exception(), Unshared)


async def test_an_answer_that_nobody_waits_for_is_closed():
    asked = Asked()
    asked.question.leave()
    await asked.arrive()
    assert asked.answer.closed


async def test_who_has_waited_long_enough_is_told_so():
    asked = Asked()
    assert await asked.question.result(mine=True, within_s=0.001) is None
    await asked.arrive()
    assert asked.answer.closed, "whoever began it was served otherwise"
