"""SHA-256 of a file's pieces, page by page, hashed when first asked for and remembered.

What was hashed is kept in memory up to a bound, and for larger files in `state` too, in a file for each version to
which records are appended: a restart need not hash again. A record that is torn or does not match its checksum ends
what is believed; the rest is hashed anew. No signature is kept here, so a new signing key costs nothing.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import struct
import time
from collections import OrderedDict
from pathlib import Path

from xxhash import xxh3_64_intdigest

from origin.disk import Disk, OpenFile
from swarm.metainfo import DIGEST_BYTES, piece_bytes_for, pieces_per_page

log = logging.getLogger(__name__)

LEAST_KEPT_BYTES = 1 << 20  # below, hashing again is quicker than opening a file
MOST_REMEMBERED = 200_000  # pages, each at most 2 KiB, all versions together
FORGOTTEN_AFTER_S = 30 * 86400.0  # records unused for so long are swept away at start
_MAGIC = b"starling digests 1\n"
_RECORD = struct.Struct(">IIQ")  # page number, bytes of digests, xxh3 of both
_MOST_DIGESTS = 64 * DIGEST_BYTES

Pages = dict[int, bytes]  # page number -> the digests of its pieces, joined


def page_bytes(size: int) -> int:
    """How many bytes of such a file one page covers."""
    piece_bytes = piece_bytes_for(size)
    return pieces_per_page(piece_bytes) * piece_bytes


class Digests:
    """`directory`: where they are kept; None keeps them in memory alone."""

    def __init__(self, directory: Path | None, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk
        self._pages: OrderedDict[str, Pages] = OrderedDict()  # by identity; the longest unused first
        self._remembered = 0
        self._under_way: dict[tuple[str, int], asyncio.Task[bytes]] = {}
        self._loading = asyncio.Lock()
        self.hashed_bytes = 0

    def __repr__(self) -> str:
        return f"<Digests of {len(self._pages)} versions, {self._remembered} pages, {len(self._under_way)} under way>"

    async def page(self, file: OpenFile, number: int) -> bytes:
        """The digests of one page. FileChanged, OSError."""
        known = self._pages.get(file.identity)
        if known is not None and number in known:
            self._pages.move_to_end(file.identity)
            return known[number]
        key = (file.identity, number)
        task = self._under_way.get(key)
        if task is None:
            keeping = contextlib.ExitStack()  # the file, for all steps: its opener may leave and close it meanwhile
            keeping.enter_context(file.hold())
            task = self._under_way[key] = asyncio.create_task(self._make(file, number))
            task.add_done_callback(lambda _: keeping.close())
            task.add_done_callback(lambda done: self._on_done(key, done))
        return await asyncio.shield(task)  # others may wait for it when we no longer do

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _on_done(self, key: tuple[str, int], done: "asyncio.Task[bytes]") -> None:
        del self._under_way[key]
        if not done.cancelled():
            done.exception()  # seen by whoever still waits; nobody may

    async def _make(self, file: OpenFile, number: int) -> bytes:
        path = self._path_of(file)
        if path is not None and file.identity not in self._pages:
            # One at a time: a look at the file while another thread appends to it could take its record for torn.
            async with self._loading:
                if file.identity not in self._pages:
                    self._remember(file.identity, await file.submit(self._disk.readers, load, path, file.identity))
        if path is not None and (known := self._pages.get(file.identity, {}).get(number)) is not None:
            return known
        digests = await file.submit(self._disk.hashers, _hash_page, file, number)
        self.hashed_bytes += min(page_bytes(file.size), file.size - number * page_bytes(file.size))
        self._remember(file.identity, {number: digests})
        if path is not None:
            await file.submit(self._disk.hashers, _keep, path, file.identity, number, digests)
        return digests

    def _path_of(self, file: OpenFile) -> Path | None:
        if self._directory is None or file.size < LEAST_KEPT_BYTES:
            return None
        return self._directory / hashlib.sha256(file.identity.encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def _remember(self, identity: str, pages: Pages) -> None:
        known = self._pages.setdefault(identity, {})
        self._pages.move_to_end(identity)
        self._remembered -= len(known)
        known.update(pages)
        self._remembered += len(known)
        while self._remembered > MOST_REMEMBERED and len(self._pages) > 1:
            self._remembered -= len(self._pages.popitem(last=False)[1])


def _hash_page(file: OpenFile, number: int) -> bytes:
    """Read and hash one page in the calling thread. FileChanged, OSError."""
    piece_bytes, stride = piece_bytes_for(file.size), page_bytes(file.size)
    end = min((number + 1) * stride, file.size)
    digests = bytearray()
    for offset in range(number * stride, end, piece_bytes):
        digests += hashlib.sha256(file.read_now(offset, min(piece_bytes, end - offset))).digest()
    return bytes(digests)


def _head(identity: str) -> bytes:
    name = identity.encode("utf-8", "surrogateescape")
    return _MAGIC + len(name).to_bytes(4, "big") + name


def _checksum(number: int, digests: bytes) -> int:
    return xxh3_64_intdigest(number.to_bytes(4, "big") + digests)


def load(path: Path, identity: str) -> Pages:
    """What is kept of this version; what is torn, damaged or of another version is cut off, to be redone."""
    try:
        kept = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        log.warning("cannot read %s: %s; its pages are hashed again", path, error.strerror)
        return {}
    pages, good = _parse(kept, _head(identity))
    try:
        if good < len(kept):
            log.info("%s: its last %d bytes are torn or damaged; those pages are hashed again", path, len(kept) - good)
            os.truncate(path, good)
        os.utime(path)  # still in use: `sweep` spares it
    except OSError as error:
        log.warning("cannot mend %s: %s", path, error.strerror)
    return pages


def _parse(kept: bytes, head: bytes) -> tuple[Pages, int]:
    """The good records, and where they end; 0 if even the head is not ours."""
    if not kept.startswith(head):
        return {}, 0
    pages: Pages = {}
    at = len(head)
    while at + _RECORD.size <= len(kept):
        number, length, checksum = _RECORD.unpack_from(kept, at)
        end = at + _RECORD.size + length
        digests = kept[at + _RECORD.size : end]
        if length > _MOST_DIGESTS or len(digests) < length or _checksum(number, digests) != checksum:
            break
        pages[number] = digests
        at = end
    return pages, at


def _keep(path: Path, identity: str, number: int, digests: bytes) -> None:
    """Append one record, the head before the first. What cannot be kept is hashed again some day."""
    record = _RECORD.pack(number, len(digests), _checksum(number, digests)) + digests
    try:
        # One write each: two threads appending to one file never mix their records.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            if os.fstat(descriptor).st_size == 0:
                record = _head(identity) + record
            os.write(descriptor, record)
        finally:
            os.close(descriptor)
    except OSError as error:
        log.warning("cannot keep digests in %s: %s", path, error.strerror)


def sweep(directory: Path) -> int:
    """Remove what was not used for long; how many. Blocking. OSError if the directory cannot be read."""
    removed = 0
    oldest = time.time() - FORGOTTEN_AFTER_S
    for entry in os.scandir(directory):
        if entry.is_file() and entry.stat().st_mtime < oldest:
            Path(entry.path).unlink(missing_ok=True)
            removed += 1
    return removed
