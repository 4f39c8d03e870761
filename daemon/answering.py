"""The answerer's side: streams of frames over HTTP, with a WAIT while there is nothing to send."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

from daemon.pacing import Pacer
from daemon.peer_auth import SESSION_HEADER, Gatekeeper, Hello, WrongSecret
from daemon.vouching import Vouching
from swarm.accounting import Control
from swarm.errors import RemoteError
from swarm.metainfo import Metainfo
from swarm.wire import (
    FRAMES_TYPE,
    MESSAGE_TYPE,
    MOST_ASK_BYTES,
    Ask,
    EndFrame,
    Frame,
    PageFrame,
    SentFrame,
    WaitFrame,
    decode_ask,
    decode_message,
    encode_frame,
    encode_message,
    piece_head,
)

WAIT_EVERY_S = 0.25
STUCK_S = 20.0  # an asker that takes nothing for so long has gone

_T = TypeVar("_T")


class FrameStream:
    """The answer to one `Ask`. With a `pacer`, it gets its share of what this program may send."""

    def __init__(self, request: web.Request, pacer: Pacer | None = None) -> None:
        self._request = request
        self._pacer = pacer
        self._response = web.StreamResponse(headers={"Content-Type": FRAMES_TYPE})
        self.vouching: Vouching | None = None  # where pieces are signed for
        self.sent_bytes = 0  # of content bodies
        self.expected_bytes: int | None = None  # of them altogether, once that is known
        self.control: dict[Control, int] = {Control.POINTER: 0, Control.METAINFO: 0}

    @property
    def control_bytes(self) -> int:
        return sum(self.control.values())

    async def open(self) -> None:
        await self._response.prepare(self._request)
        if self._pacer is not None and self._request.transport is not None:
            self._pacer.open(self._request.transport, self._left_bytes)

    def _left_bytes(self) -> int | None:
        return None if self.expected_bytes is None else max(0, self.expected_bytes - self.sent_bytes)

    async def send(self, frame: Frame) -> None:
        data = encode_frame(frame)
        self.control[Control.METAINFO if isinstance(frame, PageFrame | SentFrame) else Control.POINTER] += len(data)
        await self._write(data)

    async def send_piece(self, piece: int, data: bytes) -> None:
        if self._pacer is not None and self._request.transport is not None:
            self._pacer.on_write(self._request.transport)
        await self._write(piece_head(piece, len(data)) + data)
        self.sent_bytes += len(data)

    async def vouch(self, meta: Metainfo, piece: int) -> None:
        """A verified piece was sent: it is signed for, with others, now or soon."""
        if self.vouching is not None and (said := self.vouching.on_sent(meta, piece)) is not None:
            await self.send(SentFrame(said))

    async def waiting(self, doing: Awaitable[_T]) -> _T:
        """The result of `doing`; meanwhile the asker is told that we live. It is cancelled with us: shield what others
        wait for too."""
        task = asyncio.ensure_future(doing)
        try:
            while not (await asyncio.wait((task,), timeout=WAIT_EVERY_S))[0]:
                await self.send(WaitFrame())
            return task.result()
        finally:
            task.cancel()

    async def end(self) -> web.StreamResponse:
        if self.vouching is not None and (said := self.vouching.statement()) is not None:
            await self.send(SentFrame(said))
        await self.send(EndFrame())
        await self._response.write_eof()
        if self._pacer is not None and self._request.transport is not None:
            self._pacer.end(self._request.transport)
        return self._response

    def cut(self) -> web.StreamResponse:
        """Nobody reads on: let the connection go."""
        if self._request.transport is not None:
            self._request.transport.abort()
        return self._response

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(STUCK_S):
            await self._response.write(data)


async def read_ask(request: web.Request) -> tuple[Ask, bytes]:
    """The question and its exact bytes. HTTP 400 for nonsense, 413 for too much."""
    body = await read_body(request)
    try:
        return decode_ask(body), body
    except RemoteError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from error


async def read_body(request: web.Request, most: int = MOST_ASK_BYTES) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > most:
            raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=len(body))
    return bytes(body)


def admit(gatekeeper: Gatekeeper, request: web.Request, body: bytes) -> str:
    """The node that asks, proved. HTTP 401 otherwise; the reason is for our log, not for strangers. 403 if it is
    banned."""
    try:
        node = gatekeeper.admit(request.headers.get(SESSION_HEADER), request.method, request.path, body)
    except WrongSecret as error:
        raise web.HTTPUnauthorized(text="the swarm's secret is required\n", reason="Unauthorized") from error
    if why := gatekeeper.refuses(node):
        raise web.HTTPForbidden(text=f"{why}\n")
    return node


def hello_handler(gatekeeper: Gatekeeper) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle_hello(request: web.Request) -> web.Response:
        try:
            hello = decode_message(await read_body(request, most=4096), Hello)
        except RemoteError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        return message_response(gatekeeper.greet(hello))

    return handle_hello


def message_response(message: object) -> web.Response:
    return web.Response(body=encode_message(message), content_type=MESSAGE_TYPE)  # type: ignore[arg-type]
