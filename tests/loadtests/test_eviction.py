"""The comparison itself, small: that rivals and keeper see the same requests, and that the keeper is worth having."""

import random
import subprocess
import sys
from collections import OrderedDict

import pytest

pytest.importorskip("libcachesim", reason="libCacheSim has wheels for Linux on x86-64 only")

from loadtests import eviction
from loadtests.eviction import Compared, Hits, Trace, compare, make

FEW = 40_000


def lru_by_hand(trace: Trace, capacity_bytes: int) -> Hits:
    cache: OrderedDict[int, int] = OrderedDict()
    hits = hit_bytes = used = 0
    for one in trace.requests:
        size = trace.sizes[one]
        if one in cache:
            cache.move_to_end(one)
            hits, hit_bytes = hits + 1, hit_bytes + size
            continue
        while used + size > capacity_bytes:
            used -= cache.popitem(last=False)[1]
        cache[one] = size
        used += size
    return Hits(100 * hits / len(trace.requests), 100 * hit_bytes / sum(trace.sizes[one] for one in trace.requests))


def test_the_rivals_are_what_they_say():
    trace = make(eviction.live, 1.0, FEW)
    [compared] = compare(trace, "live", 1.0, [0.1])
    assert compared.hits["LRU"] == pytest.approx(lru_by_hand(trace, int(trace.library_bytes() * 0.1)))
    assert len({*compared.hits.values()}) == 4


def test_a_trace_is_the_same_every_time():
    first, again, other = (make(eviction.films, 0.9, FEW, seed) for seed in (1, 1, 2))
    assert (first.requests, first.sizes) == (again.requests, again.sizes)
    assert first.requests != other.requests


def test_what_is_asked_for_once_is_in_no_library():
    trace = Trace(random.Random(), requests=[0, 1, 2, 0, 2, 0], sizes=[5, 70, 11, 900])
    assert trace.library_bytes() == 5 + 11


@pytest.mark.parametrize("kind", eviction.TRACES, ids=lambda kind: kind.__name__)
def test_the_keeper_is_not_below_lru_and_well_above_it_in_a_scan(kind):
    for one in compare(make(kind, 1.0, FEW), kind.__name__, 1.0, [0.05, 0.2]):
        assert min(one.above_lru()) >= (2.0 if kind in eviction.SCANS else -0.2), eviction.line(one)


def test_a_line_and_a_row_for_people():
    hits = {"LRU": Hits(40, 30), "SIEVE": Hits(41, 29.5), "S3-FIFO": Hits(42, 32), "ours": Hits(43.5, 33)}
    one = Compared("scan", 0.8, 0.05, hits)
    assert eviction.line(one).split() == [
        *("scan", "0.8", "5%", "40.0", "30.0", "+1.0", "-0.5", "+2.0", "+2.0", "+3.5", "+3.0")
    ]
    better = Compared("scan", 0.8, 0.1, hits | {"ours": Hits(44.5, 32)})
    assert eviction.summary("scan", [one, better]) == (
        "| scan | 40.0 / 30.0 | +1.0 / -0.5 | +2.0 / +2.0 | +4.0 / +2.5 | +1.0 / -0.5 | +2.0 / +2.0 | +3.5 / +2.0 |"
    )


def test_it_says_which_traces_there_are():
    run = subprocess.run([sys.executable, "-m", "loadtests.eviction", "--help"], capture_output=True, text=True)
    assert run.returncode == 0
    assert "zipf, web, scan, crawl, loop, drift, live, films, fleeting" in " ".join(run.stdout.split())
