"""No waiting in circles (DESIGN 4): a model of edges whose views differ in every way, running the real plans.

Each edge runs its plans over `swarm.ladder` and answers as `edge/peer_http.py` does: asked as home it sends what it
has, sees to what it judges its own, and refuses the rest at once; asked as its zone's home likewise, but by its zone's
duty, if by its own view its zone is not the path's first; asked as holder it sends what it has or already gets from the
origin. Edges die, links break, the origin fails, and some edges answer nonsense. At every step the graph of who waits
for whom has no circle; at the end nobody waits. A failure prints its seed.
"""

import random
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarm import pieces
from swarm.accounting import Reason, Role
from swarm.ladder import (
    ORIGIN,
    AskEdge,
    AskOrigin,
    FetchAsHome,
    GiveUp,
    Order,
    Plan,
    home_rungs,
    judge,
    viewer_rungs,
    zone_rungs,
)
from swarm.placement import Dealing, Edge
from swarm.wire import Why

PIECES = 10
EVERY_PIECE = (1 << PIECES) - 1
MOST_STEPS = 20_000


@dataclass(eq=False)
class Question:
    """One request between edges; `left` are the pieces that may still come."""

    asker: "Node"
    plan: Plan
    server: "Node"
    role: Role
    want: int
    lost: tuple[str, ...]
    left: int = 0


@dataclass(eq=False)
class Node:
    """One edge: its view, what it holds, its plans, and the questions that wait here. `near`: its zone's homes, None in
    the path's first zone."""

    name: str
    homes: tuple[Edge, ...]
    ranked: tuple[Edge, ...]
    near: tuple[Edge, ...] | None
    viewers: Plan
    zone: Plan
    duty: Plan
    is_liar: bool
    have: int = 0
    from_origin: int = 0
    given_up: int = 0
    is_dead: bool = False
    waiting: list[Question] = field(default_factory=list)


class World:
    """All edges, all questions on their way, all fetches from the origin; what happens next is drawn by the seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.liars = self.random.choice([0.0, 0.4])
        self.far = self.random.choice([0.0, 0.5, 0.8])
        names = "abcdefg"[: self.random.randint(1, 7)]
        self.nodes = {name: self._node(name, names) for name in names}
        self.on_the_way: list[Question] = []
        self.fetches: list[tuple[Node, int]] = []
        self.steps = 0

    def _view(self, names: str, least: int) -> tuple[Edge, ...]:
        """Any edges in any order: views need not even rank alike."""
        chosen = self.random.sample(names, self.random.randint(least, len(names)))
        return tuple(Edge(name, self.random.choice([4, 4, 8])) for name in chosen)

    def _node(self, name: str, names: str) -> Node:
        homes, previous = self._view(names, 1), self._view(names, 0)
        check = self.random.random() < 0.7
        ranked, homes = homes, homes[: self.random.choice([1, 32])]
        near = self._view(names, 1) if self.random.random() < self.far else None
        viewers = viewer_rungs(Dealing(homes), ranked)
        if near is not None:
            viewers = viewer_rungs(Dealing(near), near, Role.ZONE_HOME)
        return Node(
            name,
            homes,
            ranked,
            near,
            Plan(name, viewers),
            Plan(name, zone_rungs(near or homes, Dealing(previous), Dealing(homes), ranked, check_holders=check)),
            Plan(name, home_rungs(homes, Dealing(previous), check_holders=check, otherwise=Reason.FIRST_COPY)),
            is_liar=self.random.random() < self.liars,
            have=self.random.getrandbits(PIECES) & self.random.getrandbits(PIECES),
        )

    def some(self, bitmap: int) -> int:
        return bitmap & self.random.getrandbits(PIECES)

    # --- orders

    def perform(self, node: Node, plan: Plan, orders: list[Order]) -> None:
        for order in orders:
            match order:
                case AskEdge(other, role, want, lost):
                    self.on_the_way.append(Question(node, plan, self.nodes[other], role, want, lost))
                case FetchAsHome(want, reason, role):
                    duty = node.zone if role is Role.ZONE_HOME else node.duty
                    self.perform(node, duty, duty.on_wanted(want & ~node.have, reason))
                case AskOrigin(want, _):
                    fresh = want & ~node.from_origin
                    if fresh:
                        node.from_origin |= fresh
                        self.fetches.append((node, fresh))
                case GiveUp(want):
                    self.give_up(node, plan, want)

    def give_up(self, node: Node, plan: Plan, want: int) -> None:
        if plan is node.viewers:
            node.given_up |= want & ~node.have
        elif plan is node.zone:
            self.fail_waiting(node, want, Role.ZONE_HOME)
            self.perform(node, node.viewers, node.viewers.on_origin_failed(want))
        else:
            self.fail_waiting(node, want, Role.HOME)

    def fail_waiting(self, node: Node, want: int, role: Role) -> None:
        """Asked as holder, they wait for what was on its way from the origin; else for the duty of that role."""
        for question in [question for question in node.waiting if question.left & want and question.role is role]:
            if question in node.waiting:
                node.waiting.remove(question)
                self.refuse(question, question.left, Why.ORIGIN, ())
                self.end(question)

    def want(self, node: Node, want: int) -> None:
        self.perform(node, node.viewers, node.viewers.on_wanted(want & ~node.have))

    # --- what happens

    def step(self) -> None:
        """One thing happens: a question arrives or its link breaks, the origin sends or fails, an edge dies."""
        self.steps += 1
        assert self.steps < MOST_STEPS
        alive = [node for node in self.nodes.values() if not node.is_dead]
        if self.random.random() < 0.01 and len(alive) > 1:
            self.die(self.random.choice(alive))
        elif self.on_the_way and (not self.fetches or self.random.random() < 0.5):
            self.arrive(self.on_the_way.pop(self.random.randrange(len(self.on_the_way))))
        elif self.fetches:
            self.fetch(*self.fetches.pop(self.random.randrange(len(self.fetches))))

    def die(self, dead: Node) -> None:
        dead.is_dead = True
        waiting, dead.waiting = dead.waiting, []
        self.fetches = [(node, want) for node, want in self.fetches if node is not dead]
        for node in self.nodes.values():
            node.waiting = [question for question in node.waiting if question.asker is not dead]
        self.on_the_way = [question for question in self.on_the_way if question.asker is not dead]
        for question in waiting:
            self.fail(question)

    def fail(self, question: Question) -> None:
        if not question.asker.is_dead:
            rejected = self.random.random() < 0.3
            orders = question.plan.on_failed(question.server.name, rejected=rejected)
            self.perform(question.asker, question.plan, orders)

    def fetch(self, node: Node, want: int) -> None:
        arrived = want if self.random.random() < 0.7 else self.some(want)
        for piece in pieces.each(arrived & ~node.have):
            self.land(node, piece)
        node.from_origin &= ~want
        left = want & ~node.have
        if left:
            self.fail_waiting(node, left, Role.HOLDER)
            self.perform(node, node.duty, node.duty.on_origin_failed(left))
            self.perform(node, node.zone, node.zone.on_origin_failed(left))
            self.perform(node, node.viewers, node.viewers.on_origin_failed(left & ~node.zone.missing))

    def land(self, node: Node, piece: int) -> None:
        bit = 1 << piece
        node.have |= bit
        for plan in (node.viewers, node.zone, node.duty):
            plan.on_held(piece)
        for question in [question for question in node.waiting if question.left & bit]:
            question.left &= ~bit
            if not question.asker.have & bit:
                self.land(question.asker, piece)
            if not question.left and question in node.waiting:
                node.waiting.remove(question)
                self.end(question)

    # --- answers

    def arrive(self, question: Question) -> None:
        server = question.server
        if server.is_dead or self.random.random() < 0.05:
            self.fail(question)
        elif server.is_liar:
            named = self.random.choices([*self.nodes, ORIGIN], k=self.random.randint(0, 3))
            why = self.random.choice([*Why, *[Why.NOT_HOME] * 4])
            self.refuse(question, self.some(question.want), why, tuple(named))
            self.end(question)
        else:
            self.answer(server, question)

    def answer(self, server: Node, question: Question) -> None:
        for piece in pieces.each(question.want & server.have & ~question.asker.have):
            self.land(question.asker, piece)
        missing = question.want & ~server.have
        plan = server.duty
        if question.role is Role.HOLDER:
            question.left = missing & server.from_origin
            holders = self.random.sample(list(self.nodes), min(len(self.nodes), self.random.randint(0, 3)))
            self.refuse(question, missing & ~question.left, Why.NOT_HELD, tuple(holders))
        else:
            if question.role is Role.ZONE_HOME and server.near is None:
                question.role = Role.HOME
            homes, ranked = server.homes, server.ranked
            if question.role is Role.ZONE_HOME and server.near is not None:
                homes, ranked, plan = server.near, server.near, server.zone
            dealing, lost = Dealing(homes), question.lost
            judged = {piece: judge(piece, dealing, server.name, lost, ranked) for piece in pieces.each(missing)}
            question.left = pieces.of(piece for piece, home in judged.items() if home == server.name)
            for piece, home in judged.items():
                if home != server.name:
                    self.refuse(question, 1 << piece, Why.NOT_HOME, (home,) if home else ())
        if not question.left:
            self.end(question)
            return
        server.waiting.append(question)
        if question.role is not Role.HOLDER:
            reason = Reason.HOME_LOST if question.lost else None
            self.perform(server, plan, plan.on_wanted(question.left, reason))

    def refuse(self, question: Question, want: int, why: Why, named: tuple[str, ...]) -> None:
        orders = question.plan.on_refused(question.server.name, want, why, named)
        self.perform(question.asker, question.plan, orders)

    def end(self, question: Question) -> None:
        """The stream ended: what is still expected of it will not come."""
        left = question.plan.expected_from(question.server.name) & question.want
        if left:
            self.refuse(question, left, Why.NOT_HELD, ())

    # --- who waits for whom

    def waits(self) -> dict[tuple[str, str], set[tuple[str, str]]]:
        graph: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for node in self.nodes.values():
            for waiting, awaited in (("viewers", "zone"), ("viewers", "duty"), ("zone", "duty")):
                if getattr(node, waiting).expected_from(ORIGIN) & getattr(node, awaited).missing:
                    graph.setdefault((node.name, waiting), set()).add((node.name, awaited))
            for question in node.waiting:
                asker = question.asker
                kind = {id(asker.viewers): "viewers", id(asker.zone): "zone"}.get(id(question.plan), "duty")
                awaited = {Role.HOLDER: "origin", Role.ZONE_HOME: "zone"}.get(question.role, "duty")
                graph.setdefault((question.asker.name, kind), set()).add((node.name, awaited))
        return graph


def has_circle(graph: dict[tuple[str, str], set[tuple[str, str]]]) -> bool:
    """Whether anything is left when all that wait for nobody are taken away, again and again."""
    left = {waiter: set(others) for waiter, others in graph.items()}
    while done := [waiter for waiter, others in left.items() if not any(other in left for other in others)]:
        for waiter in done:
            del left[waiter]
    return bool(left)


def test_a_circle_is_seen():
    a, b, c = ("a", "duty"), ("b", "duty"), ("c", "duty")
    assert has_circle({a: {b, c}, b: {a}})
    assert not has_circle({a: {b, c}, b: {c}})


@settings(max_examples=300)
@given(st.integers(0, 1 << 32))
@example(0)
def test_nobody_waits_in_circles_and_everybody_ends_under_any_views(seed):
    world = World(seed)
    for node in world.nodes.values():
        world.want(node, world.some(EVERY_PIECE) | world.some(EVERY_PIECE))
    while world.on_the_way or world.fetches:
        world.step()
        assert not has_circle(world.waits())
    for node in world.nodes.values():
        if not node.is_dead:
            assert (node.viewers.missing, node.zone.missing, node.duty.missing) == (0, 0, 0), node.name
            assert node.waiting == [], node.name
