"""Line 3: `make bench` at full length; every ratio is held against its promise."""

from loadtests.bench.__main__ import SIZES, Figure, bench
from tests.shows.measured import Measured, told

RUNS, TURN_S = 7, 4.0
# Requests per CPU-second, as a multiple of nginx's.
LEAST_RATIO = {
    "memory": {"1KiB": 2.0, "64KiB": 1.3, "512KiB": 1.05, "2MiB": 1.05},
    "tls": {"1KiB": 1.25, "64KiB": 1.5, "512KiB": 1.25, "2MiB": 1.1},
    "disk": {"512KiB": 1.0, "2MiB": 1.0},
}


def run() -> list[Measured]:
    found = bench(LEAST_RATIO, SIZES, RUNS, TURN_S)
    return [figure for one in found for figure in judged(one, found)]


def judged(one: Figure, found: list[Figure]) -> list[Measured]:
    """The promise of one line of the table; a median, as the issue has it."""
    if one.server == "nginx":
        return []
    detail = f"{one.per_cpu_s:.0f} per CPU-second, least ratio of a turn {one.least:.2f}"
    if one.kind == "half load":
        nginx = next(
            other for other in found if (other.kind, other.size, other.server) == (one.kind, one.size, "nginx")
        )
        ratio = one.p99_us / nginx.p99_us
        what = f"{one.server}, {one.size}, half of nginx's load: p99 latency"
        detail = f"{one.p99_us / 1000:.2f} ms, nginx {nginx.p99_us / 1000:.2f} ms"
        limit = 1.0 if one.server == "starling" else None
        return [Measured(what, ratio, "of nginx's", limit, limit is None or ratio <= limit, detail, one.turns)]
    what = f"{one.server}, {one.kind}, {one.size}: requests per CPU-second"
    if one.server != "starling":
        return [told(what, [one.ratio], "times nginx", detail)]
    limit = LEAST_RATIO[one.kind][one.size]
    return [Measured(what, one.ratio, "times nginx", limit, one.ratio >= limit, detail, one.turns)]
