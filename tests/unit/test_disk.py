"""The disk tier: two files a version, torn at every byte, rotten, and unusable."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from xxhash import xxh3_64_intdigest

import edge.disk
from edge.disk import FORMAT, Disk, Logged, PageRecord, PieceRecord, PointerRecord, Record, VersionRecord
from swarm.metainfo import Signed

VERSION, OTHER = b"\xab" + bytes(15), b"\xcd" + bytes(15)
HEAD = VersionRecord(FORMAT, VERSION, "default", "/film.mp4", "", "signed", 12.5, 16384, 300)
PAGE = PageRecord(Signed(b"page", b"signature", "origin"))
POINTER = PointerRecord(Signed(b"pointer", b"signature", "origin"), "signed", 100.0)
BLOCKS = {0: b"a" * 100, 1: b"b" * 100, 2: b"c" * 100}


def piece(number: int) -> PieceRecord:
    return PieceRecord(number, number * 100, 100, xxh3_64_intdigest(BLOCKS[number]))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "cache")
    disk.open()
    yield disk
    disk.close()


def put(disk: Disk, numbers: list[int], *first: Record, version: bytes = VERSION) -> None:
    blocks = [(number * 100, BLOCKS[number]) for number in numbers]
    disk.append(version, blocks, [*first, *map(piece, numbers)])


def scan(disk: Disk) -> list[Logged]:
    return [logged for logged, _ in disk.scan()]


def read(disk: Disk, version: bytes, runs: list[tuple[int, int]]) -> list[bytes]:
    descriptor = disk.open_data(version)
    try:
        return edge.disk.read(descriptor, runs)
    finally:
        os.close(descriptor)


def files(tmp_path: Path, version: bytes = VERSION) -> tuple[Path, Path]:
    """The data and the log of a version."""
    stem = tmp_path / "cache" / "objects" / version.hex()[:2] / version.hex()
    return stem.with_suffix(".data"), stem.with_suffix(".log")


def test_what_was_told_is_read_back(disk):
    put(disk, [0, 2], HEAD, PAGE, POINTER)
    assert scan(disk) == [Logged(HEAD, [PAGE.signed], POINTER, {0: piece(0), 2: piece(2)})]
    assert read(disk, VERSION, [(0, 100), (200, 100)]) == [BLOCKS[0], BLOCKS[2]]


def test_what_is_told_later_is_added_and_the_latest_pointer_stands(disk):
    put(disk, [0], HEAD, PAGE, POINTER)
    later = PointerRecord(Signed(b"newer", b"signature", "origin"), "signed", 200.0)
    put(disk, [1], later)
    [logged] = scan(disk)
    assert (logged.pointer, sorted(logged.pieces)) == (later, [0, 1])


def test_a_head_told_again_changes_nothing(disk):
    put(disk, [0], HEAD, PAGE)
    put(disk, [1], HEAD, PAGE)
    assert scan(disk) == [Logged(HEAD, [PAGE.signed, PAGE.signed], None, {0: piece(0), 1: piece(1)})]


def test_a_read_beyond_the_file_is_short(disk):
    put(disk, [0], HEAD)
    assert read(disk, VERSION, [(50, 100), (500, 10)]) == [b"a" * 50, b""]


def test_what_is_removed_is_gone_and_may_be_removed_again(disk, tmp_path):
    put(disk, [0], HEAD)
    disk.remove(VERSION)
    disk.remove(VERSION)
    assert scan(disk) == []
    assert [path.exists() for path in files(tmp_path)] == [False, False]
    with pytest.raises(FileNotFoundError):
        read(disk, VERSION, [(0, 1)])


def test_nothing_told_is_wrong_wherever_the_log_is_torn_and_what_is_told_next_is_read_back(disk, tmp_path):
    """`kill -9` in the middle of a write: whole records before the tear stand, nothing behind it does."""
    put(disk, [0], HEAD, PAGE)
    put(disk, [1], POINTER)
    data_path, log_path = files(tmp_path)
    data, log = data_path.read_bytes(), log_path.read_bytes()
    for size in range(len(log)):
        data_path.write_bytes(data)
        log_path.write_bytes(log[:size])
        found = scan(disk)
        assert [logged.head for logged in found] in ([], [HEAD])
        told = found[0].pieces if found else {}
        assert told in ({}, {0: piece(0)})
        put(disk, [2], *([] if found else [HEAD]))
        [logged] = scan(disk)
        assert logged.pieces == told | {2: piece(2)}
        assert read(disk, VERSION, [(200, 100)]) == [BLOCKS[2]]


def test_nothing_told_is_wrong_whichever_byte_of_the_log_flips(disk, tmp_path):
    put(disk, [0], HEAD, PAGE, POINTER)
    put(disk, [1])
    _, log_path = files(tmp_path)
    whole = log_path.read_bytes()
    for at in range(len(whole)):
        rotten = bytearray(whole)
        rotten[at] ^= 0x01
        log_path.write_bytes(rotten)
        data_path, _ = files(tmp_path)
        data_path.write_bytes(BLOCKS[0] + BLOCKS[1])
        for logged in scan(disk):
            assert logged.head == HEAD
            assert all(record == piece(number) for number, record in logged.pieces.items())
            assert logged.pointer in (None, POINTER)
            assert logged.pages in ([], [PAGE.signed])


def test_data_that_no_log_tells_of_is_removed(disk, tmp_path):
    put(disk, [0], HEAD)
    data_path, log_path = files(tmp_path)
    log_path.unlink()
    assert scan(disk) == []
    assert not data_path.exists()


def test_a_log_under_another_versions_name_or_without_a_head_is_removed(disk, tmp_path):
    put(disk, [0], HEAD)
    put(disk, [0], version=OTHER)
    files(tmp_path)[1].rename(files(tmp_path)[1].with_stem("ab" + "11" * 15))
    assert scan(disk) == []
    assert [path for path in (tmp_path / "cache" / "objects").rglob("*") if path.is_file()] == []


def test_a_log_of_a_later_format_is_removed(disk):
    later = VersionRecord(FORMAT + 1, VERSION, "default", "/film.mp4", "", "signed", 12.5, 16384, 300)
    put(disk, [0], later)
    assert scan(disk) == []


def test_strange_files_in_the_cache_directory_do_no_harm(disk, tmp_path):
    put(disk, [0], HEAD)
    objects = tmp_path / "cache" / "objects"
    (objects / "README").write_text("hello")
    (objects / "ab" / "notes.txt").write_text("hello")
    (objects / "ee").mkdir()
    assert [logged.head for logged in scan(disk)] == [HEAD]


def test_a_file_in_the_directorys_place_is_an_oserror(tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(OSError, match="cache"):
        Disk(tmp_path / "cache").open()


@pytest.mark.root
def test_a_disk_that_fills_up_in_the_middle_leaves_a_log_that_goes_on(small_disk):
    disk = Disk(small_disk)
    disk.open()
    put(disk, [0], HEAD)
    many: list[Record] = [piece(1)] * 400
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(bytes(2 << 20))
    with pytest.raises(OSError, match="No space left"):
        disk.append(VERSION, [(1 << 19, bytes(64 << 10))], [piece(1)])
    with pytest.raises(OSError, match=r"No space left|short write"):
        disk.append(VERSION, [], many)
    ballast.unlink()
    put(disk, [2])
    [logged] = scan(disk)
    assert logged.pieces == {0: piece(0), 2: piece(2)}
    disk.close()
