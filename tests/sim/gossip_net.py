"""Members of a swarm over a network in memory: a virtual clock, and delay, loss, deaths and partitions by a seed."""

import hashlib
import heapq
import itertools
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import msgspec

from swarm.errors import RemoteError
from swarm.gossip import Answer, Ask, Effect, Gossip, Heard
from swarm.members import EDGE, Announcement, State
from swarm.metainfo import Signed
from swarm.rumours import GossipReply

DELAY_S = (0.001, 0.02)  # one way
REFUSED_S = 0.001  # a dead program's host says so at once; a dead host says nothing


def key_of(node: str, secret: str = "") -> bytes:
    return hashlib.sha256(f"{node}\0{secret}".encode()).digest()


def sign_with(key: bytes, node: str) -> Callable[[bytes, bytes], Signed]:
    """In place of Ed25519, which would take most of the time: whoever knows the public key could forge it."""
    return lambda context, body: Signed(body, hashlib.sha256(key + context + body).digest() + bytes(32), node)


def verify(key: bytes, context: bytes, signed: Signed) -> None:
    if hashlib.sha256(key + context + signed.body).digest() + bytes(32) != signed.signature:
        raise RemoteError("does not verify")


@dataclass
class Node:
    """One member's machine, and what the network knows of its machine."""

    name: str
    gossip: Gossip
    address: str
    host: str
    is_up: bool = True
    is_reachable: bool = True
    timer: int = 0  # the number of the latest timer: older ones are void
    heard: list[Heard] = field(default_factory=list)
    waiting: dict[int, tuple["Node", int]] = field(default_factory=dict)  # tickets of questions: asker and its ticket


class Network:
    """Runs any number of nodes. `refuses`: a dead program's port answers at once that nobody listens."""

    def __init__(self, seed: int, *, loss: float = 0.0, refuses: bool = True) -> None:
        self.random = random.Random(seed)
        self.loss = loss
        self.refuses = refuses
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.sides: list[Collection[str]] = []  # of a partition
        self.sent_bytes = 0
        self.messages = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def __getitem__(self, name: str) -> Gossip:
        return self.nodes[name].gossip

    # --- who is there

    def start(
        self,
        name: str,
        seeds: Collection[str] = (),
        *,
        address: str | None = None,
        observes: bool = False,
        only_role: str | None = None,
        role: str = EDGE,
        secret: str = "",
        knows_address: bool = False,
        is_reachable: bool = True,
        clock_is_off_s: float = 0.0,
    ) -> Node:
        """(Re)start a node; `seeds` are names of nodes that were started before."""
        where = address or f"http://{name}:7400"
        key = key_of(name, secret)
        me = Announcement(
            node=name,
            key=key,
            address=where if knows_address else None,
            port=7400,
            incarnation=round((self.now + clock_is_off_s) * 1000) + 1,
            gossips=True,
            role=role,
        )
        rng = random.Random(self.random.random())
        gossip = Gossip(me, sign_with(key, name), verify, rng, observes=observes, only_role=only_role)
        node = Node(name, gossip, where, where[len("http://") : -len(":7400")], is_reachable=is_reachable)
        self.nodes[name if name not in self.nodes or not self.nodes[name].is_up else f"{name} again"] = node
        gossip.start([self.nodes[seed].address for seed in seeds], self.now)
        self._arm(node)
        return node

    def kill(self, *names: str) -> None:
        for name in names:
            self.nodes[name].is_up = False

    def leave(self, name: str) -> None:
        node = self.nodes[name]
        self._perform(node, node.gossip.leave(self.now))
        self.run(0.5)
        node.is_up = False

    def part(self, *sides: Collection[str]) -> None:
        self.sides = list(sides)

    def heal(self) -> None:
        self.sides = []

    def _are_parted(self, one: Node, other: Node) -> bool:
        return any((one.name in side) != (other.name in side) for side in self.sides)

    # --- time

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), what))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> float:
        """For so long, or until a fact holds (looked at every 50 ms); the seconds it took."""
        began, end = self.now, self.now + seconds
        look_at = self.now
        while self._events and self._events[0][0] <= end:
            if until is not None and self._events[0][0] >= look_at:
                if until():
                    return self.now - began
                look_at = self._events[0][0] + 0.05
            when, _, what = heapq.heappop(self._events)
            self.now = max(self.now, when)
            what()
        self.now = end
        return self.now - began if until is None or until() else float("inf")

    def _arm(self, node: Node) -> None:
        node.timer += 1
        number, due = node.timer, node.gossip.next_deadline()
        if due != float("inf"):
            self.at(max(due, self.now), lambda: self._ring(node, number))

    def _ring(self, node: Node, number: int) -> None:
        if number == node.timer and node.is_up:
            self._perform(node, node.gossip.on_deadline(self.now))

    # --- messages

    def _perform(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Ask():
                    self._ask(node, effect)
                case Answer(ticket, reply):
                    self._answer(node, ticket, reply)
                case Heard():
                    node.heard.append(effect)
        self._arm(node)

    def _is_lost(self, sender: Node, receiver: Node) -> bool:
        return self._are_parted(sender, receiver) or self.random.random() < self.loss

    def _ask(self, asker: Node, ask: Ask) -> None:
        self.messages += 1
        self.sent_bytes += len(msgspec.msgpack.encode(ask.message))
        open_until = self.now + ask.within_s
        self.at(open_until, lambda: self._silence(asker, ask.ticket))
        there = next((n for n in self.nodes.values() if n.address == ask.address and n.is_up), None)
        if there is None or not there.is_reachable:
            if self.refuses:
                self.at(self.now + REFUSED_S, lambda: self._silence(asker, ask.ticket))
            return
        if not self._is_lost(asker, there):
            self.at(self.now + self.random.uniform(*DELAY_S), lambda: self._arrive(asker, there, ask))

    def _arrive(self, asker: Node, there: Node, ask: Ask) -> None:
        if there.is_up:
            ticket = next(self._numbers)
            there.waiting[ticket] = (asker, ask.ticket)
            self._perform(there, there.gossip.on_message(ticket, ask.message, self.now))

    def _answer(self, node: Node, ticket: int, reply: GossipReply) -> None:
        asker, theirs = node.waiting.pop(ticket)
        reply = msgspec.structs.replace(reply, observed=asker.host)
        self.sent_bytes += len(msgspec.msgpack.encode(reply))
        if not self._is_lost(node, asker):
            self.at(self.now + self.random.uniform(*DELAY_S), lambda: self._come_back(asker, theirs, reply))

    def _come_back(self, asker: Node, ticket: int, reply: GossipReply) -> None:
        if asker.is_up and ticket in asker.gossip._asked:
            self._perform(asker, asker.gossip.on_answered(ticket, reply, self.now))

    def _silence(self, asker: Node, ticket: int) -> None:
        if asker.is_up and ticket in asker.gossip._asked:
            self._perform(asker, asker.gossip.on_silent(ticket, self.now))

    # --- how it stands

    def up(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.is_up]

    def view(self, name: str) -> dict[str, State]:
        return {member.signed.signer: member.state for member in self[name].members.view()}

    def sees(self, name: str, by: Collection[str] | None = None, state: State | None = State.ALIVE) -> bool:
        """Whether a member is in every living view in that state; `None`: in none of them."""
        views = [self.view(node.name) for node in self.up() if (by is None or node.name in by) and node.name != name]
        return all(view.get(name) is state for view in views)

    def agree(self, names: Collection[str] | None = None) -> bool:
        """Whether all of them see all of them, carrying weight, and nobody else."""
        wanted = dict.fromkeys(names or [node.name for node in self.up()], State.ALIVE)
        return all(self.view(name) == wanted for name in wanted)
