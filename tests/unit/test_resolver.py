"""What a path means: real origins and peers on loopback, each answering as its test says."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from aiohttp import web

from daemon.answering import FrameStream, read_ask
from daemon.asking import ASK_PATH, Asker
from daemon.keys import Signer, checker
from edge.fills import Fills, VersionGone
from edge.held import Awaits
from edge.metrics import EdgeMetrics
from edge.origins import SignedOrigin
from edge.pointers import Known
from edge.resolver import CLOCK_SLACK_S, Resolver, Unshared
from edge.roster import Roster
from edge.store import Store
from swarm.accounting import Cause, OriginFault, Reason, Role, Source
from swarm.errors import OriginUnreachable, RemoteError
from swarm.members import ANNOUNCEMENT_CONTEXT, Announcement, Member, State
from swarm.metainfo import PAGE_CONTEXT, POINTER_CONTEXT, Page, Pointer, encode
from swarm.names import Path
from swarm.wire import Ask, Frame, PageFrame, PieceFrame, PointerFrame, RefusedFrame, UnchangedFrame, Why

ORIGIN_KEY = Signer.throwaway("origin")
STRANGER = Signer.throwaway("origin")
CHECK = checker({"origin": ORIGIN_KEY.public}.get)
BODY = b"to be or not to be"
SMALL_BYTES = 65535


def version(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:16]


def pointer(path: Path, sequence: int = 7, body: bytes | None = BODY, **changes: object) -> Pointer:
    """Fresh for a minute; a stale copy may stand in for ten seconds more."""
    now = time.time()
    bare = Pointer(
        site="default", path=path.target, version=version(body) if body is not None else None,
        status=200 if body is not None else 404, headers=(("Cache-Control", "max-age=60, stale-if-error=10"),),
        sequence=sequence, made=now, expires=now + 60, born=now, size=len(body) if body is not None else None,
    )  # fmt: skip
    return msgspec.structs.replace(bare, **changes)


def frame_of(meaning: Pointer, age_ms: int = 0, by: Signer = ORIGIN_KEY, trust: str = "signed") -> PointerFrame:
    return PointerFrame(by.sign(POINTER_CONTEXT, encode(meaning)), age_ms, trust)


def body_frames(body: bytes = BODY, sent: bytes | None = None) -> list[Frame]:
    """The page and the one piece of a small body; `sent`: what comes instead of it."""
    page = Page(
        version=version(body), first_piece=0, offset=0, length=len(body), piece_bytes=16384,
        digests=hashlib.sha256(body).digest(), size=len(body),
    )  # fmt: skip
    return [PageFrame(ORIGIN_KEY.sign(PAGE_CONTEXT, encode(page))), PieceFrame(0, body if sent is None else sent)]


Answer = Callable[[Ask], Awaitable[list[Frame]] | list[Frame]]


class Server:
    """An origin or a peer: it notes what it was asked and answers as it is told to."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []
        self.answer: Answer = lambda ask: []
        self.instead: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None  # of a proper answer
        self.base = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        ask, _ = await read_ask(request)
        self.asked.append(ask)
        if self.instead is not None:
            return await self.instead(request)
        stream = FrameStream(request)
        await stream.open()
        frames = self.answer(ask)
        for frame in frames if isinstance(frames, list) else await stream.waiting(frames):
            if isinstance(frame, PieceFrame):
                await stream.send_piece(frame.piece, frame.data)
            else:
                await stream.send(frame)
        return await stream.end()


class Edge:
    """The edge under test, `me`, with its origin and (in a swarm) its one peer `other`."""

    def __init__(self, *, in_swarm: bool, is_home: bool = True) -> None:
        self.origin, self.other = Server(), Server()
        self.metrics = EdgeMetrics("me", "", "0")
        self.signer = Signer.throwaway("me")
        self.roster = Roster("me", "", self.signer, in_swarm=in_swarm)
        self.store = Store(None, 1 << 20, 0, self.metrics)
        self.asker = Asker("me", ())
        self.faults: list[OriginFault] = []
        self.is_home = is_home

    def build(self) -> None:
        """Once the servers have their addresses."""
        if self.roster.in_swarm:
            other = Signer.throwaway("other")
            mine = State.ALIVE if self.is_home else State.LEAF
            self.roster.take_view(1, [member(self.signer, "", mine), member(other, self.other.base, State.ALIVE)])
        signed = SignedOrigin(
            [self.origin.base], CHECK, self.asker, self.asker, lambda: False, SMALL_BYTES, self.faults.append
        )
        origins = {"default": signed}
        self.fills = Fills(self.store, self.roster, self.asker, origins, self.metrics)
        self.resolver = Resolver(self.store, self.fills, self.roster, self.asker, origins, self.metrics)

    def path_of(self, home: str) -> Path:
        """A path whose first home is that edge."""
        paths = (Path("default", f"/{number}.mp4", "") for number in range(1000))
        return next(path for path in paths if self.roster.ranked(path)[0].node == home)

    async def known(self, path: Path) -> Known:
        return (await self.resolver.resolve(path)).known


def member(signer: Signer, address: str, state: State) -> Member:
    said = Announcement(node=signer.name, key=signer.public, address=None, port=1)
    return Member(signer.sign(ANNOUNCEMENT_CONTEXT, msgspec.msgpack.encode(said)), address, state)


@pytest.fixture
async def make_edge() -> AsyncIterator[Callable[..., Awaitable[Edge]]]:
    runners: list[web.AppRunner] = []
    edges: list[Edge] = []

    async def start(server: Server) -> None:
        app = web.Application()
        app.router.add_post(ASK_PATH, server.handle)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        server.base = f"http://{host}:{port}"

    async def make(*, in_swarm: bool = False, is_home: bool = True) -> Edge:
        edge = Edge(in_swarm=in_swarm, is_home=is_home)
        await start(edge.origin)
        await start(edge.other)
        edge.build()
        edges.append(edge)
        return edge

    yield make
    for edge in edges:
        await edge.resolver.close()
        await edge.fills.close()
        await edge.store.close()
        await edge.asker.close()
    for runner in runners:
        await runner.cleanup()


PATH = Path("default", "/film.mp4", "")


async def body_of(edge: Edge, known: Known) -> bytes:
    """The body, once its fill is done."""
    assert known.pointer.version is not None
    held = edge.store.held(known.pointer.version)
    assert held is not None
    waiter = held.wait_for(0b1)
    async with asyncio.timeout(10):
        await waiter.next()
    held.stop_waiting(waiter)
    return edge.store.peek(held, 0) or b""


# --- what the origin says


async def test_a_small_body_comes_behind_its_pointer_in_one_question(make_edge):
    edge = await make_edge()
    edge.origin.answer = lambda ask: [frame_of(pointer(PATH)), *body_frames()]
    resolved = await edge.resolver.resolve(PATH)
    assert (resolved.asked, resolved.first, resolved.stale) == (True, True, False)
    assert await body_of(edge, resolved.known) == BODY
    [ask] = edge.origin.asked
    assert (ask.path, ask.inline_bytes, ask.reason) == ("/film.mp4", SMALL_BYTES, Reason.STANDALONE)
    assert edge.metrics.origin_bytes[Reason.STANDALONE] == len(BODY)


async def test_what_is_fresh_is_not_asked_for_again(make_edge):
    edge = await make_edge()
    edge.origin.answer = lambda ask: [frame_of(pointer(PATH, body=None))]
    first = await edge.resolver.resolve(PATH)
    again = await edge.resolver.resolve(PATH)
    assert (again.known, again.asked) == (first.known, False)
    assert len(edge.origin.asked) == 1


async def test_many_who_ask_at_once_are_one_question(make_edge):
    edge = await make_edge()
    edge.origin.answer = lambda ask: [frame_of(pointer(PATH, body=None))]
    found = await asyncio.gather(*(edge.resolver.resolve(PATH) for _ in range(10)))
    assert sorted(one.first for one in found) == [False] * 9 + [True]
    assert len(edge.origin.asked) == 1


async def test_unchanged_confirms_what_is_known_and_renews_its_age(make_edge):
    edge = await make_edge()
    edge.resolver.learn(PATH, frame_of(pointer(PATH), age_ms=61_000))
    edge.origin.answer = lambda ask: [UnchangedFrame(1000)]
    resolved = await edge.resolver.resolve(PATH)
    assert edge.origin.asked[0].known_sequence == 7
    assert (resolved.asked, resolved.stale) == (True, False)
    assert 1.0 <= resolved.known.age_s(time.monotonic()) < 30.0


async def test_unchanged_confirms_nothing_to_who_knows_nothing(make_edge):
    edge = await make_edge()
    edge.origin.answer = lambda ask: [UnchangedFrame(0)]
    with pytest.raises(OriginUnreachable, match="does not hold together: unchanged, but from what"):
        await edge.resolver.resolve(PATH)


async def test_a_path_that_is_gone_is_a_pointer_too(make_edge):
    edge = await make_edge()
    edge.origin.answer = lambda ask: [frame_of(pointer(PATH, body=None))]
    known = await edge.known(PATH)
    assert (known.pointer.status, known.pointer.version) == (404, None)
    assert len(edge.fills) == 0


async def test_what_http_forbids_to_share_is_remembered_as_such(make_edge):
    edge = await make_edge()
    edge.origin.answer = lambda ask: [RefusedFrame(Why.UNSHARED)]
    for _ in range(2):
        with pytest.raises(Unshared):
            await edge.resolver.resolve(PATH)
    assert len(edge.origin.asked) == 1


@pytest.mark.parametrize("frames", [[], [PieceFrame(0, b"x")], [RefusedFrame(Why.ORIGIN, detail="disk")]])
async def test_an_answer_without_a_pointer_is_none(make_edge, frames):
    edge = await make_edge()
    edge.origin.answer = lambda ask: frames
    with pytest.raises(OriginUnreachable):
        await edge.resolver.resolve(PATH)


# --- what is not believed


async def test_a_sequence_below_the_one_seen_is_refused(make_edge):
    edge = await make_edge()
    seen = edge.resolver.learn(PATH, frame_of(pointer(PATH, sequence=7, body=None)))
    assert edge.resolver.learn(PATH, frame_of(pointer(PATH, sequence=6))) is seen
    assert edge.resolver.learn(PATH, frame_of(pointer(PATH, sequence=8))).pointer.sequence == 8


async def test_the_body_behind_a_pointer_that_was_refused_goes_nowhere(make_edge):
    """An honest sender may be behind: nothing of its answer is charged to its link."""
    edge = await make_edge(in_swarm=True)
    path = edge.path_of("other")
    edge.resolver.learn(path, frame_of(pointer(path, sequence=7, body=b"the new body"), age_ms=61_000))
    edge.other.answer = lambda ask: [frame_of(pointer(path, sequence=6)), *body_frames()]
    known = await edge.known(path)
    assert known.pointer.sequence == 7
    assert sum(edge.metrics.pieces_rejected.values()) == 0
    assert len(edge.fills) == 0
    assert edge.metrics.fetched_bytes[Source.PEER] == len(BODY), "counted all the same"


async def test_an_expired_pointer_replayed_as_young_is_as_old_as_its_signature_says(make_edge):
    edge = await make_edge()
    edge.roster.offset_s = 0.0
    made = time.time() - 100
    old = pointer(PATH, body=None, made=made, expires=made + 60)
    known = edge.resolver.learn(PATH, frame_of(old, age_ms=0))
    assert known.age_s(time.monotonic()) >= 100 - CLOCK_SLACK_S
    edge.origin.answer = lambda ask: [UnchangedFrame(0)]
    assert (await edge.known(PATH)).age_s(time.monotonic()) >= 100 - CLOCK_SLACK_S


async def test_without_the_swarms_clock_the_senders_word_stands(make_edge):
    """An edge whose own clock is wrong must not throw away what is fresh."""
    edge = await make_edge()
    made = time.time() - 100
    known = edge.resolver.learn(PATH, frame_of(pointer(PATH, body=None, made=made, expires=made + 60), age_ms=500))
    assert 0.5 <= known.age_s(time.monotonic()) < 30


@pytest.mark.parametrize(
    "frame, cause",
    [
        (frame_of(pointer(PATH), trust="attested"), Cause.SIGNATURE),
        (frame_of(pointer(PATH), by=STRANGER), Cause.SIGNATURE),
        (frame_of(pointer(Path("default", "/other.mp4", ""))), Cause.UNEXPECTED),
        (frame_of(pointer(PATH, site="elsewhere")), Cause.UNEXPECTED),
    ],
)
async def test_a_pointer_of_the_wrong_trust_hand_or_path_is_refused(make_edge, frame, cause):
    edge = await make_edge()
    with pytest.raises(RemoteError) as caught:
        edge.resolver.learn(PATH, frame)
    assert caught.value.cause is cause
    assert edge.store.pointers.known(PATH) is None
    edge.origin.answer = lambda ask: [frame]
    with pytest.raises(OriginUnreachable, match="does not hold together"):
        await edge.resolver.resolve(PATH)


# --- when the origin does not answer


@pytest.mark.parametrize("age_s, stands_in", [(61, True), (69, True), (71, False)])
async def test_a_stale_copy_stands_in_within_its_grace(make_edge, age_s, stands_in):
    edge = await make_edge()
    edge.resolver.learn(PATH, frame_of(pointer(PATH, body=None), age_ms=age_s * 1000))
    edge.origin.answer = lambda ask: [RefusedFrame(Why.ORIGIN)]
    if stands_in:
        assert (await edge.resolver.resolve(PATH)).stale
    else:
        with pytest.raises(OriginUnreachable):
            await edge.resolver.resolve(PATH)


async def test_a_peers_copy_stands_in_for_a_silent_origin(make_edge):
    edge = await make_edge(in_swarm=True)
    path = edge.path_of("me")
    edge.origin.answer = lambda ask: [RefusedFrame(Why.ORIGIN)]
    edge.other.answer = lambda ask: [frame_of(pointer(path, body=None), age_ms=65_000)]
    known = await edge.known(path)
    assert known.pointer.status == 404
    assert [ask.role for ask in edge.other.asked] == [Role.HOLDER]


# --- in a swarm


async def test_the_paths_home_is_asked_and_the_origin_is_not(make_edge):
    edge = await make_edge(in_swarm=True)
    path = edge.path_of("other")
    edge.other.answer = lambda ask: [frame_of(pointer(path)), *body_frames()]
    known = await edge.known(path)
    assert await body_of(edge, known) == BODY
    assert [ask.role for ask in edge.other.asked] == [Role.HOME]
    assert edge.origin.asked == []
    assert edge.metrics.fetched_bytes == {Source.PEER: len(BODY), Source.ORIGIN: 0}


async def test_a_dead_home_is_replaced_and_left_out_for_a_while(make_edge, unused_tcp_port):
    edge = await make_edge(in_swarm=True)
    edge.other.base = f"http://127.0.0.1:{unused_tcp_port}"
    edge.build()
    path = edge.path_of("other")
    edge.origin.answer = lambda ask: [frame_of(pointer(path, body=None))]
    assert (await edge.known(path)).pointer.status == 404
    assert edge.roster.unusable() == ["other"]


async def test_nonsense_from_a_home_is_charged_to_its_link_and_the_origin_is_asked(make_edge):
    edge = await make_edge(in_swarm=True)
    path = edge.path_of("other")
    edge.other.answer = lambda ask: [frame_of(pointer(path), by=STRANGER)]
    edge.origin.answer = lambda ask: [frame_of(pointer(path, body=None))]
    assert (await edge.known(path)).pointer.status == 404
    assert edge.metrics.pieces_rejected[Cause.SIGNATURE] == 1


async def test_a_home_that_names_this_edge_is_not_asked_again(make_edge):
    edge = await make_edge(in_swarm=True)
    path = edge.path_of("other")
    edge.other.answer = lambda ask: [RefusedFrame(Why.NOT_HOME, holders=("me",))]
    edge.origin.answer = lambda ask: [frame_of(pointer(path, body=None))]
    assert (await edge.known(path)).pointer.status == 404
    assert len(edge.other.asked) == 1


# --- old pointers that verify


def expired(path: Path, sequence: int = 7) -> PointerFrame:
    """Signed 100 s ago for a minute, with an hour of grace should the origin be silent; replayed as if it were new."""
    made = time.time() - 100
    headers = (("Cache-Control", "max-age=60, stale-if-error=3600"),)
    return frame_of(pointer(path, sequence, None, headers=headers, made=made, expires=made + 60), age_ms=0)


@pytest.mark.parametrize("is_unchanged", [False, True])
async def test_one_edges_word_that_nothing_newer_is_to_be_had_is_not_enough(make_edge, is_unchanged):
    edge = await make_edge(in_swarm=True)
    edge.roster.offset_s = 0.0
    path = edge.path_of("other")
    if is_unchanged:
        edge.resolver.learn(path, expired(path))
    edge.other.answer = lambda ask: [UnchangedFrame(0) if is_unchanged else expired(path)]
    edge.origin.answer = lambda ask: [frame_of(pointer(path, sequence=8, body=None))]
    assert (await edge.known(path)).pointer.sequence == 8
    assert len(edge.other.asked) == 1


async def test_an_old_pointer_stands_in_where_the_origin_is_silent_indeed(make_edge):
    edge = await make_edge(in_swarm=True)
    edge.roster.offset_s = 0.0
    path = edge.path_of("other")
    edge.other.answer = lambda ask: [expired(path)]
    edge.origin.answer = lambda ask: [RefusedFrame(Why.ORIGIN)]
    resolved = await edge.resolver.resolve(path)
    assert resolved.known.pointer.sequence == 7


# --- fills


async def test_bytes_that_do_not_verify_go_nowhere_and_the_origin_is_asked_for_that_reason(make_edge):
    edge = await make_edge(in_swarm=True)
    path = edge.path_of("other")
    edge.other.answer = lambda ask: (
        [frame_of(pointer(path)), *body_frames(sent=b"to be or not to bE")]
        if ask.version is None
        else [RefusedFrame(Why.NOT_HELD)]
    )
    edge.origin.answer = lambda ask: body_frames()
    known = await edge.known(path)
    assert await body_of(edge, known) == BODY
    assert edge.metrics.pieces_rejected[Cause.DIGEST] == 1
    assert [(ask.version, ask.reason) for ask in edge.origin.asked] == [(version(BODY), Reason.VERIFY_FAILED)]


async def test_an_edge_that_asked_for_what_was_on_its_way_from_the_origin_is_told_when_that_fails(make_edge):
    """A leaf whose homes are gone fetches for its viewers; whoever joined that as holder must not wait for ever."""
    edge = await make_edge(in_swarm=True, is_home=False)
    asked = asyncio.Event()
    failing = asyncio.Event()

    async def fail_later() -> list[Frame]:
        asked.set()
        await failing.wait()
        return [RefusedFrame(Why.ORIGIN)]

    edge.other.answer = lambda ask: [RefusedFrame(Why.NOT_HELD)]
    edge.origin.answer = lambda ask: fail_later()
    large = bytes(100_000)
    known = edge.resolver.learn(PATH, frame_of(pointer(PATH, body=large)))
    held = edge.store.hold(PATH, known.pointer, "signed")
    fill = edge.fills.join(held, known)
    viewer = held.wait_for(0b1)
    fill.want(0b1)
    async with asyncio.timeout(10):
        await asked.wait()
        assert fill.from_origin == 0b1
        peer = held.wait_for(0b1, Awaits.ORIGIN)
        failing.set()
        for waiter in (peer, viewer):
            with pytest.raises(OriginUnreachable):
                await waiter.next()


async def test_a_version_the_origin_no_longer_has_fails_at_once(make_edge):
    edge = await make_edge()
    edge.origin.answer = lambda ask: [RefusedFrame(Why.UNKNOWN)]
    known = edge.resolver.learn(PATH, frame_of(pointer(PATH)))
    held = edge.store.hold(PATH, known.pointer, "signed")
    waiter = held.wait_for(0b1)
    edge.fills.join(held, known).want(0b1)
    async with asyncio.timeout(10):
        with pytest.raises(VersionGone):
            await waiter.next()
