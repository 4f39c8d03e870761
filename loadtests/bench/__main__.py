"""`python -m loadtests.bench`: requests per CPU-second of one edge process against nginx and Varnish on the same core.

The caches take turns, 4 s each, asked by wrk on another core for 1,000 URLs that all of them hold, with the headers
that Chrome with hls.js sends. What counts is requests per second of the server's own CPU time (user and system), the
median over the turns, and its ratio to nginx's: other programs on the machine disturb that least.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from loadtests.bench import servers
from loadtests.bench.servers import Server

KIB, MIB = 1 << 10, 1 << 20
SIZES = {"1KiB": KIB, "64KiB": 64 * KIB, "512KiB": 512 * KIB, "2MiB": 2 * MIB}
URLS = 1000
CONNECTIONS = 64
SCRIPT = Path(__file__).with_name("chrome.lua")
SERVER_CORE, CLIENT_CORE = 0, 1
THINK_MS = 10  # of each connection, where latency is measured at a fixed load
WARM_ROUNDS = 3  # the first fills, the second is the first hit


@dataclass(frozen=True)
class Turn:
    """What one server did in one turn."""

    server: str
    requests: int
    cpu_s: float
    took_s: float
    p50_us: int
    p99_us: int

    @property
    def per_cpu_s(self) -> float:
        return self.requests / self.cpu_s


@dataclass(frozen=True)
class Figure:
    """One line of the table: a kind of run (memory, tls, disk), a size, a server."""

    kind: str
    size: str
    server: str
    per_cpu_s: float  # requests per CPU second, median
    per_s: float  # requests per second, median
    ratio: float  # of per_cpu_s to nginx's, median of the turns' ratios
    least: float  # the lowest of those
    p99_us: float
    turns: int


def turn(server: Server, seconds: float, connections: int = CONNECTIONS, wait_ms: int = 0) -> Turn:
    """Load one server with wrk. RuntimeError if it answered with errors."""
    command = [
        "taskset", "-c", str(CLIENT_CORE), "wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds:g}s", "--latency",
        "-s", str(SCRIPT), server.url, "--", servers.PATH, str(URLS), str(wait_ms),
    ]  # fmt: skip
    before = server.cpu_s()
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cpu_s = server.cpu_s() - before
    said = json.loads(out.splitlines()[-1])
    if said["errors"] or not said["requests"]:
        raise RuntimeError(f"{server.name}: {said}")
    return Turn(server.name, said["requests"], cpu_s, said["duration_us"] / 1e6, said["p50_us"], said["p99_us"])


def figures(kind: str, size: str, turns: Iterable[list[Turn]]) -> Iterator[Figure]:
    """Of rounds in which each server had one turn."""
    rounds = [{one.server: one for one in round_} for round_ in turns]
    for name in rounds[0]:
        mine = [round_[name] for round_ in rounds]
        ratios = [round_[name].per_cpu_s / round_["nginx"].per_cpu_s for round_ in rounds]
        yield Figure(
            kind, size, name,
            per_cpu_s=median(one.per_cpu_s for one in mine), per_s=median(one.requests / one.took_s for one in mine),
            ratio=median(ratios), least=min(ratios), p99_us=median(one.p99_us for one in mine), turns=len(rounds),
        )  # fmt: skip


def started(stack: ExitStack, kind: str, directory: Path, body_bytes: int) -> list[Server]:
    """The servers of one kind of run, warm."""
    origin = stack.enter_context(servers.origin(directory / "origin", body_bytes))
    tls = directory if kind == "tls" else None
    if tls:
        servers.make_certificate(tls)
    edge = servers.starling(directory / "starling", origin, SERVER_CORE, tls, disk=kind == "disk")
    found = [
        stack.enter_context(edge),
        stack.enter_context(servers.nginx(directory / "nginx", origin, SERVER_CORE, tls)),
    ]
    if kind == "memory":
        found.append(stack.enter_context(servers.varnish(directory / "varnish", origin, SERVER_CORE)))
    for server in found:
        for _ in range(WARM_ROUNDS):
            if server.fetch_all(URLS) != URLS * body_bytes:
                raise RuntimeError(f"{server.name} cut bodies")
    return found


def measure(kind: str, size: str, runs: int, seconds: float) -> list[Figure]:
    """One size: the servers in turn, then, where bodies come from memory over TCP, latency at half of nginx's load."""
    with tempfile.TemporaryDirectory(prefix="starling-bench-") as name, ExitStack() as stack:
        os.chmod(name, 0o755)  # nginx reads as another user when root starts it
        contenders = started(stack, kind, Path(name), SIZES[size])
        for server in contenders:
            turn(server, 1.0)
        rounds = [[turn(server, seconds) for server in contenders] for _ in range(runs)]
        found = list(figures(kind, size, rounds))
        if kind == "memory":
            most_per_s = median(
                one.requests / one.took_s for round_ in rounds for one in round_ if one.server == "nginx"
            )
            connections = max(1, round(most_per_s / 2 * THINK_MS / 1000))
            half = [[turn(server, seconds, connections, THINK_MS) for server in contenders] for _ in range(runs)]
            found += figures("half load", size, half)
        return found


def table(found: Iterable[Figure]) -> str:
    lines = [f"{'':10} {'size':>7} {'server':9} {'req/CPU-s':>10} {'req/s':>8} {'ratio':>6} {'least':>6} {'p99 ms':>8}"]
    lines += [
        f"{one.kind:10} {one.size:>7} {one.server:9} {one.per_cpu_s:10.0f} {one.per_s:8.0f} {one.ratio:6.2f} "
        f"{one.least:6.2f} {one.p99_us / 1000:8.2f}"
        for one in found
    ]
    return "\n".join(lines)


def bench(kinds: Iterable[str], sizes: Iterable[str], runs: int, seconds: float) -> list[Figure]:
    found: list[Figure] = []
    for kind in kinds:
        for size in sizes:
            if kind == "disk" and SIZES[size] < 512 * KIB:
                continue
            some = measure(kind, size, runs, seconds)
            print(table(some), flush=True)
            found += some
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="turns of each server (7)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a turn (4)")
    parser.add_argument("--kinds", default="memory,tls,disk", help="by comma, of memory, tls, disk")
    parser.add_argument("--sizes", default=",".join(SIZES), help=f"by comma, of {', '.join(SIZES)}")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the servers are taken down too
    found = bench(arguments.kinds.split(","), arguments.sizes.split(","), arguments.runs, arguments.seconds)
    print(f"\n{table(found)}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
