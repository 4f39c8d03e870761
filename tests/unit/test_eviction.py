"""The keeper, worked by hand, and beside a plain model of its rules that can be read in one go."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from swarm.eviction import Keeper


def number_of(key: str) -> int:
    return int.from_bytes(key.encode())


def keeper_of(capacity_bytes: int, **weights: int) -> Keeper[str]:
    keeper = Keeper(capacity_bytes, number_of)
    for key, weight in weights.items():
        assert keeper.admit(key, weight) == []
    return keeper


def test_what_came_first_and_was_not_asked_for_again_goes_first():
    keeper = keeper_of(30, a=10, b=10, c=10)
    assert keeper.admit("d", 10) == ["a"]
    assert list(keeper) == ["b", "c", "d"]


def test_a_hit_moves_a_key_to_main_when_its_turn_comes():
    keeper = keeper_of(30, a=10, b=10, c=10)
    keeper.touch("a")
    assert list(keeper) == ["a", "b", "c"], "a hit only marks"
    assert keeper.admit("d", 10) == ["b"]
    assert list(keeper) == ["c", "d", "a"], "a is in main now, and goes last"
    assert [keeper.admit(key, 10) for key in "efg"] == [["c"], ["d"], ["e"]]


def test_in_main_a_hit_saves_a_key_for_one_more_round():
    keeper = keeper_of(30, a=10, b=10, c=10)
    for key in "abc":
        keeper.touch(key)
    assert keeper.admit("d", 10) == ["a"], "all had earned main, and none of them another round there"
    keeper.touch("b")
    assert keeper.admit("e", 10) == ["d"]
    keeper.touch("e")
    assert keeper.admit("f", 10) == ["c"], "b stays for its hit"
    assert list(keeper) == ["f", "e", "b"]


def test_a_scan_does_not_displace_what_is_asked_for_again():
    keeper = keeper_of(100, a=10, b=10, c=10, d=10, e=10)
    for number in range(1000):
        if number % 100 == 0:
            for key in "abcde":
                keeper.touch(key)
        keeper.admit(f"x{number}", 10)
    assert all(key in keeper for key in "abcde")


def test_what_comes_back_after_its_eviction_goes_to_main():
    keeper = keeper_of(100, **dict.fromkeys("abcdefghij", 10))
    assert keeper.admit("k", 10) == ["a"]
    assert keeper.admit("a", 10) == ["b"]
    for number in range(1000):
        keeper.admit(f"x{number}", 10)
    assert "a" in keeper
    assert list(keeper)[-1] == "a"


def test_a_key_is_known_again_by_its_number():
    rows = {1: 100, 2: 200, 3: 300}
    keeper: Keeper[int] = Keeper(30, lambda row: rows[row])
    for row in rows:
        keeper.admit(row, 10)
    rows |= {4: 400, 5: 600}
    assert keeper.admit(4, 10) == [1]
    rows[1] = 500
    assert keeper.admit(1, 10) == [2], "this row stands for something else now, which is new"
    rows[2] = 200
    assert keeper.admit(2, 10) == [3]
    assert keeper.admit(5, 10) == [4]
    assert list(keeper) == [1, 5, 2], "2 came back as itself, and went to main"


def test_probation_grows_while_what_comes_back_was_evicted_from_it():
    """Everything is asked for twice, with eight others between: an LRU that holds eleven always has it."""
    keeper: Keeper[int] = Keeper(99, int)
    missed = [0, 0, 0, 0]
    for number in range(4000):
        for key in (number, number - 8):
            if key in keeper:
                keeper.touch(key)
            else:
                missed[number // 1000] += key != number
                keeper.admit(key, 9)
    assert missed == [16, 0, 0, 0]


def test_a_key_much_lighter_than_the_others_passes_probation():
    keeper = keeper_of(1000, playlist=1, a=333, b=333, c=333)
    assert keeper.admit("d", 333) == ["a"]
    assert keeper.admit("e", 333) == ["b"]
    assert keeper.admit("f", 333) == ["c"]
    assert "playlist" in keeper


def test_a_heavy_key_evicts_several_light_ones():
    keeper = keeper_of(30, a=10, b=10, c=10)
    assert keeper.admit("big", 25) == ["a", "b", "c"]
    assert keeper.used_bytes == 25


def test_a_key_heavier_than_everything_is_its_own_victim():
    keeper = keeper_of(30, a=10)
    assert keeper.admit("huge", 31) == ["huge"]
    assert list(keeper) == ["a"]
    assert keeper_of(0).admit("any", 1) == ["any"]


def test_a_key_may_grow_and_shrink_while_it_is_filled():
    keeper = keeper_of(30, a=10, b=10)
    assert keeper.admit("a", 20) == []
    assert keeper.admit("a", 25) == ["b"], "never the growing key itself"
    assert keeper.admit("a", 5) == []
    assert (keeper.used_bytes, keeper.weight("a")) == (5, 5)
    assert keeper.admit("a", 31) == ["a"]
    assert (keeper.used_bytes, len(keeper)) == (0, 0)


def test_what_has_expired_goes_first_whatever_was_asked_of_it():
    keeper = keeper_of(30, a=10, b=10, c=10)
    keeper.touch("c")
    keeper.expire("c")
    keeper.touch("c")
    assert keeper.admit("d", 5) == ["c"]
    assert keeper.admit("c", 5) == []
    assert list(keeper) == ["a", "b", "d", "c"], "nor is it remembered"


def test_a_smaller_capacity_evicts():
    keeper = keeper_of(30, a=10, b=10, c=10)
    assert keeper.resize(15) == ["a", "b"]
    assert keeper.admit("d", 16) == ["d"]
    assert keeper.resize(30) == []
    assert keeper.admit("d", 16) == []


def test_unknown_keys_are_errors():
    keeper = keeper_of(30, a=10, b=10, c=10)
    assert keeper.admit("z", 10) == ["a"]
    for call in (keeper.touch, keeper.expire, keeper.remove, keeper.weight):
        with pytest.raises(KeyError):
            call("a")
    with pytest.raises(ValueError, match="negative weight -1"):
        keeper.admit("b", -1)


def test_it_prints_its_state():
    assert repr(keeper_of(30, a=10, b=5)) == "<Keeper 2 keys, 15 of 30 bytes>"


class Model:
    """The same rules with lists: probation, main and expired hold keys from oldest to newest."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.target = int(capacity * 0.1)
        self.queues: dict[str, list[int]] = {"expired": [], "probation": [], "main": []}
        self.ghosts: dict[str, dict[int, tuple[int, int]]] = {"probation": {}, "main": {}}  # place -> number, weight
        self.places = {"probation": 16, "main": 16}
        self.weights: dict[int, int] = {}
        self.marked: set[int] = set()

    def used(self, keys: list[int] | None = None) -> int:
        return sum(self.weights[key] for key in (self.weights if keys is None else keys))

    def queue_of(self, key: int) -> list[int]:
        return next(queue for queue in self.queues.values() if key in queue)

    def forget(self, key: int) -> None:
        self.queue_of(key).remove(key)
        del self.weights[key]
        self.marked.discard(key)

    def aim(self, wanted: float) -> None:
        self.target = int(min(0.9 * self.capacity, max(0.02 * self.capacity, wanted)))

    def admit(self, key: int, weight: int) -> list[int]:
        if weight > self.capacity:
            if key in self.weights:
                self.forget(key)
            return [key]
        if key in self.weights:
            queue = self.queue_of(key)
            queue.remove(key)
            self.weights[key] = 0
        else:
            queue = self.queues[self.recall(key, weight)]
        evicted = self.make_room(weight)
        self.weights[key] = weight
        queue.append(key)
        return evicted

    def recall(self, key: int, weight: int) -> str:
        bytes_of = {kind: sum(weight for _, weight in table.values()) for kind, table in self.ghosts.items()}
        for kind, other, sign in (("probation", "main", 1), ("main", "probation", -1)):
            place = key % self.places[kind]
            if self.ghosts[kind].get(place, (None, 0))[0] == key:
                del self.ghosts[kind][place]
                self.aim(self.target + sign * weight * max(1.0, bytes_of[other] / max(1, bytes_of[kind])))
                return "main"
        return "probation"

    def make_room(self, weight: int) -> list[int]:
        evicted = []
        while self.used() + weight > self.capacity:
            name = self.in_turn()
            key = self.queues[name].pop(0)
            is_light = name == "probation" and self.weights[key] * 16 * len(self.weights) < self.used()
            if name != "expired" and (key in self.marked or is_light):
                self.marked.discard(key)
                self.queues["main"].append(key)
            else:
                self.haunt(name, key)
                del self.weights[key]
                self.marked.discard(key)
                evicted.append(key)
        return evicted

    def in_turn(self) -> str:
        if self.queues["expired"]:
            return "expired"
        is_long = self.used(self.queues["probation"]) > self.target
        return "probation" if is_long or not self.queues["main"] else "main"

    def haunt(self, name: str, key: int) -> None:
        if name == "expired":
            return
        if len(self.weights) > 4 * self.places[name]:
            self.places[name] *= 2
            self.ghosts[name].clear()
        self.ghosts[name][key % self.places[name]] = key, self.weights[key]


class KeeperMachine(RuleBasedStateMachine):
    """Any sequence of calls."""

    keys = st.integers(0, 60)
    weights = st.integers(0, 3) | st.integers(0, 12) | st.integers(0, 120)

    def __init__(self) -> None:
        super().__init__()
        self.keeper: Keeper[int] = Keeper(100, int)
        self.model = Model(100)

    @rule(key=keys, weight=weights)
    def admit(self, key: int, weight: int) -> None:
        assert self.keeper.admit(key, weight) == self.model.admit(key, weight)

    @rule(first=keys, count=st.integers(1, 30), weight=weights)
    def ask_for_many(self, first: int, count: int, weight: int) -> None:
        for key in range(first, first + count):
            if key in self.keeper:
                self.touch_one(key)
            else:
                self.admit(key, weight)

    @precondition(lambda self: self.model.weights)
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        self.touch_one(data.draw(st.sampled_from(sorted(self.model.weights))))

    def touch_one(self, key: int) -> None:
        self.keeper.touch(key)
        self.model.marked.add(key)

    @precondition(lambda self: self.model.weights)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.weights)))
        assert self.keeper.remove(key) == self.model.weights[key]
        self.model.forget(key)

    @precondition(lambda self: self.model.weights)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.weights)))
        self.keeper.expire(key)
        self.model.queue_of(key).remove(key)
        self.model.queues["expired"].append(key)

    @rule(capacity=st.sampled_from([0, 50, 100, 400]))
    def resize(self, capacity: int) -> None:
        self.model.capacity = capacity
        self.model.aim(self.model.target)
        assert self.keeper.resize(capacity) == self.model.make_room(0)

    @invariant()
    def it_holds_what_it_says_within_its_capacity(self) -> None:
        assert self.keeper.used_bytes == self.model.used() <= self.keeper.capacity_bytes
        assert list(self.keeper) == [key for queue in self.model.queues.values() for key in queue]
        assert all(self.keeper.weight(key) == weight for key, weight in self.model.weights.items())


TestKeeperMachine = KeeperMachine.TestCase
TestKeeperMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(0, 40), max_size=20), st.integers(0, 200))
def test_what_is_restored_stands_as_if_it_had_come_one_after_another(weights, capacity_bytes):
    weights = [weight for weight in weights if weight <= capacity_bytes]
    at_once: Keeper[int] = Keeper(capacity_bytes, hash)
    singly: Keeper[int] = Keeper(capacity_bytes, hash)
    keys = list(range(1, len(weights) + 1))
    left = at_once.restore(keys, weights)
    for key, weight in zip(keys, weights, strict=True):
        singly.admit(key, weight)
    assert at_once.used_bytes == sum(at_once.weight(key) for key in at_once) <= capacity_bytes
    assert sorted([*left, *at_once]) == keys
    if not left:
        assert list(at_once) == list(singly)
        assert at_once.admit(99, capacity_bytes) == singly.admit(99, capacity_bytes)
