"""Plain `GET` and `HEAD` of any path: viewers, edges that stand alone, curl, ffmpeg (RFC 9110)."""

import asyncio
import logging
from collections import deque

from aiohttp import web

from daemon.logs import fields
from origin.disk import FileChanged
from origin.ledger import DIRECT, OriginLedger, read_reason
from origin.library import Found, Library, absent_headers, read_path
from origin.patient_server import cut
from swarm.accounting import Reason
from swarm.names import BadPath, Path, split_target
from swarm.ranges import Full, NotModified, NotSatisfiable, Partial, PreconditionFailed, evaluate

log = logging.getLogger(__name__)

SITE = "default"  # whoever sends a plain GET knows of no sites
READ_BYTES = 512 << 10
READ_AHEAD = 3
STUCK_S = 60.0  # a viewer that takes nothing for so long has gone
REASON_HEADER = "Starling-Reason"
READING = ("GET", "HEAD", "OPTIONS")

_PREFLIGHT = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": ", ".join(READING),
    "Access-Control-Allow-Headers": "Range, If-None-Match, If-Modified-Since, If-Range, Starling-Trace",
    "Access-Control-Max-Age": "86400",
    "Allow": ", ".join(READING),
}


class ContentHandler:
    """Answers content requests. `library` None: a tracker alone, where nothing is found."""

    def __init__(self, library: Library | None, ledger: OriginLedger) -> None:
        self._library = library
        self._ledger = ledger

    async def handle_content(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return web.Response(status=204, headers=_PREFLIGHT)
        reason = read_reason(request.headers.get(REASON_HEADER))
        try:
            path = read_path(SITE, split_target(request.raw_path)[1])
        except BadPath as error:
            return self._say(request, reason, 400, f"{error}\n")
        try:
            found = await self._library.find(path) if self._library else None
        except FileChanged:
            return self._say(request, reason, 503, "being rewritten; ask again\n", {"Retry-After": "1"})
        except OSError as error:
            log.warning("cannot read a file", extra=fields(path=path.key, why=error.strerror))
            return self._say(request, reason, 500, "cannot be read\n")
        if found is None:
            return self._say(request, reason, 404, "not found\n", dict(absent_headers()))
        with found:
            return await self._answer(request, reason, path, found)

    def _say(
        self, request: web.Request, reason: Reason, status: int, text: str, headers: dict[str, str] | None = None
    ) -> web.Response:
        response = web.Response(status=status, text=text, headers=headers)
        self._ledger.on_sent(DIRECT, reason, len(text) if request.method != "HEAD" else 0)
        return response

    async def _answer(self, request: web.Request, reason: Reason, path: Path, found: Found) -> web.StreamResponse:
        size = found.file.size
        headers = dict(found.headers) | {"Accept-Ranges": "bytes"}
        asked = [(name, value) for name, value in request.headers.items()]
        match evaluate(request.method, asked, found.etag, found.last_modified, size):
            case NotModified():
                for name in ("Content-Type", "Content-Length"):  # RFC 9110 section 15.4.5
                    del headers[name]
                self._ledger.on_sent(DIRECT, reason, 0)
                return web.Response(status=304, headers=headers)
            case PreconditionFailed():
                return self._say(request, reason, 412, "precondition failed\n")
            case NotSatisfiable() as beyond:
                return self._say(request, reason, 416, "no such range\n", {"Content-Range": beyond.content_range(size)})
            case Partial(start, end) as part:
                headers |= {"Content-Range": part.content_range(size), "Content-Length": str(end - start)}
                return await self._send(request, reason, path, found, 206, headers, start, end)
            case Full():
                return await self._send(request, reason, path, found, 200, headers, 0, size)

    async def _send(
        self,
        request: web.Request,
        reason: Reason,
        path: Path,
        found: Found,
        status: int,
        headers: dict[str, str],
        start: int,
        end: int,
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        if request.method == "HEAD":
            self._ledger.on_sent(DIRECT, reason, 0)
            return response
        try:
            await _stream(response, found, start, end)
        except ConnectionError:
            raise
        except (FileChanged, OSError) as error:
            # The head is out: a body that ends early is the only honest sign left.
            log.info("broke off a body", extra=fields(path=path.key, why=str(error) or "the viewer is stuck"))
            return cut(request)
        self._ledger.on_sent(DIRECT, reason, end - start, identity=found.file.identity, runs=((start, end),))
        return response


async def _stream(response: web.StreamResponse, found: Found, start: int, end: int) -> None:
    """Send bytes start ... end - 1, reading ahead in threads. FileChanged, OSError."""
    coming: deque[asyncio.Future[bytes]] = deque()
    try:
        for offset in range(start, end, READ_BYTES):
            coming.append(found.file.read(offset, min(READ_BYTES, end - offset)))
            if len(coming) > READ_AHEAD:
                await _write(response, await coming[0])
                del coming[0]
        while coming:
            await _write(response, await coming[0])
            del coming[0]
        async with asyncio.timeout(STUCK_S):
            await response.write_eof()
    finally:
        for reading in coming:
            if not reading.cancel() and not reading.cancelled():
                reading.exception()  # seen: the body has broken off already


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(STUCK_S):
        await response.write(data)
