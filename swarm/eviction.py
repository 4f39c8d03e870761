"""What to drop when a tier is over its budget: CAR, weighed in bytes, with a place for the light.

Bansal and Modha, "CAR: Clock with Adaptive Replacement" (FAST 2004). A key that is new stands in *probation*, first in
first out. A hit only marks it. When its turn comes a marked key moves on to *main*, an unmarked one is evicted; in main
the marked go round once more, unmarked. What was evicted leaves a *ghost*, a key without a body: what comes back while
its ghost is here goes to main at once, and shows that its queue was too short, so that queue grows at the cost of the
other. Under a scan probation shrinks and main is left in peace; where everything is new and soon forgotten it grows
until the whole is nearly an LRU.

Three things are our own. All shares are of bytes. Ghosts stand in a small table, where a new one may take the place of
an older one. And a key that weighs under a sixteenth of the mean passes probation unmarked: all such keys together can
never take more than a sixteenth of the bytes, and to lose a playlist for the sake of a thousandth of a segment is a bad
trade. docs/decisions/0010 has the figures.
"""

from array import array
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

# Each queue is a ring through the slot of the same number, which holds no key.
EXPIRED, PROBATION, MAIN = RINGS = range(3)
NOBODY = -1

LIGHT = 16  # times lighter than the mean
FIRST_SHARE, LEAST_SHARE, MOST_SHARE = 0.1, 0.02, 0.9  # of the bytes, for probation
FIRST_GHOSTS = 16  # of each kind; then at least a quarter as many as keys
KEYS_PER_GHOST = 4
BITS_64 = (1 << 64) - 1


class Keeper(Generic[Key]):
    """Decides which keys stay within `capacity_bytes`. Holds no bodies: the caller drops what is returned as evicted.

    Always: `used_bytes` is the sum of the weights of the keys in it, and at most `capacity_bytes`. Each call is O(1)
    amortised. Unknown keys are KeyError, weights below 0 ValueError.

    `number_of` gives the 64 bits by which a key is known when it comes back: any hash that spreads, the same as long as
    the keeper lives. It is asked when a key comes in and when it is evicted.

    A key has a slot: a number at which the arrays tell of it.
    """

    def __init__(self, capacity_bytes: int, number_of: Callable[[Key], int]) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self._number_of = number_of
        self._target_bytes = int(capacity_bytes * FIRST_SHARE)  # what probation may hold while main has something
        self._probation_ghosts = _Ghosts()
        self._main_ghosts = _Ghosts()
        self._slots: dict[Key, int] = {}
        self._keys: list[Any] = [None for _ in RINGS]
        self._weights = array("q", [0 for _ in RINGS])
        self._newer = array("i", RINGS)
        self._older = array("i", RINGS)
        self._ring = bytearray(RINGS)
        self._marked = bytearray(len(RINGS))
        self._free = NOBODY  # a stack of slots, linked by `_newer`
        self._probation_bytes = 0

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: object) -> bool:
        return key in self._slots

    def __iter__(self) -> Iterator[Key]:
        """Keys in the order they stand to go, were there no more hits. Admitted again in this order, the last to go
        stay longest."""
        for ring in RINGS:
            slot = self._newer[ring]
            while slot != ring:
                yield self._keys[slot]
                slot = self._newer[slot]

    def __repr__(self) -> str:
        return f"<Keeper {len(self)} keys, {self.used_bytes} of {self.capacity_bytes} bytes>"

    def weight(self, key: Key) -> int:
        """The bytes a key counts for."""
        return self._weights[self._slots[key]]

    def admit(self, key: Key, weight: int) -> list[Key]:
        """Takes a key in, or gives one that is in it a new weight; returns the keys evicted for it.

        A key heavier than the whole is its own and only victim: it is not in afterwards.
        """
        if weight < 0:
            raise ValueError(f"negative weight {weight}")
        slot = self._slots.get(key)
        if weight > self.capacity_bytes:
            if slot is not None:
                self.remove(key)
            return [key]
        if slot is not None:
            return self._reweigh(slot, weight)
        ring = self._recall(key, weight)
        evicted = self._make_room(weight)
        self._slots[key] = slot = self._take_slot(key, weight)
        self._link(slot, ring)
        return evicted

    def restore(self, keys: list[Key], weights: Sequence[int]) -> list[Key]:
        """Takes many keys into an empty keeper, as `admit` would one after another; returns those there is no room for.
        ValueError if it is not empty."""
        if self._slots or self._free != NOBODY:
            raise ValueError("keys are restored into an empty keeper")
        first, end = len(self._keys), len(self._keys) + len(keys)
        self._keys += keys
        self._slots.update(zip(keys, range(first, end), strict=True))
        self._weights.extend(weights)
        self._newer.extend(range(first + 1, end + 1))
        self._older.extend(range(first - 1, end - 1))
        self._ring += bytes([PROBATION]) * len(keys)
        self._marked += bytes(len(keys))
        if keys:
            self._newer[PROBATION], self._older[first] = first, PROBATION
            self._older[PROBATION], self._newer[end - 1] = end - 1, PROBATION
        self.used_bytes = self._probation_bytes = sum(weights)
        return self._make_room(0)

    def touch(self, key: Key) -> None:
        """A hit."""
        self._marked[self._slots[key]] = 1

    def expire(self, key: Key) -> None:
        """Nobody will ask for it again (a segment that left its playlist): it goes before all others, and hits no
        longer save it."""
        slot = self._slots[key]
        self._unlink(slot)
        self._link(slot, EXPIRED)

    def remove(self, key: Key) -> int:
        """Takes a key out (purged, failed); returns its weight."""
        slot = self._slots.pop(key)
        self._unlink(slot)
        self._free_slot(slot)
        return self._weights[slot]

    def resize(self, capacity_bytes: int) -> list[Key]:
        """Another capacity; returns the keys evicted for it."""
        self.capacity_bytes = capacity_bytes
        self._aim(self._target_bytes)
        return self._make_room(0)

    def _reweigh(self, slot: int, weight: int) -> list[Key]:
        """It goes to the new end of its queue, never out."""
        ring = self._ring[slot]
        self._unlink(slot)
        self._weights[slot] = weight
        evicted = self._make_room(weight)
        self._link(slot, ring)
        return evicted

    def _make_room(self, weight: int) -> list[Key]:
        """Evicts until `weight` more bytes fit; the caller has seen to it that they can."""
        evicted: list[Key] = []
        while self.used_bytes + weight > self.capacity_bytes:
            evicted.append(self._evict())
        return evicted

    def _evict(self) -> Key:
        """The first in turn that has not earned its stay. Something must be in."""
        while True:
            ring = self._ring_in_turn()
            slot = self._newer[ring]
            earned = self._has_earned_its_stay(slot, ring)
            self._unlink(slot)
            if not earned:
                return self._drop(slot, ring)
            self._marked[slot] = 0
            self._link(slot, MAIN)

    def _ring_in_turn(self) -> int:
        if self._newer[EXPIRED] != EXPIRED:
            return EXPIRED
        if self._probation_bytes > self._target_bytes or self._newer[MAIN] == MAIN:
            return PROBATION
        return MAIN

    def _has_earned_its_stay(self, slot: int, ring: int) -> bool:
        if ring == EXPIRED:
            return False
        if self._marked[slot]:
            return True
        return ring == PROBATION and self._weights[slot] * LIGHT * len(self._slots) < self.used_bytes

    def _drop(self, slot: int, ring: int) -> Key:
        """Leaves a ghost, unless it had expired."""
        key: Key = self._keys[slot]
        if ring != EXPIRED:
            ghosts = self._probation_ghosts if ring == PROBATION else self._main_ghosts
            ghosts.add(self._number_of(key), self._weights[slot], len(self._slots))
        del self._slots[key]
        self._free_slot(slot)
        return key

    def _recall(self, key: Key, weight: int) -> int:
        """The queue for a key that comes in: main if its ghost is here, from which is learnt which queue was too short.

        The step is the paper's: larger if ghosts of this kind are the scarcer.
        """
        number = self._number_of(key)
        in_probation, in_main = self._probation_ghosts.total_bytes, self._main_ghosts.total_bytes
        if self._probation_ghosts.take(number):
            self._aim(self._target_bytes + weight * max(1.0, in_main / max(1, in_probation)))
        elif self._main_ghosts.take(number):
            self._aim(self._target_bytes - weight * max(1.0, in_probation / max(1, in_main)))
        else:
            return PROBATION
        return MAIN

    def _aim(self, target_bytes: float) -> None:
        least, most = LEAST_SHARE * self.capacity_bytes, MOST_SHARE * self.capacity_bytes
        self._target_bytes = int(min(most, max(least, target_bytes)))

    # --- slots and rings

    def _take_slot(self, key: Key, weight: int) -> int:
        """Unlinked, unmarked."""
        slot = self._free
        if slot == NOBODY:
            self._keys.append(key)
            self._weights.append(weight)
            self._newer.append(NOBODY)
            self._older.append(NOBODY)
            self._ring.append(0)
            self._marked.append(0)
            return len(self._keys) - 1
        self._free = self._newer[slot]
        self._keys[slot] = key
        self._weights[slot] = weight
        self._marked[slot] = 0
        return slot

    def _free_slot(self, slot: int) -> None:
        self._keys[slot] = None
        self._newer[slot] = self._free
        self._free = slot

    def _link(self, slot: int, ring: int) -> None:
        """To the new end of a queue."""
        newer, older = self._newer, self._older
        newest = older[ring]
        newer[newest] = older[ring] = slot
        older[slot] = newest
        newer[slot] = ring
        self._ring[slot] = ring
        self.used_bytes += self._weights[slot]
        if ring == PROBATION:
            self._probation_bytes += self._weights[slot]

    def _unlink(self, slot: int) -> None:
        before, after = self._older[slot], self._newer[slot]
        self._newer[before] = after
        self._older[after] = before
        self.used_bytes -= self._weights[slot]
        if self._ring[slot] == PROBATION:
            self._probation_bytes -= self._weights[slot]


class _Ghosts:
    """What was evicted lately from one queue, by number. Each number has one place, which it takes from another."""

    def __init__(self) -> None:
        self._clear(FIRST_GHOSTS)

    def _clear(self, places: int) -> None:
        self.total_bytes = 0  # what they weighed
        self._places = places  # a power of two
        self._numbers = array("Q", bytes(8 * places))
        self._weights = array("q", [NOBODY]) * places

    def add(self, number: int, weight: int, keys: int) -> None:
        """`keys`: how many there are that are no ghosts."""
        if keys > KEYS_PER_GHOST * self._places:
            self._clear(2 * self._places)  # the few that are lost come again
        place = number & (self._places - 1)
        if self._weights[place] != NOBODY:
            self.total_bytes -= self._weights[place]
        self._numbers[place] = number & BITS_64
        self._weights[place] = weight
        self.total_bytes += weight

    def take(self, number: int) -> bool:
        """Whether there was one, which is gone with that."""
        place = number & (self._places - 1)
        weight = self._weights[place]
        if weight == NOBODY or self._numbers[place] != number & BITS_64:
            return False
        self.total_bytes -= weight
        self._weights[place] = NOBODY
        return True
