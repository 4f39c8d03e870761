"""Paces the connections of a sender: what `swarm.uploads` decides, told to the kernel (SO_MAX_PACING_RATE)."""

import asyncio
import math
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from swarm.capacity import LearntCapacity
from swarm.uploads import GOODPUT, SHARE_EVERY_S, Uploads

_SO_MAX_PACING_RATE = 47  # Linux, asm-generic/socket.h; Python's socket module does not name it
_ACKED = slice(120, 128)  # in Linux's struct tcp_info: tcpi_bytes_acked
_UNSENT = slice(144, 148)  # tcpi_notsent_bytes
WORTH_TELLING = 0.01  # a rate that changed by less stays as it is
PLENTY_BYTES = 64 << 10  # unsent of one stream: then what goes through is what the link lets through
UNSENT_BYTES = 128 << 10  # in the kernel, of one stream: what waits there can be neither dropped nor put in order


@dataclass
class _Paced:
    transport: asyncio.WriteTransport
    socket: socket.socket  # uvloop's, which knows but getsockopt and setsockopt
    acked_bytes: int
    told_bps: float = 0.0
    left_bytes: Callable[[], int | None] = lambda: None  # of the answer
    is_ending: bool = False  # its answer is written; it stays until that is sent


class Pacer:
    """The streams that share this uplink, whose `capacity_bps` is what the link is said to carry (None: learnt
    from what goes through). `ceiling_bps`: what they may send at present, asked at each sharing."""

    def __init__(self, capacity_bps: float | None, ceiling_bps: Callable[[], float] = lambda: math.inf) -> None:
        self._stated_bps = None if capacity_bps is None else capacity_bps * GOODPUT
        self._learnt = LearntCapacity()
        self._ceiling_bps = ceiling_bps
        self._uploads = Uploads()
        self._paced: dict[asyncio.WriteTransport, _Paced] = {}
        self._shared_at = 0.0
        self._wants_more = False
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Pacer {self._uploads!r}>"

    def open(self, transport: asyncio.WriteTransport, left_bytes: Callable[[], int | None] = lambda: None) -> None:
        """An answer begins on a connection. `left_bytes`: of pieces not written yet, where that is known."""
        sock = transport.get_extra_info("socket")
        if sock is None or sys.platform != "linux":
            return
        if transport in self._paced:
            self._paced[transport].is_ending = False
            self._paced[transport].left_bytes = left_bytes
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        acked, _ = _progress(sock)
        self._paced[transport] = _Paced(transport, sock, acked, left_bytes=left_bytes)
        self._uploads.on_open(transport)
        if self._timer is None:
            self._shared_at = time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(SHARE_EVERY_S, self._tick)

    def on_write(self, transport: asyncio.WriteTransport) -> None:
        """Pieces are about to be written to it. (That we wait and live is said at no cost to others.)"""
        if self._uploads.on_busy(transport):
            self._share()

    def end(self, transport: asyncio.WriteTransport) -> None:
        """Nothing more will be written to it, for this answer."""
        if transport in self._paced:
            self._paced[transport].is_ending = True

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._paced.clear()

    def _tick(self) -> None:
        now = time.monotonic()
        took_s, self._shared_at = now - self._shared_at, now
        self._wants_more = False
        sent_bps = sum(self._sample(paced, took_s) for paced in list(self._paced.values()))
        if self._wants_more:
            self._learnt.on_sent(sent_bps)
        if math.isfinite(budget_bps := self._budget_bps()):
            self._uploads.on_sent(sent_bps, budget_bps)
        self._share()
        again = bool(self._paced)
        self._timer = asyncio.get_running_loop().call_later(SHARE_EVERY_S, self._tick) if again else None

    def _sample(self, paced: _Paced, took_s: float) -> float:
        """Its rate since the last sharing, bits/s."""
        if paced.transport.is_closing():
            self._forget(paced)
            return 0.0
        acked, unsent = _progress(paced.socket)
        unsent += paced.transport.get_write_buffer_size()
        if paced.is_ending and not unsent:
            self._forget(paced)
        else:
            self._wants_more |= unsent >= PLENTY_BYTES
            left = paced.left_bytes()
            rate_bps = (acked - paced.acked_bytes) * 8 / took_s
            self._uploads.on_taken(paced.transport, rate_bps, unsent, None if left is None else left + unsent)
        rate_bps = (acked - paced.acked_bytes) * 8 / took_s
        paced.acked_bytes = acked
        return rate_bps

    def _forget(self, paced: _Paced) -> None:
        del self._paced[paced.transport]
        self._uploads.on_closed(paced.transport)

    def _budget_bps(self) -> float:
        """Infinite while nothing is known: no pacing."""
        capacity_bps = self._learnt.budget_bps if self._stated_bps is None else self._stated_bps
        return min(self._ceiling_bps(), math.inf if capacity_bps is None else capacity_bps)

    def _share(self) -> None:
        budget_bps = self._budget_bps()
        if not math.isfinite(budget_bps):
            return
        for transport, rate_bps in self._uploads.share(budget_bps).items():
            paced = self._paced[transport]  # type: ignore[index]
            if abs(rate_bps - paced.told_bps) > WORTH_TELLING * paced.told_bps and not transport.is_closing():  # type: ignore[attr-defined]
                paced.socket.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, int(rate_bps / 8))
                paced.told_bps = rate_bps


def _progress(sock: socket.socket) -> tuple[int, int]:
    """Bytes the other side has acknowledged, and bytes not sent yet."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNSENT.stop)
    return int.from_bytes(info[_ACKED], sys.byteorder), int.from_bytes(info[_UNSENT], sys.byteorder)
