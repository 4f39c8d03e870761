"""SIEVE, worked by hand, and what must hold whatever is asked of it."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from swarm.eviction import Sieve


def sieve_of(capacity_bytes: int, **weights: int) -> Sieve[str]:
    sieve: Sieve[str] = Sieve(capacity_bytes)
    for key, weight in weights.items():
        assert sieve.admit(key, weight) == []
    return sieve


def test_the_oldest_unmarked_key_goes_first():
    sieve = sieve_of(30, a=10, b=10, c=10)
    assert sieve.admit("d", 10) == ["a"]
    assert list(sieve) == ["b", "c", "d"]


def test_a_hit_saves_a_key_once():
    sieve = sieve_of(30, a=10, b=10, c=10)
    sieve.touch("a")
    assert sieve.admit("d", 10) == ["b"]
    assert sieve.admit("e", 10) == ["c"]
    assert sieve.admit("f", 10) == ["d"], (
        "the hand goes on from where it was: newer keys are sifted before a's next turn"
    )
    assert sieve.admit("g", 10) == ["e"]
    assert list(sieve) == ["a", "f", "g"]


def test_the_hand_walks_on_from_where_it_evicted():
    sieve = sieve_of(7, a=1, b=1, c=1, d=1, e=1, f=1, g=1)
    for marked in ("a", "b", "g"):
        sieve.touch(marked)
    assert sieve.admit("h", 1) == ["c"]
    sieve.touch("a")
    sieve.touch("d")
    assert sieve.admit("i", 1) == ["e"]
    sieve.touch("b")
    assert sieve.admit("j", 1) == ["f"]
    assert list(sieve) == ["a", "b", "d", "g", "h", "i", "j"]


def test_a_scan_does_not_displace_what_is_asked_for_again():
    sieve = sieve_of(100, **{f"hot{i}": 10 for i in range(5)})
    for number in range(1000):
        for i in range(5):
            sieve.touch(f"hot{i}")
        sieve.admit(f"scan{number}", 10)
    assert all(f"hot{i}" in sieve for i in range(5))


def test_a_heavy_key_evicts_several_light_ones():
    sieve = sieve_of(30, a=10, b=10, c=10)
    assert sieve.admit("big", 25) == ["a", "b", "c"]
    assert sieve.used_bytes == 25


def test_a_key_heavier_than_everything_is_its_own_victim():
    sieve = sieve_of(30, a=10)
    assert sieve.admit("huge", 31) == ["huge"]
    assert list(sieve) == ["a"]
    assert sieve_of(0).admit("any", 1) == ["any"]


def test_a_key_may_grow_and_shrink_while_it_is_filled():
    sieve = sieve_of(30, a=10, b=10)
    assert sieve.admit("a", 20) == []
    assert sieve.admit("a", 25) == ["b"], "never the growing key itself"
    assert sieve.admit("a", 5) == []
    assert (sieve.used_bytes, sieve.weight("a")) == (5, 5)
    assert sieve.admit("a", 31) == ["a"]
    assert (sieve.used_bytes, len(sieve)) == (0, 0)


def test_a_pinned_key_stays():
    sieve = sieve_of(30, a=10, b=10, c=10)
    sieve.pin("a")
    sieve.pin("a")
    sieve.unpin("a")
    assert sieve.admit("d", 20) == ["b", "c"]
    assert sieve.admit("e", 25) == ["e"], "it cannot fit beside the pinned one, so nothing is evicted for it"
    sieve.unpin("a")
    assert sieve.admit("e", 25) == ["a", "d"]
    with pytest.raises(ValueError, match="not pinned"):
        sieve.unpin("e")


def test_unknown_keys_are_errors():
    sieve = sieve_of(30, a=10)
    for call in (sieve.touch, sieve.remove, sieve.pin, sieve.unpin, sieve.weight):
        with pytest.raises(KeyError):
            call("z")
    with pytest.raises(ValueError, match="negative weight -1"):
        sieve.admit("b", -1)


def test_it_prints_its_state():
    assert repr(sieve_of(30, a=10, b=5)) == "<Sieve 2 keys, 15 of 30 bytes>"


class SieveMachine(RuleBasedStateMachine):
    """Any sequence of calls, beside a plain dict of what should be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.sieve: Sieve[int] = Sieve(100)
        self.weights: dict[int, int] = {}
        self.pins: dict[int, int] = {}

    @rule(key=st.integers(0, 20), weight=st.integers(0, 120))
    def admit(self, key: int, weight: int) -> None:
        self.weights[key] = weight
        evicted = self.sieve.admit(key, weight)
        assert len(set(evicted)) == len(evicted)
        assert key not in evicted or evicted == [key]
        for victim in evicted:
            assert victim == key or victim not in self.pins
            del self.weights[victim]
            self.pins.pop(victim, None)

    @precondition(lambda self: self.weights)
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        self.sieve.touch(data.draw(st.sampled_from(sorted(self.weights))))

    @precondition(lambda self: self.weights)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.weights)))
        assert self.sieve.remove(key) == self.weights.pop(key)
        self.pins.pop(key, None)

    @precondition(lambda self: self.weights)
    @rule(data=st.data())
    def pin(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.weights)))
        self.sieve.pin(key)
        self.pins[key] = self.pins.get(key, 0) + 1

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.pins)))
        self.sieve.unpin(key)
        self.pins[key] -= 1
        if not self.pins[key]:
            del self.pins[key]

    @invariant()
    def it_holds_what_it_says_within_its_capacity(self) -> None:
        assert self.sieve.used_bytes == sum(self.weights.values()) <= self.sieve.capacity_bytes
        assert sorted(self.sieve) == sorted(self.weights)
        assert all(self.sieve.weight(key) == weight for key, weight in self.weights.items())


TestSieveMachine = SieveMachine.TestCase
TestSieveMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
