"""A foreign HTTP server as origin (trust `attested`): asked as a shared cache asks, in the name of some viewer.

What it sends is cut into pieces and vouched for with this edge's node key as it arrives; what HTTP forbids to share is
handed over as it is, its body still to be read.
"""

import asyncio
import re
import socket
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from http import HTTPStatus

import aiohttp
import msgspec
from aiohttp import AddrInfoType
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

from daemon.keys import Signer
from edge.cutter import Cutter
from swarm.accounting import OriginFault, Reason
from swarm.errors import OriginUnreachable, RemoteError
from swarm.freshness import Lifetime, hls_default, initial_age_s, lifetime
from swarm.headers import Headers, combined, first
from swarm.http_dates import format_http_date, parse_http_date
from swarm.metainfo import POINTER_CONTEXT, CheckSignature, Pointer, encode, piece_bytes_for
from swarm.metering import Meter
from swarm.names import Path, version_id
from swarm.playlist import Media, is_live, lifetime_s, parse, rewrite
from swarm.purging import PurgeBook
from swarm.reuse import Fields, end_to_end, fields_of, has_preconditions, suits, updated, validators, variant_of
from swarm.wire import Ask, EndFrame, Frame, PointerFrame, RefusedFrame, Why

CONNECT_S = 3.0
SILENCE_S = 10.0  # before the first byte, and between any two
HELD_S = 60.0  # a playlist asked for before it exists is held back by its origin: three target durations and more
UPLOAD_S = 600.0  # the origin may well be silent while a body is sent to it
IDLE_S = 3.0  # a connection is kept so long: many servers close theirs after five seconds, in the middle of a request
QUIET_S = 0.005  # a body that pauses so long is passed on as far as it came
MOST_FIELD_BYTES = 64 << 10
MOST_READ_TO_AUDIT = 1 << 20
MOST_WHOLE_TO_AUDIT = 64 << 10  # where the origin gives no ranges, and a piece costs the whole body
LEAST_AGE_S = 2.0  # many servers make a tag of size and modification time, in seconds
BODILESS = ("GET", "HEAD", "OPTIONS")
ERRORS = frozenset({500, 502, 503, 504})  # for which a stale answer may stand in (RFC 5861 section 4)

# Fields of a request that are this edge's own to say.
_OURS = frozenset({"host", "content-length", "expect", "starling-reason", "starling-trace"})
_NOT_STORED = frozenset({"age", "content-length"})
_NOT_IN_A_TOKEN = re.compile(r"[^A-Za-z0-9!#$%&'*+.^_`|~-]")

Failed = Callable[[OriginFault], None]
METERED_BYTES = 16 << 10  # read at once from a large body that several homes fetch together
WINDOW_BYTES = (32 << 10, 4 << 20)  # what the origin may send ahead of that: at least, at most ...
WINDOW_S = 0.1  # ... and at an edge's share, for round trips of so long


@dataclass(frozen=True)
class Share:
    """This edge's share of a large object that the swarm's homes fetch together: how fast it may take it."""

    rate_bps: float | None


ShareOf = Callable[[Path, Pointer], Share | None]  # None: it is streamed whole


class NotShared(Exception):
    """The answer is for whoever asked, alone. Its body is still to be read: close `answer`."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        super().__init__(f"{answer.status} that may not be shared")
        self.answer = answer


@dataclass(frozen=True)
class Meaning:
    """What an answer says: fields to store, under which variant, and for how long."""

    status: int
    headers: Fields
    variant: str
    life: Lifetime
    age_s: float
    confirmed: Pointer | None = None  # of a 304: the stored pointer that it is about


@dataclass(frozen=True)
class PieceAgain:
    """A piece asked for once more. `data` None: the origin has something else by now, or cannot give pieces.
    `is_proof`: it says itself that these are the bytes it has always had under that validator."""

    data: bytes | None = None
    read_bytes: int = 0
    is_proof: bool = False


class PlainOrigin:
    """A foreign HTTP server, or several of them in order of preference. One GET streams the whole object, once,
    whatever pieces are asked for."""

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
        share_of: ShareOf = lambda path, pointer: None,
    ) -> None:
        self.take_urls(urls)
        self._share_of = share_of
        self._meter = Meter()
        self._window_bytes = WINDOW_BYTES[1]
        self.check = check
        self._book = PurgeBook() if book is None else book
        self._signer = signer
        self._swarm_time = swarm_time
        self._on_fault = on_fault
        self._name = _NOT_IN_A_TOKEN.sub("-", signer.name)
        self._sequence = 0  # rises for every pointer made here, so for every path
        self._http = _session(IDLE_S)
        self._metered = _session(IDLE_S, self._narrow_socket)
        self._once = _session(None)  # for what must not be sent twice: never on a connection that may just be closing

    def take_urls(self, urls: Sequence[str]) -> None:
        """Asked from now on, in order of preference."""
        self._urls = [url.rstrip("/") for url in urls]

    async def close(self) -> None:
        await self._http.close()
        await self._metered.close()
        await self._once.close()

    # --- requests

    async def request(
        self,
        method: str,
        target: str,
        fields: Fields,
        reason: Reason,
        body: object = None,
        http: aiohttp.ClientSession | None = None,
    ) -> aiohttp.ClientResponse:
        """The first origin that answers at all. OriginUnreachable if none does."""
        if http is None:
            http = self._http if method in BODILESS and body is None else self._once
        silence_s = UPLOAD_S if body is not None else HELD_S if _is_slow(method, target) else SILENCE_S
        problem: OriginUnreachable | None = None
        for url in self._urls:
            try:
                return await http.request(
                    method,
                    URL(url + target, encoded=True),
                    headers=self._sent(fields, reason),
                    data=body,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s),
                )
            except TimeoutError as error:
                problem = self._problem(OriginFault.TIMEOUT, f"origin {url} was silent", error)
            except (aiohttp.ClientError, OSError) as error:
                problem = self._problem(OriginFault.UNREACHABLE, f"origin {url}: {error}", error)
                if body is not None and not isinstance(error, aiohttp.ClientConnectorError):
                    break  # part of the body is gone
        raise problem or OriginUnreachable("no origin")

    def _problem(self, fault: OriginFault, text: str, cause: Exception) -> OriginUnreachable:
        self._on_fault(fault)
        problem = OriginUnreachable(text, timed_out=fault is OriginFault.TIMEOUT)
        problem.__cause__ = cause
        return problem

    def _sent(self, fields: Fields, reason: Reason) -> CIMultiDict[str]:
        """Whose way a request went is said in it (RFC 9110 section 7.6.3, RFC 8586)."""
        sent = CIMultiDict((name, value) for name, value in fields if name.lower() not in _OURS)
        for name, mine in (("Via", f"1.1 {self._name}"), ("CDN-Loop", self._name)):
            sent[name] = ", ".join([*sent.popall(name, ()), mine])
        sent["Starling-Reason"] = reason
        if (length := first(fields, "Content-Length")) is not None:
            sent["Content-Length"] = length
        return sent

    def has_seen(self, fields: Fields) -> bool:
        """Whether a request passed through this edge before: the origin leads back to it."""
        loop = combined(fields, "CDN-Loop") or ""
        return any(member.partition(";")[0].strip() == self._name for member in loop.split(","))

    # --- questions

    async def ask(
        self, ask: Ask, stored: Sequence[Pointer] = (), *, errors_are_silence: bool = False
    ) -> AsyncGenerator[Frame, None]:
        """One GET: pointer, pages and pieces as they arrive. NotShared, OriginUnreachable.

        `stored`: what is held of the path, whole; the origin is asked whether one of these is still good.
        `errors_are_silence`: a 5xx is no answer, for something better can stand in.
        """
        path = Path(ask.site, *_split(ask.path))
        if ask.version is not None and stored and self._share_of(path, stored[0]) is not None:
            async for frame in self._runs(path, ask, stored[0]):
                yield frame
            return
        fields = ask.fields if ask.version is None else fields_of(ask.variant)
        if ask.version is not None or has_preconditions(fields):
            stored = ()
        # Before it is asked for: a purge that comes meanwhile covers the answer, one that came before does not.
        sequence = self._next_sequence(ask.known_sequence or 0)
        sent = fields + _validators_of(stored, fields)
        async with AsyncExitStack() as stack:
            answer = await self.request("GET", path.target, sent, ask.reason or Reason.STANDALONE)
            await stack.enter_async_context(answer)
            if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self._on_fault(OriginFault.STATUS)
                if ask.version is not None or (errors_are_silence and answer.status in ERRORS):
                    raise OriginUnreachable(f"origin answered {answer.status}", status=answer.status)
            meaning = self._meaning(path, answer.status, answer.headers.items(), fields, stored)
            if meaning is None and ask.version is not None:
                yield RefusedFrame(Why.UNKNOWN, detail="the origin's object may not be shared any more")
                return
            if meaning is None:
                stack.pop_all()
                raise NotShared(answer)
            async for frame in self._told(path, ask, answer, meaning, sequence):
                yield frame

    async def _told(
        self, path: Path, ask: Ask, answer: aiohttp.ClientResponse, meaning: Meaning, sequence: int
    ) -> AsyncGenerator[Frame, None]:
        """The answer as frames."""
        body = await self._playlist(path, answer)
        if body is not None:
            meaning = _with_playlist(path, meaning, body)
        if body is None:
            size = answer.content_length
            validator = _validator(meaning.headers, size, self._swarm_time())
        else:  # what may be rewritten several times a second has its own bytes for a validator
            size, validator = len(body), f"body {sha256(body).hexdigest()}"
        pointer = self._pointer(path, meaning, size, validator, sequence)
        if ask.version is not None and pointer.version != ask.version:
            yield RefusedFrame(Why.UNKNOWN, detail="the origin's object has changed")
        else:
            if ask.version is None:
                signed = self._signer.sign(POINTER_CONTEXT, encode(pointer))
                yield PointerFrame(signed, round(meaning.age_s * 1000), self.trust)
            # A large object comes run by run to whoever is home for them: this answer is cut off before much is sent.
            if meaning.confirmed is None and (body is not None or self._share_of(path, pointer) is None):
                async for frame in self._body(pointer, answer, body):
                    yield frame
        yield EndFrame()

    async def piece(self, pointer: Pointer, offset: int, length: int) -> PieceAgain:
        """Bytes of the body that a pointer names, asked for anew. OriginUnreachable."""
        end = offset + length - 1
        fields = (*fields_of(pointer.variant), ("Range", f"bytes={offset}-{end}"))
        answer = await self.request("GET", pointer.path, fields, Reason.AUDIT)
        async with answer:
            stated, _, total = answer.headers.get("Content-Range", "").partition("/")
            is_part = answer.status == HTTPStatus.PARTIAL_CONTENT and stated == f"bytes {offset}-{end}"
            is_part = is_part and pointer.size in (None, int(total) if total.isdecimal() else None)
            is_whole = answer.status == HTTPStatus.OK and answer.content_length == pointer.size is not None
            is_whole = is_whole and (pointer.size or 0) <= MOST_WHOLE_TO_AUDIT
            if not (is_part or is_whole) or not _is_same(pointer, answer.headers):
                return PieceAgain()
            data = bytearray()
            while (chunk := await self._read(answer)) and len(data) <= MOST_READ_TO_AUDIT:
                data += chunk
        wanted = bytes(data[offset : end + 1] if is_whole else data)
        return PieceAgain(wanted if len(wanted) == length else None, len(data), _is_proof(pointer))

    def _next_sequence(self, after: int) -> int:
        self._sequence = max(self._sequence + 1, int(self._swarm_time() * 1000), after + 1)
        return self._sequence

    # --- what answers mean

    def refreshed(self, path: Path, fields: Fields, stored: Pointer, headers: Headers) -> PointerFrame | None:
        """What a pointer becomes when the origin answered a HEAD with these headers, and they agree with it (RFC 9111
        section 4.3.5)."""
        meaning = self._meaning(path, HTTPStatus.NOT_MODIFIED, headers, fields, (stored,))
        if meaning is None:
            return None
        pointer = self._pointer(path, meaning, stored.size, "", self._next_sequence(stored.sequence))
        return PointerFrame(
            self._signer.sign(POINTER_CONTEXT, encode(pointer)), round(meaning.age_s * 1000), self.trust
        )

    def _meaning(
        self, path: Path, status: int, answered: Headers, fields: Fields, stored: Sequence[Pointer]
    ) -> Meaning | None:
        """None where HTTP forbids to share the answer, or there is no use in keeping it."""
        came = tuple((str(name), value) for name, value in answered)
        age_s = initial_age_s(came, 0.0)
        headers = end_to_end(came, but=_NOT_STORED)
        if first(headers, "Date") is None:
            headers += (("Date", format_http_date(self._swarm_time())),)
        confirmed = _confirmed(headers, fields, stored) if status == HTTPStatus.NOT_MODIFIED else None
        if confirmed is not None:
            headers, status = updated(confirmed.headers, headers), confirmed.status
        variant = variant_of(combined(headers, "Vary"), fields)
        authorized = first(fields, "Authorization") is not None
        life = lifetime(status, headers, received_at=self._swarm_time(), authorized=authorized)
        if life.storable and not life.explicit:
            life = hls_default(path.url_path, status) or life
        kept = tuple((name, value) for name, value in headers if name.lower() not in life.withheld)
        if confirmed is not None:  # not to be handed over: whoever asked may have nothing that a 304 could be about
            return Meaning(status, kept, confirmed.variant if variant is None else variant, life, age_s, confirmed)
        if variant is None or not (life.storable and _is_of_use(path, life, age_s, headers)):
            return None
        if kept != headers:  # whoever asked must have all of it, and nobody else may
            return None
        return Meaning(status, kept, variant, life, age_s)

    def _pointer(self, path: Path, meaning: Meaning, size: int | None, validator: str, sequence: int) -> Pointer:
        """`size`: of the body as it is stored; `validator`: what tells it from others; unused if one is confirmed."""
        now, life = self._swarm_time(), meaning.life
        made = now - meaning.age_s
        ttl_s = life.ttl_s if life.storable and not life.revalidate_always else 0.0
        pointer = meaning.confirmed or Pointer(
            site=path.site,
            path=path.target,
            version=self._version(path, meaning, size, validator),
            status=meaning.status,
            headers=(),
            sequence=sequence,
            made=made,
            expires=made,
            born=_born(meaning.headers, now),
            size=size,
            piece_bytes=piece_bytes_for(size),
        )
        return msgspec.structs.replace(
            pointer,
            variant=meaning.variant,
            headers=meaning.headers,
            sequence=sequence,
            made=made,
            expires=made + ttl_s,
        )

    def _version(self, path: Path, meaning: Meaning, size: int | None, validator: str) -> bytes:
        """After a hard purge, the same validator is no proof of the same bytes."""
        purge = self._book.judge(path, 0, meaning.headers)
        purged = "" if purge is None or purge.soft else f" purged {purge.sequence}"
        return version_id(path.key, meaning.variant, validator + purged, size or 0)

    # --- large objects, which several homes fetch together

    def _narrow_socket(self, info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = info
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._window_bytes)
        return made

    async def _runs(self, path: Path, ask: Ask, pointer: Pointer) -> AsyncGenerator[Frame, None]:
        """The pieces wanted of a known version, one request a run (RFC 9110 section 14)."""
        assert pointer.size is not None
        for begin, end in ask.want:
            span = begin * pointer.piece_bytes, min(end * pointer.piece_bytes, pointer.size)
            share = self._share_of(path, pointer)
            if share is not None and share.rate_bps is not None:
                wished = int(share.rate_bps / 8 * WINDOW_S)
                self._window_bytes = max(WINDOW_BYTES[0], min(WINDOW_BYTES[1], wished))
            sent = fields_of(ask.variant) + _of_part(pointer, span)
            reason = ask.reason or Reason.STANDALONE
            async with await self.request("GET", path.target, sent, reason, http=self._metered) as answer:
                if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    self._on_fault(OriginFault.STATUS)
                    raise OriginUnreachable(f"origin answered {answer.status}", status=answer.status)
                if not _is_part(answer, pointer, span):
                    yield RefusedFrame(Why.UNKNOWN, detail="the origin's object has changed")
                    return
                at, stop = (begin, end) if answer.status == HTTPStatus.PARTIAL_CONTENT else (0, end)
                async for frame in self._part(pointer, answer, at, stop, share.rate_bps if share else None):
                    yield frame
        yield EndFrame()

    async def _part(
        self, pointer: Pointer, answer: aiohttp.ClientResponse, first: int, end: int, rate_bps: float | None
    ) -> AsyncGenerator[Frame, None]:
        """Pieces first..end-1, read no faster than this edge's share of the origin's uplink: a receiver that takes no
        more is not sent more."""
        assert pointer.version is not None
        assert pointer.size is not None
        at, stop = first * pointer.piece_bytes, min(end * pointer.piece_bytes, pointer.size)
        cutter = Cutter(pointer.version, pointer.piece_bytes, self._signer, first)
        while at < stop:
            chunk = await self._read(answer, min(METERED_BYTES, stop - at))
            if not chunk:
                raise self._problem(OriginFault.BROKEN, "origin broke off in the middle of a range", EOFError())
            at += len(chunk)
            for frame in cutter.feed(chunk):
                yield frame
            if rate_bps is not None:
                await asyncio.sleep(self._meter.pause_s(len(chunk), rate_bps, time.monotonic()))
        if stop == pointer.size:
            for frame in cutter.finish():
                yield frame

    # --- bodies

    async def _playlist(self, path: Path, answer: aiohttp.ClientResponse) -> bytes | None:
        """A playlist's body, the URIs under the origin's URL made relative so that they lead back to us; None for
        anything else. What is not a playlist after all stays as it is."""
        if answer.status != HTTPStatus.OK or not path.url_path.endswith(".m3u8"):
            return None
        pieces = []
        while chunk := await self._read(answer):
            pieces.append(chunk)
        body = b"".join(pieces)
        try:
            text = body.decode()
            for url in self._urls:
                text = rewrite(text, url + path.target, url)
        except (UnicodeDecodeError, RemoteError):
            return body
        return text.encode()

    async def _body(
        self, pointer: Pointer, answer: aiohttp.ClientResponse, body: bytes | None
    ) -> AsyncGenerator[Frame, None]:
        """The body as pages of whole pieces, each signed as soon as its bytes are there. Of a body of unknown size what
        has come is passed on whenever it pauses: it may be growing as slowly as it is played."""
        assert pointer.version is not None
        cutter = Cutter(pointer.version, pointer.piece_bytes, self._signer)
        if body is not None:
            for frame in cutter.feed(body):
                yield frame
        elif pointer.size is not None:
            while chunk := await self._read(answer):
                for frame in cutter.feed(chunk):
                    yield frame
        else:
            async for frame in self._growing(cutter, answer):
                yield frame
        for frame in cutter.finish():
            yield frame

    async def _growing(self, cutter: Cutter, answer: aiohttp.ClientResponse) -> AsyncGenerator[Frame, None]:
        while True:
            chunk = None
            if cutter.kept_back:
                try:
                    async with asyncio.timeout(QUIET_S):
                        chunk = await self._read(answer)
                except TimeoutError:
                    for frame in cutter.flush():
                        yield frame
            if chunk is None:
                chunk = await self._read(answer)
            if not chunk:
                return
            for frame in cutter.feed(chunk):
                yield frame

    async def _read(self, answer: aiohttp.ClientResponse, most: int | None = None) -> bytes:
        """What has arrived, but not more than `most`; empty at the end. OriginUnreachable if it breaks off: a
        truncated body is never taken for a whole."""
        try:
            return await (answer.content.readany() if most is None else answer.content.read(most))
        except aiohttp.ServerTimeoutError as error:
            raise self._problem(OriginFault.TIMEOUT, "origin fell silent in the middle of a body", error) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise self._problem(OriginFault.BROKEN, f"origin broke off: {error}", error) from error


class _HeadFirst(ResponseHandler):
    """Hands the head of an answer on before what follows it is read. Servers send more than their Content-Length says;
    aiohttp finds that out (and closes the connection, as it must: RFC 9112 section 6.3), but if it came in one packet
    with the head, the answer would be lost with it."""

    def data_received(self, data: bytes) -> None:
        cut = data.find(b"\r\n\r\n") + 4
        if 4 <= cut < len(data):
            super().data_received(data[:cut])
            data = data[cut:]
        super().data_received(data)


def _is_slow(method: str, target: str) -> bool:
    """Whether an origin may think long before it answers: about what it is to do, or for want of the next part."""
    return method not in ("GET", "HEAD") or "_HLS_msn=" in target


def _of_part(pointer: Pointer, span: tuple[int, int]) -> Fields:
    """A range of exactly this version (RFC 9110 sections 13.1.1 and 14.2)."""
    return (("Range", f"bytes={span[0]}-{span[1] - 1}"), ("If-Match", pointer.header("etag") or ""))


def _is_part(answer: aiohttp.ClientResponse, pointer: Pointer, span: tuple[int, int]) -> bool:
    """Whether an answer is what was asked for, or (a server may ignore `Range`) the whole it is part of."""
    if answer.headers.get("ETag") != pointer.header("etag"):
        return False
    if answer.status == HTTPStatus.OK:
        return answer.content_length == pointer.size
    told = f"bytes {span[0]}-{span[1] - 1}/{pointer.size}"
    return answer.status == HTTPStatus.PARTIAL_CONTENT and answer.headers.get("Content-Range") == told


def _session(
    idle_s: float | None, socket_factory: Callable[[AddrInfoType], socket.socket] | None = None
) -> aiohttp.ClientSession:
    """A client that says nothing of its own accord, and remembers nobody's cookies. `idle_s` None: a connection serves
    once."""
    if idle_s is None:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
    else:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=idle_s, socket_factory=socket_factory)
    connector._factory = partial(_HeadFirst, loop=asyncio.get_running_loop())  # type: ignore[assignment]  # no public way
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        max_line_size=MOST_FIELD_BYTES,
        max_field_size=MOST_FIELD_BYTES,
    )


def _split(target: str) -> tuple[str, str]:
    url_path, _, query = target.partition("?")
    return url_path, query


def _validators_of(stored: Sequence[Pointer], fields: Fields) -> Fields:
    """Preconditions that ask whether anything stored is still good (RFC 9111 section 4.3.1): the tags of all variants,
    but a date only of the one that this request would be answered with."""
    tags = [tag for pointer in stored if (tag := pointer.header("etag"))]
    sent: Fields = (("If-None-Match", ", ".join(dict.fromkeys(tags))),) if tags else ()
    for pointer in stored:
        if suits(pointer.variant, fields) and (modified := pointer.header("last-modified")):
            return (*sent, ("If-Modified-Since", modified))
    return sent


def _confirmed(headers: Fields, fields: Fields, stored: Sequence[Pointer]) -> Pointer | None:
    """The stored pointer that a 304 is about (RFC 9111 section 4.3.4); None: about none of ours."""
    tag, _ = validators(headers)
    if tag is not None:
        for pointer in stored:
            if (pointer.header("etag") or "").removeprefix("W/") == tag.removeprefix("W/"):
                return pointer
    return next((pointer for pointer in stored if suits(pointer.variant, fields)), None)


def _is_of_use(path: Path, life: Lifetime, age_s: float, headers: Fields) -> bool:
    """Whether anybody else can be answered from it: while it is fresh, in its grace, or once it is found unchanged.
    Those who wait for what viewers watch together take it even so."""
    lasts = max(life.ttl_s, life.ttl_s + life.swr_s, life.ttl_s + life.sie_s) > age_s and not life.revalidate_always
    return lasts or any(validators(headers)) or is_watched_together(path)


def is_watched_together(path: Path) -> bool:
    """What is streamed is for all alike, whatever a server says of it that does not forbid to share it."""
    return hls_default(path.url_path, HTTPStatus.OK) is not None


def _with_playlist(path: Path, meaning: Meaning, body: bytes) -> Meaning:
    """Where the origin said nothing of a playlist's lifetime, the playlist itself tells (RFC 8216bis appendix B.1)."""
    if meaning.life.explicit:
        return meaning
    try:
        playlist = parse(body.decode())
    except (UnicodeDecodeError, RemoteError):
        return meaning
    target_s = playlist.target_duration_s if isinstance(playlist, Media) else None
    live = isinstance(playlist, Media) and is_live(playlist)
    life = hls_default(path.url_path, meaning.status, target_s=target_s, live=live) or meaning.life
    ttl_s = lifetime_s(playlist, blocking="_HLS_msn=" in path.query)
    return replace(meaning, life=replace(life, ttl_s=ttl_s))


def _validator(headers: Fields, length: int | None, now: float) -> str:
    """What tells this version from the next: a strong ETag, else Last-Modified and length, else the moment."""
    tag, modified = validators(headers)
    if tag and not tag.startswith("W/"):
        return tag
    if modified and length is not None:
        return f"{modified} {tag or ''}"
    return f"generation {now:.6f} {time.monotonic_ns()}"


def _is_same(pointer: Pointer, headers: Mapping[str, str]) -> bool:
    """Whether an answer can be about the very body that the pointer names. Two codings of one resource are two bodies,
    though some servers give them one validator."""
    names = ("ETag", "Last-Modified", "Content-Encoding")
    return all(headers.get(name) == pointer.header(name.lower()) for name in names)


def _is_proof(pointer: Pointer) -> bool:
    """Whether other bytes under these validators cannot be the origin's: a strong tag (RFC 9110 section 8.8.1), and not
    of a moment in which the body may have changed twice (section 8.8.2.2)."""
    tag, modified = validators(pointer.headers)
    if tag is None or tag.startswith("W/"):
        return False
    modified_at = parse_http_date(modified or "")
    return modified_at is None or pointer.made - modified_at >= LEAST_AGE_S


def _born(headers: Fields, now: float) -> float:
    born = parse_http_date(first(headers, "Last-Modified") or "")
    return now if born is None else born
