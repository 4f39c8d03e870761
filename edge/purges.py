"""Purges as this edge makes, keeps, spreads and hears of them; what they cover is `swarm/purging.py`'s to say.

The edge that is asked for a purge tells every member of its view at once, and those that do not answer again and again.
A member that (re)appears is greeted by a few others with what it missed, and everybody compares books with somebody
every few seconds: so an edge that was away, restarted or cut off learns of each purge when it is back.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath

import msgspec

from daemon.asking import PURGE_PATH, Asker
from daemon.peer_auth import WrongSecret
from edge.metrics import EdgeMetrics
from edge.pointers import Known
from edge.purge_requests import Wanted
from edge.roster import Roster
from swarm.accounting import PurgeKind
from swarm.errors import RemoteError, Unreachable
from swarm.members import Peer, State
from swarm.purging import (
    LIFETIME_S,
    BookFull,
    Purge,
    PurgeBook,
    PurgeMessage,
    PurgeReply,
    greeters,
    missing_there,
)

log = logging.getLogger(__name__)

FILE_NAME = "purges"  # in the cache directory
TELL_WITHIN_S = 1.0  # an edge that says nothing for so long has not heard us
TELL_AGAIN_S = (0.05, 2.0)  # the pause after the first failure, doubled up to the second
TELL_FOR_S = 60.0  # after that, comparing books will do it
COMPARE_EVERY_S = 10.0
COMPARE_UNTOLD_S = 0.5  # nobody reaches a leaf, or an edge the tracker does not know: it hears what it asks for
ASK_AT_START_S = 1.0
BATCH = 500  # purges in a message
SPARE_LINES = 1000  # superseded lines a file may hold before it is written anew


@dataclass
class Report:
    """How far a purge came until it was answered for."""

    purges: list[Purge]
    applied: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # node -> why; it is told again and again
    took_s: float = 0.0
    unkept: str = ""  # why the purge is not on this edge's disk, if it should be


class Purges:
    """One edge's purges. `on_applied` is called whenever what was found good may no longer be."""

    def __init__(
        self,
        book: PurgeBook,
        roster: Roster,
        asker: Asker,
        metrics: EdgeMetrics,
        file: "PurgeFile | None",
    ) -> None:
        self.book = book
        self._roster = roster
        self._asker = asker
        self._metrics = metrics
        self._file = file
        self.on_applied: Callable[[], None] = lambda: None
        self.is_member: Callable[[], bool] = lambda: True  # False: others may not know where this edge is
        self._unkept: list[Purge] = []
        self._keeping = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()
        self._view_changed = asyncio.Event()
        self._met: dict[str, tuple[int, str]] = {}  # the members of the last view: incarnation and address
        self.trouble = ""  # why purges are not kept on disk; empty while they are

    def __repr__(self) -> str:
        return f"<Purges {self.book!r}>"

    # --- what they cover

    def allows(self, known: Known) -> bool:
        """False: purged, forget it. What a soft purge covers is made stale as of then: the graces that its origin
        granted count from there (RFC 5861)."""
        if known.judged == self.book.generation:
            return True
        known.judged = self.book.generation
        purge = self.covering(known)
        if purge is None or not purge.soft:
            return purge is None
        ended_ago_s = max(0.0, self._roster.swarm_time() - purge.made)
        known.made_at = min(known.made_at, time.monotonic() - ended_ago_s - known.pointer.ttl_s)
        return True

    def covering(self, known: Known) -> Purge | None:
        return self.book.judge(known.path, known.pointer.sequence, known.pointer.headers)

    # --- life

    async def open(self) -> None:
        """Read back what was kept, then ask the edges of the last view what was purged meanwhile, within a second:
        this edge holds what it held, and is about to serve it."""
        if self._file is None:
            return
        now = self._roster.swarm_time()
        purges, written_at = await asyncio.to_thread(self._file.read)
        for purge in purges:
            try:
                self.book.restore(purge, now)
            except (RemoteError, BookFull) as error:
                log.error("%s, kept on disk, was left out: %s", purge, error)
        if self._roster.in_swarm and written_at is not None and written_at + LIFETIME_S <= now:
            log.warning("away for longer than purges are remembered: everything held is asked about anew")
            self.book.on_away_too_long(now)
        asking = [asyncio.create_task(self._compare(peer)) for peer in self._roster.others()]
        if asking:
            _, late = await asyncio.wait(asking, timeout=ASK_AT_START_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        await self._keep()

    def on_view(self) -> None:
        self._view_changed.set()

    async def run(self) -> None:
        """Compare books until cancelled."""
        while True:
            self._view_changed.clear()
            peers = self._newcomers() or self._anybody()
            await asyncio.gather(*map(self._compare, peers))
            self._expire()
            await self._keep()
            is_told = self.is_member() and self._roster.state() is not State.LEAF
            try:
                async with asyncio.timeout(COMPARE_EVERY_S if is_told else COMPARE_UNTOLD_S):
                    await self._view_changed.wait()
            except TimeoutError:
                continue

    def _newcomers(self) -> list[Peer]:
        """Members that (re)appeared and are ours to greet; some of all, if it was this edge that was away."""
        before, me = self._met, self._roster.me
        peers = {peer.node: peer for peer in self._roster.others()}
        self._met = {node: (peer.incarnation, peer.address) for node, peer in peers.items()}
        if not before:
            return [peers[node] for node in greeters(me, peers)]
        fresh = [node for node, met in self._met.items() if before.get(node) != met]
        return [peers[node] for node in fresh if me in greeters(node, [*peers, me])]

    def _anybody(self) -> list[Peer]:
        others = self._roster.others()
        return [random.choice(others)] if others else []  # noqa: S311

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._keep()

    def _start(self, work: Coroutine[object, object, object], name: str) -> "asyncio.Task[object]":
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: "asyncio.Task[object]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    # --- made here

    async def purge(self, wanted: Sequence[Wanted], *, soft: bool, by: str) -> Report:
        """In force here and, unless the report says otherwise, at every member. BookFull. Goes on if the asker goes."""
        began, now = time.monotonic(), self._roster.swarm_time()
        purges = [
            Purge(
                kind=str(one.kind), site=one.site, value=one.value, soft=soft,
                sequence=self.book.sequence_for(one.site, now), made=now, issuer=self._roster.me,
            )
            for one in wanted
        ]  # fmt: skip
        self._expire()
        self.book.check_room(purges)
        for purge in purges:
            log.info("%s, asked for by %s", purge, by)
        self._apply(purges, told_by="")
        report = Report(purges, applied=[self._roster.me])
        await asyncio.shield(self._start(self._carry_out(report, began), "purge"))
        return report

    async def _carry_out(self, report: Report, began: float) -> None:
        others = [peer.node for peer in self._roster.others()]
        first = (self._tell_within(TELL_WITHIN_S, node, report.purges) for node in others)
        _, *failures = await asyncio.gather(self._keep(), *first)
        for node, why in zip(others, failures, strict=True):
            if not why:
                report.applied.append(node)
            else:
                report.failed[node] = why
                _ = self._start(self._tell_later(node, report.purges), f"telling {node} of a purge")
        report.took_s = time.monotonic() - began
        report.unkept = self.trouble
        log.info("purge reached %d of %d edges in %.3f s", len(report.applied), 1 + len(others), report.took_s)

    async def _tell(self, node: str, purges: Sequence[Purge]) -> str:
        """Why the node does not have them in force; empty if it has."""
        peer = self._roster.peer(node)
        if peer is None:
            return "left the view"
        for at in range(0, len(purges), BATCH):
            message = PurgeMessage(purges=tuple(purges[at : at + BATCH]))
            try:
                reply = await self._asker.message(peer.address, PURGE_PATH, message, PurgeReply, within_s=TELL_WITHIN_S)
            except (Unreachable, RemoteError, WrongSecret) as error:
                return str(error)
            if reply.refused:
                return f"it refused {reply.refused} of them"
        return ""

    async def _tell_later(self, node: str, purges: Sequence[Purge]) -> None:
        why = await self._tell_within(TELL_FOR_S, node, purges)
        log.info("%s %s of %d purges%s", node, "does not know" if why else "knows now", len(purges), why and f": {why}")

    async def _tell_within(self, within_s: float, node: str, purges: Sequence[Purge]) -> str:
        """Again and again, until it has taken them (empty), time is over, or it left the view: when it returns it is
        greeted with what it missed."""
        pause_s, until = TELL_AGAIN_S[0], time.monotonic() + within_s
        while why := await self._tell(node, purges):
            if time.monotonic() + pause_s >= until or self._roster.peer(node) is None:
                return why
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, TELL_AGAIN_S[1])
        return ""

    # --- heard of

    async def on_message(self, message: PurgeMessage, sender: str) -> PurgeReply:
        """Another edge's purges, in force here before it is answered; and ours, if its book is another."""
        refused = self._apply(message.purges, told_by=sender)
        if self._unkept:
            await self._keep()
        differs = message.digest is not None and message.digest != self.book.digest
        return PurgeReply(purges=tuple(self.book) if differs else (), digest=self.book.digest, refused=refused)

    async def _compare(self, peer: Peer) -> None:
        """Both have the same purges afterwards, if the other answers."""
        message = PurgeMessage(digest=self.book.digest)
        try:
            reply = await self._asker.message(peer.address, PURGE_PATH, message, PurgeReply, within_s=TELL_WITHIN_S)
        except (Unreachable, RemoteError, WrongSecret) as error:
            log.info("did not compare purges with %s: %s", peer.node, error)
            return
        if reply.digest == message.digest:
            return
        self._apply(reply.purges, told_by=peer.node)
        if lacking := missing_there(self.book, reply.purges):
            await self._tell(peer.node, lacking)

    def _apply(self, purges: Iterable[Purge], *, told_by: str) -> int:
        """Take what is new; how many could not be taken."""
        taken, refused = self._take(purges)
        for purge in taken:
            self._metrics.purges[PurgeKind(purge.kind)] += 1
            if told_by:
                log.info("%s by %s, heard from %s", purge, purge.issuer, told_by)
        if taken:
            self._unkept += taken
            self.on_applied()
        return refused

    def _expire(self) -> None:
        if self.book.expire(self._roster.swarm_time()):
            self._unkept += filter(None, [self.book.forgotten])

    def _take(self, purges: Iterable[Purge]) -> tuple[list[Purge], int]:
        taken, refused = [], 0
        for purge in purges:
            try:
                if self.book.take(purge, self._roster.swarm_time()):
                    taken.append(purge)
            except (RemoteError, BookFull) as error:
                log.error("%s by %s was not taken: %s", purge, purge.issuer, error)
                refused += 1
        return taken, refused

    async def _keep(self) -> None:
        """On disk, if there is one. A disk that fails is tried again with the next purge, or the next comparison."""
        if self._file is None:
            return
        async with self._keeping:
            purges, self._unkept = self._unkept, []
            try:
                await asyncio.to_thread(self._file.append, purges, self.book.kept())
                self.trouble = ""
            except OSError as error:
                self._unkept = purges + self._unkept
                self.trouble = error.strerror or str(error)
                log.error("purges cannot be kept on disk: %s", self.trouble)


class PurgeFile:
    """Purges as lines of JSON, each whole or not there. All of it blocks."""

    def __init__(self, path: FilePath) -> None:
        self._path = path
        self._lines = 0
        self._is_spoilt = True  # nobody knows yet how it ends

    def read(self) -> tuple[list[Purge], float | None]:
        """What it holds, and when it was last touched, by the wall clock (None: there is none). Empty if unreadable."""
        try:
            raw, written_at = self._path.read_bytes(), self._path.stat().st_mtime
        except FileNotFoundError:
            return [], None
        except OSError as error:
            log.error("purges cannot be read from %s: %s", self._path, error.strerror)
            return [], None
        purges = []
        for line in raw.splitlines():
            try:
                purges.append(msgspec.json.decode(line, type=Purge))
            except (msgspec.DecodeError, UnicodeDecodeError):
                log.warning("left a line out that is no purge: %.80r", line)  # torn when the edge was killed
        return purges, written_at

    def append(self, purges: Sequence[Purge], book: Sequence[Purge]) -> None:
        """Add some, or write all in force anew when most lines are superseded; touch it in any case. OSError."""
        if self._is_spoilt or self._lines > SPARE_LINES + 2 * len(book):
            partial = self._path.with_suffix(".new")
            partial.write_bytes(b"".join(map(_line, book)))
            partial.replace(self._path)
            self._lines, self._is_spoilt = len(book), False
            return
        self._is_spoilt = True  # until all is written: a torn end would spoil what is put behind it
        with self._path.open("ab") as out:
            out.write(b"".join(map(_line, purges)))
        self._path.touch()
        self._lines, self._is_spoilt = self._lines + len(purges), False


def _line(purge: Purge) -> bytes:
    return msgspec.json.encode(purge) + b"\n"
