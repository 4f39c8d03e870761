"""Line 2: the home of a quarter of the pieces is killed in the middle of an object.

A viewer stands for a player with 4 s of buffer that plays what it gets as it comes: it stalls if it is left without a
byte for longer than that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from loadtests.netlab.laboratory import Setting, laboratory
from loadtests.netlab.programs import Plan, total
from loadtests.netlab.results import Run, line
from loadtests.netlab.viewers import Mishap
from tests.shows.measured import Measured, all_held, at_most

RUNS = 3
MBIT, MIB = 1_000_000, 1 << 20
FOUR = Setting(edges=4, up_bps=40 * MBIT, down_bps=40 * MBIT, origin_bps=40 * MBIT, size_bytes=32 * MIB)
MOMENTS = (0.25, 0.5, 0.75)  # of the limit
MORE_COPIES = 0.03
BUFFER_S = 4.0
NETWORK = "bbr, netlab"


@dataclass(frozen=True)
class Killed:
    """A run, and the part of the object that the dead edge alone had."""

    run: Run
    lost: float


def run() -> list[Measured]:
    return [
        figure
        for plan, origin in ((Plan(), "our origin"), (Plan(foreign=True), "nginx as origin"))
        for figure in _figures(origin, replace(FOUR, plan=plan))
    ]


def _figures(origin: str, setting: Setting) -> Iterator[Measured]:
    killed = [_killed(setting, moment) for moment in MOMENTS for _ in range(RUNS)]
    name = f"netlab, one of four homes killed, {origin}"
    wrong = [what for one in killed for what in one.run.wrong]
    excess = [one.run.copies - one.lost for one in killed]
    silent_s = [max(one.run.silent_s.values()) for one in killed]
    found = [
        all_held(f"{name}: bodies by SHA-256", wrong, 3 * len(killed), len(killed)),
        at_most(f"{name}: origin copies, less what the dead edge alone had", excess, 1 + MORE_COPIES),
        at_most(f"{name}: longest time a viewer had no byte", silent_s, BUFFER_S, "s"),
    ]
    for figure in found:
        yield replace(figure, network=NETWORK)


def _killed(setting: Setting, moment: float) -> Killed:
    lost = [0.0]
    with laboratory(setting) as lab:
        victim, *others = lab.edge_hosts

        def kill() -> None:
            """What it had sent to the others on average is the least that one of them had of what it had fetched."""
            samples = lab.programs.metrics(victim)
            fetched = total(samples, "starling_origin_bytes_total")
            relayed = total(samples, "starling_peer_sent_bytes_total") / len(others)
            lost[0] = max(0.0, fetched - relayed) / setting.size_bytes
            lab.programs.kill(victim)

        found = lab.run(asking=others, mishaps=[Mishap(moment * setting.limit_s(1.0), kill)])
    print(f"killed at {moment}, alone with {lost[0]:.4f}: {line(found)}", flush=True)
    return Killed(found, lost[0])
