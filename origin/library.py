"""What a path means now: files of the media directory and the ingest tree as versions, signed pointers and pages."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from daemon.keys import Signer
from origin.describing import ABSENT_LIFETIME_S, Description, describe, may_be_playlist
from origin.digests import Digests, page_bytes
from origin.disk import FileChanged, OpenFile, Tree
from origin.sequences import Sequences
from swarm import metainfo
from swarm.metainfo import PAGE_CONTEXT, POINTER_CONTEXT, Page, Pointer, Signed, piece_bytes_for
from swarm.names import BadPath, Path, file_parts, normalise, version_id

log = logging.getLogger(__name__)

MOST_POINTERS = 50_000  # kept signed, about 1 KiB each
MOST_PAGES = 4096  # kept signed, about 2 KiB each
MOST_DESCRIPTIONS = 50_000
MOST_SITE_BYTES = 256
OPEN_AGAIN = 3  # a file that is being replaced may change under our hands so often

_K = TypeVar("_K")
_V = TypeVar("_V")


class Recent(OrderedDict[_K, _V], Generic[_K, _V]):
    """A mapping that forgets what was longest unused beyond `most` entries."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def recall(self, key: _K) -> _V | None:
        value = self.get(key)
        if value is not None:
            self.move_to_end(key)
        return value

    def keep(self, key: _K, value: _V) -> None:
        self[key] = value
        self.move_to_end(key)
        while len(self) > self._most:
            self.popitem(last=False)


class Found:
    """An open file and what it is. Close it."""

    def __init__(self, file: OpenFile, url_path: str, description: Description) -> None:
        self.file = file
        self._url_path = url_path
        self._description = description
        # Neither site nor query: every edge, and a plain GET, must show one ETag for one body.
        self.etag = f'"{version_id(url_path, "", file.validator, file.size).hex()}"'
        self.headers = description.headers(self.etag, file.size, file.mtime_ns)
        self.last_modified = next(value for name, value in self.headers if name == "Last-Modified")

    def __enter__(self) -> "Found":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def version_of(self, path: Path) -> bytes:
        return version_id(path.key, "", self.file.validator, self.file.size)

    @property
    def lifetime_s(self) -> float:
        return self._description.lifetime.fresh_s


@dataclass(frozen=True, slots=True)
class Issued:
    """A signed pointer and when it was made, by a clock that nobody sets."""

    identity: str | None  # of the file it speaks of; None: there is none
    pointer: Pointer
    signed: Signed
    made_at: float

    def age_ms(self, now: float) -> int:
        return max(0, round((now - self.made_at) * 1000))


class Library:
    """`trees`: URL prefix -> tree; the longest prefix that fits owns a path. `wall`, `now`: two clocks, in seconds."""

    def __init__(
        self,
        trees: dict[str, Tree],
        digests: Digests,
        signer: Signer,
        sequences: Sequences,
        *,
        ingest_prefix: str | None = None,
        wall: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trees = sorted(trees.items(), key=lambda item: -len(item[0]))
        self._ingest_prefix = ingest_prefix
        self._digests = digests
        self._signer = signer
        self._sequences = sequences
        self._wall, self.now = wall, now
        self._pointers: Recent[str, Issued] = Recent(MOST_POINTERS)
        self._pages: Recent[tuple[bytes, str, int], Signed] = Recent(MOST_PAGES)
        self._descriptions: Recent[str, Description] = Recent(MOST_DESCRIPTIONS)

    def __repr__(self) -> str:
        return f"<Library {self._trees}, {len(self._pointers)} pointers>"

    async def find(self, path: Path) -> Found | None:
        """The file that a normalised path names, open; None if there is none.

        Raises OSError if it cannot be read, FileChanged if it is rewritten in place all the time.
        """
        try:
            parts = file_parts(path.url_path)
        except BadPath:
            return None  # a directory, or nothing that could be a file name
        tree = next((tree for prefix, tree in self._trees if path.url_path.startswith(prefix)), None)
        if tree is None:
            return None
        for tries_left in reversed(range(OPEN_AGAIN)):
            file = await tree.open(parts)
            if file is None:
                return None
            try:
                return Found(file, path.url_path, await self._describe(file, parts[-1], path.url_path))
            except FileChanged:
                file.close()
                if not tries_left:
                    raise
            except BaseException:
                file.close()
                raise
        return None

    async def _describe(self, file: OpenFile, name: str, url_path: str) -> Description:
        known = self._descriptions.recall(file.identity)
        if known is None:
            text = await file.read(0, file.size) if may_be_playlist(name, file.size) else None
            ingested = self._ingest_prefix is not None and url_path.startswith(self._ingest_prefix)
            known = describe(name, text, ingested=ingested)
            self._descriptions.keep(file.identity, known)
        return known

    def pointer(self, path: Path, found: Found | None, known_sequence: int | None) -> Issued:
        """What the path means now. Signed again when half its lifetime is over, so that `made` stays recent."""
        identity = found.file.identity if found else None
        issued = self._pointers.recall(path.key)
        now = self.now()
        if (
            issued is None
            or issued.identity != identity
            or now - issued.made_at >= issued.pointer.ttl_s / 2
            or (known_sequence is not None and known_sequence > issued.pointer.sequence)  # a replica is ahead of us
        ):
            issued = self._issue(path, found, known_sequence or 0, now)
            self._pointers.keep(path.key, issued)
        return issued

    def _issue(self, path: Path, found: Found | None, after: int, now: float) -> Issued:
        made = self._wall()
        pointer = Pointer(
            site=path.site,
            path=path.target,
            version=found.version_of(path) if found else None,
            status=200 if found else 404,
            headers=found.headers if found else absent_headers(),
            sequence=self._sequences.next(after),
            made=made,
            expires=made + (found.lifetime_s if found else ABSENT_LIFETIME_S),
            born=found.file.mtime_ns / 1e9 if found else made,
            size=found.file.size if found else None,
            piece_bytes=piece_bytes_for(found.file.size if found else None),
        )
        signed = self._signer.sign(POINTER_CONTEXT, metainfo.encode(pointer))
        return Issued(found.file.identity if found else None, pointer, signed, now)

    async def page(self, version: bytes, file: OpenFile, number: int) -> Signed:
        """One signed page of a version, hashed now if it never was. FileChanged, OSError."""
        key = (version, file.identity, number)
        known = self._pages.recall(key)
        if known is None:
            digests = await self._digests.page(file, number)
            known = self._signer.sign(PAGE_CONTEXT, metainfo.encode(_page(version, file.size, number, digests)))
            self._pages.keep(key, known)
        return known


def absent_headers() -> tuple[tuple[str, str], ...]:
    return (("Cache-Control", f"public, max-age={ABSENT_LIFETIME_S:.0f}"), ("Access-Control-Allow-Origin", "*"))


def _page(version: bytes, size: int, number: int, digests: bytes) -> Page:
    piece_bytes, stride = piece_bytes_for(size), page_bytes(size)
    offset = number * stride
    end = min(offset + stride, size)
    return Page(
        version=version,
        first_piece=offset // piece_bytes,
        offset=offset,
        length=end - offset,
        piece_bytes=piece_bytes,
        digests=digests,
        size=size if end == size else None,
    )


def read_path(site: str, target: str) -> Path:
    """The path that somebody asks for. BadPath if it can name nothing."""
    if not site or len(site.encode("utf-8", "replace")) > MOST_SITE_BYTES or "/" in site:
        raise BadPath("not a site")
    return normalise(site, target)
