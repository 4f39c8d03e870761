"""Reading at a rate: how long to pause after so many bytes, so that a sender who is not ours sends no faster."""

CATCH_UP_S = 0.25  # a reader that is late by less makes up for it; after a longer pause it begins anew


class Meter:
    """All that is read at one rate, by however many readers: each pauses as long as it is told."""

    def __init__(self) -> None:
        self._free_at = -1.0e9

    def __repr__(self) -> str:
        return f"<Meter free at {self._free_at:.3f}>"

    def pause_s(self, read_bytes: int, rate_bps: float, now: float) -> float:
        """How long to wait before reading on, after `read_bytes` at `now`."""
        began_at = self._free_at if now - self._free_at <= CATCH_UP_S else now
        self._free_at = began_at + read_bytes * 8 / rate_bps
        return max(0.0, self._free_at - now)
