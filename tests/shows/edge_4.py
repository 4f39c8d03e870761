"""Line 4: a million objects on disk, what each costs in memory, and how soon they are served after `kill -9`; and what
the cache keeps of what will be asked for, beside others' ways to choose.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from deploy.programs import ROOT
from tests.integration.alone import Alone, alone_config
from tests.integration.by_hand import get
from tests.shows import eviction_ratio
from tests.shows.many_objects import body_of, path_of
from tests.shows.measured import Measured, at_most, told

OBJECTS = 1_000_000
MOST_BYTES_AN_OBJECT = 400
MOST_FIRST_HIT_S = 10.0
RUNS = 3
NODE = "alone"
ORIGIN = "http://127.0.0.1:1"  # never asked


def run() -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="starling-edge-4-", dir=os.environ.get("SHOW_DIRECTORY")) as name:
        return [*index(Path(name), OBJECTS), *eviction_ratio.run()]


def index(directory: Path, count: int) -> list[Measured]:
    (directory / "empty").mkdir()
    (directory / "full").mkdir()
    made_s = make(directory / "full" / "cache", count)
    empty = [start(directory / "empty").rss for _ in range(RUNS)]
    full = [start(directory / "full", count) for _ in range(RUNS)]
    each = [(one.rss - min(empty)) / count for one in full]
    first = [one.first_hit_s for one in full]
    return [
        told("objects on disk", [count], "", f"written in {made_s:.0f} s"),
        at_most("index memory, RSS above that of an empty edge", each, MOST_BYTES_AN_OBJECT, "bytes an object"),
        at_most("first hit after kill -9, from starting the program", first, MOST_FIRST_HIT_S, "s"),
    ]


def make(cache: Path, count: int) -> float:
    cache.mkdir()
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.shows.many_objects", str(cache), NODE, str(count)]
    subprocess.run(command, cwd=ROOT, check=True)
    return time.monotonic() - began


class Started:
    """What one start showed. The edge is killed outright at the end, so that the next start finds what that leaves."""

    def __init__(self, rss: int, first_hit_s: float) -> None:
        self.rss = rss
        self.first_hit_s = first_hit_s


def start(directory: Path, count: int = 0) -> Started:
    began = time.monotonic()
    edge = Alone(directory, config(directory))
    try:
        if count:
            check_hit(edge, count // 2)
        first_hit_s = time.monotonic() - began
        rss = rss_of(edge.program.process.pid)
        for number in range(0, count, max(1, count // 1000)):
            check_hit(edge, number)
        return Started(rss, first_hit_s)
    finally:
        edge.program.kill()


def config(directory: Path) -> dict[str, Any]:
    cache = {"directory": str(directory / "cache"), "memory": "64MiB", "disk": "1TiB"}
    return alone_config(directory, ORIGIN, node=NODE, cache=cache)


def check_hit(edge: Alone, number: int) -> None:
    answer = get(edge.url(path_of(number).url_path))
    if answer.body != body_of(number) or "hit; " not in answer.cache_status:
        raise RuntimeError(f"{number}: {answer.status} {answer.cache_status} {answer.body!r}")


def rss_of(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
