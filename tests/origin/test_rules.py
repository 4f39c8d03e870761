"""The origin's own rules, worked through without a process: lifetimes, sequences, held playlists, batches, digests."""

import asyncio
import os

import pytest

from origin.ask_http import Batch, batches
from origin.describing import content_type, describe
from origin.digests import Digests, load, page_bytes
from origin.disk import Disk, FileChanged, OpenFile, Tree
from origin.held_playlists import Held, HeldPlaylists, promised_paths
from origin.ingest_http import is_loopback
from origin.sequences import MOST_LEAD, RESERVED, Sequences, read_ceiling, write_ceiling
from swarm.errors import RemoteError
from swarm.pieces import of_span

KIB, MIB = 1 << 10, 1 << 20
LIVE = b"#EXTM3U\n#EXT-X-TARGETDURATION:%d\n#EXTINF:4,\na.ts\n"
ENDED = LIVE % 4 + b"#EXT-X-ENDLIST\n"
MULTIVARIANT = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n"
DAY = "stale-if-error=86400"


@pytest.mark.parametrize(
    "name, text, ingested, fresh_s, cache_control",
    [
        ("seg.m4s", None, False, 3600, f"public, max-age=3600, stale-while-revalidate=60, {DAY}"),
        ("seg.m4s", None, True, 60, f"public, max-age=60, {DAY}"),
        ("subs.vtt", None, False, 3600, f"public, max-age=3600, stale-while-revalidate=60, {DAY}"),
        ("page.html", None, False, 60, f"public, max-age=60, {DAY}"),
        ("data.json", None, False, 60, f"public, max-age=60, {DAY}"),
        ("live.m3u8", LIVE % 4, True, 2.0, "public, max-age=2, stale-if-error=12"),
        ("live.m3u8", LIVE % 1, True, 0.5, "public, max-age=1, stale-if-error=6"),
        ("film.m3u8", ENDED, False, 30, f"public, max-age=30, {DAY}"),
        ("master.m3u8", MULTIVARIANT, False, 30, f"public, max-age=30, {DAY}"),
        ("broken.m3u8", b"no playlist", False, 60, f"public, max-age=60, {DAY}"),
        ("broken.m3u8", b"\xff", False, 60, f"public, max-age=60, {DAY}"),
    ],
)
def test_how_long_a_copy_may_be_used(name, text, ingested, fresh_s, cache_control):
    lifetime = describe(name, text, ingested=ingested).lifetime
    assert (lifetime.fresh_s, lifetime.cache_control) == (fresh_s, cache_control)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("a.m3u8", "application/vnd.apple.mpegurl"),
        ("A.M3U8", "application/vnd.apple.mpegurl"),
        ("a.m4s", "video/iso.segment"),
        ("a.mp4", "video/mp4"),
        ("a.ts", "video/mp2t"),
        ("a.vtt", "text/vtt"),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("noext", "application/octet-stream"),
        ("a.", "application/octet-stream"),
    ],
)
def test_content_types(name, expected):
    assert content_type(name) == expected


def test_sequences_follow_the_wall_clock_and_never_fall():
    clock = iter([10.0, 10.0, 9.0, 20.0])
    sequences = Sequences(lambda: next(clock))
    assert [sequences.next() for _ in range(4)] == [10_000, 10_001, 10_002, 20_000]


@pytest.mark.parametrize(
    "after, expected", [(0, 10_000), (15_000, 15_001), (10_000 + MOST_LEAD - 1, 10_000 + MOST_LEAD), (1 << 62, 10_000)]
)
def test_a_replica_is_outbid_only_within_an_hour(after, expected):
    assert Sequences(lambda: 10.0).next(after) == expected


def test_after_a_restart_numbers_go_on_above_the_ceiling(tmp_path):
    file = tmp_path / "sequence"
    first = Sequences(lambda: 10.0)
    write_ceiling(file, first.ceiling())
    last = max(first.next() for _ in range(100))
    again = Sequences(lambda: 5.0, read_ceiling(file))
    assert again.next() == 10_000 + RESERVED + 1 > last


def test_an_unreadable_ceiling_is_no_obstacle(tmp_path):
    assert read_ceiling(tmp_path / "none") == 0
    (tmp_path / "sequence").write_text("not a number")
    assert read_ceiling(tmp_path / "sequence") == 0


@pytest.mark.parametrize(
    "uri, promised",
    [
        ("seg.ts", {"/live/a/seg.ts"}),
        ("../b/seg.ts?x=1", {"/live/b/seg.ts"}),
        ("/live/seg.ts", {"/live/seg.ts"}),
        ("%73eg.ts", {"/live/a/seg.ts"}),
        ("/film/seg.ts", set()),
        ("http://cdn.example/live/seg.ts", set()),
        ("//cdn.example/live/seg.ts", set()),
        ("../../../../etc/passwd", set()),
        ("index.m3u8", set()),
    ],
)
def test_what_a_playlist_promises_below_the_prefix(uri, promised):
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{uri}\n"
    assert promised_paths("/live/a/index.m3u8", text, "/live/") == promised


def test_what_is_no_playlist_promises_nothing():
    with pytest.raises(RemoteError):
        promised_paths("/live/index.m3u8", "hello", "/live/")


def test_only_the_newest_playlist_of_a_path_is_held(tmp_path):
    held = HeldPlaylists()
    old = Held("/live/i.m3u8", tmp_path / "old", frozenset({"/live/1.ts"}))
    new = Held("/live/i.m3u8", tmp_path / "new", frozenset({"/live/1.ts", "/live/2.ts"}))
    assert held.hold(old) is None
    assert held.hold(new) is old
    assert held.waiting_for("/live/2.ts") == [new]
    assert held.waiting_for("/live/3.ts") == []
    assert held.drop("/live/i.m3u8") is new
    assert len(held) == 0


def test_batches_never_cross_a_page_and_hold_at_most_a_mebibyte():
    size = 200 * 16 * KIB  # pages of 64 pieces of 16 KiB
    assert list(batches(of_span(60, 70) | of_span(199, 200), size)) == [
        Batch(0, 60, 64),
        Batch(1, 64, 70),
        Batch(3, 199, 200),
    ]
    large = 600 * MIB  # pages of 8 pieces of 1 MiB
    assert list(batches(of_span(0, 3), large)) == [Batch(0, 0, 1), Batch(0, 1, 2), Batch(0, 2, 3)]


@pytest.mark.parametrize(
    "size, expected", [(1, MIB), (8 * MIB, MIB), (16 * MIB, 2 * MIB), (64 * MIB, 8 * MIB), (5 << 30, 8 * MIB)]
)
def test_a_page_covers_at_most_64_pieces_and_8_mib(size, expected):
    assert page_bytes(size) == expected


@pytest.mark.parametrize(
    "host, expected",
    [
        *[("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True)],
        *[("10.0.0.1", False), ("::ffff:10.0.0.1", False), ("fe80::1", False), ("", False), (None, False)],
    ],
)
def test_who_is_on_this_machine(host, expected):
    assert is_loopback(host) is expected


@pytest.fixture
def disk():
    made = Disk()
    yield made
    made.close()


def opened(directory, disk) -> OpenFile:
    file = Tree(directory, disk).open_now(["f"])
    assert file is not None
    return file


async def digest_all(directory, disk, file) -> Digests:
    digests = Digests(directory, disk)
    for number in range(-(-file.size // page_bytes(file.size))):
        await digests.page(file, number)
    return digests


async def test_a_page_that_many_ask_for_at_once_is_hashed_once(tmp_path, disk):
    (tmp_path / "f").write_bytes(os.urandom(3 * MIB))
    file = opened(tmp_path, disk)
    digests = Digests(None, disk)
    pages = await asyncio.gather(*(digests.page(file, 1) for _ in range(20)))
    assert len(set(pages)) == 1
    assert digests.hashed_bytes == MIB
    file.close()


@pytest.mark.parametrize("harm", ["torn", "flipped", "another version", "nonsense"])
async def test_kept_digests_are_believed_only_as_far_as_they_are_whole(tmp_path, disk, harm):
    (tmp_path / "kept").mkdir()
    (tmp_path / "f").write_bytes(os.urandom(3 * MIB))
    file = opened(tmp_path, disk)
    await digest_all(tmp_path / "kept", disk, file)
    (kept,) = (tmp_path / "kept").iterdir()
    whole = kept.read_bytes()
    assert sorted(load(kept, file.identity)) == [0, 1, 2]
    harmed = {
        "torn": whole[:-1],
        "flipped": whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:],
        "another version": whole.replace(b"/f\0", b"/g\0"),
        "nonsense": b"hello",
    }[harm]
    kept.write_bytes(harmed)
    believed = sorted(load(kept, file.identity))
    assert believed == ([0, 1] if harm in ("torn", "flipped") else [])
    again = await digest_all(tmp_path / "kept", disk, file)
    assert again.hashed_bytes == (3 - len(believed)) * MIB
    assert kept.read_bytes() == whole
    file.close()


async def test_a_file_that_changed_is_not_read_as_what_it_was(tmp_path, disk):
    (tmp_path / "f").write_bytes(b"a" * 100)
    file = opened(tmp_path, disk)
    (tmp_path / "f").write_bytes(b"b" * 99)
    with pytest.raises(FileChanged):
        await file.read(0, 50)
    file.close()


async def test_a_file_stays_open_until_its_last_reader_is_done(tmp_path, disk):
    (tmp_path / "f").write_bytes(b"a" * 100)
    file = opened(tmp_path, disk)
    reading = [file.read(0, 100) for _ in range(50)]
    file.close()
    assert set(await asyncio.gather(*reading)) == {b"a" * 100}
