"""The tracker over real connections: join, dial-back, long poll, conflict, leave, silence."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from daemon.answering import hello_handler
from daemon.asking import ANNOUNCE_PATH, Asker
from daemon.keys import Signer
from daemon.peer_auth import HELLO_PATH, Gatekeeper, WrongSecret
from swarm.errors import RemoteError, Unreachable
from swarm.members import (
    ANNOUNCEMENT_CONTEXT,
    Announcement,
    AnnounceReply,
    AnnounceRequest,
    State,
    read_announcement,
)
from swarm.tracker import SILENCE_S
from tests.origin.running import running

pytestmark = pytest.mark.processes


class Edge:
    """What the tracker sees of an edge: it answers hello at its port and announces itself."""

    def __init__(self, origin, node: str, *, answers_as: str | None = None, key: Ed25519PrivateKey | None = None):
        self.origin, self.node = origin, node
        self.key = key or Ed25519PrivateKey.generate()
        self.signer = Signer(self.key, node)
        self.asker = Asker(node, origin.secrets())
        self.gatekeeper = Gatekeeper(answers_as or node, origin.secrets())
        self.port = 1  # where nobody answers
        self.incarnation = 1
        self._runner: web.AppRunner | None = None

    async def listen(self) -> None:
        app = web.Application()
        app.router.add_post(HELLO_PATH, hello_handler(self.gatekeeper))
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def announcement(self, **changed) -> Announcement:
        said = Announcement(
            node=self.node, key=self.signer.public, address=None, port=self.port, incarnation=self.incarnation
        )
        return msgspec.structs.replace(said, **changed)

    async def announce(self, known: int = 0, hold_ms: int = 0, *, leaving: bool = False, **changed) -> AnnounceReply:
        signed = self.signer.sign(ANNOUNCEMENT_CONTEXT, msgspec.msgpack.encode(self.announcement(**changed)))
        request = AnnounceRequest(signed=signed, known_generation=known, hold_ms=hold_ms, leaving=leaving)
        return await self.asker.message(self.origin.base, ANNOUNCE_PATH, request, AnnounceReply)

    async def announce_until(self, fact) -> AnnounceReply:
        """Announce on, as an edge does, until a reply shows it."""
        reply = await self.announce()
        async with asyncio.timeout(10):
            while not fact(reply):
                reply = await self.announce(reply.generation, 1000)
        return reply

    async def close(self) -> None:
        await self.asker.close()
        if self._runner:
            await self._runner.cleanup()


@contextlib.asynccontextmanager
async def edge(origin, node: str, *, listening: bool = True, **kwargs) -> AsyncIterator[Edge]:
    made = Edge(origin, node, **kwargs)
    if listening:
        await made.listen()
    try:
        yield made
    finally:
        with contextlib.suppress(WrongSecret, Unreachable):
            await made.announce(leaving=True)
        await made.close()


def seen(reply: AnnounceReply) -> dict[str, State]:
    return {read_announcement(member.signed).node: member.state for member in reply.members or ()}


async def test_a_member_is_dialled_back_and_then_carries_weight(origin):
    async with edge(origin, "edge-a") as a:
        reply = await a.announce_until(lambda reply: reply.state is State.ALIVE)
        assert seen(reply) == {"edge-a": State.ALIVE}
        assert reply.observed == "127.0.0.1"
        assert [member.address for member in reply.members or ()] == [a.address]
        assert abs(reply.now_ms / 1000 - time.time()) < 5
    assert "member alive node=edge-a" in origin.log()


async def test_an_announcement_is_held_until_the_view_changes(origin):
    async with edge(origin, "edge-a") as a:
        reply = await a.announce_until(lambda reply: reply.state is State.ALIVE)
        nothing_new = await a.announce(reply.generation, 50)
        assert nothing_new.members is None
        assert 50 <= nothing_new.held_ms < 900
        holding = asyncio.create_task(a.announce(reply.generation, 1000))
        async with edge(origin, "edge-b", listening=False) as b:
            await b.announce()
            news = await holding
            assert seen(news) == {"edge-a": State.ALIVE, "edge-b": State.LEAF}
            assert news.held_ms < 900


async def test_nobody_is_held_longer_than_a_second(origin):
    async with edge(origin, "edge-a") as a:
        reply = await a.announce_until(lambda reply: reply.state is State.ALIVE)
        held = await a.announce(reply.generation, 60_000)
        assert 900 <= held.held_ms < 2500


async def test_who_cannot_be_reached_is_a_leaf_and_told_why(origin):
    async with edge(origin, "edge-far", listening=False) as far:
        reply = await far.announce_until(lambda reply: "not reached at" in reply.why)
        assert reply.state is State.LEAF
        assert "http://127.0.0.1:1" in reply.why
    assert "leaf: not reached node=edge-far" in origin.log()


async def test_an_address_where_another_answers_does_not_count(origin):
    async with edge(origin, "edge-a", answers_as="edge-z") as a:
        reply = await a.announce_until(lambda reply: "not reached at" in reply.why)
        assert (reply.state, "edge-z answers there" in reply.why) == (State.LEAF, True)


async def test_an_address_where_nobody_knows_the_secret_does_not_count(origin):
    async with edge(origin, "edge-a") as a:
        a.gatekeeper._secrets = (b"another secret" * 3,)
        reply = await a.announce_until(lambda reply: "not reached at" in reply.why)
        assert "secret" in reply.why


async def test_a_second_edge_under_a_living_name_is_told_who_bears_it(origin):
    async with edge(origin, "edge-a") as first:
        await first.announce_until(lambda reply: reply.state is State.ALIVE)
        second = Edge(origin, "edge-a")
        await second.listen()
        reply = await second.announce()
        assert (reply.conflict, reply.members) == (first.address, None)
        copied = Edge(origin, "edge-a", key=first.key)
        await copied.listen()
        assert (await copied.announce()).conflict == first.address
        await second.close()
        await copied.close()


async def test_a_member_that_leaves_is_gone_from_the_next_reply(origin):
    async with edge(origin, "edge-a") as a:
        async with edge(origin, "edge-b") as b:
            await b.announce()
            await a.announce_until(lambda reply: "edge-b" in seen(reply))
        reply = await a.announce_until(lambda reply: reply.members is not None)
        assert "edge-b" not in seen(reply)


async def test_a_member_that_falls_silent_is_gone_after_a_while(origin):
    async with edge(origin, "edge-a") as a:
        silent = Edge(origin, "edge-silent")
        await silent.announce()
        began = time.monotonic()
        await a.announce_until(lambda reply: "edge-silent" in seen(reply))
        await a.announce_until(lambda reply: reply.members is not None and "edge-silent" not in seen(reply))
        assert SILENCE_S - 0.5 < time.monotonic() - began < SILENCE_S + 5
        await silent.close()


async def test_a_name_that_is_not_the_sessions_is_refused(origin):
    async with edge(origin, "edge-a") as a:
        other = Signer(Ed25519PrivateKey.generate(), "edge-other")
        said = a.announcement(node="edge-other", key=other.public)
        request = AnnounceRequest(signed=other.sign(ANNOUNCEMENT_CONTEXT, msgspec.msgpack.encode(said)))
        with pytest.raises(WrongSecret):
            await a.asker.message(origin.base, ANNOUNCE_PATH, request, AnnounceReply)


@pytest.mark.parametrize(
    "changed", [{"key": b"k" * 32}, {"port": 0}, {"port": 70000}, {"address": "file:///etc/passwd"}, {"format": 99}]
)
async def test_a_false_or_unusable_announcement_is_a_bad_request(origin, changed):
    async with edge(origin, "edge-a", listening=False) as a:
        with pytest.raises(RemoteError, match="400"):
            await a.announce(**changed)


async def test_strangers_cannot_announce(origin, http):
    async with http.post(origin.base + ANNOUNCE_PATH, data=b"anything") as response:
        assert response.status == 401


async def test_without_a_secret_there_is_neither_hello_nor_tracker(tmp_path, http):
    with running(tmp_path, swarm=None) as origin:
        for path in (HELLO_PATH, ANNOUNCE_PATH):
            async with http.post(origin.base + path, data=b"") as response:
                assert response.status == 404


async def test_a_tracker_alone_needs_no_content_and_no_state(tmp_path):
    with running(tmp_path, media=None, ingest=False, state=str(tmp_path / "nowhere"), signing_key_file=None) as origin:
        async with edge(origin, "edge-a") as a:
            reply = await a.announce_until(lambda reply: reply.state is State.ALIVE)
            assert seen(reply) == {"edge-a": State.ALIVE}
        assert not (tmp_path / "nowhere").exists()


async def test_a_tracker_that_restarts_hands_out_its_view_at_once(tmp_path):
    with running(tmp_path) as origin:
        async with edge(origin, "edge-a") as a:
            known = (await a.announce_until(lambda reply: reply.state is State.ALIVE)).generation
    with running(tmp_path) as origin:
        async with edge(origin, "edge-a") as a:
            assert seen(await a.announce(known)) == {"edge-a": State.LEAF}


async def test_stopping_answers_those_who_are_held(tmp_path, http):
    with running(tmp_path) as origin:
        async with edge(origin, "edge-a") as a:
            reply = await a.announce_until(lambda reply: reply.state is State.ALIVE)
            holding = asyncio.create_task(a.announce(reply.generation, 1000))
            async with asyncio.timeout(10):
                while not await _held(origin, http):
                    assert not holding.done()
            await asyncio.to_thread(origin.stop)
            assert (await holding).members is None
            assert origin.process.returncode == 0


async def _held(origin, http) -> int:
    async with http.get(f"http://{origin.admin}/status") as response:
        held = (await response.json())["tracker"]["held"]
        return int(held)


async def test_members_stand_in_metrics_and_status(origin, http):
    async with edge(origin, "edge-a") as a, edge(origin, "edge-far", listening=False) as far:
        await a.announce_until(lambda reply: reply.state is State.ALIVE)
        await far.announce()
        async with http.get(f"http://{origin.admin}/metrics") as response:
            text = await response.text()
        assert 'starling_tracker_members{state="alive"} 1.0' in text
        assert 'starling_tracker_members{state="suspect"} 1.0' in text
        async with http.get(f"http://{origin.admin}/status") as response:
            members = (await response.json())["members"]
        assert [(member["node"], member["state"]) for member in members] == [("edge-a", "alive"), ("edge-far", "leaf")]
        async with http.get(f"http://{origin.admin}/") as response:
            assert "edge-far" in await response.text()


async def test_who_gossips_signs_its_goodbye_and_nobody_says_it_in_its_place(origin):
    async with edge(origin, "edge-1") as one, edge(origin, "edge-2") as two:
        await one.announce(gossips=True)
        await one.announce(gossips=True, leaving=True)  # what anybody could send who has heard its announcement
        assert "edge-1" in seen(await two.announce())
        signed = one.signer.sign(
            ANNOUNCEMENT_CONTEXT, msgspec.msgpack.encode(one.announcement(gossips=True, leaving=True, refutation=1))
        )
        goodbye = AnnounceRequest(signed=signed, leaving=True)
        await one.asker.message(origin.base, ANNOUNCE_PATH, goodbye, AnnounceReply)
        assert "edge-1" not in seen(await two.announce())
