"""Audits of what a home vouched for, before an origin that answers as each test says."""

import asyncio
import hashlib
import itertools
import random
import time

import pytest
from aiohttp import web

from daemon.keys import Signer, checker, verify
from edge.audits import MOST_WAITING, Audits, rate
from edge.held import Held
from edge.metrics import EdgeMetrics
from edge.plain_origin import PlainOrigin
from edge.pointers import Known
from edge.roster import Roster
from swarm.accounting import Reason, Source
from swarm.evidence import Accusation, check_attested
from swarm.http_dates import format_http_date
from swarm.members import State
from swarm.metainfo import PAGE_CONTEXT, POINTER_CONTEXT, Metainfo, Page, Pointer, encode
from swarm.names import Path
from tests.unit.test_resolver import member

ME, HOME = Signer.throwaway("me"), Signer.throwaway("home")
PIECE = 16384
BODY = bytes(range(256)) * 128  # two pieces
LIE = b"\xff" + BODY[1:]
PATH = Path("default", "/a.bin", "")
VERSION = b"v" * 16
MADE = time.time()
STRONG = {"ETag": '"1"', "Last-Modified": format_http_date(MADE - 60)}


class Dice(random.Random):
    """Says what it is told to, in turn and again."""

    def __init__(self, *said: float) -> None:
        super().__init__(0)
        self._said = itertools.cycle(said)

    def random(self) -> float:
        return next(self._said)


class Here:
    """An edge that got the pieces of a body from `home`, which recorded `recorded`, under these headers."""

    def __init__(self, url: str, dice: Dice) -> None:
        self.metrics = EdgeMetrics("me", "", "0")
        self.roster = Roster("me", "", ME, in_swarm=True)
        self.roster.take_view(1, [member(one, "http://127.0.0.1:1", State.ALIVE) for one in (ME, HOME)])
        check = checker({"me": ME.public, "home": HOME.public}.get)
        self.origin = PlainOrigin([url], check, ME, time.time, lambda fault: None)
        self.void: list[Held] = []
        self.accused: list[Accusation] = []
        self.audits = Audits(
            {"default": self.origin},
            self.roster,
            self.metrics,
            dice,
            self.void.append,
            self._accuse,
        )

    def _accuse(self, node, evidence) -> None:
        self.accused.append(Accusation(node=node, key=HOME.public, at=time.time(), evidence=evidence))

    async def got(self, recorded: bytes, headers: dict[str, str], piece: int = 0, path: Path = PATH) -> None:
        """Nothing is under way any more when it returns."""
        cut = [recorded[at : at + PIECE] for at in range(0, len(recorded), PIECE)]
        page = Page(
            version=VERSION, first_piece=0, offset=0, length=len(recorded), piece_bytes=PIECE, size=len(recorded),
            digests=b"".join(hashlib.sha256(piece).digest() for piece in cut),
        )  # fmt: skip
        pointer = Pointer(
            site="default", path=path.target, version=VERSION, status=200, headers=tuple(headers.items()), sequence=1,
            made=MADE, expires=MADE + 60, born=MADE, size=len(recorded),
        )  # fmt: skip
        signed = HOME.sign(POINTER_CONTEXT, encode(pointer))
        held = Held(path, Metainfo(VERSION, PIECE, len(recorded)), "attested", MADE)
        held.metainfo.add(page, HOME.sign(PAGE_CONTEXT, encode(page)))
        self.audits.on_piece(held, Known(path, pointer, signed, "attested", 0.0), piece)
        if self.audits._task is not None:
            await self.audits._task

    @property
    def asked(self) -> int:
        return self.metrics.origin_requests[Reason.AUDIT]


class Server:
    """Answers each request with the next of these bodies, the last again and again; by ranges where asked to."""

    def __init__(self) -> None:
        self.bodies = [BODY]
        self.headers: dict[str, str] = STRONG
        self.status = 200
        self.gives_ranges = True
        self.url = ""
        self.ranges: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        asked = request.headers.get("Range", "")
        self.ranges.append(asked)
        body = self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]
        if not self.gives_ranges or self.status != 200:
            return web.Response(status=self.status, body=body, headers=self.headers)
        first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
        headers = self.headers | {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
        return web.Response(status=206, body=body[first : last + 1], headers=headers)


@pytest.fixture
async def server():
    server = Server()
    app = web.Application()
    app.router.add_get("/a.bin", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def here(server):
    here = Here(server.url, Dice(0.0))
    yield here
    await here.audits.close()
    await here.origin.close()


async def test_a_record_that_the_origin_bears_out_costs_a_piece_and_nothing_else(here, server):
    await here.got(BODY, STRONG, piece=1)
    assert server.ranges == ["bytes=16384-32767"]
    assert (here.void, here.accused, here.asked) == ([], [], 1)
    assert here.metrics.origin_bytes[Reason.AUDIT] == here.metrics.fetched_bytes[Source.ORIGIN] == PIECE


async def test_a_lie_voids_the_record_and_its_signer_is_accused_with_what_others_can_check(here):
    await here.got(LIE, STRONG)
    assert [held.path for held in here.void] == [PATH]
    [said] = here.accused
    pointer, page = check_attested(said, verify)
    assert await here.audits.contradicts(pointer, page, 0)
    assert not await here.audits.contradicts(pointer, page, 1), "that piece is as it should be"
    assert not here.roster.health.usable("home", time.monotonic())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ETag": 'W/"1"'},
        {"Last-Modified": STRONG["Last-Modified"]},
        STRONG | {"Last-Modified": format_http_date(MADE - 1)},  # the same second may have seen another body
    ],
)
async def test_where_the_origin_may_have_changed_its_mind_nobody_is_accused(here, server, headers):
    server.headers = headers
    await here.got(LIE, headers)
    assert (len(here.void), here.accused) == (1, [])


async def test_an_origin_that_says_something_else_each_time_proves_nothing(here, server):
    server.bodies = [b"1" + BODY[1:], b"2" + BODY[1:], BODY]
    await here.got(LIE, STRONG)
    assert (len(here.void), here.accused) == (1, [])


@pytest.mark.parametrize(
    "changes",
    [
        {"headers": STRONG | {"ETag": '"2"'}},  # published anew
        {"headers": STRONG | {"Content-Encoding": "gzip"}},
        {"bodies": [BODY + b"more"]},
        {"status": 404},
        {"status": 503},
        {"gives_ranges": False, "bodies": [BODY + b"more"]},
    ],
)
async def test_what_cannot_be_compared_says_nothing(here, server, changes):
    for name, value in changes.items():
        setattr(server, name, value)
    await here.got(LIE, STRONG)
    assert (here.void, here.accused) == ([], [])


async def test_a_small_body_is_compared_where_there_are_no_ranges(here, server):
    server.gives_ranges = False
    await here.got(LIE, STRONG)
    assert (len(here.void), len(here.accused)) == (1, 1)


async def test_an_origin_that_is_gone_says_nothing(here, unused_tcp_port):
    here.origin.take_urls([f"http://127.0.0.1:{unused_tcp_port}"])
    await here.got(LIE, STRONG)
    assert (here.void, here.accused) == ([], [])


async def test_playlists_are_rewritten_and_not_compared(here):
    await here.got(LIE, STRONG, path=Path("default", "/a.m3u8", ""))
    assert here.asked == 0


async def test_which_pieces_are_audited_is_left_to_chance(server):
    here = Here(server.url, Dice(0.5, 0.0101, 0.0099, 0.9))
    for _ in range(8):
        await here.got(BODY, STRONG)
    assert here.asked == 2
    await here.origin.close()


async def test_what_waits_to_be_audited_is_bounded(here):
    got = [asyncio.create_task(here.got(BODY, STRONG)) for _ in range(2 * MOST_WAITING)]
    await asyncio.gather(*got)
    assert here.asked <= MOST_WAITING + 1


@pytest.mark.parametrize("others, each", [(1, 0.01), (4, 0.01), (8, 0.005), (16, 0.0025), (500, 0.0025)])
def test_the_swarm_shares_out_its_audits(others, each):
    assert rate(others) == each
    assert 1 - (1 - min(1.0, others * each)) ** 200 > 0.85, "a lie told to all is found within 200 pieces"
