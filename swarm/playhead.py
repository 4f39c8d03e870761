"""The playhead of one viewer: it starts when enough is buffered, moves with time, and stalls when nothing is left."""

from enum import Enum

TOLERANCE_S = 1e-3  # float dust, and less than a frame


class State(Enum):
    STARTING = "starting"
    PLAYING = "playing"
    STALLED = "stalled"
    PAUSED = "paused"
    ENDED = "ended"


class Playhead:
    """Positions are seconds of content; `advance` moves time on, and every other call happens at that time.

    `watched_s` + `stalled_s` + pauses = time since the first frame, until the end is reached.
    """

    def __init__(self, now: float, startup_buffer_s: float) -> None:
        self.state = State.STARTING
        self.startup_buffer_s = startup_buffer_s
        self.position_s = 0.0
        self.watched_s = 0.0
        self.stalls = 0
        self.stalled_s = 0.0
        self.first_frame_at: float | None = None
        self.is_held = True  # the stream has not grown enough to begin: see `release`
        self._now = now
        self._end_s = 0.0
        self._holes: list[tuple[float, float]] = []
        self._is_complete = False
        self._is_pause_wanted = False

    def __repr__(self) -> str:
        place = f"{self.state.value} at {self.position_s:.2f} s, {self.buffer_s:.2f} s ahead"
        return f"<Playhead {place}, {self.stalls} stalls>"

    @property
    def buffer_s(self) -> float:
        """Seconds that can be played from here, holes left out."""
        lost_s = sum(max(0.0, min(end, self._end_s) - max(start, self.position_s)) for start, end in self._holes)
        return max(0.0, self._end_s - self.position_s - lost_s)

    def advance(self, now: float) -> None:
        """Move time on; the buffer has been what it is since the last call."""
        elapsed_s = now - self._now
        self._now = now
        if self.state is State.STALLED:
            self.stalled_s += elapsed_s
        if self.state is not State.PLAYING:
            return
        played_s = min(elapsed_s, self.buffer_s)
        self._move(played_s)
        self.watched_s += played_s
        missed_s = elapsed_s - played_s
        if self._is_complete and self.buffer_s <= TOLERANCE_S:
            self.state = State.ENDED
        elif missed_s > TOLERANCE_S:
            self.state = State.STALLED
            self.stalls += 1
            self.stalled_s += missed_s

    def begin_at(self, position_s: float) -> None:
        """Before the first frame: play from here."""
        self.position_s = position_s

    def release(self) -> None:
        """Playing may begin as soon as enough is buffered."""
        self.is_held = False
        self._play_if_filled()

    def extend_to(self, end_s: float) -> None:
        """Everything up to here is buffered, but for the holes."""
        self._end_s = max(self._end_s, end_s)
        self._play_if_filled()

    def skip(self, start_s: float, end_s: float) -> None:
        """Nothing will ever come for this stretch: the playhead will jump over it."""
        self._holes.append((start_s, end_s))

    def complete(self) -> None:
        """Nothing comes after what is buffered."""
        self._is_complete = True
        self.is_held = False
        self._play_if_filled()
        if self.state is State.STALLED:
            self.state = State.ENDED

    def pause(self) -> None:
        """The viewer stops watching; the buffer may go on filling."""
        self._is_pause_wanted = True
        if self.state in (State.PLAYING, State.STALLED):
            self.state = State.PAUSED

    def resume(self) -> None:
        """The viewer is back; with an empty buffer this waits like a stall, and counts as one."""
        self._is_pause_wanted = False
        if self.state is State.PAUSED:
            self.state = State.PLAYING

    def _move(self, played_s: float) -> None:
        self.position_s += played_s
        for start, end in sorted(self._holes):
            if start <= self.position_s + TOLERANCE_S and end <= self._end_s:
                self.position_s += end - start
                self._holes.remove((start, end))

    def _play_if_filled(self) -> None:
        enough_s = TOLERANCE_S if self._is_complete else self.startup_buffer_s - TOLERANCE_S
        is_filled = self.buffer_s >= enough_s
        if not is_filled or self.is_held or self.state not in (State.STARTING, State.STALLED):
            return
        if self.first_frame_at is None:
            self.first_frame_at = self._now
        self.state = State.PAUSED if self._is_pause_wanted else State.PLAYING
