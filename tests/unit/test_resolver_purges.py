"""Purges meet answers: peers that have not heard, questions under way, an origin that numbers below them."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from edge.purges import Purges
from edge.resolver import Resolver
from swarm.accounting import Role
from swarm.errors import OriginUnreachable
from swarm.purging import Purge, PurgeBook
from swarm.wire import Ask, Frame, RefusedFrame, UnchangedFrame, Why
from tests.unit.test_resolver import BODY, PATH, Edge, body_frames, body_of, frame_of, make_edge, pointer

__all__ = ["make_edge"]  # the fixture

HIGH = 1000  # the number of the purge; what was there before it has 7
MakeEdge = Callable[..., Awaitable[Edge]]


class Book:
    """The purges of an edge, in force at its resolver."""

    def __init__(self, edge: Edge) -> None:
        self.book = PurgeBook()
        self._purges = Purges(self.book, edge.roster, edge.asker, edge.metrics, None)
        edge.store.pointers.allows = self._purges.allows
        edge.resolver = Resolver(
            edge.store, edge.fills, edge.roster, edge.asker, edge.resolver._origins, edge.metrics, self.book
        )

    def purge(self, target: str = PATH.target, sequence: int = HIGH, *, soft: bool = False) -> None:
        now = time.time()
        made = Purge(
            kind="url", site="default", value=target, soft=soft, sequence=sequence, made=now, issuer="somebody"
        )
        self.book.take(made, now)


async def test_after_a_hard_purge_the_origin_is_asked_for_all_of_it_numbered_above(make_edge: MakeEdge):
    edge = await make_edge()
    book = Book(edge)
    edge.origin.answer = lambda ask: [frame_of(pointer(PATH)), *body_frames()]
    old = await edge.known(PATH)
    assert await body_of(edge, old) == BODY
    book.purge()
    edge.origin.answer = lambda ask: [frame_of(pointer(PATH, sequence=HIGH + 1)), *body_frames()]
    new = await edge.known(PATH)
    assert (old.standing, new.pointer.sequence) == (False, HIGH + 1)
    assert await body_of(edge, new) == BODY
    ask = edge.origin.asked[-1]
    assert (ask.known_sequence, ask.known_version, ask.pointer) == (HIGH, None, None)
    assert (await edge.known(PATH)) is new
    assert len(edge.origin.asked) == 2


async def test_after_a_soft_purge_the_body_is_kept_if_it_is_confirmed(make_edge: MakeEdge):
    edge = await make_edge()
    book = Book(edge)
    edge.origin.answer = lambda ask: [frame_of(pointer(PATH)), *body_frames()]
    old = await edge.known(PATH)
    assert await body_of(edge, old) == BODY
    book.purge(soft=True)
    edge.origin.answer = lambda ask: [frame_of(pointer(PATH, sequence=HIGH + 1))]
    resolved = await edge.resolver.resolve(PATH)
    assert (resolved.asked, resolved.known.pointer.sequence) == (True, HIGH + 1)
    ask = edge.origin.asked[-1]
    assert (ask.known_sequence, ask.known_version) == (HIGH, old.pointer.version)
    assert await body_of(edge, resolved.known) == BODY


async def test_a_purge_of_something_else_costs_nothing(make_edge: MakeEdge):
    edge = await make_edge()
    book = Book(edge)
    edge.origin.answer = lambda ask: [frame_of(pointer(PATH, body=None))]
    old = await edge.known(PATH)
    book.purge("/other.mp4")
    assert (await edge.known(PATH)) is old
    assert len(edge.origin.asked) == 1


async def test_an_answer_asked_for_before_a_purge_is_asked_for_again(make_edge: MakeEdge):
    edge = await make_edge()
    book = Book(edge)
    may_answer = asyncio.Event()

    async def late(ask: Ask) -> list[Frame]:
        await may_answer.wait()
        return [frame_of(pointer(PATH, sequence=HIGH if len(edge.origin.asked) == 1 else HIGH + 1, body=None))]

    edge.origin.answer = late
    asking = asyncio.create_task(edge.known(PATH))
    async with asyncio.timeout(10):
        while not edge.origin.asked:
            await asyncio.sleep(0.005)
    book.purge()
    may_answer.set()
    assert (await asking).pointer.sequence == HIGH + 1
    assert len(edge.origin.asked) == 2


@pytest.mark.parametrize("says_unchanged", [True, False])
async def test_an_origin_that_numbers_below_a_purge_is_believed_all_the_same(make_edge: MakeEdge, says_unchanged: bool):
    edge = await make_edge()
    Book(edge).purge()

    def answer(ask: Ask) -> list[Frame]:
        if says_unchanged and ask.known_sequence is not None:
            return [UnchangedFrame(0)]
        return [frame_of(pointer(PATH, sequence=7, body=None))]

    edge.origin.answer = answer
    known = await edge.known(PATH)
    assert (known.pointer.sequence, known.standing) == (7, True)
    assert (await edge.known(PATH)) is known
    assert len(edge.origin.asked) == 1 + says_unchanged


@pytest.mark.parametrize("soft", [True, False])
async def test_a_home_that_has_not_heard_of_a_purge_is_not_believed(make_edge: MakeEdge, soft: bool):
    edge = await make_edge(in_swarm=True)
    path = edge.path_of("other")
    book = Book(edge)
    edge.other.answer = lambda ask: [frame_of(pointer(path, body=None))]
    assert (await edge.known(path)).pointer.sequence == 7
    book.purge(path.target, soft=soft)
    edge.other.answer = lambda ask: [UnchangedFrame(0) if ask.known_sequence else frame_of(pointer(path, body=None))]
    edge.origin.answer = lambda ask: [frame_of(pointer(path, sequence=HIGH + 1, body=None))]
    assert (await edge.known(path)).pointer.sequence == HIGH + 1
    assert [ask.role for ask in edge.other.asked] == [Role.HOME] * 3
    assert [[one.value for one in ask.purges] for ask in edge.other.asked] == [[], [], [path.target]]  # told, in vain
    assert sum(edge.metrics.pieces_rejected.values()) == 0  # it did nothing wrong


async def test_a_home_that_hears_of_a_purge_with_the_question_is_believed(make_edge: MakeEdge):
    edge = await make_edge(in_swarm=True)
    path = edge.path_of("other")
    Book(edge).purge(path.target)
    edge.other.answer = lambda ask: [frame_of(pointer(path, sequence=HIGH + 1 if ask.purges else 7, body=None))]
    assert (await edge.known(path)).pointer.sequence == HIGH + 1
    assert edge.origin.asked == []


@pytest.mark.parametrize("soft", [True, False])
async def test_with_the_origin_gone_a_holder_may_stand_in_after_a_soft_purge_only(make_edge: MakeEdge, soft: bool):
    edge = await make_edge(in_swarm=True)
    path = edge.path_of("me")
    Book(edge).purge(path.target, soft=soft)
    edge.origin.answer = lambda ask: [RefusedFrame(Why.ORIGIN, detail="no disk")]
    edge.other.answer = lambda ask: [frame_of(pointer(path, body=None))]
    if soft:
        resolved = await edge.resolver.resolve(path)
        assert (resolved.known.pointer.sequence, resolved.known.age_s(time.monotonic()) >= 60) == (7, True)
    else:
        with pytest.raises(OriginUnreachable):
            await edge.resolver.resolve(path)
