"""Line 3: a swarm in two halves and when it is whole again; an edge leaves, one joins, one restarts empty."""

from collections.abc import Iterator
from dataclasses import replace

from loadtests.netlab.laboratory import Laboratory, Setting, laboratory, not_the_object
from loadtests.netlab.programs import Plan
from loadtests.netlab.results import Run, line
from tests.shows.measured import Measured, all_held, at_most

RUNS = 3
MBIT, MIB = 1_000_000, 1 << 20
EIGHT = Setting(edges=8, up_bps=40 * MBIT, down_bps=40 * MBIT, origin_bps=40 * MBIT, size_bytes=16 * MIB)
# Churn is about bytes, not about time: links that do not hold it up.
OBJECTS = 64
CHURNING = Setting(edges=5, up_bps=1000 * MBIT, down_bps=1000 * MBIT, origin_bps=1000 * MBIT, size_bytes=16 * MIB)
MOST_PER_SIDE, MOST_AFTER, MOST_AFTER_FOREIGN, MOST_CHURN = 1.05, 1.10, 2.0, 0.01
NETWORK = "bbr, netlab"


def run() -> list[Measured]:
    return [
        figure
        for foreign, origin in ((False, "our origin"), (True, "nginx as origin"))
        for figures in (_halves(foreign, origin), _churn(foreign, origin))
        for figure in figures
    ]


def _halves(foreign: bool, origin: str) -> Iterator[Measured]:
    with laboratory(replace(EIGHT, plan=Plan(foreign=foreign))) as lab:
        left, right = lab.edge_hosts[:4], lab.edge_hosts[4:]
        for here, there in ((left, right), (right, left)):
            for host in here:
                host.cut(there)
        apart = [_told(lab.run()) for _ in range(RUNS)]
        for host in lab.edge_hosts:
            host.heal()
        after = [_told(lab.run()) for _ in range(RUNS)]
    most_after = MOST_AFTER_FOREIGN if foreign else MOST_AFTER
    name = f"netlab, two halves of four, {origin}"
    wrong = [what for one in (*apart, *after) for what in one.wrong]
    for figure in (
        at_most(f"{name}: copies a side", [one.copies / 2 for one in apart], MOST_PER_SIDE),
        at_most(f"{name}: copies once they hear each other again", [one.copies for one in after], most_after),
        all_held(f"{name}: bodies by SHA-256", wrong, 8 * 2 * RUNS, 2 * RUNS),
    ):
        yield replace(figure, network=NETWORK)


def _told(run: Run) -> Run:
    print(line(run), flush=True)
    return run


def _churn(foreign: bool, origin: str) -> Iterator[Measured]:
    """1 GiB everywhere; then the origin's bytes while all of it is read everywhere again."""
    plan = Plan(foreign=foreign, late=1, memory="64MiB")
    with laboratory(replace(CHURNING, plan=plan)) as lab:
        objects = [lab.new_object() for _ in range(OBJECTS)]
        wrong = _read_all(lab, objects)
        leaving, restarting, *_, joining = lab.edge_hosts
        before = lab.origin_bytes()
        lab.programs.leave(leaving)
        lab.programs.start_edge(joining)
        lab.programs.kill(restarting)
        lab.programs.empty(restarting)
        lab.programs.start_edge(restarting)
        lab.programs.wait_joined()
        wrong += _read_all(lab, objects)
        again = (lab.origin_bytes() - before) / (OBJECTS * CHURNING.size_bytes)
    name = f"netlab, 1 GiB everywhere, one edge leaves, one joins, one restarts empty, {origin}"
    for figure in (
        at_most(f"{name}: copies from the origin to read all again", [again], MOST_CHURN),
        all_held(f"{name}: bodies by SHA-256", wrong, 2 * 4 * OBJECTS),
    ):
        yield replace(figure, network=NETWORK)


def _read_all(lab: Laboratory, objects: list[tuple[str, str]]) -> list[str]:
    return [what for path, sha256 in objects for what in not_the_object(lab.ask(path), sha256)]
