"""The tracker's rules (hybrid topology): hear announcements, have members dialled, hand out the view. Moves no media.

(nobody) --announced--> LEAF --reached--> ALIVE
LEAF, ALIVE --silent for 5 s, or leaving--> (nobody)
"""

from dataclasses import dataclass

from swarm.members import MOST_MEMBERS, Announcement, Member, State
from swarm.metainfo import Signed

SILENCE_S = 5.0  # a member not heard for so long is no longer in the view; others notice sooner that it is gone
DIAL_AGAIN_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # between attempts to reach a leaf; the last repeats


@dataclass(frozen=True)
class Dial:
    """Order: try to reach this node at this address and prove it is who it says."""

    node: str
    address: str
    incarnation: int


@dataclass(frozen=True)
class Heard:
    """The announcement stands."""


@dataclass(frozen=True)
class NameTaken:
    """Another living edge bears this name, at `address`."""

    address: str


@dataclass(frozen=True)
class Full:
    """More members than the tracker keeps."""


@dataclass
class _Entry:
    said: Announcement
    signed: Signed
    address: str
    state: State
    heard_at: float
    why: str = "not reached yet"
    dial_at: float | None = None
    attempts: int = 0


class Tracker:
    """Times are seconds of any monotonic clock, passed in. `generation` starts at the wall clock's milliseconds, so
    that a tracker that restarts never seems older than the view an edge already has."""

    def __init__(self, generation: int = 1) -> None:
        self._entries: dict[str, _Entry] = {}
        self._reached: dict[str, tuple[int, str]] = {}  # incarnation and address at which each was last reached
        self.generation = generation

    def __repr__(self) -> str:
        alive = sum(entry.state is State.ALIVE for entry in self._entries.values())
        return f"<Tracker {alive} alive, {len(self._entries) - alive} leaves, generation {self.generation}>"

    def on_announced(
        self, said: Announcement, signed: Signed, observed_host: str, now: float
    ) -> Heard | NameTaken | Full:
        """A verified announcement arrived from `observed_host`."""
        self.expire(now)
        entry = self._entries.get(said.node)
        address = said.address or f"http://{observed_host}:{said.port}"
        if entry is not None and self._is_somebody_else(entry, said, address):
            return NameTaken(entry.address)
        if entry is None and len(self._entries) >= MOST_MEMBERS:
            return Full()
        if entry is None or entry.said.incarnation != said.incarnation or entry.address != address:
            self._entries[said.node] = self._new(said, signed, address, now)
            self.generation += 1
        else:
            entry.heard_at = now
        return Heard()

    def _new(self, said: Announcement, signed: Signed, address: str, now: float) -> _Entry:
        """A leaf until reached; one that only fell silent for a while was reached before, and is what it was."""
        if self._reached.get(said.node) == (said.incarnation, address):
            return _Entry(said, signed, address, State.ALIVE, now, why="")
        return _Entry(said, signed, address, State.LEAF, now, dial_at=now)

    def _is_somebody_else(self, entry: _Entry, said: Announcement, address: str) -> bool:
        """A name is pinned to its key while its bearer lives. The same key at another address is a copied key until
        the first falls silent; a restart is the same key with a higher incarnation at the same address."""
        if entry.said.key != said.key:
            return True
        return entry.address != address or said.incarnation < entry.said.incarnation

    def on_left(self, said: Announcement) -> None:
        entry = self._entries.get(said.node)
        if entry is not None and entry.said.key == said.key and entry.said.incarnation <= said.incarnation:
            del self._entries[said.node]
            self.generation += 1

    def on_reached(self, dial: Dial) -> None:
        entry = self._current(dial)
        if entry is not None and entry.state is State.LEAF:
            entry.state, entry.why, entry.dial_at = State.ALIVE, "", None
            self._remember(dial)
            self.generation += 1

    def _remember(self, dial: Dial) -> None:
        self._reached.pop(dial.node, None)
        self._reached[dial.node] = (dial.incarnation, dial.address)
        if len(self._reached) > MOST_MEMBERS:
            del self._reached[next(iter(self._reached))]

    def on_unreached(self, dial: Dial, why: str, now: float) -> None:
        entry = self._current(dial)
        if entry is not None:
            pause = DIAL_AGAIN_S[min(entry.attempts, len(DIAL_AGAIN_S) - 1)]
            entry.attempts += 1
            entry.why = f"not reached at {entry.address}: {why}"
            entry.dial_at = now + pause

    def _current(self, dial: Dial) -> _Entry | None:
        entry = self._entries.get(dial.node)
        same = entry is not None and (entry.address, entry.said.incarnation) == (dial.address, dial.incarnation)
        return entry if same else None

    def due_dials(self, now: float) -> list[Dial]:
        """Whom to dial now; each is given out once until its outcome is told."""
        due = []
        for entry in self._entries.values():
            if entry.dial_at is not None and entry.dial_at <= now:
                entry.dial_at = None
                due.append(Dial(entry.said.node, entry.address, entry.said.incarnation))
        return due

    def expire(self, now: float) -> None:
        silent = [node for node, entry in self._entries.items() if now - entry.heard_at > SILENCE_S]
        for node in silent:
            del self._entries[node]
            self.generation += 1

    def next_deadline(self) -> float | None:
        """When `expire` or `due_dials` next has something to do."""
        deadlines = [entry.heard_at + SILENCE_S for entry in self._entries.values()]
        deadlines += [entry.dial_at for entry in self._entries.values() if entry.dial_at is not None]
        return min(deadlines, default=None)

    def view(self) -> tuple[Member, ...]:
        return tuple(Member(entry.signed, entry.address, entry.state) for entry in self._entries.values())

    def state_of(self, node: str) -> tuple[State, str]:
        """A member's state and, for a leaf, why it is one."""
        entry = self._entries.get(node)
        return (entry.state, entry.why) if entry else (State.LEAF, "not announced")

    def counts(self) -> dict[State, int]:
        return {state: sum(e.state is state for e in self._entries.values()) for state in State}
