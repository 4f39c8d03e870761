"""One edge on its own before an origin of the test's making, all in one loop of their own."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import uvloop
from aiohttp import web

from daemon.addresses import Address, NodeName, Url
from edge.app import Edge
from edge.config import Admin, Cache, Drain, EdgeConfig, Origin, Viewer
from swarm.units import Bytes, Seconds

T = TypeVar("T")
WITHIN_S = 30.0
LOOPBACK = Address("127.0.0.1", 0)
EDGE = NodeName("edge-1")


class Bed:
    """A loop, an origin, and the edges started before it."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self.edges: list[Edge] = []
        self._origin: web.AppRunner | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, WITHIN_S))

    async def start_origin(self, app: web.Application) -> None:
        self._origin = web.AppRunner(app, access_log=None)
        await self._origin.setup()
        await web.TCPSite(self._origin, "127.0.0.1", 0).start()

    async def start_edge(self, cache: Cache | None = None, **viewer: Any) -> Edge:
        """`viewer`: keys of that section. In memory alone unless `cache` says otherwise."""
        assert self._origin is not None
        config = EdgeConfig(
            node=EDGE,
            viewer=Viewer(listen=LOOPBACK, **viewer),
            admin=Admin(listen=LOOPBACK),
            origin=Origin(url=(Url(f"http://127.0.0.1:{self._origin.addresses[0][1]}"),)),
            cache=cache or Cache(disk=Bytes(0)),
            drain=Drain(grace=Seconds(0)),
        )
        edge = Edge(config)
        await edge.start()
        self.edges.append(edge)
        return edge

    async def stop(self) -> None:
        for edge in self.edges:
            await edge.stop()
        if self._origin is not None:
            await self._origin.cleanup()


@contextlib.contextmanager
def running_bed(make_app: Callable[[], web.Application]) -> Iterator[Bed]:
    bed = Bed()
    try:
        bed.run(bed.start_origin(make_app()))
        yield bed
    finally:
        bed.run(bed.stop())
        bed.loop.close()
