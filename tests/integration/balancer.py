"""A strict balancer and readers behind it: nothing is asked twice, so whatever a restart breaks shows as an error."""

import asyncio
import contextlib
import hashlib
import random
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from aiohttp import web

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length", "host"}
HEALTH_WITHIN_S = 2.0
POLL_S = 1.0
SILENCE_S = 30.0
THINK_S = 0.02  # between a reader's requests

_T = TypeVar("_T")


class Loop:
    """An event loop in a thread, so that the tests' own thread may start programs (they end with that thread)."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._opened = contextlib.AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T], within_s: float) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within_s)

    def enter(self, manager: AbstractAsyncContextManager[_T]) -> _T:
        """Open it for as long as the loop runs."""
        return self.run(self._opened.enter_async_context(manager), SILENCE_S)

    def close(self) -> None:
        try:
            self.run(self._opened.aclose(), 2 * SILENCE_S)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


@contextlib.contextmanager
def loop_in_thread() -> Iterator[Loop]:
    loop = Loop()
    try:
        yield loop
    finally:
        loop.close()


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """Kept-alive connections, and no second try: aiohttp alone would ask again where one had gone stale."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=SILENCE_S),
        auto_decompress=False,
    )
    session._retry_connection = False  # as aiohttp's own test client does
    async with session:
        yield session


@dataclass
class Behind:
    """One edge as the balancer sees it."""

    name: str
    url: str
    is_in: bool = False


class Balancer:
    """Round robin over the edges that were healthy when last asked, each second."""

    def __init__(self, edges: Mapping[str, str]) -> None:
        self._edges = {name: Behind(name, url) for name, url in edges.items()}
        self._turn = 0
        self._news = asyncio.Condition()
        self.errors: list[str] = []
        self.taken_out: list[str] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """The URL at which it listens."""
        app = web.Application()
        app.router.add_route("GET", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        async with client() as self._http:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            polling = [asyncio.create_task(self._poll(edge)) for edge in self._edges.values()]
            try:
                yield f"http://127.0.0.1:{runner.addresses[0][1]}"
            finally:
                for task in polling:
                    task.cancel()
                await asyncio.gather(*polling, return_exceptions=True)
                await runner.cleanup()

    async def wait_for(self, name: str, *, is_in: bool) -> None:
        """Until this edge takes part, or no longer does."""
        async with self._news:
            await self._news.wait_for(lambda: self._edges[name].is_in is is_in)

    async def _poll(self, edge: Behind) -> None:
        while True:
            was_in, edge.is_in = edge.is_in, await self._is_healthy(edge)
            if was_in is not edge.is_in:
                self.taken_out += [edge.name] if was_in else []
                async with self._news:
                    self._news.notify_all()
            await asyncio.sleep(POLL_S)

    async def _is_healthy(self, edge: Behind) -> bool:
        within = aiohttp.ClientTimeout(total=HEALTH_WITHIN_S)
        try:
            async with self._http.get(f"{edge.url}/-/health", timeout=within) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        healthy = [edge for edge in self._edges.values() if edge.is_in]
        if not healthy:
            self.errors.append(f"{request.path}: no edge is healthy")
            return web.Response(status=503)
        self._turn += 1
        edge = healthy[self._turn % len(healthy)]
        try:
            return await self._relay(request, edge)
        except (aiohttp.ClientError, TimeoutError) as error:
            self.errors.append(f"{edge.name}{request.path}: {type(error).__name__} {error}")
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)

    async def _relay(self, request: web.Request, edge: Behind) -> web.StreamResponse:
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        async with self._http.get(edge.url + request.raw_path, headers=headers, allow_redirects=False) as answer:
            response = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    response.headers.add(name, value)
            response.content_length = answer.content_length
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


class Readers:
    """Viewers of plain files, each with a kept-alive connection of its own; every body's digest is checked."""

    def __init__(self, url: str, files: Mapping[str, str], count: int) -> None:
        self._url = url
        self._files = dict(files)
        self._count = count
        self._news = asyncio.Condition()
        self.requests = 0
        self.bytes = 0
        self.errors: list[str] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        reading = [asyncio.create_task(self._read(random.Random(number), stop)) for number in range(self._count)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*reading)

    async def wait_for_requests(self, more: int) -> None:
        """Until so many more have been answered."""
        goal = self.requests + more
        async with self._news:
            await self._news.wait_for(lambda: self.requests >= goal)

    async def _read(self, rng: random.Random, stop: asyncio.Event) -> None:
        async with client() as session:
            while not stop.is_set():
                path = rng.choice(list(self._files))
                await self._read_one(session, path)
                await asyncio.sleep(THINK_S)

    async def _read_one(self, session: aiohttp.ClientSession, path: str) -> None:
        digest = hashlib.sha256()
        try:
            async with session.get(self._url + path) as answer:
                async for chunk in answer.content.iter_any():
                    digest.update(chunk)
                    self.bytes += len(chunk)
                if answer.status != 200 or digest.hexdigest() != self._files[path]:
                    self.errors.append(f"{path}: {answer.status}, wrong bytes")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.errors.append(f"{path}: {type(error).__name__} {error}")
        self.requests += 1
        async with self._news:
            self._news.notify_all()
