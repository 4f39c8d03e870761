"""What edges ask an origin: pointers, pages and pieces, each verified as an edge would."""

import os

import aiohttp
import pytest

from daemon.asking import ASK_PATH, Asker
from daemon.peer_auth import SESSION_HEADER, WrongSecret
from swarm.accounting import Reason
from swarm.wire import ALL_BYTES, Ask, Why, encode_message
from tests.origin.running import answered, metric, running

pytestmark = pytest.mark.processes

KIB = 1 << 10


def put(origin, name: str, body: bytes) -> bytes:
    """Replaced as packagers and operators do: by rename."""
    partial = origin.media / f".{name}.new"
    partial.write_bytes(body)
    partial.replace(origin.media / name)
    return body


def ask(path: str, **changed) -> Ask:
    return Ask(site="default", path=path, **changed)


async def test_a_pointer_says_what_the_path_means(origin, asker):
    put(origin, "film.m4s", b"x" * 40 * KIB)
    got = await answered(origin, asker, ask("/film.m4s"))
    pointer = got.pointer
    assert (pointer.site, pointer.path, pointer.status, pointer.size) == ("default", "/film.m4s", 200, 40 * KIB)
    assert pointer.piece_bytes == 16 * KIB
    assert pointer.ttl_s == pytest.approx(3600)
    assert pointer.born == pytest.approx((origin.media / "film.m4s").stat().st_mtime, abs=0.001)
    assert pointer.header("content-type") == "video/iso.segment"
    assert pointer.header("content-length") == "40960"
    assert pointer.header("access-control-allow-origin") == "*"
    assert pointer.header("cache-control") == ("public, max-age=3600, stale-while-revalidate=60, stale-if-error=86400")
    assert got.order == []  # the body was not asked for


async def test_a_small_body_comes_behind_its_pointer_in_the_same_answer(origin, asker):
    body = put(origin, "small.json", b'{"a": 1}')
    got = await answered(origin, asker, ask("/small.json", inline_bytes=64 * KIB))
    assert (got.body, got.order) == (body, ["page 0", "piece 0"])


async def test_an_empty_file_has_a_pointer_and_no_pieces(origin, asker):
    put(origin, "empty.bin", b"")
    got = await answered(origin, asker, ask("/empty.bin", inline_bytes=ALL_BYTES))
    assert (got.pointer.size, got.order, got.refusals) == (0, [], [])


async def test_pieces_come_in_rising_order_each_page_once_before_the_first_it_covers(origin, asker):
    body = put(origin, "long.bin", os.urandom(130 * 16 * KIB + 5))
    pointer = (await answered(origin, asker, ask("/long.bin"))).pointer
    want = ((0, 1), (65, 66), (127, 131))
    got = await answered(origin, asker, ask("/long.bin", version=pointer.version, want=want), pointer)
    assert got.order == [
        *("page 0", "piece 0", "page 64", "piece 65", "piece 127", "page 128", "piece 128", "piece 129", "piece 130")
    ]
    assert got.pieces[130] == body[130 * 16 * KIB :]
    assert got.pieces[65] == body[65 * 16 * KIB : 66 * 16 * KIB]


async def test_onward_asks_for_all_from_one_piece_on(origin, asker):
    put(origin, "onward.bin", os.urandom(5 * 16 * KIB))
    pointer = (await answered(origin, asker, ask("/onward.bin"))).pointer
    got = await answered(origin, asker, ask("/onward.bin", version=pointer.version, onward=3), pointer)
    assert sorted(got.pieces) == [3, 4]


async def test_pieces_that_do_not_exist_are_refused_and_the_others_sent(origin, asker):
    put(origin, "two.bin", os.urandom(2 * 16 * KIB))
    pointer = (await answered(origin, asker, ask("/two.bin"))).pointer
    got = await answered(origin, asker, ask("/two.bin", version=pointer.version, want=((1, 4),)), pointer)
    assert sorted(got.pieces) == [1]
    assert [(one.why, one.want) for one in got.refusals] == [(Why.UNKNOWN, ((2, 4),))]


async def test_a_large_body_arrives_whole(origin, asker):
    body = put(origin, "large.bin", os.urandom(20 << 20))
    got = await answered(origin, asker, ask("/large.bin", inline_bytes=ALL_BYTES))
    assert got.body == body
    assert got.pointer.piece_bytes == 64 * KIB
    assert len(got.pages) == 5


async def test_a_replaced_file_is_another_version_and_the_old_one_is_refused(origin, asker):
    put(origin, "swap.bin", b"a" * 100)
    old = (await answered(origin, asker, ask("/swap.bin"))).pointer
    put(origin, "swap.bin", b"b" * 101)
    new = await answered(origin, asker, ask("/swap.bin", inline_bytes=ALL_BYTES, known_sequence=old.sequence))
    assert new.body == b"b" * 101
    assert new.pointer.version != old.version
    assert new.pointer.sequence > old.sequence
    got = await answered(origin, asker, ask("/swap.bin", version=old.version, want=((0, 1),)), old)
    assert [(one.why, one.want) for one in got.refusals] == [(Why.UNKNOWN, ((0, 1),))]
    assert "changed" in got.refusals[0].detail


async def test_who_has_the_pointer_is_told_that_nothing_changed(origin, asker):
    put(origin, "same.bin", b"same")
    known = (await answered(origin, asker, ask("/same.bin"))).pointer
    got = await answered(origin, asker, ask("/same.bin", known_sequence=known.sequence, inline_bytes=ALL_BYTES))
    assert (got.unchanged, got.said, got.order) == (True, None, [])
    assert 0 <= got.age_ms < 60_000


async def test_a_sequence_a_replica_gave_is_outbid(origin, asker):
    put(origin, "replica.bin", b"same")
    known = (await answered(origin, asker, ask("/replica.bin"))).pointer
    ahead = known.sequence + 100_000
    got = await answered(origin, asker, ask("/replica.bin", known_sequence=ahead))
    assert got.pointer.sequence > ahead


async def test_what_is_absent_is_a_short_lived_signed_404(origin, asker):
    got = await answered(origin, asker, ask("/none.m4s", inline_bytes=ALL_BYTES))
    assert (got.pointer.status, got.pointer.version) == (404, None)
    assert got.pointer.ttl_s == pytest.approx(1.0)
    put(origin, "none.m4s", b"now it is")
    later = await answered(origin, asker, ask("/none.m4s", inline_bytes=ALL_BYTES))
    assert (later.pointer.status, later.body) == (200, b"now it is")
    assert later.pointer.sequence > got.pointer.sequence


@pytest.mark.parametrize("path", ["/..%2f..%2fetc/passwd", "/../etc/passwd", "/a%00b", "/%zz", "relative", ""])
async def test_a_path_that_can_name_nothing_is_a_bad_request(origin, http, path):
    async with http.post(origin.base + ASK_PATH, data=encode_message(ask(path))) as response:
        assert response.status == 400


async def test_nonsense_is_a_bad_request(origin, http):
    for body, status in ((b"", 400), (b"\xff" * 100, 400), (b"\x81" * 300_000, 413)):
        async with http.post(origin.base + ASK_PATH, data=body) as response:
            assert response.status == status


async def test_a_stranger_is_served_too_and_a_false_session_is_not(origin, stranger, http):
    put(origin, "public.bin", b"public")
    assert (await answered(origin, stranger, ask("/public.bin", inline_bytes=ALL_BYTES))).body == b"public"
    body = encode_message(ask("/public.bin"))
    async with http.post(origin.base + ASK_PATH, data=body, headers={SESSION_HEADER: "made.1.up"}) as response:
        assert response.status == 401


async def test_a_wrong_secret_is_found_out_by_the_asker(origin):
    asker = Asker("edge-x", (b"wrong" * 8,))
    with pytest.raises(WrongSecret):
        await answered(origin, asker, ask("/public.bin"))
    await asker.close()


async def test_the_ledger_counts_bodies_by_proven_name_and_reason(origin, asker, stranger, http):
    body = put(origin, "counted.bin", os.urandom(3 * 16 * KIB + 1))
    before = await scrape(origin, http)
    question = ask("/counted.bin", inline_bytes=ALL_BYTES, reason=Reason.PREFETCH)
    await answered(origin, asker, question)
    await answered(origin, stranger, question)
    after = await scrape(origin, http)

    def grown(name: str, **labels: str) -> float:
        return metric(after, name, **labels) - metric(before, name, **labels)

    sent = "starling_origin_sent_bytes_total"
    assert grown(sent, edge="edge-a", reason="prefetch") == len(body)
    assert grown(sent, edge="direct", reason="prefetch") == len(body)
    assert grown(sent) == 2 * len(body)
    assert grown("starling_origin_distinct_bytes_total") == len(body)
    assert grown("starling_origin_answers_total", reason="prefetch") == 2
    assert grown("starling_control_bytes_total", kind="pointer") > 500
    assert 2 * 128 < grown("starling_control_bytes_total", kind="metainfo") < 1000


async def scrape(origin, http: aiohttp.ClientSession) -> str:
    async with http.get(f"http://{origin.admin}/metrics") as response:
        return await response.text()


async def test_a_file_rewritten_in_place_is_never_sent_as_the_old_version(tmp_path):
    with running(tmp_path) as origin:
        asker = Asker("edge-a", origin.secrets())
        file = origin.media / "in-place.bin"
        file.write_bytes(b"a" * 40_000)
        old = (await answered(origin, asker, ask("/in-place.bin"))).pointer
        with file.open("r+b") as writing:
            writing.write(b"b" * 40_000)
        os.utime(file, (1, 1))
        got = await answered(origin, asker, ask("/in-place.bin", version=old.version, want=((0, 3),)), old)
        assert got.pieces == {}
        assert got.refusals[0].why is Why.UNKNOWN
        await asker.close()
