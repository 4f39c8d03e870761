"""Purges at one edge: their file, what a soft one does to a pointer, and two edges that tell each other."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from aiohttp import web

from daemon.answering import message_response
from daemon.asking import PURGE_PATH, Asker
from daemon.keys import Signer
from edge.metrics import EdgeMetrics
from edge.pointers import Known
from edge.purge_requests import Wanted
from edge.purges import PurgeFile, Purges
from edge.roster import Roster
from swarm.accounting import PurgeKind
from swarm.members import ANNOUNCEMENT_CONTEXT, Announcement, Member, State
from swarm.metainfo import Pointer, Signed
from swarm.names import Path
from swarm.purging import EVERY_SITE, LIFETIME_S, BookFull, Purge, PurgeBook, PurgeMessage
from swarm.wire import decode_message

HERE = Path("default", "/a", "")
THIS = [Wanted(PurgeKind.URL, "default", "/a")]


def purge(value: str = "/a", sequence: int = 100, **changes: object) -> Purge:
    bare = Purge(kind="url", site="default", value=value, sequence=sequence, made=time.time(), issuer="me")
    return msgspec.structs.replace(bare, **changes)


# --- the file


def test_a_file_gives_back_what_was_put_into_it(tmp_path):
    file = PurgeFile(tmp_path / "purges")
    assert file.read() == ([], None)
    one, two = purge(), purge("/b", soft=True, site=EVERY_SITE)
    file.append([one], [one])
    file.append([two], [one, two])
    again, written_at = PurgeFile(tmp_path / "purges").read()
    assert again == [one, two]
    assert written_at is not None


def test_a_line_torn_by_a_kill_costs_nothing_but_itself(tmp_path):
    path = tmp_path / "purges"
    one, two = purge(), purge("/b")
    PurgeFile(path).append([one], [one, two])
    whole = path.read_bytes()
    for cut in range(len(msgspec.json.encode(one)) + 1, len(whole)):
        path.write_bytes(whole[:cut])
        file = PurgeFile(path)
        assert file.read()[0] in ([one], [one, two])
        file.append([two], [one, two])
        assert PurgeFile(path).read()[0] == [one, two]


def test_superseded_lines_do_not_pile_up(tmp_path):
    path = tmp_path / "purges"
    file = PurgeFile(path)
    for sequence in range(1500):
        one = purge(sequence=sequence)
        file.append([one], [one])
    assert len(path.read_bytes().splitlines()) <= 1003
    assert PurgeFile(path).read()[0][-1].sequence == 1499


def test_a_file_that_cannot_be_read_is_an_empty_one(tmp_path, caplog):
    (tmp_path / "purges").mkdir()
    assert PurgeFile(tmp_path / "purges").read() == ([], None)
    assert "purges cannot be read" in caplog.text


# --- one edge


class Here:
    """An edge's purges, and whoever else is in its view."""

    def __init__(self, name: str, directory=None) -> None:
        self.signer = Signer.throwaway(name)
        self.roster = Roster(name, "", self.signer, in_swarm=True)
        self.asker = Asker(name, ())
        self.metrics = EdgeMetrics(name, "", "0")
        self.file = PurgeFile(directory / f"{name}.purges") if directory else None
        self.purges = Purges(PurgeBook(), self.roster, self.asker, self.metrics, self.file)
        self.base = ""

    async def handle(self, request: web.Request) -> web.Response:
        message = decode_message(await request.read(), PurgeMessage)
        return message_response(await self.purges.on_message(message, "other"))


@pytest.fixture
async def make_edges(tmp_path) -> AsyncIterator[Callable[..., Awaitable[list[Here]]]]:
    """`make_edges("a", "b")`: edges that have each other in view; without names: none."""
    runners: list[web.AppRunner] = []
    edges: list[Here] = []

    async def make(*names: str) -> list[Here]:
        for name in names:
            edge = Here(name, tmp_path)
            edges.append(edge)
            app = web.Application()
            app.router.add_post(PURGE_PATH, edge.handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            runners.append(runner)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            edge.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        for edge in edges:
            edge.roster.take_view(1, [member(one) for one in edges])
        return edges

    yield make
    for edge in edges:
        await edge.purges.close()
        await edge.asker.close()
    for runner in runners:
        await runner.cleanup()


def member(edge: Here) -> Member:
    said = Announcement(node=edge.roster.me, key=edge.signer.public, address=None, port=1)
    signed = edge.signer.sign(ANNOUNCEMENT_CONTEXT, msgspec.msgpack.encode(said))
    return Member(signed, edge.base, State.ALIVE)


def known(sequence: int, ttl_s: float = 60.0, age_s: float = 1.0) -> Known:
    now = time.time()
    pointer = Pointer(
        site="default", path="/a", version=b"v" * 16, status=200, headers=(), sequence=sequence,
        made=now, expires=now + ttl_s, born=now,
    )  # fmt: skip
    return Known(HERE, pointer, Signed(b"", b"", ""), "attested", time.monotonic() - age_s)


async def test_a_hard_purge_forbids_what_was_there_and_nothing_that_comes(make_edges):
    (edge,) = await make_edges("a")
    old = known(1)
    assert edge.purges.allows(old)
    report = await edge.purges.purge(THIS, soft=False, by="a test")
    assert not edge.purges.allows(old)
    assert edge.purges.allows(known(report.purges[0].sequence + 1))


async def test_after_a_soft_purge_grace_counts_from_the_purge(make_edges):
    (edge,) = await make_edges("a")
    young, old = known(1, ttl_s=60, age_s=1), known(1, ttl_s=60, age_s=200)
    made = time.time()
    edge.purges.book.take(purge(sequence=10, soft=True, made=made - 5), made)
    assert edge.purges.allows(young)
    assert edge.purges.allows(old)
    assert young.age_s(time.monotonic()) == pytest.approx(65, abs=2)
    assert old.age_s(time.monotonic()) == pytest.approx(200, abs=2)
    assert edge.metrics.purges[PurgeKind.URL] == 0  # taken by hand, not applied


async def test_what_was_judged_good_is_judged_again_after_the_next_purge(make_edges):
    (edge,) = await make_edges("a")
    old, calls = known(1), []
    edge.purges.on_applied = lambda: calls.append(1)
    await edge.purges.purge([Wanted(PurgeKind.URL, "default", "/other")], soft=False, by="a test")
    assert edge.purges.allows(old)
    await edge.purges.purge(THIS, soft=False, by="a test")
    assert not edge.purges.allows(old)
    assert len(calls) == 2


async def test_purges_are_in_force_again_after_a_restart(make_edges, tmp_path):
    (edge,) = await make_edges("a")
    await edge.purges.purge(THIS, soft=False, by="a test")
    again = Here("a", tmp_path)
    await again.purges.open()
    assert not again.purges.allows(known(1))
    assert again.purges.book.digest == edge.purges.book.digest
    await again.asker.close()


async def test_an_edge_that_was_away_for_longer_than_purges_live_asks_about_all_it_holds(make_edges, tmp_path):
    (edge,) = await make_edges("a")
    await edge.purges.purge([Wanted(PurgeKind.URL, "default", "/other")], soft=False, by="a test")
    long_ago = time.time() - LIFETIME_S - 1
    os.utime(tmp_path / "a.purges", (long_ago, long_ago))
    again = Here("a", tmp_path)
    await again.purges.open()
    held = known(1)
    assert again.purges.allows(held)
    assert held.age_s(time.monotonic()) >= held.pointer.ttl_s
    await again.asker.close()


async def test_a_full_book_says_so_and_purges_nothing(make_edges, monkeypatch):
    (edge,) = await make_edges("a")
    monkeypatch.setattr("swarm.purging.MOST_PURGES", 1)
    with pytest.raises(BookFull, match="purge by prefix or key"):
        await edge.purges.purge([*THIS, Wanted(PurgeKind.KEY, "", "k")], soft=False, by="a test")
    assert edge.purges.allows(known(1))


async def test_a_disk_that_fails_is_told_and_tried_again(make_edges, tmp_path):
    (edge,) = await make_edges("a")
    blocked = tmp_path / "a.new"
    blocked.mkdir()
    report = await edge.purges.purge(THIS, soft=False, by="a test")
    assert report.unkept
    assert edge.purges.trouble == report.unkept
    assert not edge.purges.allows(known(1))
    blocked.rmdir()
    report = await edge.purges.purge([Wanted(PurgeKind.URL, "default", "/b")], soft=False, by="a test")
    assert (report.unkept, edge.purges.trouble) == ("", "")
    assert len(PurgeFile(tmp_path / "a.purges").read()[0]) == 2


# --- several


async def test_a_purge_is_in_force_at_every_member_when_it_is_answered(make_edges):
    edges = await make_edges("a", "b", "c")
    report = await edges[0].purges.purge(THIS, soft=False, by="a test")
    assert (sorted(report.applied), report.failed) == (["a", "b", "c"], {})
    assert [edge.purges.allows(known(1)) for edge in edges] == [False] * 3
    assert [edge.metrics.purges[PurgeKind.URL] for edge in edges] == [1] * 3
    assert len({edge.purges.book.digest for edge in edges}) == 1


async def test_a_member_that_cannot_be_reached_is_named_and_told_again(make_edges):
    one, other = await make_edges("a", "b")
    address = other.base
    other.base = "http://127.0.0.1:1"
    one.roster.take_view(2, [member(one), member(other)])
    report = await one.purges.purge(THIS, soft=False, by="a test")
    assert (report.applied, list(report.failed)) == (["a"], ["b"])
    other.base = address
    one.roster.take_view(3, [member(one), member(other)])
    async with asyncio.timeout(10):
        while other.purges.allows(known(1)):
            await asyncio.sleep(0.005)


async def test_a_member_that_comes_back_is_greeted_with_what_it_missed(make_edges):
    one, other = await make_edges("a", "b")
    one.roster.take_view(2, [member(one)])
    await one.purges.purge(THIS, soft=False, by="a test")
    other.purges.book.take(purge("/b", sequence=7), time.time())
    one.roster.on_view = one.purges.on_view
    comparing = asyncio.create_task(one.purges.run())
    try:
        one.roster.take_view(3, [member(one), member(other)])
        async with asyncio.timeout(10):
            while one.purges.book.digest != other.purges.book.digest:
                await asyncio.sleep(0.005)
    finally:
        comparing.cancel()
        await asyncio.wait((comparing,))
    assert len(one.purges.book) == len(other.purges.book) == 2


async def test_what_no_honest_edge_made_is_not_taken_from_a_member(make_edges):
    (edge,) = await make_edges("a")
    bad, good = purge(sequence=2**62), purge("/b")
    reply = await edge.purges.on_message(PurgeMessage(purges=(bad, good)), "b")
    assert (reply.refused, len(edge.purges.book)) == (1, 1)
