"""What is known of a version and never changes: pages of piece digests; and pointers: what a path means now (DESIGN 3).

Both are msgpack maps, signed over their exact bytes with a context prefix. Unknown fields are ignored, so that old and
new edges live in one swarm; a format number that is too new is a RemoteError.
"""

import bisect
import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import msgspec

from swarm.accounting import Cause
from swarm.errors import RemoteError

FORMAT = 1
LEAST_PIECE_BYTES = 16 << 10
MOST_PIECE_BYTES = 1 << 20
MOST_PIECES_WISHED = 512  # pieces double until an object has at most so many ...
MOST_PAGE_PIECES = 64
MOST_PAGE_BYTES = 8 << 20
DIGEST_BYTES = 32
VERSION_BYTES = 16
MOST_PIECES = 1 << 20  # ... 1 TiB at 1 MiB a piece: what a message may speak of

PAGE_CONTEXT = b"starling page\0"
POINTER_CONTEXT = b"starling pointer\0"


class Signed(msgspec.Struct, frozen=True):
    """Exact bytes and an Ed25519 signature over context + body. `signer`: key id of the origin, or an edge's name."""

    body: bytes
    signature: bytes
    signer: str


CheckSignature = Callable[[bytes, Signed], None]  # (context, signed): RemoteError(SIGNATURE) if it does not verify


class RecordsDiffer(RemoteError):
    """Two pages, both signed as they should be, do not fit together. Whoever sent them need not be to blame."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A run of at most 64 pieces and 8 MiB of one version.

    `length` bytes from `offset`, cut every `piece_bytes`; only the last page states the version's `size`. In an open
    version a page may end on a short piece, which is why each page states its own offset.
    """

    format: int = FORMAT
    version: bytes
    first_piece: int
    offset: int
    length: int
    piece_bytes: int
    digests: bytes
    size: int | None = None

    @property
    def pieces(self) -> int:
        return len(self.digests) // DIGEST_BYTES

    @property
    def end_piece(self) -> int:
        return self.first_piece + self.pieces

    def told(self, piece: int) -> tuple[int, int, bytes]:
        """(offset, length, digest) of a piece it covers."""
        at = piece - self.first_piece
        start = at * self.piece_bytes
        digest = self.digests[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES]
        return self.offset + start, min(self.piece_bytes, self.length - start), digest


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """What a path means now. Times are the origin's wall clock in seconds; `born` is when the version came to exist.

    `version` is None where there is no body to fetch (a tombstone, a bodiless error). `size` None: still open.
    """

    format: int = FORMAT
    site: str
    path: str
    variant: str = ""
    version: bytes | None
    status: int
    headers: tuple[tuple[str, str], ...]
    sequence: int
    made: float
    expires: float
    born: float
    size: int | None = None
    piece_bytes: int = LEAST_PIECE_BYTES

    @property
    def ttl_s(self) -> float:
        return self.expires - self.made

    def header(self, name: str) -> str | None:
        """The first header of that (lower-case) name."""
        return next((value for key, value in self.headers if key.lower() == name), None)


class _Formatted(Protocol):
    @property
    def format(self) -> int: ...


_F = TypeVar("_F", bound=_Formatted)


def encode(value: Page | Pointer) -> bytes:
    return msgspec.msgpack.encode(value)


def _decode(body: bytes, kind: type[_F]) -> _F:
    try:
        value = msgspec.msgpack.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteError(f"malformed {kind.__name__.lower()}: {error}") from error
    if value.format != FORMAT:
        raise RemoteError(f"{kind.__name__.lower()} of format {value.format}; this edge reads {FORMAT}")
    return value


def open_pointer(signed: Signed, check: CheckSignature) -> Pointer:
    """Verify, then read: nothing unsigned is ever parsed further. RemoteError if either fails."""
    check(POINTER_CONTEXT, signed)
    pointer = _decode(signed.body, Pointer)
    if pointer.version is not None and len(pointer.version) != VERSION_BYTES:
        raise RemoteError("pointer names a malformed version")
    if not LEAST_PIECE_BYTES <= pointer.piece_bytes <= MOST_PIECE_BYTES:
        raise RemoteError(f"pointer states pieces of {pointer.piece_bytes} bytes")
    if pointer.size is not None and not 0 <= pointer.size <= MOST_PIECES * pointer.piece_bytes:
        raise RemoteError(f"pointer states {pointer.size} bytes")
    if not 200 <= pointer.status <= 599:
        raise RemoteError(f"pointer of status {pointer.status}")
    if not all(map(math.isfinite, (pointer.made, pointer.expires, pointer.born))):
        raise RemoteError("pointer of no time at all")
    return pointer


def open_page(signed: Signed, check: CheckSignature) -> Page:
    """Verify, then read. RemoteError if anything is wrong."""
    check(PAGE_CONTEXT, signed)
    return read_page(signed.body)


def read_page(body: bytes) -> Page:
    """Read a page and check it against itself, whoever signed it. RemoteError."""
    page = _decode(body, Page)
    if len(page.version) != VERSION_BYTES or len(page.digests) % DIGEST_BYTES:
        raise RemoteError("page with a malformed version or digest list")
    if not LEAST_PIECE_BYTES <= page.piece_bytes <= MOST_PIECE_BYTES:
        raise RemoteError(f"page states pieces of {page.piece_bytes} bytes")
    if page.pieces > MOST_PAGE_PIECES or not 0 <= page.length <= MOST_PAGE_BYTES:
        raise RemoteError(f"page of {page.pieces} pieces and {page.length} bytes")
    if not 0 <= page.first_piece <= page.end_piece <= MOST_PIECES or page.offset < 0:
        raise RemoteError(f"page from piece {page.first_piece} at byte {page.offset}")
    if page.pieces != -(-page.length // page.piece_bytes):
        raise RemoteError(f"page with {page.pieces} digests for {page.length} bytes")
    if page.size is not None and page.size != page.offset + page.length:
        raise RemoteError("last page does not end where the version does")
    return page


def piece_bytes_for(size: int | None) -> int:
    """16 KiB, doubling until at most 512 pieces are left, up to 1 MiB; 16 KiB while the size is unknown."""
    piece = LEAST_PIECE_BYTES
    while size is not None and piece < MOST_PIECE_BYTES and size > piece * MOST_PIECES_WISHED:
        piece *= 2
    return piece


def pieces_per_page(piece_bytes: int) -> int:
    return min(MOST_PAGE_PIECES, MOST_PAGE_BYTES // piece_bytes)


def _fit(page: Page, later: Page) -> bool:
    """Whether one page may come after another: at once, or with bytes for the pieces numbered between."""
    pieces_between, bytes_between = later.first_piece - page.end_piece, later.offset - page.offset - page.length
    return bytes_between == 0 if pieces_between == 0 else pieces_between <= bytes_between


class Metainfo:
    """The pages of one version that this edge has seen, joined: spans and digests of pieces.

    Where the size is known from the start, pieces not yet covered by a page are uniform; in an open version only
    pieces under a page exist. Pages may overlap where they agree: two homes, or two attempts of one, cut a foreign
    origin's body into other runs of the same pieces. Conflicting pages are a RemoteError and change nothing.
    """

    def __init__(self, version: bytes, piece_bytes: int, size: int | None) -> None:
        self.version = version
        self.piece_bytes = piece_bytes
        self.size = size
        self._uniform = size is not None
        self._pages: dict[int, tuple[Page, Signed]] = {}  # by first piece
        self._firsts: list[int] = []  # rising; for bisection

    def __repr__(self) -> str:
        return f"<Metainfo {self.version.hex()[:8]} {self.size} bytes, {len(self._firsts)} pages>"

    def add(self, page: Page, signed: Signed) -> bool:
        """Join a verified page; False if it was known. RemoteError if it contradicts what is known."""
        if page.version != self.version:
            raise RemoteError("page of another version", Cause.UNEXPECTED)
        if not self._agrees(page):
            raise RecordsDiffer(f"two pages differ about piece {page.first_piece}", Cause.SIGNATURE)
        is_last = page.size is not None and self._last_page() is None
        if not is_last and all(self.has_digest(piece) for piece in range(page.first_piece, page.end_piece)):
            return False
        for covered in self._covered_by(page):
            del self._pages[covered]
            self._firsts.remove(covered)
        self._pages[page.first_piece] = (page, signed)
        bisect.insort(self._firsts, page.first_piece)
        self.size = page.size if page.size is not None else self.size
        return True

    def _agrees(self, page: Page) -> bool:
        """Whether a page fits into the version, between its neighbours, and says the same of pieces they share."""
        if page.piece_bytes != self.piece_bytes or (
            self._uniform and page.offset != page.first_piece * page.piece_bytes
        ):
            return False
        if self.size is not None and (page.offset + page.length > self.size or page.size not in (None, self.size)):
            return False
        if page.size is not None and self._firsts and self._pages[self._firsts[-1]][0].end_piece > page.end_piece:
            return False
        for piece in range(page.first_piece, page.end_piece):
            known = self._page_of(piece)
            if known is not None and known.told(piece) != page.told(piece):
                return False
        at = bisect.bisect_left(self._firsts, page.first_piece) - 1
        if at >= 0 and (before := self._pages[self._firsts[at]][0]).end_piece <= page.first_piece:
            return _fit(before, page) and self._fits_before_the_next(page)
        return self._fits_before_the_next(page)

    def _fits_before_the_next(self, page: Page) -> bool:
        at = bisect.bisect_left(self._firsts, page.end_piece)
        return at == len(self._firsts) or _fit(page, self._pages[self._firsts[at]][0])

    def _covered_by(self, page: Page) -> list[int]:
        """Pages that say nothing beside this one; without them ends rise with firsts, as `_page_of` requires."""
        at = bisect.bisect_left(self._firsts, page.first_piece)
        inside = [self._pages[first][0] for first in self._firsts[at : at + MOST_PAGE_PIECES + 1]]
        return [
            one.first_piece
            for one in inside
            if one.end_piece <= page.end_piece and (one.size is None or page.size is not None)
        ]

    def _last_page(self) -> Page | None:
        """The page that states the size, if it is known."""
        last = self._pages[self._firsts[-1]][0] if self._firsts else None
        return last if last is not None and last.size is not None else None

    def _page_of(self, piece: int) -> Page | None:
        at = bisect.bisect_right(self._firsts, piece) - 1
        if at < 0:
            return None
        page = self._pages[self._firsts[at]][0]
        return page if piece < page.end_piece else None

    def signed_page_of(self, piece: int) -> tuple[int, Signed] | None:
        """The page that covers a piece, ready to be sent on, with its first piece as its name."""
        page = self._page_of(piece)
        return (page.first_piece, self._pages[page.first_piece][1]) if page else None

    def digest_of(self, piece: int) -> bytes:
        """KeyError while no page covers it."""
        page = self._page_of(piece)
        if page is None:
            raise KeyError(piece)
        return page.told(piece)[2]

    def pages(self) -> Iterator[tuple[Page, Signed]]:
        for first in self._firsts:
            yield self._pages[first]

    @property
    def piece_count(self) -> int | None:
        """How many pieces there are; None while the version is open."""
        if self.size is None:
            return None
        last = self._last_page()
        return last.end_piece if last is not None else -(-self.size // self.piece_bytes)

    @property
    def known_pieces(self) -> int:
        """One past the last piece that is known to exist."""
        count = self.piece_count
        if count is not None:
            return count
        return self._pages[self._firsts[-1]][0].end_piece if self._firsts else 0

    def span(self, piece: int) -> tuple[int, int]:
        """(offset, length) of a piece, in bytes. KeyError where no such piece is known."""
        page = self._page_of(piece)
        if page is not None:
            offset, length, _ = page.told(piece)
            return offset, length
        if self.size is None or not self._uniform or not 0 <= piece < self.known_pieces:
            raise KeyError(piece)
        offset = piece * self.piece_bytes
        return offset, min(self.piece_bytes, self.size - offset)

    def piece_at(self, offset: int) -> int:
        """The piece that holds the byte at `offset`. KeyError where none is known yet."""
        for first in reversed(self._firsts):
            page = self._pages[first][0]
            if page.offset <= offset < page.offset + page.length:
                return first + (offset - page.offset) // page.piece_bytes
        if self.size is None or not self._uniform or not 0 <= offset < self.size:
            raise KeyError(offset)
        return offset // self.piece_bytes

    def reaches(self, end: int) -> bool:
        """Whether a page covers the byte before `end`; none of an empty span need be."""
        last = self._pages[self._firsts[-1]][0] if self._firsts else None
        return end <= (last.offset + last.length if last is not None else 0)

    def has_digest(self, piece: int) -> bool:
        return self._page_of(piece) is not None

    def check(self, piece: int, data: bytes | memoryview) -> None:
        """RemoteError unless `data` is exactly that piece; KeyError while no page covers it."""
        self.check_digest(piece, hashlib.sha256(data).digest())

    def check_digest(self, piece: int, digest: bytes) -> None:
        """The same, for who knows the SHA-256 of the data already."""
        if digest != self.digest_of(piece):
            raise RemoteError(f"piece {piece} of {self.version.hex()[:8]} does not match its digest", Cause.DIGEST)
