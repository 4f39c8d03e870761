"""How busy the machine and each program were, for a run proves nothing about links if the CPU was the limit. Linux."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Busy:
    """CPU time so far: all of it, what nobody wanted, and each program's, in seconds."""

    all_s: float
    idle_s: float
    programs_s: Mapping[str, float] = field(default_factory=dict)

    def idle_since(self, earlier: "Busy") -> float:
        """The idle share of all cores."""
        return (self.idle_s - earlier.idle_s) / max(self.all_s - earlier.all_s, 1 / TICKS_PER_S)

    def programs_since(self, earlier: "Busy") -> dict[str, float]:
        return {name: round(s - earlier.programs_s.get(name, 0.0), 2) for name, s in self.programs_s.items()}


def busy(pids: Mapping[str, int]) -> Busy:
    return parse(Path("/proc/stat").read_text(), {name: _cpu_s(pid) for name, pid in pids.items()})


def parse(stat: str, programs_s: Mapping[str, float]) -> Busy:
    """Of /proc/stat's first line: user, nice, system, idle, iowait, irq, softirq, steal."""
    ticks = [int(one) for one in stat.splitlines()[0].split()[1:9]]
    return Busy(sum(ticks) / TICKS_PER_S, (ticks[3] + ticks[4]) / TICKS_PER_S, programs_s)


def _cpu_s(pid: int) -> float:
    """User and system; 0 for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
