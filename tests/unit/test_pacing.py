"""What is decided about a sender's streams reaches the kernel, and reading in large steps loses nothing."""

import asyncio
import socket
import sys

import pytest

from daemon.gathering import WORTH_BYTES, Gathering
from daemon.pacing import Pacer
from swarm.uploads import GOODPUT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pacing is Linux's")

SO_MAX_PACING_RATE = 47
CAPACITY_BPS = 80e6
UNLIMITED = 0xFFFFFFFF


class Connections:
    """Both ends of some connections over loopback."""

    def __init__(self) -> None:
        self.servers: list[asyncio.StreamWriter] = []
        self.clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def open(self, count: int) -> None:
        arrived: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        self._listener = await asyncio.start_server(lambda _, writer: arrived.put_nowait(writer), "127.0.0.1", 0)
        for _ in range(count):
            self.clients.append(await asyncio.open_connection(*self._listener.sockets[0].getsockname()[:2]))
            self.servers.append(await arrived.get())

    async def close(self) -> None:
        for writer in [*self.servers, *(writer for _, writer in self.clients)]:
            writer.close()
        self._listener.close()
        await self._listener.wait_closed()


@pytest.fixture
async def connections():
    opened = Connections()
    yield opened
    await opened.close()


def rate_bps(writer: asyncio.StreamWriter) -> int:
    found = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 8)
    told = int.from_bytes(found, sys.byteorder)
    return told if told >= UNLIMITED else told * 8


async def test_streams_with_pieces_to_send_are_paced_to_equal_shares(connections: Connections):
    await connections.open(3)
    pacer = Pacer(CAPACITY_BPS)
    first, second, waits = connections.servers
    for writer in connections.servers:
        pacer.open(writer.transport)
    pacer.on_write(first.transport)
    assert rate_bps(first) == pytest.approx(CAPACITY_BPS * GOODPUT, rel=0.01)
    pacer.on_write(second.transport)
    assert rate_bps(first) == pytest.approx(CAPACITY_BPS * GOODPUT / 2, rel=0.01)
    assert rate_bps(second) == pytest.approx(CAPACITY_BPS * GOODPUT / 2, rel=0.01)
    assert rate_bps(waits) == pytest.approx(CAPACITY_BPS * GOODPUT / 3, rel=0.01)
    pacer.close()


async def test_a_ceiling_below_the_capacity_holds(connections: Connections):
    await connections.open(1)
    pacer = Pacer(CAPACITY_BPS, lambda: 8e6)
    pacer.open(connections.servers[0].transport)
    pacer.on_write(connections.servers[0].transport)
    assert rate_bps(connections.servers[0]) == pytest.approx(8e6, rel=0.01)
    pacer.close()


async def test_nothing_is_paced_while_no_capacity_is_known(connections: Connections):
    await connections.open(1)
    pacer = Pacer(None)
    pacer.open(connections.servers[0].transport)
    pacer.on_write(connections.servers[0].transport)
    assert rate_bps(connections.servers[0]) >= UNLIMITED
    pacer.close()


async def test_what_is_gathered_is_read_though_the_rest_never_comes(connections: Connections):
    await connections.open(1)
    reader, writer = connections.clients[0]
    gathering = Gathering(writer.transport)
    connections.servers[0].write(b"x" * WORTH_BYTES)
    await connections.servers[0].drain()
    with gathering.of(4 * WORTH_BYTES):
        assert await reader.read(1) == b"x"
    gathering.end()
    assert writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
