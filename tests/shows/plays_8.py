"""Line 8: bad input is answered, not suffered.

Every case is a test with real programs; here they run once more, and what tests must not judge is measured: whether an
edge that nobody reaches slows any viewer, and whether players stall at an edge whose clock is wrong.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from xml.etree import ElementTree

from deploy.programs import ROOT, Program, Swarm, running_swarm
from deploy.streams import live_command, make_film
from tests.deploy.panels import wait_until
from tests.integration.by_hand import get
from tests.integration.clocks import start_edge
from tests.shows.measured import Measured, all_held, at_most

TESTS = ("test_bad_input.py", "test_membership.py", "test_clock.py")
OFF_S = {"right": 0.0, "fast": 30.0, "slow": -30.0}
LIVE, FILM = "/live/master.m3u8", "/film/master.m3u8"
WATCH_S = 30.0
FILES, FILE_BYTES = 100, 500_000
SLOWER = 1.5  # an edge that is home for nothing asks another for everything: one hop more for a third of it
WITHIN_S = 60.0


def run() -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="starling-plays-8-") as name:
        directory = Path(name)
        return [_tests(directory / "junit.xml"), *_leaf(directory / "leaf"), *_clock(directory / "clock")]


def _tests(report: Path) -> Measured:
    """Every test of bad input, and what failed or could not run here."""
    files = [str(ROOT / "tests" / "integration" / name) for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *files]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
    cases = list(ElementTree.parse(report).iter("testcase"))
    wrong = [str(case.get("name")) for case in cases if any(child.tag != "system-out" for child in case)]
    return all_held("cases of bad input", wrong, len(cases))


# --- an address that nobody reaches


@contextmanager
def silent_port() -> Iterator[int]:
    """Takes a connection and never says a word: worse for whoever asks than one that refuses."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


def _times(programs: Swarm, nodes: list[str], name: str) -> dict[str, float]:
    """Median seconds to read a file that nobody has yet, by edge; the edges take turns."""
    took: dict[str, list[float]] = {node: [] for node in nodes}
    for number in range(FILES):
        for node in nodes:
            path = f"{name}-{node}-{number}.bin"
            (programs.media / path).write_bytes(os.urandom(FILE_BYTES))
            answer = get(programs.url(node, f"/{path}"))
            if (answer.status, answer.size) != (200, FILE_BYTES):
                raise RuntimeError(f"{node}/{path}: {answer.status}, {answer.size} bytes")
            took[node].append(answer.took_s)
    return {node: median(times) for node, times in took.items()}


def _leaf(directory: Path) -> list[Measured]:
    healthy = ["edge-1", "edge-2"]
    with running_swarm(directory, healthy) as programs, silent_port() as port:
        before = _times(programs, healthy, "before")
        config = programs.edge_config("edge-3")
        config["peer"]["advertise"] = f"http://127.0.0.1:{port}"
        programs.start_edge("edge-3", config)
        wait_until(
            lambda: b"leaf: not reached" in get(programs.admin_url("edge-3", "/readyz")).body,
            WITHIN_S,
            lambda: str(get(programs.admin_url("edge-3", "/readyz")).body),
        )
        after = _times(programs, [*healthy, "edge-3"], "after")
    others = median(after[node] for node in healthy)
    detail = f"{1000 * others:.1f} ms a file of {FILE_BYTES} bytes at a healthy edge"
    slowed = others / median(before.values())
    return [
        at_most("time at healthy edges, beside one that nobody reaches / without it", [slowed], SLOWER, "", detail),
        at_most(
            "time at an edge that nobody reaches / at a healthy one", [after["edge-3"] / others], SLOWER, "", detail
        ),
    ]


# --- a wrong clock


def _clock(directory: Path) -> list[Measured]:
    with running_swarm(directory, []) as programs:
        for node, off_s in OFF_S.items():
            start_edge(programs, node, off_s)
        programs.wait_joined(WITHIN_S)
        make_film(programs.media / "film", WATCH_S + 10)
        live = Program(
            "ffmpeg", live_command(f"http://{programs.origin_address}/live"), directory / "ffmpeg.log", waits=False
        )
        try:
            wait_until(lambda: get(programs.url("right", LIVE)).status == 200, WITHIN_S, live.said)
            report = _watch(programs)
        finally:
            live.stop(within_s=5)
        metrics = programs.metrics("origin")
        copies = programs.total("origin", "starling_origin_sent_bytes_total") / max(
            metrics["starling_origin_distinct_bytes_total"], 1
        )
    detail = f"six players, {WATCH_S:.0f} s each, through edges 0, +30 and -30 s off"
    return [
        at_most("errors at edges with wrong clocks", [report["errors"]], 0, "errors", detail),
        at_most("stalls at edges with wrong clocks", [report["stalls"]], 0, "stalls", detail),
        at_most("origin copies with wrong clocks", [copies], 1.15, "", detail),
    ]


def _watch(programs: Swarm) -> dict[str, float]:
    urls = [programs.url(node, path) for node in OFF_S for path in (LIVE, FILM)]
    command = [sys.executable, "-m", "player", *urls, "--seconds", str(WATCH_S), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WATCH_S + WITHIN_S, check=False)
    report: dict[str, float] = json.loads(done.stdout)
    return report
