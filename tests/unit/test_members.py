"""Announcements: who may say what, and what a view makes of them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.keys import Signer
from swarm.accounting import Cause
from swarm.errors import RemoteError
from swarm.members import (
    ANNOUNCEMENT_CONTEXT,
    MOST_NAME_BYTES,
    Announcement,
    Member,
    Peer,
    State,
    View,
    peer_of,
    read_announcement,
)
from swarm.metainfo import Signed
from swarm.placement import Edge

SIGNER = Signer.throwaway("edge-1")
HERE = Announcement(node="edge-1", key=SIGNER.public, address=None, port=9000, zone="berlin", capacity_bps=1e9)


def announced(**changes: object) -> Signed:
    body = msgspec.msgpack.encode(msgspec.structs.replace(HERE, **changes))
    return SIGNER.sign(ANNOUNCEMENT_CONTEXT, body)


def test_an_announcement_is_read_as_it_was_signed():
    assert read_announcement(announced(incarnation=7)) == msgspec.structs.replace(HERE, incarnation=7)


def test_a_member_is_read_with_the_address_that_the_tracker_found_in_force():
    member = Member(announced(incarnation=7), "http://192.0.2.1:9000", State.ALIVE)
    assert peer_of(member) == Peer(
        "edge-1", "http://192.0.2.1:9000", SIGNER.public, "berlin", State.ALIVE, 1e9, incarnation=7
    )


@pytest.mark.parametrize(
    "changes, cause",
    [
        ({"node": "edge-2"}, Cause.SIGNATURE),  # a forged name
        ({"key": b""}, Cause.SIGNATURE),
        ({"key": b"k" * 31}, Cause.SIGNATURE),
        ({"node": ""}, Cause.FRAMING),
        ({"node": "a" * (MOST_NAME_BYTES + 1)}, Cause.FRAMING),
        ({"node": "\u00fc" * (MOST_NAME_BYTES // 2 + 1)}, Cause.FRAMING),  # bytes count, not letters
        ({"node": "edge\n1"}, Cause.FRAMING),
        ({"format": 2}, Cause.FRAMING),
        ({"capacity_bps": float("nan")}, Cause.FRAMING),
        ({"capacity_bps": float("inf")}, Cause.FRAMING),
        ({"capacity_bps": -1.0}, Cause.FRAMING),
    ],
)
def test_an_announcement_that_nobody_may_believe_is_refused(changes, cause):
    with pytest.raises(RemoteError) as caught:
        read_announcement(announced(**changes))
    assert caught.value.cause is cause


def test_fields_of_a_later_release_are_ignored():
    body = msgspec.msgpack.encode(msgspec.to_builtins(HERE, builtin_types=(bytes,)) | {"colour": "blue"})
    assert read_announcement(SIGNER.sign(ANNOUNCEMENT_CONTEXT, body)) == HERE


MUTATIONS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=4)


@given(st.binary(max_size=100) | MUTATIONS)
def test_fuzz_an_announcement_or_remote_error_and_nothing_else(what):
    body = bytearray(what if isinstance(what, bytes) else announced().body)
    for at, value in what if isinstance(what, list) else []:
        body[at % len(body)] = value
    try:
        said = read_announcement(Signed(bytes(body), b"", "edge-1"))
    except RemoteError:
        return
    assert said.node == "edge-1"
    View(1, {"edge-1": Peer("edge-1", "", said.key, said.zone, State.ALIVE, said.capacity_bps)}).edges()


def peer(node: str, state: State, capacity_bps: float | None = None) -> Peer:
    return Peer(node, f"http://{node}:9000", bytes(32), "", state, capacity_bps)


def test_only_members_that_were_reached_may_be_home_in_the_order_of_their_names():
    view = View(
        3,
        {
            "c": peer("c", State.ALIVE),
            "b": peer("b", State.LEAF, 100e9),  # carries no weight, and does not shift the median
            "a": peer("a", State.ALIVE, 2e9),
            "d": peer("d", State.ALIVE, 1e9),
            "e": peer("e", State.ALIVE, 1e9),
        },
    )
    assert view.edges() == (Edge("a", 8), Edge("c", 4), Edge("d", 4), Edge("e", 4))


def test_an_empty_view_has_no_edges():
    assert View().edges() == ()
