"""What to drop when a tier is over its budget: SIEVE, weighed in bytes.

Zhang et al., "SIEVE is Simpler than LRU: an Efficient Turn-Key Eviction Algorithm for Web Caches" (NSDI 2024). Keys
stand in one queue in the order they came. A hit only marks its key. A hand walks from the oldest to the newest: it
takes the mark from marked keys, evicts the first unmarked one, and next time goes on from there. A scan of things asked
for once passes through without displacing what is asked for again.
"""

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class _Entry(Generic[Key]):
    """A key in the queue, linked to its neighbours."""

    __slots__ = ("key", "newer", "older", "pins", "visited", "weight")

    def __init__(self, key: Key, weight: int) -> None:
        self.key = key
        self.weight = weight
        self.visited = False
        self.pins = 0
        self.newer: _Entry[Key] | None = None
        self.older: _Entry[Key] | None = None


class Sieve(Generic[Key]):
    """Decides which keys stay within `capacity_bytes`. Holds no bodies: the caller drops what is returned as evicted.

    Always: `used_bytes` is the sum of the weights of the keys in it, and at most `capacity_bytes`. Each call is O(1)
    amortised over keys that are not pinned. Unknown keys are KeyError, weights below 0 ValueError.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self._pinned_bytes = 0
        self._entries: dict[Key, _Entry[Key]] = {}
        self._newest: _Entry[Key] | None = None
        self._oldest: _Entry[Key] | None = None
        self._hand: _Entry[Key] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[Key]:
        """Keys from the oldest to the newest: admitting them again in this order rebuilds the queue."""
        entry = self._oldest
        while entry is not None:
            yield entry.key
            entry = entry.newer

    def __repr__(self) -> str:
        return f"<Sieve {len(self)} keys, {self.used_bytes} of {self.capacity_bytes} bytes>"

    def weight(self, key: Key) -> int:
        """The bytes a key counts for."""
        return self._entries[key].weight

    def admit(self, key: Key, weight: int) -> list[Key]:
        """Takes a key in, or gives one that is in it a new weight; returns the keys evicted for it.

        A key that cannot fit beside the pinned ones is its own and only victim: it is not in afterwards, pinned or not.
        """
        if weight < 0:
            raise ValueError(f"negative weight {weight}")
        entry = self._entries.get(key)
        pinned_beside = self._pinned_bytes - (entry.weight if entry is not None and entry.pins else 0)
        if weight > self.capacity_bytes - pinned_beside:
            if entry is not None:
                self.remove(key)
            return [key]
        if entry is None:
            evicted = self._make_room(weight, None)
            self._append(_Entry(key, weight))
            return evicted
        evicted = self._make_room(weight - entry.weight, entry)
        self._reweigh(entry, weight)
        return evicted

    def touch(self, key: Key) -> None:
        """A hit."""
        self._entries[key].visited = True

    def pin(self, key: Key) -> None:
        """Keeps a key in, whatever comes, until as many `unpin` as `pin`: a fill is under way."""
        entry = self._entries[key]
        if entry.pins == 0:
            self._pinned_bytes += entry.weight
        entry.pins += 1

    def unpin(self, key: Key) -> None:
        """Undoes one `pin`. ValueError if there is none."""
        entry = self._entries[key]
        if entry.pins == 0:
            raise ValueError(f"{key!r} is not pinned")
        entry.pins -= 1
        if entry.pins == 0:
            self._pinned_bytes -= entry.weight

    def remove(self, key: Key) -> int:
        """Takes a key out (purged, failed), pinned or not; returns its weight."""
        entry = self._entries.pop(key)
        if entry.pins:
            self._pinned_bytes -= entry.weight
        self.used_bytes -= entry.weight
        if self._hand is entry:
            self._hand = entry.newer
        if entry.newer is not None:
            entry.newer.older = entry.older
        else:
            self._newest = entry.older
        if entry.older is not None:
            entry.older.newer = entry.newer
        else:
            self._oldest = entry.newer
        return entry.weight

    def _make_room(self, weight: int, spared: _Entry[Key] | None) -> list[Key]:
        """Evicts until `weight` more bytes fit. The caller has seen to it that they fit beside the pinned ones."""
        evicted: list[Key] = []
        while self.used_bytes + weight > self.capacity_bytes:
            victim = self._next_victim(spared)
            self.remove(victim.key)
            evicted.append(victim.key)
        return evicted

    def _next_victim(self, spared: _Entry[Key] | None) -> _Entry[Key]:
        """Moves the hand to the first key that is unmarked, unpinned and not `spared`, unmarking those it passes."""
        entry = self._hand or self._oldest
        while entry is not None and (entry.visited or entry.pins or entry is spared):
            if entry.pins == 0:
                entry.visited = False
            entry = entry.newer or self._oldest
        assert entry is not None, "only called when something may be evicted"
        self._hand = entry
        return entry

    def _append(self, entry: _Entry[Key]) -> None:
        entry.older = self._newest
        if self._newest is not None:
            self._newest.newer = entry
        else:
            self._oldest = entry
        self._newest = entry
        self._entries[entry.key] = entry
        self.used_bytes += entry.weight

    def _reweigh(self, entry: _Entry[Key], weight: int) -> None:
        self.used_bytes += weight - entry.weight
        if entry.pins:
            self._pinned_bytes += weight - entry.weight
        entry.weight = weight
