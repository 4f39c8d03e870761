"""An edge's view: whom it believes, who is home by it, and the file that keeps it."""

import msgspec
import pytest

from daemon.keys import Signer
from edge.roster import Roster, ViewFile
from swarm.accounting import PeerState, Role
from swarm.errors import RemoteError
from swarm.members import ANNOUNCEMENT_CONTEXT, Announcement, Member, State
from swarm.names import Path
from swarm.placement import SMALL_BYTES, Edge

FILM = Path("default", "/film.mp4", "")
SIGNERS = {f"edge-{number}": Signer.throwaway(f"edge-{number}") for number in range(1, 6)}


def member(node: str, state: State = State.ALIVE, *, by: Signer | None = None, **said: object) -> Member:
    signer = by or SIGNERS[node]
    here = Announcement(node=node, key=SIGNERS[node].public, address=None, port=9000)
    body = msgspec.msgpack.encode(msgspec.structs.replace(here, **said))
    return Member(signer.sign(ANNOUNCEMENT_CONTEXT, body), f"http://{node}:9000", state)


def roster_of(*members: Member, in_swarm: bool = True) -> Roster:
    roster = Roster("edge-1", "berlin", SIGNERS["edge-1"], in_swarm=in_swarm)
    roster.take_view(1, members)
    return roster


@pytest.fixture
def swarm_clock(monkeypatch):
    """The wall clock, to be set: `clock[0] = seconds`."""
    clock = [1000.0]
    monkeypatch.setattr("edge.roster.time.time", lambda: clock[0])
    return clock


def test_alone_an_edge_is_home_for_everything():
    roster = Roster("edge-1", "", SIGNERS["edge-1"], in_swarm=False)
    assert [edge.node for edge in roster.homes(FILM, 1 << 30, "signed")] == ["edge-1"]
    assert (roster.standalone, roster.others(), roster.state()) == (True, [], State.LEAF)


def test_only_members_that_were_reached_are_homes():
    roster = roster_of(member("edge-1"), member("edge-2"), member("edge-3", State.LEAF))
    assert {edge.node for edge in roster.ranked(FILM)} == {"edge-1", "edge-2"}
    assert sorted(peer.node for peer in roster.others()) == ["edge-2", "edge-3"]
    assert roster.state() is State.ALIVE
    assert roster.peer("edge-1") is None, "this edge is nobody to ask"


def test_small_objects_and_those_of_a_foreign_origin_have_one_home():
    roster = roster_of(*(member(f"edge-{number}") for number in range(1, 6)))
    ranked = roster.ranked(FILM)
    assert len(ranked) == 5
    assert roster.homes(FILM, SMALL_BYTES, "signed") == ranked
    assert roster.homes(FILM, None, "signed") == ranked
    assert roster.homes(FILM, SMALL_BYTES - 1, "signed") == ranked[:1]
    assert roster.homes(FILM, 1 << 30, "attested") == ranked[:1]


@pytest.mark.parametrize(
    "forged",
    [
        member("edge-3", by=SIGNERS["edge-2"]),  # signed by another, under another's name
        member("edge-3", by=Signer.throwaway("edge-3")),  # the right name, another key
        member("edge-3", capacity_bps=float("nan")),
        member("edge-3", format=9),
    ],
)
def test_a_member_that_does_not_prove_itself_is_left_out_and_the_rest_stands(forged):
    roster = roster_of(member("edge-2"), forged, member("edge-4"))
    assert sorted(roster.view.peers) == ["edge-2", "edge-4"]


def test_signatures_of_members_are_checked_by_the_keys_in_the_view():
    roster = roster_of(member("edge-1"), member("edge-2"))
    for signer in (SIGNERS["edge-1"], SIGNERS["edge-2"]):
        roster.check(b"context", signer.sign(b"context", b"body"))
    for stranger in (SIGNERS["edge-3"], Signer.throwaway("edge-2")):
        with pytest.raises(RemoteError):
            roster.check(b"context", stranger.sign(b"context", b"body"))


def test_what_is_older_than_this_edges_claim_may_be_held_by_others(swarm_clock):
    roster = roster_of(member("edge-1"), member("edge-2"))
    assert roster.claim_at == 1000.0
    assert roster.claim_is_newer_than(900.0)
    assert roster.claim_is_newer_than(1004.9), "clocks may differ"
    assert not roster.claim_is_newer_than(1005.0)
    roster.offset_s = 30.0
    roster.refused = True
    assert not roster.claim_is_newer_than(900.0), "nobody speaks with it"


def test_the_view_before_the_present_one_is_remembered_unless_it_passed_in_a_moment(swarm_clock):
    roster = roster_of(member("edge-1"), member("edge-2"))
    first = roster.ranked(FILM)
    assert roster.previous_homes(FILM, None, "signed") == ()
    swarm_clock[0] = 1100.0
    roster.take_view(2, [member("edge-1"), member("edge-2"), member("edge-3")])
    assert roster.previous_homes(FILM, None, "signed") == first
    swarm_clock[0] = 1101.0
    roster.take_view(3, [member("edge-1"), member("edge-2"), member("edge-3"), member("edge-4")])
    assert roster.previous_homes(FILM, None, "signed") == first
    assert roster.claim_at == 1101.0
    swarm_clock[0] = 1200.0
    roster.take_view(4, list(reversed([member(f"edge-{number}") for number in range(1, 5)])))
    assert roster.claim_at == 1101.0, "the same edges in another order: nothing changed"


def test_an_edge_that_restarted_or_moved_begins_with_a_clean_slate():
    roster = roster_of(member("edge-2"), member("edge-3"))
    for node in ("edge-2", "edge-3"):
        roster.health.on_unreachable(node, 1e12)
    roster.take_view(2, [member("edge-2", incarnation=7), member("edge-3")])
    assert roster.health.unusable(1e12) == ["edge-3"]


def test_the_swarms_clock_is_ours_and_the_offset(swarm_clock):
    roster = roster_of()
    assert roster.swarm_time() == 1000.0
    roster.offset_s = -30.0
    assert roster.swarm_time() == 970.0


def test_links_that_rest_count_as_suspect():
    roster = roster_of(member("edge-1"), member("edge-2"), member("edge-3"))
    roster.health.on_unreachable("edge-3", 1e12)
    roster.refused = True
    counts = roster.counts()
    assert {state: counts[state] for state in (PeerState.ALIVE, PeerState.SUSPECT, PeerState.REFUSED)} == {
        PeerState.ALIVE: 1,
        PeerState.SUSPECT: 1,
        PeerState.REFUSED: 1,
    }


# --- zones


def zoned(zone: str) -> Roster:
    """As seen by edge-1 in that zone."""
    roster = Roster("edge-1", zone, SIGNERS["edge-1"], in_swarm=True)
    zones = {"edge-1": zone, "edge-2": "berlin", "edge-3": "berlin", "edge-4": "paris", "edge-5": "paris"}
    roster.take_view(1, [member(node, zone=its) for node, its in zones.items()])
    return roster


def names(edges: tuple[Edge, ...]) -> set[str]:
    return {edge.node for edge in edges}


def test_each_zone_has_its_own_homes_and_those_of_the_paths_first_zone_go_to_the_origin():
    at_home, abroad = zoned("berlin"), zoned("paris")
    paths = (Path("default", f"/{number}", "") for number in range(99))
    in_berlin = next(path for path in paths if "edge-2" in names(at_home.ranked(path)))
    assert names(at_home.ranked(in_berlin)) == {"edge-1", "edge-2", "edge-3"}
    assert at_home.role(in_berlin) is Role.HOME
    assert at_home.ranked(in_berlin, Role.ZONE_HOME) == at_home.ranked(in_berlin)
    assert abroad.role(in_berlin) is Role.ZONE_HOME
    assert names(abroad.ranked(in_berlin)) == {"edge-2", "edge-3"}
    assert names(abroad.ranked(in_berlin, Role.ZONE_HOME)) == {"edge-1", "edge-4", "edge-5"}


def test_a_zone_without_any_edge_of_weight_asks_the_first_zone_itself():
    roster = Roster("edge-1", "rome", SIGNERS["edge-1"], in_swarm=True)
    roster.take_view(1, [member("edge-1", State.LEAF, zone="rome"), member("edge-2", zone="berlin")])
    assert roster.role(FILM) is Role.HOME
    assert names(roster.ranked(FILM, Role.ZONE_HOME)) == {"edge-2"}


# --- the file of the last view


def test_the_last_view_is_read_back(tmp_path):
    file = ViewFile(tmp_path / "view")
    assert file.read() == ()
    members = (member("edge-2"), member("edge-3", State.LEAF))
    file.write(members)
    file.write(members)
    assert file.read() == members
    assert [path.name for path in tmp_path.iterdir()] == ["view"]


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x91\x83", b"\x91\x93\x83\xa4body\xc4\x00\xa9signature\xc4\x00"])
def test_a_view_that_cannot_be_read_is_none(tmp_path, content):
    (tmp_path / "view").write_bytes(content)
    assert ViewFile(tmp_path / "view").read() == ()


def test_a_view_with_text_that_is_no_utf_8_is_none(tmp_path):
    raw = msgspec.msgpack.encode((member("edge-2"),)).replace(b"http://", b"\xff\xfe\xfd\xfc://")
    (tmp_path / "view").write_bytes(raw)
    assert ViewFile(tmp_path / "view").read() == ()
