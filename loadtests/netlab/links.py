"""Hosts and the links between them: each has one, shaped both ways, to a bridge or, if there is delay, to a TUN switch.

With a bridge: host eth0 - veth - port on the bridge; tbf on eth0 shapes its uplink, tbf on the port its downlink. With
delay (`switch.py`): eth0 is a TUN device, tbf on it shapes the uplink, the switch delays and shapes the downlink.
"""

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.programs import Program
from loadtests.netlab.limit import ETHERNET_BYTES, Traffic
from loadtests.netlab.spaces import Space

NETWORK = "10.77.0"  # nobody but the hosts is ever on it
BURST_BYTES = 32 << 10  # what may leave at once: under 1 % of the objects, and room for a jumbo packet
QUEUE_S = 0.05  # of a link at its rate, as home routers have
LITTLE_BYTES = 700
ORIGIN = 1  # its number
MTU = 1500
DELAY_MTU = 9000  # the TUN switch handles packets one by one in Python; at 1500 it would be the limit


@dataclass(frozen=True)
class Link:
    """What a host's link can do, in bits per second."""

    up_bps: int
    down_bps: int


def address_of(number: int) -> str:
    """The address of the host with that number: 1 is the origin."""
    return f"{NETWORK}.{number}"


def shaping(device: str, rate_bps: int, queue_s: float = QUEUE_S) -> str:
    """The line for `tc` that shapes what leaves by a device."""
    milliseconds = round(1000 * queue_s)
    return f"qdisc replace dev {device} root tbf rate {rate_bps}bit burst {BURST_BYTES} latency {milliseconds}ms"


def route(congestion: str) -> str:
    """The line for `ip` that gives every connection in the network its congestion control, ours and foreign programs'.

    Not by sysctl: only the first namespace may choose cubic where it is not on the allowed list. A socket that asks for
    another one (`transport.congestion`) still gets it.
    """
    return f"route replace {NETWORK}.0/24 dev eth0 congctl {congestion}"


def counted(statistics: str) -> Traffic:
    """What `tc -s -j qdisc show dev X` says its shaper let through, each segment counted."""
    [root] = [one for one in json.loads(statistics) if one.get("root")]
    return Traffic(root["bytes"], root["packets"])


def received(net_dev: str, device: str) -> Traffic:
    """What /proc/net/dev says a device took in."""
    match = re.search(rf"^\s*{device}:\s*(\d+)\s+(\d+)", net_dev, re.MULTILINE)
    if match is None:
        raise ValueError(f"no {device} in /proc/net/dev")
    return Traffic(int(match[1]), int(match[2]))


def heard(ruleset: str) -> Traffic:
    """What the counter of `nft -j list table ip heard` says: the packets of the stack, which may hold many segments."""
    [rule] = [one["rule"] for one in json.loads(ruleset)["nftables"] if "rule" in one]
    [counter] = [part["counter"] for part in rule["expr"] if "counter" in part]
    return Traffic(counter["bytes"], counter["packets"])


def resent_segments(snmp: str) -> int:
    """The segments sent again, of /proc/net/snmp."""
    names, values = (line.split() for line in snmp.splitlines() if line.startswith("Tcp:"))
    return int(values[names.index("RetransSegs")])


class Host:
    """A namespace with one link. `framing_bytes`: what its counters add to each IP packet."""

    def __init__(self, name: str, number: int, link: Link, framing_bytes: int = ETHERNET_BYTES) -> None:
        self.name = name
        self.number = number
        self.link = link
        self.address = address_of(number)
        self.space = Space(name)
        self.framing_bytes = framing_bytes
        self.mtu = MTU
        self.port: tuple[Space, str] | None = None  # the other end of its link, where its downlink is shaped

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address}>"

    def sent(self) -> Traffic:
        return counted(self.space.run("tc", "-s", "-j", "qdisc", "show", "dev", "eth0"))

    def got(self) -> Traffic:
        if self.port is None:
            return received(self.space.read("dev"), "eth0")
        space, device = self.port
        return counted(space.run("tc", "-s", "-j", "qdisc", "show", "dev", device))

    def resent(self) -> int:
        return resent_segments(self.space.read("snmp"))

    def payload_sent(self) -> int:
        """Bytes inside TCP that left, sent again or not."""
        return self.sent().payload_bytes(self.framing_bytes)

    def payload_got(self) -> int:
        return self.got().payload_bytes(self.framing_bytes)

    def heard_from_origin(self) -> int:
        """Bytes inside TCP that came from the origin; those that were lost on the way and sent again count once."""
        return heard(self.space.run("nft", "-j", "list", "table", "ip", "heard")).payload_bytes(framing_bytes=0)

    def come_up(self, congestion: str, mtu: int = MTU) -> None:
        self.mtu = mtu
        self.space.ip(f"addr add {self.address}/24 dev eth0", f"link set eth0 mtu {mtu} up", route(congestion))
        self.space.tc(shaping("eth0", self.link.up_bps))
        self._filter("heard", -300, f"ip saddr {address_of(ORIGIN)} counter")

    def _filter(self, table: str, priority: int, rule: str, hook: str = "input") -> None:
        """One rule of `nft` for what comes in, or goes out."""
        chain = f"chain of {{\ntype filter hook {hook} priority {priority}\n{rule}\n}}"
        self.space.run("nft", "-f", "-", given=f"table ip {table} {{\n{chain}\n}}\n")

    def cut(self, others: Sequence["Host"]) -> None:
        """Partition: from now on it hears nothing from them."""
        self._filter("cut", 0, f"ip saddr {{ {', '.join(other.address for other in others)} }} drop")

    def withhold(self, port: int) -> None:
        """From now on only little is sent from this port: answers of a few hundred bytes pass, pieces do not."""
        self._filter("cut", 0, f"oifname eth0 tcp sport {port} meta length > {LITTLE_BYTES} drop", "output")

    def heal(self) -> None:
        """End `cut` or `withhold`."""
        self.space.run("nft", "delete", "table", "ip", "cut")

    def lose(self, share: float) -> None:
        """From now on so many of the packets that reach it are lost. Segments that travel as one are lost as one."""
        self._filter("loss", 0, f"iifname eth0 numgen random mod 10000 < {round(10_000 * share)} drop")

    def reshape(self, link: Link) -> None:
        """Another link from now on. Only with a bridge."""
        assert self.port is not None
        self.link = link
        self.space.tc(shaping("eth0", link.up_bps))
        self.port[0].tc(shaping(self.port[1], link.down_bps))


@contextlib.contextmanager
def delayed(
    links: Sequence[tuple[str, Link]], congestion: str, delay_s: float, directory: Path
) -> Iterator[list[Host]]:
    """The same on a switch that delays every packet; it logs into the directory."""
    with contextlib.ExitStack() as stack:
        hosts = []
        for number, (name, link) in enumerate(links, 1):
            host = Host(name, number, link, framing_bytes=0)
            stack.callback(host.space.close)
            hosts.append(host)
        ports = [f"{host.space.path}={host.address}={host.link.down_bps}" for host in hosts]
        command = [sys.executable, "-m", "loadtests.netlab.switch", str(delay_s), str(QUEUE_S), *ports]
        switch = Program("switch", command, directory / "switch.log")
        stack.callback(switch.kill)
        for host in hosts:
            host.come_up(congestion, DELAY_MTU)
        yield hosts


@contextlib.contextmanager
def bridged(links: Sequence[tuple[str, Link]], congestion: str) -> Iterator[list[Host]]:
    """Hosts by name and link on one bridge, numbered from 1; gone when the last program in them is."""
    with contextlib.ExitStack() as stack:
        bridge = Space("bridge")
        stack.callback(bridge.close)
        bridge.ip("link add br0 type bridge", "link set br0 up")
        hosts = []
        for number, (name, link) in enumerate(links, 1):
            host = Host(name, number, link)
            stack.callback(host.space.close)
            port = f"port{number}"
            bridge.ip(
                f"link add {port} type veth peer name eth0 netns {host.space.path}",
                f"link set {port} master br0 up",
            )
            host.port = bridge, port
            bridge.tc(shaping(port, link.down_bps))
            host.come_up(congestion)
            hosts.append(host)
        yield hosts
