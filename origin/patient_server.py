"""An HTTP server that sees a request through though its sender has hung up.

aiohttp drops a connection, and the request on it, as soon as the sender ends its half. But packagers end a stream
that way: ffmpeg sends the last playlist, which says that there will be no more, and closes without waiting for the
answer. A client that only ends its sending half (RFC 9112 section 9.6) gets its answer, too.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from daemon.malformed import answer_malformed

SETTLE_S = 0.01  # between looks at whether the last request of a connection whose sender hung up is answered

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def cut(request: web.Request) -> web.StreamResponse:
    """Let the connection go, in the middle of a body if need be; what is returned is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=400)


class _PatientRequest(web.Request):
    def _cancel(self, exc: BaseException) -> None:
        """The connection is lost. A body that arrived whole can still be read."""
        if not self.content.is_eof():
            super()._cancel(exc)


class _PatientConnection(web.RequestHandler):
    """One connection."""

    __slots__ = ()

    def eof_received(self) -> bool:  # type: ignore[override]
        self._loop.call_later(SETTLE_S, self._settle)
        return True  # keep our half open

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        return answer_malformed(request, status, exc) or super().handle_error(request, status, exc, message)

    def _settle(self) -> None:
        """Close behind the last request; one whose body is not whole will never be."""
        if self.transport is None:
            return
        request = self._current_request
        if request is not None and not request.content.is_eof():
            request._cancel(ConnectionResetError("the sender hung up"))
            self.close()
        elif self._waiter is not None:  # idle: all is answered
            self.force_close()
        else:
            self._loop.call_later(SETTLE_S, self._settle)


class PatientServer(web.Server):
    """For `web.ServerRunner`. `options` are those of aiohttp's RequestHandler."""

    def __init__(self, handler: Handler, **options: Any) -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            assert isinstance(request, web.Request)  # made by our own factory
            try:
                return await handler(request)
            except (web.RequestPayloadError, ClientPayloadError, HttpProcessingError) as error:
                raise web.HTTPBadRequest(text=f"the body cannot be read: {error}\n") from error
            except ConnectionError:  # nobody reads on; raised further it would be logged as a failure of ours
                return cut(request)
            finally:
                if request.content.exception() is not None:
                    request.content.feed_eof()  # or aiohttp would try to read the rest, and log that it cannot

        super().__init__(handle, request_factory=self._patient_request, **options)

    def __call__(self) -> _PatientConnection:
        return _PatientConnection(self, loop=self._loop, **self._kwargs)

    def _patient_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> _PatientRequest:
        return _PatientRequest(message, payload, protocol, writer, task, self._loop)
