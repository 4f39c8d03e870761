"""A stream that brings little, nothing or too much."""

import contextlib

import pytest

from swarm.conduct import Conduct
from swarm.errors import RemoteError, Unreachable
from swarm.metainfo import Signed
from swarm.wire import EndFrame, PageFrame, PieceFrame, SentFrame, UnchangedFrame, WaitFrame

PIECE, WAIT = PieceFrame(0, b"x"), WaitFrame()
PAGE = PageFrame(Signed(b"", b"", ""))


def feed(conduct: Conduct, *frames, every_s: float = 0.25) -> None:
    for frame in frames:
        conduct.on_bytes(10, every_s)
        conduct.on_frame(frame)


def test_a_peer_that_says_wait_and_sends_nothing_is_given_up_after_its_patience():
    feed(Conduct(30.0), *[WAIT] * 120)
    with pytest.raises(Unreachable, match="said WAIT for 30 s"):
        feed(Conduct(30.0), *[WAIT] * 121)


def test_each_piece_buys_another_wait():
    conduct = Conduct(30.0)
    for _ in range(100):
        feed(conduct, *[WAIT] * 100, PIECE)


def test_frames_that_bring_nothing_buy_no_time():
    with pytest.raises(Unreachable):
        feed(Conduct(30.0), *[PAGE, WAIT] * 100)


@pytest.mark.parametrize("size, is_trickle", [(1, True), (409, True), (410, False)])
def test_bytes_that_trickle_into_no_frame(size, is_trickle):
    """20 reads in five seconds: 8 KiB must have come by then."""
    conduct = Conduct(30.0)
    for _ in range(19):
        conduct.on_bytes(size, 0.25)
    with pytest.raises(Unreachable, match="bytes in 5") if is_trickle else contextlib.nullcontext():
        conduct.on_bytes(size, 0.25)


def test_small_frames_are_no_trickle():
    feed(Conduct(30.0), *[PieceFrame(0, b"x")] * 1000, every_s=0.9)


@pytest.mark.parametrize("frame", [PAGE, WAIT, UnchangedFrame(0), SentFrame(Signed(b"", b"", "")), EndFrame()])
def test_a_flood_of_frames_is_cut_off(frame):
    feed(Conduct(30.0), *[frame] * 64, every_s=0.0)
    with pytest.raises(RemoteError, match="65 frames beside 0 pieces"):
        feed(Conduct(30.0), *[frame] * 65, every_s=0.0)


def test_a_page_a_refusal_and_a_statement_for_each_piece_are_no_flood():
    feed(Conduct(30.0), *[PAGE, PIECE, PAGE, PAGE] * 1000, every_s=0.0)
