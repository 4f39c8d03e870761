"""The origins of this edge's sites, behind one shape: asked with an `Ask`, each answers with frames.

`SignedOrigin` is our origin server. `PlainOrigin` is any HTTP server: what it sends is cut into pieces and vouched for
with this edge's node key as it arrives (trust `attested`).
"""

import hashlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Protocol

import aiohttp
import msgspec

from daemon.asking import Asker
from daemon.keys import Signer
from daemon.peer_auth import WrongSecret
from swarm.accounting import OriginFault
from swarm.errors import OriginUnreachable, RemoteError, Unreachable
from swarm.freshness import hls_default, initial_age_s, lifetime
from swarm.metainfo import (
    LEAST_PIECE_BYTES,
    PAGE_CONTEXT,
    POINTER_CONTEXT,
    CheckSignature,
    Page,
    Pointer,
    encode,
    piece_bytes_for,
    pieces_per_page,
)
from swarm.names import Path, version_id
from swarm.playlist import rewrite
from swarm.purging import PurgeBook
from swarm.wire import (
    Ask,
    EndFrame,
    Frame,
    PageFrame,
    PieceFrame,
    PointerFrame,
    RefusedFrame,
    Why,
)

log = logging.getLogger(__name__)

SILENCE_S = 10.0  # our origin says WAIT while it works; a foreign one may think so long before its first byte
CONNECT_S = 3.0
SLOW_FAILURE_S = 0.5
SILENT_PAUSE_S = 2.0
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "age", "date", "content-length"}
)


class Origin(Protocol):
    """One site's origin. `ask` raises OriginUnreachable, before the first frame or in the middle."""

    trust: str
    check: CheckSignature
    inline_bytes: int  # up to which size a body follows its pointer at once

    def ask(self, ask: Ask) -> AsyncGenerator[Frame, None]: ...

    async def close(self) -> None: ...


Failed = Callable[[OriginFault], None]


class SignedOrigin:
    """Our origin server, or several of them in order of preference."""

    trust = "signed"

    def __init__(
        self,
        urls: Sequence[str],
        check: CheckSignature,
        asker: Asker,
        anonymous: Asker,
        is_standalone: Callable[[], bool],
        inline_bytes: int,
        on_fault: Failed,
    ) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self.check = check
        self._asker = asker
        self._anonymous = anonymous
        self._is_standalone = is_standalone
        self.inline_bytes = inline_bytes
        self._on_fault = on_fault
        self._silent: OriginUnreachable | None = None  # how it failed lately, if that took long
        self._silent_until = 0.0

    async def close(self) -> None:
        """Its connections are the asker's."""

    async def ask(self, ask: Ask) -> AsyncGenerator[Frame, None]:
        """The first origin that answers; what breaks off in the middle is the caller's to ask for again."""
        if self._silent is not None and time.monotonic() < self._silent_until:
            raise OriginUnreachable(str(self._silent), timed_out=self._silent.timed_out)
        asked_at = time.monotonic()
        problem: Exception | None = None
        for url in self._urls:
            begun = False
            try:
                async with aclosing(self._frames(url, ask)) as frames:
                    async for frame in frames:
                        begun = True
                        yield frame
            except (Unreachable, RemoteError, WrongSecret) as error:
                self._on_fault(OriginFault.BROKEN if begun else OriginFault.UNREACHABLE)
                problem = error
                if begun:
                    break
            else:
                self._silent = None
                return
        timed_out = isinstance(problem, Unreachable) and "silent" in str(problem)
        failure = OriginUnreachable(f"origin: {problem}", timed_out=timed_out)
        if time.monotonic() - asked_at > SLOW_FAILURE_S:
            # Each question to an origin that swallows packets costs its asker a second: ask only once in a while.
            self._silent, self._silent_until = failure, time.monotonic() + SILENT_PAUSE_S
        raise failure from problem

    async def _frames(self, url: str, ask: Ask) -> AsyncGenerator[Frame, None]:
        """One origin's answer. Standalone, or refused for a wrong secret before the tracker could say so, this edge
        asks like anybody: what the origin sends is signed all the same."""
        if not self._is_standalone():
            try:
                async with aclosing(self._asker.ask(url, ask, silence_s=SILENCE_S)) as frames:
                    async for frame in frames:
                        yield frame
            except WrongSecret as error:  # always before the first frame
                log.warning("the origin refused us: %s; asking it as a stranger", error)
            else:
                return
        async with aclosing(self._anonymous.ask(url, ask, silence_s=SILENCE_S)) as frames:
            async for frame in frames:
                yield frame


class PlainOrigin:
    """A foreign HTTP server. One GET streams the whole object, once, whatever pieces are asked for."""

    trust = "attested"
    inline_bytes = 1 << 62

    def __init__(
        self,
        urls: Sequence[str],
        check: CheckSignature,
        signer: Signer,
        swarm_time: Callable[[], float],
        on_fault: Failed,
        book: PurgeBook | None = None,
    ) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self.check = check
        self._book = PurgeBook() if book is None else book
        self._signer = signer
        self._swarm_time = swarm_time
        self._on_fault = on_fault
        self._sequence = 0  # rises for every pointer made here, so for every path
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "User-Agent"),
        )

    async def close(self) -> None:
        await self._http.close()

    async def request(
        self, method: str, target: str, headers: dict[str, str], body: object = None
    ) -> aiohttp.ClientResponse:
        """The first origin that answers at all. OriginUnreachable if none does."""
        problem: Exception | None = None
        for url in self._urls:
            try:
                return await self._http.request(method, url + target, headers=headers, data=body, allow_redirects=False)
            except TimeoutError as error:
                self._on_fault(OriginFault.TIMEOUT)
                problem = OriginUnreachable(f"origin {url} was silent", timed_out=True)
                problem.__cause__ = error
            except (aiohttp.ClientError, OSError) as error:
                self._on_fault(OriginFault.UNREACHABLE)
                problem = OriginUnreachable(f"origin {url}: {error}")
                problem.__cause__ = error
        raise problem or OriginUnreachable("no origin")

    async def ask(self, ask: Ask) -> AsyncGenerator[Frame, None]:
        """One GET, conditional if the asker knows a pointer: pointer, pages and pieces as they arrive."""
        path = Path(ask.site, *_split(ask.path))
        known = _own_pointer(ask.pointer) if ask.version is None else None
        # Before it is asked for: a purge that comes meanwhile covers the answer, one that came before does not.
        sequence = self._next_sequence(ask.known_sequence or 0)
        async with await self.request("GET", path.target, _conditional(known, ask)) as response:
            if response.status >= 500:
                self._on_fault(OriginFault.STATUS)
                raise OriginUnreachable(f"origin answered {response.status}")
            playlist = await self._playlist(path, response)
            size = response.content_length if playlist is None else len(playlist)
            pointer = self._pointer(path, response, size, known, sequence)
            if pointer is None:
                yield RefusedFrame(Why.UNSHARED)
            elif ask.version is not None and pointer.version != ask.version:
                yield RefusedFrame(Why.UNKNOWN, detail="the origin's object has changed")
            else:
                if ask.version is None:
                    age_ms = round((self._swarm_time() - pointer.made) * 1000)
                    signed = self._signer.sign(POINTER_CONTEXT, encode(pointer))
                    yield PointerFrame(signed, max(0, age_ms), self.trust)
                if response.status != HTTPStatus.NOT_MODIFIED:
                    chunks = self._chunks(response) if playlist is None else _once(playlist)
                    async for frame in self._body(pointer, chunks):
                        yield frame
            yield EndFrame()

    def _next_sequence(self, after: int) -> int:
        self._sequence = max(self._sequence + 1, int(self._swarm_time() * 1000), after + 1)
        return self._sequence

    async def _playlist(self, path: Path, response: aiohttp.ClientResponse) -> bytes | None:
        """A playlist's body, the URIs under the origin's URL made relative so that they lead back to us; None for
        anything else. What is not a playlist after all stays as it is."""
        if response.status != HTTPStatus.OK or not path.url_path.endswith(".m3u8"):
            return None
        body = b"".join([chunk async for chunk in self._chunks(response)])
        try:
            text = body.decode()
            for url in self._urls:
                text = rewrite(text, url + path.target, url)
        except (UnicodeDecodeError, RemoteError):
            return body
        return text.encode()

    def _pointer(
        self, path: Path, response: aiohttp.ClientResponse, size: int | None, known: Pointer | None, sequence: int
    ) -> Pointer | None:
        """The pointer these headers make; None where HTTP forbids to share the response."""
        if known is not None and response.status == HTTPStatus.NOT_MODIFIED:
            return self._made(path, _updated(known, _fields(response)), known, sequence)
        now = self._swarm_time()
        bare = Pointer(
            site=path.site,
            path=path.target,
            version=version_id(path.key, "", _validator(response, now) + self._purged(path, response), size or 0),
            status=response.status,
            headers=(),
            sequence=0,
            made=now,
            expires=now,
            born=_born(response, now),
            size=size,
            piece_bytes=piece_bytes_for(size),
        )
        return self._made(path, _fields(response), bare, sequence) if _is_for_all(response) else None

    def _purged(self, path: Path, response: aiohttp.ClientResponse) -> str:
        """Part of what tells versions apart: after a hard purge, the same validator is no proof of the same bytes."""
        purge = self._book.judge(path, 0, _fields(response))
        return "" if purge is None or purge.soft else f" purged {purge.sequence}"

    def _made(self, path: Path, headers: tuple[tuple[str, str], ...], bare: Pointer, sequence: int) -> Pointer | None:
        """The pointer with the lifetime its headers state, or the profile's where they are silent."""
        now = self._swarm_time()
        life = lifetime(bare.status, headers, received_at=now)
        if not life.explicit:
            life = hls_default(path.url_path, bare.status) or life
        if not life.storable:
            return None
        made = now - initial_age_s(headers, 0.0)
        return msgspec.structs.replace(
            bare,
            headers=tuple((name, value) for name, value in headers if name.lower() not in HOP_BY_HOP),
            sequence=sequence,
            made=made,
            expires=made + life.ttl_s,
        )

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        """The body as it arrives. OriginUnreachable if it breaks off: a truncated body is never taken for a whole."""
        try:
            async for chunk in response.content.iter_any():
                yield chunk
        except TimeoutError as error:
            self._on_fault(OriginFault.TIMEOUT)
            raise OriginUnreachable("origin fell silent in the middle of a body", timed_out=True) from error
        except (aiohttp.ClientError, OSError) as error:
            self._on_fault(OriginFault.BROKEN)
            raise OriginUnreachable(f"origin broke off: {error}") from error

    async def _body(self, pointer: Pointer, chunks: AsyncIterable[bytes]) -> AsyncGenerator[Frame, None]:
        """The body as pages of whole pieces, each signed as soon as its bytes are there."""
        assert pointer.version is not None
        cutter = _Cutter(pointer.version, pointer.piece_bytes, self._signer)
        async for chunk in chunks:
            for frame in cutter.feed(chunk):
                yield frame
        for frame in cutter.finish():
            yield frame


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


class _Cutter:
    """Bytes in any chunking -> signed pages, each followed by its pieces."""

    def __init__(self, version: bytes, piece_bytes: int, signer: Signer) -> None:
        self._version = version
        self._piece_bytes = piece_bytes or LEAST_PIECE_BYTES
        self._signer = signer
        self._buffer = bytearray()
        self._offset = 0
        self._piece = 0

    def feed(self, chunk: bytes) -> list[Frame]:
        self._buffer += chunk
        whole = len(self._buffer) // self._piece_bytes
        most = pieces_per_page(self._piece_bytes)
        frames: list[Frame] = []
        while whole:
            taken = min(whole, most)
            frames += self._page(taken * self._piece_bytes, None)
            whole -= taken
        return frames

    def finish(self) -> list[Frame]:
        return self._page(len(self._buffer), self._offset + len(self._buffer))

    def _page(self, length: int, size: int | None) -> list[Frame]:
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        cut = [data[at : at + self._piece_bytes] for at in range(0, length, self._piece_bytes)]
        page = Page(
            version=self._version,
            first_piece=self._piece,
            offset=self._offset,
            length=length,
            piece_bytes=self._piece_bytes,
            digests=b"".join(hashlib.sha256(piece).digest() for piece in cut),
            size=size,
        )
        frames: list[Frame] = [PageFrame(self._signer.sign(PAGE_CONTEXT, encode(page)))]
        frames += [PieceFrame(self._piece + at, piece) for at, piece in enumerate(cut)]
        self._piece += len(cut)
        self._offset += length
        return frames


def _is_for_all(response: aiohttp.ClientResponse) -> bool:
    """Whether one stored response may answer every viewer: no cookie in it, and chosen by nothing that viewers send.

    We ask without Accept-Encoding or Origin, so what varies by those is the plain form, which all can read.
    """
    varies = {name.strip().lower() for field in response.headers.getall("Vary", ()) for name in field.split(",")}
    return "Set-Cookie" not in response.headers and varies <= {"accept-encoding", "origin", ""}


def _fields(response: aiohttp.ClientResponse) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), value) for name, value in response.headers.items())


def _split(target: str) -> tuple[str, str]:
    url_path, _, query = target.partition("?")
    return url_path, query


def _validator(response: aiohttp.ClientResponse, now: float) -> str:
    """What tells this version from the next: a strong ETag, else Last-Modified and length, else the moment."""
    etag = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    modified = response.headers.get("Last-Modified")
    if modified and response.content_length is not None:
        return f"{modified} {etag}"
    return f"generation {now:.6f}"


def _born(response: aiohttp.ClientResponse, now: float) -> float:
    try:
        return parsedate_to_datetime(response.headers["Last-Modified"]).timestamp()
    except (KeyError, ValueError):
        return now


def _own_pointer(frame: PointerFrame | None) -> Pointer | None:
    """What this edge already knows, as it passed it in: no need to verify it again."""
    return None if frame is None else msgspec.msgpack.decode(frame.signed.body, type=Pointer)


def _conditional(known: Pointer | None, ask: Ask) -> dict[str, str]:
    """Request headers: why we ask, and the validators of what we hold (RFC 9110 section 13)."""
    headers = {"Starling-Reason": str(ask.reason or "")}
    if known is not None and known.version is not None:
        for stored, sent in (("etag", "If-None-Match"), ("last-modified", "If-Modified-Since")):
            if value := known.header(stored):
                headers[sent] = value
    return headers


def _updated(known: Pointer, fresh: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """A 304's headers replace the stored ones of the same name (RFC 9111 section 3.2)."""
    names = {name.lower() for name, _ in fresh}
    return tuple((name, value) for name, value in known.headers if name.lower() not in names) + fresh
