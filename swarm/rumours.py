"""What members tell each other about members (`swarm/gossip.py`), and how often each rumour is passed on.

A member's announcement, its goodbye and a vouch for its address bear their author's signature, so nobody can speak for
another. A suspicion does not: the suspect itself refutes a false one.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

import msgspec
from xxhash import xxh3_64_intdigest

from swarm.metainfo import Signed

FORMAT = 1
VOUCH_CONTEXT = b"starling reached\0"
MOST_NEWS_BYTES = 16 << 10  # in one message, a push-pull excepted
MOST_ITEM_BYTES = 16 << 10
REPEATS = 4  # each member passes a rumour on so often, times the decimal digits of their number (memberlist's figure)
OVERHEAD_BYTES = 24  # of a rumour in msgpack, beside its bytes and strings


class Suspicion(msgspec.Struct, frozen=True):
    """`by` could not reach this member, whose announcement it has with that stamp."""

    node: str
    incarnation: int
    refutation: int
    by: str

    @property
    def stamp(self) -> tuple[int, int]:
        return self.incarnation, self.refutation


class Vouch(msgspec.Struct, frozen=True):
    """ "I reached this node at this address", signed by whoever did."""

    node: str
    incarnation: int
    address: str


class Item(msgspec.Struct, frozen=True):
    """Signed news of another kind, opaque here. `left_ms`: how long it is still handed to newcomers."""

    kind: str
    signed: Signed
    left_ms: int

    @property
    def name(self) -> int:
        """By which it is known to have been heard."""
        signed = self.signed
        return xxh3_64_intdigest(
            b"\0".join((self.kind.encode(), signed.signer.encode(), signed.signature, signed.body))
        )


class News(msgspec.Struct, frozen=True, kw_only=True):
    """Rumours: `said` are announcements (goodbyes too), `vouches` are signed `Vouch`es."""

    said: tuple[Signed, ...] = ()
    suspicions: tuple[Suspicion, ...] = ()
    vouches: tuple[Signed, ...] = ()
    items: tuple[Item, ...] = ()


NOTHING = News()


class Kind(StrEnum):
    """What a message asks."""

    PING = "ping"  # are you there? and here is news
    PROBE = "probe"  # ping `target` in my place
    SYNC = "sync"  # do we know the same? (push-pull)

    @classmethod
    def _missing_(cls, value: object) -> "Kind":
        """A newer edge's word: at least it is a sign of life."""
        return cls.PING


class GossipMessage(msgspec.Struct, frozen=True, kw_only=True):
    """`to`: whom the sender believes to address; empty if it knows but the address. `target`: of a probe. `digest` and
    `items` (of a push-pull): what the sender knows."""

    format: int = FORMAT
    kind: Kind = Kind.PING
    node: str
    to: str = ""
    target: str = ""
    news: News = NOTHING
    digest: int = 0
    items: tuple[int, ...] = ()


class GossipReply(msgspec.Struct, frozen=True, kw_only=True):
    """`reached`: of a probe's target. `whole`: `news` holds all that the answerer knows, because digests differ.
    `observed`: where the question came from, as it stands in a URL. `conflict`: the address of the living edge that
    bears the asker's name. `now_ms`: the answerer's wall clock."""

    format: int = FORMAT
    node: str
    reached: bool = False
    news: News = NOTHING
    whole: bool = False
    items: tuple[int, ...] = ()
    observed: str = ""
    conflict: str | None = None
    now_ms: int = 0


Rumour = Signed | Suspicion | Item
Key = tuple[str, ...]  # what a rumour is about; a later one about the same takes its place


@dataclass
class _Queued:
    rumour: Rumour
    size: int
    told: int = 0


class Rumours:
    """What is still to be passed on; least told first, each only so often."""

    def __init__(self) -> None:
        self._queued: dict[Key, _Queued] = {}

    def __repr__(self) -> str:
        return f"<Rumours {len(self._queued)} going round>"

    def __len__(self) -> int:
        return len(self._queued)

    def add(self, key: Key, rumour: Rumour) -> None:
        self._queued[key] = _Queued(rumour, _size(rumour))

    def drop(self, *key: str) -> None:
        """Whatever is about that: it is out of date."""
        for known in [known for known in self._queued if known[: len(key)] == key]:
            del self._queued[known]

    def take(self, members: int, but: News = NOTHING) -> News:
        """For one message to one of so many members, who just told us `but`; counts as told."""
        most = REPEATS * math.ceil(math.log10(members + 2))
        chosen = self._choose({*but.said, *but.suspicions, *but.vouches})
        for key, queued in chosen:
            queued.told += 1
            if queued.told >= most:
                del self._queued[key]
        return news_of((key, queued.rumour) for key, queued in chosen)

    def peek(self) -> News:
        """For somebody who passes nothing on: it does not count."""
        return news_of((key, queued.rumour) for key, queued in self._choose(()))

    def _choose(self, but: Collection[Rumour]) -> list[tuple[Key, _Queued]]:
        chosen: list[tuple[Key, _Queued]] = []
        left = MOST_NEWS_BYTES
        for key, queued in sorted(self._queued.items(), key=lambda pair: pair[1].told):
            if queued.rumour not in but and (queued.size <= left or not chosen):
                chosen.append((key, queued))
                left -= queued.size
        return chosen


SAID, VOUCH, SUSPICION, ITEM = "said", "vouch", "suspicion", "item"  # first words of keys


def news_of(rumours: Iterable[tuple[Key, Rumour]]) -> News:
    by_kind: dict[str, list[Rumour]] = {SAID: [], VOUCH: [], SUSPICION: [], ITEM: []}
    for key, rumour in rumours:
        by_kind[key[0]].append(rumour)
    return News(
        said=tuple(by_kind[SAID]),  # type: ignore[arg-type]
        suspicions=tuple(by_kind[SUSPICION]),  # type: ignore[arg-type]
        vouches=tuple(by_kind[VOUCH]),  # type: ignore[arg-type]
        items=tuple(by_kind[ITEM]),  # type: ignore[arg-type]
    )


def _size(rumour: Rumour) -> int:
    if isinstance(rumour, Suspicion):
        return len(rumour.node) + len(rumour.by) + OVERHEAD_BYTES
    signed = rumour.signed if isinstance(rumour, Item) else rumour
    return len(signed.body) + len(signed.signature) + len(signed.signer) + OVERHEAD_BYTES
