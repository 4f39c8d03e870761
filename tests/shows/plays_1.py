"""`make demo`: one origin copy, no stall, no error; three copies without the swarm; nothing left behind, ever."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.demo_runs import WAYS, DemoRun, kill_make, wait_for_nothing_left
from tests.shows.measured import Measured, all_held, at_least, at_most, told

RUNS, RUNS_ALONE = 3, 3
SECONDS = "20"
AT_S = (0.1, 0.5, 1.5, 3.0, 5.0, 8.0, 12.0, 20.0)  # from the start of make; the demo is starting up for most of it


def run() -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="show-") as name:
        directory = Path(name)
        together = [_demo(directory, {"DEMO_SECONDS": SECONDS}) for _ in range(RUNS)]
        alone = [_demo(directory, {"DEMO_SECONDS": SECONDS, "DEMO_SWARM": "off"}) for _ in range(RUNS_ALONE)]
        left = _left_behind(directory)
    copies = [one["origin_copies"] for one in together]
    return [
        at_most("demo: origin copies", copies, 1.15),
        at_most("demo: stalls", [one["stalls"] for one in together], 0),
        at_most("demo: errors", [one["errors"] for one in together], 0, detail=_problems(together)),
        at_most("demo: exit code", [one["code"] for one in together + alone], 0),
        told("demo: peer share", [one["peer_share"] for one in together]),
        told("demo: start-up, mean of six viewers", [one["startup_s"] for one in together], "s"),
        at_least("demo without the swarm: origin copies", [one["origin_copies"] for one in alone], 2.5),
        at_most("demo without the swarm: stalls and errors", [one["stalls"] + one["errors"] for one in alone], 0),
        all_held("demo told to stop: processes left behind", left, len(WAYS) * len(AT_S)),
    ]


def _demo(directory: Path, environ: dict[str, str]) -> dict[str, Any]:
    with DemoRun(directory / "demo.txt", environ) as demo:
        code = demo.wait()
        figures = demo.figures()
        left = demo.left()
        problems = [line for line in demo.said().splitlines() if line.startswith("a viewer met")]
    return {**figures, "code": code if not left else -1, "problems": problems}


def _problems(runs: list[dict[str, Any]]) -> str:
    return "; ".join([problem for one in runs for problem in one["problems"]][:3])


def _left_behind(directory: Path) -> list[str]:
    """Every way to stop it, at moments all over its start-up and after."""
    return [one for at_s in AT_S for way in WAYS for one in _stopped(directory, way, at_s)]


def _stopped(directory: Path, way: Callable[[DemoRun], None], at_s: float) -> list[str]:
    with DemoRun(directory / "demo.txt", {}) as demo:
        time.sleep(at_s)  # the moment is what is varied here
        if way is kill_make:
            demo.wait_until_said("making a film")  # killed before it ran anything, make leaves no trace to notice
        way(demo)
        left = wait_for_nothing_left(demo)
        return [f"{way.__name__} after {at_s} s: {', '.join(left.values())}"] if left else []
