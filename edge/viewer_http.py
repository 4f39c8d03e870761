"""What viewers ask: the origin's paths. Resolve, join the fill, deliver pieces as they land (DESIGN 7)."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from http.client import responses

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict

from edge.access_log import AccessLog, Ended
from edge.cors import METHODS, expose, preflight
from edge.fills import Fills, VersionGone
from edge.held import EVERYTHING, Held
from edge.hits import OFFERED
from edge.metrics import EdgeMetrics
from edge.origins import Origin
from edge.passing import ENDED, SERVER, STUCK_S, Passing, append_cache_status, cut, viewer_fields
from edge.plain_origin import PlainOrigin
from edge.playlists import MOST_PLAYLIST_BYTES, Form, Playlists, coding, is_playlist, personal, varies
from edge.pointers import Known
from edge.resolver import Resolved, Resolver, Unshared
from edge.sites import Sites
from edge.store import Store
from swarm import pieces
from swarm.accounting import Outcome, Source
from swarm.cache_status import Forwarded, cache_status
from swarm.encodings import GZIP, IDENTITY
from swarm.errors import OriginUnreachable
from swarm.http_dates import format_http_date
from swarm.metainfo import Pointer
from swarm.names import BadPath, Path, split_target
from swarm.ranges import Answer, Full, NotModified, NotSatisfiable, Partial, PreconditionFailed, evaluate, named_end
from swarm.reuse import HOP_BY_HOP, Fields
from swarm.tokens import Token, TokenRefused, hide

log = logging.getLogger(__name__)

READ_AHEAD_BYTES = 1 << 20
LIVE_TTL_S = 10.0  # playlists good for less are live ones
READING = (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS)
NOT_FORWARDED = (hdrs.METH_CONNECT, hdrs.METH_TRACE)
OF_A_CONNECTION = HOP_BY_HOP | {"age", "content-length"}  # not of the body
RESOLVE_AGAIN = 2  # a version may vanish at the origin between pointer and piece
TOKEN = web.RequestKey("token", Token)  # what a viewer showed, where its site asks for one
OUTCOME = web.ResponseKey("outcome", Outcome)  # of an answer that no delivery stands behind


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
        self.status: int = HTTPStatus.OK
        self.source: Source | None = None  # of the first byte
        self.sent_bytes = 0
        self.ttfb_s: float | None = None

    @property
    def whole_here(self) -> bool:
        return not self.missing and self.end is not None

    def ended(self) -> Ended:
        return Ended(self.outcome, self.status, self.source, self.sent_bytes, self.ttfb_s)


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
        access_log: AccessLog,
    ) -> None:
        self._access_log = access_log
        self._node = node
        self._sites = sites
        self._swarm_time = swarm_time
        self._store = store
        self._fills = fills
        self._resolver = resolver
        self._origins = origins
        self._metrics = metrics
        self._playlists = Playlists()
        self._passing = Passing(node, sites.path, swarm_time, resolver, metrics)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Every request for content ends here in exactly one outcome, and in one line of the access log."""
        began = time.perf_counter()
        response = None
        try:
            response = await self._handle(request, began)
            if _traced(request) and OUTCOME in response:
                _tell_time(response.headers, response[OUTCOME], time.perf_counter() - began)
            return response
        finally:
            ended = request.get(ENDED) or _ended(request, response)
            if ended is not None:  # else the viewer left before anything came of it
                self._access_log.on_answer(request, ended, time.perf_counter() - began)

    async def _handle(self, request: web.Request, began: float) -> web.StreamResponse:
        if (allowed := preflight(request.method, request.headers)) is not None:  # no request for content: not counted
            return web.Response(status=HTTPStatus.NO_CONTENT, headers=allowed)
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
        is_foreign = isinstance(origin, PlainOrigin)
        if request.method not in READING and (not is_foreign or request.method in NOT_FORWARDED):
            return self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method} is not allowed", {"Allow": METHODS})
        try:
            if isinstance(origin, PlainOrigin):
                return await self._answer_foreign(request, path, origin, began)
            if request.method == hdrs.METH_OPTIONS:
                return _allowed()
            await self._store.recall(path)
            return await self._answer(request, path, (), began)
        except Unshared:
            return self._fail(path, OriginUnreachable("our origin said that its answer may not be shared"))
        except (OriginUnreachable, VersionGone) as error:
            return self._fail(path, error)
        except Exception:
            self._metrics.viewer_requests[Outcome.FAILED] += 1  # our own fault: logged, answered 500
            request[ENDED] = Ended(Outcome.FAILED, HTTPStatus.INTERNAL_SERVER_ERROR)
            raise

    async def _answer_foreign(
        self, request: web.Request, path: Path, origin: PlainOrigin, began: float
    ) -> web.StreamResponse:
        """A request for a site whose origin is any HTTP server: from the cache where HTTP lets it, else from there."""
        of_a_form = OF_A_FORM if TOKEN in request and is_playlist(path.url_path) else ()
        # A playlist is read here, and compressed anew for viewers: no variant of it is one of the origin's codings.
        but = (*of_a_form, "accept-encoding") if is_playlist(path.url_path) else of_a_form
        fields = viewer_fields(request, but=but)
        fields = tuple((name, hide(value) if name.lower() == "referer" else value) for name, value in fields)
        if request.method == hdrs.METH_OPTIONS:
            if request.headers.get(hdrs.MAX_FORWARDS) == "0":
                return _allowed()
            fields = tuple(_one_less(name, value) for name, value in fields)
        if origin.has_seen(fields):
            return self._refuse(HTTPStatus.LOOP_DETECTED, "the origin leads back here")
        await self._store.recall(path)
        is_head = request.method == hdrs.METH_HEAD  # the origin knows nothing of the form that GET would bring
        is_known = is_head and (of_a_form or self._resolver.find(path, fields))
        if request.method != hdrs.METH_GET and not is_known:
            return await self._passing.forward(request, path, origin, fields)
        try:
            return await self._answer(request, path, fields, began)
        except Unshared as unshared:
            if unshared.answer is None:
                raise
            if of_a_form and unshared.answer.status == HTTPStatus.OK:
                return await self._relay_playlist(request, unshared.answer)
            return await self._passing.relay(request, path, unshared.answer, Forwarded.BYPASS)

    async def _answer(self, request: web.Request, path: Path, fields: Fields, began: float) -> web.StreamResponse:
        if "only-if-cached" in request.headers.get(hdrs.CACHE_CONTROL, "") and not self._resolver.find(path, fields):
            return self._not_cached()
        for attempt in range(RESOLVE_AGAIN):
            before = self._store.pointers.known(path, fields)
            resolved = await self._resolver.resolve(path, fields)
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
        end = named_end(request.headers.get(hdrs.RANGE)) if size is None else None
        if end is not None:
            ended = await self._grown_to(resolved, end)
            size = end if ended is None else ended
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
                request[ENDED] = delivery.ended()

    async def _grown_to(self, resolved: Resolved, end: int) -> int | None:
        """Wait until so many bytes of a version that still grows are known, or its size: that. VersionGone if nobody
        brings the rest of it."""
        held = self._store.hold(resolved.known.path, resolved.known.pointer, resolved.known.trust)
        _ = self._fills.join(held, resolved.known)
        waiter = held.wait_for(EVERYTHING)
        try:
            while held.metainfo.size is None and not held.metainfo.reaches(end):
                waiter.at = held.metainfo.known_pieces  # nothing runs ahead of it
                await waiter.changed()
        finally:
            held.stop_waiting(waiter)
        return held.metainfo.size

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
        self._timed(request, delivery, headers, began)
        response = _form_response(request, form, headers, pointer.header("last-modified"))
        if response.status >= HTTPStatus.BAD_REQUEST:
            delivery.outcome = Outcome.REFUSED
        if request.method == hdrs.METH_GET and isinstance(response.body, bytes):
            self._count(delivery, source, len(response.body))
        if delivery.outcome is Outcome.HIT and source is Source.MEMORY and not form.personal:
            request[OFFERED] = resolved.known, held, form.body
        self._metrics.viewer_requests[delivery.outcome] += 1
        delivery.status = response.status
        request[ENDED] = delivery.ended()
        return response

    # --- bodies

    async def _send(self, request: web.Request, delivery: Delivery, began: float) -> web.StreamResponse:
        if not delivery.whole_here:
            self._fills.join(delivery.held, delivery.resolved.known).want(delivery.missing)
        parts = self._parts(delivery)
        first, source = await _first_of(parts)
        delivery.status, headers = self._head_of(delivery, source)
        self._timed(request, delivery, headers, began)
        if delivery.outcome is Outcome.HIT and delivery.whole_here and not delivery.partial:
            request[OFFERED] = delivery.resolved.known, delivery.held, None
        delivery.begun = True
        return await self._stream(request, delivery, headers, first, source, parts)

    def _timed(self, request: web.Request, delivery: Delivery, headers: CIMultiDict[str], began: float) -> None:
        delivery.ttfb_s = time.perf_counter() - began
        self._metrics.viewer_ttfb.observe(delivery.ttfb_s)
        if _traced(request):
            _tell_time(headers, delivery.outcome, delivery.ttfb_s)

    def _head_of(self, delivery: Delivery, source: Source) -> tuple[int, CIMultiDict[str]]:
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
            return pointer.status, headers
        headers["Content-Range"] = Partial(delivery.start, end).content_range(size)
        return HTTPStatus.PARTIAL_CONTENT, headers

    async def _stream(
        self,
        request: web.Request,
        delivery: Delivery,
        headers: CIMultiDict[str],
        first: bytes,
        source: Source,
        parts: AsyncIterator[tuple[bytes, Source]],
    ) -> web.StreamResponse:
        held = delivery.held
        if headers.get("Content-Length") == str(len(first)):
            self._count(delivery, source, len(first))
            return web.Response(status=delivery.status, headers=headers, body=first)
        response = web.StreamResponse(status=delivery.status, headers=headers)
        try:
            await response.prepare(request)
            await self._write(response, delivery, first, source)
            async for data, source in parts:
                await self._write(response, delivery, data, source)
            await response.write_eof()
        except (OriginUnreachable, VersionGone) as error:
            # Too late for a status: a body short of its Content-Length is how HTTP/1.1 says so (RFC 9112 section 8).
            log.warning("%s broke off: %s", held.path.target, error)
            delivery.outcome = Outcome.FAILED
            if isinstance(error, VersionGone):  # or all who come while its pointer lives would be cut at this place
                self._store.pointers.doubt(held.path, held.version)
            cut(request)
        except (ConnectionError, TimeoutError):
            cut(request)  # the viewer went away, or takes nothing any more; the fill goes on without it
        return response

    async def _write(self, response: web.StreamResponse, delivery: Delivery, data: bytes, source: Source) -> None:
        async with asyncio.timeout(STUCK_S):
            await response.write(data)
        self._count(delivery, source, len(data))

    def _count(self, delivery: Delivery, source: Source, size: int) -> None:
        self._metrics.viewer_bytes[source] += size
        delivery.held.served[source] += size
        delivery.source = delivery.source or source
        delivery.sent_bytes += size

    def _end(self, response: web.Response, outcome: Outcome) -> web.Response:
        """An answer without a delivery, counted."""
        self._metrics.viewer_requests[outcome] += 1
        response[OUTCOME] = outcome
        return response

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

    async def rest_of(self, known: Known, held: Held, start: int) -> AsyncIterator[bytes]:
        """The end of a body that was begun from its file, which failed."""
        delivery = Delivery(held, Resolved(known), (start, held.metainfo.size or 0))
        try:
            async for data, _ in self._parts(delivery):
                yield data
        finally:
            held.stop_waiting(delivery.waiter)

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
        pointer, age_s = resolved.known.pointer, resolved.known.age_s(time.monotonic())
        headers = CIMultiDict((name, value) for name, value in pointer.headers if name.lower() not in OF_A_CONNECTION)
        headers["Age"] = str(int(age_s))
        mine = cache_status(
            self._node, outcome, source=source, why=resolved.why, status=pointer.status, ttl_s=pointer.ttl_s - age_s
        )
        append_cache_status(headers, mine)
        headers.setdefault("Date", format_http_date(self._swarm_time()))
        headers.setdefault("Server", SERVER)
        if varies(resolved.known.path.url_path, self._size(pointer), pointer.headers):
            _vary_by_encoding(headers)
        headers.setdefault("Accept-Ranges", "bytes")
        expose(headers)
        return headers

    def _head(self, resolved: Resolved, outcome: Outcome) -> web.Response:
        headers = self._headers(resolved, outcome, None)
        if (size := self._size(resolved.known.pointer)) is not None:
            headers["Content-Length"] = str(size)
        return self._end(web.Response(status=resolved.known.pointer.status, headers=headers), outcome)

    def _without_body(
        self, status: HTTPStatus, resolved: Resolved, outcome: Outcome, extra: Mapping[str, str] | None = None
    ) -> web.Response:
        headers = self._headers(resolved, outcome, None)
        headers.update(extra or {})
        if status is not HTTPStatus.NOT_MODIFIED:
            headers.popall("Content-Type", None)
        return self._end(web.Response(status=status, headers=headers), outcome)

    def _bodiless(self, resolved: Resolved) -> web.Response:
        """An error of the origin's, or what was purged there: only its status is known."""
        pointer: Pointer = resolved.known.pointer
        outcome = Outcome.MISS if resolved.asked else Outcome.STALE_HIT if resolved.stale else Outcome.HIT
        headers = self._headers(resolved, outcome, None)
        headers["Content-Type"] = "text/plain; charset=utf-8"
        text = f"{pointer.status} {responses.get(pointer.status, '')}".rstrip() + "\n"
        return self._end(web.Response(status=pointer.status, headers=headers, body=text.encode()), outcome)

    def _refuse(self, status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
        readable = {"Access-Control-Allow-Origin": "*", **(headers or {})}  # or a page learns only that it failed
        response = web.Response(status=status, text=f"{text}\n" if text else None, headers=readable)
        return self._end(response, Outcome.REFUSED)

    def _fail(self, path: Path, error: Exception) -> web.Response:
        """502 or 504, with the reason in the body and in Cache-Status."""
        timed_out = isinstance(error, OriginUnreachable) and error.timed_out
        status = HTTPStatus.GATEWAY_TIMEOUT if timed_out else HTTPStatus.BAD_GATEWAY
        log.warning("%s: %s", path.target, error)
        response = web.Response(
            status=status,
            text=f"{status.value} {status.phrase}: {_told(error)}\n",
            headers={
                "Cache-Status": cache_status(self._node, Outcome.FAILED),
                "Cache-Control": "no-store",
                "Access-Control-Allow-Origin": "*",
            },
        )
        return self._end(response, Outcome.FAILED)

    def _not_cached(self) -> web.Response:
        """Nothing here answers it, and it forbade to ask (RFC 9111 section 5.2.1.7)."""
        headers = {"Cache-Status": cache_status(self._node, Outcome.REFUSED, why=Forwarded.REQUEST)}
        return self._refuse(HTTPStatus.GATEWAY_TIMEOUT, "not cached here", headers)

    async def _relay_playlist(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        """A playlist that may not be shared, with the viewer's token in it."""
        headers = self._passing.head_of(answer, Forwarded.BYPASS)
        form = personal(await self._passing.read(answer, MOST_PLAYLIST_BYTES), request[TOKEN])
        self._metrics.viewer_bytes[Source.ORIGIN] += len(form.body)
        self._metrics.viewer_requests[Outcome.PASSED] += 1
        request[ENDED] = Ended(Outcome.PASSED, HTTPStatus.OK, Source.ORIGIN, len(form.body))
        return _form_response(request, form, headers, None)


def _allowed() -> web.Response:
    """What OPTIONS asks of this edge; no request for content, and not counted."""
    return web.Response(status=HTTPStatus.NO_CONTENT, headers={"Allow": METHODS, "Access-Control-Allow-Origin": "*"})


def _one_less(name: str, value: str) -> tuple[str, str]:
    """Max-Forwards on its way to the next (RFC 9110 section 7.6.2)."""
    counts = name.lower() == "max-forwards" and value.isascii() and value.isdecimal() and len(value) < 10
    return name, str(int(value) - 1) if counts else value


# Of a request for a playlist that the viewer's token is put into: they were about another body.
OF_A_FORM = frozenset(
    {"accept-encoding", "range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"}
)


def _traced(request: web.Request) -> bool:
    return request.headers.get("Starling-Trace") == "1"


def _tell_time(headers: CIMultiDict[str], outcome: Outcome, took_s: float) -> None:
    """Until this edge had its answer, for whoever asked, from pages too (W3C Server Timing)."""
    before = headers.popall("Server-Timing", ())
    headers["Server-Timing"] = ", ".join((*before, f"edge;desc={outcome};dur={took_s * 1000:.1f}"))
    headers["Timing-Allow-Origin"] = "*"


def _ended(request: web.Request, response: web.StreamResponse | None) -> Ended | None:
    """How an answer without a delivery ended."""
    if response is None or OUTCOME not in response:
        return None
    body = response.body if isinstance(response, web.Response) and request.method != hdrs.METH_HEAD else None
    return Ended(response[OUTCOME], response.status, None, len(body) if isinstance(body, bytes) else 0)


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
