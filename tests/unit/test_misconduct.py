"""What an edge makes of a peer that misbehaves: on real connections, in every way but one it is only left out."""

import asyncio
import hashlib
import time

import pytest
from aiohttp import web

from daemon.asking import Asker
from daemon.keys import Signer
from daemon.peer_auth import Gatekeeper
from daemon.vouching import Vouching
from edge.bans import Bans
from edge.peer_http import PeerHttp
from edge.purges import Purges
from swarm.accounting import Cause, Reason
from swarm.errors import Unreachable
from swarm.evidence import BanBook
from swarm.health import Link
from swarm.members import State
from swarm.metainfo import PAGE_CONTEXT, Page, encode
from swarm.purging import PurgeBook
from swarm.wire import FRAMES_TYPE, Ask, Frame, PageFrame, PieceFrame, RefusedFrame, SentFrame, Why
from tests.unit.test_resolver import (
    BODY,
    ORIGIN_KEY,
    body_frames,
    body_of,
    frame_of,
    make_edge,  # noqa: F401 - a fixture
    member,
    pointer,
    version,
)

OTHER = Signer.throwaway("other")


@pytest.fixture
async def edge(make_edge):  # noqa: F811
    """In a swarm with `other`, whose key we have; the origin answers questions for the body."""
    edge = await make_edge(in_swarm=True)
    edge.roster.take_view(1, [member(edge.signer, "", State.ALIVE), member(OTHER, edge.other.base, State.ALIVE)])
    edge.bans = Bans(BanBook(), edge.roster, None)
    edge.fills.accuse = edge.bans.accuse
    edge.spread = asyncio.Queue()
    edge.bans.spread = lambda signed, keep_s: edge.spread.put_nowait(signed)
    edge.origin.answer = lambda ask: body_frames() if ask.version else [frame_of(pointer(edge.home), 0), *body_frames()]
    edge.home = edge.path_of("other")
    yield edge
    await edge.bans.close()


def sent(*frames, signing_as: bytes | None = None):
    """An answer to every question: pointer, frames, and a statement for its piece if there is one to be made."""
    if signing_as is None:
        return list(frames)
    page = next(frame.signed for frame in frames if isinstance(frame, PageFrame))
    vouching = Vouching(OTHER, time.time)
    vouching.on_sent_as(version(BODY), 0, hashlib.sha256(signing_as).digest(), page, len(signing_as))
    statement = vouching.statement()
    assert statement is not None
    return [*frames, SentFrame(statement)]


async def served(edge) -> bytes:
    """What a viewer gets in the end."""
    known = await edge.known(edge.home)
    held = edge.store.hold(edge.home, known.pointer, known.trust)
    edge.fills.join(held, known).want(0b1)
    return await body_of(edge, known)


def answers(edge, frames) -> None:
    edge.other.answer = lambda ask: (
        [frame_of(pointer(edge.home)), *frames] if ask.version is None else [RefusedFrame(Why.NOT_HELD)]
    )


WRONG = b"to be or not to bE"


async def test_a_liar_that_signs_is_banned_and_everybody_is_told(edge):
    answers(edge, sent(*body_frames(sent=WRONG), signing_as=WRONG))
    assert await served(edge) == BODY
    async with asyncio.timeout(10):
        accusation = await edge.spread.get()
    assert [ban.node for ban in edge.bans.in_force()] == ["other"]
    assert (edge.roster.peer("other"), set(edge.roster.banned)) == (None, {"other"})
    assert [one.node for one in edge.roster.ranked(edge.home)] == ["me"]
    assert edge.roster.counts()["banned"] == 1
    assert edge.bans.refusal("other").startswith("ban of other for 600 s")
    assert edge.bans.refusal("me") == ""
    uninvolved = Bans(BanBook(), edge.roster, None)
    uninvolved.on_heard(accusation, "me")
    assert [ban.node for ban in uninvolved.in_force()] == ["other"]


@pytest.mark.parametrize("signing_as", [BODY, None])
async def test_wrong_bytes_that_are_not_signed_for_are_a_broken_link(edge, signing_as):
    answers(edge, sent(*body_frames(sent=WRONG), signing_as=signing_as))
    assert await served(edge) == BODY
    while edge.fills.hearings._tasks:
        await asyncio.gather(*edge.fills.hearings._tasks)
    assert edge.bans.in_force() == []
    assert edge.metrics.pieces_rejected[Cause.DIGEST] == 1
    assert [ask.reason for ask in edge.origin.asked] == [Reason.VERIFY_FAILED]


async def test_three_answers_that_do_not_hold_pause_the_link(edge):
    answers(edge, body_frames(sent=WRONG))
    for _ in range(3):
        await served(edge)
        edge.store.forget(edge.store.held(version(BODY)))
    assert edge.roster.health.state("other", time.monotonic()) is Link.BROKEN


STRAY = Page(version=version(BODY), first_piece=7, offset=7 * 16384, length=16384, piece_bytes=16384, digests=bytes(32))


@pytest.mark.parametrize(
    "frames, cause",
    [
        ([PieceFrame(3, b"what nobody asked for")], Cause.UNEXPECTED),
        ([*body_frames()[:1], PieceFrame(0, BODY[:-1])], Cause.DIGEST),  # truncated
        ([PieceFrame(0, BODY)], Cause.UNEXPECTED),  # no page
        ([PageFrame(OTHER.sign(PAGE_CONTEXT, encode(STRAY)))], Cause.SIGNATURE),
        ([PageFrame(ORIGIN_KEY.sign(PAGE_CONTEXT, encode(STRAY)))], Cause.SIGNATURE),  # of another body
        ([*body_frames()[:1]] * 100, Cause.UNEXPECTED),  # a flood
    ],
)
async def test_what_was_not_asked_for_goes_nowhere(edge, frames, cause):
    answers(edge, frames)
    assert await served(edge) == BODY
    assert edge.metrics.pieces_rejected[cause] == 1
    assert edge.bans.in_force() == []


async def test_a_peer_that_takes_a_question_and_breaks_off_is_left_out(edge):
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": FRAMES_TYPE})
        await response.prepare(request)
        await response.write(b"\x04\x00\x00\x40\x04half a piece")
        assert request.transport is not None
        request.transport.abort()
        return response

    edge.other.instead = break_off
    assert await served(edge) == BODY
    assert edge.bans.in_force() == []


async def test_a_peer_that_says_wait_for_ever_is_left_for_the_origin(edge, monkeypatch):
    monkeypatch.setattr("daemon.asking.WAIT_FOR_POINTER_S", 0.4)

    async def never(ask: Ask) -> list[Frame]:
        await asyncio.Event().wait()
        return []

    edge.other.answer = never
    assert await served(edge) == BODY
    assert edge.roster.health.state("other", time.monotonic()) is Link.AWAY


async def test_a_peer_that_takes_a_question_and_says_nothing_is_left_for_the_origin(edge):
    async def say_nothing(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    edge.other.instead = say_nothing
    assert await served(edge) == BODY


async def test_an_asker_that_floods_is_refused(edge, monkeypatch):
    """`me` answers so many questions of one asker at a time."""
    monkeypatch.setattr("edge.peer_http.MOST_QUESTIONS", 2)
    gatekeeper = Gatekeeper("me", (b"s" * 32,))
    purges = Purges(PurgeBook(), edge.roster, edge.asker, edge.metrics, None)
    peers = PeerHttp(
        gatekeeper, edge.roster, edge.store, edge.fills, edge.resolver, frozenset({"default"}), edge.metrics, purges
    )
    never, asked = asyncio.Event(), asyncio.Queue[None]()

    async def wait_for_ever(*_: object) -> None:
        asked.put_nowait(None)
        await never.wait()

    monkeypatch.setattr(peers, "_answer_path", wait_for_ever)
    runner = web.AppRunner(peers.app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    flooding, other = Asker("flooding", (b"s" * 32,)), Asker("other", (b"s" * 32,))
    ask = Ask(site="default", path="/a")
    held = [asyncio.create_task(anext(asker.ask(base, ask))) for asker in (flooding, flooding, other)]
    for _ in held:
        await asked.get()
    with pytest.raises(Unreachable, match="429"):
        await anext(flooding.ask(base, ask))
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    for asker in (flooding, other):
        await asker.close()
    await runner.cleanup()
