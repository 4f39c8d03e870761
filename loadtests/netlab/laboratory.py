"""One laboratory: hosts, links, programs, and runs in which every edge's viewer asks for one new object at once."""

import contextlib
import hashlib
import os
import select
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.netlab import bare, cpu, links
from loadtests.netlab.limit import (
    LEAST_GOODPUT,
    Account,
    Rates,
    Traffic,
    fluid_limit_s,
    most_goodput,
    superpeer_limit_s,
    void_reasons,
)
from loadtests.netlab.links import Host, Link
from loadtests.netlab.programs import VIEWER_PORT, Plan, Programs, by_label, total
from loadtests.netlab.results import Run
from loadtests.netlab.viewers import Got, Mishap, ask_all

PREFIX = "starling-netlab-"
SETTLED_BYTES = 2048  # what an idle swarm says to itself within a tenth of a second is less
SETTLE_WITHIN_S = 3.0
GOODPUT_TRIES = 3
PATIENCE = 25  # times the limit, and some: then a viewer gives up


@dataclass(frozen=True)
class Setting:
    """What is measured: edges, links, object, and the programs' part in it. Rates in bits per second."""

    edges: int = 8
    up_bps: int = 40_000_000
    down_bps: int = 40_000_000
    origin_bps: int = 40_000_000
    size_bytes: int = 32 << 20
    congestion: str = "bbr"
    rtt_s: float = 0.0
    plan: Plan = field(default_factory=Plan)

    def rates(self) -> Rates:
        return Rates(self.origin_bps, self.up_bps, self.down_bps)

    def limit_s(self, factor: float) -> float:
        """The fluid limit with links of so much goodput, and four round trips to find and ask."""
        rates = self.rates().times(factor)
        if self.plan.topology == "superpeer":
            fluid_s = superpeer_limit_s(self.size_bytes, self.edges, self.plan.superpeers, rates)
        else:
            fluid_s = fluid_limit_s(self.size_bytes, self.edges, rates)
        return fluid_s + 4 * self.rtt_s

    def patience_s(self) -> float:
        """After so long a viewer gives up."""
        return 10.0 + PATIENCE * self.limit_s(1.0)


@dataclass(frozen=True)
class Counts:
    """All counters at one moment: the hosts' interfaces, the metrics of edges and origin, the origin's log."""

    sent: dict[str, Traffic]
    got: dict[str, Traffic]
    heard_from_origin: int
    resent: int
    edges: dict[str, dict[str, int]]  # by host and metric; an edge that is dead is missing
    reasons: dict[str, dict[str, int]]  # by host and reason
    origin_body: int
    origin_control: int
    origin_requests: int

    def since(self, earlier: "Counts") -> "Counts":
        return Counts(
            {name: traffic - earlier.sent[name] for name, traffic in self.sent.items()},
            {name: traffic - earlier.got[name] for name, traffic in self.got.items()},
            self.heard_from_origin - earlier.heard_from_origin,
            self.resent - earlier.resent,
            {name: _less(counted, earlier.edges.get(name, {})) for name, counted in self.edges.items()},
            {name: _less(counted, earlier.reasons.get(name, {})) for name, counted in self.reasons.items()},
            self.origin_body - earlier.origin_body,
            self.origin_control - earlier.origin_control,
            self.origin_requests - earlier.origin_requests,
        )

    def of_edges(self, metric: str) -> int:
        return sum(counted[metric] for counted in self.edges.values())

    def by_reason(self) -> dict[str, int]:
        """Origin bytes of all edges, by why they were asked for."""
        found: dict[str, int] = {}
        for counted in self.reasons.values():
            for reason, count in counted.items():
                found[reason] = found.get(reason, 0) + count
        return {reason: count for reason, count in found.items() if count}


def _less(counted: Mapping[str, int], earlier: Mapping[str, int]) -> dict[str, int]:
    return {name: value - earlier.get(name, 0) for name, value in counted.items()}


METRICS = ("fetched_bytes_total", "control_bytes_total", "viewer_bytes_total", "origin_bytes_total")


class Laboratory:
    """Made by `laboratory`."""

    def __init__(self, setting: Setting, hosts: list[Host], programs: Programs) -> None:
        self.setting = setting
        self.hosts = hosts
        self.origin_host, *self.edge_hosts = hosts
        self.programs = programs
        self._objects = 0

    def new_object(self) -> tuple[str, str]:
        """Path and SHA-256 of one that nobody has asked for yet."""
        self._objects += 1
        path = f"/object-{self._objects}.bin"
        return path, make_object(self.programs.media, path, self.setting.size_bytes)

    def warm_up(self, objects: int) -> None:
        """So many objects that are not measured, for a swarm that learns from its traffic. RuntimeError if wrong."""
        for _ in range(objects):
            path, sha256 = self.new_object()
            if wrong := not_the_object(self.ask(path), sha256):
                raise RuntimeError(f"{path}: {', '.join(wrong)}")

    def ask(self, path: str, hosts: Sequence[Host] | None = None, mishaps: Sequence[Mishap] = ()) -> list[Got]:
        """A viewer at each living edge, or at some, at the same instant."""
        asked = self.programs.living() if hosts is None else hosts
        return ask_all(asked, VIEWER_PORT, path, self.setting.patience_s(), mishaps)

    def run(
        self,
        *,
        asking: Sequence[Host] | None = None,
        mishaps: Sequence[Mishap] = (),
        afterwards: Callable[[], None] = lambda: None,
    ) -> Run:
        """One object asked of all edges at once, or of some.

        `afterwards` mends what keeps edges from telling their metrics. With a dead one nothing is compared: what it had
        counted is lost.
        """
        goodput = bare_goodput(self.hosts)
        path, sha256 = self.new_object()
        before, busy_before = self._count(), cpu.busy(self.programs.pids())
        got = self.ask(path, asking, mishaps)
        busy = cpu.busy(self.programs.pids())
        sent = {host.name: host.sent() - before.sent[host.name] for host in self.hosts}
        afterwards()
        settled(self.hosts)
        counts = self._count().since(before)
        accounts = self._accounts(counts, got)
        idle = busy.idle_since(busy_before)
        return Run(
            limit_s=self.setting.limit_s(max(goodput)),
            goodput=goodput,
            finished_s={one.edge: one.took_s for one in got},
            first_byte_s={one.edge: one.first_s for one in got},
            silent_s={one.edge: one.silent_s for one in got},
            copies=counts.origin_body / self.setting.size_bytes,
            heard_copies=counts.heard_from_origin / self.setting.size_bytes,
            origin_requests=counts.origin_requests,
            reasons=counts.by_reason(),
            accounts=accounts,
            uplinks_used={
                host.name: 8 * sent[host.name].link_bytes / host.link.up_bps / max(one.took_s for one in got)
                for host in self.hosts
            },
            resent_segments=counts.resent,
            idle=idle,
            programs_cpu_s=busy.programs_since(busy_before),
            wrong=not_the_object(got, sha256),
            void=tuple(void_reasons(goodput, idle, accounts)),
        )

    def origin_bytes(self) -> int:
        """Body bytes the origin sent so far, by its ledger or log."""
        if self.setting.plan.foreign:
            return sum(sent for _, sent in self.programs.origin_log())
        return total(self.programs.metrics(self.origin_host), "starling_origin_sent_bytes_total")

    def _count(self) -> Counts:
        samples = {host.name: self.programs.metrics(host) for host in self.programs.living()}
        requests = sum(total(found, "starling_origin_requests_total") for found in samples.values())
        origin = self.programs.metrics(self.origin_host)
        log = self.programs.origin_log()
        foreign = self.setting.plan.foreign
        return Counts(
            sent={host.name: host.sent() for host in self.hosts},
            got={host.name: host.got() for host in self.hosts},
            heard_from_origin=sum(host.heard_from_origin() for host in self.edge_hosts),
            resent=sum(host.resent() for host in self.hosts),
            edges={
                name: {metric: total(found, f"starling_{metric}") for metric in METRICS}
                for name, found in samples.items()
            },
            reasons={name: by_label(found, "starling_origin_bytes_total") for name, found in samples.items()},
            origin_body=self.origin_bytes(),
            origin_control=total(origin, "starling_control_bytes_total"),
            origin_requests=len(log) if foreign else requests,
        )

    def _accounts(self, counts: Counts, got: list[Got]) -> tuple[Account, ...]:
        """Bytes counted three ways. From the interfaces' counts the headers of TCP/IP are taken, packet by packet, and
        segments sent again; what is left are bodies, and what the programs count as control beside them."""
        if len(counts.edges) < len(self.edge_hosts):
            return ()
        framing = self.origin_host.framing_bytes
        edges_in = sum(counts.got[host.name].payload_bytes(framing) for host in self.edge_hosts)
        control = counts.of_edges("control_bytes_total") + counts.origin_control
        return (
            Account(
                "from the origin",
                {
                    "interfaces": counts.heard_from_origin - counts.origin_control,
                    "log" if self.setting.plan.foreign else "ledger": counts.origin_body,
                    "edges' metrics": counts.of_edges("origin_bytes_total"),
                },
            ),
            Account(
                "into all edges",
                {"interfaces": edges_in - control, "edges' metrics": counts.of_edges("fetched_bytes_total")},
            ),
            Account(
                "to viewers",
                {
                    "received": sum(one.body_bytes for one in got),
                    "edges' metrics": counts.of_edges("viewer_bytes_total"),
                },
            ),
        )


@contextlib.contextmanager
def laboratory(setting: Setting, keep: Path | None = None) -> Iterator[Laboratory]:
    """Hosts and programs for the length of a `with`; `keep`: a directory for logs, else they go too."""
    with (
        temporary(keep) as directory,
        network(setting, directory) as hosts,
        Programs(hosts, directory, setting.plan) as programs,
    ):
        yield Laboratory(setting, hosts, programs)


def runs_of(setting: Setting, runs: int, warm_ups: int = 0, keep: Path | None = None) -> Generator[Run, None, None]:
    """In one swarm, each with an object of its own, after some that are not measured."""
    with laboratory(setting, keep) as lab:
        lab.warm_up(warm_ups)
        for _ in range(runs):
            yield lab.run()


@contextlib.contextmanager
def temporary(keep: Path | None = None) -> Iterator[Path]:
    """A directory for media, caches and logs; the logs are copied to `keep` in the end."""
    _sweep()
    directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        yield directory
    finally:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for log in directory.glob("*.log"):
                shutil.copy(log, keep)
        shutil.rmtree(directory)


def make_object(media: Path, path: str, size_bytes: int) -> str:
    """Random bytes at that path; their SHA-256."""
    digest = hashlib.sha256()
    part = media.parent / "part"
    with part.open("wb") as out:
        for start in range(0, size_bytes, 1 << 20):
            block = os.urandom(min(1 << 20, size_bytes - start))
            digest.update(block)
            out.write(block)
    part.rename(media / path[1:])
    return digest.hexdigest()


def not_the_object(got: Sequence[Got], sha256: str) -> tuple[str, ...]:
    """Whose viewers did not get the right body, and why."""
    return tuple(f"{one.edge}: {one.error or 'not the object'}" for one in got if one.sha256 != sha256)


def bare_goodput(hosts: Sequence[Host]) -> tuple[float, ...]:
    """What a bare TCP sender reaches of the shaped rate: from the origin, and from one edge to another."""
    origin, *edges = hosts
    pairs = [(origin, edges[0]), *((edges[0], other) for other in edges[1:2])]
    return tuple(_goodput(sender, receiver) for sender, receiver in pairs)


def _goodput(sender: Host, receiver: Host) -> float:
    """As a share of the shaped rate. Tried again while it is too low, for another program may have had the CPU.

    A reader that was late may seem to have got more than packets can carry.
    """
    rate_bps = min(sender.link.up_bps, receiver.link.down_bps)
    best = 0.0
    for _ in range(GOODPUT_TRIES):
        best = max(best, bare.goodput_bps(sender, receiver) / rate_bps)
        if best >= LEAST_GOODPUT:
            break
    return min(best, most_goodput(sender.mtu, sender.framing_bytes))


def settled(hosts: Sequence[Host]) -> None:
    """Until hardly anything moves any more: what was on its way when the last viewer was done counts too."""
    until = time.monotonic() + SETTLE_WITHIN_S
    before = _moved(hosts)
    while time.monotonic() < until:
        select.select([], [], [], 0.1)
        now = _moved(hosts)
        if now - before < SETTLED_BYTES * len(hosts):
            return
        before = now


def _moved(hosts: Sequence[Host]) -> int:
    return sum(host.sent().link_bytes for host in hosts)


def network(setting: Setting, directory: Path) -> contextlib.AbstractContextManager[list[Host]]:
    named = [("origin", Link(setting.origin_bps, setting.down_bps))]
    named += [(f"edge-{number}", Link(setting.up_bps, setting.down_bps)) for number in range(1, setting.edges + 1)]
    if setting.rtt_s:
        return links.delayed(named, setting.congestion, setting.rtt_s / 2, directory)
    return links.bridged(named, setting.congestion)


def _sweep() -> None:
    """Directories whose process is gone: of runs that were killed outright. Nothing else outlives those."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = directory.name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", pid).exists():
            shutil.rmtree(directory, ignore_errors=True)
