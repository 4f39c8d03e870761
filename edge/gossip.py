"""The shell around `swarm.gossip`: messages over the peer port, one timer, and who is told of items of other kinds."""

import asyncio
import itertools
import logging
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec
from aiohttp import web

from daemon.addresses import Address, url_host
from daemon.answering import admit, message_response, read_body
from daemon.asking import GOSSIP_PATH, Asker
from daemon.errors import StartupError
from daemon.keys import Signer, verify
from daemon.patience import Patience
from daemon.peer_auth import Gatekeeper, WrongSecret
from edge.metrics import EdgeMetrics
from swarm.accounting import Control
from swarm.errors import RemoteError, Unreachable
from swarm.gossip import Answer, Ask, Effect, Gossip, Heard
from swarm.members import SUPERPEER, Announcement, Member
from swarm.membership import GRAVE_TOLD_S, SILENCE_S
from swarm.metainfo import Signed
from swarm.rumours import GossipMessage, GossipReply
from swarm.wire import decode_message, encode_message

log = logging.getLogger(__name__)

MOST_BODY_BYTES = 8 << 20  # 10,000 members, their announcements and vouches
TIMER_SLACK_S = 0.005  # fire just after a deadline, never just before
WATCH_EVERY_S = 0.5
DISPUTE_S = 8.0  # longer than an edge that died stays in views: then the name is really somebody else's
LEAST_CLOCKS = 2  # of others, before ours is doubted
MOST_CLOCKS = 100

Handler = Callable[[Signed, str], None]  # (signed, who passed it on)


class Gossiping:
    """One edge's part in the gossip. `on_change` is told whenever its view may have changed."""

    def __init__(
        self,
        asker: Asker,
        gatekeeper: Gatekeeper,
        signer: Signer,
        metrics: EdgeMetrics,
        seeds: Sequence[Address],
        *,
        topology: str,
        role: str,
    ) -> None:
        self._asker = asker
        self._gatekeeper = gatekeeper
        self._signer = signer
        self._metrics = metrics
        self._seeds = [f"http://{seed}" for seed in seeds]
        self._contacts: list[str] = []
        self.only_role = SUPERPEER if topology == "superpeer" else None
        self.observes = self.only_role not in (None, role)
        self._gossip: Gossip | None = None
        self._handlers: dict[str, Handler] = {}
        self._early: list[tuple[str, Signed, float]] = []  # spread before there was anybody to tell
        self._tickets = itertools.count(1)
        self._answers: dict[int, asyncio.Future[GossipReply]] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._told: tuple[object, ...] = ()
        self._disputed_since: float | None = None
        self._clocks: dict[str, float] = {}  # others' clocks minus ours
        self.refuses = ""  # why whoever was asked would not talk to us
        self.on_change: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<Gossiping {self._gossip!r}>"

    # --- how it stands

    @property
    def has_met(self) -> bool:
        return self._gossip is not None and self._gossip.has_met

    @property
    def is_alone(self) -> bool:
        """Nobody is known to start from."""
        return self._gossip.is_alone if self._gossip is not None else not (self._seeds or self._contacts)

    @property
    def is_disputed(self) -> bool:
        return self._disputed_since is not None

    @property
    def why_leaf(self) -> str:
        """Why this edge carries no weight, as far as other edges have a say."""
        if self._gossip is None or self.observes:
            return ""
        members = self._gossip.members
        if self.refuses and not self.has_met:
            return self.refuses
        if members.me.address is None:
            return "no other edge has seen us yet"
        return f"{len(members.vouchers)} other edges have reached us at {members.me.address}"

    def view(self) -> tuple[Member, ...]:
        return self._gossip.members.view() if self._gossip is not None else ()

    def is_dead(self, node: str, incarnation: int) -> bool:
        return self._gossip is not None and self._gossip.members.is_dead(node, incarnation)

    def suspects(self) -> list[str]:
        living = self._gossip.members.living if self._gossip is not None else {}
        return [node for node, record in living.items() if record.is_suspect]

    def died_lately(self) -> int:
        if self._gossip is None:
            return 0
        now = time.monotonic()
        return sum(now - grave.buried_at < GRAVE_TOLD_S for grave in self._gossip.members.graves.values())

    @property
    def clock_offset_s(self) -> float | None:
        """The swarm's clock minus ours, by the clocks of most; None if too few are known to tell who is wrong."""
        if len(self._clocks) < LEAST_CLOCKS:
            return None
        return statistics.median([0.0, *self._clocks.values()])

    # --- items of other kinds

    def hear(self, kind: str, handler: Handler) -> None:
        """Every item of that kind goes to the handler, once. It is not passed on unless the handler spreads it."""
        self._handlers[kind] = handler

    def spread(self, kind: str, signed: Signed, keep_s: float) -> None:
        """Tell everybody, and for so long newcomers too. ValueError if it is too long."""
        if self._gossip is None:
            self._early.append((kind, signed, keep_s))
            return
        self._gossip.spread(kind, signed, keep_s, time.monotonic())
        self._after()

    # --- life

    def begin(self, me: Announcement) -> None:
        """From now on this edge takes part, as that."""
        now = time.monotonic()
        rng = random.Random()  # noqa: S311 - whom to ask next is no secret
        gossip = self._gossip = Gossip(
            me, self._signer.sign, verify, rng, observes=self.observes, only_role=self.only_role
        )
        gossip.start(self._seeds, now)
        gossip.on_contacts(self._contacts, now)
        for kind, signed, keep_s in self._early:
            gossip.spread(kind, signed, keep_s, now)
        self._after()

    def on_contacts(self, addresses: Iterable[str]) -> None:
        """Where, beside the seeds, edges that gossip may be found; in place of what was told before."""
        self._contacts = list(addresses)
        if self._gossip is not None:
            self._gossip.on_contacts(self._contacts, time.monotonic())
            self._after()

    def on_observed(self, remote: str) -> None:
        if self._gossip is not None and remote:
            self._gossip.on_observed(url_host(remote), time.monotonic())
            self._after()

    async def run(self) -> None:
        """Until cancelled. StartupError if another living edge bears our name."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            self._check_name()

    def _check_name(self) -> None:
        gossip, now = self._gossip, time.monotonic()
        if gossip is None or gossip.conflict is None:
            self._disputed_since = None
            return
        if self._disputed_since is None:
            log.warning("another edge named %s lives at %s", gossip.me, gossip.conflict)
            self._disputed_since = now
        elif now - self._disputed_since >= DISPUTE_S:
            here = gossip.members.me.address or f"port {gossip.members.me.port}"
            raise StartupError(
                f"node name {gossip.me!r} is taken: {gossip.conflict} bears it, and this edge at {here} may not "
                "(say the other edges); give each edge a name of its own"
            )

    async def leave(self) -> None:
        """Say goodbye; best effort within a second."""
        if self._gossip is None:
            return
        before = set(self._asking)
        self._perform(self._gossip.leave(time.monotonic()))
        self._arm()
        goodbyes = self._asking - before
        if goodbyes:
            await asyncio.wait(goodbyes, timeout=1.0)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._gossip = None
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    # --- effects

    def _on_timer(self) -> None:
        if self._gossip is not None:
            self._perform(self._gossip.on_deadline(time.monotonic()))
            self._after()

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Ask():
                    task = asyncio.create_task(self._ask(effect), name=f"gossip with {effect.address}")
                    self._asking.add(task)
                    task.add_done_callback(self._on_asked)
                case Answer(ticket, reply):
                    future = self._answers.pop(ticket, None)
                    if future is not None and not future.done():
                        future.set_result(reply)
                case Heard(kind, signed, sender):
                    if (handler := self._handlers.get(kind)) is not None:
                        handler(signed, sender)

    def _on_asked(self, task: "asyncio.Task[None]") -> None:
        self._asking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    def _after(self) -> None:
        """Arm the timer; tell of changes."""
        self._arm()
        gossip = self._gossip
        if gossip is None:
            return
        members = gossip.members
        offset_s = self.clock_offset_s
        clock = None if offset_s is None else round(offset_s, 1)
        stands = (members.generation, gossip.has_met, members.me.address, self.refuses, clock)
        if stands != self._told:
            self._told = stands
            self.on_change()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._gossip.next_deadline() if self._gossip is not None else float("inf")
        if deadline != float("inf"):
            delay_s = max(0.0, deadline - time.monotonic()) + TIMER_SLACK_S
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    # --- questions

    async def _ask(self, ask: Ask) -> None:
        self._metrics.control_bytes[Control.GOSSIP] += len(encode_message(ask.message))
        began = time.monotonic()
        reply = await self._reply_to(ask)
        gossip, now = self._gossip, time.monotonic()
        if gossip is None:
            return
        if reply is None:
            self._perform(gossip.on_silent(ask.ticket, now))
        else:
            self.refuses = ""
            self._note_clock(reply, now - began)
            self._perform(gossip.on_answered(ask.ticket, reply, now))
        self._after()

    async def _reply_to(self, ask: Ask) -> GossipReply | None:
        """None if nobody answers there, or nothing that can be read, or a stranger."""
        try:
            async with Patience(ask.within_s):  # opening a session included
                return await self._asker.message(
                    ask.address, GOSSIP_PATH, ask.message, GossipReply, within_s=ask.within_s
                )
        except WrongSecret as error:
            if self._gossip is not None and not self._gossip.has_met and not self.refuses:
                log.error("%s refused us: %s", ask.address, error)
                self.refuses = f"wrong swarm secret: {error}"
        except (Unreachable, TimeoutError) as error:
            log.debug("gossip: %s: %s", ask.address, error)
        except RemoteError as error:
            log.warning("gossip: %s", error)
        return None

    def _note_clock(self, reply: GossipReply, took_s: float) -> None:
        if reply.now_ms and took_s < WATCH_EVERY_S:
            self._clocks.pop(reply.node, None)
            self._clocks[reply.node] = reply.now_ms / 1000 + took_s / 2 - time.time()
            if len(self._clocks) > MOST_CLOCKS:
                del self._clocks[next(iter(self._clocks))]

    def add_to(self, app: web.Application) -> None:
        app.router.add_post(GOSSIP_PATH, self.handle_gossip)

    async def handle_gossip(self, request: web.Request) -> web.Response:
        """400 for nonsense, 401 unless the session proves the name, 503 before we take part ourselves."""
        body = await read_body(request, MOST_BODY_BYTES)
        sender = admit(self._gatekeeper, request, body)
        if self._gossip is None:
            raise web.HTTPServiceUnavailable(text="not yet\n")
        ticket = next(self._tickets)
        future = self._answers[ticket] = asyncio.get_running_loop().create_future()
        try:
            message = decode_message(body, GossipMessage)
            if message.node != sender:
                raise web.HTTPUnauthorized(text="speak for yourself\n")
            self._perform(self._gossip.on_message(ticket, message, time.monotonic()))
            self._after()
            async with asyncio.timeout(SILENCE_S):
                reply = await future
        except RemoteError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        finally:
            self._answers.pop(ticket, None)
        observed = url_host(request.remote or "")
        response = message_response(msgspec.structs.replace(reply, observed=observed, now_ms=int(time.time() * 1000)))
        self._metrics.control_bytes[Control.GOSSIP] += len(response.body) if isinstance(response.body, bytes) else 0
        return response
