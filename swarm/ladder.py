"""The fetch ladder: whom to ask for each missing piece, and what to do when a step fails (DESIGN 5).

A `Plan` is a machine for one version at one edge. It holds no bytes and no clock: told what is wanted, what arrived,
who refused or failed, it answers with orders. Two plans share the machine and differ in their rungs:

- the *viewer's plan*: home, the homes' stand-ins, holders, at last the origin;
- the *home's duty*, for pieces this edge must fetch as their home: holders that answer at once, then the origin.

In a zone that is not the path's first there is a third, the *zone's duty*, for pieces this edge must fetch into its
zone: holders in the zone, the homes in the first zone, at last its own duty as home.

No waiting in circles: a viewer's plan waits for edges asked as home, of their zone or of all; a zone's duty waits for
edges asked as home; a home's duty waits only for holders, who answer at once, and for the origin. So every chain of
waits is viewer's plan -> zone's duty -> home's duty -> origin, whatever the views.
Every piece asks each (edge, role) at most once and the origin once: plans end.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

from swarm import pieces
from swarm.accounting import Reason, Role
from swarm.placement import Dealing, Edge
from swarm.wire import Why

ORIGIN = ""  # the origin's place among node names: no edge may have an empty name
NEXT_IN_RANK = 2  # how many edges a home asks "held?" before it troubles the origin
NAMED_TRIED = 4  # in each role: beyond so many edges tried for a piece, those that refusals name are not asked
HOMES_TRIED = 2  # homes whose origin failed them: a third would only bury the origin


@dataclass(frozen=True)
class AskEdge:
    """Ask an edge for pieces, in a role. `lost`: edges it must leave out when it judges who is home."""

    node: str
    role: Role
    want: int
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        without = f", without {', '.join(self.lost)}" if self.lost else ""
        return f"ask {self.node} as {self.role} for {pieces.count(self.want)} pieces{without}"


@dataclass(frozen=True)
class AskOrigin:
    """Ask the origin, for that reason."""

    want: int
    reason: Reason

    def __str__(self) -> str:
        return f"ask the origin for {pieces.count(self.want)} pieces: {self.reason}"


@dataclass(frozen=True)
class FetchAsHome:
    """These pieces are this edge's own share: hand them to its home's duty, or its zone's."""

    want: int
    reason: Reason | None
    role: Role = Role.HOME

    def __str__(self) -> str:
        return f"fetch {pieces.count(self.want)} pieces as their {self.role}"


@dataclass(frozen=True)
class GiveUp:
    """Nobody could supply these pieces."""

    want: int

    def __str__(self) -> str:
        return f"give up {pieces.count(self.want)} pieces"


Order = AskEdge | AskOrigin | FetchAsHome | GiveUp
Step = tuple[str, Role] | AskOrigin | FetchAsHome | GiveUp


@dataclass
class _Piece:
    """Where one missing piece stands."""

    tried: set[tuple[str, Role]] = field(default_factory=set)
    named: list[tuple[str, Role]] = field(default_factory=list)  # whom refusals named, not asked yet
    asked: str | None = None  # the node (or ORIGIN) it is expected from
    role: Role | None = None  # and as what it was asked
    reason: Reason | None = None
    origin_failed_at: set[str] = field(default_factory=set)
    rejected: bool = False


class Plan:
    """Pieces wanted, and on which rung each stands. Feed it facts; perform its orders."""

    def __init__(self, me: str, rungs: "Rungs", lost: Iterable[str] = ()) -> None:
        self.me = me
        self._rungs = rungs
        self.lost = set(lost)
        self._pieces: dict[int, _Piece] = {}

    def __repr__(self) -> str:
        asked: defaultdict[str, int] = defaultdict(int)
        for state in self._pieces.values():
            asked[state.asked or "origin"] += 1
        return f"<Plan {len(self._pieces)} missing: {', '.join(f'{n} at {node}' for node, n in sorted(asked.items()))}>"

    @property
    def missing(self) -> int:
        """The bitmap of pieces still wanted."""
        return pieces.of(self._pieces)

    def expected_from(self, node: str) -> int:
        return pieces.of(number for number, state in self._pieces.items() if state.asked == node)

    def on_wanted(self, want: int, reason: Reason | None = None) -> list[Order]:
        """More pieces are wanted; those under way are left alone. `reason` is why the origin would be asked."""
        fresh = []
        for number in pieces.each(want):
            if number not in self._pieces:
                self._pieces[number] = _Piece(reason=reason)
                fresh.append(number)
        return self._step(fresh)

    def on_expected(self, node: str, want: int) -> None:
        """Pieces already under way from a node asked earlier (the body that follows a pointer)."""
        for number in pieces.each(want):
            state = self._pieces.setdefault(number, _Piece())
            state.asked, state.role = node, Role.HOME
            state.tried.add((node, Role.HOME))

    def on_held(self, piece: int) -> None:
        """The piece verified and is stored, wherever it came from."""
        self._pieces.pop(piece, None)

    def on_refused(self, node: str, want: int, why: Why, named: Iterable[str] = ()) -> list[Order]:
        """An edge answered that these will not come from it, and whom it would ask."""
        again = []
        for number in pieces.each(want):
            state = self._pieces.get(number)
            if state is None or state.asked != node:
                continue
            if why is Why.ORIGIN:
                state.origin_failed_at.add(node)
            # Roles only descend: a holder that says "not home" must not make a home's duty wait for another home.
            role = state.role if why is Why.NOT_HOME and state.role is not None else Role.HOLDER
            others = [other for other in named if other != self.me and other != ORIGIN]
            state.named += [(other, role) for other in others[:NAMED_TRIED]]
            again.append(number)
        return self._step(again)

    def on_failed(self, node: str, *, rejected: bool = False) -> list[Order]:
        """An edge broke off, was silent, or (`rejected`) sent what does not verify: it is lost to this plan."""
        if node != ORIGIN:
            self.lost.add(node)
        again = [number for number, state in self._pieces.items() if state.asked == node]
        for number in again:
            self._pieces[number].rejected |= rejected
            if node == ORIGIN:
                self._pieces[number].origin_failed_at.add(self.me)
        return self._step(again)

    def on_origin_failed(self, want: int) -> list[Order]:
        """The origin (asked by this edge, for whichever of its plans) did not supply these pieces."""
        again = [n for n in pieces.each(want) if n in self._pieces and self._pieces[n].asked == ORIGIN]
        for number in again:
            self._pieces[number].origin_failed_at.add(self.me)
        return self._step(again)

    def _step(self, numbers: Iterable[int]) -> list[Order]:
        """Move each piece to its next rung; orders to the same edge become one request."""
        edges: dict[tuple[str, Role], int] = {}
        others: dict[Order, int] = {}
        for number in numbers:
            state = self._pieces[number]
            step = self._next(number, state)
            bit = 1 << number
            if isinstance(step, tuple):
                state.asked, state.role = step
                state.tried.add(step)
                edges[step] = edges.get(step, 0) | bit
            else:
                if isinstance(step, GiveUp):
                    del self._pieces[number]
                else:
                    state.asked = ORIGIN
                others[step] = others.get(step, 0) | bit
        lost = tuple(sorted(self.lost))
        orders: list[Order] = [AskEdge(node, role, want, lost) for (node, role), want in edges.items()]
        orders += [replace(order, want=want) for order, want in others.items()]
        return orders

    def _next(self, number: int, state: _Piece) -> Step:
        while state.named:
            step = state.named.pop(0)
            is_new = step not in state.tried and step[0] not in self.lost
            if is_new and sum(role is step[1] for _, role in state.tried) < NAMED_TRIED:
                return step
        return self._rungs(number, state, self.me, self.lost)


Rungs = Callable[[int, _Piece, str, Collection[str]], Step]


def viewer_rungs(dealing: Dealing, ranked: tuple[Edge, ...] = (), role: Role = Role.HOME) -> Rungs:
    """Home, a dead home's stand-in, the next in rank as holders, the origin.

    `ranked`: all edges, where the homes are but the first of them. `role`: in a zone that is not the path's first the
    homes are those of the zone, and what none of them supplies is left to this edge's own zone's duty.
    """
    ranked = ranked or dealing.homes

    def step(number: int, state: _Piece, me: str, lost: Collection[str]) -> Step:
        failed = state.origin_failed_at
        without = set(lost) | failed
        home = dealing.home_or_next(number, ranked, without)
        if home == me and me not in failed:
            return FetchAsHome(0, _why_stand_in(number, dealing, me, state), role)
        if home is not None and home != me and (home, role) not in state.tried and len(failed) < HOMES_TRIED:
            return home, role
        holders = [edge.node for edge in ranked if edge.node != me and edge.node not in lost]
        for node in holders[: NEXT_IN_RANK + len(failed)]:
            if (node, Role.HOLDER) not in state.tried:
                return node, Role.HOLDER
        if me in failed or len(failed) >= HOMES_TRIED:
            return GiveUp(0)
        reason = _why_stand_in(number, dealing, me, state) or Reason.NO_HOLDER
        return AskOrigin(0, reason) if role is Role.HOME else FetchAsHome(0, reason, role)

    return step


def _why_stand_in(number: int, dealing: Dealing, me: str, state: _Piece) -> Reason | None:
    if state.rejected:
        return Reason.VERIFY_FAILED
    if dealing.home_of(number) != me and any(role is not Role.HOLDER for _, role in state.tried):
        return Reason.HOME_LOST
    return state.reason


def home_rungs(ranked: tuple[Edge, ...], previous: Dealing, *, check_holders: bool, otherwise: Reason) -> Rungs:
    """A home's duty: a version older than its claim is looked for at the home of the previous view and at the next
    two in rank, who answer at once; then the origin. A newer version nobody can have: straight to the origin."""

    def step(number: int, state: _Piece, me: str, lost: Collection[str]) -> Step:
        if check_holders or state.reason is Reason.HOME_LOST:
            node = _may_hold(number, state, me, lost, ranked, previous)
            if node is not None:
                return node, Role.HOLDER
        if me in state.origin_failed_at:
            return GiveUp(0)
        return AskOrigin(0, Reason.VERIFY_FAILED if state.rejected else state.reason or otherwise)

    return step


def _may_hold(
    number: int,
    state: _Piece,
    me: str,
    lost: Collection[str],
    ranked: tuple[Edge, ...],
    previous: Dealing,
) -> str | None:
    """Whom a home asks "held?" next: its predecessor, then the best in rank."""
    before = previous.home_of(number)
    next_two = [edge.node for edge in ranked if edge.node != me][:NEXT_IN_RANK]
    for node in ([before] if before and before != me else []) + next_two:
        if (node, Role.HOLDER) not in state.tried and node not in lost:
            return node
    return None


def zone_rungs(
    near: tuple[Edge, ...],
    previous: Dealing,
    dealing: Dealing,
    ranked: tuple[Edge, ...],
    *,
    check_holders: bool,
) -> Rungs:
    """A zone's duty: what the zone may hold is looked for there (`near`: its homes); then the path's homes in its first
    zone, as a viewer there would ask them; then this edge's own duty as home."""
    across = viewer_rungs(dealing, ranked)

    def step(number: int, state: _Piece, me: str, lost: Collection[str]) -> Step:
        if check_holders or state.reason is Reason.HOME_LOST:
            node = _may_hold(number, state, me, lost, near, previous)
            if node is not None:
                return node, Role.HOLDER
        found = across(number, state, me, lost)
        return FetchAsHome(0, found.reason) if isinstance(found, AskOrigin) else found

    return step


def pointer_rungs(
    homes: tuple[Edge, ...], me: str, lost: Collection[str], role: Role = Role.HOME
) -> list[tuple[str, Role]]:
    """Whom to ask what a path means: its first living home, then that home's stand-in; if that is this edge, itself.

    The list ends where this edge should ask the origin itself.
    """
    steps: list[tuple[str, Role]] = []
    for edge in homes:
        if edge.node in lost:
            continue
        if edge.node == me or len(steps) == HOMES_TRIED:
            break
        steps.append((edge.node, role))
    return steps


def holder_rungs(homes: tuple[Edge, ...], me: str, lost: Collection[str]) -> list[tuple[str, Role]]:
    """Who may know a path when the origin does not answer: the best in rank, asked as holders."""
    nodes = [edge.node for edge in homes if edge.node != me and edge.node not in lost]
    return [(node, Role.HOLDER) for node in nodes[: NEXT_IN_RANK + 1]]


def judge(piece: int, dealing: Dealing, me: str, lost: Collection[str], ranked: tuple[Edge, ...] = ()) -> str | None:
    """Asked as home for a piece: who is, by this edge's view without the edges that the asker lost."""
    return dealing.home_or_next(piece, ranked, [node for node in lost if node != me])
