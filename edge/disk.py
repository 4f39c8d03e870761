"""The disk tier: two files a version, its pieces at their offsets (`.data`) and a log of what is known of it (`.log`).

A piece is written to `.data` first and then told in `.log`; a record is `length, xxh3 of the payload, payload`, so that
after `kill -9` a torn tail ends the log and nothing untold is ever served. Rot is found by the xxh3 told with a piece.
Everything here blocks but `read_at_hand`: it runs on the store's threads. Errors are OSError.
"""

import errno
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath

import msgspec
from xxhash import xxh3_64_intdigest

from edge.index import IndexFile
from swarm.metainfo import Signed

FORMAT = 1
_RECORD = struct.Struct(">IQ")
MOST_RECORD_BYTES = 1 << 20
AT_HAND_BYTES = 4 << 20  # so much is read at once where nothing blocks
LEAST_FREE_SHARE = 20  # a twentieth of the file system is left free ...
LEAST_FREE_BYTES = 1 << 30  # ... but no more than this
STATED_BLOCK = 512  # what st_blocks counts (stat(2))


class VersionRecord(msgspec.Struct, frozen=True, tag="version"):
    """The first record of every log."""

    format: int
    version: bytes
    site: str
    url_path: str
    query: str
    trust: str
    born: float
    piece_bytes: int
    size: int | None


class PageRecord(msgspec.Struct, frozen=True, tag="page"):
    signed: Signed


class PointerRecord(msgspec.Struct, frozen=True, tag="pointer"):
    """`made_at`: when it was made, by this machine's wall clock."""

    signed: Signed
    trust: str
    made_at: float


class PieceRecord(msgspec.Struct, frozen=True, tag="piece"):
    piece: int
    offset: int
    length: int
    check: int


Record = VersionRecord | PageRecord | PointerRecord | PieceRecord
_DECODER = msgspec.msgpack.Decoder(Record)


@dataclass
class Logged:
    """What a log told: one version. `torn`: bytes that make no sense follow, and would hide what is told next."""

    head: VersionRecord
    pages: list[Signed] = field(default_factory=list)
    pointer: PointerRecord | None = None
    pieces: dict[int, PieceRecord] = field(default_factory=dict)
    torn: bool = False


class Disk:
    """Files under one directory. `min_free_bytes`: what others are to find free on its file system; None: a twentieth
    of it, at most 1 GiB."""

    def __init__(self, directory: FilePath, min_free_bytes: int | None = None) -> None:
        self._objects = directory / "objects"
        self.min_free_bytes = min_free_bytes
        self.index = IndexFile(directory / "index")

    def open(self) -> None:
        """Makes what is missing, and opens the index."""
        self._objects.mkdir(parents=True, exist_ok=True)
        if not self.index.is_open():
            self.index.open()

    def try_out(self) -> int:
        """Whether it takes bytes and gives them back; the room there is."""
        self.open()
        probe = self._objects / ".probe"
        probe.write_bytes(b"starling")
        if probe.read_bytes() != b"starling":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        probe.unlink()
        return self.room()

    def room(self) -> int:
        """Bytes that may be written until no more is free than shall be; below 0 where less is."""
        system = os.statvfs(self._objects)
        free_bytes = system.f_bavail * system.f_frsize
        least = self.min_free_bytes
        if least is None:
            least = min(LEAST_FREE_BYTES, system.f_blocks * system.f_frsize // LEAST_FREE_SHARE)
        return free_bytes - least

    def close(self) -> None:
        self.index.close()

    def _paths(self, version: bytes) -> tuple[FilePath, FilePath]:
        name = version.hex()
        folder = self._objects / name[:2]
        return folder / f"{name}.data", folder / f"{name}.log"

    # --- writing

    def append(self, version: bytes, blocks: list[tuple[int, bytes]], records: list[Record]) -> int:
        """Write blocks (offset, bytes), then tell them. What the version now takes on disk, in bytes."""
        data_path, log_path = self._paths(version)
        try:
            return _write(data_path, log_path, blocks, records)
        except FileNotFoundError:
            data_path.parent.mkdir(parents=True, exist_ok=True)
            return _write(data_path, log_path, blocks, records)

    def mend(self, version: bytes) -> None:
        """Cut off what follows the last whole record of a log, so that what is told next is read back."""
        path = self._paths(version)[1]
        raw = path.read_bytes()
        whole = max((end for _, end in _records(raw)), default=0)
        if whole < len(raw):
            os.truncate(path, whole)

    def remove(self, version: bytes) -> None:
        data_path, log_path = self._paths(version)
        log_path.unlink(missing_ok=True)  # first: data that no log tells of does not exist
        data_path.unlink(missing_ok=True)

    # --- reading

    def read_log(self, version: bytes) -> Logged | None:
        """What is known of a version; None if there is no log, or none of it that makes sense."""
        try:
            raw = self._paths(version)[1].read_bytes()
        except FileNotFoundError:
            return None
        logged = _logged(raw)
        return logged if logged is not None and logged.head.version == version else None

    def open_data(self, version: bytes) -> int:
        """A descriptor of its data, to be closed by the caller."""
        return os.open(self._paths(version)[0], os.O_RDONLY | os.O_CLOEXEC)

    def scan(self) -> Iterator[tuple[Logged, int]]:
        """Every version on disk, with what it takes there. Logs that make no sense are removed with their data, and so
        is data without a log; torn ones are mended. Files may come and go between two steps, not during one."""
        for folder in sorted(self._objects.iterdir()):
            if folder.is_dir():
                yield from self._scan(folder)

    def _scan(self, folder: FilePath) -> Iterator[tuple[Logged, int]]:
        for log_path in folder.glob("*.log"):
            try:
                logged = _logged(log_path.read_bytes())
            except FileNotFoundError:
                continue
            if logged is None or logged.head.version.hex() != log_path.stem:
                log_path.unlink(missing_ok=True)
                continue
            if logged.torn:
                self.mend(logged.head.version)
                logged.torn = False
            yield logged, _taken(log_path.with_suffix(".data"), log_path)
        for data_path in folder.glob("*.data"):
            if not data_path.with_suffix(".log").exists():
                data_path.unlink(missing_ok=True)


def _write(data_path: FilePath, log_path: FilePath, blocks: list[tuple[int, bytes]], records: list[Record]) -> int:
    """Every call here lets go of the interpreter's lock and waits for it again: as few as can be."""
    taken = 0
    if blocks:
        descriptor = os.open(data_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            for offset, run in _runs(blocks):
                _write_all(descriptor, run, offset)
            taken = os.fstat(descriptor).st_blocks
        finally:
            os.close(descriptor)
    descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    try:
        _append(descriptor, b"".join(map(_framed, records)))
        taken += os.fstat(descriptor).st_blocks
    finally:
        os.close(descriptor)
    return taken * STATED_BLOCK if blocks else _taken(data_path, log_path)


def _runs(blocks: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Blocks that follow each other, as one."""
    run: list[bytes] = []
    start = end = 0
    for offset, block in sorted(blocks):
        if run and offset != end:
            yield start, b"".join(run)
            run = []
        if not run:
            start = offset
        run.append(block)
        end = offset + len(block)
    yield start, b"".join(run)


def _write_all(descriptor: int, block: bytes, offset: int) -> None:
    view = memoryview(block)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _append(descriptor: int, told: bytes) -> None:
    """All of it or nothing: a torn record would hide all that is told after it."""
    written = os.write(descriptor, told)
    if written < len(told):
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _taken(*paths: FilePath) -> int:
    """The bytes that files take on disk."""
    taken = 0
    for path in paths:
        try:
            taken += path.stat().st_blocks * STATED_BLOCK
        except FileNotFoundError:
            continue
    return taken


def read(descriptor: int, runs: Sequence[tuple[int, int]]) -> list[bytes]:
    """The bytes of each run (offset, length); shorter where the file is."""
    return [os.pread(descriptor, length, offset) for offset, length in runs]


def read_at_hand(descriptor: int, offset: int, length: int) -> bytearray | None:
    """The same of one run where the kernel has all of it in memory; None where it might block."""
    if length > AT_HAND_BYTES:
        return None
    data = bytearray(length)
    try:
        got = os.preadv(descriptor, (data,), offset, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
            return None
        raise
    return data if got == length else None


def _framed(record: Record) -> bytes:
    payload = msgspec.msgpack.encode(record)
    return _RECORD.pack(len(payload), xxh3_64_intdigest(payload)) + payload


def _records(raw: bytes) -> Iterator[tuple[Record, int]]:
    """Whole records and where each ends; stops at the first that is torn or rotten."""
    at = 0
    while at + _RECORD.size <= len(raw):
        length, check = _RECORD.unpack_from(raw, at)
        payload = raw[at + _RECORD.size : at + _RECORD.size + length]
        if length > MOST_RECORD_BYTES or len(payload) < length or xxh3_64_intdigest(payload) != check:
            return
        at += _RECORD.size + length
        yield _DECODER.decode(payload), at


def _logged(raw: bytes) -> Logged | None:
    """A log's bytes, read as far as they make sense; None where not even the first record does."""
    logged: Logged | None = None
    whole = 0
    try:
        for record, end in _records(raw):
            if isinstance(record, VersionRecord):
                logged = logged or Logged(record)
            elif logged is None:
                return None
            elif isinstance(record, PageRecord):
                logged.pages.append(record.signed)
            elif isinstance(record, PointerRecord):
                logged.pointer = record
            else:
                logged.pieces[record.piece] = record
            whole = end
    except msgspec.DecodeError:
        return None
    if logged is None or logged.head.format != FORMAT:
        return None
    logged.torn = whole < len(raw)
    return logged
