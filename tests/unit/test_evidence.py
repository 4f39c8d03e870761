"""Statements of what was sent, evidence that they were lies, and bans: honest edges are never among the banned."""

import hashlib
import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.keys import Signer, verify
from daemon.vouching import Vouching
from swarm.errors import RemoteError
from swarm.evidence import (
    CLOCK_SLACK_S,
    FIRST_BAN_S,
    LONGEST_BAN_S,
    MOST_ACCUSATION_BYTES,
    MOST_STATED,
    STATEMENT_CONTEXT,
    Accusation,
    AttestedWrong,
    BanBook,
    Heard,
    PieceSent,
    SentWrong,
    Stating,
    ban_s,
    check_attested,
    check_sent,
    contradicts_itself,
    encode,
    page_id,
    read_accusation,
)
from swarm.metainfo import PAGE_CONTEXT, POINTER_CONTEXT, Metainfo, Page, Pointer, Signed
from swarm.metainfo import encode as encode_meta

ORIGIN, OLD_KEY = Signer.throwaway("origin"), Signer.throwaway("origin, before its key was rotated")
LIAR, HONEST, OTHER = Signer.throwaway("liar"), Signer.throwaway("honest"), Signer.throwaway("other")
VERSION = b"v" * 16
PIECE = 16384
NOW = 1_000_000.0


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def page_of(*bodies: bytes, first: int = 0, version: bytes = VERSION) -> Page:
    """Pieces are told apart by what stands for their bodies; a page does not care how long those are."""
    return Page(
        version=version, first_piece=first, offset=first * PIECE, length=len(bodies) * PIECE, piece_bytes=PIECE,
        digests=b"".join(map(sha256, bodies)),
    )  # fmt: skip


def signed(page: Page, by: Signer = ORIGIN) -> Signed:
    return by.sign(PAGE_CONTEXT, encode_meta(page))


def stated(page: Signed, *sent: tuple[int, bytes], by: Signer = LIAR, version: bytes = VERSION) -> Signed:
    """What an edge signs that sent these pieces under that page."""
    stating = Stating()
    for piece, body in sent:
        stating.on_sent(version, piece, sha256(body), page, PIECE, NOW)
    said = stating.statement(NOW)
    assert said is not None
    return by.sign(STATEMENT_CONTEXT, said)


def case_of(page: Signed, *got: tuple[int, bytes], statement: Signed) -> SentWrong | None:
    """What an edge makes of it that received these pieces behind that page, and then the statement."""
    heard = Heard()
    heard.on_page(page)
    for piece, body in got:
        heard.on_piece(piece, sha256(body))
    return heard.on_signed(statement)


def accused(case: SentWrong | AttestedWrong, who: Signer = LIAR, at: float = NOW) -> Accusation:
    return Accusation(node=who.name, key=who.public, at=at, evidence=case)


PAGE = signed(page_of(b"a", b"b", b"c"))


# --- lies


@pytest.mark.parametrize(
    "sent",
    [
        [(0, b"a"), (1, b"B"), (2, b"c")],  # flipped
        [(0, b"a"), (1, b"")],  # truncated
        [(0, b"b"), (1, b"a")],  # swapped
        [(2, b"C")],
    ],
)
def test_who_signs_for_other_bytes_than_the_page_it_sent_says_is_a_liar_for_all_to_see(sent):
    case = case_of(PAGE, *sent, statement=stated(PAGE, *sent))
    assert case is not None
    said = read_accusation(encode(accused(case)))
    check_sent(said, verify)
    assert BanBook().take(said, NOW) is not None


def test_old_metainfo_sent_for_a_changed_path_contradicts_the_version_it_is_stated_of():
    old = signed(page_of(b"a", b"b", version=b"o" * 16))
    case = case_of(old, (0, b"a"), statement=stated(old, (0, b"a"), version=b"n" * 16))
    assert case is not None
    check_sent(accused(case), verify)


def test_the_largest_accusation_fits_in_a_message():
    page = signed(page_of(*[b"x"] * 64))
    sent = [(2**20 - 64 + piece % 64, b"y") for piece in range(MOST_STATED - 1)] + [(0, b"y")]
    case = case_of(page, *sent, statement=stated(page, *sent))
    assert case is not None
    assert len(encode(accused(case))) <= MOST_ACCUSATION_BYTES - 200


# --- broken links, not lies


@pytest.mark.parametrize(
    "got",
    [
        [(0, b"a"), (1, b"B")],  # flipped on the way
        [(0, b"a")],  # lost
        [(1, b"b"), (0, b"a")],
        [(0, b"a"), (1, b"b"), (2, b"c")],
        [],
    ],
)
def test_what_the_sender_did_not_sign_for_is_no_evidence(got):
    assert case_of(PAGE, *got, statement=stated(PAGE, (0, b"a"), (1, b"b"))) is None


def test_a_liar_that_signs_for_what_it_should_have_sent_is_a_broken_link():
    assert case_of(PAGE, (0, b"A"), statement=stated(PAGE, (0, b"a"))) is None


def test_nobody_is_held_to_a_page_it_did_not_name():
    theirs = signed(page_of(b"other", b"bytes"))
    assert case_of(theirs, (0, b"a"), statement=stated(PAGE, (0, b"a"))) is None


def test_what_came_unlooked_at_leaves_its_statement_unchecked_and_the_next_one_not():
    heard = Heard()
    heard.on_page(PAGE)
    heard.on_piece(0, None)
    assert heard.on_signed(stated(PAGE, (0, b"A"))) is None
    heard.on_piece(1, sha256(b"B"))
    assert heard.on_signed(stated(PAGE, (1, b"B"))) is not None


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x80", msgspec.msgpack.encode({"version": 1})])
def test_a_statement_that_is_nonsense_is_no_evidence(body):
    assert case_of(PAGE, (0, b"A"), statement=LIAR.sign(STATEMENT_CONTEXT, body)) is None


# --- accusers who lie


def good_case() -> SentWrong:
    case = case_of(PAGE, (0, b"A"), statement=stated(PAGE, (0, b"A")))
    assert case is not None
    return case


FORGED_PAGE = encode_meta(page_of(b"Z"))


@pytest.mark.parametrize(
    "change",
    [
        lambda said: msgspec.structs.replace(said, key=HONEST.public),
        lambda said: msgspec.structs.replace(said, key=HONEST.public, node="honest"),
        lambda said: msgspec.structs.replace(said, node="honest"),
        lambda said: msgspec.structs.replace(said, at=said.at + CLOCK_SLACK_S + 1),
        lambda said: with_case(said, page=FORGED_PAGE),
        lambda said: with_case(said, sent=((0, sha256(b"Z")),)),
        lambda said: with_case(said, sent=()),
        lambda said: with_case(said, sent=((0, b"short"),)),
        lambda said: with_case(said, sent=((-1, sha256(b"A")),)),
        lambda said: with_case(said, statement=HONEST.sign(STATEMENT_CONTEXT, good_case().statement.body)),
        lambda said: with_case(said, statement=LIAR.sign(PAGE_CONTEXT, good_case().statement.body)),
        lambda said: with_case(said, statement=stated(PAGE, (0, b"a")), sent=((0, sha256(b"a")),)),
    ],
)
def test_an_accusation_that_does_not_hold_by_itself_is_refused(change):
    said = accused(good_case())
    check_sent(said, verify)
    with pytest.raises(RemoteError):
        check_sent(change(said), verify)


def with_case(said: Accusation, **changes: object) -> Accusation:
    return msgspec.structs.replace(said, evidence=msgspec.structs.replace(said.evidence, **changes))


@given(st.binary(max_size=400))
def test_any_bytes_are_an_accusation_or_a_remote_error(body):
    try:
        said = read_accusation(body)
        check_sent(said, verify) if isinstance(said.evidence, SentWrong) else check_attested(said, verify)
    except RemoteError:
        pass


# --- the honest


BODIES = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=3, max_size=3)
STREAMS = st.lists(
    st.tuples(
        st.integers(0, 3),  # which publication of the path the sender got hold of
        st.booleans(),  # under the origin's present key or the one before
        st.lists(st.integers(0, 2), max_size=6),  # the pieces it sent
        st.integers(0, 6),  # after so many the stream broke off, or the sender restarted
    ),
    min_size=1,
    max_size=4,
)


@given(
    publications=st.lists(BODIES, min_size=4, max_size=4), streams=STREAMS, same_version=st.booleans(), data=st.data()
)
def test_whatever_origin_network_and_accuser_do_an_honest_sender_never_contradicts_itself(
    publications, streams, same_version, data
):
    """The origin publishes the path again and again, even other bytes under the same version, and rotates its key; the
    accuser puts statements, pages and digests together as it likes."""
    pages: list[bytes] = []
    statements: list[Signed] = []
    windows: list[tuple[PieceSent, ...]] = [()]
    for number, is_new_key, pieces, broke_after in streams:
        version = VERSION if same_version else bytes([number]) * 16
        page = signed(page_of(*publications[number], version=version), ORIGIN if is_new_key else OLD_KEY)
        meta = Metainfo(version, PIECE, None)
        meta.add(page_of(*publications[number], version=version), page)
        vouching = Vouching(HONEST, lambda: NOW)
        for piece in pieces:
            vouching.on_sent(meta, piece)
        sent = tuple((piece, meta.digest_of(piece)) for piece in pieces)
        pages.append(page.body)
        windows += [sent, sent[:broke_after], sent[::-1]]
        if (statement := vouching.statement()) is not None:
            statements.append(statement)
    flipped = [tuple((piece, sha256(digest)) for piece, digest in sent) for sent in windows]
    made_up = data.draw(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([sha256(b"a"), sha256(b"z")]))))
    for statement, sent, page in itertools.product(statements, [*windows, *flipped, tuple(made_up)], pages):
        case = SentWrong(statement=statement, sent=sent, page=page)
        assert not contradicts_itself(case)
        with pytest.raises(RemoteError):
            check_sent(accused(case, HONEST), verify)


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([b"a", b"b", b"c", b"x"])), min_size=1, max_size=8))
def test_an_edge_that_signs_for_what_it_sends_is_found_out_exactly_when_that_is_wrong(sent):
    is_wrong = any(body != (b"a", b"b", b"c")[piece] for piece, body in sent)
    assert (case_of(PAGE, *sent, statement=stated(PAGE, *sent)) is not None) == is_wrong


# --- how often is signed


def test_a_statement_is_due_each_mebibyte_each_quarter_of_a_second_and_at_the_end():
    stating, mib = Stating(), 1 << 20
    assert not stating.on_sent(VERSION, 0, b"", PAGE, mib - 1, 10.0)
    assert stating.on_sent(VERSION, 1, b"", PAGE, 1, 10.0)
    assert stating.statement(NOW) is not None
    assert stating.statement(NOW) is None
    assert not stating.on_sent(VERSION, 2, b"", PAGE, 1, 20.0)
    assert not stating.on_sent(VERSION, 0, b"", PAGE, 1, 20.2)
    assert stating.on_sent(VERSION, 1, b"", PAGE, 1, 20.25)
    assert stating.statement(NOW) is not None
    for _ in range(MOST_STATED - 1):
        assert not stating.on_sent(VERSION, 0, b"", PAGE, 1, 30.0)
    assert stating.on_sent(VERSION, 0, b"", PAGE, 1, 30.0)


def test_a_statement_of_a_mebibyte_costs_under_a_thousandth_of_it():
    page = signed(page_of(*[b"x"] * 64))
    statement = stated(page, *[(piece, b"x") for piece in range(64)])
    assert len(msgspec.msgpack.encode(statement)) < 300


# --- what a home attested


def attested(by: Signer = LIAR, body: bytes = b"A", **changes: object) -> AttestedWrong:
    pointer = Pointer(
        site="default", path="/a", version=VERSION, status=200, headers=(("ETag", '"1"'),), sequence=1,
        made=NOW, expires=NOW + 60, born=NOW - 60, size=PIECE,
    )  # fmt: skip
    case = AttestedWrong(
        pointer=by.sign(POINTER_CONTEXT, encode_meta(pointer)), page=signed(page_of(body), by), piece=0
    )
    return msgspec.structs.replace(case, **changes)


def test_a_record_is_held_against_whoever_signed_pointer_and_page():
    pointer, page = check_attested(accused(attested()), verify)
    assert (pointer.version, page.told(0)[2]) == (VERSION, sha256(b"A"))


@pytest.mark.parametrize(
    "said",
    [
        accused(attested(), OTHER),
        accused(attested(page=signed(page_of(b"A"), OTHER))),  # his own page behind an honest edge's pointer
        accused(attested(pointer=attested(OTHER).pointer)),
        accused(attested(page=signed(page_of(b"A", version=b"w" * 16), LIAR))),
        accused(attested(piece=1)),
        accused(attested(page=LIAR.sign(PAGE_CONTEXT, b""))),
    ],
)
def test_pointer_and_page_must_be_of_one_hand_and_one_version(said):
    with pytest.raises(RemoteError):
        check_attested(said, verify)


# --- bans


def caught(at: float, who: Signer = LIAR) -> Accusation:
    return accused(good_case(), who, at)


def test_a_ban_ends_and_each_further_lie_costs_twice_as_much():
    book = BanBook()
    first = book.take(caught(NOW), NOW)
    assert first is not None
    assert (first.until - first.began_at, first.lies) == (FIRST_BAN_S, 1)
    assert book.ban_of(LIAR.public, NOW + FIRST_BAN_S - 1) == first
    assert book.ban_of(LIAR.public, NOW + FIRST_BAN_S) is None
    later = NOW + FIRST_BAN_S + 5
    second = book.take(caught(later), later)
    assert second is not None
    assert (second.until, second.lies) == (later + 2 * FIRST_BAN_S, 2)
    assert book.in_force(later) == [second]
    assert book.next_end(later) == second.until
    assert ban_s(30) == LONGEST_BAN_S


def test_what_many_edges_find_out_of_one_lie_is_one_ban():
    book = BanBook()
    assert book.take(caught(NOW), NOW) is not None
    assert book.take(caught(NOW - 1), NOW) is None
    assert book.take(caught(NOW + FIRST_BAN_S), NOW + FIRST_BAN_S) is None
    assert len(book.in_force(NOW)) == 1


def test_old_evidence_shown_again_bans_nobody_again():
    book = BanBook()
    book.take(caught(NOW), NOW)
    for later in (NOW + FIRST_BAN_S + 1, NOW + LONGEST_BAN_S + 1):
        assert book.take(caught(NOW), later) is None
        assert book.in_force(later) == []
    assert BanBook().take(caught(NOW), NOW + LONGEST_BAN_S) is None


def test_evidence_from_the_future_is_refused():
    with pytest.raises(RemoteError):
        BanBook().take(caught(NOW + CLOCK_SLACK_S + 1), NOW)


def test_what_a_liar_vouched_for_before_its_ban_ended_stays_worthless():
    book = BanBook()
    book.take(caught(NOW), NOW)
    assert book.taints(LIAR.public, NOW - 1e6)
    assert book.taints(LIAR.public, NOW + FIRST_BAN_S)
    assert not book.taints(LIAR.public, NOW + FIRST_BAN_S + 1)
    assert not book.taints(HONEST.public, NOW)


def test_bans_are_bounded():
    book = BanBook()
    for number in range(1100):
        said = msgspec.structs.replace(caught(NOW), key=number.to_bytes(32, "big"))
        book.take(said, NOW)
    assert len(book.in_force(NOW)) == 1000
    assert not book.knows((0).to_bytes(32, "big"))


def test_a_page_is_named_by_its_exact_bytes():
    assert page_id(PAGE.body) == sha256(PAGE.body)
