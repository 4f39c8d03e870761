"""Numbers for pointers that always rise, across restarts and a clock that is set back too.

They are milliseconds of the wall clock, so that replicas of an origin roughly agree. A ceiling above the numbers in
use is kept on disk: after a crash counting goes on from there.
"""

import logging
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

RESERVED = 60_000  # how far the ceiling on disk lies above the last number
MOST_LEAD = 3_600_000  # an asker may have been told by a replica whose clock is ahead, but not by more than an hour


class Sequences:
    """`wall`: the wall clock, in seconds."""

    def __init__(self, wall: Callable[[], float], floor: int = 0) -> None:
        self._wall = wall
        self.last = floor

    def __repr__(self) -> str:
        return f"<Sequences at {self.last}>"

    def next(self, after: int = 0) -> int:
        """A number above all before, and above `after` if that is one a replica could have given."""
        now = int(self._wall() * 1000)
        self.last = max(self.last + 1, now, after + 1 if after < now + MOST_LEAD else 0)
        return self.last

    def ceiling(self) -> int:
        """What to write down: no number above it will be given before it is written down again."""
        return max(self.last, int(self._wall() * 1000)) + RESERVED


def read_ceiling(path: Path) -> int:
    """The ceiling of the last run; 0 if there was none or it cannot be read."""
    try:
        return int(path.read_text("ascii"))
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        log.warning("cannot read %s: %s; numbers go on from the wall clock", path, error)
        return 0


def write_ceiling(path: Path, ceiling: int) -> None:
    """OSError if it cannot be written."""
    partial = path.with_name(path.name + ".new")
    partial.write_text(str(ceiling), "ascii")
    partial.replace(path)
