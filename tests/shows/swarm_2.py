"""Line 2: the home of a quarter of the pieces is killed in the middle of an object.

A viewer stands for a player with 4 s of buffer that plays what it gets as it comes: it stalls if it is left without a
byte for longer than that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from loadtests.netlab.laboratory import Laboratory, Setting, laboratory
from loadtests.netlab.programs import Plan
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
    excess = [one.run.heard_copies - one.lost for one in killed]
    silent_s = [max(one.run.silent_s.values()) for one in killed]
    found = [
        all_held(f"{name}: bodies by SHA-256", wrong, 3 * len(killed), len(killed)),
        at_most(f"{name}: origin copies, less what the dead edge alone had", excess, 1 + MORE_COPIES),
        at_most(f"{name}: longest time a viewer had no byte", silent_s, BUFFER_S, "s"),
    ]
    for figure in found:
        yield replace(figure, network=NETWORK)


class _Victim:
    """An edge whose interface is read when all have asked, and again when it is killed."""

    def __init__(self, lab: Laboratory) -> None:
        self._lab = lab
        self._host, *self.others = lab.edge_hosts
        self._before = (0, 0)
        self.lost = 0.0

    def mishaps(self, moment: float) -> list[Mishap]:
        return [Mishap(0.0, self._watch), Mishap(moment * self._lab.setting.limit_s(1.0), self._die)]

    def _watch(self) -> None:
        self._before = self._host.heard_from_origin(), self._host.payload_sent()

    def _die(self) -> None:
        """Of what it had fetched, one of the others had at least what it had sent them on average."""
        self._lab.programs.kill(self._host)
        fetched = self._host.heard_from_origin() - self._before[0]
        relayed = (self._host.payload_sent() - self._before[1]) / len(self.others)
        self.lost = max(0.0, fetched - relayed) / self._lab.setting.size_bytes


def _killed(setting: Setting, moment: float) -> Killed:
    with laboratory(setting) as lab:
        victim = _Victim(lab)
        found = lab.run(asking=victim.others, mishaps=victim.mishaps(moment))
    print(f"killed at {moment}, alone with {victim.lost:.4f}: {line(found)}", flush=True)
    return Killed(found, victim.lost)
