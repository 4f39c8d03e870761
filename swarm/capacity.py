"""An uplink's capacity, learnt from what was sent over it while there was more to send, as BBR learns a path's.

Unpaced for the first second; from then on at the most that went through lately. Now and then a little more is tried for
a moment: where it does go through, ever more is, until it does not.
"""

from collections import deque
from statistics import fmean

SMOOTHED_OVER = 3  # samples of 100 ms: acknowledgements come in bursts
FIRST = 10  # samples before anything is believed
REMEMBERED = 100  # samples with something to send: a link that became slower is believed after ten seconds
CYCLE = 12  # samples between two tries
TRY, DRAIN = (3, 1.1), (6, 0.97)  # up to which sample of a cycle, at which part of what is believed
GOES_THROUGH = 0.93  # of what was allowed: then it was the limit, not the link
SEARCH = 1.5  # by how much more, each time that went through


class LearntCapacity:
    """Of one sender; bits/s of the bytes it sends."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=SMOOTHED_OVER)
        self._seen: deque[float] = deque(maxlen=REMEMBERED)
        self._sample = 0
        self._searching_since: int | None = None  # the sample at which the budget was last raised
        self.budget_bps: float | None = None  # None: not known yet

    def __repr__(self) -> str:
        return f"<LearntCapacity {self.budget_bps}>"

    def on_sent(self, rate_bps: float) -> None:
        """What was sent since the last sample, by streams that had more."""
        self._recent.append(rate_bps)
        if len(self._recent) < SMOOTHED_OVER:
            return
        rate_bps = fmean(self._recent)
        goes_through = self.budget_bps is not None and rate_bps >= GOES_THROUGH * self.budget_bps
        before_bps = max(self._seen, default=0.0)
        self._seen.append(rate_bps)
        most_bps = max(self._seen)
        if len(self._seen) < FIRST:
            return
        self._sample += 1
        phase = self._sample % CYCLE
        if self._searching_since is not None and self._sample - self._searching_since < SMOOTHED_OVER:
            return
        is_more = self._searching_since is not None or (phase < TRY[0] and rate_bps > 1.02 * before_bps)
        if is_more and goes_through:
            self._searching_since, self.budget_bps = self._sample, most_bps * SEARCH
        else:
            self._searching_since = None
            part = TRY[1] if phase < TRY[0] else DRAIN[1] if phase < DRAIN[0] else 1.0
            self.budget_bps = most_bps * part
