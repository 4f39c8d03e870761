"""Swarms of every topology, and trackers of their own that a test can take away."""

import contextlib
import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.programs import Program, Swarm

EDGES = {
    "hybrid": [f"edge-{number}" for number in range(1, 4)],
    "pure": [f"edge-{number}" for number in range(1, 4)],
    "superpeer": ["super-1", "super-2", *(f"leaf-{number}" for number in range(1, 4))],
}


@contextlib.contextmanager
def nobodys_port() -> Iterator[str]:
    """An address where nobody listens, and nobody else can meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@contextlib.contextmanager
def origin_alone(directory: Path) -> Iterator[Swarm]:
    """An origin; a test starts its edges as it likes."""
    programs = Swarm(directory)
    try:
        programs.start_origin()
        yield programs
    finally:
        programs.stop()


def start_edge_with(programs: Swarm, node: str, tracker: str) -> Program:
    """A hybrid edge that has this tracker, and those that run as its seeds."""
    config: dict[str, Any] = programs.edge_config(node)
    config["swarm"] |= {"tracker": f"http://{tracker}", "seeds": programs.seeds()}
    return programs.start_edge(node, config)


def sees(programs: Swarm, node: str) -> set[str]:
    """The others in its view that carry weight."""
    return {peer["node"] for peer in programs.status(node)["peers"] if peer["state"] == "alive"}


def members_of(tracker: Program) -> set[str]:
    """Whom a tracker knows."""
    with urllib.request.urlopen(f"http://{tracker.ready['admin']}/status", timeout=5) as answer:
        return {row["node"] for row in json.load(answer)["members"]}
