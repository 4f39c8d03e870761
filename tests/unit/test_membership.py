"""Where an edge's view comes from before anybody has answered, and whom a topology lets it know."""

from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from daemon.addresses import Address
from daemon.asking import Asker
from daemon.peer_auth import Gatekeeper
from edge.gossip import Gossiping
from edge.membership import Membership
from edge.metrics import EdgeMetrics
from edge.roster import Roster, ViewFile
from swarm.members import EDGE, SUPERPEER
from tests.unit.test_roster import SIGNERS, member

SECRETS = (bytes(16),)


@asynccontextmanager
async def an_edge(directory: Path, topology: str, role: str = EDGE, *, tracker: str = "", seed: str = ""):
    signer = SIGNERS["edge-1"]
    metrics = EdgeMetrics("edge-1", "", "0")
    roster = Roster("edge-1", "", signer, in_swarm=True)
    asker = Asker("edge-1", SECRETS)
    seeds = [Address(seed, 7400)] if seed else []
    gossip = Gossiping(asker, Gatekeeper("edge-1", SECRETS), signer, metrics, seeds, topology=topology, role=role)
    trackers = [tracker] if tracker else []
    file = ViewFile(directory / "view")
    file.write((member("edge-2", gossips=True), member("edge-3", role=SUPERPEER, gossips=True)))
    membership = Membership(trackers, asker, roster, file, metrics, gossip, role)
    try:
        yield membership, roster
    finally:
        await gossip.close()
        await asker.close()


@pytest.mark.parametrize(
    "topology, role, known",
    [
        ("hybrid", EDGE, {"edge-2", "edge-3"}),
        ("pure", EDGE, {"edge-2", "edge-3"}),
        ("superpeer", EDGE, {"edge-3"}),
        ("superpeer", SUPERPEER, {"edge-3"}),
    ],
)
async def test_an_edge_begins_with_its_last_view_and_among_superpeers_knows_them_alone(tmp_path, topology, role, known):
    async with an_edge(tmp_path, topology, role, seed="10.0.0.2") as (membership, roster):
        await membership.restore()
        assert roster.view.peers.keys() == known
        assert not membership.settled, "nobody has answered"


async def test_the_first_edge_of_a_swarm_has_nobody_to_wait_for(tmp_path):
    async with an_edge(tmp_path, "pure") as (membership, _):
        assert membership.settled
        await membership.restore()
        assert not membership.settled, "but those of its last view may be there"


async def test_a_leaf_of_superpeers_is_one_by_design_and_says_nothing_of_it(tmp_path):
    async with an_edge(tmp_path, "superpeer", tracker="http://tracker") as (membership, _):
        assert membership.why_leaf == ""
    async with an_edge(tmp_path, "superpeer", SUPERPEER, tracker="http://tracker") as (membership, _):
        assert membership.why_leaf == "no view yet"
