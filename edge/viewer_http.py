"""What viewers ask: the origin's paths. Resolve, join the fill, deliver pieces as they land (DESIGN 7)."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict

from edge.fills import Fills, VersionGone
from edge.held import EVERYTHING, Held
from edge.hits import OFFERED
from edge.metrics import EdgeMetrics
from edge.origins import HOP_BY_HOP, Origin, PlainOrigin
from edge.playlists import MOST_PLAYLIST_BYTES, Form, Playlists, coding, is_playlist, personal, varies
from edge.pointers import Known
from edge.resolver import Resolved, Resolver, Unshared
from edge.sites import Sites
from edge.store import Store
from swarm import pieces
from swarm.accounting import Outcome, Reason, Source
from swarm.encodings import GZIP, IDENTITY
from swarm.errors import OriginUnreachable
from swarm.metainfo import Pointer
from swarm.names import BadPath, Path, split_target
from swarm.ranges import Answer, Full, NotModified, NotSatisfiable, Partial, PreconditionFailed, evaluate
from swarm.tokens import Token, TokenRefused, hide

log = logging.getLogger(__name__)

READ_AHEAD_BYTES = 1 << 20
STUCK_S = 60.0  # a viewer who takes nothing for so long has gone
LIVE_TTL_S = 10.0  # playlists good for less are live ones
RESOLVE_AGAIN = 2  # a version may vanish at the origin between pointer and piece
TOKEN = web.RequestKey("token", Token)  # what a viewer showed, where its site asks for one
EXPOSED = "Age, Date, Content-Length, Content-Range, ETag, Cache-Status, Server-Timing"


class Delivery:
    """One response on its way: what of which version, how it ended, and who waits for the rest."""

    def __init__(self, held: Held, resolved: Resolved, span: tuple[int, int] | None) -> None:
        self.held = held
        self.resolved = resolved
        self.start, self.end = span or (0, held.metainfo.size)  # bytes; end None: to wherever the version ends
        self.partial = span is not None
        self.wanted = EVERYTHING if self.end is None else _pieces_of(held, self.start, self.end)
        # What came later came while the viewer waited; so did what followed a pointer it had to wait for.
        self.held_before = held.have & ~pieces.of(held.fresh_from) if resolved.asked else held.have
        self.missing = (held.all_pieces if self.end is None else self.wanted) & ~held.have
        self.waiter = held.wait_for(self.wanted)
        self.outcome = Outcome.HIT
        self.begun = False  # the head is out: this request ends here, in this outcome

    @property
    def whole_here(self) -> bool:
        return not self.missing and self.end is not None


class ViewerHttp:
    """The handler of every path outside `/-/`."""

    def __init__(
        self,
        node: str,
        sites: Sites,
        swarm_time: Callable[[], float],
        store: Store,
        fills: Fills,
        resolver: Resolver,
        origins: Mapping[str, Origin],
        metrics: EdgeMetrics,
    ) -> None:
        self._node = node
        self._sites = sites
        self._swarm_time = swarm_time
        self._store = store
        self._fills = fills
        self._resolver = resolver
        self._origins = origins
        self._metrics = metrics
        self._playlists = Playlists()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Every request for content ends here in exactly one outcome."""
        began = time.perf_counter()
        if request.method == hdrs.METH_OPTIONS:
            return self._refuse(HTTPStatus.NO_CONTENT, "", CORS_PREFLIGHT)
        authority, target = split_target(request.raw_path)
        host = request.host if authority is None else authority
        site = self._sites.site_of(host)
        if site is None:
            return self._refuse(HTTPStatus.MISDIRECTED_REQUEST, f"no site {host!r} here")
        try:
            path = self._sites.path(site, target)
            token = self._sites.admit(path, target, self._swarm_time())
        except BadPath as error:
            return self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except TokenRefused as refused:
            return self._refuse(HTTPStatus.FORBIDDEN, str(refused), {"Cache-Control": "no-store"})
        if token is not None:
            request[TOKEN] = token
        origin = self._origins[site]
        if isinstance(origin, PlainOrigin) and not _may_use_cache(request):
            return await self._pass(request, path, origin)
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD", {"Allow": "GET, HEAD, OPTIONS"})
        try:
            return await self._answer(request, path, began)
        except Unshared:
            assert isinstance(origin, PlainOrigin)
            return await self._pass(request, path, origin)
        except (OriginUnreachable, VersionGone) as error:
            return self._fail(path, error)
        except Exception:
            self._metrics.viewer_requests[Outcome.FAILED] += 1  # our own fault: logged, answered 500
            raise

    async def _answer(self, request: web.Request, path: Path, began: float) -> web.StreamResponse:
        for attempt in range(RESOLVE_AGAIN):
            before = self._store.pointers.known(path)
            resolved = await self._resolver.resolve(path)
            if resolved.known.pointer.version is None:
                return self._bodiless(resolved)
            try:
                return await self._deliver(request, resolved, before, began)
            except VersionGone:
                self._store.pointers.doubt(path, resolved.known.pointer.version)
                if attempt + 1 == RESOLVE_AGAIN:
                    raise
        raise AssertionError("unreachable")

    async def _deliver(
        self, request: web.Request, resolved: Resolved, before: Known | None, began: float
    ) -> web.StreamResponse:
        """VersionGone and OriginUnreachable while no byte has been sent; later the connection is cut."""
        pointer, size = resolved.known.pointer, self._size(resolved.known.pointer)
        if self._needs_form(request, resolved.known.path, pointer, size):
            return await self._deliver_form(request, resolved, before, began)
        span = None
        match _evaluate(request, pointer, size):
            case NotModified():
                return self._without_body(HTTPStatus.NOT_MODIFIED, resolved, self._outcome(resolved, before))
            case PreconditionFailed():
                return self._without_body(HTTPStatus.PRECONDITION_FAILED, resolved, Outcome.REFUSED)
            case NotSatisfiable() as answer:
                assert size is not None
                extra = {"Content-Range": answer.content_range(size)}
                return self._without_body(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, resolved, Outcome.REFUSED, extra)
            case Full() if request.method == hdrs.METH_HEAD:
                return self._head(resolved, self._outcome(resolved, before))
            case Partial(start, end):
                span = (start, end)
            case Full():
                pass
        held = self._store.hold(resolved.known.path, pointer, resolved.known.trust)
        delivery = Delivery(held, resolved, span)
        delivery.outcome = self._outcome(resolved, before, delivery)
        try:
            return await self._send(request, delivery, began)
        finally:
            held.stop_waiting(delivery.waiter)
            if delivery.begun:
                self._metrics.viewer_requests[delivery.outcome] += 1

    def _size(self, pointer: Pointer) -> int | None:
        """What the pointer states, or what became known since of a version that was open then."""
        held = self._store.held(pointer.version) if pointer.size is None and pointer.version else None
        return held.metainfo.size if held else pointer.size

    def _outcome(self, resolved: Resolved, before: Known | None, delivery: Delivery | None = None) -> Outcome:
        if delivery is not None and not delivery.whole_here:
            return Outcome.JOINED if delivery.held.filling and not resolved.first else Outcome.MISS
        if resolved.stale:
            return Outcome.STALE_HIT
        if resolved.asked:
            same = before is not None and before.pointer.version == resolved.known.pointer.version
            return Outcome.REVALIDATED if same else Outcome.MISS if resolved.first else Outcome.JOINED
        return Outcome.HIT

    # --- playlists

    def _needs_form(self, request: web.Request, path: Path, pointer: Pointer, size: int | None) -> bool:
        """Whether it is a playlist to be compressed for this viewer, or to carry its token."""
        if pointer.status != HTTPStatus.OK or not is_playlist(path.url_path):
            return False
        if size is None or size > MOST_PLAYLIST_BYTES:
            return False
        return TOKEN in request or (varies(path.url_path, size, pointer.headers) and _coding(request) == GZIP)

    async def _deliver_form(
        self, request: web.Request, resolved: Resolved, before: Known | None, began: float
    ) -> web.StreamResponse:
        """A playlist in the form that is this viewer's; conditions and ranges are about that form."""
        path, pointer = resolved.known.path, resolved.known.pointer
        delivery = Delivery(self._store.hold(path, pointer, resolved.known.trust), resolved, None)
        held = delivery.held
        delivery.outcome = self._outcome(resolved, before, delivery)
        try:
            if not delivery.whole_here:
                self._fills.join(held, resolved.known).want(delivery.missing)
            parts = [part async for part in self._parts(delivery)]
        finally:
            held.stop_waiting(delivery.waiter)
        body, source = b"".join(data for data, _ in parts), parts[0][1] if parts else Source.MEMORY
        encoding = _coding(request) if varies(path.url_path, len(body), pointer.headers) else IDENTITY
        form = await self._playlists.form(held.version, body, pointer.header("etag"), encoding, request.get(TOKEN))
        _, headers = self._head_of(delivery, source)
        self._timed(request, delivery.outcome, headers, began)
        response = _form_response(request, form, headers, pointer.header("last-modified"))
        if response.status >= HTTPStatus.BAD_REQUEST:
            delivery.outcome = Outcome.REFUSED
        if request.method == hdrs.METH_GET and isinstance(response.body, bytes):
            self._count(held, source, len(response.body))
        if delivery.outcome is Outcome.HIT and source is Source.MEMORY and not form.personal:
            request[OFFERED] = resolved.known, held, form.body
        self._metrics.viewer_requests[delivery.outcome] += 1
        return response

    # --- bodies

    async def _send(self, request: web.Request, delivery: Delivery, began: float) -> web.StreamResponse:
        if not delivery.whole_here:
            self._fills.join(delivery.held, delivery.resolved.known).want(delivery.missing)
        parts = self._parts(delivery)
        first, source = await _first_of(parts)
        status, headers = self._head_of(delivery, source)
        self._timed(request, delivery.outcome, headers, began)
        if delivery.outcome is Outcome.HIT and delivery.whole_here and not delivery.partial and source is Source.MEMORY:
            request[OFFERED] = delivery.resolved.known, delivery.held
        delivery.begun = True
        return await self._stream(request, delivery, status, headers, first, source, parts)

    def _timed(self, request: web.Request, outcome: Outcome, headers: CIMultiDict[str], began: float) -> None:
        took_s = time.perf_counter() - began
        self._metrics.viewer_ttfb.observe(took_s)
        if request.headers.get("Starling-Trace") == "1":
            headers["Server-Timing"] = f"edge;desc={outcome};dur={took_s * 1000:.1f}"

    def _head_of(self, delivery: Delivery, source: Source) -> tuple[HTTPStatus, CIMultiDict[str]]:
        known = delivery.resolved.known
        pointer, size = known.pointer, delivery.held.metainfo.size
        headers = self._headers(delivery.resolved, delivery.outcome, source)
        end = size if delivery.end is None else delivery.end
        if end is not None:
            headers["Content-Length"] = str(end - delivery.start)
        if pointer.path.partition("?")[0].endswith(".m3u8") and pointer.ttl_s < LIVE_TTL_S:
            self._metrics.playlist_lag.observe(max(0.0, known.age_s(time.monotonic()) - pointer.ttl_s))
            self._fills.live.on_playlist(known.path, self._fills.roster.swarm_time())
        if not delivery.partial or end is None:
            return HTTPStatus(pointer.status), headers
        headers["Content-Range"] = Partial(delivery.start, end).content_range(size)
        return HTTPStatus.PARTIAL_CONTENT, headers

    async def _stream(
        self,
        request: web.Request,
        delivery: Delivery,
        status: HTTPStatus,
        headers: CIMultiDict[str],
        first: bytes,
        source: Source,
        parts: AsyncIterator[tuple[bytes, Source]],
    ) -> web.StreamResponse:
        held = delivery.held
        if headers.get("Content-Length") == str(len(first)):
            self._count(held, source, len(first))
            return web.Response(status=status, headers=headers, body=first)
        response = web.StreamResponse(status=status, headers=headers)
        try:
            await response.prepare(request)
            await self._write(response, held, first, source)
            async for data, source in parts:
                await self._write(response, held, data, source)
            await response.write_eof()
        except (OriginUnreachable, VersionGone) as error:
            # Too late for a status: a body short of its Content-Length is how HTTP/1.1 says so (RFC 9112 section 8).
            log.warning("%s broke off: %s", held.path.target, error)
            delivery.outcome = Outcome.FAILED
            if isinstance(error, VersionGone):  # or all who come while its pointer lives would be cut at this place
                self._store.pointers.doubt(held.path, held.version)
            _cut(request)
        except (ConnectionError, TimeoutError):
            _cut(request)  # the viewer went away, or takes nothing any more; the fill goes on without it
        return response

    async def _write(self, response: web.StreamResponse, held: Held, data: bytes, source: Source) -> None:
        async with asyncio.timeout(STUCK_S):
            await response.write(data)
        self._count(held, source, len(data))

    def _count(self, held: Held, source: Source, size: int) -> None:
        self._metrics.viewer_bytes[source] += size
        held.served[source] += size

    async def _parts(self, delivery: Delivery) -> AsyncIterator[tuple[bytes, Source]]:
        """The bytes asked for, in order, each with its source."""
        held, end = delivery.held, delivery.end
        meta = held.metainfo
        at = delivery.start
        while (last := meta.size if end is None else end) is None or at < last:
            try:
                piece = meta.piece_at(at)
            except KeyError:
                await delivery.waiter.changed()
                continue
            delivery.waiter.at = piece
            self._store.on_taken(held)
            data, source = await self._piece(delivery, piece)
            offset, _ = meta.span(piece)
            cut = data[at - offset : None if last is None else last - offset]
            yield cut, source
            at += len(cut)

    async def _piece(self, delivery: Delivery, piece: int) -> tuple[bytes, Source]:
        """One piece, waited for if need be. A piece evicted or rotten meanwhile is asked for again."""
        held = delivery.held
        while True:
            data = self._store.peek(held, piece)
            if data is not None:
                if delivery.held_before >> piece & 1:
                    return data, Source.MEMORY
                return data, held.fresh_from.get(piece, Source.MEMORY)
            if held.on_disk >> piece & 1:
                data = (await self._store.load(held, self._next_on_disk(held, piece))).get(piece)
                if data is not None:
                    delivery.held_before &= ~(1 << piece)
                    return data, Source.DISK
            if not held.have >> piece & 1:
                delivery.held_before &= ~(1 << piece)
                delivery.waiter.want_again(piece)
                self._fills.join(held, delivery.resolved.known).want(1 << piece)
                if not held.have >> piece & 1:
                    await delivery.waiter.changed()

    def _next_on_disk(self, held: Held, piece: int) -> list[int]:
        most = max(1, READ_AHEAD_BYTES // held.metainfo.piece_bytes)
        return [number for number in range(piece, piece + most) if held.on_disk & ~held.in_memory & 1 << number]

    # --- heads

    def _headers(self, resolved: Resolved, outcome: Outcome, source: Source | None) -> CIMultiDict[str]:
        pointer = resolved.known.pointer
        headers = CIMultiDict((name, value) for name, value in pointer.headers if name.lower() not in HOP_BY_HOP)
        headers["Age"] = str(int(resolved.known.age_s(time.monotonic())))
        headers["Cache-Status"] = cache_status(self._node, outcome, source)
        if varies(resolved.known.path.url_path, self._size(pointer), pointer.headers):
            _vary_by_encoding(headers)
        headers.setdefault("Accept-Ranges", "bytes")
        headers.setdefault("Access-Control-Allow-Origin", "*")
        headers["Access-Control-Expose-Headers"] = EXPOSED
        return headers

    def _head(self, resolved: Resolved, outcome: Outcome) -> web.Response:
        headers = self._headers(resolved, outcome, None)
        if (size := self._size(resolved.known.pointer)) is not None:
            headers["Content-Length"] = str(size)
        self._metrics.viewer_requests[outcome] += 1
        return web.Response(status=resolved.known.pointer.status, headers=headers)

    def _without_body(
        self, status: HTTPStatus, resolved: Resolved, outcome: Outcome, extra: Mapping[str, str] | None = None
    ) -> web.Response:
        headers = self._headers(resolved, outcome, None)
        headers.update(extra or {})
        if status is not HTTPStatus.NOT_MODIFIED:
            headers.popall("Content-Type", None)
        self._metrics.viewer_requests[outcome] += 1
        return web.Response(status=status, headers=headers)

    def _bodiless(self, resolved: Resolved) -> web.Response:
        """An error of the origin's, or what was purged there: only its status is known."""
        pointer: Pointer = resolved.known.pointer
        outcome = Outcome.MISS if resolved.asked else Outcome.STALE_HIT if resolved.stale else Outcome.HIT
        headers = self._headers(resolved, outcome, None)
        headers["Content-Type"] = "text/plain; charset=utf-8"
        self._metrics.viewer_requests[outcome] += 1
        text = f"{pointer.status} {HTTPStatus(pointer.status).phrase}\n"
        return web.Response(status=pointer.status, headers=headers, body=text.encode())

    def _refuse(self, status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
        self._metrics.viewer_requests[Outcome.REFUSED] += 1
        readable = {"Access-Control-Allow-Origin": "*", **(headers or {})}  # or a page learns only that it failed
        return web.Response(status=status, text=f"{text}\n" if text else None, headers=readable)

    def _fail(self, path: Path, error: Exception) -> web.Response:
        """502 or 504, with the reason in the body and in Cache-Status."""
        timed_out = isinstance(error, OriginUnreachable) and error.timed_out
        status = HTTPStatus.GATEWAY_TIMEOUT if timed_out else HTTPStatus.BAD_GATEWAY
        log.warning("%s: %s", path.target, error)
        self._metrics.viewer_requests[Outcome.FAILED] += 1
        return web.Response(
            status=status,
            text=f"{status.value} {status.phrase}: {_told(error)}\n",
            headers={"Cache-Status": f"{self._node}; fwd=miss", "Cache-Control": "no-store"},
        )

    # --- passing through

    async def _pass(self, request: web.Request, path: Path, origin: PlainOrigin) -> web.StreamResponse:
        """What HTTP forbids to share goes to the origin and back, and is never stored."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        headers.pop("Host", None)
        headers["Starling-Reason"] = Reason.NOT_CACHEABLE
        headers |= {name: hide(value) for name, value in headers.items() if name.lower() == "referer"}
        token = request.get(TOKEN) if is_playlist(path.url_path) else None
        if token is not None:  # all of it, as it is: the viewer's form is made here
            headers = {name: value for name, value in headers.items() if name.lower() not in OF_A_FORM}
        body = request.content if request.can_read_body else None
        self._metrics.origin_requests[Reason.NOT_CACHEABLE] += 1
        try:
            answer = await origin.request(request.method, path.target, headers, body)
        except OriginUnreachable as error:
            return self._fail(path, error)
        async with answer:
            kept = CIMultiDict((k, v) for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP)
            kept["Cache-Status"] = cache_status(self._node, Outcome.PASSED, Source.ORIGIN)
            if answer.content_length is not None:
                kept["Content-Length"] = str(answer.content_length)
            if token is not None and answer.status == HTTPStatus.OK and request.method == hdrs.METH_GET:
                return await self._pass_playlist(request, path, answer, kept, token)
            response = web.StreamResponse(status=answer.status, headers=kept)
            outcome = Outcome.PASSED
            try:
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    self._metrics.origin_bytes[Reason.NOT_CACHEABLE] += len(chunk)
                    self._metrics.fetched_bytes[Source.ORIGIN] += len(chunk)
                    await response.write(chunk)
                    self._metrics.viewer_bytes[Source.ORIGIN] += len(chunk)
                await response.write_eof()
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                log.warning("%s broke off while it was passed on: %s", path.target, error)
                outcome = Outcome.FAILED
                _cut(request)
            finally:
                self._metrics.viewer_requests[outcome] += 1
            return response

    async def _pass_playlist(
        self, request: web.Request, path: Path, answer: aiohttp.ClientResponse, headers: CIMultiDict[str], token: Token
    ) -> web.StreamResponse:
        """A playlist that may not be shared, with the viewer's token in it."""
        body = bytearray()
        try:
            async for chunk in answer.content.iter_any():
                body += chunk
                self._metrics.origin_bytes[Reason.NOT_CACHEABLE] += len(chunk)
                self._metrics.fetched_bytes[Source.ORIGIN] += len(chunk)
                if len(body) > MOST_PLAYLIST_BYTES:
                    return self._fail(path, OriginUnreachable(f"a playlist of over {MOST_PLAYLIST_BYTES} bytes"))
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            return self._fail(path, OriginUnreachable(f"origin broke off: {error}"))
        form = personal(bytes(body), token)
        self._metrics.viewer_bytes[Source.ORIGIN] += len(form.body)
        self._metrics.viewer_requests[Outcome.PASSED] += 1
        return _form_response(request, form, headers, None)


CORS_PREFLIGHT = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "86400",
}


# Of a request for a playlist that the viewer's token is put into: they were about another body.
OF_A_FORM = frozenset(
    {"accept-encoding", "range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"}
)


def _coding(request: web.Request) -> str:
    return coding(request.headers.get(hdrs.ACCEPT_ENCODING), hdrs.RANGE in request.headers)


def _form_response(
    request: web.Request, form: Form, headers: CIMultiDict[str], last_modified: str | None
) -> web.Response:
    """The form, or what conditions and a range leave of it (RFC 9110 sections 13 and 14). Changes `headers`."""
    modified = None if form.personal else last_modified
    for name, value in (("ETag", form.etag), ("Last-Modified", modified)):
        headers.popall(name, None)
        if value is not None:
            headers[name] = value
    headers.popall("Content-Length", None)
    if form.encoding != IDENTITY:
        headers["Content-Encoding"] = form.encoding
    match evaluate(request.method, request.headers.items(), form.etag, modified, len(form.body)):
        case NotModified():
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        case PreconditionFailed():
            headers.popall("Content-Type", None)
            return web.Response(status=HTTPStatus.PRECONDITION_FAILED, headers=headers)
        case NotSatisfiable() as answer:
            headers.popall("Content-Type", None)
            headers["Content-Range"] = answer.content_range(len(form.body))
            return web.Response(status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers)
        case Partial(start, end) as answer:
            headers["Content-Range"] = answer.content_range(len(form.body))
            return web.Response(status=HTTPStatus.PARTIAL_CONTENT, headers=headers, body=form.body[start:end])
        case Full():
            return web.Response(status=HTTPStatus.OK, headers=headers, body=form.body)


def _vary_by_encoding(headers: CIMultiDict[str]) -> None:
    listed = ", ".join(headers.popall("Vary", ()))
    names = {name.strip().lower() for name in listed.split(",")}
    headers["Vary"] = (
        listed if names & {"*", "accept-encoding"} else ", ".join(filter(None, (listed, "Accept-Encoding")))
    )


def _evaluate(request: web.Request, pointer: Pointer, size: int | None) -> Answer:
    """Preconditions and ranges count only where the answer would be 200 (RFC 9110 section 13.2.1)."""
    if pointer.status != HTTPStatus.OK:
        return Full()
    etag, modified = pointer.header("etag"), pointer.header("last-modified")
    return evaluate(request.method, request.headers.items(), etag, modified, size)


def _told(error: Exception) -> str:
    """Why, for viewers: the log has the addresses."""
    if isinstance(error, VersionGone):
        return "it changed at the origin, twice while it was asked for"
    if isinstance(error, OriginUnreachable) and error.timed_out:
        return "the origin did not answer in time"
    return "the origin cannot be reached, or its answer broke off, and no other edge has it"


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _may_use_cache(request: web.Request) -> bool:
    return request.method in (hdrs.METH_GET, hdrs.METH_HEAD) and hdrs.AUTHORIZATION not in request.headers


async def _first_of(parts: AsyncIterator[tuple[bytes, Source]]) -> tuple[bytes, Source]:
    """Nothing, from memory, of an empty body. (`anext` with a tuple as its default is a SystemError before Python
    3.13.2: CPython issue 128078.)"""
    async for part in parts:
        return part
    return b"", Source.MEMORY


def _pieces_of(held: Held, start: int, end: int) -> int:
    """The pieces that hold bytes start ... end-1 of a version whose size is known."""
    if end <= start:
        return 0
    return pieces.of_span(held.metainfo.piece_at(start), held.metainfo.piece_at(end - 1) + 1)


_FORWARDED = {
    Outcome.HIT: "hit",
    Outcome.STALE_HIT: "hit; ttl=-1",
    Outcome.JOINED: "fwd=miss; collapsed",
    Outcome.MISS: "fwd=miss; stored",
    Outcome.REVALIDATED: "fwd=stale; fwd-status=304",
    Outcome.PASSED: "fwd=bypass",
    Outcome.REFUSED: "fwd=bypass",
    Outcome.FAILED: "fwd=miss",
}


def cache_status(node: str, outcome: Outcome, source: Source | None) -> str:
    """RFC 9211: this edge's member; `detail` is the source of the first byte."""
    detail = f"; detail={source}" if source else ""
    return f"{_token(node)}; {_FORWARDED[outcome]}{detail}"


def _token(node: str) -> str:
    """A node's name as an sf-token, else as an sf-string (RFC 9651)."""
    plain = node[:1].isalpha() and all(c.isalnum() or c in "-_.:" for c in node) and node.isascii()
    return node if plain else '"' + node.replace("\\", "\\\\").replace('"', '\\"') + '"'
