"""The cache: a memory tier of verified pieces over a disk tier, and what each path means (DESIGN 7).

Memory counts as stored: a piece is told to waiters and peers once it is here; the disk follows behind. A disk that
fails is left alone for a while: the edge serves on from memory and peers, and says so.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from xxhash import xxh3_64_intdigest

from edge.body_file import BodyFile
from edge.disk import FORMAT as DISK_FORMAT
from edge.disk import Disk, Logged, PageRecord, PieceRecord, PointerRecord, Record, VersionRecord
from edge.disk_tier import Adopt, DiskTier, Write
from edge.held import EVERYTHING, NEVER_TOLD, Held
from edge.index import Row, number_of
from edge.metrics import EdgeMetrics
from edge.pointers import Known, Pointers
from swarm import pieces
from swarm.accounting import Source, Tier
from swarm.eviction import Keeper
from swarm.metainfo import Metainfo, Page, Pointer, Signed
from swarm.names import Path

log = logging.getLogger(__name__)

Remember = Callable[[Path, PointerRecord], None]  # takes a pointer read back from disk

MOST_PENDING_BYTES = 64 << 20  # written behind; fills wait beyond it
LEAST_DISK_TTL_S = 10.0  # what is replaced sooner (live playlists) is not worth a write
BATCH_BYTES = 8 << 20
BATCH_VERSIONS = 64
MOST_IN_USE = 100_000  # versions kept at hand; beyond it the least used are left to the disk, or forgotten
LEAVING_TRIES = 16
WORKING_BYTES = 16 << 20  # where `memory` is 0: for what is on its way to the disk, or cannot go there


@dataclass
class _Pending:
    """What is still to be written of one version."""

    blocks: dict[int, bytes] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(map(len, self.blocks.values()))


class Store:
    """All versions and pointers of one edge. Not thread-safe: the event loop's alone; its threads touch only files."""

    def __init__(
        self,
        directory: FilePath | None,
        memory_bytes: int,
        disk_bytes: int,
        metrics: EdgeMetrics,
        min_free_bytes: int | None = None,
    ) -> None:
        """`min_free_bytes`: see `Disk`. Memory 0 keeps nothing that is on disk."""
        self._metrics = metrics
        self._tier: DiskTier | None = None
        if directory and disk_bytes:
            self._tier = DiskTier(Disk(directory, min_free_bytes), disk_bytes, metrics, self._on_disk_evicted)
        self._versions: OrderedDict[bytes, Held] = OrderedDict()  # in use; those only the disk knows are in its index
        self.pointers = Pointers(self._retire)
        self._memory: dict[tuple[bytes, int], bytes] = {}
        self._memory_keeper: Keeper[tuple[bytes, int]] = Keeper(memory_bytes or WORKING_BYTES, hash)
        self._keeps_what_is_on_disk = memory_bytes > 0
        self._pending: OrderedDict[bytes, _Pending] = OrderedDict()
        self._writing: dict[bytes, tuple[Held, _Pending]] = {}  # still readable while it is being written
        self.pending_bytes = 0  # not written yet
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing = False
        self._writer: asyncio.Task[None] | None = None
        self._adopt: Adopt = _adopt_nothing
        self._remember: Remember = _remember_nothing
        self._recalling: dict[int, asyncio.Task[None]] = {}
        self._checking: dict[bytes, asyncio.Task[None]] = {}
        metrics.cache_bytes.read = lambda: {
            Tier.MEMORY: self._memory_keeper.used_bytes,
            Tier.DISK: self._tier.index.used_bytes if self._tier else 0,
        }
        metrics.cache_limit_bytes.read = lambda: {
            Tier.MEMORY: self.memory_bytes,
            Tier.DISK: self._tier.index.capacity_bytes if self._tier else 0,
        }

    def __repr__(self) -> str:
        return f"<Store {len(self._versions)} versions in use, {self._tier!r}, {len(self.pointers)} pointers>"

    def __len__(self) -> int:
        """Versions there are, in use or not."""
        on_disk = len(self._tier.index) if self._tier else 0
        return on_disk + sum(1 for held in self._versions.values() if not held.on_disk)

    @property
    def memory_bytes(self) -> int:
        """What the memory tier may hold."""
        return self._memory_keeper.capacity_bytes

    @property
    def disk_trouble(self) -> str:
        """Empty while the disk is well."""
        return self._tier.trouble if self._tier else ""

    async def open(self, adopt: Adopt, remember: Remember) -> None:
        """Read the index of what the disk holds. When a path is recalled `adopt` verifies one version's log into a Held
        (on another thread), and `remember` takes its pointer."""
        self._adopt, self._remember = adopt, remember
        if self._tier is not None:
            await self._tier.open()
            self._writer = asyncio.create_task(self._write_behind(), name="disk writer")

    async def close(self) -> None:
        """Write what is pending, then let the threads go."""
        if self._closing:
            return
        self._closing = True
        self._work.set()
        if self._writer is not None:
            await self._writer
        reading = [*self._recalling.values(), *self._checking.values()]
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        if self._tier is not None:
            await self._tier.close()

    # --- what only the disk knows

    def may_recall(self, path: Path) -> bool:
        """Whether the disk holds versions of a path that are not in use."""
        return self._tier is not None and any(
            version not in self._versions for version in self._tier.index.versions(path)
        )

    async def recall(self, path: Path) -> None:
        """Bring the versions of a path that only the disk knows back into use, and what the path meant with them."""
        if self.may_recall(path):
            number = number_of(path)
            task = self._recalling.get(number)
            if task is None:
                task = self._recalling[number] = asyncio.create_task(self._recall(path), name=f"recall {path.target}")
                task.add_done_callback(lambda _: self._recalling.pop(number))
            await asyncio.shield(task)

    async def _recall(self, path: Path) -> None:
        assert self._tier is not None
        cold = [version for version in self._tier.index.versions(path) if version not in self._versions]
        for version, logged, held in await self._tier.read_logs(cold, self._adopt):
            if version in self._versions or self._tier.index.find(path, version) is None:
                continue  # begun anew, or evicted, meanwhile
            if logged is None or held is None:
                self._tier.remove(path, version)
            else:
                self._take_in(held, logged)

    def _take_in(self, held: Held, logged: Logged) -> None:
        assert self._tier is not None
        if logged.torn:
            self._tier.mend(held.version)
        held.told_in = self._tier.faults
        for record in logged.pieces.values():
            held.on_disk |= 1 << record.piece
            held.checks[record.piece] = record.check
        self._use(held)
        if logged.pointer is not None:
            held.told_pointer = logged.pointer.signed
            self._remember(held.path, logged.pointer)

    # --- in use

    def _use(self, held: Held) -> None:
        """One more version in use. Beyond their most, one that nobody asked for lately is left to the disk."""
        self._versions[held.version] = held
        tries = LEAVING_TRIES if len(self._versions) > MOST_IN_USE else 0
        for _ in range(tries):
            oldest = next(iter(self._versions.values()))
            if self._is_busy(oldest) or oldest.used or oldest is held:
                oldest.used = False
                self._versions.move_to_end(oldest.version)
            else:
                self._leave_to_disk(oldest)
                return

    def _is_busy(self, held: Held) -> bool:
        return bool(held.waiters or held.filling or held.version in self._pending or held.version in self._writing)

    def _leave_to_disk(self, held: Held) -> None:
        self._leave_memory(held)
        if self._versions.get(held.version) is held:  # else nothing of it was on disk, and it is gone already
            self.pointers.forget(held.path, held.version)  # recalled together
            del self._versions[held.version]

    # --- pointers

    def learn(self, known: Known, wall: float, now: float) -> None:
        """A newer (or the same, confirmed) pointer stands, and is noted beside its version on disk."""
        self.pointers.learn(known)
        held = self._versions.get(known.pointer.version or b"")
        if held is None or held.told_pointer == known.signed:  # as it is just read back
            return
        if known.pointer.version is not None and known.pointer.ttl_s >= LEAST_DISK_TTL_S:
            record = PointerRecord(known.signed, known.trust, wall - known.age_s(now))
            self._tell(known.pointer.version, record)

    def invalidate(self, path: Path) -> None:
        """Whatever a path meant, it may mean something else now; what only the disk knows of it is erased."""
        self.pointers.doubt_all(path)
        if self._tier is not None:
            for version in self._tier.index.versions(path):
                if version not in self._versions:
                    self._tier.remove(path, version)

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
            self._use(held)
        held.used = True
        return held

    def drop(self, held: Held) -> None:
        """Forget a version, on both tiers."""
        self._versions.pop(held.version, None)
        for piece in pieces.each(held.in_memory):
            if self._memory.pop((held.version, piece), None) is not None:
                self._memory_keeper.remove((held.version, piece))
        self._forget_pending(held.version)
        held.in_memory = held.on_disk = 0
        held.ready = None
        held.told_in = NEVER_TOLD
        if self._tier is not None:
            self._tier.remove(held.path, held.version)

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
        """Whether there is a disk that takes it."""
        if self._tier is None or self._tier.trouble or held.too_large_for_disk:
            return False
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
        held.undelivered |= bit
        if self._worth_disk(held):
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
        if self._worth_disk(held):
            return False
        size = held.metainfo.size
        if size is None:
            size = pieces.count(held.in_memory) * held.metainfo.piece_bytes
        return size > self._memory_keeper.capacity_bytes // 2

    def _runs_ahead(self, held: Held, piece: int) -> bool:
        if not self._is_too_large(held):
            return False
        slowest = held.slowest()
        window = max(2, self._memory_keeper.capacity_bytes // 4 // held.metainfo.piece_bytes)
        return slowest is not None and piece >= slowest + window

    def on_taken(self, held: Held) -> None:
        """A viewer went on to its next piece. Of what only streams through, what all have taken makes room."""
        held.taken.set()
        if self._is_too_large(held):  # first: who has passed what takes a look at every viewer
            self._leave_memory(held, held.in_memory & pieces.of_span(0, held.passed()))

    def _keep(self, held: Held, piece: int, data: bytes) -> None:
        """Into the memory tier, making room."""
        held.in_memory |= 1 << piece
        self._memory[held.version, piece] = data
        for version, evicted in self._memory_keeper.admit((held.version, piece), len(data)):
            self._evict(version, evicted)

    def _leave_memory(self, held: Held, leaving: int = EVERYTHING) -> None:
        for piece in pieces.each(held.in_memory & leaving):
            if (held.version, piece) in self._memory_keeper:
                self._memory_keeper.remove((held.version, piece))
                self._evict(held.version, piece)

    def expire(self, path: Path) -> None:
        """Nobody will ask for it again (a live segment that left its playlist): where room is needed it goes first."""
        for known in self.pointers.all(path):
            held = self._versions.get(known.pointer.version or b"")
            if held is not None:
                for piece in pieces.each(held.in_memory):
                    if (held.version, piece) in self._memory_keeper:
                        self._memory_keeper.expire((held.version, piece))
        if self._tier is not None:
            self._tier.expire(path)

    def resize(self, memory_bytes: int, disk_bytes: int, min_free_bytes: int | None = None) -> None:
        """Other budgets from now on; what does not fit is dropped at once. Whether there is a disk stays."""
        self._keeps_what_is_on_disk = memory_bytes > 0
        for version, piece in self._memory_keeper.resize(memory_bytes or WORKING_BYTES):
            self._evict(version, piece)
        if self._tier is not None:
            self._tier.resize(disk_bytes, min_free_bytes)

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
        writing, pending = self._writing.get(held.version, (None, None))
        return pending.blocks.get(piece) if pending is not None and writing is held else None

    def peek(self, held: Held, piece: int) -> bytes | None:
        """A piece if it is in memory. To be delivered to whom it was fetched for is no hit: with that, each object of a
        scan would look as if it were asked for again (decision 10)."""
        held.used = True
        data = self._memory.get((held.version, piece))
        if data is not None:
            if held.undelivered >> piece & 1:
                held.undelivered &= ~(1 << piece)
            else:
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
        held.used = True
        for piece in range(held.metainfo.known_pieces):
            self._memory_keeper.touch((held.version, piece))

    def is_all_on_disk(self, held: Held) -> bool:
        return held.complete and held.on_disk == held.all_pieces and held.metainfo.size != 0

    def read_all(self, held: Held) -> bytearray | None:
        """Its body, read from disk and checked, if that takes no waiting: for the hit path."""
        if self._tier is None or not self.is_all_on_disk(held):
            return None
        self._note_runs(held)
        data = self._tier.read_at_hand(held.version, 0, held.metainfo.size or 0)
        if data is None:
            return None
        view = memoryview(data)
        for piece, (offset, length) in enumerate(held.runs):
            if xxh3_64_intdigest(view[offset : offset + length]) != held.checks.get(piece):
                self._on_rot(held, piece)
                return None
        return data

    def _note_runs(self, held: Held) -> None:
        if not held.runs:
            held.runs = [held.metainfo.span(piece) for piece in range(held.metainfo.known_pieces)]

    def file(self, held: Held, now: float) -> BodyFile | None:
        """The file that all of its body can be sent from as it is, without waiting for the disk (`now`: monotonic)."""
        if self._tier is None or not self.is_all_on_disk(held):
            return None
        file = self._tier.open_file(held.version)
        return file if file is not None and file.is_checked(now) and file.is_at_hand(held.metainfo.size or 0) else None

    def check_file(self, held: Held) -> None:
        """Read it, on a thread, so that it can soon be sent from."""
        if self._tier is None or held.version in self._checking or not self.is_all_on_disk(held):
            return
        self._note_runs(held)
        checks = [held.checks.get(piece, 0) for piece in range(held.metainfo.known_pieces)]
        task = asyncio.create_task(self._tier.check(held.path, held.version, held.runs, checks))
        self._checking[held.version] = task
        task.add_done_callback(lambda _: self._checking.pop(held.version))

    def touch_on_disk(self, held: Held) -> None:
        """A version was served from disk."""
        held.used = True
        if self._tier is not None:
            self._tier.touch(held.path, held.version)

    async def load(self, held: Held, wanted: list[int]) -> dict[int, bytes]:
        """Read pieces back from disk. Rot is found here: such a piece is no longer held, and missing in the answer."""
        held.used = True
        wanted = [piece for piece in wanted if held.on_disk >> piece & 1]
        if self._tier is None or not wanted:
            return {}
        runs = [held.metainfo.span(piece) for piece in wanted]
        blocks = self._read_at_hand(held, runs)
        if blocks is None:
            blocks = await self._tier.read(held.path, held.version, runs)
        if blocks is None:
            held.on_disk &= ~pieces.of(wanted)  # if it is not evicted: fetched again
            return {}
        self._tier.touch(held.path, held.version)
        whole = {}
        for piece, (data, check) in zip(wanted, blocks, strict=True):
            if check == held.checks.get(piece):
                whole[piece] = data
                if held.on_disk >> piece & 1 and self._keeps_what_is_on_disk:
                    self._keep(held, piece, data)
            elif held.on_disk >> piece & 1:
                self._on_rot(held, piece)
        return whole

    def _read_at_hand(self, held: Held, runs: list[tuple[int, int]]) -> list[tuple[bytes, int]] | None:
        """Runs that follow each other, each with its xxh3, if that takes no waiting."""
        assert self._tier is not None
        start, end = runs[0][0], sum(runs[-1])
        if end - start != sum(length for _, length in runs):
            return None
        data = self._tier.read_at_hand(held.version, start, end - start)
        if data is None:
            return None
        view = memoryview(data)
        blocks = [bytes(view[offset - start : offset - start + length]) for offset, length in runs]
        return [(block, xxh3_64_intdigest(block)) for block in blocks]

    def _on_rot(self, held: Held, piece: int) -> None:
        """That piece is held no more. A foreign origin is asked for whole bodies, or long runs: once one piece is lost,
        all that only this disk has is fetched again, rather than all of it once for each piece that is found."""
        log.error("rot on disk: piece %d of %s is not what was written; fetching it again", piece, held.path.target)
        lost = 1 << piece if held.trust == "signed" else held.on_disk
        held.on_disk &= ~lost
        held.rotten |= lost & ~held.in_memory
        for one in pieces.each(lost):
            held.checks.pop(one, None)

    # --- writing behind

    def _tell(self, version: bytes, record: Record) -> None:
        if self._tier is not None and not self._tier.trouble and version in self._versions:
            self._pending.setdefault(version, _Pending()).records.append(record)
            self._work.set()

    async def _write_behind(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._pending:
                await self._write_some()
            if self._closing:
                return

    async def _write_some(self) -> None:
        """The versions that have waited longest, so many that a trip to the other thread pays."""
        assert self._tier is not None
        batch: list[tuple[Held, _Pending]] = []
        batch_bytes = 0
        while self._pending and len(batch) < BATCH_VERSIONS and batch_bytes < BATCH_BYTES:
            version, pending = self._pending.popitem(last=False)
            held = self._versions.get(version)
            if held is not None and (pending.blocks or held.on_disk):
                batch.append((held, pending))
                batch_bytes += pending.size
            else:
                self._on_no_longer_pending(pending)
        self._writing = {held.version: (held, pending) for held, pending in batch}
        done = await self._tier.write([self._write_of(held, pending) for held, pending in batch])
        self._writing = {}
        for (held, pending), is_written in zip(batch, done, strict=True):
            if self._versions.get(held.version) is held:  # else it was dropped, and perhaps begun anew, meanwhile
                self._on_written(held, pending.blocks) if is_written else self._on_not_written(held)
                self._settle(held, pending.blocks)
            self._on_no_longer_pending(pending)

    def _write_of(self, held: Held, pending: _Pending) -> Write:
        blocks = [(held.metainfo.span(piece)[0], data) for piece, data in pending.blocks.items()]
        return Write(held.path, held.version, blocks, self._opening(held) + pending.records)

    def _on_no_longer_pending(self, pending: _Pending) -> None:
        self.pending_bytes -= pending.size
        if self.pending_bytes <= MOST_PENDING_BYTES:
            self._room.set()

    def _opening(self, held: Held) -> list[Record]:
        """The records that make a log readable on its own; written once, and again after the disk failed."""
        assert self._tier is not None
        if held.told_in == self._tier.faults:
            return []
        held.told_in = self._tier.faults
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
            held.told_pointer = known.signed
        return records

    def _on_written(self, held: Held, written: Iterable[int]) -> None:
        held.on_disk |= pieces.of(written)
        if not self._keeps_what_is_on_disk:
            held.ready = None
            for piece in written:
                if self._memory.pop((held.version, piece), None) is not None:
                    self._memory_keeper.remove((held.version, piece))

    def _on_not_written(self, held: Held) -> None:
        assert self._tier is not None
        held.too_large_for_disk = not self._tier.trouble
        if not held.on_disk:
            self._tier.remove(held.path, held.version)

    def _settle(self, held: Held, written: Iterable[int]) -> None:
        """Blocks are no longer pending: what memory has evicted meanwhile is now on disk alone, or gone."""
        for piece in written:
            if (held.version, piece) not in self._memory:
                held.in_memory &= ~(1 << piece)
        self._let_go_if_empty(held)

    def _forget_pending(self, version: bytes) -> None:
        pending = self._pending.pop(version, None)
        if pending is not None:
            self._on_no_longer_pending(pending)

    def _on_disk_evicted(self, row: Row) -> None:
        self._metrics.evicted_bytes[Tier.DISK] += row.weight
        held = self._versions.get(row.version)
        if held is not None:
            held.on_disk = 0
            held.told_in = NEVER_TOLD
            self._let_go_if_empty(held)


def _adopt_nothing(logged: Logged) -> Held | None:
    raise RuntimeError("nothing is recalled before the store is open")


def _remember_nothing(path: Path, record: PointerRecord) -> None:
    raise RuntimeError("nothing is recalled before the store is open")


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
