"""Hit ratios by requests and by bytes beside libCacheSim's LRU, SIEVE and S3-FIFO: the second half of edge-4."""

from collections.abc import Sequence

from loadtests.eviction import HARDEST, SCANS, TRACES, Compared, compare_all
from tests.shows.measured import Measured, at_least, told

ABOVE_LRU_IN_A_SCAN, NOT_BELOW_LRU = 2.0, -0.2  # points


def run() -> list[Measured]:
    figures = []
    for kind in (*TRACES, HARDEST):
        compared = list(compare_all([kind]))
        limit = None if kind is HARDEST else ABOVE_LRU_IN_A_SCAN if kind in SCANS else NOT_BELOW_LRU
        figures += [_above_lru(kind.__name__, "requests", compared, limit)]
        figures += [_above_lru(kind.__name__, "bytes", compared, limit)]
    return figures


def _above_lru(kind: str, by: str, compared: Sequence[Compared], limit: float | None) -> Measured:
    """All alphas and sizes; `detail` has the worst of each."""
    names = ("ours", "SIEVE", "S3-FIFO")
    points = {name: [getattr(one.above_lru(name), f"by_{by}") for one in compared] for name in names}
    detail = "worst: " + ", ".join(f"{name} {min(points[name]):+.2f}" for name in names)
    what = f"hit ratio by {by} above LRU, {kind}"
    if limit is None:
        return told(what, points["ours"], "points", detail)
    return at_least(what, points["ours"], limit, "points", detail)
