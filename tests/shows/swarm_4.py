"""Line 4, on loopback: the same in `hybrid`, `pure` and `superpeer`; the tracker killed at the start, in the middle,
and restarted; and what gossip does among a hundred edges. Times against the limit are the netlab's to show.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from deploy.programs import Program, Swarm, running_swarm
from tests.deploy.panels import wait_until
from tests.integration.downloads import MIB, at_once, download, random_file, sent_by_origin, wrong
from tests.integration.topologies import EDGES, members_of, nobodys_port, origin_alone, sees, start_edge_with
from tests.shows.measured import Measured, all_held, at_most, told
from tests.sim.gossip_at_scale import Run
from tests.sim.gossip_at_scale import run as gossip_run

SIZE = 32 * MIB
RUNS = 3
SEEDS = 10
QUIET_S = 600.0
MOST_COPIES = 1.01
MOST_APART = 1.15  # hybrid and pure
MOST_JOIN_S = 2.0
MOST_DEATH_S = 6.0
WITHIN_S = 30.0
IDLE_S = 10.0


class Findings:
    """What is amiss, and how often the origin sent what was asked."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.checked = 0
        self.copies: list[float] = []

    def ask_everywhere(self, programs: Swarm, name: str, on_size: Callable[[int], None] = lambda size: None) -> float:
        """A cold file of every edge at once; when the last had it."""
        sha256 = random_file(programs.media / name, SIZE)
        before = sent_by_origin(programs)
        urls = [programs.url(node, f"/{name}") for node in programs.edges]
        got = at_once([partial(download, url, None, on_size) for url in urls])
        self.wrong += wrong(got, sha256)
        self.checked += len(got)
        self.copies.append((sent_by_origin(programs) - before) / SIZE)
        return max(one.took_s for one in got)


def run() -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="show-swarm-4-") as name:
        directory = Path(name)
        figures = []
        took: dict[str, list[float]] = {}
        for topology in EDGES:
            took[topology], more = cold_files(directory / topology, topology)
            figures += more
        apart = max(median(took["hybrid"]) / median(took["pure"]), median(took["pure"]) / median(took["hybrid"]))
        figures.append(at_most("hybrid and pure: the slower over the faster", [apart], MOST_APART))
        return [*figures, *tracker_taken_away(directory), *a_hundred()]


def cold_files(directory: Path, topology: str) -> tuple[list[float], list[Measured]]:
    found = Findings()
    with running_swarm(directory, EDGES[topology], topology=topology) as programs:
        took_s = [found.ask_everywhere(programs, f"{turn}.bin") for turn in range(RUNS)]
        idle = [idle_bytes(programs, node) for node in programs.edges]
        leaves = [node for node in programs.edges if programs.superpeers and node not in programs.superpeers]
        sent = [programs.total(node, "starling_peer_sent_bytes_total") for node in leaves]
        victim = list(programs.edges)[1]
        programs.edges.pop(victim).kill()
        died_s = seconds_until(lambda: all(victim not in sees(programs, node) for node in programs.edges))
        found.ask_everywhere(programs, "after.bin")
    size = f"{SIZE // MIB} MiB at {len(EDGES[topology])} edges"
    figures = [
        all_held(f"{topology}: wrong bodies of {size}, one edge killed", found.wrong, found.checked, RUNS),
        at_most(f"{topology}: origin copies", found.copies, MOST_COPIES),
        told(f"{topology}: last edge has {size}", took_s, "s"),
        told(f"{topology}: gossip while nothing happens", idle, "bytes/s an edge"),
        at_most(f"{topology}: killed, and out of every view", [died_s], MOST_DEATH_S, "s"),
    ]
    if leaves:
        figures.append(at_most(f"{topology}: bytes uploaded by leaves", sent, 0, "bytes"))
    return took_s, figures


def seconds_until(fact: Callable[[], bool]) -> float:
    began = time.monotonic()
    wait_until(fact, WITHIN_S, lambda: "not within the time")
    return time.monotonic() - began


def idle_bytes(programs: Swarm, node: str) -> float:
    metric = 'starling_control_bytes_total{kind="gossip"}'
    before = programs.metrics(node)[metric]
    time.sleep(IDLE_S)
    return (programs.metrics(node)[metric] - before) / IDLE_S


def tracker_taken_away(directory: Path) -> list[Measured]:
    found, times = Findings(), []
    with origin_alone(directory / "never") as programs, nobodys_port() as nowhere:
        for node in EDGES["hybrid"]:
            start_edge_with(programs, node, nowhere)
        programs.wait_joined()
        found.ask_everywhere(programs, "never.bin")
    with origin_alone(directory / "killed") as programs:
        tracker = programs.start_tracker()
        for node in EDGES["hybrid"]:
            start_edge_with(programs, node, tracker.ready["listen"])
        programs.wait_joined()
        found.ask_everywhere(programs, "middle.bin", partial(_kill_in_the_middle, tracker))
        tracker.kill()
        start_edge_with(programs, "edge-4", tracker.ready["listen"])
        times.append(seconds_until(lambda: all("edge-4" in sees(programs, node) for node in EDGES["hybrid"])))
        found.ask_everywhere(programs, "gone.bin")
        tracker = programs.start_tracker(tracker.ready["listen"])
        wait_until(lambda: members_of(tracker) == set(programs.edges), WITHIN_S, lambda: str(members_of(tracker)))
        found.ask_everywhere(programs, "back.bin")
    what = "hybrid, tracker killed at the start, in the middle, restarted"
    return [
        all_held(f"{what}: wrong bodies", found.wrong, found.checked),
        at_most(f"{what}: origin copies", found.copies, MOST_COPIES),
        at_most("hybrid without its tracker: who joined is in every view", times, MOST_JOIN_S, "s"),
    ]


def _kill_in_the_middle(victim: Program, size: int) -> None:
    if size > SIZE // 4 and victim.process.poll() is None:
        victim.process.kill()


def a_hundred() -> list[Measured]:
    runs: list[Run] = [gossip_run(seed, 0.01, QUIET_S) for seed in range(SEEDS)]
    where = f"{SEEDS} seeds of 100 edges, 10 min, 1 % loss"
    return [
        at_most(f"{where}: members buried though they live", [one.false_deaths for one in runs], 0),
        at_most(f"{where}: joined, and in every view with weight", [one.joined_s for one in runs], MOST_JOIN_S, "s"),
        at_most(
            f"{where}: dead without a word, and out of every view", [one.died_s for one in runs], MOST_DEATH_S, "s"
        ),
        told(f"{where}: gossip while nothing happens", [one.idle_bps for one in runs], "bytes/s an edge"),
    ]
