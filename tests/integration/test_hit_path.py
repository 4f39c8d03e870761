"""The hit path changes no answer: whole connections, cut anywhere, get the same bytes with it as without it (DESIGN 7).

Two edges before one origin, alike but that one never lets anything onto its hit path. Each is fed the same connection,
byte for byte and cut for cut; what comes back must be the same but for dates and ages.
"""

import asyncio
import re
import socket
from collections.abc import Iterator

import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge.app import Edge
from edge.config import Cache
from edge.connection import Connection
from swarm.units import Bytes
from tests.integration.one_edge import Bed, running_bed

SMALL, LARGE = b"small body", bytes(range(256)) * 1200
BAIT = b"GET /small HTTP/1.1\r\nHost: video.example\r\n\r\n"

CHROME = (
    b'Connection: keep-alive\r\nsec-ch-ua-platform: "Windows"\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\n'
    b"Origin: https://player.example\r\nSec-Fetch-Mode: cors\r\nReferer: https://player.example/\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en\r\n"
)
CURL = b"User-Agent: curl/8\r\nAccept: */*\r\n"


# --- the origin, and what is before it


async def _small(request: web.Request) -> web.Response:
    return web.Response(body=SMALL, headers={"Cache-Control": "max-age=3600", "ETag": '"s"'})


async def _large(request: web.Request) -> web.Response:
    return web.Response(body=LARGE, headers={"Cache-Control": "max-age=3600", "Content-Type": "video/mp4"})


async def _varies(request: web.Request) -> web.Response:
    encoding = request.headers.get("Accept-Encoding", "none")
    return web.Response(text=encoding, headers={"Cache-Control": "max-age=3600", "Vary": "Accept-Encoding"})


async def _playlist(request: web.Request) -> web.Response:
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n" + "#EXTINF:4,\nseg.m4s\n" * 100 + "#EXT-X-ENDLIST\n"
    headers = {"Cache-Control": "max-age=3600", "Content-Type": "application/vnd.apple.mpegurl", "ETag": '"p"'}
    return web.Response(text=text, headers=headers)


async def _private(request: web.Request) -> web.Response:
    return web.Response(text="yours", headers={"Cache-Control": "no-store"})


async def _echo(request: web.Request) -> web.Response:
    return web.Response(body=b"got " + await request.read(), headers={"Cache-Control": "no-store"})


def origin() -> web.Application:
    app = web.Application()
    routes = {"/small": _small, "/large": _large, "/varies": _varies, "/list.m3u8": _playlist, "/private": _private}
    for path, handler in routes.items():
        app.router.add_get(path, handler)
    app.router.add_post("/{path:.*}", _echo)
    return app


@pytest.fixture(scope="module", params=["memory", "memory and disk"])
def bed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with running_bed(origin) as bed:
        for number in range(2):
            directory = tmp_path_factory.mktemp(f"edge-{number}")
            has_disk = request.param != "memory"
            bed.run(bed.start_edge(Cache(directory=directory, disk=Bytes(1 << 30)) if has_disk else None))
        bed.edges[1].hits.close()
        for _ in range(3):  # what is asked for below is in memory, and known to the hit path
            for path in (b"/small", b"/large", b"/varies", b"/list.m3u8"):
                answers(bed, [b"GET " + path + b" HTTP/1.1\r\nHost: video.example\r\n" + CHROME + b"\r\n"])
        yield bed


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


async def answer(edge: Edge, parts: list[bytes]) -> bytes:
    """What one connection brings on which these arrive, each by itself, and then the end."""
    front = edge._front
    assert front is not None
    ours, theirs = _tcp_pair()
    loop = asyncio.get_running_loop()
    front._open += 1  # as `_accept` and `_admit` do
    front._by_address["192.0.2.1"] += 1
    transport, connection = await loop.connect_accepted_socket(lambda: Connection(front, "192.0.2.1", theirs), theirs)
    received = bytearray()

    async def receive() -> None:
        while data := await loop.sock_recv(ours, 1 << 20):
            received.extend(data)

    receiving = asyncio.create_task(receive())
    for part in parts:
        if transport.is_closing():
            break
        if part:
            connection.data_received(part)
        else:
            await asyncio.sleep(0)
    if not transport.is_closing() and not connection.eof_received():
        transport.close()
    await receiving
    transport.abort()
    ours.close()
    await asyncio.sleep(0)
    return bytes(received)


_CHANGING = re.compile(rb"(?<=\r\n)(Date: [^\r]+|Age: \d+)|(?<=; ttl=)\d+|(?<=dur=)[\d.]+")


def answers(bed: Bed, parts: list[bytes]) -> tuple[bytes, bytes]:
    """With and without the hit path, with dates and ages taken out."""
    with_it, without_it = (bed.run(answer(edge, parts)) for edge in bed.edges)
    return _CHANGING.sub(b"...", with_it), _CHANGING.sub(b"...", without_it)


# --- what is sent

HIT, CURLS_HIT = (b"GET /small HTTP/1.1\r\nHost: video.example\r\n" + fields + b"\r\n" for fields in (CHROME, CURL))

targets = st.sampled_from(
    [
        b"/small", b"/small", b"/large", b"/varies", b"/list.m3u8", b"/private", b"/missing", b"/-/health",
        b"/small?CMCD=bl%3D100", b"/small?x=1", b"/a/../small", b"/%73mall", b"//small", b"/sm|ll", b"/sm\xc3\xa4ll",
        b"/%2D/health", b"/x/../-/health", b"*",
        b"http://video.example/small", b"small", b"/../small", b"/small#x", b"/%zz",
    ]
)  # fmt: skip
lines = st.one_of(
    st.builds(lambda target: b"GET " + target + b" HTTP/1.1", targets),
    st.builds(lambda target: b"GET " + target + b" HTTP/1.1", targets),
    st.builds(
        lambda method, target, version: method + b" " + target + b" " + version,
        st.sampled_from([b"GET", b"HEAD", b"OPTIONS", b"get", b"CONNECT", b"G=T"]),
        targets,
        st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1.1 ", b"http/1.1", b""]),
    ),
)
hosts = st.sampled_from(
    [b"Host: video.example\r\n"] * 6
    + [
        b"",
        b"Host: a b\r\n",
        b"Host : video.example\r\n",
        b"Host: video.example\r\nHost: b\r\n",
        b"host:video.example:80\r\n",
    ]
)
odd_fields = st.sampled_from(
    [
        b"Range: bytes=0-3\r\n", b"Range: bytes=2-\r\n", b'If-None-Match: "s"\r\n', b"Cache-Control: no-cache\r\n",
        b"Connection: close\r\n", b"Connection: Keep-Alive\r\n", b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        b"Accept-Encoding: gzip\r\n", b"Accept-Encoding: \r\n", b"Origin: null\r\n", b"X-Unknown: 1\r\n",
        b"Cookie: a=b\r\n",
        b"X-Folded: a\r\n b\r\n", b"X-Bare: a\nX: b\r\n", b"X-Bare: a\rb\r\n", b"X-Nul: a\0b\r\n", b"X-Late: \xff\r\n",
        b": empty\r\n", b"no colon\r\n", b"Content-Length: 0\r\n", b"Starling-Trace: 1\r\n",
        b"Expect: 100-continue\r\n",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n",
        b"Content-Length: +3\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n", b"Content-Length: 3, 3\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding : chunked\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
    ]
)  # fmt: skip
requests = st.builds(
    lambda line, host, usual, odd: line + b"\r\n" + host + usual + b"".join(odd) + b"\r\n",
    lines,
    hosts,
    st.sampled_from([CHROME, CHROME, CURL, b""]),
    st.one_of(st.just([]), st.just([]), st.lists(odd_fields, max_size=2)),
)
bodies = st.sampled_from([b"", b"abc", BAIT, BAIT * 2, b"x" * 70_000])


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;ext=1\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\nTrailer: x\r\n\r\n"


def post(target: bytes, framing: bytes, body: bytes) -> bytes:
    return b"POST " + target + b" HTTP/1.1\r\nHost: video.example\r\n" + framing + b"\r\n" + body


posted = st.sampled_from([b"/form"] * 9 + [b"/small"])  # which is to be fetched anew after that
posts = st.one_of(
    st.builds(lambda target, body: post(target, b"Content-Length: %d\r\n" % len(body), body), posted, bodies),
    st.builds(
        lambda target, body, size: post(target, b"Transfer-Encoding: chunked\r\n", chunked(body, size)),
        posted, bodies, st.sampled_from([7, 4096, 1 << 20]),
    ),
    st.builds(  # a body that is shorter, longer or worse than said
        lambda framing, body: post(b"/form", framing, body),
        st.sampled_from([b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 50\r\n"]),
        st.sampled_from([b"abc", BAIT, b"3\r\nabc\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"3 \r\nabc\r\n0\r\n\r\n"]
        ),
    ),
)  # fmt: skip
oddities = st.one_of(st.sampled_from([b"\r\n", b"\r\n\r\n", b"\n", b"\0"]), st.binary(max_size=20))
hits = st.sampled_from([HIT, HIT, CURLS_HIT, HIT.replace(b"/small", b"/large"), HIT.replace(b"/small", b"/list.m3u8")])
messages = st.one_of(hits, hits, hits, requests, requests, posts, oddities)


@st.composite
def connections(draw: st.DrawFn) -> list[bytes]:
    """What arrives: messages end to end, cut at any places; an empty part lets the server work in between."""
    stream = b"".join(draw(st.lists(messages, min_size=1, max_size=5)))
    if draw(st.booleans()):
        stream = stream[: draw(st.integers(0, len(stream)))]
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    parts = [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]
    pauses = draw(st.lists(st.integers(0, 3), min_size=len(parts), max_size=len(parts)))
    return [piece for part, pause in zip(parts, pauses, strict=True) for piece in [part or b"", *[b""] * pause]]


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(connections())
@example([HIT * 3])
@example([post(b"/form", b"Content-Length: %d\r\n" % len(BAIT), BAIT) + HIT])
@example([HIT[:30], HIT[30:] + HIT[:-1], HIT[-1:]])
@example([b"GET /large HTTP/1.1\r\nHost: video.example\r\n" + CHROME + b"\r\n" + HIT])
def test_any_connection_gets_the_same_bytes_by_both_paths(bed: Bed, parts: list[bytes]) -> None:
    with_it, without_it = answers(bed, parts)
    assert with_it == without_it


def test_the_hit_path_took_what_it_could(bed: Bed) -> None:
    """Else the test before would show nothing."""
    taken = bed.edges[0].metrics.hit_path
    bed.edges[0].metrics.settle()
    assert taken.value > 20
    for _ in range(2):  # in case it was just invalidated
        answers(bed, [HIT])
    bed.edges[0].metrics.settle()
    before = taken.value
    with_it, _ = answers(bed, [HIT * 3])
    bed.edges[0].metrics.settle()
    assert taken.value == before + 3
    assert with_it.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert bed.edges[1].metrics.hit_path.value == 0
