"""Which bytes of each version have been seen before, so that the first time can be told from the next."""

from bisect import bisect_left, bisect_right
from collections import OrderedDict

MOST_VERSIONS = 50_000  # about 10 MB when most are covered whole; the version longest untouched is forgotten first
MOST_RUNS = 1024  # twice what an object of 512 pieces can leave; beyond it an odd run counts as seen


class Coverage:
    """The byte runs seen of each version, merged where they touch."""

    def __init__(self, most_versions: int = MOST_VERSIONS) -> None:
        self._runs: OrderedDict[str, tuple[list[int], list[int]]] = OrderedDict()
        self._most_versions = most_versions

    def add(self, version: str, start: int, stop: int) -> int:
        """Mark bytes [start, stop) of a version as seen; how many of them were new."""
        starts, stops = self._runs.setdefault(version, ([], []))
        self._runs.move_to_end(version)
        if len(self._runs) > self._most_versions:
            self._runs.popitem(last=False)
        if stop <= start:
            return 0
        first = bisect_left(stops, start)  # the first run that touches or follows ours
        last = bisect_right(starts, stop)  # the first run beyond ours
        if first == last and len(starts) >= MOST_RUNS:
            return 0
        seen = sum(min(stops[i], stop) - max(starts[i], start) for i in range(first, last))
        new = stop - start - seen
        if first < last:
            start, stop = min(start, starts[first]), max(stop, stops[last - 1])
        starts[first:last] = [start]
        stops[first:last] = [stop]
        return new
