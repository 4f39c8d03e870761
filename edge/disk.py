"""The disk tier: two files a version, its pieces at their offsets (`.data`) and a log of what is known of it (`.log`).

A piece is written to `.data` first and then told in `.log`; a record is `length, xxh3 of the payload, payload`, so that
after `kill -9` a torn tail ends the log and nothing untold is ever served. Rot is found by the xxh3 told with a piece.
Everything here blocks: it runs on the store's threads. Errors are OSError.
"""

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath

import msgspec
from xxhash import xxh3_64_intdigest

from swarm.metainfo import Signed

FORMAT = 1
_RECORD = struct.Struct(">IQ")
MOST_RECORD_BYTES = 1 << 20


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
    """What a log told: one version."""

    head: VersionRecord
    pages: list[Signed] = field(default_factory=list)
    pointer: PointerRecord | None = None
    pieces: dict[int, PieceRecord] = field(default_factory=dict)


class Disk:
    """Files under one directory."""

    def __init__(self, directory: FilePath) -> None:
        self._objects = directory / "objects"

    def open(self) -> None:
        """OSError if the directory cannot be made or written."""
        self._objects.mkdir(parents=True, exist_ok=True)
        probe = self._objects / ".probe"
        probe.write_bytes(b"starling")
        probe.unlink()

    def _paths(self, version: bytes) -> tuple[FilePath, FilePath]:
        name = version.hex()
        folder = self._objects / name[:2]
        return folder / f"{name}.data", folder / f"{name}.log"

    def append(self, version: bytes, blocks: list[tuple[int, bytes]], records: list[Record]) -> None:
        """Write blocks (offset, bytes), then tell them."""
        data_path, log_path = self._paths(version)
        try:
            self._write(data_path, log_path, blocks, records)
        except FileNotFoundError:
            data_path.parent.mkdir(parents=True, exist_ok=True)
            self._write(data_path, log_path, blocks, records)

    def _write(
        self, data_path: FilePath, log_path: FilePath, blocks: list[tuple[int, bytes]], records: list[Record]
    ) -> None:
        if blocks:
            descriptor = os.open(data_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                for offset, block in blocks:
                    _write_all(descriptor, block, offset)
            finally:
                os.close(descriptor)
        told = b"".join(map(_framed, records))
        descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        before = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, told) != len(told):
                raise OSError(errno.ENOSPC, "short write")
        except OSError:
            os.ftruncate(descriptor, before)  # a torn record would hide all that is told after it
            raise
        finally:
            os.close(descriptor)

    def read(self, version: bytes, runs: list[tuple[int, int]]) -> list[bytes]:
        """The bytes of each run (offset, length); shorter where the file is."""
        descriptor = os.open(self._paths(version)[0], os.O_RDONLY | os.O_CLOEXEC)
        try:
            return [os.pread(descriptor, length, offset) for offset, length in runs]
        finally:
            os.close(descriptor)

    def remove(self, version: bytes) -> None:
        data_path, log_path = self._paths(version)
        log_path.unlink(missing_ok=True)  # first: data that no log tells of does not exist
        data_path.unlink(missing_ok=True)

    def scan(self) -> list[Logged]:
        """Every version on disk. Logs that make no sense are removed with their data, and so is data without a log."""
        return [logged for folder in sorted(self._objects.iterdir()) if folder.is_dir() for logged in _scan(folder)]


def _scan(folder: FilePath) -> Iterator[Logged]:
    told = set()
    for log_path in folder.glob("*.log"):
        logged = _read_log(log_path)
        if logged is not None and logged.head.version.hex() == log_path.stem:
            told.add(log_path.stem)
            yield logged
        else:
            log_path.unlink(missing_ok=True)
    for data_path in folder.glob("*.data"):
        if data_path.stem not in told:
            data_path.unlink(missing_ok=True)


def _write_all(descriptor: int, block: bytes, offset: int) -> None:
    view = memoryview(block)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


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


def _read_log(path: FilePath) -> Logged | None:
    raw = path.read_bytes()
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
    if logged is not None and logged.head.format != FORMAT:
        return None
    if whole < len(raw):
        os.truncate(path, whole)  # so that what is appended next is read back
    return logged
