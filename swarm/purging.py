"""Purges: what an operator says is no longer good, by URL, prefix or surrogate key (docs/decisions/0011).

A purge is a rule, not a walk through the cache: it names what it covers and a sequence number, and every pointer it
covers with a sequence up to that number is no longer good. Whoever fetches after a purge gives the new pointer a higher
number, so old and new are told apart wherever they turn up, without clocks: on disk, at an edge that was away, at a
peer that has not heard yet. A **book** holds the purges in force. Books join like sets: in whatever order and however
often purges arrive, edges that heard of the same purges have equal books.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from xxhash import xxh3_64_intdigest

from swarm.accounting import PurgeKind
from swarm.errors import RemoteError
from swarm.headers import Headers
from swarm.names import Path

FORMAT = 1
LIFETIME_S = 7 * 86400.0  # an edge that was away for longer asks anew about all that it holds
MOST_PURGES = 20_000  # in force at once, about 200 bytes each
MOST_VALUE_BYTES = 8192
MOST_BYTES = 8 << 20  # of all values together, so that a book fits into a message
# A purge covers what was fetched before it; pointers are numbered in milliseconds by clocks that may differ by so much.
# It costs little to exceed that: what is fetched after a purge is numbered above it, whatever the clock says.
SLACK_MS = 3000
MOST_LEAD_MS = 3_000_000  # numbers may run ahead of the clock, but one further ahead than this was not made honestly
GREETERS = 3
EVERY_SITE = ""
NOBODY = ""  # the issuer of what stands for forgotten purges; it never leaves its edge


class BookFull(Exception):
    """As many purges as may be in force are in force."""


class Purge(msgspec.Struct, frozen=True, kw_only=True):
    """Covers every pointer that it names with a `sequence` up to its own.

    `value`: the target (URL path and query) of a `url`, the beginning of targets for a `prefix`, a surrogate key for a
    `key`. `soft`: what it covers is stale rather than gone. `made`: the swarm's wall clock, in seconds.
    """

    format: int = FORMAT
    kind: str
    site: str
    value: str
    soft: bool = False
    sequence: int
    made: float
    issuer: str

    @property
    def name(self) -> tuple[str, str, str]:
        return self.kind, self.site, self.value

    def __str__(self) -> str:
        where = f"every site's {self.value}" if self.site == EVERY_SITE else f"{self.site} {self.value}"
        return f"{'soft' if self.soft else 'hard'} purge of {self.kind} {where}"


class PurgeMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Between edges: purges to take; with `digest`, the answer carries the other's book if it differs."""

    format: int = FORMAT
    purges: tuple[Purge, ...] = ()
    digest: int | None = None


class PurgeReply(msgspec.Struct, frozen=True, kw_only=True):
    """`refused`: how many of the purges sent could not be taken, and so are not in force there."""

    format: int = FORMAT
    purges: tuple[Purge, ...] = ()
    digest: int = 0
    refused: int = 0


class PurgeBook:
    """The purges in force at one edge: of each name the newest hard one, and a soft one if that is newer still."""

    def __init__(self) -> None:
        self._hard: dict[tuple[str, str, str], Purge] = {}
        self._soft: dict[tuple[str, str, str], Purge] = {}
        self._names: dict[str, set[tuple[str, str, str]]] = {str(kind): set() for kind in PurgeKind}
        self.forgotten: Purge | None = None  # stands for what nobody knows any more; each edge has its own
        self._bytes = 0
        self._seen: dict[str, int] = {}  # site -> the highest sequence of a pointer seen
        self.generation = 0  # rises with every purge taken: what was judged before is judged again
        self.newest = 0  # no pointer above it is covered by any
        self.digest = 0

    def __repr__(self) -> str:
        return f"<PurgeBook {len(self)} purges, newest {self.newest}>"

    def __len__(self) -> int:
        return len(self._hard) + len(self._soft)

    def __iter__(self) -> Iterator[Purge]:
        yield from self._hard.values()
        yield from self._soft.values()

    def latest(self, most: int) -> list[Purge]:
        """For people: the newest first."""
        return sorted(self, key=lambda purge: -purge.sequence)[:most]

    # --- numbers

    def on_seen(self, site: str, sequence: int) -> None:
        """A verified pointer came by: a purge made here covers it, whatever the clocks say."""
        if sequence > self._seen.get(site, 0):
            self._seen[site] = sequence

    def sequence_for(self, site: str, now: float) -> int:
        """The number of a purge made now: above every pointer there is, as far as clocks and experience can tell.

        `now`: the swarm's wall clock.
        """
        now_ms = int(now * 1000)
        seen = max(self._seen.values(), default=0) if site == EVERY_SITE else self._seen.get(site, 0)
        return max(now_ms + SLACK_MS, min(seen, now_ms + MOST_LEAD_MS))

    # --- taking

    def check_room(self, purges: Iterable[Purge]) -> None:
        """BookFull unless there is room for those that replace none."""
        new = [
            purge.value
            for purge in purges
            if purge.name not in self._soft and (purge.soft or purge.name not in self._hard)
        ]
        if len(self) + len(new) > MOST_PURGES or self._bytes + sum(map(len, new)) > MOST_BYTES:
            raise BookFull(
                f"{len(self)} purges of {self._bytes} bytes are in force; {MOST_PURGES} of {MOST_BYTES} bytes may be: "
                "purge by prefix or key"
            )

    def take(self, purge: Purge, now: float) -> bool:
        """Whether it says anything new. RemoteError for what no honest edge made, BookFull. `now`: swarm's wall clock.

        What has expired says nothing new.
        """
        _check(purge, now)
        if purge.made + LIFETIME_S <= now:
            return False
        hard, soft = self._hard.get(purge.name), self._soft.get(purge.name)
        same = [old for old in ((hard, soft) if purge.soft else (hard,)) if old is not None]
        if any(old.sequence >= purge.sequence for old in same):
            return False
        ousted = [old for old in ((soft,) if purge.soft else (hard, soft)) if old and old.sequence <= purge.sequence]
        if not ousted:
            self.check_room((purge,))
        for old in ousted:
            self._remove(old)
        self._add(purge)
        return True

    def _add(self, purge: Purge) -> None:
        (self._soft if purge.soft else self._hard)[purge.name] = purge
        self._names[purge.kind].add(purge.name)
        self.digest ^= _digest(purge)
        self._bytes += len(purge.value)
        self.newest = max(self.newest, purge.sequence)
        self.generation += 1

    def _remove(self, purge: Purge) -> None:
        del (self._soft if purge.soft else self._hard)[purge.name]
        if purge.name not in self._hard and purge.name not in self._soft:
            self._names[purge.kind].discard(purge.name)
        self.digest ^= _digest(purge)
        self._bytes -= len(purge.value)

    def expire(self, now: float) -> int:
        """Forget what is older than any edge may be away; how many that were. What they covered may still lie here,
        unmet: whatever is as old as that is softly purged."""
        old = [purge for purge in self if purge.made + LIFETIME_S <= now]
        for purge in old:
            self._remove(purge)
        if old:
            self._forget(max(purge.sequence for purge in old), now)
        return len(old)

    def on_away_too_long(self, now: float) -> None:
        """This edge was away until `now` for longer than purges are remembered: all that it holds may be purged."""
        self._forget(self.sequence_for(EVERY_SITE, now), now)
        self.generation += 1

    def restore(self, purge: Purge, now: float) -> None:
        """A purge that this edge kept, or what stood for those it had forgotten. RemoteError, BookFull."""
        if purge.issuer == NOBODY or purge.made + LIFETIME_S <= now:
            self._forget(purge.sequence, now)
        else:
            self.take(purge, now)

    def _forget(self, sequence: int, now: float) -> None:
        if self.forgotten is None or self.forgotten.sequence < sequence:
            self.forgotten = Purge(
                kind=PurgeKind.PREFIX, site=EVERY_SITE, value="/", soft=True, sequence=sequence, made=now, issuer=NOBODY
            )
            self.newest = max(self.newest, sequence)

    def kept(self) -> list[Purge]:
        """What `restore` makes an equal book of."""
        return [*self, *filter(None, [self.forgotten])]

    # --- judging

    def judge(self, path: Path, sequence: int, headers: Headers) -> Purge | None:
        """The purge that covers a pointer of this sequence and these response headers: the newest hard one, else the
        newest soft one; None if it is good."""
        if sequence > self.newest:
            return None
        covering = [purge for purge in self._naming(path, headers) if purge.sequence >= sequence]
        return max(covering, key=lambda purge: (not purge.soft, purge.sequence), default=None)

    def _naming(self, path: Path, headers: Headers) -> Iterator[Purge]:
        target, sites = path.target, (path.site, EVERY_SITE)
        if self.forgotten is not None:
            yield self.forgotten
        for site in sites:
            yield from self._named((PurgeKind.URL, site, target))
        for kind, site, value in self._names[PurgeKind.PREFIX]:
            if site in sites and target.startswith(value):
                yield from self._named((kind, site, value))
        if self._names[PurgeKind.KEY]:
            for key in surrogate_keys(headers):
                for site in sites:
                    yield from self._named((PurgeKind.KEY, site, key))

    def _named(self, name: tuple[str, str, str]) -> Iterator[Purge]:
        for purges in (self._hard, self._soft):
            if (purge := purges.get(name)) is not None:
                yield purge


def surrogate_keys(headers: Headers) -> Iterator[str]:
    """The keys a response bears: `Surrogate-Key` parted by spaces, `Cache-Tag` by commas. Case matters."""
    for name, value in headers:
        match name.lower():
            case "surrogate-key":
                yield from value.split()
            case "cache-tag":
                yield from filter(None, map(str.strip, value.split(",")))
            case _:
                pass


def missing_there(mine: Iterable[Purge], theirs: Sequence[Purge]) -> list[Purge]:
    """Of our purges those that the other does not have, given all it has."""
    known = {(purge.name, purge.soft): purge.sequence for purge in theirs}
    hard = {purge.name: purge.sequence for purge in theirs if not purge.soft}
    return [
        purge
        for purge in mine
        if purge.sequence > max(known.get((purge.name, purge.soft), -1), hard.get(purge.name, -1) if purge.soft else -1)
    ]


def greeters(newcomer: str, nodes: Iterable[str]) -> list[str]:
    """Which members see to it that a member which (re)appeared has every purge: the same few by everybody's view."""
    others = (node for node in nodes if node != newcomer)
    return sorted(others, key=lambda node: xxh3_64_intdigest(f"{newcomer}\0{node}".encode()))[:GREETERS]


def _digest(purge: Purge) -> int:
    return xxh3_64_intdigest(msgspec.msgpack.encode((*purge.name, purge.soft, purge.sequence)))


def _check(purge: Purge, now: float) -> None:
    if purge.format != FORMAT:
        raise RemoteError(f"purge of format {purge.format}; this edge reads {FORMAT}")
    if purge.kind not in set(PurgeKind):
        raise RemoteError(f"purge by {purge.kind!r}, which this edge does not know")
    if not 0 < len(purge.value.encode()) <= MOST_VALUE_BYTES or "/" in purge.site or purge.issuer == NOBODY:
        raise RemoteError("purge of nothing that could be here")
    if not 0 <= purge.sequence <= (now + 600) * 1000 + MOST_LEAD_MS or not 0 <= purge.made <= now + 3600:
        raise RemoteError("purge from the future")
