"""What edges, origin and tracker say to each other: bytes <-> messages, incremental (docs/protocol.md lists them all).

An `Ask` is the msgpack body of one POST; the answer is a stream of frames, each `kind (1 byte), length (4 bytes, big
endian), payload`. Unknown kinds and unknown fields are skipped. Nonsense is a RemoteError and nothing else.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum, StrEnum
from typing import TypeVar

import msgspec

from swarm import pieces
from swarm.accounting import Cause, Reason, Role
from swarm.errors import RemoteError
from swarm.metainfo import MOST_PIECE_BYTES, MOST_PIECES, Signed
from swarm.pieces import Span
from swarm.purging import Purge

FORMAT = 1
FRAMES_TYPE = "application/vnd.starling.frames"
MESSAGE_TYPE = "application/msgpack"
MOST_ASK_BYTES = 256 << 10
MOST_FRAME_BYTES = MOST_PIECE_BYTES + 64
MOST_SKIPPED_BYTES = 4 << 20  # of one stream, in kinds that only newer edges know
ALL_BYTES = 1 << 62  # `inline_bytes` of an asker that wants the whole body behind the pointer
HEAD = struct.Struct(">BI")
PIECE_HEAD = struct.Struct(">I")


class Why(StrEnum):
    """Why pieces (or a pointer) were refused: refusal is routing."""

    NOT_HOME = "not_home"  # by my view others are home; `holders` names whom I would ask
    NOT_HELD = "not_held"  # asked as holder, I have them not; `holders` may
    BUSY = "busy"  # overload: `queue_ms` and `holders` say how long, and who else
    ORIGIN = "origin"  # I am home and the origin failed me
    UNKNOWN = "unknown"  # there is no such version any more: ask what the path means now
    UNSHARED = "unshared"  # HTTP forbids to share it: each viewer's request goes to the origin by itself
    ERRED = "erred"  # the origin answers with an error that may not be shared either: the next answer may be good

    @classmethod
    def _missing_(cls, value: object) -> "Why":
        """A newer edge's word: whatever it means, the pieces will not come from there."""
        return cls.NOT_HELD


class PointerFrame(msgspec.Struct, frozen=True):
    """`age_ms`: how long ago the pointer was made, by the sender's reckoning; no clock need agree."""

    signed: Signed
    age_ms: int
    trust: str = "signed"


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One streaming request: a pointer, pieces, or both.

    Without `version` the answer begins with the pointer and, if the body has at most `inline_bytes`, goes on with its
    pages and pieces. With it, `want` are the pieces (half-open ranges), each sent as soon as it verifies; `onward`
    asks for all pieces from that one on, for a version still open.
    """

    format: int = FORMAT
    site: str
    path: str
    variant: str = ""
    version: bytes | None = None
    want: tuple[Span, ...] = ()
    onward: int | None = None
    inline_bytes: int = 0
    known_sequence: int | None = None  # answered UNCHANGED instead of the same pointer again
    known_version: bytes | None = None  # held whole: a newer pointer to it comes without its body
    pointer: PointerFrame | None = None  # what the asker knows the path to mean: a home need not ask for it again
    have: bytes = b""  # bitmap of the pieces the asker holds: provider records
    role: Role = Role.HOME
    fields: tuple[tuple[str, str], ...] = ()  # of the viewer's request: a foreign origin is asked in its name
    lost: tuple[str, ...] = ()  # edges the asker could not reach: judge homes without them
    deadline_ms: int | None = None  # time left to whoever waits
    reason: Reason | None = None  # towards the origin: why it is asked
    purges: tuple[Purge, ...] = ()  # by which the asker did not accept the same edge's last answer

    def wanted(self) -> int:
        """`want` as a bitmap; RemoteError if a range is nonsense."""
        try:
            return pieces.of_spans(self.want, MOST_PIECES)
        except ValueError as error:
            raise RemoteError(str(error)) from error


class FrameKind(IntEnum):
    POINTER = 1
    UNCHANGED = 2
    PAGE = 3
    PIECE = 4
    REFUSED = 5
    WAIT = 6
    END = 7
    SENT = 8


class UnchangedFrame(msgspec.Struct, frozen=True):
    age_ms: int


class PageFrame(msgspec.Struct, frozen=True):
    signed: Signed


class PieceFrame(msgspec.Struct, frozen=True):
    piece: int
    data: bytes


class RefusedFrame(msgspec.Struct, frozen=True):
    """What will not come on this stream, why, and whom the sender would ask instead."""

    why: Why
    want: tuple[Span, ...] = ()
    holders: tuple[str, ...] = ()
    queue_ms: int | None = None
    detail: str = ""

    def wanted(self) -> int:
        try:
            return pieces.of_spans(self.want, MOST_PIECES)
        except ValueError as error:
            raise RemoteError(str(error)) from error


class WaitFrame(msgspec.Struct, frozen=True):
    """Alive, and waiting for the origin: silence would mean a dead sender."""

    queue_ms: int | None = None


class EndFrame(msgspec.Struct, frozen=True):
    """Nothing more comes."""


class SentFrame(msgspec.Struct, frozen=True):
    """What the sender states of the pieces it sent since the last such frame (`swarm/evidence.py`)."""

    signed: Signed


Frame = PointerFrame | UnchangedFrame | PageFrame | PieceFrame | RefusedFrame | WaitFrame | EndFrame | SentFrame

_KINDS: dict[int, type[msgspec.Struct]] = {
    FrameKind.POINTER: PointerFrame,
    FrameKind.UNCHANGED: UnchangedFrame,
    FrameKind.PAGE: PageFrame,
    FrameKind.REFUSED: RefusedFrame,
    FrameKind.WAIT: WaitFrame,
    FrameKind.END: EndFrame,
    FrameKind.SENT: SentFrame,
}
_NUMBERS = {kind: FrameKind(number) for number, kind in _KINDS.items()}

_M = TypeVar("_M")


def encode_message(message: msgspec.Struct) -> bytes:
    return msgspec.msgpack.encode(message)


def decode_message(body: bytes, kind: type[_M]) -> _M:
    """One msgpack message, e.g. an `Ask`. RemoteError on anything else."""
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteError(f"malformed {kind.__name__}: {error}") from error


def decode_ask(body: bytes) -> Ask:
    ask = decode_message(body, Ask)
    if ask.format != FORMAT:
        raise RemoteError(f"ask of format {ask.format}; this program reads {FORMAT}")
    ask.wanted()
    return ask


def encode_frame(frame: Frame) -> bytes:
    if isinstance(frame, PieceFrame):
        return piece_head(frame.piece, len(frame.data)) + frame.data
    payload = msgspec.msgpack.encode(frame)
    return HEAD.pack(_NUMBERS[type(frame)], len(payload)) + payload


def piece_head(piece: int, length: int) -> bytes:
    """What precedes a piece's bytes on the wire, so that the bytes themselves need not be copied."""
    return HEAD.pack(FrameKind.PIECE, PIECE_HEAD.size + length) + PIECE_HEAD.pack(piece)


class FrameReader:
    """Bytes in any chunking -> frames. After a RemoteError the stream is unusable."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skipped_bytes = 0
        self.ended = False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames completed by `data`, in order."""
        self._buffer += data
        at = 0
        try:
            while len(self._buffer) - at >= HEAD.size:
                kind, length = HEAD.unpack_from(self._buffer, at)
                if length > MOST_FRAME_BYTES:
                    raise RemoteError(f"frame of {length} bytes")
                end = at + HEAD.size + length
                if len(self._buffer) < end:
                    break
                if self.ended:
                    raise RemoteError("bytes after the end frame")
                begin, at = at + HEAD.size, end
                frame = self._piece(begin, end) if kind == FrameKind.PIECE else self._message(kind, begin, end)
                if frame is not None:
                    yield frame
        finally:
            del self._buffer[:at]

    @property
    def missing_bytes(self) -> int:
        """How many more bytes can make no difference: no frame is whole before they come."""
        have = len(self._buffer)
        if have < HEAD.size:
            return HEAD.size - have
        return HEAD.size + int(HEAD.unpack_from(self._buffer)[1]) - have

    def _piece(self, begin: int, end: int) -> PieceFrame:
        if end - begin <= PIECE_HEAD.size:
            raise RemoteError("piece frame without a piece")
        (piece,) = PIECE_HEAD.unpack_from(self._buffer, begin)
        return PieceFrame(piece, bytes(memoryview(self._buffer)[begin + PIECE_HEAD.size : end]))

    def _message(self, kind: int, begin: int, end: int) -> Frame | None:
        message = _KINDS.get(kind)
        if message is None:
            self._skipped_bytes += end - begin + HEAD.size
            if self._skipped_bytes > MOST_SKIPPED_BYTES:
                raise RemoteError(f"{self._skipped_bytes} bytes of frames of unknown kinds", Cause.UNEXPECTED)
            return None
        frame: Frame = decode_message(bytes(self._buffer[begin:end]), message)  # type: ignore[assignment]
        if isinstance(frame, RefusedFrame):
            frame.wanted()
        self.ended = isinstance(frame, EndFrame)
        return frame

    def on_eof(self) -> None:
        """RemoteError unless the stream ended where it said it would."""
        if not self.ended:
            raise RemoteError("the stream broke off", Cause.TRUNCATED)
