"""Large objects of foreign origins: which are split, and into which runs."""

import msgspec
import pytest

from swarm.metainfo import Pointer, piece_bytes_for
from swarm.placement import Dealing, Edge, dealt_in_runs
from swarm.runs import is_split

MIB = 1 << 20
HEADERS = (("ETag", '"5f-1"'), ("Accept-Ranges", "bytes"))
POINTER = Pointer(
    site="default",
    path="/film.mp4",
    version=b"v" * 16,
    status=200,
    headers=HEADERS,
    sequence=1,
    made=0.0,
    expires=60.0,
    born=0.0,
    size=32 * MIB,
)
EVEN = tuple(Edge(name) for name in "abcdefgh")


@pytest.mark.parametrize(
    "change, split",
    [
        ({}, True),
        ({"size": 4 * MIB}, True),
        ({"size": 4 * MIB - 1}, False),
        ({"size": None}, False),
        ({"status": 404}, False),
        ({"headers": HEADERS[:1]}, False),  # it may not know ranges
        ({"headers": HEADERS[1:]}, False),  # parts of two versions could not be told apart
        ({"headers": (("ETag", 'W/"5f-1"'), HEADERS[1])}, False),
        ({"headers": (HEADERS[0], ("accept-ranges", "none"))}, False),
    ],
)
def test_what_is_split(change, split):
    assert is_split(msgspec.structs.replace(POINTER, **change)) is split


def dealt(homes: tuple[Edge, ...], size: int) -> Dealing:
    return dealt_in_runs(homes, size, -(-size // piece_bytes_for(size)))


def as_text(dealing: Dealing) -> str:
    return "".join(dealing.home_of(piece) or "-" for piece in range(dealing.pieces))


def test_runs_of_a_mebibyte_go_round_the_homes():
    dealing = dealt(EVEN, 32 * MIB)  # 512 pieces of 64 KiB
    assert dealing.runs == 32
    assert as_text(dealing) == "".join(16 * name for name in "abcdefgh") * 4
    assert dealing.share_of("c") == 1 / 8


def test_no_home_has_a_run_more_than_another_where_there_are_enough():
    dealing = dealt(EVEN, 12 * MIB)  # 384 pieces of 32 KiB: 8 runs of 1.5 MiB, not 12 of 1 MiB
    assert dealing.runs == 8
    assert [as_text(dealing).count(name) for name in "abcdefgh"] == [48] * 8


def test_an_object_of_few_runs_is_fetched_by_few():
    dealing = dealt(EVEN, 5 * MIB)
    assert dealing.runs == 5
    assert dealing.share_of("e") == 1 / 5
    assert dealing.share_of("f") == 0


def test_a_lost_home_is_dealt_out_run_by_run():
    dealing = dealt(EVEN[:3], 12 * MIB)
    without = "".join(dealing.home_of(piece, {"a"}) or "-" for piece in range(dealing.pieces))
    assert [without.count(name) for name in "abc"] == [0, 192, 192]


def test_without_runs_each_piece_is_dealt_by_itself():
    dealing = Dealing(EVEN[:3])
    assert "".join(dealing.home_of(piece) or "" for piece in range(6)) == "abcabc"
    assert dealing.share_of("a") == pytest.approx(1 / 3)
    assert Dealing(()).home_of(0) is None
