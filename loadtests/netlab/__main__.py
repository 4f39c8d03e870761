"""`python -m loadtests.netlab`: real edges on shaped links, one object asked of all at once, against the limit.

Needs root, and Debian's iproute2 and nftables; nginx for a foreign origin. Exit code 1 if a run does not stand: a body
was wrong, or a condition failed under which figures mean something.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from deploy.parents import stop_with_make
from loadtests.netlab.laboratory import Setting, runs_of
from loadtests.netlab.programs import Plan
from loadtests.netlab.results import RivalRun, Run, line, summary
from loadtests.netlab.rivals import torrent_runs
from swarm.units import parse_bytes, parse_rate


def series(given: argparse.Namespace) -> Iterator[tuple[str, Iterator[Run] | Iterator[RivalRun]]]:
    """What is measured, by name."""
    setting = setting_of(given)
    yield "starling", runs_of(setting, given.runs, given.warm_ups, given.logs)
    if given.rival in ("none", "both"):
        alone = replace(setting, plan=replace(setting.plan, swarm=False))
        yield "no swarm", runs_of(alone, given.runs)
    if given.rival in ("libtorrent", "both"):
        yield "libtorrent, origin as seed", torrent_runs(setting, given.runs, web_seed=False)
        yield "libtorrent, origin as web seed", torrent_runs(setting, given.runs, web_seed=True)


def setting_of(given: argparse.Namespace) -> Setting:
    superpeers = min(given.superpeers, given.edges)
    return Setting(
        edges=given.edges,
        up_bps=given.rate,
        down_bps=given.rate,
        origin_bps=given.origin_rate or given.rate,
        size_bytes=given.size,
        congestion=given.congestion,
        rtt_s=given.rtt_ms / 1000,
        plan=Plan(given.foreign, not given.no_capacity, given.topology, superpeers),
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.netlab", description=__doc__)
    parser.add_argument("--edges", type=int, default=8)
    parser.add_argument(
        "--rate", type=parse_rate, default=parse_rate("40mbit"), help="of every link, both ways (40mbit)"
    )
    parser.add_argument("--origin-rate", type=parse_rate, help="of the origin's uplink, if another")
    parser.add_argument("--size", type=parse_bytes, default=parse_bytes("32MiB"), help="of the object (32MiB)")
    parser.add_argument("--runs", type=int, default=5, help="each with an object of its own (5)")
    parser.add_argument("--warm-ups", type=int, default=0, help="objects before, not measured")
    parser.add_argument("--congestion", choices=("bbr", "cubic", "reno"), default="bbr", help="of every connection")
    parser.add_argument("--rtt-ms", type=float, default=0.0, help="round trip between any two hosts")
    parser.add_argument("--foreign", action="store_true", help="nginx as origin, trust: attested")
    parser.add_argument("--no-capacity", action="store_true", help="no capacity is configured")
    parser.add_argument("--topology", choices=("hybrid", "pure", "superpeer"), default="hybrid")
    parser.add_argument("--superpeers", type=int, default=4, help="with that topology (4)")
    parser.add_argument("--rival", choices=("libtorrent", "none", "both"), help="also measure it; none: no swarm")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--logs", type=Path, help="copy the programs' logs into this directory")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    given = parse(argv)
    if os.geteuid() != 0:
        print("netlab: needs root, for network namespaces", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the programs end in order
    stop_with_make()
    found: dict[str, list[Run | RivalRun]] = {}
    for name, runs in series(given):
        print(f"{name}, {given.congestion}", flush=True)
        some: list[Run | RivalRun] = []
        for run in runs:
            some.append(run)
            print(line(run), flush=True)
        print(summary(some), flush=True)
        found[name] = some
    if given.json:
        told = {name: [asdict(run) | {"ratio": run.ratio} for run in some] for name, some in found.items()}
        given.json.write_text(json.dumps(told, indent=1) + "\n")
    return int(any(run.void or run.wrong for some in found.values() for run in some))


if __name__ == "__main__":
    sys.exit(main())
