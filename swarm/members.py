"""Who is in the swarm: signed announcements, the tracker's messages, and the view an edge places by."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from swarm.accounting import Cause
from swarm.errors import RemoteError
from swarm.metainfo import Signed
from swarm.placement import Edge, weights

FORMAT = 1
ANNOUNCEMENT_CONTEXT = b"starling announcement\0"
MOST_NAME_BYTES = 128
MOST_MEMBERS = 10_000
EDGE, SUPERPEER = "edge", "superpeer"  # roles


class State(StrEnum):
    """A member as the tracker sees it."""

    LEAF = "leaf"  # heard, not yet reached at its address: fetches, carries no weight
    ALIVE = "alive"  # reached: may be home


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """ "I am here", signed with the node's own key. `address` None: the one the tracker saw, with `port`.

    `incarnation`: milliseconds of the node's wall clock when it started; a restart has a higher one. `refutation`: how
    often it has spoken anew since then, to refute a suspicion or to say goodbye (`leaving`). `gossips`: it answers at
    `GOSSIP_PATH`. `role`: of the superpeer topology; a word of `swarm.role` in the configuration.
    """

    format: int = FORMAT
    node: str
    key: bytes
    address: str | None
    port: int
    zone: str = ""
    capacity_bps: float | None = None
    incarnation: int = 0
    refutation: int = 0
    leaving: bool = False
    gossips: bool = False
    role: str = EDGE

    @property
    def stamp(self) -> tuple[int, int]:
        """Of two announcements of one node the one with the higher stamp is in force."""
        return self.incarnation, self.refutation


class Member(msgspec.Struct, frozen=True):
    """One line of a view: the announcement as its node signed it, the address in force, and its state."""

    signed: Signed
    address: str
    state: State


class AnnounceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Held by the tracker up to `hold_ms` or until its view is newer than `known_generation`."""

    format: int = FORMAT
    signed: Signed
    known_generation: int = 0
    hold_ms: int = 0
    leaving: bool = False


class AnnounceReply(msgspec.Struct, frozen=True, kw_only=True):
    """`members` is None when nothing changed. `now_ms`: the tracker's wall clock when it answered, `held_ms` after
    the question came. `conflict`: the address of the living edge that bears the same name."""

    format: int = FORMAT
    generation: int
    now_ms: int
    held_ms: int = 0
    members: tuple[Member, ...] | None = None
    state: State = State.LEAF
    why: str = ""
    observed: str = ""
    conflict: str | None = None


def read_announcement(signed: Signed) -> Announcement:
    """The announcement inside; its signature is checked by the caller against the key it states."""
    try:
        said = msgspec.msgpack.decode(signed.body, type=Announcement)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RemoteError(f"malformed announcement: {error}") from error
    if said.format != FORMAT:
        raise RemoteError(f"announcement of format {said.format}; this program reads {FORMAT}")
    if not 0 < len(said.node.encode()) <= MOST_NAME_BYTES or not said.node.isprintable():
        raise RemoteError("announcement with an unusable node name")
    if said.capacity_bps is not None and not (said.capacity_bps >= 0 and math.isfinite(said.capacity_bps)):
        raise RemoteError(f"announcement of a capacity of {said.capacity_bps}")
    if said.node != signed.signer or len(said.key) != 32:
        raise RemoteError("announcement not signed as the node it names", Cause.SIGNATURE)
    return said


@dataclass(frozen=True)
class Peer:
    """Another edge, as the view has it."""

    node: str
    address: str
    key: bytes
    zone: str
    state: State
    capacity_bps: float | None
    incarnation: int = 0
    role: str = EDGE


@dataclass(frozen=True)
class View:
    """The members one edge knows, itself included once it carries weight."""

    generation: int = 0
    peers: dict[str, Peer] = field(default_factory=dict)

    def edges(self) -> tuple[Edge, ...]:
        """Those that may be home, with their weights."""
        alive = [peer for _, peer in sorted(self.peers.items()) if peer.state is State.ALIVE]
        weighed = weights([peer.capacity_bps for peer in alive])
        return tuple(Edge(peer.node, weight, peer.zone) for peer, weight in zip(alive, weighed, strict=True))


def peer_of(member: Member) -> Peer:
    said = read_announcement(member.signed)
    return Peer(
        said.node, member.address, said.key, said.zone, member.state, said.capacity_bps, said.incarnation, said.role
    )
