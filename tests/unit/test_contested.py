"""Two edges vouch for different bytes of one version: neither is believed, and the origin is asked."""

import asyncio
import hashlib
import time

import pytest
from aiohttp import web

from daemon.asking import Asker
from daemon.keys import Signer
from edge.fills import Fills, VersionGone
from edge.held import Held
from edge.metrics import EdgeMetrics
from edge.plain_origin import PlainOrigin
from edge.pointers import Known
from edge.resolver import Resolver
from edge.roster import Roster
from edge.store import Store
from swarm.accounting import Reason, Source
from swarm.members import State
from swarm.metainfo import PAGE_CONTEXT, Page, encode, open_page
from swarm.names import Path
from swarm.wire import PageFrame, PieceFrame
from tests.unit.test_resolver import member

ME, FIRST, SECOND = (Signer.throwaway(name) for name in ("me", "first", "second"))
PIECE = 16384
BODY = bytes(range(256)) * 128
PATH = Path("default", "/a.bin", "")


class Here:
    """An edge in a swarm, alone of its kind with the origin; it has what the path means from the origin."""

    def __init__(self, url: str) -> None:
        self.metrics = EdgeMetrics("me", "", "0")
        self.roster = Roster("me", "", ME, in_swarm=True)
        self.roster.take_view(
            1,
            [member(ME, "", State.LEAF), *(member(one, "http://127.0.0.1:1", State.ALIVE) for one in (FIRST, SECOND))],
        )
        self.store = Store(None, 1 << 20, 0, self.metrics)
        self.asker = Asker("me", ())
        self.origin = PlainOrigin([url], self.roster.check, ME, time.time, lambda fault: None)
        origins = {"default": self.origin}
        self.fills = Fills(self.store, self.roster, self.asker, origins, self.metrics)
        self.resolver = Resolver(self.store, self.fills, self.roster, self.asker, origins, self.metrics)

    async def meaning(self) -> tuple[Held, Known]:
        """What the path means, and nothing of its body yet."""
        known = await self.resolver.resolve_as_home(PATH)
        self.store.drop(self.store.hold(PATH, known.pointer, "attested"))
        await asyncio.gather(*(task for fill in self.fills.all() for task in fill._tasks), return_exceptions=True)
        return self.store.hold(PATH, known.pointer, "attested"), known


@pytest.fixture
async def here():
    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=BODY, headers={"ETag": '"1"', "Cache-Control": "max-age=60"})

    app = web.Application()
    app.router.add_get("/a.bin", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    here = Here(f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield here
    await here.resolver.close()
    await here.fills.close()
    await here.store.close()
    await here.asker.close()
    await here.origin.close()
    await runner.cleanup()


def page_frame(version: bytes, body: bytes, by: Signer) -> PageFrame:
    page = Page(
        version=version, first_piece=0, offset=0, length=len(body), piece_bytes=PIECE, size=len(body),
        digests=b"".join(hashlib.sha256(body[at : at + PIECE]).digest() for at in (0, PIECE)),
    )  # fmt: skip
    return PageFrame(by.sign(PAGE_CONTEXT, encode(page)))


async def test_two_differing_records_void_both_and_the_body_is_taken_from_the_origin(here):
    held, known = await here.meaning()
    lie = b"\xff" + BODY[1:]
    first = page_frame(held.version, lie, FIRST)
    here.store.add_page(held, open_page(first.signed, here.roster.check), first.signed)
    here.store.put(held, 0, lie[:PIECE], Source.PEER, "first")
    viewer = held.wait_for(0b11)

    async def frames():
        yield page_frame(held.version, BODY, SECOND)
        yield PieceFrame(1, BODY[PIECE:])

    here.fills.adopt(held, known, frames(), "second", None, 0.0)
    async with asyncio.timeout(10):
        assert await viewer.next() == 0, "it had landed before"
        with pytest.raises(VersionGone):
            await viewer.next()
    held.stop_waiting(viewer)
    assert here.store.held(held.version) is None
    assert here.store.pointers.known(PATH) is None
    assert here.roster.health.usable("second", time.monotonic()), "whoever sent it need not be to blame"

    before = here.metrics.origin_bytes[Reason.VERIFY_FAILED]
    held, known = await here.meaning()
    again = held.wait_for(0b11)
    fill = here.fills.join(held, known)
    fill.want(0b11)
    async with asyncio.timeout(10):
        assert {await again.next(), await again.next()} == {0, 1}
    assert b"".join(here.store.peek(held, piece) or b"" for piece in (0, 1)) == BODY
    assert here.metrics.origin_bytes[Reason.VERIFY_FAILED] - before == len(BODY)
    assert {signed.signer for _, signed in held.metainfo.pages()} == {"me"}
    assert all("ask first" not in order and "ask second" not in order for order in fill.asked)


async def test_what_a_banned_edge_vouched_for_is_forgotten(here):
    held, _ = await here.meaning()
    page = page_frame(held.version, BODY, FIRST)
    here.store.add_page(held, open_page(page.signed, here.roster.check), page.signed)
    here.store.put(held, 0, BODY[:PIECE], Source.PEER, "first")
    here.fills.on_banned("second")
    assert here.store.held(held.version) is held
    here.fills.on_banned("first")
    assert here.store.held(held.version) is None
    assert here.store.pointers.known(PATH) is None
