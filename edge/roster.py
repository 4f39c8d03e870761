"""Who is in the swarm, as this edge sees it: its view, its homes, its clock's offset; and the file of the last view."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path as FilePath

import msgspec

from daemon.keys import Signer, checker, verify
from swarm.accounting import PeerState, Role
from swarm.errors import RemoteError
from swarm.health import Health, Link
from swarm.members import ANNOUNCEMENT_CONTEXT, Member, Peer, State, View, peer_of
from swarm.metainfo import Pointer
from swarm.names import Path
from swarm.placement import Dealing, Edge, dealt_in_runs, first_zone, home_set, homes_for
from swarm.runs import is_split

log = logging.getLogger(__name__)

CLAIM_SLACK_S = 5.0  # clocks may differ by so much when a version's birth is held against our claim to it
SETTLED_S = 3.0  # a view in force so long has placed pieces; a shorter one is skipped as "previous"
PLACED_PATHS = 65_536


class Roster:
    """The view and what follows from it. With no swarm, this edge is home for everything."""

    def __init__(self, me: str, zone: str, signer: Signer, *, in_swarm: bool) -> None:
        self.me = me
        self.zone = zone
        self.signer = signer
        self.in_swarm = in_swarm
        self.view = View()
        self.health = Health()
        self.offset_s: float | None = None  # swarm's clock minus ours
        self.refused = False  # the tracker does not accept our secret, or we not its
        self.claim_at = 0.0  # swarm's clock: since when this edge's homes are what they are
        self.on_view: Callable[[], None] = lambda: None  # told of every view that comes
        self.is_banned: Callable[[bytes], bool] = lambda key: False
        self.banned: dict[str, Peer] = {}  # members that the view leaves out
        self._members: tuple[Member, ...] = ()
        self._edges: tuple[Edge, ...] = ()
        self._zones: dict[str, tuple[Edge, ...]] = {}
        self._previous: dict[str, tuple[Edge, ...]] = {}
        self.check = checker(self.key_of)
        self._ranked = lru_cache(maxsize=PLACED_PATHS)(self._rank)
        self._first_zone = lru_cache(maxsize=PLACED_PATHS)(first_zone)

    def __repr__(self) -> str:
        return f"<Roster of {self.me}: {len(self._edges)} edges, {len(self.view.peers)} members>"

    @property
    def standalone(self) -> bool:
        return not self.in_swarm or self.refused

    def swarm_time(self) -> float:
        """The wall clock of the swarm: ours, corrected by the offset measured at each announcement."""
        return time.time() + (self.offset_s or 0.0)

    def key_of(self, node: str) -> bytes | None:
        if node == self.me:
            return self.signer.public
        peer = self.view.peers.get(node)
        return peer.key if peer else None

    def peer(self, node: str) -> Peer | None:
        return self.view.peers.get(node) if node != self.me else None

    def others(self) -> list[Peer]:
        return [peer for node, peer in self.view.peers.items() if node != self.me]

    # --- homes

    def _rank(self, key: str, edges: tuple[Edge, ...]) -> tuple[Edge, ...]:
        return home_set(key, edges)

    def ranked(self, path: Path, role: Role = Role.HOME) -> tuple[Edge, ...]:
        """All homes of a path, best first: the first is asked what the path means. `ZONE_HOME`: those in our own zone,
        if it is not the path's first and has any."""
        return self._ranked(path.key, self._placed(path, self._zones, role) or (Edge(self.me),))

    def role(self, path: Path) -> Role:
        """In which role this edge asks those who are home to it: across zones only homes ask."""
        is_far = self.zone in self._zones and self._first_zone(path.key, tuple(self._zones)) != self.zone
        return Role.ZONE_HOME if is_far else Role.HOME

    def _placed(self, path: Path, zones: dict[str, tuple[Edge, ...]], role: Role) -> tuple[Edge, ...]:
        """The edges among whom a path has its homes."""
        if not zones:
            return ()
        if role is Role.ZONE_HOME and self.zone in zones:
            return zones[self.zone]
        return zones[self._first_zone(path.key, tuple(zones))]

    def homes(self, path: Path, size: int | None, trust: str, role: Role = Role.HOME) -> tuple[Edge, ...]:
        """The homes of a version. A foreign origin's object has one: it is streamed whole, once."""
        return _of_version(path, self.ranked(path, role), size, trust)

    def previous_homes(self, path: Path, size: int | None, trust: str, role: Role = Role.HOME) -> tuple[Edge, ...]:
        """The homes by the view before the present one; empty if this is the first."""
        if not self._previous:
            return ()
        ranked = self._ranked(path.key, self._placed(path, self._previous, role))
        return _of_version(path, ranked, size, trust)

    def dealing(self, path: Path, pointer: Pointer, trust: str, role: Role = Role.HOME) -> Dealing:
        """Who is home for which piece of what a pointer names."""
        return self._dealt(self.ranked(path, role), self.homes(path, pointer.size, trust, role), pointer, trust)

    def previous_dealing(self, path: Path, pointer: Pointer, trust: str, role: Role = Role.HOME) -> Dealing:
        """The same by the view before the present one; without homes if this is the first."""
        ranked = self._ranked(path.key, self._placed(path, self._previous, role)) if self._previous else ()
        return self._dealt(ranked, self.previous_homes(path, pointer.size, trust, role), pointer, trust)

    def _dealt(self, ranked: tuple[Edge, ...], homes: tuple[Edge, ...], pointer: Pointer, trust: str) -> Dealing:
        if trust == "signed" or len(ranked) < 2 or pointer.size is None or not is_split(pointer):
            return Dealing(homes)
        return dealt_in_runs(ranked, pointer.size, -(-pointer.size // pointer.piece_bytes))

    def claim_is_newer_than(self, born: float) -> bool:
        """Others may hold what was born before this edge's homes became what they are."""
        return not self.standalone and len(self.view.peers) > 1 and born < self.claim_at + CLAIM_SLACK_S

    # --- the view

    def take_view(self, generation: int, members: Sequence[Member]) -> None:
        """A view arrived, from wherever. Members whose announcement does not verify are left out."""
        peers = {}
        for member in members:
            try:
                peer = _proved(member)
            except RemoteError as error:
                log.warning("left a member out of the view: %s", error)
                continue
            peers[peer.node] = peer
        self._members = tuple(members)
        self.banned = {node: peer for node, peer in peers.items() if node != self.me and self.is_banned(peer.key)}
        peers = {node: peer for node, peer in peers.items() if node not in self.banned}
        self._tell_changes(peers)
        self.view = View(generation, peers)
        edges = self.view.edges()
        if edges != self._edges:
            now = self.swarm_time()
            if now - self.claim_at >= SETTLED_S:  # a view that passed in a moment left nothing anywhere
                self._previous = self._zones
            self._edges, self._zones, self.claim_at = edges, _by_zone(edges), now
        self.on_view()

    def judge_again(self) -> None:
        """A ban began or ended: the same view, with or without that member."""
        self.take_view(self.view.generation, self._members)

    def _tell_changes(self, peers: dict[str, Peer]) -> None:
        before = self.view.peers
        for node, peer in peers.items():
            old = before.get(node)
            if node == self.me:
                continue
            if old is None or old.state is not peer.state:
                log.info("peer %s is %s at %s", node, peer.state, peer.address)
            if old is not None and (old.incarnation, old.address) != (peer.incarnation, peer.address):
                self.health.on_good(node)  # a restarted edge begins with a clean slate
        for node in before.keys() - peers.keys() - {self.me}:
            log.info("peer %s left the view", node)

    def state(self) -> State:
        me = self.view.peers.get(self.me)
        return me.state if me else State.LEAF

    def unusable(self) -> list[str]:
        return self.health.unusable(time.monotonic())

    def counts(self) -> dict[str, float]:
        """For the metric `peers{state}`; a link that is paused is suspect."""
        counts = dict.fromkeys((str(state) for state in PeerState), 0.0)
        now = time.monotonic()
        for peer in self.others():
            away = self.health.state(peer.node, now) is not Link.OK
            counts[PeerState.SUSPECT if away else PeerState.ALIVE] += 1
        counts[PeerState.BANNED] = len(self.banned)
        if self.refused:
            counts[PeerState.REFUSED] += 1
        return counts


@lru_cache(maxsize=4096)
def _proved(member: Member) -> Peer:
    """RemoteError unless it signed its own announcement. Views come often, and mostly hold what the last one held."""
    peer = peer_of(member)
    verify(peer.key, ANNOUNCEMENT_CONTEXT, member.signed)
    return peer


def _by_zone(edges: tuple[Edge, ...]) -> dict[str, tuple[Edge, ...]]:
    zones: dict[str, list[Edge]] = {}
    for edge in edges:
        zones.setdefault(edge.zone, []).append(edge)
    return {zone: tuple(members) for zone, members in sorted(zones.items())}


def _of_version(path: Path, ranked: tuple[Edge, ...], size: int | None, trust: str) -> tuple[Edge, ...]:
    return ranked[:1] if trust != "signed" or len(homes_for(path.key, ranked, size)) == 1 else ranked


class ViewFile:
    """The last view, kept so that an edge that starts while the tracker is gone knows its peers."""

    def __init__(self, path: FilePath) -> None:
        self._path = path

    def read(self) -> tuple[Member, ...]:
        """Empty if there is none, or none that can be read."""
        try:
            return msgspec.msgpack.decode(self._path.read_bytes(), type=tuple[Member, ...])
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("the last view cannot be read from %s: %s", self._path, error)
            return ()

    def write(self, members: Sequence[Member]) -> None:
        """OSError if it cannot be written; blocks."""
        partial = self._path.with_suffix(".new")
        partial.write_bytes(msgspec.msgpack.encode(members))
        partial.replace(self._path)
