"""A version's data file, and bodies sent from it by the kernel, uncopied (sendfile(2)).

Copying a body into the kernel costs more than all else a hit takes once it is larger than some tens of KiB. What is
sent so is not looked at by us: a file is sent from only for a while after all of it was read and its checks held, and
only as it was then.
"""

import asyncio
import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING

from daemon.listeners import limit_waiting
from edge.disk import read_at_hand

if TYPE_CHECKING:
    from edge.hits import Ready

CHECKED_FOR_S = 600.0  # rot that came since is found no later than so long after
MOST_WAITING_BYTES = 256 << 10  # in the kernel for a viewer to take: by itself it would keep up to 4 MiB for a slow one
UNLIMITED = 0x7FFF_FFFF
NUDGE_BYTES = 4096  # what the transport carries when the connection takes no more: it tells when that has left


class BodyFile:
    """Held open as long as anybody, a thread that reads or a viewer's connection among them, holds this."""

    __slots__ = ("_checked_until", "checked_ns", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.checked_ns = -1
        self._checked_until = 0.0

    def __del__(self) -> None:
        os.close(self.descriptor)

    def changed_ns(self) -> int:
        """When somebody last wrote to it."""
        return os.fstat(self.descriptor).st_mtime_ns

    def on_checked(self, changed_ns: int, now: float) -> None:
        """All of it was read, and is right; `changed_ns` was taken before that."""
        self.checked_ns = changed_ns
        self._checked_until = now + CHECKED_FOR_S

    def is_checked(self, now: float) -> bool:
        """Whether that is not long ago (`now`: monotonic)."""
        return now < self._checked_until

    def is_at_hand(self, size: int) -> bool:
        """Whether the kernel has it in memory, by its last byte: what it gives up goes whole, or nearly."""
        return read_at_hand(self.descriptor, size - 1, 1) is not None

    def is_as_checked(self) -> bool:
        return self.changed_ns() == self.checked_ns


def send(transport: asyncio.Transport, sock: socket.socket, ready: "Ready", file: BodyFile) -> "FileSending | None":
    """Begin an answer; None if all of it was sent already."""
    head, size = ready.head, ready.body_bytes
    sent = at = 0
    if not transport.get_write_buffer_size():
        try:
            sent = sock.send(head, socket.MSG_MORE)
            if sent == len(head):
                at = _sendfile(sock, file, 0, size)
                if at == size:
                    return None
        except OSError:  # `FileSending.go_on` finds out what it was
            transport.set_write_buffer_limits(0)
    return FileSending(transport, sock, ready, file, head[sent:], at)


def _sendfile(sock: socket.socket, file: BodyFile, at: int, end: int) -> int:
    """How much was taken. What waits in the kernel so is no copy, but pages of the file: it may be much."""
    if end - at <= MOST_WAITING_BYTES:
        return os.sendfile(sock.fileno(), file.descriptor, at, end - at)
    limit_waiting(sock, UNLIMITED)
    try:
        return os.sendfile(sock.fileno(), file.descriptor, at, end - at)
    finally:
        limit_waiting(sock, MOST_WAITING_BYTES)


class FileSending:
    """What is left of an answer, its body from a file, on its way to a viewer over plain TCP.

    The event loop's transport owns the socket, and knows nothing of files. While it holds nothing itself the kernel is
    asked to send; where the connection takes no more, the transport is given the next few KiB: it tells its protocol
    (`resume_writing`) when these have left, and there is room again.
    """

    __slots__ = ("_end", "_file", "_head", "_sock", "_transport", "at", "ready", "request")

    def __init__(
        self,
        transport: asyncio.Transport,
        sock: socket.socket,
        ready: "Ready",
        file: BodyFile,
        head: bytes,
        at: int,
    ) -> None:
        self.ready = ready
        self.request = (b"", b"")  # line and headers, for the log
        self.at = at  # bytes of the body that were sent, or given to the transport
        self._head = head  # what of it was not
        self._end = ready.body_bytes
        self._transport = transport
        self._sock = sock
        self._file = file

    def go_on(self) -> bool:
        """Send what the connection takes; True if that was all. OSError where the file does not give what it should.

        Whatever hinders the kernel, the transport's next write or our next read tells which of the two it was.
        """
        transport = self._transport
        transport.set_write_buffer_limits(0)
        if self._head:
            transport.write(self._head)
            self._head = b""
        while not (transport.get_write_buffer_size() or transport.is_closing()):
            if self.at == self._end:
                transport.set_write_buffer_limits()
                return True
            nudge = os.pread(self._file.descriptor, min(NUDGE_BYTES, self._end - self.at), self.at)
            if not nudge:
                raise OSError(errno.EIO, "it is too short")
            self.at += len(nudge)
            transport.write(nudge)
            if self.at < self._end and not (transport.get_write_buffer_size() or transport.is_closing()):
                with contextlib.suppress(OSError):
                    self.at += _sendfile(self._sock, self._file, self.at, self._end)
        return False
