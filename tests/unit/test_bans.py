"""Bans at one edge: what begins them, their end, their file; and who is not answered."""

import asyncio
import time

import msgspec
import pytest
from aiohttp import web

from daemon.answering import admit, hello_handler
from daemon.asking import Asker
from daemon.keys import Signer
from daemon.peer_auth import HELLO_PATH, Gatekeeper, WrongSecret
from edge.bans import BanFile, Bans
from edge.roster import Roster
from swarm.evidence import (
    ACCUSATION_CONTEXT,
    FIRST_BAN_S,
    STATEMENT_CONTEXT,
    Accusation,
    AttestedWrong,
    BanBook,
    SentWrong,
    Stating,
    encode,
)
from swarm.members import State
from swarm.metainfo import PAGE_CONTEXT, POINTER_CONTEXT, Page, Pointer, Signed
from swarm.metainfo import encode as encode_meta
from swarm.placement import Edge
from tests.unit.test_resolver import member

ME, LIAR, SECOND = Signer.throwaway("me"), Signer.throwaway("liar"), Signer.throwaway("second")
VERSION = b"v" * 16
SECRET = b"s" * 32


def accusation(who: Signer = LIAR, at: float | None = None, by: Signer = SECOND) -> Signed:
    """Of a sender that signed for a piece of zeros where its page says ones."""
    at = time.time() if at is None else at
    page = Page(version=VERSION, first_piece=0, offset=0, length=1, piece_bytes=16384, digests=b"1" * 32)
    stating = Stating()
    stating.on_sent(VERSION, 0, b"0" * 32, Signed(encode_meta(page), b"", ""), 1, 0.0)
    body = stating.statement(at)
    assert body is not None
    case = SentWrong(statement=who.sign(STATEMENT_CONTEXT, body), sent=((0, b"0" * 32),), page=encode_meta(page))
    return signed(Accusation(node=who.name, key=who.public, at=at, evidence=case), by)


def signed(said: Accusation, by: Signer = SECOND) -> Signed:
    return by.sign(ACCUSATION_CONTEXT, encode(said))


def attested(who: Signer = LIAR) -> Signed:
    now = time.time()
    pointer = Pointer(
        site="default", path="/a", version=VERSION, status=200, headers=(("ETag", '"1"'),), sequence=1,
        made=now, expires=now + 60, born=now - 60, size=1,
    )  # fmt: skip
    page = Page(version=VERSION, first_piece=0, offset=0, length=1, piece_bytes=16384, digests=b"1" * 32)
    case = AttestedWrong(
        pointer=who.sign(POINTER_CONTEXT, encode_meta(pointer)), page=who.sign(PAGE_CONTEXT, encode_meta(page)), piece=0
    )
    return signed(Accusation(node=who.name, key=who.public, at=now, evidence=case))


class Here:
    """An edge with `liar` and `second` in its view."""

    def __init__(self, directory=None) -> None:
        self.roster = Roster("me", "", ME, in_swarm=True)
        self.bans = Bans(BanBook(), self.roster, BanFile(directory / "bans") if directory else None)
        self.told: list[tuple[Signed, float]] = []
        self.bans.spread = lambda signed, keep_s: self.told.append((signed, keep_s))
        self.banned: list[str] = []
        self.bans.on_banned = lambda ban: self.banned.append(ban.node)
        self.roster.take_view(1, [member(one, "http://127.0.0.1:1", State.ALIVE) for one in (ME, LIAR, SECOND)])

    def names(self) -> list[str]:
        return [ban.node for ban in self.bans.in_force()]


@pytest.fixture
async def here():
    here = Here()
    yield here
    await here.bans.close()


# --- what bans


async def test_evidence_that_holds_bans_and_is_passed_on(here):
    said = accusation()
    here.bans.on_heard(said, "second")
    here.bans.on_heard(said, "second")
    assert (here.names(), here.banned) == (["liar"], ["liar"])
    [(passed_on, keep_s)] = here.told
    assert passed_on == said
    assert FIRST_BAN_S - 5 < keep_s <= FIRST_BAN_S
    assert [peer.node for peer in here.roster.others()] == ["second"]
    assert Edge("liar") not in here.roster.view.edges()


@pytest.mark.parametrize(
    "said",
    [
        Signed(b"", b"", "second"),
        signed(Accusation(node="liar", key=SECOND.public, at=time.time(), evidence=SentWrong(
            statement=Signed(b"", b"", "liar"), sent=(), page=b""))),
        accusation(at=time.time() + 3600),
        accusation(at=time.time() - 90_000),
    ],
)  # fmt: skip
async def test_what_does_not_hold_bans_nobody_and_is_not_passed_on(here, said):
    here.bans.on_heard(said, "second")
    assert (here.names(), here.told) == ([], [])


async def test_who_accuses_at_random_is_not_listened_to_for_a_while(here):
    for _ in range(31):
        here.bans.on_heard(Signed(b"", b"", "second"), "second")
    here.bans.on_heard(accusation(), "second")
    assert here.names() == []
    here.bans.on_heard(accusation(), "liar")
    assert here.names() == ["liar"]


async def test_an_accuser_that_has_left_meanwhile_is_believed(here):
    here.bans.on_heard(accusation(by=Signer.throwaway("gone")), "second")
    assert here.names() == ["liar"]


async def test_the_key_is_banned_and_not_whoever_bears_the_name(here):
    imposter = Signer.throwaway("second")
    here.bans.on_heard(accusation(imposter), "liar")
    assert here.roster.peer("second") is not None
    assert here.roster.banned == {}


async def test_a_ban_ends_by_itself(here):
    here.bans.on_heard(accusation(), "second")
    assert here.roster.peer("liar") is None
    ended = asyncio.Event()
    here.roster.on_view = ended.set
    here.roster.offset_s = FIRST_BAN_S - 0.05
    running = asyncio.create_task(here.bans.run())
    async with asyncio.timeout(10):
        await ended.wait()
    running.cancel()
    assert here.roster.peer("liar") is not None
    assert (here.names(), here.roster.banned) == ([], {})


# --- by the origin's word


async def asked(here: Here, *said: Signed, answer: bool) -> None:
    async def contradicts(*_: object) -> bool:
        return answer

    here.bans.contradicts = contradicts
    for one in said:
        here.bans.on_heard(one, "second")
        await asyncio.gather(*here.bans._checks.values())


async def test_what_a_home_attested_is_asked_of_the_origin_before_it_counts(here):
    await asked(here, attested(), answer=False)
    assert here.names() == []
    await asked(here, attested(), answer=True)
    assert here.names() == ["liar"]


async def test_an_origin_that_breaks_its_own_validators_has_one_edge_banned_at_most(here):
    await asked(here, attested(), attested(SECOND), answer=True)
    assert here.names() == ["liar"]
    here.bans.on_heard(accusation(SECOND), "liar")
    assert here.names() == ["liar", "second"], "its own signature is another matter"


async def test_accusations_cost_the_origin_so_many_questions_and_no_more(here):
    await asked(here, *[attested() for _ in range(60)], answer=False)
    assert len(here.bans._checked_at) == 30


# --- the file


async def test_bans_outlive_their_edge(tmp_path):
    first = Here(tmp_path)
    first.bans.on_heard(accusation(), "second")
    await asyncio.gather(*first.bans._tasks)
    await first.bans.close()
    again = Here(tmp_path)
    await again.bans.open()
    assert again.names() == ["liar"]
    assert set(again.roster.banned) == {"liar"}
    assert len(again.told) == 1, "others may have lost it"
    await again.bans.close()


async def test_a_ban_that_is_over_still_counts_towards_the_next(tmp_path):
    BanFile(tmp_path / "bans").write([accusation(at=time.time() - 2 * FIRST_BAN_S)])
    edge = Here(tmp_path)
    await edge.bans.open()
    assert edge.names() == []
    edge.bans.on_heard(accusation(), "second")
    assert [ban.lies for ban in edge.bans.in_force()] == [2]
    await edge.bans.close()


@pytest.mark.parametrize("content", [b"", b"nonsense", msgspec.msgpack.encode((Signed(b"", b"", ""),))])
async def test_a_file_that_makes_no_sense_is_an_empty_one(tmp_path, content):
    (tmp_path / "bans").write_bytes(content)
    edge = Here(tmp_path)
    await edge.bans.open()
    assert edge.names() == []


# --- the door


async def test_a_banned_edge_is_answered_403_with_the_reason():
    gatekeeper = Gatekeeper("b", (SECRET,))
    gatekeeper.refuses = lambda node: "ban of a for 600 s" if node == "a" else ""
    app = web.Application()

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        admit(gatekeeper, request, body)
        return web.Response(body=msgspec.msgpack.encode({}))

    app.router.add_post(HELLO_PATH, hello_handler(gatekeeper))
    app.router.add_post("/ask", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    asking = {name: Asker(name, (SECRET,)) for name in "ac"}
    with pytest.raises(WrongSecret, match="403: ban of a for 600 s"):
        await asking["a"].message(base, "/ask", Signed(b"", b"", "a"), dict)
    assert await asking["c"].message(base, "/ask", Signed(b"", b"", "c"), dict) == {}
    for asker in asking.values():
        await asker.close()
    await runner.cleanup()
