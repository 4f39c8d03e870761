"""What lies on disk, one small row a version: found by path, weighed, and evicted from (decision 9).

A version that is not in use costs its row and nothing else. Rows are kept in columns rather than as objects: a million
objects would cost three times as much.

On disk a row is a record at its own place in one file, overwritten in place, so that nothing ever has to be compacted.
It is written before the files it stands for and erased after them: after `kill -9` there may be rows without files,
which the first question for them finds out, and no files without a row. A machine that lost power may have lost rows;
the store's walk finds their files again.
"""

import errno
import os
import struct
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path as FilePath
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from swarm.eviction import Keeper
from swarm.metainfo import VERSION_BYTES
from swarm.names import Path

_NONE = -1
_NO_FILE = -1
_GROWTH = 1024

_RECORD = struct.Struct("=16sQQQQ")  # version, path, weight, written at, xxh3 of all that
_HEADER = struct.Struct("<16s16s?")  # what this is, the boot in which it was written, whether every file has its row
_KIND = b"starling index 1"
_WORDS = _RECORD.size // 8
_CHECKED = _RECORD.size - 8
_RECORDS_AT_ONCE = 20_000
_BOOT_ID = FilePath("/proc/sys/kernel/random/boot_id")


class Row(NamedTuple):
    """A version that left the index. `number`: its place there."""

    number: int
    version: bytes
    weight: int


class Kept(NamedTuple):
    """A row as it stands in the file. `path`: `number_of` it; `written_at`: Unix time, in seconds."""

    number: int
    version: bytes
    path: int
    weight: int
    written_at: int


def number_of(path: Path) -> int:
    """A path in 64 bits. Two paths of one number share each other's rows, and are told apart by their logs."""
    return xxh3_64_intdigest(path.key.encode())


class Index:
    """The rows, and who goes first when together they weigh too much. Belongs to one thread."""

    def __init__(self, capacity_bytes: int) -> None:
        self._order: Keeper[int] = Keeper(capacity_bytes, self._number)
        self._newest: dict[int, int] = {}  # path -> one of its rows ...
        self._next = array("i")  # ... -> another
        self._paths = array("Q")
        self._weights = array("Q")
        self._versions = array("Q")  # two words each
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._order)

    def __repr__(self) -> str:
        return f"<Index {len(self)} versions, {self.used_bytes} of {self.capacity_bytes} bytes>"

    @property
    def used_bytes(self) -> int:
        return self._order.used_bytes

    @property
    def capacity_bytes(self) -> int:
        return self._order.capacity_bytes

    def versions(self, path: Path) -> list[bytes]:
        """All versions of a path that lie on disk."""
        return [self._version(row) for row in self._rows(number_of(path))]

    def rows(self, path: Path) -> list[int]:
        return list(self._rows(number_of(path)))

    def find(self, path: Path, version: bytes) -> int | None:
        """The row of a version, if it is on disk."""
        return next((row for row in self._rows(number_of(path)) if self._version(row) == version), None)

    def weight(self, row: int) -> int:
        return self._weights[row]

    def touch(self, row: int) -> None:
        """A hit."""
        self._order.touch(row)

    def expire(self, row: int) -> None:
        """Nobody will ask for it again: it goes before all others."""
        self._order.expire(row)

    def admit(self, path: Path, version: bytes, weight: int) -> tuple[int | None, list[Row]]:
        """Takes a version in, or gives it a new weight: its row, and the rows evicted for it. Where there is no room
        for it its row is None, and among the evicted if it was in before."""
        row = self.find(path, version)
        if row is None:
            row = self._add(number_of(path), version)
            evicted = self._order.admit(row, weight)
            if row not in self._order:
                self._leave(row)
                return None, self._all_leave(other for other in evicted if other != row)
        else:
            evicted = self._order.admit(row, weight)
        left = self._all_leave(evicted)
        if row not in self._order:
            return None, left
        self._weights[row] = weight
        return row, left

    def remove(self, row: int) -> Row:
        self._order.remove(row)
        return self._leave(row)

    def resize(self, capacity_bytes: int) -> list[Row]:
        """Another capacity, and the rows evicted for it."""
        return self._all_leave(self._order.resize(max(0, capacity_bytes)))

    def load(self, words: "array[int]", numbers: list[int]) -> list[Row]:
        """Into an empty index: these rows of a file that was read as words; those there is no room for. They queue in
        the order in which they were written. All at once, in columns: a million take a second or two."""
        self._paths = words[2::_WORDS]
        self._weights = words[3::_WORDS]
        self._versions = array("Q", bytes(VERSION_BYTES * len(self._paths)))
        self._versions[0::2], self._versions[1::2] = words[0::_WORDS], words[1::_WORDS]
        self._next = array("i", [_NONE]) * len(self._paths)
        self._free = sorted(set(range(len(self._paths))).difference(numbers), reverse=True)
        numbers.sort(key=words[4::_WORDS].__getitem__)
        self._newest.update(zip(map(self._paths.__getitem__, numbers), numbers, strict=True))
        if len(self._newest) < len(numbers):
            self._chain(numbers)
        return self._all_leave(self._order.restore(numbers, [self._weights[row] for row in numbers]))

    def _chain(self, numbers: list[int]) -> None:
        """Rows that share a path with a newer one stand behind it."""
        for row in numbers:
            newest = self._newest[self._paths[row]]
            if newest != row:
                self._next[row], self._next[newest] = self._next[newest], row

    # --- columns

    def _version(self, row: int) -> bytes:
        return self._versions[2 * row : 2 * row + 2].tobytes()

    def _number(self, row: int) -> int:
        """The version in 64 bits: itself part of a hash."""
        return self._versions[2 * row]

    def _rows(self, path: int) -> Iterator[int]:
        row = self._newest.get(path, _NONE)
        while row != _NONE:
            yield row
            row = self._next[row]

    def _add(self, path: int, version: bytes) -> int:
        if not self._free:
            self._free += reversed(range(*self._grow(len(self._paths) + 1)))
        row = self._free.pop()
        self._put(row, path, version)
        return row

    def _grow(self, least: int) -> tuple[int, int]:
        """The columns hold at least so many rows; the first and one past the last that is new."""
        before, after = len(self._paths), max(least, len(self._paths) + _GROWTH)
        self._next.extend([_NONE] * (after - before))
        self._paths.extend([0] * (after - before))
        self._weights.extend([0] * (after - before))
        self._versions.extend([0] * (2 * (after - before)))
        return before, after

    def _put(self, row: int, path: int, version: bytes) -> None:
        self._versions[2 * row : 2 * row + 2] = array("Q", version)
        self._paths[row] = path
        self._next[row] = self._newest.get(path, _NONE)
        self._newest[path] = row

    def _all_leave(self, rows: Iterable[int]) -> list[Row]:
        return [self._leave(row) for row in rows]

    def _leave(self, row: int) -> Row:
        """A row that is no longer in the queue becomes free for another version."""
        path, after = self._paths[row], self._next[row]
        before = next((other for other in self._rows(path) if self._next[other] == row), None)
        if before is not None:
            self._next[before] = after
        elif after != _NONE:
            self._newest[path] = after
        else:
            del self._newest[path]
        self._free.append(row)
        return Row(row, self._version(row), self._weights[row])


class IndexFile:
    """The rows on disk. Everything here blocks, belongs to the thread that writes, and raises OSError."""

    def __init__(self, path: FilePath) -> None:
        self._path = path
        self._descriptor = _NO_FILE
        self.may_lack_rows = False  # there may be files without a row

    def open(self) -> None:
        """Makes the file where there is none. What cannot be read as one is begun anew."""
        self.close()
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        head = os.pread(self._descriptor, _HEADER.size, 0)
        kind, boot, has_all = _HEADER.unpack(head.ljust(_HEADER.size, b"\0"))
        if kind != _KIND:
            os.ftruncate(self._descriptor, 0)
        self.note_whole(kind == _KIND and boot == _boot() and has_all)

    def is_open(self) -> bool:
        """Whether the file that is open is still the one under its name."""
        try:
            return self._descriptor != _NO_FILE and os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except OSError:
            return False

    def note_whole(self, has_all: bool) -> None:
        """Whether every file has its row: else whoever opens the cache next must look for them."""
        _write_at(self._descriptor, _HEADER.pack(_KIND, _boot(), has_all).ljust(_RECORD.size, b"\0"), 0)
        self.may_lack_rows = not has_all

    def read(self) -> "tuple[array[int], list[int]]":
        """All rows as words of 64 bits, and the numbers of those that are as they were written."""
        words = array("Q")
        sound: list[int] = []
        while raw := os.pread(self._descriptor, _RECORDS_AT_ONCE * _RECORD.size, _RECORD.size + 8 * len(words)):
            raw = raw[: len(raw) - len(raw) % _RECORD.size]
            first = len(words) // _WORDS
            words.frombytes(raw)
            checks = words[_WORDS * first + _WORDS - 1 :: _WORDS]
            found = [xxh3_64_intdigest(raw[at : at + _CHECKED]) for at in range(0, len(raw), _RECORD.size)]
            for number, (told, check) in enumerate(zip(checks, found, strict=True), first):
                if told == check:
                    sound.append(number)
                elif told:
                    self.may_lack_rows = True
            if not raw:
                break
        return words, sound

    def write(self, kept: Kept) -> None:
        told = (kept.version, kept.path, kept.weight, kept.written_at)
        record = _RECORD.pack(*told, xxh3_64_intdigest(_RECORD.pack(*told, 0)[:_CHECKED]))
        _write_at(self._descriptor, record, _RECORD.size * (1 + kept.number))

    def erase(self, number: int) -> None:
        try:
            _write_at(self._descriptor, bytes(_RECORD.size), _RECORD.size * (1 + number))
        except OSError as error:
            if error.errno != errno.ENOSPC:  # on a full disk it may stay: a row without files does no harm
                raise

    def close(self) -> None:
        if self._descriptor != _NO_FILE:
            os.close(self._descriptor)
            self._descriptor = _NO_FILE


def _boot() -> bytes:
    """Names the time since the machine started: while it lasts, what was written is there."""
    return bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    if os.pwrite(descriptor, data, offset) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
