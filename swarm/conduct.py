"""What a peer may do on one stream of frames: be late, but not for ever; be busy, but not with nothing.

Silence is not judged here (whoever reads gives up after a second of it), nor what pieces contain. Durations are what
the reader spent waiting, so that its own slowness is nobody's fault.
"""

from swarm.accounting import Cause
from swarm.errors import RemoteError, Unreachable
from swarm.wire import Frame, PieceFrame, PointerFrame, WaitFrame

WAIT_FOR_PIECES_S = 30.0  # of WAIT and nothing else: an origin may be slow, and its home's uplink thin
WAIT_FOR_POINTER_S = 90.0  # a playlist asked for before it exists is held back for three target durations
TRICKLE_S = 5.0
LEAST_TRICKLE_BYTES = 8 << 10  # in that time, or a whole frame
FEW_FRAMES = 64
FRAMES_A_PIECE = 3  # that are no pieces: its page, a statement, a refusal
FRAMES_A_SECOND = 20  # a WAIT every quarter of a second, and room to spare


class Conduct:
    """Fed with what comes; raises when it is enough. `patience_s`: how long WAIT is an answer."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._waited_s = 0.0
        self._progress_at_s = 0.0  # on the scale of `_waited_s`: when something last came that was asked for
        self._window_at_s = 0.0
        self._window_bytes = 0
        self._pieces = 0
        self._others = 0

    def __repr__(self) -> str:
        return f"<Conduct {self._pieces} pieces, {self._others} other frames in {self._waited_s:.1f} s>"

    def on_bytes(self, size: int, waited_s: float) -> None:
        """Some bytes came after so long. Unreachable if it is but a trickle."""
        self._waited_s += waited_s
        self._window_bytes += size
        if self._waited_s - self._window_at_s < TRICKLE_S:
            return
        if self._window_bytes < LEAST_TRICKLE_BYTES:
            raise Unreachable(f"{self._window_bytes} bytes in {self._waited_s - self._window_at_s:.1f} s")
        self._begin_window()

    def _begin_window(self) -> None:
        self._window_at_s, self._window_bytes = self._waited_s, 0

    def on_frame(self, frame: Frame) -> None:
        """Unreachable if it only ever says WAIT, RemoteError if it says too much beside the pieces."""
        self._begin_window()
        if isinstance(frame, PieceFrame | PointerFrame):
            self._progress_at_s = self._waited_s
        elif isinstance(frame, WaitFrame) and self._waited_s - self._progress_at_s > self._patience_s:
            raise Unreachable(f"said WAIT for {self._waited_s - self._progress_at_s:.0f} s")
        if isinstance(frame, PieceFrame):
            self._pieces += 1
            return
        self._others += 1
        if self._others > FEW_FRAMES + FRAMES_A_PIECE * self._pieces + FRAMES_A_SECOND * self._waited_s:
            raise RemoteError(f"{self._others} frames beside {self._pieces} pieces", Cause.UNEXPECTED)
