"""Purges asked of real edges, and swarms to ask them of."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deploy.programs import Swarm
from tests.integration.by_hand import get

WITHIN_S = 15.0


@dataclass(frozen=True)
class Answer:
    """Of POST /purge. `told`: the JSON of 200 and 202."""

    status: int
    text: str

    @property
    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.text)
        return told


def purge(swarm: Swarm, node: str, **fields: object) -> Answer:
    return post(swarm.admin_url(node, "/purge"), json.dumps(fields).encode())


def post(url: str, body: bytes) -> Answer:
    request = urllib.request.Request(url, data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Answer(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode())


def start_edges(programs: Swarm, origin_url: str, nodes: list[str], memory_only: str = "") -> None:
    """Edges before a foreign origin, joined; one of them without a disk."""
    programs.start_origin()
    for node in nodes:
        programs.start_edge(node, config_of(programs, node, origin_url, on_disk=node != memory_only))
    programs.wait_joined()


def config_of(programs: Swarm, node: str, origin_url: str, *, on_disk: bool = True) -> dict[str, Any]:
    config = programs.edge_config(node) | {"origin": {"url": origin_url, "trust": "attested"}}
    return config if on_disk else config | {"cache": {"memory": "64MiB", "disk": 0}}


def bodies(programs: Swarm, path: str) -> set[bytes]:
    """What viewers of all edges get, asked one after another."""
    return {get(programs.url(node, path)).body for node in programs.edges}


def until(fact: Callable[[], bool], what: str) -> float:
    """How long that took, in seconds. TimeoutError says what did not come true."""
    began = time.monotonic()
    while not fact():
        if time.monotonic() - began > WITHIN_S:
            raise TimeoutError(f"not within {WITHIN_S} s: {what}")
        time.sleep(0.005)
    return time.monotonic() - began


def in_force(programs: Swarm, node: str) -> int:
    count: int = programs.status(node)["purges"]["in_force"]
    return count
