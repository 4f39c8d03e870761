"""Line 7: ten thousand idle connections, two thousand slow readers and a slowloris cost an edge next to nothing.

Hits are counted per second of the edge's own CPU time, before and while the others are there, on a core of its own.
"""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from loadtests.bench import servers
from loadtests.bench.__main__ import KIB, MIB, SERVER_CORE, turn
from loadtests.bench.servers import Server
from tests.integration.holding import Holding, holding
from tests.shows.measured import Measured, all_held, at_least, at_most, told

IDLE, SLOW, HALF = 10_000, 2_000, 200
TURNS, TURN_S = 7, 3.0
MOST_IDLE_BYTES = 20 * KIB
LEAST_RATE = 0.9
HEADER_S, SLACK_S = 10.0, 3.0  # the deadline, and how long a sweep and we take to see it


def run() -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="show-") as name, ExitStack() as stack:
        directory = Path(name)
        directory.chmod(0o755)
        origin = stack.enter_context(servers.origin(directory / "origin", KIB, 4 * MIB))
        edge = stack.enter_context(servers.starling(directory / "edge", origin, SERVER_CORE))
        for _ in range(3):
            edge.fetch_all(1000)
        turn(edge, TURN_S)
        alone = rate(edge)
        base = edge.rss_bytes()
        with holding(edge.port, IDLE, "idle"):
            idle_bytes = (edge.rss_bytes() - base) / IDLE
            with holding(edge.port, SLOW, "slow") as slow:
                wait_until_they_sip(edge)
                beside = rate(edge)
                lost = SLOW - last_said(slow)
                rss = edge.rss_bytes()
                told_off_s, left = slowloris(edge)
        alone_again = rate(edge)
        return [
            at_most("memory of an idle viewer connection", [idle_bytes], MOST_IDLE_BYTES, "bytes", f"{IDLE} of them"),
            at_least(
                "hits per CPU-second beside them and slow readers", [beside / median((alone, alone_again))], LEAST_RATE,
                "of those alone", f"{SLOW} slow readers; {beside:.0f}, alone {alone:.0f} and {alone_again:.0f}",
            ),
            told("memory of the edge beside them all", [rss / MIB], "MiB"),
            all_held("slow readers that take enough and were cut off", ["cut off"] * lost, SLOW),
            all_held("half headers that were not dropped at the deadline", ["still there"] * left, HALF),
            at_most("half headers: until the last was dropped", [told_off_s], HEADER_S + SLACK_S, "s"),
        ]  # fmt: skip


def wait_until_they_sip(edge: Server) -> None:
    """Until everybody who has just come has what the kernel keeps for him, and takes it bit by bit."""
    used_s, before_s = 1.0, edge.cpu_s()
    while used_s > 0.1:
        time.sleep(1.0)
        used_s, before_s = edge.cpu_s() - before_s, edge.cpu_s()


def rate(edge: Server) -> float:
    """Hits per second of CPU time, the median of some turns."""
    return median(turn(edge, TURN_S).per_cpu_s for _ in range(TURNS))


def last_said(viewers: Holding) -> int:
    """How many are there by now: its lines since the last look are old."""
    until = time.monotonic() + 2.0
    there = 0
    while time.monotonic() < until:
        there = viewers.said()["there"]
    return there


def slowloris(edge: Server) -> tuple[float, int]:
    """When the last of some half headers was dropped, and how many of them were not."""
    with holding(edge.port, HALF, "half") as half:
        began, left = time.monotonic(), HALF
        while left and time.monotonic() < began + 3 * HEADER_S:
            left = half.said().get("there", left)
        return time.monotonic() - began, left
