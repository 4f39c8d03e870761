"""What an edge puts up with on its viewer port: slow, idle, half-closed, too many, and what is no HTTP."""

import asyncio
import ipaddress
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from daemon.addresses import Network
from edge import connection as connection_module
from edge.app import Edge
from edge.config import Tls
from swarm.accounting import Dropped
from swarm.proxy_protocol import SIGNATURE
from swarm.units import BitsPerSecond, Seconds
from tests.integration.one_edge import Bed, running_bed

SMALL, LARGE = b"small body", bytes(range(256)) * (1 << 14)
REQUEST = b"GET /small HTTP/1.1\r\nHost: video.example\r\n\r\n"
LARGE_REQUEST = REQUEST.replace(b"/small", b"/large")
LAST = b"GET /small HTTP/1.1\r\nHost: video.example\r\nConnection: close\r\n\r\n"
SOON = Seconds(0.2)


async def _small(request: web.Request) -> web.Response:
    return web.Response(body=SMALL, headers={"Cache-Control": "max-age=3600"})


async def _large(request: web.Request) -> web.Response:
    return web.Response(body=LARGE, headers={"Cache-Control": "max-age=3600"})


def origin() -> web.Application:
    app = web.Application()
    app.router.add_get("/small", _small)
    app.router.add_get("/large", _large)
    return app


@pytest.fixture
def bed() -> Iterator[Bed]:
    with running_bed(origin) as bed:
        yield bed


class Viewer:
    """One connection, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def __aenter__(self) -> "Viewer":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def ask(self, request: bytes = REQUEST) -> bytes:
        """The body of the answer."""
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return await self.reader.readexactly(int(length.partition(b":")[2]))

    async def is_closed(self) -> bool:
        """Whether the edge closes it, with nothing more said."""
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True


async def connect(edge: Edge, **options: Any) -> Viewer:
    host, _, port = str(edge.ready()["viewer"]).rpartition(":")
    return Viewer(*await asyncio.open_connection(host, int(port), **options))


def dropped(edge: Edge) -> dict[str, int]:
    return {why: count for why, count in edge.metrics.viewers_dropped.items() if count}


# --- time


def test_a_header_that_does_not_come_in_time_is_told_so_and_dropped(bed: Bed) -> None:
    async def scene() -> None:
        edge = await bed.start_edge(header_timeout=SOON)
        async with await connect(edge) as viewer:
            viewer.writer.write(REQUEST[:-2])
            assert (await viewer.reader.read()).startswith(b"HTTP/1.1 408 ")
        assert dropped(edge) == {Dropped.NO_REQUEST: 1}

    bed.run(scene())


def test_more_bytes_of_the_same_header_buy_no_time(bed: Bed) -> None:
    async def scene() -> None:
        edge = await bed.start_edge(header_timeout=SOON)
        async with await connect(edge) as viewer:
            reading = asyncio.create_task(viewer.reader.read())
            viewer.writer.write(b"GET / HTTP/1.1\r\n")
            while not reading.done():  # a byte at a time, for as long as it takes
                viewer.writer.write(b"x")
                await asyncio.wait((reading,), timeout=0.01)
            assert reading.result().startswith(b"HTTP/1.1 408 ")

    bed.run(scene())


def test_a_connection_that_asks_for_nothing_more_is_closed(bed: Bed) -> None:
    async def scene() -> None:
        edge = await bed.start_edge(idle_timeout=SOON)
        async with await connect(edge) as viewer:
            assert await viewer.ask() == SMALL
            assert await viewer.is_closed()
        assert dropped(edge) == {Dropped.IDLE: 1}

    bed.run(scene())


def test_a_viewer_that_takes_too_little_is_cut_off(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "RATE_WINDOW_S", 0.5)

    async def scene() -> None:
        edge = await bed.start_edge(least_rate=BitsPerSecond(10**9))
        async with await connect(edge, limit=1) as slow:
            for _ in range(4):  # more than the kernel's buffers hold
                slow.writer.write(LARGE_REQUEST)
            while not dropped(edge):
                await asyncio.sleep(0.01)
        assert dropped(edge) == {Dropped.SLOW: 1}
        async with await connect(edge) as viewer:
            assert await viewer.ask() == SMALL

    bed.run(scene())


# --- number


def test_an_address_has_so_many_connections_and_no_more(bed: Bed) -> None:
    async def scene() -> None:
        edge = await bed.start_edge(connections_per_address=1)
        async with await connect(edge) as first:
            assert await first.ask() == SMALL
            async with await connect(edge) as second:
                assert await second.is_closed()
        assert dropped(edge) == {Dropped.TOO_MANY: 1}
        while edge.metrics.viewer_connections.read():
            await asyncio.sleep(0.01)
        async with await connect(edge) as third:
            assert await third.ask() == SMALL

    bed.run(scene())


def test_beyond_the_cap_viewers_wait_until_one_leaves(bed: Bed) -> None:
    async def scene() -> None:
        edge = await bed.start_edge(connections=1)
        async with await connect(edge) as first:
            assert await first.ask() == SMALL
            second = await connect(edge)
            asking = asyncio.create_task(second.ask())
            assert await first.ask() == SMALL
            assert not asking.done()
        async with second:
            assert await asking == SMALL

    bed.run(scene())


# --- the end


def test_a_viewer_that_ends_its_half_gets_all_its_answers(bed: Bed) -> None:
    async def scene() -> None:
        edge = await bed.start_edge()
        async with await connect(edge) as viewer:
            viewer.writer.write(REQUEST + LARGE_REQUEST + REQUEST)
            viewer.writer.write_eof()
            assert (await viewer.reader.read()).count(b"HTTP/1.1 200 OK\r\n") == 3

    bed.run(scene())


def test_what_is_being_sent_when_the_edge_stops_is_sent_to_its_end(bed: Bed) -> None:
    async def scene() -> None:
        edge = await bed.start_edge()
        async with await connect(edge, limit=1) as viewer:
            for _ in range(3):  # the last of them a hit
                viewer.writer.write(LARGE_REQUEST)
            await viewer.reader.readexactly(1)
            stopping = asyncio.create_task(edge.stop())
            bed.edges.remove(edge)
            received = await viewer.reader.read()
            await stopping
        assert received.count(LARGE) >= 1
        assert received.endswith(LARGE)

    bed.run(scene())


# --- what is no HTTP


@pytest.mark.parametrize(
    "head, status",
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_what_is_ambiguous_or_malformed_is_refused_and_the_connection_closed(
    bed: Bed, head: bytes, status: int
) -> None:
    async def scene() -> None:
        edge = await bed.start_edge()
        async with await connect(edge) as viewer:
            viewer.writer.write(head + REQUEST)
            answer = await viewer.reader.read()
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert answer.count(b"HTTP/1.1") - answer.count(b"only HTTP/1.0 and HTTP/1.1") == 1

    bed.run(scene())


# --- balancers and TLS


def proxied(address: str) -> bytes:
    source, port = ipaddress.ip_address(address).packed, b"\x9c\x40"
    return SIGNATURE + b"\x21\x11\x00\x0c" + source + bytes([127, 0, 0, 1]) + port + port


@pytest.mark.parametrize("head", [proxied("192.0.2.7"), b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 80\r\n"])
def test_a_balancer_says_who_the_viewer_is_and_caps_are_the_viewers(bed: Bed, head: bytes) -> None:
    async def scene() -> None:
        edge = await bed.start_edge(proxy_protocol_from=(Network("127.0.0.0/8"),), connections_per_address=1)
        async with await connect(edge) as viewer, await connect(edge) as another, await connect(edge) as third:
            assert await viewer.ask(head + REQUEST) == SMALL
            assert edge._front is not None
            assert {connection.address for connection in edge._front.connections} == {"192.0.2.7"}
            assert await another.ask(proxied("192.0.2.8") + REQUEST) == SMALL
            third.writer.write(head + REQUEST)
            assert await third.is_closed()
        assert dropped(edge) == {Dropped.TOO_MANY: 1}

    bed.run(scene())


def test_a_balancer_that_does_not_say_so_is_not_served(bed: Bed) -> None:
    async def scene() -> None:
        edge = await bed.start_edge(proxy_protocol_from=(Network("127.0.0.1/32"),))
        async with await connect(edge) as viewer:
            viewer.writer.write(REQUEST)
            assert await viewer.is_closed()

    bed.run(scene())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    directory: Path = tmp_path_factory.mktemp("tls")
    made = Tls(certificate=directory / "certificate.pem", key=directory / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", "/CN=video.example", "-keyout", str(made.key), "-out", str(made.certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


def test_hits_over_tls_behind_a_balancer(bed: Bed, certificate: Tls) -> None:
    async def scene() -> None:
        edge = await bed.start_edge(tls=certificate, proxy_protocol_from=(Network("127.0.0.1/32"),))
        host, _, port = str(edge.ready()["viewer"]).rpartition(":")
        sock = socket.create_connection((host, int(port)))
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(sock, proxied("192.0.2.7"))
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        viewer = Viewer(*await asyncio.open_connection(sock=sock, ssl=context, server_hostname="video.example"))
        async with viewer:
            for _ in range(3):
                assert await viewer.ask(LARGE_REQUEST) == LARGE
        edge.metrics.settle()
        assert edge.metrics.hit_path.value == 1

    bed.run(scene())


def test_whoever_does_not_shake_hands_is_dropped(bed: Bed, certificate: Tls) -> None:
    async def scene() -> None:
        edge = await bed.start_edge(tls=certificate, header_timeout=SOON)
        async with await connect(edge) as viewer:
            assert await viewer.is_closed()
        while edge.metrics.viewer_connections.read():
            await asyncio.sleep(0.01)

    bed.run(scene())


def test_the_last_answer_says_that_it_is(bed: Bed) -> None:
    async def scene() -> None:
        edge = await bed.start_edge()
        async with await connect(edge) as viewer:
            viewer.writer.write(REQUEST + REQUEST + LAST + REQUEST)
            answers = await viewer.reader.read()
            assert answers.count(b"HTTP/1.1 200 OK\r\n") == 3

    bed.run(scene())
