"""Line 9: a rolling restart behind a balancer costs no viewer a thing, and churn costs the origin next to nothing.

The balancer is strict: it takes an edge out when `/-/health` is not 200, keeps connections alive on both sides, and
never asks twice. The churn is a join, a leave and restarts with an empty cache, among edges that have read everything.
"""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.programs import ROOT, Program, Swarm, running_swarm
from deploy.streams import live_command, make_film
from tests.deploy.panels import wait_until
from tests.integration.balancer import Balancer, Readers, loop_in_thread
from tests.integration.by_hand import get, get_all
from tests.shows.measured import Measured, all_held, at_most, told

EDGES = ["edge-1", "edge-2", "edge-3"]
WITHIN_S = 60.0
GRACE_S = 3.0
KIB, MIB = 1 << 10, 1 << 20
SMALL_SHARE, LARGE_SHARE = 0.04, 0.5  # of all bytes: in files under 64 KiB, in the largest files
SHARE_LIMIT = 0.02


# --- a rolling restart


@dataclass
class Rolled:
    """What came of it: all these must be empty, but `requests`."""

    requests: int
    reader_errors: list[str]
    balancer_errors: list[str]
    exit_codes: dict[str, int]
    player: dict[str, Any] = field(default_factory=dict)

    @property
    def wrong(self) -> list[str]:
        bad_exits = [f"{node} exited {code}" for node, code in self.exit_codes.items() if code]
        player = [f"{self.player['errors']} errors of the players"] if self.player.get("errors") else []
        return [*self.reader_errors, *self.balancer_errors, *bad_exits, *player]


def drained_config(programs: Swarm, node: str, grace_s: float) -> dict[str, Any]:
    return programs.edge_config(node) | {"drain": {"grace": f"{grace_s:g}s"}}


@contextmanager
def edges_with_grace(directory: Path, grace_s: float) -> Iterator[Swarm]:
    with running_swarm(directory, []) as programs:
        for node in EDGES:
            programs.start_edge(node, drained_config(programs, node, grace_s))
        programs.wait_joined(WITHIN_S)
        yield programs


@contextmanager
def players(urls: list[str], viewers: int, report: dict[str, Any]) -> Iterator[None]:
    """Headless players until the end of the `with`; then `report` is what they saw."""
    command = [sys.executable, "-m", "player", *urls, "--viewers", str(viewers), "--json"]
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stdin=subprocess.DEVNULL)
        try:
            yield
            process.send_signal(signal.SIGINT)
            process.wait(WITHIN_S)
        finally:
            process.kill()
            process.wait()
        out.seek(0)
        report.update(json.load(out))


def rolling_restart(programs: Swarm, urls: list[str], readers: int, viewers: int, grace_s: float = GRACE_S) -> Rolled:
    """Each edge in turn is told to stop, and comes back at the same viewer address, while everybody watches.

    `urls` are what the players watch; the readers read all of media/files.
    """
    files = {
        f"/{path.relative_to(programs.media).as_posix()}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((programs.media / "files").iterdir())
    }
    codes: dict[str, int] = {}
    report: dict[str, Any] = {}
    with loop_in_thread() as loop:
        balancer = Balancer({node: programs.url(node) for node in EDGES})
        url = loop.enter(balancer.running())
        for node in EDGES:
            loop.run(balancer.wait_for(node, is_in=True), WITHIN_S)
        reading = Readers(url, files, readers)
        loop.enter(reading.running())
        with players([url + path for path in urls], viewers, report) if urls else _nobody():
            loop.run(reading.wait_for_requests(readers), WITHIN_S)
            for node in EDGES:
                codes[node] = restart(programs, node, grace_s)
                loop.run(balancer.wait_for(node, is_in=True), WITHIN_S)
                loop.run(reading.wait_for_requests(5 * readers), WITHIN_S)
    missed = [f"{node} was never taken out" for node in EDGES if node not in balancer.taken_out]
    return Rolled(reading.requests, reading.errors, balancer.errors + missed, codes, report)


@contextmanager
def _nobody() -> Iterator[None]:
    yield


def restart(programs: Swarm, node: str, grace_s: float) -> int:
    """SIGTERM, wait, start again at the same viewer address; the exit code."""
    address = programs.edges[node].ready["viewer"]
    code = programs.edges[node].stop()
    config = drained_config(programs, node, grace_s)
    config["viewer"]["listen"] = address
    programs.start_edge(node, config)
    return code


# --- churn


def make_library(media: Path, total_bytes: int, large_bytes: int, seed: int = 9) -> dict[str, str]:
    """Files of several sizes that come to so many bytes: URL path -> SHA-256. Half of it in the largest files."""
    rng = random.Random(seed)
    (media / "library").mkdir()
    sizes = [large_bytes] * max(1, int(total_bytes * LARGE_SHARE / large_bytes))
    small_left = int(total_bytes * SMALL_SHARE)
    while small_left > 0:
        sizes.append(rng.randrange(1, 64 * KIB))
        small_left -= sizes[-1]
    while (left := total_bytes - sum(sizes)) > 0:
        sizes.append(min(left, rng.randrange(64 * KIB, 4 * MIB)))
    library = {}
    for number, size in enumerate(sizes):
        body = rng.randbytes(size)
        name = f"library/{number:05d}.bin"
        (media / name).write_bytes(body)
        library[f"/{name}"] = hashlib.sha256(body).hexdigest()
    return library


def read_everywhere(programs: Swarm, library: dict[str, str]) -> list[str]:
    """Every file through every edge; what came wrong."""
    wrong = []
    paths = list(library)
    for node in reversed(programs.edges):  # the one that came last knows least: it is asked first
        for path, answer in zip(paths, get_all([programs.url(node, path) for path in paths], 4), strict=True):
            if (answer.status, answer.sha256) != (200, library[path]):
                wrong.append(f"{node}{path}: {answer.status}, {answer.size} bytes")
    return wrong


def sent_by_origin(programs: Swarm) -> float:
    return programs.total("origin", "starling_origin_sent_bytes_total")


def wait_ready(programs: Swarm, node: str) -> None:
    """Until it says so: what an operator waits for, and no more."""

    def readiness() -> int:
        return get(programs.admin_url(node, "/readyz")).status

    wait_until(lambda: readiness() == 200, WITHIN_S, lambda: f"{node}: {readiness()}")


@dataclass
class Churned:
    """Origin bytes as parts of the library, by what happened; and what viewers got wrong."""

    cost: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, dict[str, float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


class Churn:
    """A swarm that loses and gains edges, and what reading everything then costs the origin."""

    def __init__(self, programs: Swarm, library: dict[str, str], total_bytes: int) -> None:
        self._programs = programs
        self._library = library
        self._total_bytes = total_bytes
        self.churned = Churned()

    def read(self, what: str) -> None:
        """Read all of it everywhere, and note what it cost under this name."""
        before, by_reason = sent_by_origin(self._programs), self._by_reason()
        self.churned.wrong += [f"{what}: {line}" for line in read_everywhere(self._programs, self._library)]
        self.churned.cost[what] = (sent_by_origin(self._programs) - before) / self._total_bytes
        after = self._by_reason()
        self.churned.reasons[what] = {
            reason: after[reason] - by_reason[reason] for reason in after if after[reason] != by_reason[reason]
        }

    def _by_reason(self) -> dict[str, float]:
        status: dict[str, float] = self._programs.status("origin")["sent_bytes"]
        return status

    def join(self, node: str) -> None:
        self._programs.start_edge(node)
        wait_ready(self._programs, node)

    def leave(self, node: str) -> None:
        code = self._programs.edges.pop(node).stop()
        self.churned.wrong += [f"{node} left with {code}"] if code else []

    def lose_cache(self, node: str, *, killed: bool) -> None:
        """Stop or kill it, empty its directory, start it again."""
        if killed:
            self._programs.edges[node].kill()
        else:
            self._programs.edges[node].stop()
        shutil.rmtree(self._programs.directory / node)
        address = self._programs.edges.pop(node).ready["peer"]
        config = self._programs.edge_config(node)
        config["peer"]["listen"] = address
        self._programs.start_edge(node, config)
        wait_ready(self._programs, node)


def churn(programs: Swarm, total_bytes: int, large_bytes: int) -> Churned:
    """A join, a leave and two restarts with an empty cache, with everything read everywhere before and after each."""
    churning = Churn(programs, make_library(programs.media, total_bytes, large_bytes), total_bytes)
    churning.read("cold")
    churning.join("edge-4")
    churning.read("a join")
    churning.leave("edge-2")
    churning.read("a leave")
    churning.lose_cache("edge-3", killed=True)
    churning.read("a kill -9 and an emptied cache")
    churning.lose_cache("edge-1", killed=False)
    churning.read("a stop and an emptied cache")
    return churning.churned


def read_once_each(programs: Swarm, library: dict[str, str]) -> None:
    """Each file through one edge only, dealt round."""
    nodes = list(programs.edges)
    for number, path in enumerate(library):
        get(programs.url(nodes[number % len(nodes)], path))


def churn_of_the_little_read(programs: Swarm, total_bytes: int, large_bytes: int) -> Churned:
    """The same where each file was read through one edge only: what only the lost edge had must be fetched again."""
    library = make_library(programs.media, total_bytes, large_bytes)
    churning = Churn(programs, library, total_bytes)
    read_once_each(programs, library)
    churning.join("edge-4")
    churning.read("a join")
    return churning.churned


def losing_an_edge_of_the_little_read(programs: Swarm, total_bytes: int, large_bytes: int) -> Churned:
    library = make_library(programs.media, total_bytes, large_bytes)
    churning = Churn(programs, library, total_bytes)
    read_once_each(programs, library)
    churning.lose_cache("edge-3", killed=True)
    churning.read("a kill -9 and an emptied cache")
    return churning.churned


# --- the show


def run() -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="starling-plays-9-") as directory:
        return [*_show_restart(Path(directory) / "restart"), *_show_churn(Path(directory))]


def _show_restart(directory: Path) -> list[Measured]:
    with edges_with_grace(directory, GRACE_S) as programs:
        make_film(programs.media / "film", 120.0)
        make_files(programs.media / "files")
        live = Program(
            "ffmpeg", live_command(f"http://{programs.origin_address}/live"), directory / "ffmpeg.log", waits=False
        )
        try:
            wait_until(
                lambda: get(programs.url("edge-1", "/live/master.m3u8")).status == 200, WITHIN_S, lambda: live.said()
            )
            rolled = rolling_restart(programs, ["/live/master.m3u8", "/film/master.m3u8"], readers=8, viewers=6)
        finally:
            live.stop(within_s=5)
    keys = ("viewers", "startup_s", "stalls", "watched_s", "latency_s", "errors", "problems")
    detail = f"players: { ({key: rolled.player[key] for key in keys}) }"
    return [
        all_held("viewer errors in a rolling restart", rolled.wrong, rolled.requests),
        told("requests during it", [rolled.requests], "requests", detail),
        told("stalls of six players during it", [rolled.player["stalls"]], "stalls"),
    ]


def make_files(directory: Path, seed: int = 7) -> None:
    """A few plain files of several sizes."""
    directory.mkdir(parents=True)
    rng = random.Random(seed)
    for number, size in enumerate((1000, 40_000, 300_000, 2_000_000, 5_000_000)):
        (directory / f"{number}.bin").write_bytes(rng.randbytes(size))


def _show_churn(directory: Path) -> list[Measured]:
    total, large = 1024 * MIB, 64 * MIB
    figures = []
    with running_swarm(directory / "churn", EDGES) as programs:
        churned = churn(programs, total, large)
        figures.append(all_held("wrong bodies in churn", churned.wrong, 5))
        for what, cost in churned.cost.items():
            if what == "cold":
                figures.append(told("origin bytes / 1 GiB read everywhere, cold", [cost]))
            else:
                figures.append(at_most(f"origin bytes / 1 GiB after {what}", [cost], SHARE_LIMIT))
    for name, scenario in (("joined", churn_of_the_little_read), ("lost", losing_an_edge_of_the_little_read)):
        with running_swarm(directory / name, EDGES) as programs:
            churned = scenario(programs, total // 4, large)
            for what, cost in churned.cost.items():
                reasons = ", ".join(f"{reason} {size / MIB:.1f} MiB" for reason, size in churned.reasons[what].items())
                figures.append(
                    told(f"the same after {what}, each file read through one edge before", [cost], "", reasons)
                )
    return figures
