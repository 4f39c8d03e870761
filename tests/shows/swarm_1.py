"""Line 1: one object asked of all edges at once on shaped links, against the fluid limit, libtorrent and no swarm."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from loadtests.netlab.laboratory import Setting, runs_of
from loadtests.netlab.programs import Plan
from loadtests.netlab.results import RivalRun, Run
from loadtests.netlab.rivals import torrent_runs
from tests.shows.measured import ROOT, Measured, all_held, text_of
from tests.shows.standing import SPARE, standing

RUNS = 5
NO_SWARM_RUNS = 2  # a minute each, and always the same
WARM_UPS = 10
MOST_COPIES = 1.01
WORST = 1.10
MIB = 1 << 20
MBIT = 1_000_000
USUAL = Setting(edges=8, up_bps=40 * MBIT, down_bps=40 * MBIT, origin_bps=40 * MBIT, size_bytes=32 * MIB)


@dataclass(frozen=True)
class Variant:
    """What differs from the usual setting, and what the median is held to."""

    name: str
    setting: Setting
    limit: float
    worst: float | None = None
    warm_ups: int = 0


UNKNOWN, FOREIGN, ALONE = Plan(capacities=False), Plan(foreign=True), Plan(swarm=False)
TWELVE = replace(USUAL, edges=12, up_bps=20 * MBIT, down_bps=20 * MBIT, origin_bps=20 * MBIT)
VARIANTS = (
    Variant("8 edges, 40 Mbit/s, 32 MiB", USUAL, 1.05, WORST),
    Variant("no capacity configured, after 10 objects", replace(USUAL, plan=UNKNOWN), 1.20, warm_ups=WARM_UPS),
    Variant("4 edges", replace(USUAL, edges=4), 1.05),
    Variant("12 edges, 20 Mbit/s", TWELVE, 1.10),
    Variant("origin uplink half an edge's", replace(USUAL, origin_bps=20 * MBIT), 1.10),
    Variant("origin uplink four times an edge's", replace(USUAL, origin_bps=160 * MBIT), 1.10),
    Variant("40 ms round trip", replace(USUAL, rtt_s=0.04), 1.10),
    Variant("nginx as foreign origin", replace(USUAL, plan=FOREIGN), 1.15),
)


def run() -> list[Measured]:
    subprocess.run([str(ROOT / "deploy" / "setup.sh"), "rivals"], check=True)
    return [figure for congestion in ("bbr", "cubic") for figure in _with(congestion)]


def _with(congestion: str) -> Iterator[Measured]:
    for variant in VARIANTS:
        setting = replace(variant.setting, congestion=congestion)
        runs = standing(runs_of(setting, RUNS + SPARE, variant.warm_ups), RUNS, variant.name)
        yield from judged(variant, congestion, runs)
    usual = replace(USUAL, congestion=congestion)
    alone = replace(usual, plan=ALONE)
    yield told(congestion, "no swarm", standing(runs_of(alone, NO_SWARM_RUNS + SPARE), NO_SWARM_RUNS, "no swarm"))
    for web_seed, name in ((False, "libtorrent, origin as seed"), (True, "libtorrent, origin as web seed")):
        rivals = standing(torrent_runs(usual, RUNS + SPARE, web_seed=web_seed), RUNS, name)
        yield told(congestion, name, rivals)


def judged(variant: Variant, congestion: str, runs: Sequence[Run]) -> Iterator[Measured]:
    """Nothing that did not stand is a figure, and too few that stand are no promise kept."""
    name, network = f"netlab, {variant.name}", f"{congestion}, netlab"
    if not runs:
        yield Measured(name, None, ok=False, detail="no run stands", network=network)
        return
    enough = len(runs) == RUNS
    ratios, copies = [one.ratio for one in runs], [one.copies for one in runs]
    spread = f"{text_of(min(ratios))} to {text_of(max(ratios))}"
    typical = median(ratios)
    ok = enough and typical <= variant.limit
    yield Measured(f"{name}: last edge / limit", typical, "", variant.limit, ok, spread, len(runs), network)
    if variant.worst is not None:
        ok = enough and max(ratios) <= variant.worst
        yield Measured(f"{name}: worst run", max(ratios), "", variant.worst, ok, "", len(runs), network)
    ok = max(copies) <= MOST_COPIES
    yield Measured(f"{name}: origin copies, most", max(copies), "", MOST_COPIES, ok, "", len(runs), network)
    if variant.setting.plan.foreign:
        requests, most = max(one.origin_requests for one in runs), 1 + variant.setting.size_bytes // MIB
        yield Measured(f"{name}: requests, most", requests, "", most, requests <= most, "", len(runs), network)
    wrong = [what for one in runs for what in one.wrong]
    bodies = len(runs) * variant.setting.edges
    yield replace(all_held(f"{name}: bodies by SHA-256", wrong, bodies, len(runs)), network=network)


def told(congestion: str, name: str, runs: Sequence[Run | RivalRun]) -> Measured:
    """Somebody else's figure."""
    if not runs:
        return Measured(f"netlab, {name}", None, detail="no run stands", network=f"{congestion}, netlab")
    detail = f"copies {median(one.copies for one in runs):.2f}"
    ratio = median(one.ratio for one in runs)
    what = f"netlab, {name}: last edge / limit"
    return Measured(what, ratio, "", None, True, detail, len(runs), f"{congestion}, netlab")
