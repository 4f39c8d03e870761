"""The disk tier as the event loop sees it: the index in memory, the files on two kinds of threads (decision 9).

One thread writes, so that rows, files and removals come to the disk in the order in which they were decided; a few
read. A disk that fails or is full is left alone and tried again: the store serves on from memory, and says so.
"""

import asyncio
import errno
import logging
import resource
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar, TypeVarTuple

from xxhash import xxh3_64_intdigest

from edge.body_file import BodyFile
from edge.disk import Disk, Logged, Record, read, read_at_hand
from edge.held import Held
from edge.index import Index, Kept, Row, number_of
from edge.metrics import EdgeMetrics
from swarm.accounting import DiskOperation
from swarm.names import Path

log = logging.getLogger(__name__)

PAUSE_S = 10.0  # after an error the disk is left alone so long, then tried
ROOM_CHECK_S = 10.0  # others fill the file system too
READ_PATIENCE_S = 5.0  # a disk that takes longer has failed
READERS = 4
MOST_OPEN_FILES = 4096  # or an eighth of what the process may have open, if that is less
BLOCK = 4096  # what files are rounded up to, before the file system tells
FULL = (errno.ENOSPC, errno.EDQUOT)
WALK_AT_ONCE = 100
WALK_PAUSE_S = 0.02
TOO_FULL = "too little is free on its file system"

Adopt = Callable[[Logged], Held | None]  # on a reader's thread: verifies what a log told

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


@dataclass(frozen=True)
class Write:
    """What is to be written of one version: blocks at their offsets, and records that tell of them."""

    path: Path
    version: bytes
    blocks: list[tuple[int, bytes]]
    records: list[Record]

    @property
    def most_bytes(self) -> int:
        """What it may add to what the version takes."""
        return sum(-(-len(block) // BLOCK) * BLOCK for _, block in self.blocks)


class DiskTier:
    """Not thread-safe: the event loop's alone. `on_evicted` is told of versions that had to go, `on_found` of files
    that no row stood for."""

    def __init__(self, disk: Disk, limit_bytes: int, metrics: EdgeMetrics, on_evicted: Callable[[Row], None]) -> None:
        self._disk = disk
        self._metrics = metrics
        self._on_evicted = on_evicted
        self.limit_bytes = limit_bytes
        self.index = Index(limit_bytes)
        self._is_loaded = False
        self._open_files: OrderedDict[bytes, BodyFile] = OrderedDict()
        self._read_threads = ThreadPoolExecutor(READERS, thread_name_prefix="disk-read")
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="disk-write")
        self._tasks: set[asyncio.Task[None]] = set()
        self._most_open_files = min(MOST_OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)
        self._is_trying = False
        self._is_stuck = False  # it does not even fail: nothing more is asked of it until it answers
        self._left_files = False  # some could not be removed, and have no row any more
        self._lacking_bytes = 0  # where the disk is full: what there was no room for
        self.trouble = ""  # empty while the disk is well
        self.faults = 0  # how often it failed: what was told to it before may be lost

    def __repr__(self) -> str:
        return f"<DiskTier {self.index!r} {self.trouble}>"

    # --- life

    async def open(self) -> None:
        """Reads the index. A disk that cannot be used now is tried again later."""
        try:
            await self._load()
            await self._try()
        except OSError as error:
            self._on_error(DiskOperation.WRITE, error)
        self._start(self._watch_room())

    async def _load(self) -> None:
        await self._writing(self._disk.open)
        rows = await self._writing(self._load_rows)
        self._is_loaded = True
        self._let_go(rows)
        if self._disk.index.may_lack_rows:
            self._start(self._walk())

    def _load_rows(self) -> list[Row]:
        return self.index.load(*self._disk.index.read())

    async def close(self) -> None:
        """What was decided is carried out, then the threads go."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._writing(self._disk.close)
        self._open_files.clear()
        self._read_threads.shutdown(wait=False)
        self._write_thread.shutdown(wait=True)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the disk tier's own work failed", exc_info=error)

    def _writing(self, job: Callable[[*_Ts], _T], *arguments: *_Ts) -> "asyncio.Future[_T]":
        return self._run(self._write_thread, job, *arguments)

    def _run(self, threads: Executor, job: Callable[[*_Ts], _T], *arguments: *_Ts) -> "asyncio.Future[_T]":
        return asyncio.get_running_loop().run_in_executor(threads, job, *arguments)

    # --- writing

    async def write(self, writes: Sequence[Write]) -> list[bool]:
        """Whether each is on disk now. Room is made before anything is written; a failing disk is left alone."""
        if self.trouble:
            return [False] * len(writes)
        left = self._admitted(writes)
        done: set[bytes] = set()
        for is_again in (False, True):
            taken, room, error = await self._writing(self._write_all, left)
            for (kept, write), size in zip(left, taken, strict=False):
                if self._weigh(write, kept, size):
                    done.add(write.version)
            left = left[len(taken) :]
            if error is None:
                self._fit(room)
                break
            if is_again or error.errno not in FULL or not self._make_room(left):
                self._on_error(DiskOperation.WRITE, error)
                break
        return [write.version in done for write in writes]

    def _admitted(self, writes: Sequence[Write]) -> list[tuple[Kept, Write]]:
        """Those there is room for, each with its row. What is evicted for one may be another."""
        rows = []
        now = int(time.time())
        for write in writes:
            row = self.index.find(write.path, write.version)
            weight = write.most_bytes + (BLOCK if row is None else self.index.weight(row))
            row = self._admit(write.path, write.version, weight)
            if row is not None:
                rows.append((Kept(row, write.version, number_of(write.path), weight, now), write))
            elif weight <= self.limit_bytes:
                self._lacking_bytes = weight
                self._on_error(DiskOperation.WRITE, OSError(errno.ENOSPC, TOO_FULL))
        return [(kept, write) for kept, write in rows if self.index.find(write.path, write.version) == kept.number]

    def _admit(self, path: Path, version: bytes, weight: int) -> int | None:
        row, evicted = self.index.admit(path, version, weight)
        self._let_go(evicted)
        return row

    def _write_all(self, writes: list[tuple[Kept, Write]]) -> tuple[list[int], int, OSError | None]:
        """What each takes on disk, up to the first that failed; and how much room is left."""
        taken: list[int] = []
        try:
            for kept, write in writes:
                self._disk.index.write(kept)
                size = self._disk.append(write.version, write.blocks, write.records)
                if size != kept.weight:
                    self._disk.index.write(kept._replace(weight=size))
                taken.append(size)
            return taken, self._disk.room(), None
        except OSError as error:
            return taken, 0, error

    def _weigh(self, write: Write, kept: Kept, size: int) -> bool:
        """False if the version had to go, before or because of what it turned out to take."""
        if self.index.find(write.path, write.version) != kept.number:
            return False
        return self._admit(write.path, write.version, size) is not None

    def _make_room(self, writes: list[tuple[Kept, Write]]) -> bool:
        """The file system has less room than it says (quotas, inodes): twice what is to be written goes."""
        needed = sum(2 * max(write.most_bytes, BLOCK) for _, write in writes)
        self._let_go(self.index.resize(self.index.used_bytes - needed))
        writes[:] = [one for one in writes if self.index.find(one[1].path, one[1].version) is not None]
        return bool(writes)

    def touch(self, path: Path, version: bytes) -> None:
        """A hit."""
        row = self.index.find(path, version)
        if row is not None:
            self.index.touch(row)

    def expire(self, path: Path) -> None:
        """Nobody will ask for its versions again: they go before all others."""
        for row in self.index.rows(path):
            self.index.expire(row)

    def remove(self, path: Path, version: bytes) -> None:
        """Erases a version, if it is on disk."""
        row = self.index.find(path, version)
        if row is not None:
            self._erase([self.index.remove(row)])

    def _let_go(self, rows: list[Row]) -> None:
        for row in rows:
            self._on_evicted(row)
        self._erase(rows)

    def _erase(self, rows: list[Row]) -> None:
        """Queued at once: what is decided later is written later."""
        for row in rows:
            self._open_files.pop(row.version, None)
        if rows:
            self._writing(self._remove_all, rows).add_done_callback(self._on_erased)

    def _remove_all(self, rows: list[Row]) -> None:
        for row in rows:
            self._disk.remove(row.version)
            self._disk.index.erase(row.number)

    def _on_erased(self, erasing: "asyncio.Future[None]") -> None:
        error = erasing.exception()
        if isinstance(error, OSError):
            self._left_files = True
            self._on_error(DiskOperation.WRITE, error)

    # --- reading

    def read_at_hand(self, version: bytes, offset: int, length: int) -> bytearray | None:
        """A run of a version's data if that takes no waiting; None if it might."""
        one = self.open_file(version)
        if one is None:
            return None
        try:
            return read_at_hand(one.descriptor, offset, length)
        except OSError:
            return None  # as a thread will find out, and tell

    def open_file(self, version: bytes) -> BodyFile | None:
        """A version's data file, if it is open already."""
        one = self._open_files.get(version)
        if one is None or self._is_stuck:
            return None
        self._open_files.move_to_end(version)
        return one

    async def read(self, path: Path, version: bytes, runs: Sequence[tuple[int, int]]) -> list[tuple[bytes, int]] | None:
        """Runs of a version's data, each with its xxh3; shorter where the file is. None if the disk does not give
        them, or the version was evicted meanwhile."""
        found = await self._on_a_reader(path, version, self._read, runs)
        return None if found is None else found[1]

    async def check(self, path: Path, version: bytes, runs: Sequence[tuple[int, int]], checks: Sequence[int]) -> None:
        """Read all of a version; if it is right, its file is open and good to be sent from for a while."""
        found = await self._on_a_reader(path, version, self._check, runs)
        if found is not None and found[1][1] == checks:
            found[0].on_checked(found[1][0], time.monotonic())

    async def _on_a_reader(
        self,
        path: Path,
        version: bytes,
        job: Callable[[BodyFile, Sequence[tuple[int, int]]], _T],
        runs: Sequence[tuple[int, int]],
    ) -> tuple[BodyFile, _T] | None:
        """Its file, and what `job` found in it. None if the disk does not give that, or it was evicted meanwhile."""
        if self._is_stuck:
            return None
        try:
            async with asyncio.timeout(READ_PATIENCE_S):
                found = await self._run(
                    self._read_threads, self._with_file, version, self._open_files.get(version), job, runs
                )
        except OSError as error:
            if self.index.find(path, version) is not None:
                self._on_error(DiskOperation.READ, error)
            return None
        if self.index.find(path, version) is not None:
            self._open_files[version] = found[0]
            if len(self._open_files) > self._most_open_files:
                self._open_files.popitem(last=False)
        return found

    def _with_file(
        self,
        version: bytes,
        one: BodyFile | None,
        job: Callable[[BodyFile, Sequence[tuple[int, int]]], _T],
        runs: Sequence[tuple[int, int]],
    ) -> tuple[BodyFile, _T]:
        one = one or BodyFile(self._disk.open_data(version))
        return one, job(one, runs)

    @staticmethod
    def _read(one: BodyFile, runs: Sequence[tuple[int, int]]) -> list[tuple[bytes, int]]:
        return [(block, xxh3_64_intdigest(block)) for block in read(one.descriptor, runs)]

    @staticmethod
    def _check(one: BodyFile, runs: Sequence[tuple[int, int]]) -> tuple[int, list[int]]:
        changed_ns = one.changed_ns()
        return changed_ns, [xxh3_64_intdigest(data) for run in runs for data in read(one.descriptor, (run,))]

    async def read_logs(
        self, versions: Sequence[bytes], adopt: Adopt
    ) -> list[tuple[bytes, Logged | None, Held | None]]:
        """The logs of these versions and what `adopt` makes of each, in the order in which their pointers were made.
        Empty if the disk does not give them."""
        if self._is_stuck:
            return []
        try:
            async with asyncio.timeout(READ_PATIENCE_S):
                found = await self._run(self._read_threads, self._read_logs, versions, adopt)
        except OSError as error:
            self._on_error(DiskOperation.READ, error)
            return []
        return sorted(found, key=_made_at)

    def _read_logs(self, versions: Sequence[bytes], adopt: Adopt) -> list[tuple[bytes, Logged | None, Held | None]]:
        found = []
        for version in versions:
            logged = self._disk.read_log(version)
            found.append((version, logged, adopt(logged) if logged is not None else None))
        return found

    def mend(self, version: bytes) -> None:
        """Cut off the torn end of a log before anything is told behind it."""
        self._writing(self._disk.mend, version).add_done_callback(self._on_mended)

    def _on_mended(self, mending: "asyncio.Future[None]") -> None:
        error = mending.exception()
        if isinstance(error, OSError):
            self._on_error(DiskOperation.WRITE, error)

    # --- how it is

    def _on_error(self, operation: DiskOperation, error: OSError) -> None:
        self._metrics.disk_errors[operation] += 1
        self.faults += 1
        self._is_stuck = self._is_stuck or isinstance(error, TimeoutError)
        why = f"{operation}: {error.strerror or 'no answer'}"
        if not self.trouble:
            log.error("disk %s: serving on from memory and peers", why)
        self.trouble = why
        if not self._is_trying:
            self._is_trying = True
            self._start(self._try_until_well())

    async def _try_until_well(self) -> None:
        try:
            while self.trouble:
                await asyncio.sleep(PAUSE_S)
                try:
                    await self._try()
                except OSError as error:
                    self._on_error(DiskOperation.WRITE, error)
        finally:
            self._is_trying = False

    async def _try(self) -> None:
        """OSError if it cannot be used yet."""
        room = await self._writing(self._disk.try_out)
        if not self._is_loaded:
            await self._load()
        self._fit(room)
        if self._lacking_bytes > self.index.capacity_bytes:
            raise OSError(errno.ENOSPC, TOO_FULL)
        self._lacking_bytes = 0
        self._is_stuck = False
        if self.trouble:
            log.info("the disk works again")
            self.trouble = ""
        if self._left_files:
            self._left_files = False
            self._start(self._walk())

    def _fit(self, room: int) -> None:
        """Room on the file system decides, where it is less than the limit."""
        self._let_go(self.index.resize(min(self.limit_bytes, self.index.used_bytes + room)))

    def resize(self, limit_bytes: int, min_free_bytes: int | None) -> None:
        """Other limits from now on."""
        self._disk.min_free_bytes = min_free_bytes
        self._let_go(self.index.resize(min(limit_bytes, self.index.capacity_bytes)))
        self.limit_bytes = limit_bytes
        self._start(self._measure_room())

    async def _watch_room(self) -> None:
        while True:
            await asyncio.sleep(ROOM_CHECK_S)
            await self._measure_room()

    async def _measure_room(self) -> None:
        if not self.trouble:
            try:
                self._fit(await self._writing(self._disk.room))
            except OSError as error:
                self._on_error(DiskOperation.WRITE, error)

    # --- files without a row

    async def _walk(self) -> None:
        """Looks for files that no row stands for: after a crash of the machine, or where the index was lost."""
        try:
            await self._adopt_strays()
            await self._writing(self._disk.index.note_whole, True)
        except OSError as error:
            self._left_files = True
            self._on_error(DiskOperation.READ, error)

    async def _adopt_strays(self) -> None:
        """On the writer's thread, between its writes: a file that is only just being written is never met."""
        found = self._disk.scan()
        while some := await self._writing(_next_of, found):
            for logged, size in some:
                head = logged.head
                path = Path(head.site, head.url_path, head.query)
                if self.index.find(path, head.version) is None:
                    row = self._admit(path, head.version, size)
                    if row is not None:
                        kept = Kept(row, head.version, number_of(path), size, int(time.time()))
                        await self._writing(self._disk.index.write, kept)
                    else:
                        await self._writing(self._disk.remove, head.version)
            await asyncio.sleep(WALK_PAUSE_S)


def _next_of(found: Iterator[tuple[Logged, int]]) -> list[tuple[Logged, int]]:
    return list(islice(found, WALK_AT_ONCE))


def _made_at(found: tuple[bytes, Logged | None, Held | None]) -> float:
    logged = found[1]
    return logged.pointer.made_at if logged is not None and logged.pointer is not None else 0.0
