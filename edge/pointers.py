"""What paths mean now: the pointers an edge stands by, least recently used ones forgotten first."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from swarm.metainfo import Pointer, Signed
from swarm.names import Path

MOST_POINTERS = 200_000


@dataclass
class Known:
    """What this edge knows a path to mean. `made_at` is on this process's monotonic clock."""

    path: Path
    pointer: Pointer
    signed: Signed
    trust: str
    made_at: float
    standing: bool = True  # False for good once it was replaced, doubted, purged or evicted

    def age_s(self, now: float) -> float:
        return max(0.0, now - self.made_at)


class Pointers:
    """The pointer of each path. `retire` is told the version that a path no longer means."""

    def __init__(self, retire: Callable[[bytes], None]) -> None:
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._retire = retire

    def __repr__(self) -> str:
        return f"<Pointers of {len(self._known)} paths>"

    def __len__(self) -> int:
        return len(self._known)

    def known(self, path: Path) -> Known | None:
        known = self._known.get(path.key)
        if known is not None:
            self._known.move_to_end(path.key)
        return known

    def learn(self, known: Known) -> None:
        """A newer (or the same, confirmed) pointer stands. The version it replaces is retired."""
        old = self._known.get(known.path.key)
        self._known[known.path.key] = known
        self._known.move_to_end(known.path.key)
        if old is not None and old is not known:
            old.standing = False
            if old.pointer.version is not None and old.pointer.version != known.pointer.version:
                self._retire(old.pointer.version)
        if len(self._known) > MOST_POINTERS:
            _, forgotten = self._known.popitem(last=False)
            forgotten.standing = False

    def naming(self, path: Path, version: bytes) -> Known | None:
        """The pointer by which the path means this version, if it does."""
        known = self._known.get(path.key)
        return known if known is not None and known.pointer.version == version else None

    def doubt(self, path: Path, version: bytes | None) -> None:
        """What the path meant is gone at the origin, or never became whole here: ask again. Newer knowledge stands."""
        known = self._known.get(path.key)
        if known is not None and known.pointer.version == version:
            self._forget(known)
            if version is not None:
                self._retire(version)

    def forget(self, path: Path, version: bytes) -> None:
        """The path no longer means a version that is itself being dropped."""
        known = self.naming(path, version)
        if known is not None:
            self._forget(known)

    def _forget(self, known: Known) -> None:
        known.standing = False
        del self._known[known.path.key]
