"""A foreign origin's body, cut into pieces that this edge vouches for as they arrive."""

import hashlib

from daemon.keys import Signer
from swarm.metainfo import LEAST_PIECE_BYTES, PAGE_CONTEXT, Page, encode, pieces_per_page
from swarm.wire import Frame, PageFrame, PieceFrame


class Cutter:
    """Bytes in any chunking -> signed pages, each followed by its pieces."""

    def __init__(self, version: bytes, piece_bytes: int, signer: Signer, first_piece: int = 0) -> None:
        """`first_piece`: where the bytes begin, in a version whose pieces are uniform."""
        self._version = version
        self._piece_bytes = piece_bytes or LEAST_PIECE_BYTES
        self._signer = signer
        self._buffer = bytearray()
        self._offset = first_piece * self._piece_bytes
        self._piece = first_piece

    @property
    def kept_back(self) -> int:
        """Bytes that do not fill a piece yet."""
        return len(self._buffer)

    def feed(self, chunk: bytes) -> list[Frame]:
        """The pages and pieces that are whole now."""
        self._buffer += chunk
        whole = len(self._buffer) // self._piece_bytes
        most = pieces_per_page(self._piece_bytes)
        frames: list[Frame] = []
        while whole:
            taken = min(whole, most)
            frames += self._page(taken * self._piece_bytes, None)
            whole -= taken
        return frames

    def flush(self) -> list[Frame]:
        """What is kept back, as a piece shorter than others: only in a version whose size is not known."""
        return self._page(len(self._buffer), None)

    def finish(self) -> list[Frame]:
        """The rest, and the size."""
        return self._page(len(self._buffer), self._offset + len(self._buffer))

    def _page(self, length: int, size: int | None) -> list[Frame]:
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        cut = [data[at : at + self._piece_bytes] for at in range(0, length, self._piece_bytes)]
        page = Page(
            version=self._version,
            first_piece=self._piece,
            offset=self._offset,
            length=length,
            piece_bytes=self._piece_bytes,
            digests=b"".join(hashlib.sha256(piece).digest() for piece in cut),
            size=size,
        )
        frames: list[Frame] = [PageFrame(self._signer.sign(PAGE_CONTEXT, encode(page)))]
        frames += [PieceFrame(self._piece + at, piece) for at, piece in enumerate(cut)]
        self._piece += len(cut)
        self._offset += length
        return frames
