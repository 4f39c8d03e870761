"""An uplink's capacity is learnt from what goes through it."""

import pytest

from swarm.capacity import CYCLE, FIRST, REMEMBERED, SMOOTHED_OVER, TRY, LearntCapacity

M = 1e6


def sent(capacity: LearntCapacity, samples: int, link_bps: float, wanted_bps: float = 1e12) -> list[float]:
    """What a link lets through of what is wanted, at the pace the learner sets; the pace after each sample."""
    paces = []
    for _ in range(samples):
        pace_bps = capacity.budget_bps or 1e12
        capacity.on_sent(min(pace_bps, link_bps, wanted_bps))
        paces.append(capacity.budget_bps or 0.0)
    return paces


def test_nothing_is_believed_at_first():
    capacity = LearntCapacity()
    assert not any(sent(capacity, FIRST + SMOOTHED_OVER - 2, 40 * M))
    assert capacity.budget_bps is None


def test_the_pace_is_what_goes_through_and_now_and_then_a_little_more():
    paces = sent(LearntCapacity(), 200, 40 * M)[20:]
    assert max(paces) == pytest.approx(TRY[1] * 40 * M)
    assert min(paces) == pytest.approx(0.97 * 40 * M)
    assert sum(paces) / len(paces) == pytest.approx(40 * M, rel=0.02)


def test_more_is_found_soon_when_more_is_wanted():
    capacity = LearntCapacity()
    sent(capacity, 100, 40 * M, wanted_bps=5 * M)
    assert capacity.budget_bps is not None
    assert capacity.budget_bps <= 5.5 * M
    paces = sent(capacity, 2 * CYCLE + 20, 40 * M)
    assert max(paces) >= 40 * M


def test_a_link_that_became_slower_is_believed_after_a_while():
    capacity = LearntCapacity()
    sent(capacity, 50, 40 * M)
    sent(capacity, REMEMBERED + SMOOTHED_OVER, 10 * M)
    assert capacity.budget_bps is not None
    assert capacity.budget_bps <= 11 * M
