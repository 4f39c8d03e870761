"""One viewer's connection: where each message ends, the hit path, deadlines (DESIGN 7).

Requests are read one at a time. One whose answer is ready is answered at once; every other is handed, head and body, to
a handler of aiohttp's, which sees nothing of the next one before it has answered. So there is one reader alone that
decides where a message ends, and answers leave in the order of their requests.
"""

import asyncio
import logging
import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from http import HTTPStatus
from time import monotonic
from typing import Protocol, cast

from aiohttp import web

from daemon.listeners import acked_bytes
from daemon.malformed import answer_malformed
from edge import body_file
from edge.access_log import AccessLog
from edge.body_file import BodyFile, FileSending
from edge.config import Viewer
from edge.held import Held
from edge.hits import MOST_SMALL_BYTES, Block, Hits, Lines, Ready
from edge.metrics import EdgeMetrics
from edge.pointers import Known
from swarm.accounting import Dropped, Outcome, Source
from swarm.errors import OriginUnreachable
from swarm.http_dates import format_http_date
from swarm.request_head import BadHead, ChunkedBody, RequestHead, check_beginning, parse_head, without

log = logging.getLogger(__name__)

LINGER_S = 5.0  # a viewer that is told off may still be sending: closing at once would take the answer from it
RATE_WINDOW_S = 30.0  # a viewer is too slow when its average over so long is
MOST_AHEAD_BYTES = 64 << 10  # read of the next requests while one is being answered
SMALL_HIT_BYTES = 64 << 10  # what fits into a write buffer
NEVER = float("inf")

_EMPTY_LINES = re.compile(rb"(?:\r\n)+")  # before a request: ignored (RFC 9112 section 2.2), all at once


class Port(Protocol):
    """What a connection needs of the port it came in by (`edge.front`)."""

    access_log: AccessLog
    config: Viewer
    server: web.Server
    hits: Hits
    metrics: EdgeMetrics
    swarm_time: Callable[[], float]
    most_unsent_bytes: int
    unsent_bytes: int
    rest_of: Callable[[Known, Held, int], AsyncIterator[bytes]]

    def on_made(self, connection: "Connection") -> None: ...

    def on_lost(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """One viewer's connection."""

    __slots__ = (
        "_ahead", "_answering", "_block", "_body_bytes", "_by_hand", "_chunks", "_closing", "_ended", "_free", "_front",
        "_handler", "_in_head", "_last", "_rate_from", "_reading_paused", "_room", "_sending", "_sock", "_transport",
        "_unsent_bytes", "_used", "_write", "_writing_paused", "address", "deadline", "was_made",
    )  # fmt: skip

    def __init__(self, front: Port, address: str, sock: socket.socket | None = None) -> None:
        """`sock`: what carries it, where that is plain TCP."""
        self.address = address
        self.deadline = NEVER
        self.was_made = False
        self._front = front
        self._block: Block | None = None  # the headers of the request before, if they are for the hit path
        self._transport: asyncio.Transport | None = None
        self._handler: _Handler | None = None
        self._ahead = b""  # received, and belonging to requests that were not begun
        self._body_bytes = 0  # still to come of the request that is being answered
        self._chunks: ChunkedBody | None = None  # the same for a chunked one
        self._answering = False  # the handler owes an answer
        self._free = True  # at a boundary, with nothing owed, read ahead, or held back: the hit path may act
        self._in_head = True  # the first bytes of a head are here, and its deadline runs
        self._used = False  # since the last sweep
        self._ended = False  # the viewer sends no more
        self._last = False  # the answer it is at will be the last
        self._closing = False  # the last answer was given
        self._reading_paused = False
        self._writing_paused = False
        self._unsent_bytes = 0
        self._rate_from: tuple[float, int] | None = None
        self._sock = sock
        self._sending: FileSending | None = None  # a body that is on its way from its file
        self._by_hand: asyncio.Task[None] | None = None  # the rest of one whose file failed
        self._room: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Connection from {self.address}>"

    # --- what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from it
        self._write = self._transport.write
        self.deadline = monotonic() + float(self._front.config.header_timeout)
        self.was_made = True
        self._front.on_made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._closing = True
        self._free = False
        self._front.unsent_bytes -= self._unsent_bytes
        self._front.on_lost(self)
        if self._sending is not None:
            self._on_sent()
        if self._by_hand is not None:
            self._by_hand.cancel()
        if self._handler is not None:
            self._handler.connection_lost(exc)
            self._handler = None

    def data_received(self, data: bytes) -> None:
        if self._free:
            block = self._block
            # The same headers as before on this connection: compared, not hashed (0.2 us for 550 bytes). What is before
            # them is one line, if it is one of the lines.
            if block is not None and data.endswith(block.text):
                line = data[: -block.size]
                ready = block.lines.get(line)
                if ready is not None and (self._send_small(ready) or self._send(ready, line)):
                    return
        elif self._closing:
            return
        self._ahead += data
        self._advance()

    def eof_received(self) -> bool:
        """A viewer that only ends its sending half gets its answers (RFC 9112 section 9.6); not so over TLS."""
        self._ended = True
        self._free = False
        if self._closing or self._is_tls():
            return False
        self._advance()
        return self._transport is not None and not self._transport.is_closing()

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._free = False
        assert self._transport is not None
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._front.unsent_bytes += self._unsent_bytes
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._front.unsent_bytes -= self._unsent_bytes
        self._unsent_bytes = 0
        self._rate_from = None
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        if self._handler is not None:
            self._handler.resume_writing()
        if self._sending is not None and self._by_hand is None:
            self._send_on()
        if self._sending is None:
            self._advance()

    # --- requests, one at a time

    def _advance(self) -> None:
        """Go on with what was received, as far as that is possible now."""
        while self._ahead and not self._closing:
            if self._has_body_to_come():
                self._feed_body()
            elif self._answering or self._writing_paused or self._last or not self._begin():
                break
        self._settle()

    def _has_body_to_come(self) -> bool:
        return self._body_bytes > 0 or self._chunks is not None

    def _begin(self) -> bool:
        """Take one request off what was received; False if that is not one yet, or none."""
        if empty := _EMPTY_LINES.match(self._ahead):
            self._ahead = self._ahead[empty.end() :]
        end = self._ahead.find(b"\r\n\r\n")
        try:
            if end < 0:
                check_beginning(self._ahead)
                return False
            head, self._ahead = self._ahead[: end + 4], self._ahead[end + 4 :]
            self._answer(head)
        except BadHead as error:
            self._refuse(error)
        return True

    def _answer(self, head: bytes) -> None:
        cut = head.find(b"\r\n")
        line, text = head[:cut], head[cut:]
        request = None
        block = self._front.hits.blocks.get(text)
        if block is None:
            request = parse_head(head)
            block = self._front.hits.block_for(text, request)
        self._block = block
        if block is None or not self._hit(block.lines, line):
            self._hand_over(head, request or parse_head(head))

    def _hand_over(self, head: bytes, request: RequestHead) -> None:
        """To the handler; made for the first request that needs it: most connections only ever ask for hits."""
        assert self._transport is not None
        handler = self._handler
        if handler is None:
            handler = self._handler = _Handler(self, self._front.server)
            handler.connection_made(self._transport)
        self._answering = True
        self._body_bytes = request.body_bytes
        self._chunks = ChunkedBody() if request.chunked else None
        if request.all("upgrade"):  # we never change protocols, and aiohttp's parser would stop to wait for it
            head = without(head, b"upgrade")
        if not handler.take(head, requests=1):
            log.error("aiohttp found no request in %r", head[:200])
            self.abort()

    def _feed_body(self) -> None:
        assert self._handler is not None
        end: int | None = self._body_bytes
        if self._chunks is not None:
            try:
                end = self._chunks.feed(self._ahead)
            except BadHead as error:
                self._break_off(error)
                return
            if end is not None:
                self._chunks = None
        body, self._ahead = (self._ahead, b"") if end is None else (self._ahead[:end], self._ahead[end:])
        self._body_bytes -= min(self._body_bytes, len(body))
        if not self._handler.take(body, requests=0):
            log.error("aiohttp read another end of a body than we")
            self.abort()

    def on_answered(self, *, goes_on: bool) -> None:
        """The handler has written its answer; unless `goes_on`, that was the last."""
        self._answering = False
        if goes_on:
            self._advance()
        else:
            self._linger(float(self._front.config.idle_timeout))

    def _settle(self) -> None:
        """After whatever happened: what is waited for now, and for how long?"""
        if self._closing:
            return
        waits, in_body = self._answering or self._writing_paused, self._has_body_to_come()
        if (self._ended and (in_body or not waits)) or (self._last and not waits):
            self._close()
            return
        self._free = not (waits or in_body or self._ahead or self._ended)
        self._used = self._free or in_body
        if self._ahead and not waits:
            if not self._in_head:
                self.deadline = monotonic() + float(self._front.config.header_timeout)
            self._in_head = True
        else:
            self._in_head = False
            self.deadline = NEVER  # the sweep sets it if `_used`
        self._pace_reading(hold=waits and len(self._ahead) > MOST_AHEAD_BYTES)

    def _pace_reading(self, *, hold: bool) -> None:
        assert self._transport is not None
        if hold:
            self._transport.pause_reading()
        elif self._reading_paused:
            self._transport.resume_reading()
        self._reading_paused = hold

    # --- hits

    def _hit(self, lines: Lines, line: bytes) -> bool:
        """Whether the request was answered."""
        ready = lines.get(line)
        if ready is not None and self._send(ready, line):
            return True
        ready = self._front.hits.find(lines, line)
        return ready is not None and self._send(ready, line)

    def _send_small(self, ready: Ready) -> bool:
        """What `_send` does for most of what is small, in a twentieth less of all that a hit costs."""
        body = ready.held.ready
        if not (ready.is_small and body is not None and ready.known.standing and monotonic() < ready.until):
            return False
        if self._front.access_log.is_on:
            return False
        write = self._write
        write(ready.head + body[0])
        ready.count += 1
        self._used = True
        return True

    def _send(self, ready: Ready, line: bytes) -> bool:
        """Answer with it, if it is still good. Counted by the answer, and by the metrics once a second."""
        front = self._front
        body: Sequence[bytes | bytearray] | None = ready.held.ready
        is_over = monotonic() >= ready.until or not ready.known.standing
        if (is_over or (body is None and ready.source is Source.MEMORY)) and not front.hits.renew(ready, monotonic()):
            return False
        file = ready.file
        if file is not None and self._sock is not None and file.is_as_checked():
            self._send_file(ready, file, line)
            if self._sending is not None:  # counted, and told of, when it ends
                self._used = True
                return True
        elif (body := front.hits.body(ready)) is None:
            return False
        elif ready.body_bytes <= MOST_SMALL_BYTES:
            self._write(ready.head + (body[0] if len(body) == 1 else b"".join(body)))
        elif ready.body_bytes > SMALL_HIT_BYTES and front.unsent_bytes > front.most_unsent_bytes:
            return False
        else:
            assert self._transport is not None
            self._transport.writelines([ready.head, *body])
        if file is None:
            front.hits.check_file(ready)
        ready.count += 1
        self._used = True
        if front.access_log.is_on and self._block is not None:
            front.access_log.on_hit(self.address, line, self._block.text, ready.body_bytes)
        return True

    # --- bodies from files

    def _send_file(self, ready: Ready, file: BodyFile, line: bytes) -> None:
        assert self._transport is not None
        assert self._sock is not None
        self._sending = body_file.send(self._transport, self._sock, ready, file)
        if self._sending is not None:
            self._sending.request = (line, self._block.text if self._block is not None else b"")
            self._send_on()

    def _send_on(self) -> None:
        sending = self._sending
        assert sending is not None
        try:
            is_done = sending.go_on()
        except OSError as error:
            log.warning("%s: its file cannot be sent on: %s", sending.ready.held.path.target, error.strerror)
            self._answering = True
            self._free = False
            self._by_hand = asyncio.create_task(self._send_by_hand(sending))
            self._by_hand.add_done_callback(self._on_sent_by_hand)
        else:
            if is_done:
                self._on_sent()

    def _on_sent(self) -> None:
        """All of it, or what the viewer took before it left."""
        sending = self._sending
        assert sending is not None
        self._sending = None
        self._front.hits.count(sending.ready, sending.at)
        if self._front.access_log.is_on:
            self._front.access_log.on_hit(self.address, *sending.request, sending.at)

    async def _send_by_hand(self, sending: FileSending) -> None:
        """The rest of a body as the slow path would get it: from another tier, from peers, or from the origin."""
        ready = sending.ready
        async for data in self._front.rest_of(ready.known, ready.held, sending.at):
            assert self._transport is not None
            self._transport.write(data)
            sending.at += len(data)
            if self._writing_paused:
                self._room = asyncio.get_running_loop().create_future()
                await self._room

    def _on_sent_by_hand(self, task: "asyncio.Task[None]") -> None:
        self._by_hand = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            log.warning("a body broke off: %s", error, exc_info=None if isinstance(error, OriginUnreachable) else error)
            self.abort()
        else:
            self._on_sent()
            self.on_answered(goes_on=True)

    # --- the end

    def finish(self) -> None:
        """Close behind the answer it is at."""
        self._last = True
        self._free = False
        self._settle()

    def abort(self) -> None:
        if self._transport is not None:
            self._stop(NEVER)
            self._transport.abort()

    def _close(self) -> None:
        """What was written is still sent."""
        assert self._transport is not None
        self._stop(float(self._front.config.idle_timeout))
        self._transport.close()

    def _stop(self, patience_s: float) -> None:
        """Nothing more is read; who has not gone after so long is cut off."""
        self._closing = True
        self._free = self._used = False
        self._ahead = b""
        self.deadline = monotonic() + patience_s

    def _refuse(self, error: BadHead) -> None:
        """Say what is wrong; then read on for a while, or what is still being sent would take the answer away."""
        assert self._transport is not None
        self._front.metrics.viewer_requests[Outcome.REFUSED] += 1
        self._front.access_log.on_malformed(self.address, error.status)
        self._transport.write(_refusal(error, self._front.swarm_time()))
        self._linger(LINGER_S)

    def _linger(self, patience_s: float) -> None:
        """That was the last answer. Read on for a while (RFC 9112 section 9.6): what is still being sent would take it
        away from the viewer, were the connection closed at once."""
        if self._transport is None:
            return
        is_busy = self._transport.get_write_buffer_size() > 0
        self._stop(patience_s if is_busy else min(patience_s, LINGER_S))
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        if self._reading_paused:
            self._transport.resume_reading()
        if self._ended:
            self._transport.close()

    def _break_off(self, error: BadHead) -> None:
        """The body of the request that is being answered is no body."""
        assert self._handler is not None
        begun = self._handler.has_begun()
        self._handler.give_up()
        self._handler = None
        if begun:
            self.abort()
        else:
            self._refuse(error)

    # --- time

    def on_sweep(self, now: float) -> None:
        if self._writing_paused:
            self._watch_rate(now)
        elif self._used:
            self._used = False
            self.deadline = now + float(self._front.config.idle_timeout)
        elif now >= self.deadline:
            self._on_deadline()

    def _on_deadline(self) -> None:
        assert self._transport is not None
        if self._transport.get_write_buffer_size():
            self._drop(Dropped.SLOW)
        elif self._closing:
            self.abort()  # it has its answer, and does not go
        elif self._in_head:
            self._front.metrics.viewers_dropped[Dropped.NO_REQUEST] += 1
            self._refuse(BadHead("the header did not come in time", HTTPStatus.REQUEST_TIMEOUT))
        else:
            self._front.metrics.viewers_dropped[Dropped.IDLE] += 1
            self._close()

    def _watch_rate(self, now: float) -> None:
        """Cut off who takes less than `least_rate` over a while (counted as the other side acknowledges it)."""
        assert self._transport is not None
        acked = acked_bytes(self._transport.get_extra_info("socket"))
        if self._rate_from is None:
            self._rate_from = (now, acked)
            return
        since, before = self._rate_from
        if now - since >= RATE_WINDOW_S:
            if (acked - before) * 8 < float(self._front.config.least_rate) * (now - since):
                self._drop(Dropped.SLOW)
            else:
                self._rate_from = (now, acked)

    def _drop(self, why: Dropped) -> None:
        self._front.metrics.viewers_dropped[why] += 1
        self.abort()

    def _is_tls(self) -> bool:
        return self._transport is not None and self._transport.get_extra_info("sslcontext") is not None


class _Handler(web.RequestHandler):
    """aiohttp's side of one connection. It is fed one request at a time, and keeps no time of its own."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection, server: web.Server) -> None:
        super().__init__(server, loop=server._loop, **server._kwargs)
        self._connection = connection

    @property
    def peername(self) -> tuple[str, int]:
        """The viewer, as a balancer may have told; of its port nothing is told."""
        return (self._connection.address, 0)

    def take(self, data: bytes, *, requests: int) -> bool:
        """Whether it found as many requests in a head (1), or in what belongs to a body (0), as we."""
        before = self._request_count
        self.data_received(data)
        return self._request_count == before + requests

    def give_up(self) -> None:
        """Cancel the request under way; the connection stays open."""
        self.transport = None
        self.connection_lost(None)

    def has_begun(self) -> bool:
        """Whether some of the answer under way was written."""
        request = self._current_request
        return request is not None and request.writer.output_size > 0

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        finished, lost = await super().finish_response(request, resp, start_time)
        if not lost and self.transport is not None:
            goes_on = bool(finished.keep_alive) and not self._close
            if not goes_on:
                self.transport = None  # the connection closes it, in its own way
            self._connection.on_answered(goes_on=goes_on)
        return finished, lost

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        return answer_malformed(request, status, exc) or super().handle_error(request, status, exc, message)

    def _process_keepalive(self) -> None:
        """The front closes idle connections."""


def _refusal(error: BadHead, swarm_now: float) -> bytes:
    status = HTTPStatus(error.status)
    body = f"{error}\n"
    fields = {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": len(body),
        "Server": "starling",
        "Date": format_http_date(int(swarm_now)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join((*lines, "", "")) + body).encode()
