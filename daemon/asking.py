"""The asker's side of every request between programs: sessions, messages, streams of frames, and the one place that
turns aiohttp's errors into ours.

Unreachable: nobody lied, ask the next. RemoteError: what came cannot be read. WrongSecret: one side is a stranger.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

import aiohttp
import msgspec
from aiohttp.http_exceptions import HttpProcessingError, TransferEncodingError

from daemon.gathering import Gathering
from daemon.patience import Patience
from daemon.peer_auth import HELLO_PATH, SESSION_HEADER, HelloReply, Pass, WrongSecret, new_hello
from swarm.accounting import Cause
from swarm.conduct import WAIT_FOR_PIECES_S, WAIT_FOR_POINTER_S, Conduct
from swarm.errors import RemoteError, Unreachable
from swarm.wire import FRAMES_TYPE, MESSAGE_TYPE, Ask, Frame, FrameReader, decode_message, encode_message

ASK_PATH = "/-/swarm/ask"
ANNOUNCE_PATH = "/-/swarm/announce"
PURGE_PATH = "/-/swarm/purge"
GOSSIP_PATH = "/-/swarm/gossip"
CONNECT_S = 1.0
SILENCE_S = 1.0  # an edge that sends nothing, not even a WAIT, for so long is given up (DESIGN 5)
MOST_MESSAGE_BYTES = 16 << 20
READ_BUFFER_BYTES = 1 << 20
MOST_QUOTED = 200  # characters of an error that go into a log line

_T = TypeVar("_T")


class Asker:
    """All that one program asks of others, over kept-alive connections."""

    def __init__(self, node: str, known_secrets: Sequence[bytes]) -> None:
        self._node = node
        self._secrets = tuple(known_secrets)
        self._passes: dict[str, Pass] = {}
        self._greetings: dict[str, asyncio.Lock] = {}
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
        )

    async def close(self) -> None:
        await self._http.close()

    async def greet(self, base: str, within_s: float = SILENCE_S) -> str:
        """Open a session; the name of who answered. WrongSecret, Unreachable, RemoteError."""
        hello = new_hello(self._node)
        body = await self._guard(base, within_s, self._post(base, HELLO_PATH, encode_message(hello), None))
        fresh = Pass(self._secrets, hello, decode_message(body, HelloReply))
        self._passes[base] = fresh
        return fresh.node

    async def message(
        self, base: str, path: str, message: msgspec.Struct, reply: type[_T], *, within_s: float = 5.0
    ) -> _T:
        """Send one message, authenticated if a secret is set, and read the reply."""
        body = encode_message(message)

        async def once() -> bytes:
            return await self._guard(base, within_s, self._post(base, path, body, await self._sign(base, path, body)))

        return decode_message(await self._once_more(base, once), reply)

    async def ask(
        self, base: str, ask: Ask, *, silence_s: float = SILENCE_S, on_bytes: Callable[[int], None] | None = None
    ) -> AsyncGenerator[Frame, None]:
        """The frames of one answer, as they arrive, up to and including END. Close the generator to cancel."""
        body = encode_message(ask)

        async def once() -> aiohttp.ClientResponse:
            return await self._guard(base, silence_s, self._open(base, body))

        response = await self._once_more(base, once)
        try:
            reader = FrameReader()
            gathering = Gathering(response.connection.transport if response.connection else None)
            conduct = Conduct(silence_s / SILENCE_S * (WAIT_FOR_PIECES_S if ask.version else WAIT_FOR_POINTER_S))
            chunks = response.content.iter_any().__aiter__()
            while not reader.ended:
                asked_at = time.monotonic()
                try:
                    with gathering.of(reader.missing_bytes):
                        chunk = await self._guard(base, silence_s, anext(chunks))
                except StopAsyncIteration:
                    break
                if on_bytes:
                    on_bytes(len(chunk))
                conduct.on_bytes(len(chunk), time.monotonic() - asked_at)
                for frame in reader.feed(chunk):
                    conduct.on_frame(frame)
                    yield frame
            gathering.end()
            reader.on_eof()
            await self._finish(response)
        except BaseException:
            response.close()
            raise
        finally:
            response.release()

    async def _finish(self, response: aiohttp.ClientResponse) -> None:
        """Read the terminating chunk, so that the connection can be used again. The answer is whole: whatever else
        comes, breaks or stays away here costs the connection and nothing more."""
        try:
            async with asyncio.timeout(SILENCE_S):
                spare = await response.content.read(1)
        except (aiohttp.ClientError, OSError):
            response.close()
        else:
            if spare:
                response.close()

    async def _open(self, base: str, body: bytes) -> aiohttp.ClientResponse:
        headers = {"Content-Type": MESSAGE_TYPE, "Accept": FRAMES_TYPE}
        if signed := await self._sign(base, ASK_PATH, body):
            headers[SESSION_HEADER] = signed
        response = await self._http.post(base + ASK_PATH, data=body, headers=headers)
        if response.status != 200:
            why = await _why(response)
            response.close()
            raise _status_error(base, response.status, why)
        return response

    async def _post(self, base: str, path: str, body: bytes, signed: str | None) -> bytes:
        headers = {"Content-Type": MESSAGE_TYPE} | ({SESSION_HEADER: signed} if signed else {})
        async with self._http.post(base + path, data=body, headers=headers) as response:
            if response.status != 200:
                raise _status_error(base, response.status, await _why(response))
            reply = bytearray()
            async for chunk in response.content.iter_any():
                reply += chunk
                if len(reply) > MOST_MESSAGE_BYTES:
                    response.close()
                    raise RemoteError(f"{base} answered with more than {MOST_MESSAGE_BYTES} bytes")
            return bytes(reply)

    async def _sign(self, base: str, path: str, body: bytes) -> str | None:
        if not self._secrets:
            return None
        lock = self._greetings.setdefault(base, asyncio.Lock())
        async with lock:  # many requests at once open one session
            if base not in self._passes:
                await self.greet(base)
        return self._passes[base].header("POST", path, body)

    async def _once_more(self, base: str, once: Callable[[], Awaitable[_T]]) -> _T:
        """A server that restarted does not know our session: open another, once."""
        used = self._passes.get(base)
        try:
            return await once()
        except WrongSecret:
            if used is None:
                raise
            if self._passes.get(base) is used:
                del self._passes[base]
            return await once()

    async def _guard(self, base: str, within_s: float, doing: Awaitable[_T]) -> _T:
        began = time.monotonic()
        try:
            async with Patience(within_s):
                return await doing
        except TimeoutError as error:
            raise Unreachable(f"{base} was silent for {time.monotonic() - began:.1f} s") from error
        except aiohttp.ClientError as error:
            raise _translated(base, error) from error
        except OSError as error:
            raise Unreachable(f"{base}: {error.strerror or error}") from error


async def _why(response: aiohttp.ClientResponse) -> str:
    """The beginning of what a refusal says, for the log."""
    return (await response.content.read(MOST_QUOTED)).decode("utf-8", "replace").strip()


def _status_error(base: str, status: int, why: str) -> Exception:
    if status == 401:
        return WrongSecret(f"{base} answered {status}: it does not accept our secret")
    if status == 403:
        return WrongSecret(f"{base} answered {status}: {why}")
    if status == 404:
        return WrongSecret(f"{base} answered 404: it takes part in no swarm")
    if status in (429, 502, 503, 504):
        return Unreachable(f"{base} answered {status}")
    return RemoteError(f"{base} answered {status}", Cause.FRAMING)


def _translated(base: str, error: aiohttp.ClientError) -> Exception:
    """Broken framing is charged to the link; a connection that ends is only a peer that went away."""
    if isinstance(error, aiohttp.ClientPayloadError) and "not completed" in str(error):
        # Cut off by the end of its connection, although what aiohttp names as the cause is an error of encoding.
        return Unreachable(f"{base} went away in the middle of its answer")
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, TransferEncodingError | HttpProcessingError):
            return RemoteError(f"{base}: {_brief(error)}", Cause.FRAMING)
        seen = seen.__cause__
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL):
        return RemoteError(f"{base}: {_brief(error)}", Cause.FRAMING)
    return Unreachable(f"{base}: {_brief(error)}")


def _brief(error: Exception) -> str:
    """One line: aiohttp quotes all that it could not read."""
    text = " ".join(str(error).split())
    return text if len(text) <= MOST_QUOTED else text[:MOST_QUOTED] + "\u2026"
