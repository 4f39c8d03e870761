"""A purge reaches every edge of a swarm of five within 1 s; an edge that was away learns of it on return."""

import signal
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from deploy.programs import Swarm
from tests.integration.by_hand import get
from tests.integration.changing_origin import ChangingOrigin, Resource
from tests.integration.conftest import nodes
from tests.integration.purging import WITHIN_S, bodies, config_of, in_force, purge, start_edges, until
from tests.shows.measured import Measured, all_held, at_most, told

LIMIT_S = 1.0
ROUNDS = 20
RETURNS = 5
AWAY_S = 7.0  # the tracker drops a member after 5 s of silence
PATHS = [f"/live/{number}" for number in range(10)]
KINDS: tuple[dict[str, object], ...] = ({"url": PATHS}, {"prefix": "/live/"}, {"key": "live"})
EDGES = nodes(5)
DISKLESS = "edge-5"
HEADERS = {"Cache-Control": "max-age=3600", "ETag": '"always"', "Surrogate-Key": "live"}


def run() -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="show-") as name, ChangingOrigin().running() as origin:
        for path in PATHS:
            origin.paths[path] = Resource(b"0", HEADERS)
        swarm = Swarm(Path(name))
        try:
            start_edges(swarm, origin.url, EDGES, memory_only=DISKLESS)
            return [*_everywhere(swarm, origin), *_on_return(swarm, origin)]
        finally:
            swarm.stop()


def _change(origin: ChangingOrigin, body: bytes) -> None:
    """Under the same validator: only who forgets what it holds will notice."""
    for resource in origin.paths.values():
        resource.body = body
        resource.requests.clear()


# --- everywhere


def _everywhere(swarm: Swarm, origin: ChangingOrigin) -> list[Measured]:
    """Each edge's viewer asks all the time; when does the last of them get the new body for the first time?"""
    reached, answered, wrong, copies = [], [], [], []
    for number in range(ROUNDS):
        old, new = b"%d" % number, b"%d" % (number + 1)
        assert all(bodies(swarm, path) == {old} for path in PATHS)
        _change(origin, new)
        got: dict[str, float] = {}
        viewers = [threading.Thread(target=partial(_watch, swarm, node, new, got)) for node in EDGES]
        for viewer in viewers:
            viewer.start()
        began = time.monotonic()
        answer = purge(swarm, EDGES[number % len(EDGES)], **KINDS[number % len(KINDS)])
        answered.append(time.monotonic() - began)
        wrong += _wrong_after(swarm, new, answer.status, answer.text)
        for viewer in viewers:
            viewer.join()
        reached.append(max(got.get(node, float("inf")) for node in EDGES) - began)
        copies += [float(len(resource.requests)) for resource in origin.paths.values()]
    return [
        at_most("five edges: from POST /purge until the last edge's viewer gets the new body", reached, LIMIT_S, "s"),
        at_most("five edges: POST /purge answered, in force everywhere", answered, LIMIT_S, "s"),
        all_held("five edges: old bodies after the answer", wrong, ROUNDS * len(PATHS) * len(EDGES), ROUNDS),
        at_most("five edges: requests to the origin for each object purged", copies, 1.0),
    ]


def _watch(swarm: Swarm, node: str, new: bytes, got: dict[str, float]) -> None:
    until_at = time.monotonic() + WITHIN_S
    while node not in got and time.monotonic() < until_at:
        if get(swarm.url(node, PATHS[0])).body == new:
            got[node] = time.monotonic()


def _wrong_after(swarm: Swarm, new: bytes, status: int, text: str) -> list[str]:
    wrong = [] if status == 200 else [f"status {status}: {text}"]
    for node in EDGES:
        found = {get(swarm.url(node, path)).body for path in PATHS}
        wrong += [f"{node} still serves {body!r}" for body in found - {new}]
    return wrong


# --- on return


def _on_return(swarm: Swarm, origin: ChangingOrigin) -> list[Measured]:
    stopped, restarted, wrong = [], [], []
    for number in range(RETURNS):
        away = EDGES[1 + number % 4]
        stopped.append(_stop_and_go_on(swarm, origin, away, b"stopped %d" % number))
        began = time.monotonic()
        wrong += _kill_and_start(swarm, origin, away, b"killed %d" % number)
        restarted.append(time.monotonic() - began)
    return [
        at_most(f"an edge stopped for {AWAY_S:g} s: from going on until it knows of a purge", stopped, LIMIT_S, "s"),
        all_held("an edge killed and started again: old bodies served", wrong, RETURNS * len(PATHS), RETURNS),
        told("an edge killed and started again: start, and all its paths asked for", restarted, "s"),
    ]


def _stop_and_go_on(swarm: Swarm, origin: ChangingOrigin, away: str, new: bytes) -> float:
    """How long after it goes on the purge is in force at the edge that was stopped."""
    process = swarm.edges[away].process
    process.send_signal(signal.SIGSTOP)
    try:
        stopped_at = time.monotonic()
        _change(origin, new)
        purge(swarm, EDGES[0], prefix="/live/")
        time.sleep(max(0.0, stopped_at + AWAY_S - time.monotonic()))  # the subject: so long it hears nothing
    finally:
        process.send_signal(signal.SIGCONT)
    took_s = until(lambda: get(swarm.url(away, PATHS[0])).body == new, f"{away} learns of the purge")
    swarm.wait_joined()
    return took_s


def _kill_and_start(swarm: Swarm, origin: ChangingOrigin, away: str, new: bytes) -> list[str]:
    """Old bodies from the edge that was killed, and was not there when the purge was made."""
    swarm.edges[away].kill()
    _change(origin, new)
    purge(swarm, EDGES[0], prefix="/live/")
    swarm.start_edge(away, config_of(swarm, away, origin.url, on_disk=away != DISKLESS))
    found = {path: get(swarm.url(away, path)).body for path in PATHS}
    swarm.wait_joined()
    until(lambda: in_force(swarm, away) == in_force(swarm, EDGES[0]), f"{away} has every purge")
    return [f"{away} served {body!r} for {path}" for path, body in found.items() if body != new]
