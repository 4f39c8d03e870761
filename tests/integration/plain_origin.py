"""An origin that is not ours, in a thread of the test: paths, their answers, and what was asked of it."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(frozen=True)
class Stored:
    """What it answers at a path."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


class PlainOrigin:
    """Serves `paths`, which a test may change; `asked` is every request's method, target and headers."""

    def __init__(self, paths: Mapping[str, Stored]) -> None:
        self.paths = dict(paths)
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        if headers.get("starling-reason") == "audit":
            return web.Response(status=404)  # they come by chance: tests count without them
        self.asked.append((request.method, request.raw_path, headers))
        stored = self.paths.get(request.path)
        if stored is None:
            return web.Response(status=404, text="nothing here\n")
        return web.Response(status=stored.status, body=stored.body, headers=stored.headers)


@contextlib.contextmanager
def plain_origin(paths: Mapping[str, Stored]) -> Iterator[PlainOrigin]:
    """It runs for the length of a `with`."""
    origin = PlainOrigin(paths)
    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", origin.handle)
    runner = web.AppRunner(app, access_log=None)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
    origin.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield origin
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
