"""One byte in a thousand is flipped on the way to and from one edge's peer port: nobody gets a wrong byte."""

import pytest

from tests.integration.broken_links import rejected, swarm_with_broken_link, wait_until_complained
from tests.integration.conftest import nodes
from tests.integration.downloads import MIB, download_everywhere, random_file, sent_by_origin, wrong

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(240)]

SIZES = (1, 65536, 300_000, MIB + 1, 64 * MIB)


@pytest.mark.parametrize("how", ["every", "random"])
def test_every_viewer_of_every_edge_gets_the_right_bytes(tmp_path, how):
    with swarm_with_broken_link(tmp_path, nodes(3), "edge-2", how=how) as swarm:
        for size in SIZES:
            sha256 = random_file(swarm.media / f"{size}.bin", size)
            assert wrong(download_everywhere(swarm, f"/{size}.bin"), sha256) == []
        assert rejected(swarm) > 0
        lines = wait_until_complained(swarm, "edge-2")
        assert lines
        assert all("not a liar" in line for line in lines)
        assert not any("broken link" in line and "peer edge-2" not in line for line in _all_lines(swarm))
        assert sent_by_origin(swarm) <= 2 * sum(SIZES)
        assert all(swarm.status(node)["banned"] == [] for node in swarm.edges)


def _all_lines(swarm):
    return [line for edge in swarm.edges.values() for line in edge.said().splitlines()]
