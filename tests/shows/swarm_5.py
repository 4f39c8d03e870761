"""Line 5: laggards on shaped links: one slow, one stopped, all silent, one that takes and never sends."""

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import replace
from statistics import median

from loadtests.netlab.laboratory import Laboratory, Setting, laboratory, runs_of
from loadtests.netlab.links import Host, Link
from loadtests.netlab.programs import ORIGIN_PORT, PEER_PORT
from loadtests.netlab.results import Run
from loadtests.netlab.viewers import Mishap, ask_all
from tests.shows.measured import Measured, all_held, text_of
from tests.shows.standing import SPARE, standing

RUNS = 3
MBIT, MIB = 1_000_000, 1 << 20
EIGHT = Setting(edges=8, up_bps=40 * MBIT, down_bps=40 * MBIT, origin_bps=40 * MBIT, size_bytes=16 * MIB)
TENTH = Link(4 * MBIT, 4 * MBIT)  # it is configured as fast as the others, and is not
STOPPED_AT = 0.25  # of the limit
MOST_LATER, MOST_FIRST, MOST_NEXT = 1.15, 1.30, 1.15
MOST_WAIT_S = 0.25
NETWORK = "bbr, netlab"


def run() -> list[Measured]:
    seven = standing(runs_of(replace(EIGHT, edges=7), RUNS + SPARE), RUNS, "seven edges")
    if not seven:
        return [Measured("netlab, seven edges", None, ok=False, detail="no run stands", network=NETWORK)]
    without_s = median(one.last_s for one in seven)
    first, following = _taking()
    slow, stopped = (standing(runs, RUNS, "laggard") for runs in (_slow(), _stopped()))
    return [
        *_compared("one of eight edges has a tenth of the speed", slow, without_s, MOST_LATER),
        *_compared("one of eight edges is stopped (SIGSTOP)", stopped, without_s, MOST_LATER),
        *_compared("one of eight edges takes and never sends, first object", first, without_s, MOST_FIRST),
        *_compared("one of eight edges takes and never sends, next object", following, without_s, MOST_NEXT),
        *_silent(),
    ]


def _laggard(lab: Laboratory) -> Host:
    return lab.edge_hosts[1]


def _slow() -> Generator[Run, None, None]:
    with laboratory(EIGHT) as lab:
        _laggard(lab).reshape(TENTH)
        while True:
            yield lab.run()


def _stopped() -> Generator[Run, None, None]:
    with laboratory(EIGHT) as lab:
        victim = _laggard(lab)
        others = [host for host in lab.edge_hosts if host is not victim]
        stop = Mishap(STOPPED_AT * lab.setting.limit_s(1.0), lambda: lab.programs.stop_for_now(victim))
        while True:
            yield lab.run(asking=others, mishaps=[stop], afterwards=lambda: lab.programs.go_on(victim))
            lab.programs.wait_joined()


def _taking() -> tuple[list[Run], list[Run]]:
    """The first object of each swarm, and the next."""
    first: list[Run] = []
    following: list[Run] = []
    for _ in range(RUNS + SPARE):
        pair = standing(_two_while_one_takes(), 2, "takes and never sends")
        if len(pair) == 2:
            first.append(pair[0])
            following.append(pair[1])
        if len(first) == RUNS:
            break
    return first, following


def _two_while_one_takes() -> Generator[Run, None, None]:
    with laboratory(EIGHT) as lab:
        _laggard(lab).withhold(PEER_PORT)
        for _ in range(2):
            yield lab.run()


def _compared(what: str, runs: list[Run], without_s: float, limit: float) -> Iterator[Measured]:
    """The other seven's last finish by the one without the laggard."""
    name = f"netlab, {what}"
    ratios = [max(s for edge, s in one.finished_s.items() if edge != "edge-2") / without_s for one in runs]
    detail = ", ".join(text_of(ratio) for ratio in ratios) or "no run stands"
    typical = median(ratios) if ratios else None
    ok = len(runs) == RUNS and typical is not None and typical <= limit
    yield Measured(f"{name}: the others / without it", typical, "", limit, ok, detail, len(runs), NETWORK)
    wrong = [what for one in runs for what in one.wrong]
    yield replace(all_held(f"{name}: bodies by SHA-256", wrong, len(runs) * 8, len(runs)), network=NETWORK)


def _silent() -> Iterator[Measured]:
    """All peers stopped: the first byte at one edge, beside the origin's own to a viewer on the same host."""
    waits_s = []
    with laboratory(EIGHT) as lab:
        asked, *peers = lab.edge_hosts
        for _ in range(RUNS):
            path, _ = lab.new_object()
            [own] = ask_all([asked], ORIGIN_PORT, path, 30.0, address=lab.origin_host.address)
            path, _ = lab.new_object()
            with _all_stopped(lab, peers):
                [got] = lab.ask(path, [asked])
            waits_s.append(got.first_s - own.first_s)
            lab.programs.wait_joined()
    typical = median(waits_s)
    name = "netlab, all peers silent: first byte, beyond the origin's own"
    detail = ", ".join(f"{one:.3f}" for one in waits_s)
    yield Measured(name, typical, "s", MOST_WAIT_S, typical <= MOST_WAIT_S, detail, RUNS, NETWORK)


@contextlib.contextmanager
def _all_stopped(lab: Laboratory, hosts: list[Host]) -> Iterator[None]:
    try:
        for host in hosts:
            lab.programs.stop_for_now(host)
        yield
    finally:
        for host in hosts:
            lab.programs.go_on(host)
