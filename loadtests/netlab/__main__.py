"""`python -m loadtests.netlab`: real edges on shaped links, one object asked of all at once, against the fluid limit."""

import argparse
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median

from loadtests.netlab.laboratory import Run, Setting, laboratory
from loadtests.netlab.programs import Plan
from swarm.units import parse_bytes, parse_rate


def line(run: Run) -> str:
    cpu_s = run.programs_cpu_s
    return (
        f"{run.ratio:6.3f}  last {run.last_s:6.2f} s  first {min(run.finished_s.values()):6.2f} s  limit {run.limit_s:6.2f} s  "
        f"copies {run.copies:6.3f}  requests {run.origin_requests:4d}  goodput {min(run.goodput):.3f}  "
        f"idle {100 * run.idle:3.0f} %  resent {run.resent_segments:4d}  "
        f"cpu origin {cpu_s['origin']:.1f} s, edge at most {max(s for n, s in cpu_s.items() if n != 'origin'):.1f} s"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.netlab", description=__doc__)
    parser.add_argument("--edges", type=int, default=8)
    parser.add_argument("--rate", type=parse_rate, default=parse_rate("40mbit"), help="of every link, both ways")
    parser.add_argument("--origin-rate", type=parse_rate, help="of the origin's uplink, if another")
    parser.add_argument("--size", type=parse_bytes, default=parse_bytes("32MiB"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--warm-ups", type=int, default=0, help="objects before, not measured")
    parser.add_argument("--congestion", choices=("bbr", "cubic", "reno"), default="bbr")
    parser.add_argument("--rtt-ms", type=float, default=0.0, help="round trip between any two hosts")
    parser.add_argument("--foreign", action="store_true", help="nginx as origin")
    parser.add_argument("--no-capacity", action="store_true", help="no capacity is configured")
    parser.add_argument("--topology", choices=("hybrid", "pure", "superpeer"), default="hybrid")
    parser.add_argument("--superpeers", type=int, default=4)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--logs", type=Path, help="copy the programs' logs into this directory")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    plan = Plan(given.foreign, not given.no_capacity, given.topology, given.superpeers)
    setting = Setting(
        given.edges,
        given.rate,
        given.rate,
        given.origin_rate or given.rate,
        given.size,
        given.congestion,
        rtt_s=given.rtt_ms / 1000,
        plan=plan,
    )
    runs = []
    with laboratory(setting, given.logs) as lab:
        lab.warm_up(given.warm_ups)
        for _ in range(given.runs):
            run = lab.run()
            runs.append(run)
            print(line(run), flush=True)
            for what in (*run.wrong, *(f"void: {why}" for why in run.void), *map(str, run.accounts)):
                print(f"        {what}", flush=True)
            print(f"        {run.reasons}")
    print(f"{median(run.ratio for run in runs):6.3f} median of {len(runs)}, {given.congestion}")
    if given.json:
        given.json.write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
