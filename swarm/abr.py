"""Which rendition to fetch next: from how fast the last segments came, and how much is buffered."""

import math
from collections.abc import Sequence

FAST_HALF_LIFE_S, SLOW_HALF_LIFE_S = 3.0, 9.0  # hls.js abrEwmaFast*, abrEwmaSlow*
FIRST_ESTIMATE_BPS = 500_000.0  # hls.js abrEwmaDefaultEstimate: before anything was measured
SHORTEST_DOWNLOAD_S = 0.05  # below this a download measures latency rather than a rate (hls.js minDelayMs_)
HOLD_FACTOR, CLIMB_FACTOR = 0.95, 0.7  # hls.js abrBandWidthFactor, abrBandWidthUpFactor
SAFE_BUFFER_S = 10.0  # with this much ahead, one slow segment is no reason to look worse


class MovingAverage:
    """Exponentially weighted, where a sample's weight is how many seconds it took."""

    def __init__(self, half_life_s: float) -> None:
        self._alpha: float = math.pow(0.5, 1 / half_life_s)
        self._estimate = 0.0
        self._weight_s = 0.0

    def add(self, weight_s: float, value: float) -> None:
        kept = math.pow(self._alpha, weight_s)
        self._estimate = kept * self._estimate + (1 - kept) * value
        self._weight_s += weight_s

    @property
    def value(self) -> float:
        """The average; the missing past is not counted as zeros."""
        return self._estimate / (1 - math.pow(self._alpha, self._weight_s))


class Throughput:
    """Bits per second to expect: the lower of a fast and a slow average, so that it falls fast and climbs slowly."""

    def __init__(self) -> None:
        self._fast, self._slow = MovingAverage(FAST_HALF_LIFE_S), MovingAverage(SLOW_HALF_LIFE_S)
        self._is_measured = False

    def on_download(self, size_bytes: int, took_s: float) -> None:
        weight_s = max(took_s, SHORTEST_DOWNLOAD_S)
        for average in (self._fast, self._slow):
            average.add(weight_s, size_bytes * 8 / weight_s)
        self._is_measured = True

    @property
    def bps(self) -> float:
        return min(self._fast.value, self._slow.value) if self._is_measured else FIRST_ESTIMATE_BPS


def pick(rates_bps: Sequence[int], current_bps: int | None, estimate_bps: float, buffer_s: float, next_s: float) -> int:
    """The rate to fetch the next segment at: one of `rates_bps`.

    Args:
        rates_bps: what the renditions need, in any order.
        current_bps: what is being played; None before the first segment.
        estimate_bps: what the network gives.
        buffer_s: how much is ahead of the playhead.
        next_s: how long the next segment plays.
    """
    lowest = min(rates_bps)
    if current_bps is None:
        return max((rate for rate in rates_bps if rate <= estimate_bps * HOLD_FACTOR), default=lowest)
    within = [
        rate
        for rate in rates_bps
        if _fits(rate, current_bps, estimate_bps) and _is_in_time(rate, estimate_bps, buffer_s, next_s)
    ]
    best = max(within, default=lowest)
    is_safe = buffer_s >= SAFE_BUFFER_S and _is_in_time(current_bps, estimate_bps, buffer_s, next_s)
    return current_bps if best < current_bps and is_safe else best


def _fits(rate_bps: int, current_bps: int, estimate_bps: float) -> bool:
    return rate_bps <= estimate_bps * (CLIMB_FACTOR if rate_bps > current_bps else HOLD_FACTOR)


def _is_in_time(rate_bps: int, estimate_bps: float, buffer_s: float, next_s: float) -> bool:
    """Whether the next segment would be here before half of the buffer has played."""
    return rate_bps * next_s / max(estimate_bps, 1.0) <= buffer_s / 2
