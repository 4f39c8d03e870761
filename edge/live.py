"""Which directories hold a stream that is live here: so that a live segment can be told from a file of that name."""

from collections import OrderedDict
from dataclasses import dataclass

from swarm.names import Path

FORGOTTEN_S = 60.0  # after its playlist was last sent to a viewer, a stream is no longer watched here
MOST_STREAMS = 10_000


@dataclass
class _Watched:
    since: float
    last: float


class LiveStreams:
    """Live playlists that viewers of this edge are sent. Times are the swarm's wall clock, as `born` of a version."""

    def __init__(self) -> None:
        self._directories: OrderedDict[str, _Watched] = OrderedDict()

    def __repr__(self) -> str:
        return f"<LiveStreams {list(self._directories)}>"

    def on_playlist(self, path: Path, now: float) -> None:
        """A live playlist is sent to a viewer."""
        directory = _directory(path.site + path.url_path)
        watched = self._directories.get(directory)
        if watched is None or now - watched.last > FORGOTTEN_S:
            watched = self._directories[directory] = _Watched(now, now)
        watched.last = now
        self._directories.move_to_end(directory)
        if len(self._directories) > MOST_STREAMS:
            self._directories.popitem(last=False)

    def was_awaited(self, path: Path, born: float, now: float) -> bool:
        """Whether a file came into being beside or below a live playlist while that was watched here."""
        directory = site_and_path = path.site + path.url_path
        while "/" in directory.removesuffix("/"):
            directory = _directory(directory.removesuffix("/"))
            watched = self._directories.get(directory)
            if watched is not None:
                return site_and_path != directory and watched.since <= born and now - watched.last <= FORGOTTEN_S
        return False


def _directory(name: str) -> str:
    return name[: name.rindex("/") + 1]
