"""Swarms in which one edge is a liar, and what the others make of it."""

import contextlib
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from deploy.programs import Program, Swarm

WITHIN_S = 5.0  # what a liar is found out by, to all of them


@dataclass(frozen=True)
class SeenBan:
    """`finder`: whose evidence it was, perhaps the edge's own."""

    node: str
    at: float
    finder: str


class SwarmWithLiar(Swarm):
    """`liar` is started as a malicious edge, all others as they are."""

    def __init__(self, directory: Path, liar: str, how: str) -> None:
        super().__init__(directory)
        self.liar = liar
        self.how = how

    def start_edge(self, node: str, config: Mapping[str, Any] | None = None) -> Program:
        if node != self.liar:
            return super().start_edge(node, config)
        path = self.directory / f"{node}.yaml"
        path.write_text(yaml.safe_dump(dict(config or self.edge_config(node))))
        command = [sys.executable, "-m", "tests.integration.malicious_edge", self.how, "--config", str(path)]
        log = self.directory / f"{node}.log"
        self.edges[node] = Program(node, command, log, on_started=self._started.append)
        return self.edges[node]

    @property
    def honest(self) -> list[str]:
        return [node for node in self.edges if node != self.liar]

    def banned_at(self, node: str) -> list[str]:
        """Whom an edge has banned."""
        return [ban["node"] for ban in self.status(node)["banned"]]

    def wait_until_banned(self, within_s: float = WITHIN_S) -> None:
        """By every honest edge. TimeoutError."""
        until = time.monotonic() + within_s
        while not all(self.liar in self.banned_at(node) for node in self.honest):
            if time.monotonic() > until:
                bans = {node: self.banned_at(node) for node in self.honest}
                raise TimeoutError(f"{self.liar} is not banned everywhere after {within_s} s: {bans}")
            time.sleep(0.02)

    def bans_of_liar(self) -> "list[SeenBan]":
        """As the logs of the honest edges tell of them."""
        line = re.compile(rf"^(\S+) ERROR edge.bans ban of {self.liar} .* found by (\S+)$", re.MULTILINE)
        found = [(node, line.search(self.edges[node].said())) for node in self.honest]
        return [
            SeenBan(node, datetime.fromisoformat(match[1]).timestamp(), match[2])
            for node, match in found
            if match is not None
        ]

    def said_by_honest(self) -> str:
        return "".join(self.edges[node].said() for node in self.honest)


@contextlib.contextmanager
def swarm_with_liar(
    directory: Path, nodes: list[str], liar: str, how: str, *, attested: bool = False
) -> Iterator[SwarmWithLiar]:
    """An origin and edges, joined, for the length of a `with`; `attested`: they take it for any HTTP server."""
    swarm = SwarmWithLiar(directory, liar, how)
    try:
        swarm.start_origin()
        for node in nodes:
            config = swarm.edge_config(node)
            if attested:
                config["origin"] = {"url": config["origin"]["url"], "trust": "attested"}
            swarm.start_edge(node, config)
        swarm.wait_joined(30.0)
        yield swarm
    finally:
        swarm.stop()
