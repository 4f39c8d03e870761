"""The netlab's sums, worked by hand: limits, payload from packets, what makes a run void, what the kernel is told."""

import json

import pytest

from loadtests.netlab import cpu, links
from loadtests.netlab.__main__ import parse, setting_of
from loadtests.netlab.laboratory import Setting
from loadtests.netlab.limit import (
    Account,
    Rates,
    Traffic,
    fluid_limit_s,
    most_goodput,
    superpeer_limit_s,
    void_reasons,
)
from loadtests.netlab.programs import Plan, rate, total
from loadtests.netlab.switch import Port, Queue
from loadtests.netlab.viewers import understand

MBIT = 1_000_000
MB = 1_000_000  # decimal, so that seconds come out even


@pytest.mark.parametrize(
    "origin, up, down, expected_s",
    [
        (40, 40, 40, 8.0),  # the origin sends every byte once; the edges together could do with 64/9 s
        (20, 40, 40, 16.0),  # the same with a slower origin
        (160, 40, 40, 8.0),  # no edge can take it any faster
        (160, 10, 160, 8 * 320 / (160 + 80)),  # all uplinks together must send it eight times
    ],
)
def test_the_fluid_limit_of_forty_million_bytes_at_eight_edges(origin: int, up: int, down: int, expected_s: float):
    rates = Rates(origin, up, down).times(MBIT)
    assert fluid_limit_s(40 * MB, 8, rates) == pytest.approx(expected_s)


def test_the_limit_where_only_superpeers_upload():
    rates = Rates(40, 40, 40).times(MBIT)
    assert superpeer_limit_s(40 * MB, edges=9, superpeers=2, rates=rates) == 8 * 8 / 2


def test_a_setting_adds_four_round_trips_and_takes_goodput_for_rate():
    setting = Setting(edges=8, size_bytes=40 * MB, rtt_s=0.04)
    assert setting.limit_s(1.0) == 8.0 + 0.16
    assert setting.limit_s(0.5) == 16.0 + 0.16
    leaves = Setting(edges=9, size_bytes=40 * MB, plan=Plan(topology="superpeer", superpeers=2))
    assert leaves.limit_s(1.0) == 32.0


def test_payload_is_what_is_left_without_headers():
    """8 MiB over TCP as counted once: 16,777,216 bytes of payload in 11,600 packets, with a handshake of 88 bytes."""
    traffic = Traffic(17_542_904, 11_600)
    assert traffic.payload_bytes(framing_bytes=14) == 16_777_216 + 88
    assert Traffic(15, 3) - Traffic(1, 1) == Traffic(14, 2)


def test_what_headers_leave_of_a_link():
    assert most_goodput(1500, framing_bytes=14) == pytest.approx(0.956, abs=0.001)
    assert most_goodput(9000, framing_bytes=0) == pytest.approx(0.994, abs=0.001)


def test_counts_agree_to_a_hundredth_of_the_largest():
    assert Account("a", {"interface": 10_000, "log": 9_900, "metrics": 9_950}).agrees
    assert not Account("b", {"interface": 10_000, "log": 9_899}).agrees
    assert Account("c", {"interface": 0, "log": 0}).agrees
    assert str(Account("d", {"log": 50, "metrics": 100})) == "d: log 50, metrics 100 (50.00 % apart)"


def test_why_a_run_is_void():
    differing = Account("from the origin", {"log": 1, "metrics": 2})
    assert void_reasons([0.95, 0.96], 0.1, [Account("a", {"log": 1})]) == []
    assert void_reasons([0.95, 0.939], 0.099, [differing]) == [
        "a bare TCP sender reached only 0.939 of the shaped rate",
        "the CPU was the limit: 10 % idle",
        f"the counts differ: {differing}",
    ]


def test_what_the_kernel_is_told():
    assert links.shaping("eth0", 40 * MBIT) == (
        "qdisc replace dev eth0 root tbf rate 40000000bit burst 32768 latency 50ms"
    )
    assert links.route("cubic") == "route replace 10.77.0.0/24 dev eth0 congctl cubic"
    assert (rate(12_500_000), rate(1_000_000_000)) == ("12500kbit", "1000000kbit")


def test_what_the_kernel_says():
    queues = [
        {"kind": "tbf", "root": True, "bytes": 17542904, "packets": 11600, "drops": 0},
        {"kind": "bfifo", "parent": "1:1", "bytes": 0, "packets": 0},
    ]
    assert links.counted(json.dumps(queues)) == Traffic(17_542_904, 11_600)
    dev = "Inter-|   Receive\n face |bytes    packets\n    lo:       5       1    0\n  eth0:  257248    3896    0\n"
    assert links.received(dev, "eth0") == Traffic(257_248, 3_896)
    with pytest.raises(ValueError, match="no eth1"):
        links.received(dev, "eth1")
    rules = {
        "nftables": [{"table": {}}, {"rule": {"expr": [{"match": {}}, {"counter": {"packets": 3, "bytes": 400}}]}}]
    }
    assert links.heard(json.dumps(rules)) == Traffic(400, 3)
    assert links.resent_segments("Ip: a\nIp: 1\nTcp: ActiveOpens RetransSegs InErrs\nTcp: 2 7 0\n") == 7


def test_idle_is_what_nobody_wanted_of_all_cores():
    """In ticks of a hundredth of a second: of 1,000 more, 200 idle and 50 waiting for a disk."""
    before = cpu.parse("cpu  100 0 100 1000 0 0 0 0 0 0\ncpu0 …", {"edge-1": 1.0})
    after = cpu.parse("cpu  700 0 200 1200 50 25 25 0 0 0\ncpu0 …", {"edge-1": 2.5, "edge-2": 0.5})
    assert after.idle_since(before) == 0.25
    assert after.programs_since(before) == {"edge-1": 1.5, "edge-2": 0.5}


def test_a_metric_is_summed_over_its_labels_alone():
    samples = {'a_total{x="1"}': 2.0, 'a_total{x="2"}': 3.0, "a_total_bytes": 7.0, "b": 1.0}
    assert (total(samples, "a_total"), total(samples, "b"), total(samples, "c")) == (5, 1, 0)


def test_the_switch_delays_and_then_takes_the_time_of_the_downlink():
    queue, port = Queue(delay_s=0.02, longest_s=0.05), Port(0, b"", down_bytes_s=100_000)
    assert queue.leaves_at(port, 1000, now=1.0) == pytest.approx(1.03)
    assert queue.leaves_at(port, 2000, now=1.0) == pytest.approx(1.05)
    assert queue.leaves_at(port, 1000, now=2.0) == pytest.approx(2.03)


def test_the_switch_drops_what_would_wait_too_long():
    queue, port = Queue(delay_s=0.0, longest_s=0.05), Port(0, b"", down_bytes_s=100_000)
    assert queue.leaves_at(port, 6000, now=1.0) == pytest.approx(1.06)
    assert queue.leaves_at(port, 1000, now=1.0) is None
    assert queue.leaves_at(port, 1000, now=1.011) == pytest.approx(1.07)


def test_a_viewer_takes_a_whole_answer_of_stated_length_only():
    assert understand("HTTP/1.1 200 OK\r\nContent-Length: 12") == (200, 12)
    with pytest.raises(ValueError, match="503"):
        understand("HTTP/1.1 503 Busy\r\nContent-Length: 12")
    with pytest.raises(ValueError, match="None"):
        understand("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked")


def test_a_command_line_says_what_is_measured():
    assert setting_of(parse([])) == Setting(edges=8, size_bytes=32 << 20, congestion="bbr", plan=Plan(superpeers=4))
    line = (
        "--edges 3 --rate 20mbit --origin-rate 5mbit --size 1MiB --congestion cubic --rtt-ms 40 --foreign --no-capacity"
    )
    assert setting_of(parse(line.split())) == Setting(
        edges=3,
        up_bps=20 * MBIT,
        down_bps=20 * MBIT,
        origin_bps=5 * MBIT,
        size_bytes=1 << 20,
        congestion="cubic",
        rtt_s=0.04,
        plan=Plan(foreign=True, capacities=False, superpeers=3),
    )
