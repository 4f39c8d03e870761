"""Max-min sharing of a sender's budget, in worked examples; rates in bits per second."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.uploads import LEAST_BPS, LOOK_BACK, STRETCH, RecentRate, Uploads, shares

M = 1e6


@pytest.mark.parametrize(
    "budget, demands, expected",
    [
        (12, [math.inf] * 3, [4, 4, 4]),
        (12, [2, math.inf, math.inf], [2, 5, 5]),
        (12, [2, 3, math.inf], [2, 3, 7]),
        (12, [1, 2, 3], [3, 4, 5]),  # 6 that nobody asked for, added to all alike
        (12, [], []),
    ],
)
def test_nobody_gets_more_than_another_who_wants_more(budget, demands, expected):
    assert shares(budget, demands) == expected


@given(st.floats(1, 1e9), st.lists(st.floats(1, 1e9) | st.just(math.inf), min_size=1, max_size=20))
def test_all_of_the_budget_is_shared_out_and_no_more(budget, demands):
    given_out = shares(budget, demands)
    assert sum(given_out) == pytest.approx(budget)
    level = max(given_out)
    assert all(
        mine >= min(demand, level) * 0.999 or sum(demands) < budget
        for mine, demand in zip(given_out, demands, strict=True)
    )


def sending(*names: str) -> Uploads:
    uploads = Uploads()
    for name in names:
        uploads.on_open(name)
        uploads.on_busy(name)
    return uploads


PLENTY = 1 << 30


def after(uploads: Uploads, ticks: int, **rates: float) -> dict[object, float]:
    """The shares when each stream has plenty to send and gets through what it can."""
    given_out = uploads.share(12 * M)
    for _ in range(ticks):
        for name, rate in rates.items():
            uploads.on_taken(name, min(rate, given_out[name]), PLENTY)
        given_out = uploads.share(12 * M)
    return given_out


def test_streams_with_something_to_send_have_equal_shares():
    assert sending("a", "b", "c").share(12 * M) == {"a": 4 * M, "b": 4 * M, "c": 4 * M}


def test_a_stream_that_waits_for_pieces_is_no_demand_until_it_has_some():
    uploads = sending("a", "b")
    uploads.on_open("waits")
    given_out = uploads.share(12 * M)
    assert (given_out["a"], given_out["b"]) == (6 * M, 6 * M)
    assert given_out["waits"] == 4 * M  # lent as if it had something
    assert uploads.on_busy("waits")
    assert not uploads.on_busy("waits")  # said once
    assert uploads.share(12 * M) == {"a": 4 * M, "b": 4 * M, "waits": 4 * M}


def test_what_a_slow_receiver_cannot_take_goes_to_the_others():
    given_out = after(sending("slow", "b", "c"), LOOK_BACK, slow=1 * M, b=math.inf, c=math.inf)
    assert given_out["slow"] == pytest.approx(1.25 * M)
    assert given_out["b"] == pytest.approx(given_out["c"])
    assert given_out["c"] == pytest.approx((12 * M - given_out["slow"]) / 2)


def test_a_stream_that_takes_all_it_was_given_is_given_its_share_again():
    uploads = sending("a", "b")
    after(uploads, LOOK_BACK, a=1 * M, b=math.inf)
    given_out = after(uploads, 20, a=math.inf, b=math.inf)
    assert given_out["a"] == pytest.approx(6 * M, rel=0.05)


def test_who_fell_behind_gets_what_those_who_keep_up_leave():
    uploads = sending("a", "b", "c")
    uploads.share(12 * M)
    for _ in range(LOOK_BACK):
        uploads.on_taken("a", 4 * M, PLENTY)
        uploads.on_taken("b", 3 * M, 8192)
        uploads.on_taken("c", 3 * M, 0)
    given_out = uploads.share(12 * M)
    assert given_out["b"] == pytest.approx(3.15 * M)
    assert given_out["c"] == pytest.approx(3.15 * M)
    assert given_out["a"] == pytest.approx(5.7 * M)


def test_the_budget_is_met_by_feedback_within_bounds():
    uploads = sending("a")
    uploads.on_sent(11.7 * M, 12 * M)
    assert uploads.share(12 * M)["a"] == pytest.approx(12.03 * M)  # a tenth of what was missed
    for _ in range(100):
        uploads.on_sent(6 * M, 12 * M)
    assert uploads.share(12 * M)["a"] == pytest.approx(12 * M * STRETCH[1])
    for _ in range(100):
        uploads.on_sent(24 * M, 12 * M)
    assert uploads.share(12 * M)["a"] == pytest.approx(12 * M * STRETCH[0])


def test_what_was_sent_while_nobody_had_anything_tells_nothing():
    uploads = Uploads()
    uploads.on_open("waits")
    uploads.on_sent(0.0, 12 * M)
    assert uploads.share(12 * M) == {"waits": 12 * M}


def test_a_receivers_cap_is_kept_and_nobody_is_choked():
    uploads = Uploads()
    uploads.on_open("capped", 2 * M)
    uploads.on_open("b")
    for name in ("capped", "b"):
        uploads.on_busy(name)
    assert uploads.share(12 * M) == {"capped": 2 * M, "b": 10 * M}
    assert set(uploads.share(0.0).values()) == {LEAST_BPS}


def test_whoever_has_more_left_gets_a_little_more():
    uploads = sending("a", "b")
    for name, left in (("a", 3 << 20), ("b", 1 << 20)):
        uploads.on_taken(name, 0.0, PLENTY, left)
    assert uploads.share(12 * M) == {"a": 7.5 * M, "b": 4.5 * M}  # 3 : 1, but for the bound on it
    uploads.on_taken("b", 0.0, PLENTY)  # not known of all
    assert uploads.share(12 * M) == {"a": 6 * M, "b": 6 * M}


def test_a_stream_that_took_nothing_lately_keeps_a_part_of_its_share():
    uploads = sending("a", "b")
    uploads.share(12 * M)
    for _ in range(LOOK_BACK):
        uploads.on_taken("a", 6 * M, PLENTY)
        uploads.on_taken("b", 0.1 * M, 100)
    assert uploads.share(12 * M) == {"a": 10.5 * M, "b": 1.5 * M}


def test_who_left_holds_no_share():
    uploads = sending("a", "b")
    uploads.on_closed("b")
    assert uploads.share(12 * M) == {"a": 12 * M}
    assert repr(uploads) == "<Uploads 1 of 1 streams busy>"


def test_a_recent_rate_is_that_of_its_window():
    recent = RecentRate(0.2)
    assert recent.rate_bps(1000, 10.0) == 0.0
    assert recent.rate_bps(2000, 10.1) == pytest.approx(80_000)
    assert recent.rate_bps(2000, 10.2) == pytest.approx(40_000)
    assert recent.rate_bps(2000, 10.3) == pytest.approx(0.0)
    assert recent.rate_bps(4000, 11.3) == pytest.approx(16_000)  # nobody asked for a second
