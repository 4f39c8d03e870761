"""The same swarm with a tracker, without one, with one that dies, and with superpeers: right bytes, one copy."""

import sys
from collections.abc import Callable
from functools import partial

import pytest
import yaml

from deploy.programs import Program, Swarm, running_swarm
from tests.deploy.panels import wait_until
from tests.integration.downloads import MIB, at_once, download, download_everywhere, random_file, sent_by_origin, wrong
from tests.integration.topologies import EDGES, members_of, nobodys_port, origin_alone, sees, start_edge_with

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

SIZE = 4 * MIB
WITHIN_S = 30.0


def asked_everywhere(programs: Swarm, name: str) -> float:
    """How often the origin sent a file that all edges are asked for at once; AssertionError unless all got it."""
    sha256 = random_file(programs.media / name, SIZE)
    before = sent_by_origin(programs)
    assert wrong(download_everywhere(programs, f"/{name}"), sha256) == []
    return (sent_by_origin(programs) - before) / SIZE


def wait_for_view(programs: Swarm, nodes: list[str]) -> None:
    """Until each of them sees all the others and nobody else."""

    def agree() -> bool:
        return all(sees(programs, node) == set(nodes) - {node} for node in nodes)

    wait_until(agree, WITHIN_S, lambda: str({node: sees(programs, node) for node in nodes}))


@pytest.mark.parametrize("topology", ["pure", "superpeer"])
def test_a_file_asked_of_every_edge_leaves_the_origin_once(tmp_path, topology):
    with running_swarm(tmp_path, EDGES[topology], topology=topology) as programs:
        assert asked_everywhere(programs, "first.bin") == 1.0
        if topology == "superpeer":
            leaves = [node for node in programs.edges if node not in programs.superpeers]
            assert [programs.total(node, "starling_peer_sent_bytes_total") for node in leaves] == [0, 0, 0]
            assert all(sees(programs, node) == set(programs.superpeers) for node in leaves)
            assert programs.status(leaves[0])["troubles"] == []
        victim = list(programs.edges)[1]
        programs.edges.pop(victim).kill()
        wait_until(
            lambda: all(victim not in sees(programs, node) for node in programs.edges),
            WITHIN_S,
            lambda: str({node: sees(programs, node) for node in programs.edges}),
        )
        assert asked_everywhere(programs, "second.bin") == 1.0
        for node in programs.edges:
            assert programs.metrics(node)['starling_control_bytes_total{kind="gossip"}'] > 0
            assert programs.metrics(node)['starling_peers{state="dead"}'] == 1


def test_without_a_tracker_an_edge_restarts_leaves_and_returns(tmp_path):
    with running_swarm(tmp_path, EDGES["pure"], topology="pure") as programs:
        first, *rest = EDGES["pure"]
        assert programs.edges[first].stop() in (0, 143)
        wait_for_view(programs, rest)
        config = programs.edge_config(first)
        config["swarm"]["seeds"] = []
        programs.start_edge(first, config)  # its last view is where it starts from
        wait_for_view(programs, EDGES["pure"])
        assert asked_everywhere(programs, "again.bin") == 1.0


def test_without_a_tracker_the_later_of_two_edges_under_one_name_exits(tmp_path):
    with running_swarm(tmp_path / "swarm", EDGES["pure"], topology="pure") as programs:
        config = programs.edge_config("edge-1")
        config["cache"]["directory"] = str(tmp_path / "second")
        file = tmp_path / "second.yaml"
        file.write_text(yaml.safe_dump(config))
        second = Program("second", [sys.executable, "-m", "edge", "--config", str(file)], tmp_path / "second.log")
        try:
            assert second.process.wait(WITHIN_S) == 2
        finally:
            second.stop()
        last = second.said().splitlines()[-1]
        assert "node name 'edge-1' is taken" in last
        assert programs.edges["edge-1"].ready["peer"] in last
        wait_for_view(programs, EDGES["pure"])


def test_a_hybrid_swarm_that_never_had_its_tracker_starts_from_seeds(tmp_path):
    with origin_alone(tmp_path) as programs, nobodys_port() as tracker:
        for node in EDGES["hybrid"]:
            start_edge_with(programs, node, tracker)
        programs.wait_joined()
        assert asked_everywhere(programs, "first.bin") == 1.0


def test_a_tracker_killed_in_the_middle_is_not_missed_and_used_again_when_it_is_back(tmp_path):
    one, two, three, four = nodes = [*EDGES["hybrid"], "edge-4"]
    with origin_alone(tmp_path) as programs:
        tracker = programs.start_tracker()
        for node in (one, two, three):
            start_edge_with(programs, node, tracker.ready["listen"])
        programs.wait_joined()
        sha256 = random_file(programs.media / "middle.bin", 32 * MIB)
        before = sent_by_origin(programs)
        killing = killed_in_the_middle(tracker)
        urls = [programs.url(node, "/middle.bin") for node in (one, two, three)]
        got = at_once([partial(download, url, None, killing) for url in urls])
        tracker.kill()
        assert wrong(got, sha256) == []
        assert sent_by_origin(programs) - before == 32 * MIB
        start_edge_with(programs, four, tracker.ready["listen"])
        wait_for_view(programs, nodes)
        programs.edges.pop(two).kill()
        wait_for_view(programs, [one, three, four])
        assert asked_everywhere(programs, "without.bin") == 1.0
        tracker = programs.start_tracker(tracker.ready["listen"])
        wait_until(lambda: members_of(tracker) == {one, three, four}, WITHIN_S, lambda: str(members_of(tracker)))
        wait_for_view(programs, [one, three, four])
        assert asked_everywhere(programs, "restarted.bin") == 1.0


def killed_in_the_middle(victim: Program) -> Callable[[int], None]:
    """To be told how far downloads are: kills the program when one is in its middle."""

    def on_size(size: int) -> None:
        if size > 8 * MIB and victim.process.poll() is None:
            victim.process.kill()

    return on_size
