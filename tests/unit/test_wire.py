"""What travels between programs: literal bytes, cut anywhere, from later releases, and mangled."""

import hashlib
from itertools import pairwise

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from daemon.keys import Signer, verify
from swarm.accounting import Cause, Reason, Role
from swarm.errors import RemoteError
from swarm.members import ANNOUNCEMENT_CONTEXT, Announcement, read_announcement
from swarm.metainfo import (
    MOST_PIECES,
    PAGE_CONTEXT,
    POINTER_CONTEXT,
    Page,
    Pointer,
    Signed,
    encode,
    open_page,
    open_pointer,
)
from swarm.wire import (
    MOST_FRAME_BYTES,
    Ask,
    EndFrame,
    Frame,
    FrameReader,
    PageFrame,
    PieceFrame,
    PointerFrame,
    RefusedFrame,
    UnchangedFrame,
    WaitFrame,
    Why,
    decode_ask,
    encode_frame,
    encode_message,
    piece_head,
)
from tests.vectors.reading import vectors

WIRE, SIGNED = vectors("wire"), vectors("signed")
VERSION = bytes(range(16))
SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), "origin")
SOME = Signed(b"body", b"sig", "origin")

FRAMES: dict[str, Frame] = {
    "pointer frame": PointerFrame(SOME, 1500, "signed"),
    "unchanged frame": UnchangedFrame(250),
    "page frame": PageFrame(SOME),
    "piece frame": PieceFrame(3, b"abc"),
    "refused frame": RefusedFrame(Why.NOT_HOME, ((0, 2), (5, 6)), ("edge-2",), None, "why not"),
    "busy frame": RefusedFrame(Why.BUSY, queue_ms=800),
    "wait frame": WaitFrame(120),
    "end frame": EndFrame(),
}
ASKS = {
    "ask for pieces": Ask(
        site="default", path="/cup/seg1.m4s", version=VERSION, want=((0, 2), (5, 6)), have=b"\x1c", role=Role.HOLDER,
        lost=("edge-3",), deadline_ms=1500, reason=Reason.HOME_LOST, pointer=PointerFrame(SOME, 7, "signed"),
    ),
    "ask for a path": Ask(site="default", path="/cup/live.m3u8", inline_bytes=65535, known_sequence=8),
}  # fmt: skip
STREAM = b"".join(WIRE[name] for name in FRAMES)


def read(*chunks: bytes) -> list[Frame]:
    """The frames of one stream, fed in these chunks."""
    reader = FrameReader()
    return [frame for chunk in chunks for frame in reader.feed(chunk)]


# --- literal bytes


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_these_very_bytes(name):
    assert encode_frame(FRAMES[name]) == WIRE[name]
    assert read(WIRE[name]) == [FRAMES[name]]


@pytest.mark.parametrize("name", ASKS)
def test_a_question_is_these_very_bytes(name):
    assert encode_message(ASKS[name]) == WIRE[name]
    assert decode_ask(WIRE[name]) == ASKS[name]


def test_a_page_and_its_signature_are_these_very_bytes():
    page = Page(
        version=VERSION,
        first_piece=2,
        offset=32768,
        length=16394,
        piece_bytes=16384,
        digests=hashlib.sha256(b"a" * 16384).digest() + hashlib.sha256(b"b" * 10).digest(),
        size=49162,
    )
    assert encode(page) == SIGNED["page"]
    signed = Signed(SIGNED["page"], SIGNED["page signature"], "origin")
    assert SIGNER.sign(PAGE_CONTEXT, signed.body) == signed
    assert open_page(signed, check) == page


def test_a_pointer_and_its_signature_are_these_very_bytes():
    pointer = Pointer(
        site="default",
        path="/cup/seg1.m4s",
        version=VERSION,
        status=200,
        headers=(("Content-Type", "video/mp4"),),
        sequence=1700000000123,
        made=1700000000.5,
        expires=1700000060.5,
        born=1700000000.0,
        size=49162,
        piece_bytes=16384,
    )
    assert encode(pointer) == SIGNED["pointer"]
    signed = Signed(SIGNED["pointer"], SIGNED["pointer signature"], "origin")
    assert SIGNER.sign(POINTER_CONTEXT, signed.body) == signed
    assert open_pointer(signed, check) == pointer


def test_a_tombstone_is_these_very_bytes():
    gone = Pointer(
        site="default", path="/gone", version=None, status=404, headers=(), sequence=9, made=1.0, expires=2.0, born=1.0
    )
    assert encode(gone) == SIGNED["tombstone"]


def test_an_announcement_and_its_signature_are_these_very_bytes():
    said = Announcement(
        node="edge-1", key=SIGNER.public, address="http://10.0.0.5:7400", port=7400, zone="berlin", capacity_bps=1e9,
        incarnation=1700000000000, refutation=3, leaving=True, gossips=True, role="superpeer",
    )  # fmt: skip
    assert msgspec.msgpack.encode(said) == SIGNED["announcement"]
    signature = SIGNED["announcement signature"]
    assert SIGNER.sign(ANNOUNCEMENT_CONTEXT, SIGNED["announcement"]).signature == signature
    assert read_announcement(Signed(SIGNED["announcement"], signature, "edge-1")) == said


def test_an_announcement_from_before_there_was_gossip_is_read():
    said = Announcement(
        node="edge-1", key=SIGNER.public, address=None, port=9000, zone="berlin", capacity_bps=1e9,
        incarnation=1700000000000,
    )  # fmt: skip
    signed = Signed(SIGNED["announcement before gossip"], SIGNED["announcement before gossip signature"], "edge-1")
    verify(SIGNER.public, ANNOUNCEMENT_CONTEXT, signed)
    assert read_announcement(signed) == said
    assert not said.gossips


def check(context: bytes, signed: Signed) -> None:
    verify(SIGNER.public, context, signed)


@pytest.mark.parametrize("context", [POINTER_CONTEXT, ANNOUNCEMENT_CONTEXT, b""])
def test_a_page_signed_as_something_else_is_no_page(context):
    signed = SIGNER.sign(context, SIGNED["page"])
    with pytest.raises(RemoteError, match="does not verify"):
        open_page(signed, check)


# --- cut anywhere


def test_a_stream_in_one_piece_and_byte_by_byte():
    assert read(STREAM) == list(FRAMES.values())
    assert read(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == list(FRAMES.values())


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_a_stream_cut_anywhere(cuts):
    ends = [0, *sorted(cuts), len(STREAM)]
    assert read(*(STREAM[start:end] for start, end in pairwise(ends))) == list(FRAMES.values())


def test_frames_come_out_as_soon_as_they_are_whole():
    reader = FrameReader()
    piece = WIRE["piece frame"]
    assert list(reader.feed(piece[:-1])) == []
    assert list(reader.feed(piece[-1:] + piece[:3])) == [PieceFrame(3, b"abc")]
    assert list(reader.feed(piece[3:])) == [PieceFrame(3, b"abc")]


def test_a_stream_that_stops_anywhere_before_its_end_broke_off():
    for end in range(len(STREAM)):
        reader = FrameReader()
        assert EndFrame() not in list(reader.feed(STREAM[:end]))
        with pytest.raises(RemoteError, match="broke off") as caught:
            reader.on_eof()
        assert caught.value.cause is Cause.TRUNCATED


def test_a_whole_stream_did_not_break_off():
    reader = FrameReader()
    list(reader.feed(STREAM))
    assert reader.ended
    reader.on_eof()


def test_nothing_may_follow_the_end():
    reader = FrameReader()
    frames = reader.feed(STREAM + WIRE["wait frame"])
    assert [next(frames) for _ in FRAMES] == list(FRAMES.values())
    with pytest.raises(RemoteError, match="after the end"):
        next(frames)


# --- from later releases


def test_frames_of_an_unknown_kind_are_skipped():
    unknown = b"\x63\x00\x00\x00\x05hello"
    assert read(unknown + WIRE["piece frame"] + unknown + WIRE["end frame"]) == [PieceFrame(3, b"abc"), EndFrame()]


def test_fields_of_a_later_release_are_ignored():
    payload = msgspec.msgpack.encode({"age_ms": 250, "colour": "blue"})
    assert read(b"\x02" + len(payload).to_bytes(4, "big") + payload) == [UnchangedFrame(250)]
    asked = msgspec.msgpack.decode(WIRE["ask for a path"]) | {"colour": "blue"}
    assert decode_ask(msgspec.msgpack.encode(asked)) == ASKS["ask for a path"]


def test_fields_that_an_earlier_release_did_not_send_have_their_defaults():
    ask = decode_ask(msgspec.msgpack.encode({"site": "default", "path": "/x"}))
    assert ask == Ask(site="default", path="/x")
    assert (ask.role, ask.want, ask.version) == (Role.HOME, (), None)


def test_a_question_of_a_later_format_is_refused():
    with pytest.raises(RemoteError, match="ask of format 2; this program reads 1"):
        decode_ask(encode_message(Ask(format=2, site="default", path="/x")))


# --- nonsense


@pytest.mark.parametrize(
    "raw",
    [
        b"\x04" + (MOST_FRAME_BYTES + 1).to_bytes(4, "big"),  # refused before its payload came
        b"\x63\xff\xff\xff\xff",  # of an unknown kind, too
        b"\x04\x00\x00\x00\x04\x00\x00\x00\x03",  # a piece of nothing
        b"\x04\x00\x00\x00\x02\x00\x00",
        b"\x02\x00\x00\x00\x00",  # no payload
        b"\x02\x00\x00\x00\x01\xc1",  # no msgpack
        b"\x02\x00\x00\x00\x02\x80\x80",  # two messages
        b"\x02\x00\x00\x00\x04\x81\xa2\xff\xfe",  # no UTF-8
        b"\x02\x00\x00\x00\x0c\x81\xa6age_ms\xa3abc",
        encode_frame(RefusedFrame(Why.NOT_HELD, ((5, 2),))),
        encode_frame(RefusedFrame(Why.NOT_HELD, ((0, MOST_PIECES + 1),))),
        b"\x01\x00\x00\x20\x00" + b"\x91" * 8192,  # nested for ever
    ],
)
def test_a_frame_that_makes_no_sense_is_refused(raw):
    with pytest.raises(RemoteError):
        read(raw)


def test_the_longest_piece_just_fits():
    longest = bytes(MOST_FRAME_BYTES - 4)
    assert read(piece_head(7, len(longest)) + longest) == [PieceFrame(7, longest)]


@pytest.mark.parametrize(
    "changes",
    [
        {"want": ((3, 1),)},
        {"want": ((-1, 1),)},
        {"want": ((0, MOST_PIECES + 1),)},
        {"want": ((0, 1, 2),)},
        {"role": 7},
        {"version": "text"},
        {"site": None},
    ],
)
def test_a_question_that_makes_no_sense_is_refused(changes):
    with pytest.raises(RemoteError):
        decode_ask(encode_message(msgspec.structs.replace(ASKS["ask for pieces"], **changes)))


@pytest.mark.parametrize(
    "field, word, read_as",
    [("role", "king", Role.HOLDER), ("reason", "because", Reason.STANDALONE), ("role", "zone_home", Role.ZONE_HOME)],
)
def test_a_word_that_only_a_newer_edge_knows_counts_as_the_humblest(field, word, read_as):
    ask = decode_ask(encode_message(msgspec.structs.replace(ASKS["ask for pieces"], **{field: word})))
    assert getattr(ask, field) is read_as


def test_a_refusal_for_a_reason_of_tomorrow_is_still_a_refusal():
    body = msgspec.msgpack.encode({"why": "tomorrow", "want": [[0, 3]]})
    raw = bytes([5]) + len(body).to_bytes(4, "big") + body
    assert read(raw) == [RefusedFrame(Why.NOT_HELD, ((0, 3),))]


MUTATIONS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=5)


def mutated(raw: bytes, changes: list[tuple[int, int]]) -> bytes:
    mangled = bytearray(raw)
    for at, value in changes:
        mangled[at % len(mangled)] = value
    return bytes(mangled)


@given(st.binary(max_size=300) | MUTATIONS.map(lambda changes: mutated(STREAM, changes)), st.integers(1, 64))
def test_fuzz_frames_or_remote_error_and_nothing_else(raw, step):
    """And in the same way however the bytes are cut."""

    def outcome(*chunks: bytes) -> tuple[list[Frame], str]:
        frames: list[Frame] = []
        reader = FrameReader()
        try:
            for chunk in chunks:
                frames.extend(reader.feed(chunk))
        except RemoteError as error:
            return frames, str(error)
        return frames, ""

    assert outcome(raw) == outcome(*(raw[at : at + step] for at in range(0, len(raw), step)))


@given(
    st.binary(max_size=300)
    | st.builds(mutated, st.sampled_from([WIRE["ask for pieces"], WIRE["ask for a path"]]), MUTATIONS)
)
def test_fuzz_a_question_or_remote_error_and_nothing_else(raw):
    try:
        ask = decode_ask(raw)
    except RemoteError:
        return
    assert ask.wanted() >= 0


def test_frames_that_only_newer_edges_know_are_skipped_up_to_a_bound():
    reader = FrameReader()
    unknown = bytes([99]) + (1 << 20).to_bytes(4, "big") + bytes(1 << 20)
    for _ in range(3):
        assert list(reader.feed(unknown)) == []
    with pytest.raises(RemoteError, match="unknown kinds"):
        list(reader.feed(unknown + unknown))
