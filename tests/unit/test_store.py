"""The cache's two tiers: what is put is read back, right or not at all, whatever the disk does."""

import asyncio
import hashlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path as FilePath

import msgspec
import pytest

from edge.disk import Logged, PieceRecord, PointerRecord, VersionRecord
from edge.held import Held
from edge.metrics import EdgeMetrics
from edge.pointers import Known
from edge.store import Store, restored
from swarm.accounting import DiskOperation, Source, Tier
from swarm.metainfo import Page, Pointer, Signed, encode
from swarm.names import Path

PIECE = 16384
PIECES = 4
SIZE = PIECES * PIECE - 1000
EVERY_PIECE = 0b1111
TAKEN = PIECES * PIECE + 4096  # on disk, in whole blocks: data and log


def path_of(number: int) -> Path:
    return Path("default", f"/film{number}.mp4", "")


def body_of(number: int) -> bytes:
    return random.Random(number).randbytes(SIZE)


def piece_of(number: int, piece: int) -> bytes:
    return body_of(number)[piece * PIECE : (piece + 1) * PIECE]


def pointer_of(number: int, sequence: int = 1, ttl_s: float = 60.0) -> Pointer:
    return Pointer(
        site="default", path=path_of(number).target, version=bytes([number]) * 16, status=200, headers=(),
        sequence=sequence, made=1000.0, expires=1000.0 + ttl_s, born=900.0, size=SIZE,
    )  # fmt: skip


def signed(value: Page | Pointer) -> Signed:
    return Signed(encode(value), b"signature", "origin")


def page_of(number: int) -> Page:
    cut = [piece_of(number, piece) for piece in range(PIECES)]
    return Page(
        version=bytes([number]) * 16, first_piece=0, offset=0, length=SIZE, piece_bytes=PIECE, size=SIZE,
        digests=b"".join(hashlib.sha256(piece).digest() for piece in cut),
    )  # fmt: skip


def read_page(signed: Signed) -> Page:
    return msgspec.msgpack.decode(signed.body, type=Page)


class Opened:
    """A store that is open, and what it read back."""

    def __init__(self, directory: FilePath | None, memory_bytes: int, disk_bytes: int) -> None:
        self.metrics = EdgeMetrics("edge-1", "", "0")
        self.store = Store(directory, memory_bytes, disk_bytes, self.metrics)
        self.remembered: dict[str, PointerRecord] = {}

    async def open(self) -> "Opened":
        def adopt(logged: Logged) -> Held | None:
            return restored(logged, read_page)

        def remember(path: Path, record: PointerRecord) -> None:
            self.remembered[path.target] = record

        await self.store.open(adopt, remember)
        return self

    async def recalled(self) -> list[Held]:
        """Every version there is, once all that the disk alone knows is back in use."""
        for number in range(1, 10):
            await self.store.recall(path_of(number))
        return self.store.versions()

    def hold(self, number: int, *, ttl_s: float = 60.0) -> Held:
        """A version as it is once its pointer and its page came."""
        pointer = pointer_of(number, ttl_s=ttl_s)
        self.store.learn(Known(path_of(number), pointer, signed(pointer), "signed", 0.0), 1000.0, 0.0)
        held = self.store.hold(path_of(number), pointer, "signed")
        page = page_of(number)
        self.store.add_page(held, page, signed(page))
        return held

    def put(self, held: Held, *numbers: int) -> None:
        for piece in numbers:
            self.store.put(held, piece, piece_of(held.version[0], piece), Source.PEER, "edge-2")

    def bytes_in(self, tier: Tier) -> int:
        return int(self.metrics.cache_bytes.read()[tier])

    async def written(self) -> None:
        """Until nothing is left to be written."""
        await until(lambda: self.store.pending_bytes == 0)


async def until(fact: Callable[[], bool]) -> None:
    """Waits for a fact that no event tells of."""
    async with asyncio.timeout(10):
        while not fact():
            await asyncio.sleep(0.001)


@pytest.fixture
async def opened(tmp_path):
    """Opens stores of memory for so many pieces over one directory; all are closed at the end."""
    stores = []

    async def open_store(memory_pieces: int = 100, disk_bytes: int = 1 << 30, directory: FilePath | None = None):
        one = Opened(directory or tmp_path / "cache", memory_pieces * PIECE, disk_bytes)
        stores.append(one.store)
        return await one.open()

    yield open_store
    for store in stores:
        await store.close()


# --- round trips


async def test_a_piece_is_held_as_soon_as_it_is_put_and_those_who_wait_are_told(opened):
    one = await opened()
    held = one.hold(1)
    waiter = held.wait_for(0b10)
    one.put(held, 1)
    assert waiter.take() == 1
    assert one.store.peek(held, 1) == piece_of(1, 1)
    assert one.store.peek(held, 0) is None
    assert (held.have, held.fetched, held.fresh_from) == (0b10, {"edge-2": PIECE}, {1: Source.PEER})


async def test_a_piece_put_twice_counts_once(opened):
    one = await opened()
    held = one.hold(1)
    one.put(held, 1, 1)
    assert held.fetched == {"edge-2": PIECE}
    assert one.bytes_in(Tier.MEMORY) == PIECE


async def test_what_memory_cannot_keep_is_read_back_from_disk(opened):
    one = await opened(memory_pieces=2)
    held = one.hold(1)
    one.put(held, 0, 1, 2, 3)
    await one.written()
    assert (held.on_disk, held.complete, held.in_memory.bit_count()) == (EVERY_PIECE, True, 2)
    found = await one.store.load(held, [0, 1, 2, 3])
    assert found == {piece: piece_of(1, piece) for piece in range(PIECES)}
    assert one.bytes_in(Tier.DISK) == TAKEN


async def test_a_piece_is_readable_while_it_is_still_to_be_written(opened):
    one = await opened(memory_pieces=1)
    held = one.hold(1)
    one.put(held, 0, 1, 2)
    assert [one.store.peek(held, piece) for piece in (0, 1, 2)] == [piece_of(1, piece) for piece in (0, 1, 2)]


async def test_after_a_restart_pieces_pages_and_the_pointer_are_there(opened):
    one = await opened()
    one.put(one.hold(1), 0, 3)
    await one.store.close()
    two = await opened()
    [held] = await two.recalled()
    assert (held.path, held.trust, held.born, held.have) == (path_of(1), "signed", 900.0, 0b1001)
    assert await two.store.load(held, [0, 1, 3]) == {0: piece_of(1, 0), 3: piece_of(1, 3)}
    assert held.metainfo.has_digest(1)
    record = two.remembered["/film1.mp4"]
    assert (record.signed, record.trust) == (signed(pointer_of(1)), "signed")


async def test_a_pointer_renewed_later_is_the_one_remembered(opened):
    one = await opened()
    one.put(one.hold(1), 0)
    await one.written()
    newer = pointer_of(1, sequence=2)
    one.store.learn(Known(path_of(1), newer, signed(newer), "signed", 0.0), 2000.0, 30.0)
    await one.store.close()
    two = await opened()
    await two.recalled()
    record = two.remembered["/film1.mp4"]
    assert (record.signed, record.made_at) == (signed(newer), 1970.0)


async def test_what_is_replaced_within_seconds_is_not_written(opened):
    one = await opened()
    one.put(one.hold(1, ttl_s=2.0), 0)
    await one.store.close()
    assert await (await opened()).recalled() == []


async def test_without_a_disk_memory_is_all_there_is(opened):
    one = await opened(memory_pieces=2, disk_bytes=0)
    held = one.hold(1)
    one.put(held, 0, 1, 2)
    assert (held.have.bit_count(), held.on_disk) == (2, 0)
    assert await one.store.load(held, [0, 1, 2]) == {}
    assert one.store.peek(held, 2) is not None or one.store.peek(held, 1) is not None


async def test_a_newer_pointer_retires_the_version_before(opened):
    one = await opened()
    old = one.hold(1)
    one.put(old, 0)
    await one.written()
    newer = msgspec.structs.replace(pointer_of(1, sequence=2), version=b"another version!")
    one.store.learn(Known(path_of(1), newer, signed(newer), "signed", 0.0), 1000.0, 0.0)
    assert one.store.held(old.version) is None
    assert (old.have, one.bytes_in(Tier.MEMORY), one.bytes_in(Tier.DISK)) == (0, 0, 0)
    await one.store.close()
    assert await (await opened()).recalled() == []


# --- what only the disk knows


async def test_after_a_restart_nothing_is_in_use_until_its_path_is_asked_for(opened):
    one = await opened()
    one.put(one.hold(1), *range(PIECES))
    one.put(one.hold(2), 0)
    await one.store.close()
    two = await opened()
    assert (two.store.versions(), len(two.store), two.bytes_in(Tier.DISK)) == ([], 2, TAKEN + 16384 + 4096)
    assert two.store.may_recall(path_of(1))
    await asyncio.gather(*(two.store.recall(path_of(1)) for _ in range(3)))
    [held] = two.store.versions()
    assert (held.path, held.complete, two.store.may_recall(path_of(1))) == (path_of(1), True, False)
    assert (two.store.may_recall(path_of(2)), two.store.may_recall(path_of(3))) == (True, False)


async def test_beyond_their_most_what_nobody_asked_for_is_left_to_the_disk(opened, monkeypatch):
    monkeypatch.setattr("edge.store.MOST_IN_USE", 2)
    one = await opened()
    for number in (1, 2, 3, 4):
        one.put(one.hold(number), 0)
        await one.written()
    assert len(one.store.versions()) == 2
    assert len(one.store) == 4
    assert one.bytes_in(Tier.MEMORY) == 2 * PIECE
    [left] = [number for number in (1, 2) if one.store.may_recall(path_of(number))][:1]
    assert one.store.pointers.all(path_of(left)) == ()
    await one.store.recall(path_of(left))
    held = one.store.held(bytes([left]) * 16)
    assert held is not None
    assert await one.store.load(held, [0]) == {0: piece_of(left, 0)}
    assert path_of(left).target in one.remembered


async def test_in_memory_alone_versions_beyond_their_most_are_forgotten(opened, monkeypatch):
    monkeypatch.setattr("edge.store.MOST_IN_USE", 2)
    one = await opened(disk_bytes=0)
    for number in (1, 2, 3, 4):
        one.put(one.hold(number), 0)
    assert (len(one.store), one.bytes_in(Tier.MEMORY)) == (2, 2 * PIECE)


async def test_a_row_without_files_is_found_out_by_the_first_question(opened, tmp_path):
    one = await opened()
    one.put(one.hold(1), 0)
    await one.store.close()
    for file in (tmp_path / "cache" / "objects").rglob("*.log"):
        file.unlink()
    two = await opened()
    assert len(two.store) == 1
    await two.store.recall(path_of(1))
    assert (len(two.store), two.bytes_in(Tier.DISK), two.store.disk_trouble) == (0, 0, "")


@pytest.mark.parametrize("spoil", ["unlink", "tear", "empty"])
async def test_without_its_index_the_cache_is_found_again_behind_our_backs(opened, tmp_path, spoil):
    one = await opened()
    for number in (1, 2, 3):
        one.put(one.hold(number), 0)
    await one.store.close()
    index = tmp_path / "cache" / "index"
    raw = index.read_bytes()
    stray = tmp_path / "cache" / "objects" / "01" / ("01" * 15 + "ff.data")
    stray.write_bytes(b"what no log tells of")
    if spoil == "unlink":
        index.unlink()
    else:
        index.write_bytes(raw[:-60] + bytes([raw[-60] ^ 1]) + raw[-59:] if spoil == "tear" else b"")
    two = await opened()
    await until(lambda: len(two.store) == 3 and not stray.exists())
    assert {held.path.target for held in await two.recalled()} == {"/film1.mp4", "/film2.mp4", "/film3.mp4"}
    await two.store.close()
    three = await opened()
    assert len(three.store) == 3


async def test_what_is_invalidated_is_not_recalled(opened):
    one = await opened()
    one.put(one.hold(1), 0)
    await one.store.close()
    two = await opened()
    two.store.invalidate(path_of(1))
    assert not two.store.may_recall(path_of(1))
    assert (await two.recalled(), len(two.store)) == ([], 0)


async def test_a_version_that_is_erased_while_it_is_recalled_stays_erased(opened):
    one = await opened()
    one.put(one.hold(1), 0)
    await one.store.close()
    two = await opened()
    recalling = asyncio.ensure_future(two.store.recall(path_of(1)))
    await asyncio.sleep(0)
    two.store.invalidate(path_of(1))
    await recalling
    assert two.store.versions() == []


async def test_memory_0_keeps_nothing_that_is_on_disk(opened):
    one = await opened(memory_pieces=0)
    held = one.hold(1)
    one.put(held, *range(PIECES))
    assert one.store.peek(held, 2) == piece_of(1, 2), "still to be written"
    await one.written()
    assert (held.in_memory, held.on_disk, one.bytes_in(Tier.MEMORY)) == (0, EVERY_PIECE, 0)
    assert await one.store.load(held, [1, 2]) == {1: piece_of(1, 1), 2: piece_of(1, 2)}
    assert one.bytes_in(Tier.MEMORY) == 0


async def test_what_left_its_window_goes_first_on_both_tiers(opened):
    one = await opened(memory_pieces=3 * PIECES, disk_bytes=3 * TAKEN)
    for number in (1, 2, 3):
        one.put(one.hold(number), *range(PIECES))
        await one.written()
    one.store.expire(path_of(2))
    one.put(one.hold(4), *range(PIECES))
    await one.written()
    kept = {held.path.target: (held.in_memory, held.on_disk) for held in one.store.versions()}
    whole = (EVERY_PIECE, EVERY_PIECE)
    assert kept == {"/film1.mp4": whole, "/film3.mp4": whole, "/film4.mp4": whole}


async def test_other_budgets_hold_at_once(opened):
    one = await opened(memory_pieces=3 * PIECES, disk_bytes=3 * TAKEN)
    for number in (1, 2, 3):
        one.put(one.hold(number), *range(PIECES))
        await one.written()
    one.store.resize(PIECES * PIECE, TAKEN)
    assert one.bytes_in(Tier.MEMORY) <= PIECES * PIECE
    assert one.bytes_in(Tier.DISK) == TAKEN


async def test_a_disk_that_does_not_answer_is_asked_nothing_more_until_it_does(opened, monkeypatch, quick_pause):
    one = await opened(memory_pieces=1)
    held = one.hold(1)
    one.put(held, *range(PIECES))
    await one.written()
    with monkeypatch.context() as slow:
        slow.setattr("edge.disk_tier.READ_PATIENCE_S", 0.0)
        slow.setattr("edge.disk_tier.read_at_hand", lambda descriptor, offset, length: None)
        assert await one.store.load(held, [0, 1]) == {}
    assert one.store.disk_trouble == "read: no answer"
    assert held.on_disk & 0b11 == 0
    await until(lambda: one.store.disk_trouble == "")


# --- torn and rotten


async def test_rot_on_disk_is_found_and_the_piece_is_held_no_more_until_it_is_put_again(opened, tmp_path):
    one = await opened()
    one.put(one.hold(1), 0, 1)
    await one.store.close()
    [data] = (tmp_path / "cache").rglob("*.data")
    rotten = bytearray(data.read_bytes())
    rotten[PIECE + 77] ^= 0x10
    data.write_bytes(rotten)

    two = await opened()
    [held] = await two.recalled()
    assert await two.store.load(held, [0, 1]) == {0: piece_of(1, 0)}
    assert (held.have, held.rotten) == (0b01, 0b10)
    two.put(held, 1)
    await two.store.close()

    three = await opened()
    [held] = await three.recalled()
    assert await three.store.load(held, [0, 1]) == {0: piece_of(1, 0), 1: piece_of(1, 1)}


async def test_killed_at_any_moment_the_cache_opens_and_no_piece_is_wrong(opened, tmp_path):
    """Copies of the directory while it is written to are what `kill -9` leaves."""
    one = await opened()
    copies = []
    for number in range(1, 6):
        held = one.hold(number)
        for piece in range(PIECES):
            one.put(held, piece)
            await asyncio.sleep(0)
            copies.append(tmp_path / f"copy-{number}-{piece}")
            await asyncio.to_thread(shutil.copytree, tmp_path / "cache", copies[-1])
    for copy in copies:
        two = await opened(directory=copy)
        for held in await two.recalled():
            number = held.version[0]
            wanted = [piece for piece in range(PIECES) if held.on_disk >> piece & 1]
            assert await two.store.load(held, wanted) == {piece: piece_of(number, piece) for piece in wanted}


async def test_data_cut_short_is_no_wrong_piece(opened, tmp_path):
    """A machine that lost power may have kept the log and not the data."""
    one = await opened()
    one.put(one.hold(1), 0, 1, 2)
    await one.store.close()
    [data] = (tmp_path / "cache").rglob("*.data")
    data.write_bytes(data.read_bytes()[: PIECE + 5])
    two = await opened()
    [held] = await two.recalled()
    assert await two.store.load(held, [0, 1, 2]) == {0: piece_of(1, 0)}
    assert held.rotten == 0b110


# --- making room


async def test_disk_keeps_within_its_limit_by_dropping_whole_versions(opened, tmp_path):
    one = await opened(memory_pieces=1, disk_bytes=2 * TAKEN)
    for number in (1, 2, 3):
        one.put(one.hold(number), *range(PIECES))
        await one.written()
    assert one.bytes_in(Tier.DISK) == 2 * TAKEN
    assert one.metrics.evicted_bytes[Tier.DISK] == TAKEN
    await one.store.close()
    two = await opened(disk_bytes=2 * TAKEN)
    assert sorted(held.path.target for held in await two.recalled()) == ["/film2.mp4", "/film3.mp4"]
    assert len(list((tmp_path / "cache").rglob("*.data"))) == 2


async def test_memory_keeps_within_its_limit_piece_by_piece(opened):
    one = await opened(memory_pieces=3)
    held = one.hold(1)
    one.put(held, 0, 1, 2, 3)
    await one.written()
    assert one.bytes_in(Tier.MEMORY) <= 3 * PIECE
    assert one.metrics.evicted_bytes[Tier.MEMORY] == PIECE
    assert [one.store.peek(held, piece) is not None for piece in range(PIECES)] == [False, True, True, True]
    assert held.in_memory == 0b1110


async def test_what_is_read_once_does_not_displace_what_is_read_again(opened):
    one = await opened(memory_pieces=3)
    held, scanned = one.hold(1), one.hold(2)
    one.put(held, 0)
    for _ in ("for whom it was fetched", "again"):
        assert one.store.peek(held, 0) is not None
    for piece in range(PIECES):
        one.put(scanned, piece)
        assert one.store.peek(scanned, piece) is not None
    await one.written()
    assert one.store.peek(held, 0) is not None
    assert scanned.in_memory == 0b1100


async def test_a_version_is_ready_for_the_hit_path_only_while_every_piece_is_in_memory(opened):
    one = await opened(memory_pieces=5)
    held, other = one.hold(1), one.hold(2)
    one.put(held, 0, 1, 2)
    assert not one.store.make_ready(held)
    one.put(held, 3)
    assert one.store.make_ready(held)
    assert b"".join(held.ready) == body_of(1)
    await one.written()
    one.put(other, 0)
    assert one.store.peek(other, 0) == one.store.peek(other, 0) == piece_of(2, 0)
    one.put(other, 1)  # for which nothing must go that has not been asked for: so the oldest that has
    assert held.ready is None
    assert not one.store.make_ready(held)


async def test_a_version_that_is_dropped_is_ready_no_more(opened):
    one = await opened()
    held = one.hold(1)
    one.put(held, 0, 1, 2, 3)
    assert one.store.make_ready(held)
    one.store.drop(held)
    assert held.ready is None


async def test_a_version_dropped_while_it_is_written_leaves_nothing_and_owes_nothing(opened, tmp_path):
    one = await opened()
    held = one.hold(1)
    one.put(held, 0, 1)
    await asyncio.sleep(0)  # the writer has taken it
    one.store.drop(held)
    await one.written()
    one.put(one.hold(2), 0)
    assert one.store.pending_bytes == PIECE
    await one.store.close()
    assert one.store.pending_bytes == 0
    assert [held.path.target for held in await (await opened()).recalled()] == ["/film2.mp4"]


async def test_a_version_dropped_while_it_is_written_may_be_held_again_at_once(opened):
    one = await opened()
    held = one.hold(1)
    one.put(held, 0, 1)
    await asyncio.sleep(0)
    one.store.drop(held)
    again = one.hold(1)
    one.put(again, 1, 2)
    await one.written()
    await until(lambda: again.on_disk == 0b0110)
    assert held.on_disk == 0
    assert await one.store.load(again, [1, 2]) == {1: piece_of(1, 1), 2: piece_of(1, 2)}
    await one.store.close()
    two = await opened()
    [held] = await two.recalled()
    assert await two.store.load(held, [0, 1, 2, 3]) == {1: piece_of(1, 1), 2: piece_of(1, 2)}


async def test_a_version_evicted_from_disk_while_it_is_read_is_no_failing_disk(opened):
    one = await opened(memory_pieces=1)
    held = one.hold(1)
    one.put(held, 0, 1, 2, 3)
    await one.written()
    reading = asyncio.ensure_future(one.store.load(held, [0, 1]))
    one.store.drop(held)
    found = await reading
    assert all(data == piece_of(1, piece) for piece, data in found.items())
    assert one.store.disk_trouble == ""


async def test_fills_wait_while_too_much_is_to_be_written_and_go_on_when_it_is_dropped(opened, monkeypatch):
    monkeypatch.setattr("edge.store.MOST_PENDING_BYTES", 2 * PIECE)
    one = await opened()
    held = one.hold(1)
    one.put(held, 0, 1)
    await one.store.room(held, 1)
    one.put(held, 2)
    waiting = asyncio.ensure_future(one.store.room(held, 2))
    one.store.drop(held)
    await waiting
    held = one.hold(2)
    one.put(held, 0, 1, 2)
    await one.store.room(held, 2)
    assert one.store.pending_bytes <= 2 * PIECE


# --- a disk that fails


@pytest.fixture
def quick_pause(monkeypatch):
    """A disk that failed is tried again at once."""
    monkeypatch.setattr("edge.disk_tier.PAUSE_S", 0.02)


def block(directory: FilePath) -> None:
    """A file stands where the directory was."""
    directory.rename(directory.with_name("away"))
    directory.write_text("in the way")


def unblock(directory: FilePath) -> None:
    directory.unlink()
    directory.with_name("away").rename(directory)


async def test_a_disk_that_fails_is_said_left_alone_and_tried_again(opened, tmp_path, quick_pause):
    one = await opened()
    first = one.hold(1)
    one.put(first, 0)
    await one.written()
    block(tmp_path / "cache")
    one.put(first, 1)
    await until(lambda: one.store.disk_trouble != "")
    assert one.store.disk_trouble == "write: Not a directory"
    assert one.metrics.disk_errors[DiskOperation.WRITE] == 1
    assert one.store.peek(first, 1) == piece_of(1, 1), "memory goes on"
    unblock(tmp_path / "cache")
    await until(lambda: one.store.disk_trouble == "")
    one.put(first, 2)
    await until(lambda: first.on_disk == 0b101)
    await one.store.close()
    [held] = await (await opened()).recalled()
    assert held.have == 0b101


async def test_a_version_that_began_while_the_disk_failed_is_kept_once_it_is_well(opened, tmp_path, quick_pause):
    """Its head and its pages were never written: they must be told before its pieces."""
    one = await opened()
    block(tmp_path / "cache")
    held = one.hold(1)
    one.put(held, 0)
    await until(lambda: one.store.disk_trouble != "")
    late = one.hold(2)
    one.put(late, 0)
    unblock(tmp_path / "cache")
    await until(lambda: one.store.disk_trouble == "")
    one.put(held, 1)
    one.put(late, 1)
    await until(lambda: (held.on_disk, late.on_disk) == (0b10, 0b10))
    await one.store.close()
    two = await opened()
    assert {held.path.target: held.have for held in await two.recalled()} == {"/film1.mp4": 0b10, "/film2.mp4": 0b10}


async def test_a_page_told_while_the_disk_failed_is_not_lost(opened, tmp_path, quick_pause):
    one = await opened()
    pointer = pointer_of(1)
    held = one.store.hold(path_of(1), pointer, "signed")
    whole = page_of(1)
    halves = [
        msgspec.structs.replace(whole, length=2 * PIECE, digests=whole.digests[:64], size=None),
        msgspec.structs.replace(
            whole, first_piece=2, offset=2 * PIECE, length=SIZE - 2 * PIECE, digests=whole.digests[64:]
        ),
    ]
    one.store.add_page(held, halves[0], signed(halves[0]))
    one.put(held, 0)
    await one.written()
    block(tmp_path / "cache")
    one.put(held, 1)
    await until(lambda: one.store.disk_trouble != "")
    one.store.add_page(held, halves[1], signed(halves[1]))
    unblock(tmp_path / "cache")
    await until(lambda: one.store.disk_trouble == "")
    one.put(held, 2)
    await until(lambda: held.on_disk == 0b101)
    await one.store.close()
    [held] = await (await opened()).recalled()
    assert held.have == 0b101


async def test_a_version_that_was_dropped_while_the_disk_failed_leaves_no_files(opened, tmp_path, quick_pause):
    one = await opened()
    held = one.hold(1)
    one.put(held, 0)
    await one.written()
    other = one.hold(2)
    block(tmp_path / "cache")
    one.put(other, 0)
    await until(lambda: one.store.disk_trouble != "")
    unblock(tmp_path / "cache")
    one.store.drop(held)
    await until(lambda: one.store.disk_trouble == "")
    await one.store.close()
    assert list((tmp_path / "cache").rglob("*.data")) == []


async def test_pieces_that_cannot_be_read_are_held_no_more(opened, tmp_path):
    one = await opened(memory_pieces=1)
    held = one.hold(1)
    one.put(held, 0, 1, 2)
    await one.written()
    block(tmp_path / "cache")
    assert await one.store.load(held, [0, 1]) == {}
    assert one.store.disk_trouble == "read: Not a directory"
    assert one.metrics.disk_errors[DiskOperation.READ] == 1
    assert held.on_disk == 0b100
    unblock(tmp_path / "cache")


async def test_a_directory_that_vanished_is_made_again_and_what_it_held_is_fetched_again(opened, tmp_path, quick_pause):
    one = await opened(memory_pieces=1)
    held = one.hold(1)
    one.put(held, 0, 1)
    await one.written()
    shutil.rmtree(tmp_path / "cache")
    assert await one.store.load(held, [0]) == {}
    await until(lambda: one.store.disk_trouble == "")
    one.put(held, 0)
    await until(lambda: bool(held.on_disk & 1))
    await one.store.close()
    [held] = await (await opened()).recalled()
    assert held.have & 1


@pytest.mark.root
async def test_a_full_disk_stops_nothing_and_is_used_again_when_there_is_room(opened, small_disk, quick_pause):
    one = await opened(directory=small_disk)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(bytes(2 << 20))
    held = one.hold(1)
    one.put(held, 0)
    await until(lambda: one.store.disk_trouble != "")
    assert one.metrics.disk_errors[DiskOperation.WRITE] == 1
    assert one.store.peek(held, 0) == piece_of(1, 0)
    ballast.unlink()
    await until(lambda: one.store.disk_trouble == "")
    one.put(held, 1)
    await until(lambda: held.on_disk == 0b10)
    await one.store.close()
    two = await opened(directory=small_disk)
    [held] = await two.recalled()
    assert held.have == 0b10
    await two.store.close()


# --- what a log tells is checked again


def test_a_record_that_does_not_fit_its_page_is_left_out():
    head = VersionRecord(1, bytes([1]) * 16, "default", "/film1.mp4", "", "signed", 900.0, PIECE, SIZE)
    good, moved = PieceRecord(0, 0, PIECE, 1), PieceRecord(1, 0, PIECE, 1)
    logged = Logged(head, [signed(page_of(1))], None, {0: good, 1: moved})
    assert restored(logged, read_page) is not None
    assert logged.pieces == {0: good}
    assert restored(Logged(head, [], None, {0: good}), read_page) is None, "no page, no piece"


def test_a_bodiless_pointer_holds_nothing():
    store = Store(None, PIECE, 0, EdgeMetrics("edge-1", "", "0"))
    with pytest.raises(ValueError, match="no body"):
        store.hold(path_of(1), msgspec.structs.replace(pointer_of(1), version=None), "signed")
