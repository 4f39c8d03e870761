"""`PUT`, `POST` and `DELETE` below the ingest prefix, as packagers send them (ffmpeg's HLS muxer, for one)."""

import asyncio
import errno
import hmac
import ipaddress
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web
from aiohttp.client_exceptions import ClientError
from aiohttp.http_exceptions import HttpProcessingError

from daemon.errors import StartupError
from daemon.logs import fields
from origin.content_http import READING
from origin.ingest import MOST_OBJECT_BYTES, Ingest, NotAPlaylist, TooLong, TooMuchHeld
from origin.metrics import OriginMetrics
from swarm.accounting import IngestResult
from swarm.names import BadPath, split_target

log = logging.getLogger(__name__)

WRITING = ("PUT", "POST", "DELETE")
SILENCE_S = 30.0  # a packager that sends nothing for so long in the middle of a body is gone
MOST_AT_ONCE = 256
_FULL = {errno.ENOSPC, errno.EDQUOT}
_IN_THE_WAY = (NotADirectoryError, FileExistsError, IsADirectoryError)


class Broken(Exception):
    """The body ended before its end, or could not be read."""


def read_token(path: Path) -> str:
    """The bearer token in a file. StartupError if there is none."""
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"ingest.token_file {path}: {getattr(error, 'strerror', None) or 'not text'}") from error
    if not token or not token.isprintable() or " " in token:
        raise StartupError(f"ingest.token_file {path}: expected one token")
    return token


def is_loopback(host: str | None) -> bool:
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # an IPv4 sender at a socket that takes both
    return (mapped or address).is_loopback


class IngestHandler:
    """`token` None: loopback senders only. `ingest` None: nothing may be written."""

    def __init__(self, ingest: Ingest | None, token: str | None, metrics: OriginMetrics) -> None:
        self._ingest = ingest
        self._token = token
        self._metrics = metrics
        self._running = 0

    async def handle_write(self, request: web.Request) -> web.Response:
        """201 or 204 once it is stored or deleted; 4xx and nothing kept otherwise."""
        status, result, why = await self._answer(request)
        self._count(request, result, why)
        response = web.Response(status=status, text=f"{why}\n" if why else None)
        if status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        if status == 405:
            response.headers["Allow"] = ", ".join((*READING, *(WRITING if self._is_ours(request) else ())))
        if status >= 400 and request.method != "DELETE":
            response.force_close()  # rather than read on what nobody wants
        return response

    def _count(self, request: web.Request, result: IngestResult, why: str) -> None:
        self._metrics.ingest_requests[result] += 1
        if result in (IngestResult.REFUSED, IngestResult.BROKEN):
            log.warning(
                "ingest refused" if result is IngestResult.REFUSED else "ingest broke off",
                extra=fields(method=request.method, path=request.raw_path[:200], sender=request.remote, why=why),
            )

    def _is_ours(self, request: web.Request) -> bool:
        """As written: another spelling of the prefix is not ours; what climbs out of it is found by `place`."""
        return self._ingest is not None and split_target(request.raw_path)[1].startswith(self._ingest.prefix)

    async def _answer(self, request: web.Request) -> tuple[int, IngestResult, str]:
        """Status, how it ended, and why if it was refused."""
        if self._ingest is None or request.method not in WRITING or not self._is_ours(request):
            return 405, IngestResult.REFUSED, f"{request.method} is not allowed here"
        if refusal := self._refusal(request):
            return *refusal[:1], IngestResult.REFUSED, refusal[1]
        try:
            url_path = self._ingest.place(split_target(request.raw_path)[1])
        except BadPath as error:
            return 400, IngestResult.REFUSED, str(error)
        self._running += 1
        try:
            if request.method == "DELETE":
                return await self._delete(self._ingest, url_path)
            return await self._store(self._ingest, url_path, request)
        except OSError as error:
            return _of_disk(error)
        finally:
            self._running -= 1

    def _refusal(self, request: web.Request) -> tuple[int, str] | None:
        if self._token is None:
            if not is_loopback(request.remote):
                return 403, "only senders on this machine may write (ingest.token_file lets others)"
        elif not self._has_token(request.headers.get("Authorization", ""), self._token):
            return 401, "a bearer token is required"
        if self._running >= MOST_AT_ONCE:
            return 503, "too many writes at once"
        return None

    @staticmethod
    def _has_token(header: str, token: str) -> bool:
        scheme, _, shown = header.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), token.encode())

    async def _delete(self, ingest: Ingest, url_path: str) -> tuple[int, IngestResult, str]:
        if await ingest.delete(url_path):
            return 204, IngestResult.DELETED, ""
        return 404, IngestResult.DELETED, "not found"

    async def _store(self, ingest: Ingest, url_path: str, request: web.Request) -> tuple[int, IngestResult, str]:
        if (request.content_length or 0) > MOST_OBJECT_BYTES:
            return 413, IngestResult.REFUSED, f"longer than {MOST_OBJECT_BYTES} bytes"
        try:
            received = await ingest.receive(self._body(request))
            is_new = await ingest.land(url_path, received)
        except TooLong as error:
            return 413, IngestResult.REFUSED, str(error)
        except NotAPlaylist as error:
            return 422, IngestResult.REFUSED, f"not a playlist: {error}"
        except TooMuchHeld as error:
            return 503, IngestResult.REFUSED, str(error)
        except Broken as error:
            return 400, IngestResult.BROKEN, str(error)
        return (201 if is_new else 204), IngestResult.STORED, ""

    async def _body(self, request: web.Request) -> AsyncIterator[bytes]:
        """The body as it arrives. Broken unless it ends where it said it would."""
        received = 0
        chunks = request.content.iter_any().__aiter__()
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                break
            except TimeoutError as error:
                raise Broken(f"nothing came for {SILENCE_S:.0f} s") from error
            except (ClientError, web.RequestPayloadError, HttpProcessingError, ConnectionError) as error:
                raise Broken(f"the body broke off: {error}") from error
            received += len(chunk)
            self._metrics.ingest_bytes.value += len(chunk)
            yield chunk
        if request.content_length is not None and received != request.content_length:
            raise Broken(f"the body ended after {received} of {request.content_length} bytes")


def _of_disk(error: OSError) -> tuple[int, IngestResult, str]:
    if error.errno == errno.ENAMETOOLONG:
        return 400, IngestResult.REFUSED, "the path is too long for this disk"
    if isinstance(error, _IN_THE_WAY):
        return 409, IngestResult.REFUSED, "a file stands where a directory is needed, or the other way round"
    log.error("ingest cannot be stored", extra=fields(why=error.strerror))
    return (507 if error.errno in _FULL else 500), IngestResult.REFUSED, "cannot be stored"
