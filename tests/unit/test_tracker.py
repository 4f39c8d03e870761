"""The tracker's rules at chosen instants: who is in the view, as what, and whom to dial when."""

import msgspec
import pytest

from swarm.members import Announcement, State
from swarm.metainfo import Signed
from swarm.tracker import Dial, Full, Heard, NameTaken, Tracker

KEYS = {"a": b"a" * 32, "b": b"b" * 32, "thief": b"t" * 32}


def said(node, *, key=None, address=None, port=7400, incarnation=1):
    return Announcement(node=node, key=KEYS[key or node], address=address, port=port, incarnation=incarnation)


def announce(tracker, one, now, host="10.0.0.5"):
    return tracker.on_announced(one, Signed(msgspec.msgpack.encode(one), b"", one.node), host, now)


def states(tracker):
    return {member.signed.signer: (member.state, member.address) for member in tracker.view()}


def alive(node, now=0.0, **kwargs):
    """A tracker whose only member was reached."""
    tracker = Tracker()
    announce(tracker, said(node, **kwargs), now)
    for dial in tracker.due_dials(now):
        tracker.on_reached(dial)
    return tracker


def test_a_newcomer_is_a_leaf_at_the_address_the_tracker_saw_and_is_dialled_at_once():
    tracker = Tracker()
    assert announce(tracker, said("a"), now=10.0) == Heard()
    assert states(tracker) == {"a": (State.LEAF, "http://10.0.0.5:7400")}
    assert tracker.due_dials(10.0) == [Dial("a", "http://10.0.0.5:7400", 1)]
    assert tracker.due_dials(10.0) == []  # given out once until its outcome is told


def test_a_stated_address_wins_over_the_one_seen():
    tracker = Tracker()
    announce(tracker, said("a", address="http://edge-a:7000"), now=10.0)
    assert states(tracker) == {"a": (State.LEAF, "http://edge-a:7000")}


def test_who_was_reached_is_alive_and_the_view_is_newer():
    tracker = Tracker()
    announce(tracker, said("a"), now=10.0)
    before = tracker.generation
    tracker.on_reached(Dial("a", "http://10.0.0.5:7400", 1))
    assert states(tracker) == {"a": (State.ALIVE, "http://10.0.0.5:7400")}
    assert tracker.generation == before + 1


def test_hearing_a_member_again_changes_no_generation():
    tracker = alive("a")
    before = tracker.generation
    announce(tracker, said("a"), now=1.0)
    assert tracker.generation == before


@pytest.mark.parametrize("now, there", [(4.9, True), (5.0, True), (5.1, False)])
def test_a_member_is_forgotten_after_five_seconds_of_silence(now, there):
    tracker = alive("a", now=0.0)
    tracker.expire(now)
    assert ("a" in states(tracker)) is there


def test_a_leaf_is_dialled_again_after_1_2_4_8_15_30_and_30_seconds():
    tracker = Tracker()
    dialled_at = []
    for second in range(100):  # it announces itself every second, as an edge does
        announce(tracker, said("a"), float(second))
        for dial in tracker.due_dials(float(second)):
            dialled_at.append(second)
            tracker.on_unreached(dial, "refused", float(second))
    assert dialled_at == [0, 1, 3, 7, 15, 30, 60, 90]


def test_why_a_leaf_is_one_is_told():
    tracker = Tracker()
    announce(tracker, said("a"), now=0.0)
    assert tracker.state_of("a") == (State.LEAF, "not reached yet")
    (dial,) = tracker.due_dials(0.0)
    tracker.on_unreached(dial, "connection refused", now=0.0)
    assert tracker.state_of("a") == (State.LEAF, "not reached at http://10.0.0.5:7400: connection refused")
    assert tracker.state_of("nobody") == (State.LEAF, "not announced")


def test_the_next_deadline_is_the_first_silence_or_dial():
    tracker = Tracker()
    assert tracker.next_deadline() is None
    announce(tracker, said("a"), now=5.0)
    assert tracker.next_deadline() == 5.0  # dial at once
    (dial,) = tracker.due_dials(5.0)
    assert tracker.next_deadline() == 10.0  # silence
    tracker.on_unreached(dial, "refused", now=5.0)
    assert tracker.next_deadline() == 6.0  # dial again


def test_a_member_that_leaves_is_gone_at_once():
    tracker = alive("a")
    before = tracker.generation
    tracker.on_left(said("a"))
    assert (states(tracker), tracker.generation) == ({}, before + 1)


def test_nobody_can_say_goodbye_for_another():
    tracker = alive("a")
    tracker.on_left(said("a", key="thief"))
    assert "a" in states(tracker)


def test_another_key_under_a_living_name_is_refused_with_the_bearers_address():
    tracker = alive("a")
    assert announce(tracker, said("a", key="thief"), 1.0, host="10.0.0.9") == NameTaken("http://10.0.0.5:7400")
    assert states(tracker) == {"a": (State.ALIVE, "http://10.0.0.5:7400")}


def test_the_same_key_at_another_address_is_a_copied_key_until_the_first_falls_silent():
    tracker = alive("a", now=0.0)
    assert announce(tracker, said("a", incarnation=2), 2.0, host="10.0.0.9") == NameTaken("http://10.0.0.5:7400")
    assert announce(tracker, said("a", incarnation=2), 5.5, host="10.0.0.9") == Heard()
    assert states(tracker) == {"a": (State.LEAF, "http://10.0.0.9:7400")}


def test_a_restart_at_the_same_address_is_a_leaf_again_and_dialled_again():
    tracker = alive("a", now=0.0)
    assert announce(tracker, said("a", incarnation=2), 1.0) == Heard()
    assert states(tracker) == {"a": (State.LEAF, "http://10.0.0.5:7400")}
    assert tracker.due_dials(1.0) == [Dial("a", "http://10.0.0.5:7400", 2)]


def test_a_member_that_only_fell_silent_for_a_while_is_what_it_was():
    tracker = alive("a", now=0.0)
    tracker.expire(6.0)
    assert states(tracker) == {}
    announce(tracker, said("a"), 7.0)
    assert states(tracker) == {"a": (State.ALIVE, "http://10.0.0.5:7400")}
    assert tracker.due_dials(7.0) == []


def test_an_older_incarnation_cannot_take_the_name_back():
    tracker = alive("a", incarnation=2)
    assert announce(tracker, said("a", incarnation=1), 1.0) == NameTaken("http://10.0.0.5:7400")


def test_the_outcome_of_a_dial_to_an_earlier_incarnation_counts_for_nothing():
    tracker = Tracker()
    announce(tracker, said("a", incarnation=1), 0.0)
    (old,) = tracker.due_dials(0.0)
    announce(tracker, said("a", incarnation=2), 1.0)
    tracker.on_reached(old)
    assert tracker.state_of("a")[0] is State.LEAF


def test_beyond_the_bound_newcomers_are_turned_away_and_members_are_not(monkeypatch):
    monkeypatch.setattr("swarm.tracker.MOST_MEMBERS", 1)
    tracker = alive("a")
    assert announce(tracker, said("b"), 1.0) == Full()
    assert announce(tracker, said("a"), 1.0) == Heard()


def test_counts_and_its_picture():
    tracker = alive("a")
    announce(tracker, said("b"), 0.5, host="10.0.0.6")
    assert tracker.counts() == {State.LEAF: 1, State.ALIVE: 1}
    assert repr(tracker) == "<Tracker 1 alive, 1 leaves, generation 4>"


def test_a_member_that_only_fell_silent_for_a_while_is_what_it_was_without_another_dial():
    tracker = alive("a", now=0.0)
    tracker.expire(6.0)
    assert states(tracker) == {}
    assert announce(tracker, said("a"), 7.0) == Heard()
    assert states(tracker) == {"a": (State.ALIVE, "http://10.0.0.5:7400")}
    assert tracker.due_dials(7.0) == []
