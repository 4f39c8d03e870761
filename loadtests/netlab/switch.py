"""A user-space switch that delays: `python -m loadtests.netlab.switch DELAY_S QUEUE_S SPACE=ADDRESS=DOWN_BPS …`.

For kernels without netem. It makes the device `eth0` in each namespace (a TUN device, whose descriptor stays valid
outside), reads what the host sends there, and hands each packet to the host it is for, after the delay and as fast as
that host's downlink takes it; what would wait longer than the queue allows is dropped, as at a router. Prints a ready
line once the devices exist. Uplinks are shaped by the hosts' kernels.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.netlab.spaces import inside

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
MOST_BYTES = 1 << 16
AT_ONCE = 32  # packets read from one host before the next has its turn
DEVICE = "eth0"


@dataclass
class Port:
    """One host's. `free_at`: when its downlink has sent all that waits."""

    tun: int
    address: bytes
    down_bytes_s: float
    free_at: float = 0.0


class Queue:
    """When a packet leaves for a port, or that it must be dropped. Times of any one clock, in seconds."""

    def __init__(self, delay_s: float, longest_s: float) -> None:
        self.delay_s = delay_s
        self.longest_s = longest_s

    def leaves_at(self, port: Port, size_bytes: int, now: float) -> float | None:
        """None: the queue before the downlink is full."""
        arrives_at = now + self.delay_s
        if port.free_at - arrives_at > self.longest_s:
            return None
        port.free_at = max(arrives_at, port.free_at) + size_bytes / port.down_bytes_s
        return port.free_at


def open_tun(space_path: str) -> int:
    """The descriptor of a new TUN device in the namespace."""
    space = os.open(space_path, os.O_RDONLY)
    with contextlib.closing(os.fdopen(space)), inside(space):
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    return tun


class Switch:
    """Forwards between ports for as long as the loop runs."""

    def __init__(self, ports: Sequence[Port], queue: Queue) -> None:
        self._ports = {port.address: port for port in ports}
        self._queue = queue
        self._loop = asyncio.get_running_loop()
        for port in ports:
            self._loop.add_reader(port.tun, self._forward, port.tun)

    def _forward(self, tun: int) -> None:
        now = self._loop.time()
        for _ in range(AT_ONCE):
            try:
                packet = os.read(tun, MOST_BYTES)
            except BlockingIOError:
                return
            port = self._ports.get(packet[16:20])  # an IPv4 packet's destination
            leaves_at = self._queue.leaves_at(port, len(packet), now) if port else None
            if port is not None and leaves_at is not None:
                self._loop.call_at(leaves_at, self._deliver, port.tun, packet)

    @staticmethod
    def _deliver(tun: int, packet: bytes) -> None:
        with contextlib.suppress(BlockingIOError):  # a host that does not take it loses it
            os.write(tun, packet)


async def _run(ports: Sequence[Port], queue: Queue) -> None:
    Switch(ports, queue)
    print(json.dumps({"ready": True}), flush=True)
    await asyncio.get_running_loop().create_future()  # until we are killed


def main(arguments: Sequence[str]) -> None:
    delay_s, longest_s, *hosts = arguments
    ports = []
    for host in hosts:
        space_path, address, down_bps = host.split("=")
        ports.append(Port(open_tun(space_path), socket.inet_aton(address), float(down_bps) / 8))
    asyncio.run(_run(ports, Queue(float(delay_s), float(longest_s))))


if __name__ == "__main__":
    main(sys.argv[1:])
