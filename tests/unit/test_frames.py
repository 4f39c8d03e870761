"""Asking and answering over real sockets: streams whole and broken, sessions, and whose fault it is when it fails."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import msgspec
import pytest
from aiohttp import web

from daemon.answering import FrameStream, admit, hello_handler, message_response, read_ask
from daemon.asking import ASK_PATH, Asker
from daemon.peer_auth import HELLO_PATH, Gatekeeper, WrongSecret
from swarm.accounting import Cause, Control
from swarm.errors import RemoteError, Unreachable
from swarm.metainfo import Signed
from swarm.wire import (
    MOST_ASK_BYTES,
    Ask,
    EndFrame,
    Frame,
    PageFrame,
    PieceFrame,
    PointerFrame,
    RefusedFrame,
    UnchangedFrame,
    WaitFrame,
    Why,
    encode_frame,
    encode_message,
)

SECRET, OTHER = b"s" * 32, b"o" * 32
ASK = Ask(site="default", path="/film.mp4")
SIGNED = Signed(b"body", b"signature", "origin")
PIECES = [PieceFrame(number, bytes([number]) * (1 << 20)) for number in range(5)]

Answer = Callable[[FrameStream, Ask], Awaitable[None]]


class Server:
    """One program's peer port: it answers an `Ask` as the test says."""

    def __init__(self) -> None:
        self.answer: Answer = say_nothing
        self.gatekeeper: Gatekeeper | None = None
        self.askers: list[str] = []
        self.connections: set[object] = set()
        self.hellos = 0
        self.base = ""

    async def handle_ask(self, request: web.Request) -> web.StreamResponse:
        self.connections.add(request.transport)
        ask, body = await read_ask(request)
        if self.gatekeeper is not None:
            self.askers.append(admit(self.gatekeeper, request, body))
        stream = FrameStream(request)
        await stream.open()
        await self.answer(stream, ask)
        return await stream.end()

    async def handle_hello(self, request: web.Request) -> web.Response:
        assert self.gatekeeper is not None
        self.hellos += 1
        return await hello_handler(self.gatekeeper)(request)


async def say_nothing(stream: FrameStream, ask: Ask) -> None:
    """Just END."""


async def say(stream: FrameStream, frames: list[Frame]) -> None:
    for frame in frames:
        if isinstance(frame, PieceFrame):
            await stream.send_piece(frame.piece, frame.data)
        else:
            await stream.send(frame)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Server], Awaitable[Server]]]:
    runners = []

    async def start(server: Server) -> Server:
        app = web.Application()
        app.router.add_post(ASK_PATH, server.handle_ask)
        app.router.add_post(HELLO_PATH, server.handle_hello)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        server.base = f"http://{host}:{port}"
        return server

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def asker() -> AsyncIterator[Asker]:
    asker = Asker("edge-1", ())
    yield asker
    await asker.close()


@pytest.fixture
async def make_asker() -> AsyncIterator[Callable[..., Asker]]:
    askers = []

    def make(*secrets: bytes) -> Asker:
        askers.append(Asker("edge-1", secrets))
        return askers[-1]

    yield make
    for asker in askers:
        await asker.close()


async def frames_of(asker: Asker, base: str, silence_s: float = 10.0) -> list[Frame]:
    return [frame async for frame in asker.ask(base, ASK, silence_s=silence_s)]


# --- whole streams


async def test_all_kinds_of_frames_arrive_in_order(serve, asker):
    said: list[Frame] = [
        PointerFrame(SIGNED, 20),
        UnchangedFrame(30),
        PageFrame(SIGNED),
        *PIECES,
        RefusedFrame(Why.NOT_HOME, ((1, 2),), ("edge-3",)),
        WaitFrame(),
    ]
    server = await serve(Server())
    server.answer = lambda stream, ask: say(stream, said)
    assert await frames_of(asker, server.base) == [*said, EndFrame()]


async def test_the_question_arrives_as_it_was_asked(serve, asker):
    asked = []

    async def answer(stream: FrameStream, ask: Ask) -> None:
        asked.append(ask)

    server = await serve(Server())
    server.answer = answer
    ask = msgspec.structs.replace(ASK, version=bytes(16), want=((0, 3), (7, 8)), lost=("edge-9",), have=b"\x07")
    assert [frame async for frame in asker.ask(server.base, ask)] == [EndFrame()]
    assert asked == [ask]


async def test_both_sides_count_the_bytes_of_pieces_apart_from_the_rest(serve, asker):
    streams = []

    async def answer(stream: FrameStream, ask: Ask) -> None:
        streams.append(stream)
        await say(stream, [PointerFrame(SIGNED, 20), PageFrame(SIGNED), PieceFrame(0, b"x" * 1000)])

    server = await serve(Server())
    server.answer = answer
    received: list[int] = []
    assert len([frame async for frame in asker.ask(server.base, ASK, on_bytes=received.append)]) == 4
    [stream] = streams
    assert stream.sent_bytes == 1000
    assert stream.control[Control.METAINFO] == len(encode_frame(PageFrame(SIGNED)))
    assert stream.control[Control.POINTER] == len(encode_frame(PointerFrame(SIGNED, 20))) + len(
        encode_frame(EndFrame())
    )
    assert sum(received) == stream.control_bytes + 9 + 1000  # 9: what precedes a piece


async def test_one_connection_serves_question_after_question(serve, asker):
    server = await serve(Server())
    server.answer = lambda stream, ask: say(stream, [PIECES[0]])
    for _ in range(3):
        assert await frames_of(asker, server.base) == [PIECES[0], EndFrame()]
    assert len(server.connections) == 1


# --- waiting


async def test_who_waits_for_the_origin_says_so_and_is_not_given_up(serve, asker, monkeypatch):
    monkeypatch.setattr("daemon.answering.WAIT_EVERY_S", 0.05)
    arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def answer(stream: FrameStream, ask: Ask) -> None:
        await stream.send_piece(0, await stream.waiting(arrived))

    server = await serve(Server())
    server.answer = answer
    waits = 0
    async for frame in asker.ask(server.base, ASK, silence_s=2.0):
        if isinstance(frame, WaitFrame):
            waits += 1
            if waits == 3:
                arrived.set_result(b"at last")
        elif isinstance(frame, PieceFrame):
            assert frame == PieceFrame(0, b"at last")
    assert waits >= 3


async def test_a_failure_while_others_wait_reaches_the_answerer(serve, asker):
    async def fail() -> None:
        raise RemoteError("no")

    async def answer(stream: FrameStream, ask: Ask) -> None:
        with pytest.raises(RemoteError, match="no"):
            await stream.waiting(fail())
        await stream.send(RefusedFrame(Why.ORIGIN))

    server = await serve(Server())
    server.answer = answer
    assert await frames_of(asker, server.base) == [RefusedFrame(Why.ORIGIN), EndFrame()]


async def test_what_the_answerer_waits_for_is_cancelled_when_the_asker_leaves(serve, asker, monkeypatch):
    monkeypatch.setattr("daemon.answering.WAIT_EVERY_S", 0.02)
    cancelled = asyncio.Event()

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    server = await serve(Server())
    server.answer = lambda stream, ask: stream.waiting(wait_for_ever())
    frames = asker.ask(server.base, ASK)
    assert await anext(frames) == WaitFrame()
    await frames.aclose()
    async with asyncio.timeout(10):
        await cancelled.wait()


async def test_a_silent_edge_is_given_up(serve, asker):
    released = asyncio.Event()

    async def answer(stream: FrameStream, ask: Ask) -> None:
        await stream.send(UnchangedFrame(1))
        await released.wait()

    server = await serve(Server())
    server.answer = answer
    with pytest.raises(Unreachable, match="was silent for"):
        await frames_of(asker, server.base, silence_s=0.1)
    released.set()


# --- whose fault it is


async def raw_server(reply: bytes) -> tuple[asyncio.Server, str]:
    """Reads one request, sends these bytes, and hangs up."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    return server, f"http://{host}:{port}"


OK_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = encode_frame(UnchangedFrame(1)) + encode_frame(EndFrame())


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@pytest.mark.parametrize(
    "reply, error, cause",
    [
        (b"", Unreachable, None),  # hung up before it answered
        (OK_HEAD, Unreachable, None),
        (OK_HEAD + chunk(WHOLE[:9]), Unreachable, None),  # in the middle of a frame: it went away
        (OK_HEAD + b"ff\r\nabc", Unreachable, None),  # in the middle of a chunk
        (OK_HEAD + chunk(WHOLE[:-5]) + b"0\r\n\r\n", RemoteError, Cause.TRUNCATED),  # it says that was all
        (OK_HEAD + chunk(WHOLE[:9]) + b"zz\r\nabc", RemoteError, Cause.FRAMING),
        (OK_HEAD + chunk(b"\x02\x00\x00\x00\x01\xc1"), RemoteError, Cause.FRAMING),
        (OK_HEAD + chunk(b"\x04\xff\xff\xff\xff"), RemoteError, Cause.FRAMING),
        (b"HTTP/9.9 what\r\n\r\n", RemoteError, Cause.FRAMING),
        (b"\x00\x01\x02\x03 no HTTP at all\r\n\r\n", RemoteError, Cause.FRAMING),
    ],
)
async def test_a_broken_answer_is_somebodys_fault(asker, reply, error, cause):
    server, base = await raw_server(reply)
    async with server:
        with pytest.raises(error) as caught:
            await frames_of(asker, base)
    assert getattr(caught.value, "cause", None) == cause


@pytest.mark.parametrize(
    "status, error",
    [
        (401, WrongSecret),
        (403, WrongSecret),
        (404, WrongSecret),
        (429, Unreachable),
        (502, Unreachable),
        (503, Unreachable),
        (504, Unreachable),
        (400, RemoteError),
        (413, RemoteError),
        (500, RemoteError),
        (204, RemoteError),
    ],
)
async def test_a_status_is_somebodys_fault(asker, status, error):
    server, base = await raw_server(f"HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n".encode())
    async with server:
        with pytest.raises(error):
            await frames_of(asker, base)


@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.parametrize("tail", [b"", b"0\r\n", b"zz\r\n\r\n", chunk(b"more") * 3, b"\x00"])
async def test_what_goes_wrong_behind_the_end_harms_nobody(asker, monkeypatch, tail, stays):
    """The answer was whole; only the connection serves no further question."""
    monkeypatch.setattr("daemon.asking.SILENCE_S", 0.1)
    ended = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK_HEAD + chunk(WHOLE))
        await ended.wait()
        writer.write(tail)
        if stays:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for _ in range(2):
            ended.clear()
            frames = []
            async for frame in asker.ask(base, ASK):
                frames.append(frame)
                if frame == EndFrame():
                    ended.set()
            assert frames == [UnchangedFrame(1), EndFrame()]


async def test_what_could_not_be_read_is_quoted_in_one_short_line(asker):
    server, base = await raw_server(b"HTTP/1.1 200 OK\r\nBad \x01 header" + b"x" * 5000 + b"\r\n\r\n")
    async with server:
        with pytest.raises(RemoteError) as caught:
            await frames_of(asker, base)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


async def test_nobody_there_is_unreachable(asker, unused_tcp_port):
    with pytest.raises(Unreachable):
        await frames_of(asker, f"http://127.0.0.1:{unused_tcp_port}")


# --- sessions


async def test_an_asker_with_the_secret_is_known_by_its_name_and_opens_one_session(serve, make_asker):
    server = await serve(Server())
    server.gatekeeper = Gatekeeper("edge-2", (SECRET,))
    asker = make_asker(SECRET)
    answers = await asyncio.gather(*(frames_of(asker, server.base) for _ in range(10)))
    assert answers == [[EndFrame()]] * 10
    assert (server.askers, server.hellos) == (["edge-1"] * 10, 1)


@pytest.mark.parametrize("known", [(OTHER,), ()])
async def test_an_asker_without_the_secret_gets_nothing(serve, make_asker, known):
    server = await serve(Server())
    server.gatekeeper = Gatekeeper("edge-2", (SECRET,))
    with pytest.raises(WrongSecret):
        await frames_of(make_asker(*known), server.base)
    assert server.askers == []


async def test_a_server_that_restarted_is_greeted_again(serve, make_asker):
    server = await serve(Server())
    server.gatekeeper = Gatekeeper("edge-2", (SECRET,))
    asker = make_asker(SECRET)
    await frames_of(asker, server.base)
    server.gatekeeper = Gatekeeper("edge-2", (SECRET,))  # it knows no session any more
    assert await frames_of(asker, server.base) == [EndFrame()]
    assert server.hellos == 2
    server.gatekeeper = Gatekeeper("edge-2", (OTHER,))
    with pytest.raises(WrongSecret):
        await frames_of(asker, server.base)


async def test_greeting_tells_who_answers(serve, make_asker):
    server = await serve(Server())
    server.gatekeeper = Gatekeeper("edge-2", (OTHER, SECRET))
    assert await make_asker(SECRET, OTHER).greet(server.base) == "edge-2"


# --- questions that are none


@pytest.mark.parametrize(
    "body, status",
    [
        (b"", 400),
        (b"\xc1", 400),
        (encode_message(msgspec.structs.replace(ASK, want=((5, 1),))), 400),
        (encode_message(msgspec.structs.replace(ASK, format=9)), 400),
        (bytes(MOST_ASK_BYTES + 1), 413),
    ],
)
async def test_nonsense_is_refused_before_anything_else(serve, body, status):
    server = await serve(Server())
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.base + ASK_PATH, data=body) as response,
    ):
        assert response.status == status


# --- messages


class Note(msgspec.Struct):
    text: str


async def test_a_message_and_its_reply(asker):
    body = encode_message(Note("x" * 100_000))
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    server, base = await raw_server(reply)
    async with server:
        assert await asker.message(base, "/note", Note("hello"), Note) == Note("x" * 100_000)


async def test_a_reply_that_comes_in_parts_is_read_to_its_end(asker):
    """Bigger than any buffer between the two: what is read first is not all."""
    note = Note("x" * (8 << 20))
    body = encode_message(note)
    parts = b"".join(chunk(body[at : at + 65536]) for at in range(0, len(body), 65536))
    server, base = await raw_server(OK_HEAD + parts + b"0\r\n\r\n")
    async with server:
        assert await asker.message(base, "/note", Note("hello"), Note) == note


@pytest.mark.parametrize("head", [OK_HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"])
async def test_a_reply_that_is_too_long_is_refused(asker, monkeypatch, head):
    monkeypatch.setattr("daemon.asking.MOST_MESSAGE_BYTES", 1000)
    body = encode_message(Note("x" * 4991))
    server, base = await raw_server(head + (chunk(body) + b"0\r\n\r\n" if head is OK_HEAD else body))
    async with server:
        with pytest.raises(RemoteError, match="more than 1000 bytes"):
            await asker.message(base, "/note", Note("hello"), Note)


async def test_a_reply_that_makes_no_sense_is_refused(asker):
    server, base = await raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xc1")
    async with server:
        with pytest.raises(RemoteError, match="malformed Note"):
            await asker.message(base, "/note", Note("hello"), Note)


async def test_a_message_response_says_what_it_is():
    response = message_response(Note("x"))
    assert (response.content_type, response.body) == ("application/msgpack", b"\x81\xa4text\xa1x")
