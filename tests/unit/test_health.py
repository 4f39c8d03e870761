"""A link's states with chosen instants: what pauses it, for how long, and what makes it well again."""

import pytest

from swarm.health import Health, Link


def test_an_edge_nobody_tried_is_well():
    health = Health()
    assert health.state("a", 0.0) is Link.OK
    assert health.usable("a", 0.0)
    assert health.unusable(0.0) == []
    assert repr(health) == "<Health all well>"


@pytest.mark.parametrize(
    "failures, pauses",
    [
        ([0.0], [0.5]),
        ([0.0, 0.5], [0.5, 1.0]),
        ([0.0, 1.0, 3.0, 6.0, 12.0, 24.0, 50.0], [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0]),  # 30 s is the longest
    ],
)
def test_each_time_an_edge_cannot_be_reached_the_pause_doubles(failures, pauses):
    health = Health()
    for at, pause_s in zip(failures, pauses, strict=True):
        assert health.usable("a", at)
        health.on_unreachable("a", at)
        assert health.state("a", at + pause_s - 0.01) is Link.AWAY
        assert health.state("a", at + pause_s) is Link.OK


def test_several_requests_that_fail_at_once_are_one_event():
    health = Health()
    for at in (10.0, 10.1, 10.49):
        health.on_unreachable("a", at)
    assert health.unusable(10.49) == ["a"]
    assert health.unusable(10.5) == []


def test_a_good_answer_wipes_the_slate():
    health = Health()
    health.on_unreachable("a", 0.0)
    health.on_unreachable("a", 1.0)
    health.on_good("a")
    assert health.usable("a", 1.0)
    health.on_unreachable("a", 1.1)
    assert health.usable("a", 1.6), "the pause begins at half a second again"


@pytest.mark.parametrize(
    "bad_at, broken",
    [
        ([0.0, 1.0, 2.0], [False, False, True]),
        ([0.0, 5.0, 9.9], [False, False, True]),
        ([0.0, 5.0, 10.0], [False, False, False]),  # the first is forgotten after ten seconds
        ([0.0, 5.0, 10.0, 14.9], [False, False, False, True]),
    ],
)
def test_three_bad_answers_in_ten_seconds_break_a_link(bad_at, broken):
    health = Health()
    assert [health.on_bad("a", at) for at in bad_at] == broken
    assert health.state("a", bad_at[-1]) is (Link.BROKEN if broken[-1] else Link.OK)


def test_a_broken_link_rests_five_seconds_and_twice_as_long_when_it_breaks_again():
    health = Health()
    for start, pause_s in ((0.0, 5.0), (5.0, 10.0), (15.0, 20.0), (35.0, 40.0), (75.0, 80.0), (155.0, 120.0)):
        for _ in range(3):
            assert health.usable("a", start)
            health.on_bad("a", start)
        assert health.state("a", start + pause_s - 0.1) is Link.BROKEN
        assert health.state("a", start + pause_s) is Link.OK


def test_a_good_answer_between_bad_ones_starts_the_count_afresh():
    health = Health()
    health.on_bad("a", 0.0)
    health.on_bad("a", 1.0)
    health.on_good("a")
    assert not health.on_bad("a", 2.0)
    assert not health.on_bad("a", 3.0)
    assert health.on_bad("a", 4.0)


def test_a_broken_link_that_then_falls_silent_rests_no_shorter():
    """Requests that were under way when it broke end as unreachable."""
    health = Health()
    for _ in range(3):
        health.on_bad("a", 0.0)
    health.on_unreachable("a", 0.1)
    assert health.state("a", 4.9) is Link.BROKEN
    assert health.state("a", 5.0) is Link.OK


def test_an_edge_that_was_away_may_prove_broken():
    health = Health()
    health.on_unreachable("a", 0.0)
    for _ in range(3):
        health.on_bad("a", 0.1)
    assert health.state("a", 5.0) is Link.BROKEN
    assert health.state("a", 5.1) is Link.OK


def test_links_are_judged_one_by_one():
    health = Health()
    health.on_unreachable("a", 0.0)
    health.on_bad("b", 0.0)
    assert (health.unusable(0.1), health.usable("b", 0.1)) == (["a"], True)
    assert repr(health) == "<Health a away, b ok>"


def test_an_answer_without_pieces_is_no_proof_of_a_good_link():
    health = Health()
    for at in (0.0, 1.0):
        health.on_bad("b", at)
        health.on_answered("b")
    assert health.on_bad("b", 2.0)
    health.on_answered("b")
    assert health.state("b", 2.0) is Link.BROKEN
    health.on_unreachable("a", 0.0)
    health.on_answered("a")
    assert health.usable("a", 0.0)


def test_who_vouches_for_what_the_origin_does_not_bear_out_is_left_out_at_once_and_longer_each_time():
    health = Health()
    health.on_wrong("b", 0.0)
    assert (health.usable("b", 4.9), health.usable("b", 5.0)) == (False, True)
    health.on_wrong("b", 6.0)
    assert (health.usable("b", 15.9), health.usable("b", 16.0)) == (False, True)
