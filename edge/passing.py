"""Answers that are for one viewer alone: passed on from a foreign origin as they arrive, and never stored."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict

from edge.access_log import Ended
from edge.metrics import EdgeMetrics
from edge.plain_origin import PlainOrigin
from edge.resolver import Resolver
from swarm.accounting import Outcome, Reason, Source
from swarm.cache_status import Forwarded, cache_status
from swarm.errors import OriginUnreachable
from swarm.http_dates import format_http_date
from swarm.names import BadPath, Path
from swarm.reuse import Fields, end_to_end, invalidated

log = logging.getLogger(__name__)

STUCK_S = 60.0  # a viewer who takes nothing for so long has gone
SERVER = "starling"
SAFE = ("GET", "HEAD", "OPTIONS")
ENDED = web.RequestKey("ended", Ended)


class Passing:
    """Carries requests to a foreign origin and its answers back."""

    def __init__(
        self,
        node: str,
        path_of: Callable[[str, str], Path],
        swarm_time: Callable[[], float],
        resolver: Resolver,
        metrics: EdgeMetrics,
    ) -> None:
        self._node = node
        self._path_of = path_of
        self._swarm_time = swarm_time
        self._resolver = resolver
        self._metrics = metrics

    async def forward(
        self, request: web.Request, path: Path, origin: PlainOrigin, fields: Fields
    ) -> web.StreamResponse:
        """A request that only the origin can answer; what it changes there is forgotten here. OriginUnreachable."""
        body = request.content if request.can_read_body else None
        if body is not None and request.content_length is not None:
            fields = (*fields, ("Content-Length", str(request.content_length)))
        self._metrics.origin_requests[Reason.NOT_CACHEABLE] += 1
        asked_at = time.monotonic()
        answer = await origin.request(request.method, path.target, fields, Reason.NOT_CACHEABLE, body)
        headers = tuple((str(name), value) for name, value in answer.headers.items())
        if request.method == hdrs.METH_HEAD:
            self._resolver.on_head(path, fields, answer.status, headers, asked_at)
        elif request.method not in SAFE and answer.status < HTTPStatus.BAD_REQUEST:
            try:
                await self._invalidate(request, path, headers)
            except BaseException:
                answer.close()
                raise
        why = Forwarded.URI_MISS if request.method == hdrs.METH_HEAD else Forwarded.METHOD
        return await self.relay(request, path, answer, why)

    async def _invalidate(self, request: web.Request, path: Path, headers: Fields) -> None:
        for target in invalidated(request.host, path.target, headers):
            try:
                changed = self._path_of(path.site, target)
            except BadPath:
                continue  # nothing can be stored under it
            await self._resolver.invalidate(changed)

    def head_of(self, answer: aiohttp.ClientResponse, why: Forwarded) -> CIMultiDict[str]:
        """The fields of an answer as it is passed on."""
        headers = CIMultiDict(end_to_end((str(name), value) for name, value in answer.headers.items()))
        mine = cache_status(self._node, Outcome.PASSED, source=Source.ORIGIN, why=why, status=answer.status)
        append_cache_status(headers, mine)
        headers.setdefault("Date", format_http_date(self._swarm_time()))
        headers.setdefault("Server", SERVER)
        return headers

    async def relay(
        self, request: web.Request, path: Path, answer: aiohttp.ClientResponse, why: Forwarded
    ) -> web.StreamResponse:
        """The answer, as it arrives. Closes it."""
        async with answer:
            response = web.StreamResponse(status=answer.status, headers=self.head_of(answer, why))
            ended = request[ENDED] = Ended(Outcome.PASSED, answer.status, Source.ORIGIN)
            try:
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    self.count_fetched(len(chunk))
                    async with asyncio.timeout(STUCK_S):
                        await response.write(chunk)
                    self._metrics.viewer_bytes[Source.ORIGIN] += len(chunk)
                    ended.sent_bytes += len(chunk)
                await response.write_eof()
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                log.warning("%s broke off while it was passed on: %s", path.target, error)
                ended.outcome = Outcome.FAILED
                cut(request)
            finally:
                self._metrics.viewer_requests[ended.outcome] += 1
            return response

    async def read(self, answer: aiohttp.ClientResponse, most_bytes: int) -> bytes:
        """The whole body of an answer, which is closed. OriginUnreachable if it breaks off or is too long."""
        body = bytearray()
        async with answer:
            try:
                async for chunk in answer.content.iter_any():
                    body += chunk
                    self.count_fetched(len(chunk))
                    if len(body) > most_bytes:
                        raise OriginUnreachable(f"a body of over {most_bytes} bytes")
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                raise OriginUnreachable(f"origin broke off: {error}") from error
        return bytes(body)

    def count_fetched(self, size: int) -> None:
        self._metrics.origin_bytes[Reason.NOT_CACHEABLE] += size
        self._metrics.fetched_bytes[Source.ORIGIN] += size


def viewer_fields(request: web.Request, but: Iterable[str] = ()) -> Fields:
    """The end-to-end fields of a viewer's request."""
    return end_to_end(((str(name), value) for name, value in request.headers.items()), but=but)


def append_cache_status(headers: CIMultiDict[str], mine: str) -> None:
    """Caches nearer to the origin come first (RFC 9211 section 2)."""
    headers["Cache-Status"] = ", ".join([*headers.popall("Cache-Status", ()), mine])


def cut(request: web.Request) -> None:
    """Too late for a status: a body short of its Content-Length is how HTTP/1.1 says so (RFC 9112 section 8)."""
    if request.transport is not None:
        request.transport.abort()
