"""One viewer for each edge, on the edge's own host: all ask at the same instant, and hash what they get."""

import asyncio
import hashlib
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtests.netlab.links import Host

READ_BYTES = 1 << 18


@dataclass(frozen=True)
class Got:
    """What a viewer got of the object; times in seconds since all asked."""

    edge: str
    status: int
    body_bytes: int
    sha256: str
    first_s: float  # until the first byte of the body
    took_s: float  # until the last
    silent_s: float  # the longest time without a byte after the first: what a player's buffer had to bridge
    error: str = ""


@dataclass(frozen=True)
class Mishap:
    """Something that happens so many seconds after all asked. It must be quick: the viewers wait for it."""

    after_s: float
    happen: Callable[[], None]


def ask_all(
    hosts: Sequence[Host],
    port: int,
    path: str,
    within_s: float,
    mishaps: Sequence[Mishap] = (),
    address: str = "127.0.0.1",
) -> list[Got]:
    """A viewer's answer from each host's edge. What fails is told in `error`, and holds up nobody else.

    `address`: of another server that all ask instead.
    """
    connections = [host.space.connect(port, address) for host in hosts]
    try:
        return asyncio.run(_all(hosts, connections, path, within_s, mishaps))
    finally:
        for connection in connections:
            connection.close()


async def _all(
    hosts: Sequence[Host],
    connections: Sequence[socket.socket],
    path: str,
    within_s: float,
    mishaps: Sequence[Mishap],
) -> list[Got]:
    for connection in connections:
        connection.setblocking(False)
    asked_at = time.monotonic()
    for mishap in mishaps:
        asyncio.get_running_loop().call_later(mishap.after_s, mishap.happen)
    views = [
        _view(host.name, connection, path, asked_at, within_s)
        for host, connection in zip(hosts, connections, strict=True)
    ]
    return await asyncio.gather(*views)


async def _view(edge: str, connection: socket.socket, path: str, asked_at: float, within_s: float) -> Got:
    viewer = _Viewer(connection, asked_at)
    error = ""
    try:
        async with asyncio.timeout(within_s):
            await viewer.watch(path)
    except TimeoutError:
        error = f"not whole after {within_s:.0f} s"
    except (OSError, ValueError) as refused:
        error = str(refused)
    took_s = time.monotonic() - asked_at
    sha256 = viewer.hash.hexdigest()
    return Got(edge, viewer.status, viewer.body_bytes, sha256, viewer.first_s, took_s, viewer.silent_s, error)


class _Viewer:
    def __init__(self, connection: socket.socket, asked_at: float) -> None:
        self._connection = connection
        self._asked_at = asked_at
        self.status = 0
        self.body_bytes = 0
        self.first_s = 0.0
        self.silent_s = 0.0
        self._last_s = 0.0
        self.hash = hashlib.sha256()

    async def watch(self, path: str) -> None:
        """One GET with a stated length. ValueError for any other answer, OSError if it breaks off."""
        loop = asyncio.get_running_loop()
        request = f"GET {path} HTTP/1.1\r\nHost: {self._connection.getpeername()[0]}\r\n\r\n"
        await loop.sock_sendall(self._connection, request.encode())
        head, rest = await self._read_head()
        self.status, left = understand(head)
        left -= self._take(memoryview(rest))
        buffer = memoryview(bytearray(READ_BYTES))
        while left > 0:
            count = await loop.sock_recv_into(self._connection, buffer)
            if count == 0:
                raise ConnectionError(f"closed, {left} bytes short")
            left -= self._take(buffer[:count])

    async def _read_head(self) -> tuple[str, bytes]:
        raw = b""
        while b"\r\n\r\n" not in raw:
            more = await asyncio.get_running_loop().sock_recv(self._connection, READ_BYTES)
            if not more:
                raise ConnectionError("closed without an answer")
            raw += more
        head, _, rest = raw.partition(b"\r\n\r\n")
        return head.decode("latin-1"), rest

    def _take(self, data: memoryview) -> int:
        now_s = time.monotonic() - self._asked_at
        if data and not self.body_bytes:
            self.first_s = now_s
        elif data:
            self.silent_s = max(self.silent_s, now_s - self._last_s)
        self._last_s = now_s
        self.body_bytes += len(data)
        self.hash.update(data)
        return len(data)


def understand(head: str) -> tuple[int, int]:
    """Status and length of the body."""
    line, *fields = head.split("\r\n")
    status = int(line.split()[1])
    named = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    if status != 200 or "content-length" not in named:
        raise ValueError(f"answered {line!r}, length {named.get('content-length')}")
    return status, int(named["content-length"])
