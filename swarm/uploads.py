"""How fast each open stream may send: a sender's budget, shared max-min among the streams that can use it (DESIGN 5).

Unpaced streams share a link unfairly, and the slowest of them holds back everybody's last pieces (DESIGN 9). So each
gets an equal share; what one cannot use, because its receiver is slow or it waits for pieces, goes to the others at the
next sharing. Rates are of the bytes of streams: `GOODPUT` of what a link is said to carry.
"""

import math
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

GOODPUT = 1448 / 1514  # of a link's rate: Ethernet, IP and TCP headers take the rest
SHARE_EVERY_S = 0.1
LOOK_BACK = 5  # sharings that a stream is judged by: pieces come in bursts
BEHIND_S = 0.15  # of unsent bytes at its rate: who has more fell behind, and is first to get what others leave
USES_ALL = 0.8  # of its share: who is behind and takes less is held up by its receiver ...
HEADROOM = 1.25  # ... and gets so much of what it took, so that it can show that it takes more
KEEPS_UP = 1.05  # of what it took: enough for who only waits for the next piece
STRETCH = (0.95, 1.04)  # of the budget: pacing by timers falls short of what it is told by some per cent
STRETCH_STEP = 0.1  # of what was missed, at each sharing
LEAST = 0.25  # of an equal share: who took little lately may have a piece to send at any moment
LEAST_BPS = 64_000.0  # a stream is never choked: its frames say that we live
BIAS = 0.25  # for who has more left to send than the others, or less: all are to end together


def shares(budget_bps: float, demands_bps: Sequence[float], weights: Sequence[float] = ()) -> list[float]:
    """Max-min: nobody gets more than it asked for while another, that got less for its weight, wants more. Nothing is
    left over while anybody is there: what nobody asked for is added to all alike.

    >>> shares(10, [1, math.inf, math.inf])
    [1, 4.5, 4.5]
    >>> shares(10, [1, math.inf, math.inf], [1, 2, 1])
    [1, 6.0, 3.0]
    >>> shares(12, [1, 2, 3])
    [3.0, 4.0, 5.0]
    """
    weighed = list(weights) or [1.0] * len(demands_bps)
    given = [0.0] * len(demands_bps)
    left_bps, weight = budget_bps, sum(weighed)
    for at in sorted(range(len(demands_bps)), key=lambda at: demands_bps[at] / weighed[at]):
        given[at] = min(demands_bps[at], left_bps * weighed[at] / weight)
        left_bps -= given[at]
        weight -= weighed[at]
    spare = max(0.0, left_bps) / max(1, len(demands_bps))
    return [one + spare for one in given] if spare > budget_bps * 1e-9 else given


@dataclass
class _Stream:
    cap_bps: float  # the receiver's wish
    rate_bps: float = 0.0
    is_idle: bool = True  # it had nothing to send at the last sharing
    is_behind: bool = False
    left_bytes: int | None = None  # of its answer, where that is known
    took: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=LOOK_BACK))  # rate, of which share

    def demand_bps(self) -> float:
        """How fast it could send, by what it did."""
        if len(self.took) < LOOK_BACK:
            return self.cap_bps
        took_bps = fmean(rate for rate, _ in self.took)
        if not self.is_behind:
            wished = KEEPS_UP * took_bps
        elif took_bps >= USES_ALL * fmean(share for _, share in self.took):
            wished = self.cap_bps
        else:
            wished = HEADROOM * max(rate for rate, _ in self.took)
        return min(self.cap_bps, max(LEAST_BPS, wished))


class Uploads:
    """The open streams of one sender. Times are the caller's: it shares anew every `SHARE_EVERY_S`, and whenever
    `on_open`, `on_closed` or `on_busy` say that it should."""

    def __init__(self) -> None:
        self._streams: dict[Hashable, _Stream] = {}
        self._stretch = 1.0

    def __repr__(self) -> str:
        busy = sum(not stream.is_idle for stream in self._streams.values())
        return f"<Uploads {busy} of {len(self._streams)} streams busy>"

    def __len__(self) -> int:
        return len(self._streams)

    def on_open(self, key: Hashable, cap_bps: float = math.inf) -> None:
        self._streams[key] = _Stream(cap_bps)

    def on_closed(self, key: Hashable) -> None:
        self._streams.pop(key, None)

    def on_busy(self, key: Hashable) -> bool:
        """A stream has something to send. True if it had not: then its share is another from now on."""
        stream = self._streams.get(key)
        if stream is None or not stream.is_idle:
            return False
        stream.is_idle = False
        stream.took.clear()
        return True

    def on_taken(self, key: Hashable, rate_bps: float, unsent_bytes: int, left_bytes: int | None = None) -> None:
        """What a stream sent since the last sharing, how much waits to be sent, and how much is left of its answer."""
        stream = self._streams[key]
        stream.left_bytes = left_bytes
        stream.took.append((rate_bps, stream.rate_bps))
        stream.is_behind = unsent_bytes * 8 > BEHIND_S * stream.rate_bps
        is_quiet = len(stream.took) == LOOK_BACK and all(rate < LEAST_BPS for rate, _ in stream.took)
        stream.is_idle = is_quiet and not unsent_bytes

    def on_sent(self, rate_bps: float, budget_bps: float) -> None:
        """What all together sent since the last sharing: the budget is to be met, neither more nor less."""
        if any(not stream.is_idle for stream in self._streams.values()):
            wished = self._stretch + STRETCH_STEP * (1.0 - rate_bps / budget_bps)
            self._stretch = max(STRETCH[0], min(STRETCH[1], wished))

    def share(self, budget_bps: float) -> dict[Hashable, float]:
        """Everybody's rate from now on. Who has nothing to send holds no share; it is lent one as if it had."""
        budget_bps *= self._stretch
        busy = [stream for stream in self._streams.values() if not stream.is_idle]
        least_bps = LEAST * budget_bps / max(1, len(busy))
        demands = [max(stream.demand_bps(), min(least_bps, stream.cap_bps)) for stream in busy]
        for stream, rate_bps in zip(busy, shares(budget_bps, demands, _weights(busy)), strict=True):
            stream.rate_bps = max(LEAST_BPS, min(stream.cap_bps, rate_bps))
        for stream in self._streams.values():
            if stream.is_idle:
                stream.rate_bps = max(LEAST_BPS, min(stream.cap_bps, budget_bps / (len(busy) + 1)))
        return {key: stream.rate_bps for key, stream in self._streams.items()}


def _weights(busy: Sequence[_Stream]) -> list[float]:
    """By what is left of each answer, where that is known of all: the last to end is whom everybody waits for."""
    left = [max(1, stream.left_bytes) for stream in busy if stream.left_bytes is not None]
    if not busy or len(left) < len(busy):
        return [1.0] * len(busy)
    mean = fmean(left)
    return [max(1 - BIAS, min(1 + BIAS, one / mean)) for one in left]


class RecentRate:
    """How fast a counter of bytes rose lately. Readings may come at any times, the window between two included."""

    def __init__(self, over_s: float) -> None:
        self._over_s = over_s
        self._readings: deque[tuple[float, int]] = deque()

    def rate_bps(self, total_bytes: int, now: float) -> float:
        """Over the last `over_s`, or the time since the reading before that."""
        readings = self._readings
        readings.append((now, total_bytes))
        while len(readings) > 2 and readings[1][0] <= now - self._over_s:
            readings.popleft()
        began, before = readings[0]
        return (total_bytes - before) * 8 / (now - began) if now > began else 0.0
