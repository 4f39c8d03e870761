"""The cache: a memory tier of verified pieces over a disk tier, and what each path means (DESIGN 7).

Memory counts as stored: a piece is told to waiters and peers once it is here; the disk follows behind. A disk that
fails is left alone for a while: the edge serves on from memory and peers, and says so.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from xxhash import xxh3_64_intdigest

from edge.disk import FORMAT as DISK_FORMAT
from edge.disk import Disk, Logged, PageRecord, PieceRecord, PointerRecord, Record, VersionRecord
from edge.held import Held
from edge.metrics import EdgeMetrics
from edge.pointers import Known, Pointers
from swarm import pieces
from swarm.accounting import DiskOperation, Source, Tier
from swarm.eviction import Keeper
from swarm.metainfo import Metainfo, Page, Pointer, Signed
from swarm.names import Path

log = logging.getLogger(__name__)

MOST_PENDING_BYTES = 64 << 20  # written behind; fills wait beyond it
LEAST_DISK_TTL_S = 10.0  # what is replaced sooner (live playlists) is not worth a write
DISK_PAUSE_S = 10.0  # after an error the disk is left alone so long
BATCH_BYTES = 8 << 20
READERS = 4


@dataclass
class _Pending:
    """What is still to be written of one version."""

    blocks: dict[int, bytes] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)


class Store:
    """All versions and pointers of one edge. Not thread-safe: the event loop's alone; its threads touch only files."""

    def __init__(self, directory: FilePath | None, memory_bytes: int, disk_bytes: int, metrics: EdgeMetrics) -> None:
        self._metrics = metrics
        self._disk = Disk(directory) if directory and disk_bytes else None
        self._versions: dict[bytes, Held] = {}
        self.pointers = Pointers(self._retire)
        self._memory: dict[tuple[bytes, int], bytes] = {}
        self._memory_keeper: Keeper[tuple[bytes, int]] = Keeper(memory_bytes, hash)
        self._disk_keeper: Keeper[bytes] = Keeper(disk_bytes, hash)
        self._pending: OrderedDict[bytes, _Pending] = OrderedDict()
        self._writing: tuple[Held, dict[int, bytes]] | None = None  # still readable while it is being written
        self.pending_bytes = 0  # not written yet
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing = False
        self._writer: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="disk-read")
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="disk-write")
        self._files: set[bytes] = set()  # versions that may have files
        self._headed: set[bytes] = set()  # of those: the log is known to have its head and every page
        self.disk_trouble = ""  # empty while the disk is well
        self._disk_retry_at = 0.0
        metrics.cache_bytes.read = lambda: {
            Tier.MEMORY: self._memory_keeper.used_bytes,
            Tier.DISK: self._disk_keeper.used_bytes,
        }
        metrics.cache_limit_bytes.read = lambda: {
            Tier.MEMORY: self._memory_keeper.capacity_bytes,
            Tier.DISK: self._disk_keeper.capacity_bytes,
        }

    def __repr__(self) -> str:
        return f"<Store {len(self._versions)} versions, {len(self.pointers)} pointers>"

    async def open(
        self, adopt: Callable[[Logged], Held | None], remember: Callable[[Path, PointerRecord], None]
    ) -> None:
        """Read back what the disk holds. `adopt` verifies one version's log into a Held, `remember` takes its pointer.

        OSError if the directory is unusable.
        """
        if self._disk is None:
            return
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._write_thread, self._disk.open)
        scanned = await loop.run_in_executor(self._write_thread, self._disk.scan)
        for logged in scanned:
            held = adopt(logged)
            if held is None:
                await loop.run_in_executor(self._write_thread, self._disk.remove, logged.head.version)
                continue
            self._versions[held.version] = held
            self._files.add(held.version)
            self._headed.add(held.version)
            for record in logged.pieces.values():
                held.on_disk |= 1 << record.piece
                held.checks[record.piece] = record.check
            self._weigh_disk(held)
            if logged.pointer is not None:
                remember(held.path, logged.pointer)
        self._writer = asyncio.create_task(self._write_behind(), name="disk writer")

    async def close(self) -> None:
        """Write what is pending, then let the threads go."""
        self._closing = True
        self._work.set()
        if self._writer is not None:
            await self._writer
        self._threads.shutdown(wait=False)
        self._write_thread.shutdown(wait=True)

    # --- pointers

    def learn(self, known: Known, wall: float, now: float) -> None:
        """A newer (or the same, confirmed) pointer stands, and is noted beside its version on disk."""
        self.pointers.learn(known)
        if known.pointer.version is not None and known.pointer.ttl_s >= LEAST_DISK_TTL_S:
            record = PointerRecord(known.signed, known.trust, wall - known.age_s(now))
            self._tell(known.pointer.version, record)

    def _retire(self, version: bytes) -> None:
        """No path means it any more."""
        held = self._versions.get(version)
        if held is not None and not held.waiters and not held.filling:
            self.drop(held)

    # --- versions

    def held(self, version: bytes) -> Held | None:
        return self._versions.get(version)

    def versions(self) -> list[Held]:
        return list(self._versions.values())

    def hold(self, path: Path, pointer: Pointer, trust: str) -> Held:
        """The version a pointer names, new or known. Its pointer must name one."""
        version = pointer.version
        if version is None:
            raise ValueError(f"{path.target} has no body")
        held = self._versions.get(version)
        if held is None:
            held = Held(path, Metainfo(version, pointer.piece_bytes, pointer.size), trust, pointer.born)
            self._versions[version] = held
        return held

    def drop(self, held: Held) -> None:
        """Forget a version, on both tiers."""
        self._versions.pop(held.version, None)
        for piece in pieces.each(held.in_memory):
            if self._memory.pop((held.version, piece), None) is not None:
                self._memory_keeper.remove((held.version, piece))
        self._forget_pending(held.version)
        if held.version in self._disk_keeper:
            self._disk_keeper.remove(held.version)
        held.in_memory = held.on_disk = 0
        held.ready = None
        self._remove_files(held.version)

    def _remove_files(self, version: bytes) -> None:
        self._headed.discard(version)
        if self._disk is not None and version in self._files:
            self._files.discard(version)
            self._write_thread.submit(self._disk.remove, version)

    def _let_go_if_empty(self, held: Held) -> None:
        """A version of which nothing is left and for which nobody waits is forgotten."""
        if not held.have and not held.waiters and not held.filling and self._versions.get(held.version) is held:
            self.drop(held)

    def forget(self, held: Held) -> None:
        """Drop a version, and what its path meant with it: it never became whole."""
        self.pointers.forget(held.path, held.version)
        self.drop(held)

    def add_page(self, held: Held, page: Page, signed: Signed) -> None:
        """Join a verified page. RemoteError if it contradicts what is known."""
        if held.metainfo.add(page, signed) and self._worth_disk(held):
            self._tell(held.version, PageRecord(signed))

    def _worth_disk(self, held: Held) -> bool:
        known = self.pointers.naming(held.path, held.version)
        return known is None or known.pointer.ttl_s >= LEAST_DISK_TTL_S

    # --- pieces

    def put(self, held: Held, piece: int, data: bytes, source: Source, node: str) -> None:
        """Store a *verified* piece, then tell those who wait."""
        bit = 1 << piece
        if held.have & bit:
            return
        held.fetched[node] = held.fetched.get(node, 0) + len(data)
        held.fresh_from[piece] = source
        held.rotten &= ~bit
        if self._disk is not None and not self.disk_trouble and self._worth_disk(held):
            offset, _ = held.metainfo.span(piece)
            check = xxh3_64_intdigest(data)
            held.checks[piece] = check
            pending = self._pending.setdefault(held.version, _Pending())
            pending.blocks[piece] = data
            pending.records.append(PieceRecord(piece, offset, len(data), check))
            self.pending_bytes += len(data)
            if self.pending_bytes > MOST_PENDING_BYTES:
                self._room.clear()
            self._work.set()
        self._keep(held, piece, data)
        held.on_landed(piece)

    async def room(self, held: Held, piece: int) -> None:
        """Wait while too much is still to be written: the disk sets the pace of fills, not our memory. Where memory is
        all there is, the slowest viewer does, or what it needs would be evicted before it came to it."""
        await self._room.wait()
        while self._runs_ahead(held, piece):
            held.taken.clear()
            await held.taken.wait()

    def _is_too_large(self, held: Held) -> bool:
        """Whether it only streams through: memory is all there is for it, and it takes more than half."""
        if self._disk is not None and not self.disk_trouble and self._worth_disk(held):
            return False
        size = held.metainfo.size
        if size is None:
            size = pieces.count(held.in_memory) * held.metainfo.piece_bytes
        return size > self._memory_keeper.capacity_bytes // 2

    def _runs_ahead(self, held: Held, piece: int) -> bool:
        slowest = held.slowest()
        window = max(2, self._memory_keeper.capacity_bytes // 4 // held.metainfo.piece_bytes)
        return slowest is not None and piece >= slowest + window and self._is_too_large(held)

    def on_taken(self, held: Held) -> None:
        """A viewer went on to its next piece. Of what only streams through, what all have taken makes room."""
        held.taken.set()
        behind = held.in_memory & pieces.of_span(0, held.passed())
        if behind and self._is_too_large(held):
            for piece in pieces.each(behind):
                if (held.version, piece) in self._memory:
                    self._memory_keeper.remove((held.version, piece))
                    self._evict(held.version, piece)

    def _keep(self, held: Held, piece: int, data: bytes) -> None:
        """Into the memory tier, making room."""
        held.in_memory |= 1 << piece
        self._memory[held.version, piece] = data
        for version, evicted in self._memory_keeper.admit((held.version, piece), len(data)):
            self._evict(version, evicted)

    def resize(self, memory_bytes: int, disk_bytes: int) -> None:
        """Other budgets from now on; what does not fit is dropped at once. Whether there is a disk stays."""
        for version, piece in self._memory_keeper.resize(memory_bytes):
            self._evict(version, piece)
        for version in self._disk_keeper.resize(disk_bytes):
            if (evicted := self._versions.get(version)) is not None:
                self._evict_from_disk(evicted)

    def _evict(self, version: bytes, piece: int) -> None:
        data = self._memory.pop((version, piece), b"")
        self._metrics.evicted_bytes[Tier.MEMORY] += len(data)
        held = self._versions.get(version)
        if held is not None:
            held.ready = None
        if held is not None and self._unwritten(held, piece) is None:
            held.in_memory &= ~(1 << piece)
            self._let_go_if_empty(held)

    def _unwritten(self, held: Held, piece: int) -> bytes | None:
        """A piece that is still to be written, or being written."""
        pending = self._pending.get(held.version)
        if pending is not None and piece in pending.blocks:
            return pending.blocks[piece]
        writing, blocks = self._writing or (None, {})
        return blocks.get(piece) if writing is held else None

    def peek(self, held: Held, piece: int) -> bytes | None:
        """A piece if it is in memory."""
        data = self._memory.get((held.version, piece))
        if data is not None:
            self._memory_keeper.touch((held.version, piece))
            return data
        return self._unwritten(held, piece)

    def make_ready(self, held: Held) -> bool:
        """Line up its pieces for the hit path, if all are in memory; marked as used. See `Held.ready`."""
        if not held.complete or held.all_pieces & ~held.in_memory:
            return False
        found = [self._memory.get((held.version, piece)) for piece in range(held.metainfo.known_pieces)]
        held.ready = body = tuple(data for data in found if data is not None)
        if len(body) < len(found):  # some are only waiting to be written, and will be gone after that
            held.ready = None
        else:
            self.touch(held)
        return held.ready is not None

    def touch(self, held: Held) -> None:
        """A version of which every piece is in memory was served."""
        for piece in range(held.metainfo.known_pieces):
            self._memory_keeper.touch((held.version, piece))

    async def load(self, held: Held, wanted: list[int]) -> dict[int, bytes]:
        """Read pieces back from disk. Rot is found here: such a piece is no longer held, and missing in the answer."""
        if self._disk is None:
            return {}
        wanted = [piece for piece in wanted if held.on_disk >> piece & 1]
        runs = [held.metainfo.span(piece) for piece in wanted]
        loop = asyncio.get_running_loop()
        try:
            blocks = await loop.run_in_executor(self._threads, self._read, held.version, runs)
        except OSError as error:
            if held.on_disk & pieces.of(wanted):  # else it was evicted meanwhile, and the disk is well
                self._on_disk_error(DiskOperation.READ, error)
                held.on_disk &= ~pieces.of(wanted)
            return {}
        if held.version in self._disk_keeper:
            self._disk_keeper.touch(held.version)
        whole = {}
        for piece, (data, check) in zip(wanted, blocks, strict=True):
            if check == held.checks.get(piece):
                whole[piece] = data
                if held.on_disk >> piece & 1:
                    self._keep(held, piece, data)
            elif held.on_disk >> piece & 1:
                self._on_rot(held, piece)
        return whole

    def _read(self, version: bytes, runs: list[tuple[int, int]]) -> list[tuple[bytes, int]]:
        assert self._disk is not None
        return [(block, xxh3_64_intdigest(block)) for block in self._disk.read(version, runs)]

    def _on_rot(self, held: Held, piece: int) -> None:
        log.error("rot on disk: piece %d of %s is not what was written; fetching it again", piece, held.path.target)
        held.on_disk &= ~(1 << piece)
        held.rotten |= 1 << piece
        held.checks.pop(piece, None)

    # --- writing behind

    def _tell(self, version: bytes, record: Record) -> None:
        if self._disk is not None and not self.disk_trouble and version in self._versions:
            self._pending.setdefault(version, _Pending()).records.append(record)
            self._work.set()

    async def _write_behind(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._pending:
                version, pending = self._pending.popitem(last=False)
                await self._write_version(version, pending)
            if self._closing:
                return

    async def _write_version(self, version: bytes, pending: _Pending) -> None:
        held = self._versions.get(version)
        if held is not None and self._disk is not None and (pending.blocks or version in self._files):
            self._writing = held, pending.blocks
            blocks = [(held.metainfo.span(piece)[0], data) for piece, data in pending.blocks.items()]
            records = self._opening(held) + pending.records
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(self._write_thread, self._disk.append, version, blocks, records)
            except OSError as error:
                self._on_disk_error(DiskOperation.WRITE, error)
            else:
                self._on_written(held, pending.blocks)
            self._writing = None
            self._settle(held, pending.blocks)
        self._on_no_longer_pending(pending)

    def _on_no_longer_pending(self, pending: _Pending) -> None:
        self.pending_bytes -= sum(map(len, pending.blocks.values()))
        if self.pending_bytes <= MOST_PENDING_BYTES:
            self._room.set()

    def _opening(self, held: Held) -> list[Record]:
        """The records that make a log readable on its own; written once, and again after the disk failed."""
        if held.version in self._headed:
            return []
        self._files.add(held.version)
        self._headed.add(held.version)
        path, meta = held.path, held.metainfo
        head = VersionRecord(
            DISK_FORMAT, held.version, path.site, path.url_path, path.query, held.trust, held.born,
            meta.piece_bytes, meta.size,
        )  # fmt: skip
        records: list[Record] = [head]
        records += [PageRecord(signed) for _, signed in meta.pages()]
        known = self.pointers.naming(path, held.version)
        if known is not None:
            made_at = time.time() - known.age_s(time.monotonic())
            records.append(PointerRecord(known.signed, known.trust, made_at))
        return records

    def _on_written(self, held: Held, written: Iterable[int]) -> None:
        if self._versions.get(held.version) is held:  # it may have been dropped, and begun anew, meanwhile
            held.on_disk |= pieces.of(written)
            self._weigh_disk(held)

    def _settle(self, held: Held, written: Iterable[int]) -> None:
        """Blocks are no longer pending: what memory has evicted meanwhile is now on disk alone, or gone."""
        if self._versions.get(held.version) is held:
            for piece in written:
                if (held.version, piece) not in self._memory:
                    held.in_memory &= ~(1 << piece)
            self._let_go_if_empty(held)

    def _forget_pending(self, version: bytes) -> None:
        pending = self._pending.pop(version, None)
        if pending is not None:
            self._on_no_longer_pending(pending)

    def _weigh_disk(self, held: Held) -> None:
        weight = sum(held.metainfo.span(piece)[1] for piece in pieces.each(held.on_disk))
        for version in self._disk_keeper.admit(held.version, weight):
            evicted = self._versions.get(version)
            if evicted is not None:
                self._evict_from_disk(evicted)

    def _evict_from_disk(self, held: Held) -> None:
        self._metrics.evicted_bytes[Tier.DISK] += sum(
            held.metainfo.span(piece)[1] for piece in pieces.each(held.on_disk)
        )
        held.on_disk = 0
        self._remove_files(held.version)
        self._let_go_if_empty(held)

    def _on_disk_error(self, operation: DiskOperation, error: OSError) -> None:
        self._metrics.disk_errors[operation] += 1
        self._headed.clear()  # nobody knows what was told, and nothing is while it is left alone
        if not self.disk_trouble:
            log.error("disk %s failed (%s): serving on from memory and peers", operation, error.strerror)
        self.disk_trouble = f"{operation}: {error.strerror}"
        self._disk_retry_at = time.monotonic() + DISK_PAUSE_S
        asyncio.get_running_loop().call_later(DISK_PAUSE_S, self._try_disk_again)

    def _try_disk_again(self) -> None:
        if self.disk_trouble and time.monotonic() >= self._disk_retry_at - 0.1:
            log.info("trying the disk again")
            self.disk_trouble = ""


def restored(logged: Logged, open_page: Callable[[Signed], Page]) -> Held | None:
    """A version read back from disk, its pages verified again (RemoteError): our own disk is trusted no more than a
    peer. None if no piece of it is left."""
    head = logged.head
    meta = Metainfo(head.version, head.piece_bytes, head.size)
    for signed in logged.pages:
        meta.add(open_page(signed), signed)
    logged.pieces = {piece: record for piece, record in logged.pieces.items() if _fits(meta, record)}
    return Held(Path(head.site, head.url_path, head.query), meta, head.trust, head.born) if logged.pieces else None


def _fits(meta: Metainfo, record: PieceRecord) -> bool:
    return meta.has_digest(record.piece) and meta.span(record.piece) == (record.offset, record.length)
