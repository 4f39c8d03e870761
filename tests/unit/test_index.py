"""The index of the disk tier: rows that are found, evicted and read back, however torn their file is."""

from pathlib import Path as FilePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import index as module
from edge.index import Index, IndexFile, Kept, Row, number_of
from swarm.names import Path

WEIGHT = 10


def path_of(number: int) -> Path:
    return Path("default", f"/{number}", "")


def version_of(number: int) -> bytes:
    return bytes([number]) * 16


def kept(row: int, number: int, path: int = -1, weight: int = WEIGHT, written_at: int = 0) -> Kept:
    return Kept(row, version_of(number), number_of(path_of(number if path < 0 else path)), weight, written_at)


@pytest.fixture
def file(tmp_path: FilePath):
    file = IndexFile(tmp_path / "index")
    file.open()
    yield file
    file.close()


def reread(file: IndexFile, capacity_bytes: int = 1000) -> Index:
    index = Index(capacity_bytes)
    index.load(*file.read())
    return index


def admitted(index: Index, path: Path, version: bytes, weight: int = WEIGHT) -> int:
    """The row of a version that there is room for."""
    row, _ = index.admit(path, version, weight)
    assert row is not None
    return row


# --- in memory


def test_a_version_is_found_by_its_path_until_it_is_removed():
    index = Index(1000)
    row = admitted(index, path_of(1), version_of(1))
    assert index.find(path_of(1), version_of(1)) == row
    assert (index.versions(path_of(1)), index.versions(path_of(2))) == ([version_of(1)], [])
    assert index.remove(row) == Row(row, version_of(1), WEIGHT)
    assert (index.find(path_of(1), version_of(1)), len(index), index.used_bytes) == (None, 0, 0)


def test_a_path_may_have_many_versions_and_lose_any_of_them():
    index = Index(1000)
    rows = [admitted(index, path_of(1), version_of(number)) for number in range(4)]
    for gone in (1, 3, 0, 2):
        index.remove(rows[gone])
        assert version_of(gone) not in index.versions(path_of(1))
    assert index.versions(path_of(1)) == []


def test_what_there_is_no_room_for_is_not_in_and_what_grew_too_heavy_leaves():
    index = Index(100)
    assert index.admit(path_of(1), version_of(1), 101) == (None, [])
    row = admitted(index, path_of(1), version_of(1), 60)
    assert index.admit(path_of(1), version_of(1), 101) == (None, [Row(row, version_of(1), 60)])
    assert (len(index), index.used_bytes, index.versions(path_of(1))) == (0, 0, [])


def test_what_is_expired_goes_first_and_a_smaller_index_lets_go():
    index = Index(100)
    rows = [admitted(index, path_of(number), version_of(number), 30) for number in range(3)]
    index.expire(rows[1])
    _, evicted = index.admit(path_of(9), version_of(9), 30)
    assert evicted == [Row(rows[1], version_of(1), 30)]
    assert len(index.resize(30)) == 2
    assert index.used_bytes == 30


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20), st.sampled_from(["admit", "remove"])), max_size=60))
def test_any_sequence_leaves_rows_found_and_sums_right(steps):
    index = Index(200)
    there: dict[tuple[int, int], int] = {}
    for path, number, step in steps:
        row = index.find(path_of(path), version_of(number))
        assert (row is not None) == ((path, number) in there)
        if step == "remove":
            if row is not None:
                del there[path, number]
                index.remove(row)
            continue
        row, evicted = index.admit(path_of(path), version_of(number), 5 + number)
        assert row is not None
        there[path, number] = row
        gone = {left.number for left in evicted}
        there = {key: at for key, at in there.items() if at not in gone or at == row}
    assert index.used_bytes == sum(5 + number for _, number in there)
    for path in range(6):
        assert set(index.versions(path_of(path))) == {version_of(n) for p, n in there if p == path}


# --- on disk


def test_rows_are_read_back_in_the_order_in_which_they_were_written(file):
    for row, (number, written_at) in enumerate([(1, 30), (2, 10), (3, 20)]):
        file.write(kept(row, number, written_at=written_at))
    file.write(kept(5, 4, path=1, written_at=40))
    file.erase(1)
    index = reread(file)
    assert (len(index), index.used_bytes) == (3, 30)
    assert set(index.versions(path_of(1))) == {version_of(1), version_of(4)}
    assert index.find(path_of(2), version_of(2)) is None
    assert [row.version for row in index.resize(10)] == [version_of(3), version_of(1)]


def test_rows_that_are_free_are_taken_again_and_no_other(file):
    for row in (0, 1, 3):
        file.write(kept(row, row))
    index = reread(file)
    taken = [index.admit(path_of(number), version_of(number), WEIGHT)[0] for number in (7, 8)]
    assert taken[0] == 2
    assert taken[1] == 4


def test_wherever_a_row_is_rotten_it_is_left_out_and_the_others_stand(file, tmp_path):
    for row in range(3):
        file.write(kept(row, row + 1))
    whole = (tmp_path / "index").read_bytes()
    for at in range(48, len(whole)):
        rotten = bytearray(whole)
        rotten[at] ^= 0x04
        (tmp_path / "index").write_bytes(rotten)
        file.open()
        index = reread(file)
        assert len(index) == 2
        assert file.may_lack_rows
        assert version_of((at - 48) // 48 + 1) not in index.versions(path_of((at - 48) // 48 + 1))


def test_wherever_the_file_ends_the_rows_before_stand(file, tmp_path):
    for row in range(3):
        file.write(kept(row, row + 1))
    whole = (tmp_path / "index").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "index").write_bytes(whole[:size])
        file.open()
        assert len(reread(file)) == max(0, size // 48 - 1)


def test_an_index_lacks_no_rows_after_a_kill_but_may_after_a_crash_of_the_machine(file, tmp_path, monkeypatch):
    assert file.may_lack_rows, "a new one: there may be files of before"
    file.note_whole(True)
    file.open()
    assert not file.may_lack_rows
    monkeypatch.setattr(module, "_BOOT_ID", tmp_path / "boot")
    (tmp_path / "boot").write_text("00000000-0000-0000-0000-000000000001\n")
    file.open()
    assert file.may_lack_rows
    file.open()
    assert file.may_lack_rows, "until somebody has looked"


def test_what_is_no_index_is_begun_anew(tmp_path):
    (tmp_path / "index").write_bytes(b"something else" * 100)
    file = IndexFile(tmp_path / "index")
    file.open()
    assert len(reread(file)) == 0
    assert file.may_lack_rows
    file.close()


def test_whether_the_open_file_is_still_there(file, tmp_path):
    assert file.is_open()
    (tmp_path / "index").unlink()
    assert not file.is_open()
    file.open()
    assert file.is_open()
