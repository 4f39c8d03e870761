"""Pages and pointers: what tiles a version, what contradicts, and what is nonsense."""

import hashlib
import itertools
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.accounting import Cause
from swarm.errors import RemoteError
from swarm.metainfo import (
    MOST_PIECES,
    PAGE_CONTEXT,
    POINTER_CONTEXT,
    Metainfo,
    Page,
    Pointer,
    Signed,
    encode,
    open_page,
    open_pointer,
    piece_bytes_for,
    pieces_per_page,
)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PIECE = 16 * KIB
VERSION = bytes(range(16))
UNSIGNED = Signed(b"", b"", "origin")


def body_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def page_of(body: bytes, first_piece: int, offset: int, end: int, *, is_last: bool = False, **other: object) -> Page:
    """The page that covers body[offset:end]."""
    cut = [body[at : min(at + PIECE, end)] for at in range(offset, end, PIECE)]
    page = Page(
        version=VERSION,
        first_piece=first_piece,
        offset=offset,
        length=end - offset,
        piece_bytes=PIECE,
        digests=b"".join(hashlib.sha256(piece).digest() for piece in cut),
        size=end if is_last else None,
    )
    return msgspec.structs.replace(page, **other)


def cut_at(body: bytes, ends: list[int]) -> list[Page]:
    """Pages that end where `ends` say; the last states the size."""
    pages: list[Page] = []
    first = offset = 0
    for end in ends:
        page = page_of(body, first, offset, end, is_last=end == len(body))
        pages.append(page)
        first, offset = page.end_piece, end
    return pages


def joined(pages: list[Page], size: int | None = None) -> Metainfo:
    meta = Metainfo(VERSION, PIECE, size)
    for page in pages:
        meta.add(page, UNSIGNED)
    return meta


def spans(meta: Metainfo) -> list[tuple[int, int]]:
    assert meta.piece_count is not None
    return [meta.span(piece) for piece in range(meta.piece_count)]


def rejects(meta: Metainfo, page: Page) -> Cause:
    """The page is refused, and nothing is changed by it."""
    before = (meta.size, meta.piece_count, meta.known_pieces, list(meta.pages()))
    with pytest.raises(RemoteError) as caught:
        meta.add(page, UNSIGNED)
    assert (meta.size, meta.piece_count, meta.known_pieces, list(meta.pages())) == before
    return caught.value.cause


# --- piece sizes


@pytest.mark.parametrize(
    "size, piece_bytes",
    [
        (None, 16 * KIB),
        (0, 16 * KIB),
        (8 * MIB, 16 * KIB),  # 512 pieces
        (8 * MIB + 1, 32 * KIB),
        (16 * MIB, 32 * KIB),
        (16 * MIB + 1, 64 * KIB),
        (256 * MIB, 512 * KIB),
        (256 * MIB + 1, MIB),
        (512 * MIB + 1, MIB),  # it ends there
        (5 * GIB, MIB),
    ],
)
def test_pieces_double_until_an_object_has_at_most_512(size, piece_bytes):
    assert piece_bytes_for(size) == piece_bytes


@pytest.mark.parametrize("piece_bytes, count", [(16 * KIB, 64), (128 * KIB, 64), (256 * KIB, 32), (MIB, 8)])
def test_a_page_has_at_most_64_pieces_and_8_mib(piece_bytes, count):
    assert pieces_per_page(piece_bytes) == count


# --- spans


@pytest.mark.parametrize(
    "size, expected",
    [
        (0, []),
        (1, [(0, 1)]),
        (16384, [(0, 16384)]),
        (16385, [(0, 16384), (16384, 1)]),
        (40000, [(0, 16384), (16384, 16384), (32768, 7232)]),
    ],
)
def test_where_the_size_is_known_pieces_have_their_places_before_any_page_came(size, expected):
    assert spans(Metainfo(VERSION, PIECE, size)) == expected
    assert spans(joined(cut_at(body_of(size), [size]), size)) == expected


def test_the_pieces_of_a_huge_version_have_their_places_too():
    meta = Metainfo(VERSION, MIB, 5 * GIB - 1)
    assert meta.piece_count == 5120
    assert meta.span(5119) == (5119 * MIB, MIB - 1)
    assert meta.piece_at(5 * GIB - 2) == 5119
    with pytest.raises(KeyError):
        meta.span(5120)


def test_an_open_version_has_only_what_its_pages_cover_and_pages_may_end_short():
    body = body_of(60_000)
    first, second, last = cut_at(body, [20_000, 21_000, 60_000])
    meta = Metainfo(VERSION, PIECE, None)
    assert (meta.piece_count, meta.known_pieces) == (None, 0)
    with pytest.raises(KeyError):
        meta.span(0)
    meta.add(first, UNSIGNED)
    assert (meta.piece_count, meta.known_pieces) == (None, 2)
    assert meta.span(1) == (16384, 3616)
    with pytest.raises(KeyError):
        meta.piece_at(20_000)
    meta.add(second, UNSIGNED)
    meta.add(last, UNSIGNED)
    assert (meta.size, meta.piece_count) == (60_000, 6)
    assert spans(meta) == [(0, 16384), (16384, 3616), (20000, 1000), (21000, 16384), (37384, 16384), (53768, 6232)]
    assert [meta.piece_at(offset) for offset in (0, 16383, 16384, 19999, 20000, 20999, 21000, 59999)] == [
        0, 0, 1, 1, 2, 2, 3, 5,
    ]  # fmt: skip


def test_in_an_open_version_the_last_page_alone_does_not_say_where_others_lie():
    """Pages may have ended short: nothing may be guessed from the size."""
    last = cut_at(body_of(60_000), [20_000, 60_000])[1]
    meta = joined([last])
    assert (meta.size, meta.piece_count) == (60_000, 5)
    for unknown in (lambda: meta.span(0), lambda: meta.piece_at(0), lambda: meta.piece_at(19_999)):
        with pytest.raises(KeyError):
            unknown()
    assert meta.piece_at(20_000) == 2


def test_a_size_may_come_behind_all_pieces():
    """A body whose length nobody told may end on a piece's end: its last page has no pieces."""
    body = body_of(2 * PIECE)
    last = page_of(body, 2, 2 * PIECE, 2 * PIECE, is_last=True)
    meta = joined([page_of(body, 0, 0, 2 * PIECE)])
    assert meta.add(last, UNSIGNED)
    assert (meta.size, meta.piece_count) == (2 * PIECE, 2)
    assert not meta.add(last, UNSIGNED)
    assert [page.first_piece for page, _ in meta.pages()] == [0, 2]


@given(st.data())
def test_spans_tile_a_version_exactly_in_whatever_order_its_pages_come(data):
    size = data.draw(st.integers(1, 20 * PIECE))
    ends = sorted({*data.draw(st.lists(st.integers(1, size), max_size=6)), size})
    body = body_of(size)
    pages = data.draw(st.permutations(cut_at(body, ends)))
    meta = joined(pages)
    assert all(not meta.add(page, UNSIGNED) for page in pages)
    tiles = spans(meta)
    assert [offset for offset, _ in tiles] == list(itertools.accumulate([0, *(length for _, length in tiles)]))[:-1]
    assert sum(length for _, length in tiles) == size
    for piece, (offset, length) in enumerate(tiles):
        assert (meta.piece_at(offset), meta.piece_at(offset + length - 1)) == (piece, piece)
        meta.check(piece, body[offset : offset + length])


@given(st.data())
def test_runs_cut_otherwise_agree_as_long_as_their_pieces_do(data):
    """A foreign origin's body streamed twice is signed in other runs."""
    count = data.draw(st.integers(2, 12))
    body = body_of(count * PIECE - 100)
    ends = st.sets(st.integers(1, count - 1), max_size=4)
    twice = [
        page
        for inner in (data.draw(ends), data.draw(ends))
        for page in cut_at(body, [*sorted(end * PIECE for end in inner), len(body)])
    ]
    meta = joined(data.draw(st.permutations(twice)))
    assert spans(meta) == spans(Metainfo(VERSION, PIECE, len(body)))
    for piece in range(count):
        meta.check(piece, body[piece * PIECE : (piece + 1) * PIECE])
        name, signed = meta.signed_page_of(piece) or (None, None)
        assert signed is UNSIGNED
        assert name is not None
        assert name <= piece


# --- digests


def test_each_flipped_byte_is_noticed():
    body = bytearray(body_of(300))
    meta = joined(cut_at(bytes(body), [300]))
    meta.check(0, bytes(body))
    for at in range(300):
        body[at] ^= 0x40
        with pytest.raises(RemoteError) as caught:
            meta.check(0, bytes(body))
        assert caught.value.cause is Cause.DIGEST
        body[at] ^= 0x40


@pytest.mark.parametrize("change", [lambda body: body[:-1], lambda body: body + b"\0", lambda body: b""])
def test_a_piece_too_short_or_too_long_is_noticed(change):
    body = body_of(300)
    with pytest.raises(RemoteError, match="does not match"):
        joined(cut_at(body, [300])).check(0, change(body))


def test_a_piece_is_not_checked_before_its_page_came():
    meta = Metainfo(VERSION, PIECE, 300)
    assert not meta.has_digest(0)
    assert meta.signed_page_of(0) is None
    with pytest.raises(KeyError):
        meta.check(0, body_of(300))


# --- contradictions

BODY = body_of(5 * PIECE)


def test_a_known_page_is_no_news_and_no_contradiction():
    meta = joined([page_of(BODY, 0, 0, 2 * PIECE)], 5 * PIECE)
    assert not meta.add(page_of(BODY, 0, 0, 2 * PIECE), Signed(b"again", b"", "origin"))
    assert [signed for _, signed in meta.pages()] == [UNSIGNED]


def test_a_page_of_another_version_is_no_contradiction_but_misplaced():
    page = page_of(BODY, 0, 0, PIECE, version=b"another version!")
    assert rejects(Metainfo(VERSION, PIECE, None), page) is Cause.UNEXPECTED


OTHER_BODY = bytes(5 * PIECE)


@pytest.mark.parametrize(
    "page",
    [
        page_of(OTHER_BODY, 2, 2 * PIECE, 4 * PIECE),  # other digests
        page_of(OTHER_BODY, 1, PIECE, 3 * PIECE),  # the same from before
        page_of(OTHER_BODY, 3, 3 * PIECE, 5 * PIECE),  # and from within
        page_of(BODY, 2, 2 * PIECE, 3 * PIECE + 10),  # other ends
        page_of(BODY, 2, 3 * PIECE, 5 * PIECE),  # another place
        page_of(BODY, 0, 0, 3 * PIECE, piece_bytes=2 * PIECE),  # another cut
        page_of(BODY, 0, 0, 3 * PIECE, is_last=True),  # an end before a piece that is known
        page_of(BODY, 0, PIECE, 2 * PIECE),  # more pieces than bytes up to the next page
        page_of(BODY, 4, 4 * PIECE + 1, 5 * PIECE),  # a gap between neighbours
    ],
)
def test_a_page_that_contradicts_another_changes_nothing(page):
    meta = joined([page_of(BODY, 2, 2 * PIECE, 4 * PIECE)])
    assert rejects(meta, page) is Cause.SIGNATURE


@pytest.mark.parametrize(
    "page",
    [
        page_of(BODY, 4, 4 * PIECE, 5 * PIECE),  # beyond the end
        page_of(BODY, 0, 0, 3 * PIECE, is_last=True),  # another end
        page_of(BODY, 0, 0, PIECE - 1),  # would leave a gap
        page_of(BODY, 1, PIECE - 1, 3 * PIECE),
    ],
)
def test_a_page_that_contradicts_the_size_changes_nothing(page):
    meta = Metainfo(VERSION, PIECE, 4 * PIECE)
    if page.length == PIECE - 1:
        meta.add(page_of(BODY, 1, PIECE, 2 * PIECE), UNSIGNED)
    assert rejects(meta, page) is Cause.SIGNATURE


# --- what is signed and read


def trusting(context: bytes, signed: Signed) -> None:
    assert context in (PAGE_CONTEXT, POINTER_CONTEXT)


def signed(body: bytes) -> Signed:
    return Signed(body, b"", "origin")


POINTER = Pointer(
    site="default", path="/a.m4s", version=VERSION, status=200, headers=(("Content-Type", "a/b"), ("ETag", '"x"')),
    sequence=7, made=100.0, expires=103.5, born=90.0, size=300,
)  # fmt: skip
PAGE = page_of(body_of(300), 0, 0, 300, is_last=True)


def test_what_was_signed_is_read():
    assert open_pointer(signed(encode(POINTER)), trusting) == POINTER
    assert open_page(signed(encode(PAGE)), trusting) == PAGE
    assert POINTER.ttl_s == 3.5
    assert (POINTER.header("etag"), POINTER.header("age")) == ('"x"', None)


def test_nothing_is_read_before_its_signature_verified():
    def stranger(context: bytes, signed: Signed) -> None:
        raise RemoteError("a stranger", Cause.SIGNATURE)

    for opener in (open_pointer, open_page):
        with pytest.raises(RemoteError, match="a stranger"):
            opener(signed(b"\xc1 not even msgpack"), stranger)


def test_fields_of_a_later_release_are_ignored_and_a_later_format_is_refused():
    later = msgspec.msgpack.decode(encode(PAGE)) | {"merkle_root": b"x"}
    assert open_page(signed(msgspec.msgpack.encode(later)), trusting) == PAGE
    with pytest.raises(RemoteError, match="page of format 2; this edge reads 1"):
        open_page(signed(encode(msgspec.structs.replace(PAGE, format=2))), trusting)
    with pytest.raises(RemoteError, match="pointer of format 2; this edge reads 1"):
        open_pointer(signed(encode(msgspec.structs.replace(POINTER, format=2))), trusting)


@pytest.mark.parametrize(
    "change",
    [
        {"version": b"short"},
        {"piece_bytes": 0},
        {"piece_bytes": 16 * KIB - 1},
        {"piece_bytes": 2 * MIB},
        {"size": -1},
        {"size": MOST_PIECES * PIECE + 1},
        {"expires": float("nan")},
        {"made": float("inf")},
        {"born": float("-inf")},
        {"status": 99},
        {"status": 1000},
    ],
)
def test_a_pointer_that_makes_no_sense_is_refused(change):
    with pytest.raises(RemoteError):
        open_pointer(signed(encode(msgspec.structs.replace(POINTER, **change))), trusting)


@pytest.mark.parametrize(
    "change",
    [
        {"version": b"short"},
        {"piece_bytes": 0},
        {"piece_bytes": 2 * MIB},
        {"digests": b"x" * 31},
        {"digests": b"x" * 64},
        {"digests": b""},
        {"length": 0},
        {"length": -1},
        {"length": PIECE + 1},
        {"first_piece": -1},
        {"first_piece": MOST_PIECES},
        {"offset": -1, "size": None},
        {"offset": 1},  # then the size does not fit
        {"size": 299},
        {"digests": b"x" * 32 * 65, "length": 65 * PIECE, "size": None},
        {"digests": b"x" * 32 * 9, "length": 9 * MIB, "piece_bytes": MIB, "size": None},
    ],
)
def test_a_page_that_makes_no_sense_is_refused(change):
    with pytest.raises(RemoteError):
        open_page(signed(encode(msgspec.structs.replace(PAGE, **change))), trusting)


MUTATIONS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=4)


def mutated(body: bytes, changes: list[tuple[int, int]]) -> bytes:
    raw = bytearray(body)
    for at, value in changes:
        raw[at % len(raw)] = value
    return bytes(raw)


@given(st.one_of(st.binary(max_size=200), MUTATIONS.map(lambda changes: mutated(encode(POINTER), changes))))
def test_fuzz_a_pointer_or_remote_error_and_nothing_else(body):
    try:
        pointer = open_pointer(signed(body), trusting)
    except RemoteError:
        return
    assert isinstance(pointer.ttl_s, float)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.builds(mutated, st.sampled_from([encode(page) for page in cut_at(BODY, [20_000, 81_920])]), MUTATIONS),
        ),
        max_size=4,
    )
)
def test_fuzz_pages_that_join_or_remote_error_and_nothing_else(bodies):
    meta = Metainfo(VERSION, PIECE, None)
    for body in bodies:
        try:
            meta.add(open_page(signed(body), trusting), UNSIGNED)
        except RemoteError:
            continue
    for page, _ in meta.pages():
        for piece in range(page.first_piece, page.end_piece):
            offset, length = meta.span(piece)
            assert offset >= 0
            assert 0 < length <= PIECE
