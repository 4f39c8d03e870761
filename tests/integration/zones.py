"""Three zones of edges on loopback, and what crosses between them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from deploy.programs import Swarm

ZONES = ("ams", "fra", "lon")
CROSSING = "starling_zone_crossing_bytes_total"


@contextlib.contextmanager
def zoned_swarm(directory: Path, edges_a_zone: int) -> Iterator[Swarm]:
    """Edges named by their zones: `ams-1`, `ams-2`, …"""
    programs = Swarm(directory)
    try:
        programs.start_origin()
        for zone in ZONES:
            for number in range(1, edges_a_zone + 1):
                node = f"{zone}-{number}"
                programs.start_edge(node, programs.edge_config(node) | {"zone": zone})
        programs.wait_joined()
        yield programs
    finally:
        programs.stop()


def crossed(programs: Swarm) -> dict[str, int]:
    """Body bytes that entered each zone from others, by the counters of its edges."""
    counts = dict.fromkeys(ZONES, 0)
    for node in programs.edges:
        counts[node.partition("-")[0]] += int(programs.total(node, CROSSING))
    return counts
