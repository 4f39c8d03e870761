"""Who is home for a path and for each of its pieces: examples on paper, and what must hold for every swarm."""

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.placement import MOST_HOMES, SMALL_BYTES, Edge, first_zone, home_of, home_set, homes_for, weights

A, B, C, D = (Edge(node) for node in "abcd")
EVEN = (A, B, C, D)

SWARMS = st.lists(
    st.builds(Edge, st.text("abcdefghij0123456789-", min_size=1, max_size=6), st.integers(1, 16)),
    min_size=1,
    max_size=40,
    unique_by=lambda edge: edge.node,
)
HOMES = SWARMS.map(lambda edges: tuple(edges[:MOST_HOMES]))


def dealt(homes: tuple[Edge, ...], count: int, *lost: str) -> str:
    return "".join(home_of(piece, homes, lost) or "-" for piece in range(count))


# --- weights


@pytest.mark.parametrize(
    "capacities_bps, expected",
    [
        ([], []),
        ([None, None], [4, 4]),
        ([1e9, 1e9, 1e9], [4, 4, 4]),
        ([1e9, 1e9, 2e9], [4, 4, 8]),
        ([1e9, 1e9, 4e9], [4, 4, 16]),
        ([1e9, 1e9, 100e9], [4, 4, 16]),  # four medians and no more
        ([1e9, 1e9, None], [4, 4, 4]),  # where none is stated, the median
        ([10e9, 10e9, 1], [4, 4, 1]),  # but always something
        ([1e9, 0], [4, 4]),
        ([1e9, 1e9, 1.5e9], [4, 4, 6]),  # in quarters
    ],
)
def test_capacities_become_weights_in_quarters_of_the_median(capacities_bps, expected):
    assert weights(capacities_bps) == expected


@given(st.lists(st.none() | st.floats(1, 1e15)))
def test_no_edge_counts_for_less_than_a_quarter_or_more_than_four_medians(capacities_bps):
    assert all(1 <= weight <= 16 for weight in weights(capacities_bps))


# --- home sets


def test_the_rule_gives_these_very_answers():
    """Literal: an edge whose answers differ from these does not agree with the swarm on homes."""
    edges = [Edge("edge-1"), Edge("edge-2", 8), Edge("edge-3"), Edge("edge-4", 1)]
    assert {path: [edge.node for edge in home_set(path, edges)] for path in ("default/a.m4s", "default/b.m4s")} == {
        "default/a.m4s": ["edge-2", "edge-1", "edge-3", "edge-4"],
        "default/b.m4s": ["edge-1", "edge-2", "edge-3", "edge-4"],
    }


def test_another_process_gives_the_same_answers():
    script = (
        "from swarm.placement import Edge, home_of, home_set\n"
        "homes = home_set('default/film.mp4', [Edge(f'edge-{n}', 1 + n % 5) for n in range(12)])\n"
        "print(*(edge.node for edge in homes), *(home_of(piece, homes, ('edge-3',)) for piece in range(40)))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    homes = home_set("default/film.mp4", [Edge(f"edge-{n}", 1 + n % 5) for n in range(12)])
    here = [edge.node for edge in homes] + [home_of(piece, homes, ("edge-3",)) or "" for piece in range(40)]
    assert outputs == {" ".join(here).encode() + b"\n"}


@given(SWARMS, st.randoms())
def test_the_order_in_which_edges_are_known_does_not_matter(edges, random):
    shuffled = list(edges)
    random.shuffle(shuffled)
    assert home_set("default/x", shuffled) == home_set("default/x", edges)


@given(SWARMS, st.text(max_size=20))
def test_when_an_edge_leaves_or_joins_nobody_elses_rank_moves(edges, path):
    everyone = home_set(path, edges, most=40)
    for gone in edges:
        rest = [edge for edge in edges if edge != gone]
        assert home_set(path, rest, most=40) == tuple(edge for edge in everyone if edge != gone)


@given(SWARMS, st.integers(1, 40))
def test_a_smaller_set_is_the_head_of_a_larger_one(edges, most):
    assert home_set("default/x", edges, most) == home_set("default/x", edges, 40)[:most]


def test_an_edge_of_twice_the_weight_comes_first_twice_as_often():
    edges = [Edge("a"), Edge("b"), Edge("c", 8)]
    first = Counter(home_set(f"default/{number}", edges)[0].node for number in range(4000))
    assert {node: round(count / 100) / 10 for node, count in first.items()} == {
        "a": pytest.approx(1.0, abs=0.1),
        "b": pytest.approx(1.0, abs=0.1),
        "c": pytest.approx(2.0, abs=0.1),
    }


def test_a_set_has_at_most_32_homes_and_a_small_object_one():
    edges = [Edge(f"edge-{number}") for number in range(40)]
    assert len(homes_for("default/x", edges, None)) == 32
    assert len(homes_for("default/x", edges, SMALL_BYTES)) == 32
    assert homes_for("default/x", edges, SMALL_BYTES - 1) == home_set("default/x", edges)[:1]
    assert homes_for("default/x", [], 10) == ()


# --- dealing pieces


def test_pieces_go_round_the_set_in_rank_order():
    assert dealt(EVEN, 10) == "abcdabcdab"


def test_an_edge_of_twice_the_weight_gets_every_other_turn_of_two_others():
    assert dealt((Edge("a", 8), B, C), 8) == "abcaabca"


def test_one_home_has_every_piece_and_no_home_none():
    assert dealt((A,), 5) == "aaaaa"
    assert home_of(0, ()) is None


def test_only_a_lost_homes_pieces_move():
    assert dealt(EVEN, 16) == "abcdabcdabcdabcd"
    assert dealt(EVEN, 16, "b") == "aacdaccdadcdaacd"


def test_the_pieces_of_two_lost_homes_spread_evenly_too():
    assert Counter(dealt(EVEN, 432, "a", "c")) == {"b": 216, "d": 216}
    assert Counter(dealt((Edge("a", 8), B, C), 400, "a")) == {"b": 200, "c": 200}


def test_when_every_home_is_lost_nobody_is():
    assert dealt(EVEN, 4, "a", "b", "c", "d") == "----"
    assert dealt((A,), 1, "a") == "-"


def test_strangers_among_the_lost_change_nothing():
    assert dealt(EVEN, 8, "x", "y") == "abcdabcd"


@given(HOMES, st.integers(0, 2000))
def test_no_home_carries_more_than_its_share_plus_one_piece(homes, count):
    shares = Counter(home_of(piece, homes) for piece in range(count))
    total = sum(edge.weight for edge in homes)
    for edge in homes:
        assert shares[edge.node] <= count * edge.weight / total + 1


@given(HOMES, st.integers(1, 3))
def test_over_whole_rounds_each_home_carries_exactly_its_share(homes, rounds):
    total = sum(edge.weight for edge in homes)
    shares = Counter(home_of(piece, homes) for piece in range(rounds * total))
    assert shares == {edge.node: rounds * edge.weight for edge in homes}


@given(HOMES, st.integers(0, 500), st.data())
def test_losing_one_more_home_moves_its_pieces_alone(homes, piece, data):
    nodes = [edge.node for edge in homes]
    lost = data.draw(st.sets(st.sampled_from(nodes)))
    before = home_of(piece, homes, lost)
    also = data.draw(st.sampled_from(nodes))
    after = home_of(piece, homes, lost | {also})
    assert after not in lost | {also}
    assert after == before or before == also


@given(HOMES, st.data())
def test_what_a_lost_home_carried_spreads_in_proportion_over_the_rest(homes, data):
    lost = data.draw(st.sampled_from(homes))
    rest = [edge for edge in homes if edge != lost]
    total, left = sum(edge.weight for edge in homes), sum(edge.weight for edge in rest)
    moved = [piece for piece in range(total * left) if home_of(piece, homes) == lost.node]
    taken = Counter(home_of(piece, homes, {lost.node}) for piece in moved)
    assert taken == {edge.node: lost.weight * edge.weight for edge in rest}


def test_paths_spread_over_zones_and_those_of_a_zone_that_goes_move_alone():
    paths = [f"/{number}" for number in range(3000)]
    first = {path: first_zone(path, ["fra", "ams", "lon"]) for path in paths}
    counts = Counter(first.values())
    assert all(900 < counts[zone] < 1100 for zone in ("fra", "ams", "lon"))
    without = {path: first_zone(path, ["lon", "fra"]) for path in paths}
    assert {path for path in paths if first[path] != without[path]} == {p for p in paths if first[p] == "ams"}
