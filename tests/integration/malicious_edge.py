"""A real edge with one function replaced: a liar. `python -m tests.integration.malicious_edge HOW --config FILE`.

flip, truncate, swap   sends bytes of its own making for every piece, and signs for what it sends
replay                 answers what a path meant, and was, when it first sent it
forge                  flips bits, and signs for what it should have sent
cut                    breaks off in the middle of every piece
attest                 vouches for wrong bytes of a foreign origin, and sends them
"""

import hashlib
import sys
from collections.abc import Callable
from typing import Any

import aiohttp

from daemon.answering import FrameStream
from edge.__main__ import main
from edge.held import Held
from edge.peer_http import PeerHttp
from edge.plain_origin import PlainOrigin
from edge.pointers import Known
from edge.resolver import Resolver
from swarm.metainfo import Signed
from swarm.names import Path
from swarm.wire import PageFrame, SentFrame, piece_head

Lie = Callable[[PeerHttp, Held, int, bytes], bytes]

honest_read = PlainOrigin._read
honest_send = PeerHttp._send_piece
honest_answer = Resolver.resolve_as_home


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def liar_that_signs(lie: Lie) -> None:
    """What it sends is a lie; that it signs for."""

    async def send_piece(self: PeerHttp, stream: FrameStream, held: Held, piece: int, told: set[int]) -> bool:
        data = await _data(self, held, piece)
        page = held.metainfo.signed_page_of(piece)
        if data is None or page is None:
            return False
        await _send(stream, held.version, piece, lie(self, held, piece, data), page[1], told)
        return True

    PeerHttp._send_piece = send_piece  # type: ignore[method-assign]


async def _data(self: PeerHttp, held: Held, piece: int) -> bytes | None:
    data = self._store.peek(held, piece)
    return data if data is not None else (await self._store.load(held, [piece])).get(piece)


async def _send(stream: FrameStream, version: bytes, piece: int, data: bytes, page: Signed, told: set[int]) -> None:
    if id(page) not in told:
        told.add(id(page))
        await stream.send(PageFrame(page))
    await stream.send_piece(piece, data)
    assert stream.vouching is not None
    digest = hashlib.sha256(data).digest()
    if (said := stream.vouching.on_sent_as(version, piece, digest, page, len(data))) is not None:
        await stream.send(SentFrame(said))


def another(self: PeerHttp, held: Held, piece: int, data: bytes) -> bytes:
    """The bytes of a neighbour, where there is one of that length."""
    other = self._store.peek(held, piece ^ 1)
    return other if other is not None and len(other) == len(data) else flipped(data)


def replayer() -> None:
    """Old metainfo and old bytes for whatever a path has become; and the pointer of then."""
    pointers: dict[str, Known] = {}
    sent: dict[tuple[str, int], tuple[Signed, bytes]] = {}

    async def resolve_as_home(self: Resolver, path: Path, *asked: Any, **more: Any) -> Known:
        return pointers.setdefault(path.key, await honest_answer(self, path, *asked, **more))

    async def send_piece(self: PeerHttp, stream: FrameStream, held: Held, piece: int, told: set[int]) -> bool:
        page, data = held.metainfo.signed_page_of(piece), await _data(self, held, piece)
        if page is None or data is None:
            return False
        old_page, old_data = sent.setdefault((held.path.key, piece), (page[1], data))
        await _send(stream, held.version, piece, old_data, old_page, told)
        return True

    Resolver.resolve_as_home = resolve_as_home  # type: ignore[method-assign]
    PeerHttp._send_piece = send_piece  # type: ignore[method-assign]


def forger() -> None:
    async def send_piece(self: FrameStream, piece: int, data: bytes) -> None:
        await self._write(piece_head(piece, len(data)) + flipped(data))
        self.sent_bytes += len(data)

    FrameStream.send_piece = send_piece  # type: ignore[method-assign]


def cutter() -> None:
    async def send_piece(self: FrameStream, piece: int, data: bytes) -> None:
        await self._write(piece_head(piece, len(data)) + data[: len(data) // 2])
        raise ConnectionResetError

    FrameStream.send_piece = send_piece  # type: ignore[method-assign]


def attester() -> None:
    async def read(self: PlainOrigin, answer: aiohttp.ClientResponse, most: int | None = None) -> bytes:
        data = await honest_read(self, answer, most)
        return bytes(byte ^ 1 for byte in data)

    PlainOrigin._read = read  # type: ignore[method-assign]


HOW: dict[str, Callable[[], None]] = {
    "flip": lambda: liar_that_signs(lambda self, held, piece, data: flipped(data)),
    "truncate": lambda: liar_that_signs(lambda self, held, piece, data: data[:-1]),
    "swap": lambda: liar_that_signs(another),
    "replay": replayer,
    "forge": forger,
    "cut": cutter,
    "attest": attester,
}

if __name__ == "__main__":
    HOW[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
