"""What runs came to, and how that reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from loadtests.netlab.limit import Account


@dataclass(frozen=True)
class RivalRun:
    """One object that somebody else distributed."""

    name: str
    limit_s: float
    goodput: tuple[float, ...]
    last_s: float
    copies: float  # from the interfaces: bytes that came from the origin, by the object's size
    idle: float
    wrong: tuple[str, ...]
    void: tuple[str, ...]

    @property
    def ratio(self) -> float:
        return self.last_s / self.limit_s


@dataclass(frozen=True)
class Run:
    """One object. `ratio`: the last edge's finish by the limit; `copies`: origin bytes by the object's size."""

    limit_s: float
    goodput: tuple[float, ...]  # shares of the shaped rate that a bare TCP sender reached
    finished_s: dict[str, float]
    first_byte_s: dict[str, float]
    silent_s: dict[str, float]  # the longest time a viewer was left without a byte after the first
    copies: float  # by the origin's ledger or log
    heard_copies: float  # by the interfaces, headers of HTTP and control included: right when edges die too
    origin_requests: int
    reasons: dict[str, int]
    accounts: tuple[Account, ...]
    uplinks_used: dict[str, float]  # of each host, the share of its uplink until the last edge was done
    resent_segments: int
    idle: float
    programs_cpu_s: dict[str, float]
    wrong: tuple[str, ...]  # bodies that were not the object
    void: tuple[str, ...]  # why this run proves nothing

    @property
    def last_s(self) -> float:
        return max(self.finished_s.values())

    @property
    def ratio(self) -> float:
        return self.last_s / self.limit_s


def line(run: Run | RivalRun) -> str:
    """For people."""
    words = (
        f"{run.ratio:6.3f} of the limit, {run.last_s:.2f} s by {run.limit_s:.2f} s; copies {run.copies:.3f}; "
        f"bare TCP {min(run.goodput):.3f}; {100 * run.idle:.0f} % idle"
    )
    if isinstance(run, Run):
        edges_up = [used for name, used in run.uplinks_used.items() if name != "origin"]
        edges_cpu_s = [used for name, used in run.programs_cpu_s.items() if name.startswith("edge")]
        words += (
            f"; first done {min(run.finished_s.values()):.2f} s; first byte {max(run.first_byte_s.values()):.2f} s; "
            f"uplinks used: origin {run.uplinks_used['origin']:.2f}, edges {min(edges_up):.2f} to {max(edges_up):.2f}; "
            f"{run.origin_requests} requests; {run.resent_segments} segments sent again; "
            f"CPU of an edge {max(edges_cpu_s):.1f} s, of all {sum(run.programs_cpu_s.values()):.1f} s"
        )
    amiss = [f"WRONG {what}" for what in run.wrong] + [f"VOID {why}" for why in run.void]
    return "\n        ".join([words, *amiss])


def summary(runs: Sequence[Run | RivalRun]) -> str:
    """The median of those that stand."""
    ratios = [run.ratio for run in runs if not run.void and not run.wrong]
    if not ratios:
        return "no run stands"
    most_copies = max(run.copies for run in runs)
    return (
        f"{median(ratios):6.3f} of the limit, median of {len(ratios)} ({min(ratios):.3f} to {max(ratios):.3f}), "
        f"copies at most {most_copies:.3f}"
    )
