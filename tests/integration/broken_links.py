"""A swarm in which one edge is reached only through a network that flips bytes."""

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from deploy.programs import Program, Swarm

JOINED_WITHIN_S = 60.0  # the tracker may need several attempts through such a network


@contextlib.contextmanager
def swarm_with_broken_link(
    directory: Path, nodes: list[str], broken: str, *, how: str = "every", one_in: int = 1000
) -> Iterator[Swarm]:
    """An origin and edges, joined; `peer.advertise` of one points at the proxy before its peer port."""
    swarm = Swarm(directory)
    target = directory / "target"
    command = [sys.executable, "-m", "tests.integration.flipping_proxy", "--target", str(target)]
    proxy = Program("proxy", [*command, "--how", how, "--one-in", str(one_in)], directory / "proxy.log")
    try:
        swarm.start_origin()
        for node in nodes:
            config = swarm.edge_config(node)
            if node == broken:
                config["peer"]["advertise"] = f"http://{proxy.ready['listen']}"
            edge = swarm.start_edge(node, config)
            if node == broken:
                target.write_text(edge.ready["peer"])
        swarm.wait_joined(JOINED_WITHIN_S)
        yield swarm
    finally:
        swarm.stop()
        proxy.stop()


def rejected(swarm: Swarm) -> float:
    """Pieces, and answers that could not be read, rejected by all edges."""
    return sum(swarm.total(node, "starling_pieces_rejected_total") for node in swarm.edges)


def complaints(swarm: Swarm, peer: str) -> list[str]:
    """What the other edges' logs say of their link to it."""
    logs = (edge.said() for node, edge in swarm.edges.items() if node != peer)
    return [line for log in logs for line in log.splitlines() if f"peer {peer}" in line and "broken link" in line]


def wait_until_complained(swarm: Swarm, peer: str, within_s: float = 10.0) -> list[str]:
    """The lines; none after the deadline."""
    until = time.monotonic() + within_s
    while not (lines := complaints(swarm, peer)) and time.monotonic() < until:
        time.sleep(0.05)
    return lines
