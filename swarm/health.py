"""What one edge has learnt of its links to others: back off from the silent and the broken, never accuse (DESIGN 3).

    OK --cannot be reached--> AWAY --pause over--> (tried again) --answers--> OK
    OK --3 bad answers in 10 s--> BROKEN --pause over--> (tried again) --a good piece--> OK

Bad bytes without a valid signature over them are a broken link, not a liar: no ban, a local pause that doubles.
"""

from dataclasses import dataclass, field
from enum import StrEnum

AWAY_S = (0.5, 30.0)  # first and longest pause after an edge could not be reached
BROKEN_S = (5.0, 120.0)  # first and longest pause after a link proved broken
BAD_ANSWERS = 3
BAD_WINDOW_S = 10.0


class Link(StrEnum):
    OK = "ok"
    AWAY = "away"
    BROKEN = "broken"


@dataclass
class _Record:
    state: Link = Link.OK
    until: float = 0.0
    pause_s: float = 0.0
    bad_at: list[float] = field(default_factory=list)


class Health:
    """Times are seconds of any monotonic clock, passed in."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def __repr__(self) -> str:
        states = ", ".join(f"{node} {record.state}" for node, record in self._records.items())
        return f"<Health {states or 'all well'}>"

    def state(self, node: str, now: float) -> Link:
        record = self._records.get(node)
        return record.state if record is not None and now < record.until else Link.OK

    def usable(self, node: str, now: float) -> bool:
        return self.state(node, now) is Link.OK

    def unusable(self, now: float) -> list[str]:
        """Edges to leave out for now."""
        return [node for node, record in self._records.items() if now < record.until]

    def on_good(self, node: str) -> None:
        """A whole, verified answer came from it."""
        self._records.pop(node, None)

    def on_answered(self, node: str) -> None:
        """It is there, and had nothing for us: no proof of a good link."""
        record = self._records.get(node)
        if record is not None and record.state is not Link.BROKEN:
            record.state, record.until, record.pause_s = Link.OK, 0.0, 0.0

    def on_unreachable(self, node: str, now: float) -> None:
        self._pause(self._records.setdefault(node, _Record()), Link.AWAY, AWAY_S, now)

    def on_bad(self, node: str, now: float) -> bool:
        """An answer that does not verify or cannot be read. True when this makes the link count as broken."""
        record = self._records.setdefault(node, _Record())
        record.bad_at = [at for at in record.bad_at if now - at < BAD_WINDOW_S] + [now]
        if len(record.bad_at) < BAD_ANSWERS:
            return False
        record.bad_at.clear()
        self._pause(record, Link.BROKEN, BROKEN_S, now)
        return True

    def on_wrong(self, node: str, now: float) -> None:
        """It vouched for what the origin does not bear out: no accident of a link, and not always evidence."""
        self._pause(self._records.setdefault(node, _Record()), Link.BROKEN, BROKEN_S, now)

    def _pause(self, record: _Record, state: Link, bounds: tuple[float, float], now: float) -> None:
        if now < record.until and record.state in (state, Link.BROKEN):
            return  # requests that failed at once are one event; silence does not shorten the pause of a broken link
        first, longest = bounds
        record.pause_s = min(longest, record.pause_s * 2) if record.state is state and record.pause_s else first
        record.state, record.until = state, now + record.pause_s
