"""Large hits are sent by the kernel from their files, and are no less right for that (edge/body_file.py)."""

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from edge.config import Cache
from edge.held import Held
from swarm.accounting import Source
from swarm.units import Bytes
from tests.integration.one_edge import Bed, running_bed

BODY = bytes(range(256)) * 12_000  # 3 MB
REQUEST = b"GET /large HTTP/1.1\r\nHost: video.example\r\n\r\n"
FLIPPED = 1_234_567
PIECE = 16 << 10
MOST_IN_KERNEL = 4 << 20  # of one connection, by Linux's tcp_wmem


class Kernel:
    """sendfile as it is, with what it was asked for; from `fails_from` on it fails, as does reading."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent_bytes = 0
        self.fails_from = 1 << 62
        self._sendfile, self._pread = os.sendfile, os.pread
        monkeypatch.setattr(os, "sendfile", self.sendfile)
        monkeypatch.setattr(os, "pread", self.pread)

    def sendfile(self, out: int, source: int, at: int, count: int) -> int:
        sent = self._sendfile(out, source, at, self._cut(at, count))
        self.sent_bytes += sent
        return sent

    def pread(self, source: int, count: int, at: int) -> bytes:
        return self._pread(source, self._cut(at, count), at)

    def _cut(self, at: int, count: int) -> int:
        if at >= self.fails_from:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return min(count, self.fails_from - at)


ASKED: list[str] = []  # by the edge, of its origin: reasons


async def _large(request: web.Request) -> web.Response:
    ASKED.append(request.headers.get("Starling-Reason", ""))
    return web.Response(body=BODY, headers={"Cache-Control": "max-age=3600", "ETag": '"1"'})


async def _small(request: web.Request) -> web.Response:
    return web.Response(body=b"small", headers={"Cache-Control": "max-age=3600"})


def origin() -> web.Application:
    app = web.Application()
    app.router.add_get("/large", _large)
    app.router.add_get("/small", _small)
    return app


@pytest.fixture(params=["memory and disk", "disk"])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bed]:
    with running_bed(origin) as bed:
        memory = Bytes(0 if request.param == "disk" else 64 << 20)
        bed.run(bed.start_edge(Cache(directory=tmp_path, disk=Bytes(1 << 30), memory=memory)))
        yield bed


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


async def ask(bed: Bed, *requests: bytes, slowly: bool = False) -> bytes:
    """All that one connection brings."""
    front = bed.edges[0]._front
    assert front is not None
    assert front._listener is not None
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        if slowly:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(sock, front._listener.getsockname())
        await loop.sock_sendall(sock, b"".join(requests))
        sock.shutdown(socket.SHUT_WR)
        received = bytearray()
        while data := await loop.sock_recv(sock, 4096 if slowly else 1 << 20):
            received += data
        return bytes(received)


def bodies(answers: bytes, count: int) -> list[bytes]:
    found = []
    for _ in range(count):
        head, _, rest = answers.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(rest[:size])
        answers = rest[size:]
    assert not answers
    return found


def held(bed: Bed) -> Held:
    return next(one for one in bed.edges[0].store.versions() if one.metainfo.size == len(BODY))


async def _known_to_the_kernel(bed: Bed) -> None:
    """Until the body is on disk and its file was checked."""
    edge = bed.edges[0]
    loop = asyncio.get_running_loop()
    await ask(bed, REQUEST)
    while edge.store.file(held(bed), loop.time()) is None:
        assert bodies(await ask(bed, REQUEST), 1) == [BODY]
    for ready in edge.hits._ready.values():
        ready.until = 0.0  # looked at anew by the next request, as each second brings it about


@pytest.fixture
def warm(bed: Bed) -> Bed:
    bed.run(_known_to_the_kernel(bed))
    return bed


def test_the_kernel_sends_large_bodies_and_pipelined_answers_keep_their_order(warm: Bed, kernel: Kernel) -> None:
    small = REQUEST.replace(b"large", b"small")
    answers = warm.run(ask(warm, small, REQUEST, small, REQUEST, REQUEST, small))
    assert bodies(answers, 6) == [b"small", BODY, b"small", BODY, BODY, b"small"]
    assert kernel.sent_bytes > 2 * len(BODY)


def test_a_slow_viewer_gets_every_byte(warm: Bed, kernel: Kernel) -> None:
    assert bodies(warm.run(ask(warm, REQUEST, REQUEST, slowly=True)), 2) == [BODY, BODY]
    assert kernel.sent_bytes


def test_many_viewers_at_once(warm: Bed, kernel: Kernel) -> None:
    async def crowd() -> list[bytes]:
        return await asyncio.gather(*(ask(warm, REQUEST, slowly=number % 2 > 0) for number in range(20)))

    for answer in warm.run(crowd()):
        assert bodies(answer, 1) == [BODY]


@pytest.mark.parametrize("fails_from", [0, 5, 1_000_000, len(BODY) - 1])
def test_a_file_that_fails_on_the_way_costs_the_viewer_nothing(warm: Bed, kernel: Kernel, fails_from: int) -> None:
    kernel.fails_from = fails_from
    assert bodies(warm.run(ask(warm, REQUEST, REQUEST)), 2) == [BODY, BODY]


def test_a_file_that_was_cut_short_costs_the_viewer_nothing_and_the_origin_one_body(warm: Bed, tmp_path: Path) -> None:
    ASKED.clear()
    os.truncate(next(tmp_path.glob(f"objects/*/{held(warm).version.hex()}.data")), PIECE)
    for _ in range(5):
        assert bodies(warm.run(ask(warm, REQUEST)), 1) == [BODY]
    assert len(ASKED) <= 1


def test_what_somebody_wrote_into_a_file_is_never_sent(warm: Bed, kernel: Kernel, tmp_path: Path) -> None:
    data = next(tmp_path.glob(f"objects/*/{held(warm).version.hex()}.data"))
    assert bodies(warm.run(ask(warm, REQUEST)), 1) == [BODY]
    with data.open("r+b") as file:
        file.seek(FLIPPED)
        file.write(bytes((BODY[FLIPPED] ^ 1,)))
    for _ in range(5):
        assert bodies(warm.run(ask(warm, REQUEST)), 1) == [BODY]


def test_bytes_are_counted_as_they_are_told(warm: Bed) -> None:
    edge = warm.edges[0]
    edge.hits.settle(0.0)
    before = sum(edge.metrics.viewer_bytes[source] for source in (Source.MEMORY, Source.DISK))
    answers = warm.run(ask(warm, REQUEST, REQUEST, REQUEST))
    edge.hits.settle(0.0)
    after = sum(edge.metrics.viewer_bytes[source] for source in (Source.MEMORY, Source.DISK))
    assert sum(map(len, bodies(answers, 3))) == after - before


def test_of_a_body_that_its_viewer_did_not_want_only_what_was_sent_is_counted(warm: Bed) -> None:
    edge = warm.edges[0]
    edge.hits.settle(0.0)
    sources, many = (Source.MEMORY, Source.DISK), REQUEST * 20

    async def leave() -> None:
        front = edge._front
        assert front is not None
        assert front._listener is not None
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, front._listener.getsockname())
            await loop.sock_sendall(sock, many)
            await loop.sock_recv(sock, 1000)
        while front.connections:
            await asyncio.sleep(0)

    before = sum(edge.metrics.viewer_bytes[source] for source in sources)
    warm.run(leave())
    edge.hits.settle(0.0)
    after = sum(edge.metrics.viewer_bytes[source] for source in sources)
    assert 0 < after - before <= 2 * MOST_IN_KERNEL + len(BODY) < 20 * len(BODY)


def test_the_last_answer_is_not_lost_to_what_is_sent_behind_its_request(warm: Bed) -> None:
    closing = b"GET /large HTTP/1.1\r\nHost: video.example\r\nConnection: close\r\n\r\n"

    async def ask_and_send_on() -> bytes:
        front = warm.edges[0]._front
        assert front is not None
        assert front._listener is not None
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, front._listener.getsockname())
            await loop.sock_sendall(sock, closing)
            received = bytearray(await loop.sock_recv(sock, 1000))
            await loop.sock_sendall(sock, REQUEST)
            while data := await loop.sock_recv(sock, 1 << 16):
                received += data
                await loop.sock_sendall(sock, b"more")
            return bytes(received)

    assert bodies(warm.run(ask_and_send_on()), 1) == [BODY]
