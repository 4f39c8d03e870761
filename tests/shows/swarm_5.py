"""Line 5: laggards on shaped links: one slow, one stopped, all silent, one that takes and never sends."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from statistics import median

from loadtests.netlab.laboratory import Laboratory, Setting, laboratory
from loadtests.netlab.links import Host, Link
from loadtests.netlab.programs import ORIGIN_PORT, PEER_PORT
from loadtests.netlab.results import Run, line
from loadtests.netlab.viewers import Mishap, ask_all
from tests.shows.measured import Measured, all_held, text_of

RUNS = 3
MBIT, MIB = 1_000_000, 1 << 20
EIGHT = Setting(edges=8, up_bps=40 * MBIT, down_bps=40 * MBIT, origin_bps=40 * MBIT, size_bytes=16 * MIB)
TENTH = Link(4 * MBIT, 4 * MBIT)  # it is configured as fast as the others, and is not
STOPPED_AT = 0.25  # of the limit
MOST_LATER, MOST_FIRST, MOST_NEXT = 1.15, 1.30, 1.15
MOST_WAIT_S = 0.25
NETWORK = "bbr, netlab"


def run() -> list[Measured]:
    without_s = _seven()
    return [
        *_compared("one of eight edges has a tenth of the speed", [_slow(RUNS)], without_s, [MOST_LATER]),
        *_compared("one of eight edges is stopped (SIGSTOP)", [_stopped(RUNS)], without_s, [MOST_LATER]),
        *_compared("one of eight edges takes and never sends", _taking(RUNS), without_s, [MOST_FIRST, MOST_NEXT]),
        *_silent(),
    ]


def _seven() -> float:
    """The last edge's finish in a swarm without the laggard."""
    with laboratory(replace(EIGHT, edges=7)) as lab:
        return median(_told(lab.run()).last_s for _ in range(RUNS))


def _told(run: Run) -> Run:
    print(line(run), flush=True)
    return run


def _laggard(lab: Laboratory) -> Host:
    return lab.edge_hosts[1]


def _slow(runs: int) -> list[Run]:
    with laboratory(EIGHT) as lab:
        _laggard(lab).reshape(TENTH)
        return [_told(lab.run()) for _ in range(runs)]


def _stopped(runs: int) -> list[Run]:
    found = []
    with laboratory(EIGHT) as lab:
        victim = _laggard(lab)
        others = [host for host in lab.edge_hosts if host is not victim]
        for _ in range(runs):
            stop = Mishap(STOPPED_AT * lab.setting.limit_s(1.0), lambda: lab.programs.stop_for_now(victim))
            found.append(_told(lab.run(asking=others, mishaps=[stop], afterwards=lambda: lab.programs.go_on(victim))))
            lab.programs.wait_joined()
    return found


def _taking(runs: int) -> list[list[Run]]:
    """The first object of each swarm, and the next."""
    found: list[list[Run]] = [[], []]
    for _ in range(runs):
        with laboratory(EIGHT) as lab:
            _laggard(lab).withhold(PEER_PORT)
            for runs_of_turn in found:
                runs_of_turn.append(_told(lab.run()))
    return found


def _compared(what: str, turns: list[list[Run]], without_s: float, limits: list[float]) -> Iterator[Measured]:
    """The other seven's last finish by the one without the laggard."""
    for turn, (runs, limit) in enumerate(zip(turns, limits, strict=True)):
        name = f"netlab, {what}" + (f", object {turn + 1}" if len(turns) > 1 else "")
        stand = [one for one in runs if not one.void]
        ratios = [max(s for edge, s in one.finished_s.items() if edge != "edge-2") / without_s for one in stand]
        ok = len(stand) == len(runs) and median(ratios) <= limit
        detail = ", ".join(text_of(ratio) for ratio in ratios) or "no run stands"
        value = median(ratios) if ratios else None
        yield Measured(f"{name}: the others / without it", value, "", limit, ok, detail, len(stand), NETWORK)
        wrong = [w for one in runs for w in one.wrong]
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
