"""Network namespaces without names: each lives while this process or one in it does, and the kernel takes it away.

So there is nothing to sweep after a crash: no name, no interface, no rule outlives the programs. Linux, as root.
Entering one concerns the calling thread alone, and what is made meanwhile stays in it: sockets, child processes, TUN
devices.
"""

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

CLONE_NEWNET = 0x40000000
OURS = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


@contextlib.contextmanager
def inside(space: int) -> Iterator[None]:
    """The calling thread is in the namespace of that descriptor for the length of a `with`."""
    home = os.open(OURS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(space, CLONE_NEWNET), "setns")
        yield
    finally:
        _checked(_libc.setns(home, CLONE_NEWNET), "setns")
        os.close(home)


class Space:
    """One network namespace, its loopback up. OSError without the right to make one."""

    def __init__(self, name: str) -> None:
        self.name = name
        home = os.open(OURS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(_libc.unshare(CLONE_NEWNET), "unshare")
            self._fd = os.open(OURS, os.O_RDONLY | os.O_CLOEXEC)
            _checked(_libc.setns(home, CLONE_NEWNET), "setns")
        finally:
            os.close(home)
        self.set("net/ipv6/conf/all/disable_ipv6", "1")  # or its neighbour discovery would be among our packets
        self.ip("link set lo up")

    def __repr__(self) -> str:
        return f"<Space {self.name}>"

    def close(self) -> None:
        """It is gone once its last process is."""
        os.close(self._fd)

    @property
    def path(self) -> str:
        """Names it to `ip link … netns` while this process lives; `nsenter --net=` takes it too."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """This thread is in it for the length of a `with`. Nothing may be awaited meanwhile."""
        return inside(self._fd)

    def run(self, *command: str, given: str = "") -> str:
        """What a command that ran in it printed. RuntimeError with its words if it failed."""
        with self.entered():
            done = subprocess.run(command, input=given, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(command)}\n{given}\n{done.stderr.strip()}")
        return done.stdout

    def ip(self, *lines: str) -> None:
        """Commands of `ip`, one a line, in one go."""
        self.run("ip", "-batch", "-", given="\n".join(lines) + "\n")

    def tc(self, *lines: str) -> None:
        """The same of `tc`."""
        self.run("tc", "-batch", "-", given="\n".join(lines) + "\n")

    def set(self, key: str, value: str) -> None:
        """A kernel parameter of this namespace."""
        with self.entered():
            Path("/proc/sys", key).write_text(value)

    def read(self, file: str) -> str:
        """A file below /proc/net as it reads in here."""
        with self.entered():
            return Path("/proc/thread-self/net", file).read_text()

    def connect(self, port: int, host: str = "127.0.0.1") -> socket.socket:
        """A connection from in here."""
        with self.entered():
            return socket.create_connection((host, port), timeout=10)
