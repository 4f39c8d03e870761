"""A hundred members, by seeds that a failure prints."""

import pytest

from tests.sim.gossip_at_scale import run

MOST_JOIN_S = 2.0
MOST_DEATH_S = 6.0
MOST_IDLE_BYTES = 4000  # a second and edge: a few whole push-pulls in the minute after a hundred came at once


@pytest.mark.parametrize("seed", [1, 2])
def test_a_hundred_edges_at_one_percent_loss(seed):
    was = run(seed, loss=0.01, quiet_s=30.0)
    assert was.false_deaths == 0, was
    assert was.joined_s <= MOST_JOIN_S, was
    assert was.died_s <= MOST_DEATH_S, was
    assert was.idle_bps <= MOST_IDLE_BYTES, was


def test_at_ten_percent_loss_twenty_edges_are_suspected_refute_and_live():
    was = run(3, loss=0.1, quiet_s=60.0, count=20)
    assert (was.false_deaths, was.refutations > 0) == (0, True), was


@pytest.mark.slow
def test_ten_minutes_at_one_percent_loss_bury_nobody():
    was = run(4, loss=0.01, quiet_s=600.0)
    assert was.false_deaths == 0, was
