"""One version as this edge holds it: which pieces, from whom, and who waits for more."""

import asyncio
from collections import deque
from collections.abc import Iterable
from enum import Enum

from swarm import pieces
from swarm.accounting import Source
from swarm.metainfo import Metainfo, Signed
from swarm.names import Path

MOST_PROVIDERS = 64  # provider records kept for one version


EVERYTHING = -1  # as a bitmap: all pieces there are and ever will be, for a version still open
NEVER_TOLD = -1


class Awaits(Enum):
    """On whose success somebody waits for pieces; who fails when it fails."""

    PLAN = "the viewers' plan"
    ZONE = "this edge's duty as a home of its zone"
    DUTY = "this edge's duty as a home"
    ORIGIN = "only what was on its way from the origin: an edge that asked this one as holder"


class Waiter:
    """Somebody who wants pieces as they land: a viewer, or an edge that asked. Wakes on an event, never polls."""

    def __init__(self, wanted: int, awaits: Awaits) -> None:
        self.wanted = wanted
        self.awaits = awaits
        self.at = max(0, (wanted & -wanted).bit_length() - 1)  # of a viewer: the first piece it still needs
        self._ready: deque[int] = deque()
        self._news = asyncio.Event()
        self._failure: Exception | None = None

    def on_landed(self, piece: int) -> None:
        if self.wanted >> piece & 1:
            self.wanted &= ~(1 << piece)
            self._ready.append(piece)
            self._news.set()

    def on_failed(self, want: int, why: Exception) -> None:
        if self.wanted & want:
            self._failure = why
            self._news.set()

    def oldest(self) -> int | None:
        """The lowest piece that landed for it and was not taken yet."""
        return min(self._ready, default=None)

    def has_had(self, piece: int) -> bool:
        """Whether it has landed since, even if it is gone again."""
        return not self.wanted >> piece & 1

    def want_again(self, piece: int) -> None:
        """It landed once and was evicted, or rotten, before it was taken."""
        self.wanted |= 1 << piece

    def on_grown(self) -> None:
        """More is known of an open version: its next pages, or its size."""
        self._news.set()

    async def changed(self) -> None:
        """Until something happened since the last call. Raises what made the rest impossible.

        News is taken, not waited for anew: between the caller's look and the first step of this coroutine (a task of
        its own in `peer_http`) a piece may land, and would never be told of again.
        """
        if self._failure is None:
            await self._news.wait()
            self._news.clear()
        if self._failure is not None and not self._ready:
            raise self._failure
        self._ready.clear()

    def take(self) -> int | None:
        """A piece that has landed, if there is one."""
        return self._ready.popleft() if self._ready else None

    async def next(self) -> int:
        """The next piece that landed. Raises what made the rest impossible, once all that landed has been taken."""
        while not self._ready:
            if self._failure is not None:
                raise self._failure
            self._news.clear()
            await self._news.wait()
        return self._ready.popleft()


class Held:
    """A version in the cache: its metainfo, the pieces held (in memory, on disk or on the way there), its history."""

    def __init__(self, path: Path, metainfo: Metainfo, trust: str, born: float) -> None:
        self.path = path
        self.metainfo = metainfo
        self.trust = trust
        self.born = born  # wall clock of the origin
        self.in_memory = 0  # bitmaps
        self.on_disk = 0
        self.rotten = 0  # pieces that the disk gave back wrong: fetched again for that reason
        self.undelivered = 0  # pieces that landed, and that whoever they were fetched for has not taken
        self.checks: dict[int, int] = {}  # piece on disk -> xxh3, against rot
        self.providers: dict[str, int] = {}  # provider records: edge -> bitmap, soft
        self.fetched: dict[str, int] = {}  # where its bytes came from: edge's name, or "origin" -> bytes
        self.served: dict[Source, int] = dict.fromkeys(Source, 0)
        self.fresh_from: dict[int, Source] = {}  # pieces that landed lately: from where; for those who waited
        self.waiters: set[Waiter] = set()
        self.filling = False  # a fill is under way
        self.ready: tuple[bytes, ...] | None = None  # its pieces in order, while all are in memory: for the hit path
        self.used = False  # since it was last looked for what may be left to the disk
        self.told_in = NEVER_TOLD  # its log has its head and every page, since the disk failed so many times
        self.told_pointer: Signed | None = None  # the pointer last told in its log
        self.too_large_for_disk = False
        self.runs: list[tuple[int, int]] = []  # (offset, length) of each piece; once it was served whole from disk
        self.taken = asyncio.Event()  # a viewer took a piece, or left: fills that must not run ahead may go on

    def __repr__(self) -> str:
        count = self.metainfo.piece_count
        return f"<Held {self.path.target!r} {pieces.count(self.have)} of {count or 'open'} pieces>"

    @property
    def version(self) -> bytes:
        return self.metainfo.version

    @property
    def have(self) -> int:
        return self.in_memory | self.on_disk

    @property
    def all_pieces(self) -> int:
        """The bitmap of all pieces known to exist."""
        return pieces.of_span(0, self.metainfo.known_pieces)

    @property
    def complete(self) -> bool:
        count = self.metainfo.piece_count
        return count is not None and self.have == pieces.of_span(0, count)

    def note_provider(self, node: str, have: int) -> None:
        """A provider record: this edge holds (or soon will) these pieces."""
        if node in self.providers or len(self.providers) < MOST_PROVIDERS:
            self.providers[node] = self.providers.get(node, 0) | have

    def holders_of(self, want: int, but: Iterable[str] = ()) -> list[str]:
        """Edges known to hold some of these pieces, those with most first."""
        left_out = set(but)
        counts = [(pieces.count(have & want), node) for node, have in self.providers.items() if node not in left_out]
        return [node for count, node in sorted(counts, reverse=True) if count]

    def wait_for(self, want: int, awaits: Awaits = Awaits.PLAN) -> Waiter:
        """Pieces of `want` that are held land at once, in rising order; close with `stop_waiting`."""
        waiter = Waiter(want, awaits)
        for piece in pieces.each(want & self.have):
            waiter.on_landed(piece)
        self.waiters.add(waiter)
        return waiter

    def stop_waiting(self, waiter: Waiter) -> None:
        self.waiters.discard(waiter)
        self.taken.set()

    def passed(self) -> int:
        """The pieces below this one have been taken by everybody who waits here."""
        needed = [waiter.at if waiter.awaits is Awaits.PLAN else waiter.oldest() for waiter in self.waiters]
        return min((piece for piece in needed if piece is not None), default=0)

    def slowest(self) -> int | None:
        """The first piece that some viewer still needs; None if no viewer reads."""
        return min((waiter.at for waiter in self.waiters if waiter.awaits is Awaits.PLAN), default=None)

    def settle(self) -> None:
        """Some time after a fill: where pieces lately came from concerns nobody who asks from now on."""
        if not self.waiters and not self.filling:
            self.fresh_from.clear()

    def on_landed(self, piece: int) -> None:
        for waiter in self.waiters:
            waiter.on_landed(piece)

    def on_grown(self) -> None:
        for waiter in self.waiters:
            waiter.on_grown()
