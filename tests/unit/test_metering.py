"""Reading at a rate."""

from swarm.metering import CATCH_UP_S, Meter

MBIT = 1e6


def test_each_read_is_paid_for_before_the_next():
    meter = Meter()
    assert round(meter.pause_s(12_500, MBIT, now=10.0), 6) == 0.1
    assert round(meter.pause_s(12_500, MBIT, now=10.1), 6) == 0.1  # on time
    assert round(meter.pause_s(12_500, MBIT, now=10.25), 6) == 0.05  # late: made up for


def test_a_long_pause_is_not_made_up_for():
    meter = Meter()
    meter.pause_s(12_500, MBIT, now=10.0)
    assert round(meter.pause_s(12_500, MBIT, now=10.1 + 2 * CATCH_UP_S), 6) == 0.1


def test_two_readers_share_one_rate():
    meter = Meter()
    assert round(meter.pause_s(12_500, MBIT, now=10.0), 6) == 0.1
    assert round(meter.pause_s(12_500, MBIT, now=10.0), 6) == 0.2
