"""What physics allows, and what counters of packets say about payload. Values only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEAST_GOODPUT = 0.94  # of the shaped rate, by a bare TCP sender; under it the links are not what they should be
LEAST_IDLE = 0.10  # of all CPU time in a run; under it the CPU may have been the limit
MOST_APART = 0.01  # of the larger count, between ways of counting the same bytes
ETHERNET_BYTES = 14  # tbf counts frames with their Ethernet header; a TUN device has none
IP_TCP_BYTES = 20 + 20 + 12  # IPv4, TCP, and TCP's timestamps, which every packet of an open connection carries


@dataclass(frozen=True)
class Rates:
    """Goodput in bits per second: of the origin's uplink, of an edge's uplink, of an edge's downlink."""

    origin_up_bps: float
    up_bps: float
    down_bps: float

    def times(self, factor: float) -> "Rates":
        return Rates(self.origin_up_bps * factor, self.up_bps * factor, self.down_bps * factor)


def fluid_limit_s(size_bytes: int, edges: int, rates: Rates) -> float:
    """The shortest time in which all edges can have the object: max(F/u_s, F/d, N*F/(u_s + N*u))."""
    bits = 8 * size_bytes
    together_bps = rates.origin_up_bps + edges * rates.up_bps
    return max(bits / rates.origin_up_bps, bits / rates.down_bps, edges * bits / together_bps)


def superpeer_limit_s(size_bytes: int, edges: int, superpeers: int, rates: Rates) -> float:
    """The same where only superpeers upload: max(F/u_s, F/d, (N-1)*F/(S*u))."""
    bits = 8 * size_bytes
    relayed = (edges - 1) * bits / (superpeers * rates.up_bps)
    return max(bits / rates.origin_up_bps, bits / rates.down_bps, relayed)


@dataclass(frozen=True)
class Traffic:
    """What a link carried one way: bytes and packets as its queue counts them, segment by segment."""

    link_bytes: int = 0
    packets: int = 0

    def __sub__(self, earlier: "Traffic") -> "Traffic":
        return Traffic(self.link_bytes - earlier.link_bytes, self.packets - earlier.packets)

    def payload_bytes(self, framing_bytes: int) -> int:
        """What was inside TCP: less `framing_bytes` and the headers of IP and TCP for each packet."""
        return self.link_bytes - self.packets * (framing_bytes + IP_TCP_BYTES)


def most_goodput(mtu: int, framing_bytes: int) -> float:
    """The share of a link's rate that full packets leave to payload."""
    return (mtu - IP_TCP_BYTES) / (mtu + framing_bytes)


@dataclass(frozen=True)
class Account:
    """The same bytes counted in several ways, by the name of each."""

    what: str
    counts: Mapping[str, int]

    @property
    def apart(self) -> float:
        """How far they are apart, as a share of the largest."""
        most = max(self.counts.values())
        return (most - min(self.counts.values())) / most if most else 0.0

    @property
    def agrees(self) -> bool:
        return self.apart <= MOST_APART

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        return f"{self.what}: {counts} ({100 * self.apart:.2f} % apart)"


def void_reasons(goodput_factors: Sequence[float], idle: float, accounts: Sequence[Account]) -> list[str]:
    """Why a run proves nothing; empty if it stands."""
    reasons = [
        f"a bare TCP sender reached only {factor:.3f} of the shaped rate"
        for factor in goodput_factors
        if factor < LEAST_GOODPUT
    ]
    if idle < LEAST_IDLE:
        reasons.append(f"the CPU was the limit: {100 * idle:.0f} % idle")
    return reasons + [f"the counts differ: {account}" for account in accounts if not account.agrees]
