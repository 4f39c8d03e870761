"""Bitmaps of pieces, worked by hand, and their three forms saying the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import pieces

BITMAPS = st.integers(0, (1 << 600) - 1)


@pytest.mark.parametrize(
    "bitmap, numbers, runs, packed",
    [
        (0b0, [], [], b""),
        (0b1, [0], [(0, 1)], b"\x01"),
        (0b1011, [0, 1, 3], [(0, 2), (3, 4)], b"\x0b"),
        (0b1_0000_0000, [8], [(8, 9)], b"\x00\x01"),
        (0xFF00, [8, 9, 10, 11, 12, 13, 14, 15], [(8, 16)], b"\x00\xff"),
    ],
)
def test_a_set_of_pieces_as_numbers_as_ranges_and_as_bytes(bitmap, numbers, runs, packed):
    assert list(pieces.each(bitmap)) == numbers
    assert pieces.of(numbers) == bitmap
    assert pieces.spans(bitmap) == runs
    assert pieces.of_spans(runs, 16) == bitmap
    assert pieces.pack(bitmap) == packed
    assert pieces.unpack(packed) == bitmap
    assert pieces.count(bitmap) == len(numbers)


@pytest.mark.parametrize(
    "first, end, bitmap", [(0, 0, 0), (0, 1, 1), (0, 3, 0b111), (2, 4, 0b1100), (3, 3, 0), (4, 2, 0)]
)
def test_a_span_is_half_open(first, end, bitmap):
    assert pieces.of_span(first, end) == bitmap


@pytest.mark.parametrize(
    "runs", [[(-1, 2)], [(3, 2)], [(0, 9)], [(9, 9)], [(0, 1), (0, 1 << 60)], [(2, 5), (0, 3)], [(0, 3), (2, 5)]]
)
def test_ranges_from_outside_that_make_no_sense_are_errors(runs):
    with pytest.raises(ValueError, match="piece range"):
        pieces.of_spans(runs, 8)


def test_ranges_from_outside_may_touch_and_be_empty():
    assert pieces.of_spans([(0, 0), (0, 3), (3, 5), (8, 8)], 8) == 0b11111


def test_many_ranges_far_out_are_read_in_one_go():
    """A question of 256 KiB has room for these; read one by one they would cost seconds."""
    runs = [(1_000_000 + 2 * number, 1_000_001 + 2 * number) for number in range(24_000)]
    assert pieces.count(pieces.of_spans(runs, 1 << 20)) == 24_000


@given(BITMAPS)
def test_every_form_gives_the_same_set_back(bitmap):
    assert pieces.of(pieces.each(bitmap)) == bitmap
    assert pieces.of_spans(pieces.spans(bitmap), 600) == bitmap
    assert pieces.unpack(pieces.pack(bitmap)) == bitmap


@given(BITMAPS)
def test_ranges_rise_and_never_touch(bitmap):
    ends = [at for run in pieces.spans(bitmap) for at in run]
    assert ends == sorted(set(ends))
