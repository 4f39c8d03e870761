"""What does a path mean now? Asked of the path's first home, which alone asks the origin (DESIGN 4)."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from daemon.asking import Asker
from daemon.peer_auth import WrongSecret
from edge.disk import PointerRecord
from edge.fills import Fills
from edge.metrics import EdgeMetrics
from edge.origins import Origin
from edge.pointers import Known
from edge.roster import Roster
from edge.store import Store
from swarm.accounting import Cause, Reason, Role, Source
from swarm.errors import OriginUnreachable, RemoteError, Unreachable
from swarm.freshness import Lifetime, hls_default, lifetime
from swarm.ladder import ORIGIN, holder_rungs, pointer_rungs
from swarm.metainfo import Pointer, open_pointer
from swarm.names import Path
from swarm.placement import SMALL_BYTES
from swarm.purging import PurgeBook
from swarm.wire import Ask, Frame, PieceFrame, PointerFrame, RefusedFrame, UnchangedFrame, WaitFrame, Why

log = logging.getLogger(__name__)

CLOCK_SLACK_S = 3.0  # what clock offsets and queues may come to when ages are held against each other
UNSHARED_S = 60.0  # how long a path that HTTP forbids to share is remembered as such
MOST_UNSHARED = 10_000
PATIENCE_S = 1.0  # a stale answer that may stand in for an error is held back no longer than this
YOUNG_CLAIM_S = 600.0  # after the view changed, others may hold what this home does not know: look before fetching


class Unshared(Exception):
    """HTTP forbids to share what this path means: pass the request through."""


@dataclass(frozen=True)
class Resolved:
    """A pointer good enough to serve. `stale`: within grace, not fresh. `asked`: others were asked for it, and
    `first`: by this request, which no other had begun."""

    known: Known
    stale: bool = False
    asked: bool = False
    first: bool = False


class Resolver:
    """One question under way per path and role; whoever else asks joins it."""

    def __init__(
        self,
        store: Store,
        fills: Fills,
        roster: Roster,
        asker: Asker,
        origins: Mapping[str, Origin],
        metrics: EdgeMetrics,
        book: PurgeBook | None = None,
    ) -> None:
        self._store = store
        self._fills = fills
        self._roster = roster
        self._asker = asker
        self._origins = origins
        self._metrics = metrics
        self._book = PurgeBook() if book is None else book
        self._under_way: dict[tuple[str, bool], asyncio.Task[Known]] = {}
        self._unshared: dict[str, float] = {}

    # --- for viewers

    async def resolve(self, path: Path) -> Resolved:
        """OriginUnreachable if nobody knows and nothing stale may stand in; Unshared."""
        now = time.monotonic()
        if self._unshared.get(path.key, 0.0) > now:
            raise Unshared(path.target)
        known = self._known(path)
        if known is not None:
            age_s, life = known.age_s(now), lifetime_of(known.pointer)
            if age_s < known.pointer.ttl_s:
                return Resolved(known)
            if age_s < known.pointer.ttl_s + life.swr_s:
                _ = self._start(path, as_home=False)  # behind the viewer's back (RFC 5861 section 3)
                return Resolved(known, stale=True)
        first = (path.key, False) not in self._under_way
        before = known.made_at if known is not None else None
        try:
            found, is_answer = await self._patiently(path, as_home=False)
            is_news = found is not known or found.made_at != before
            return Resolved(found, asked=True, first=first) if is_answer and is_news else Resolved(found, stale=True)
        except OriginUnreachable:
            known = self._store.pointers.known(path)
            if known is None or not may_stand_in(known, time.monotonic()):
                raise
            return Resolved(known, stale=True)

    # --- for edges

    async def resolve_as_home(self, path: Path) -> Known:
        """Fresh, or as fresh as the origin's silence allows. OriginUnreachable, Unshared."""
        known = self._known(path)
        if known is not None and known.age_s(time.monotonic()) < known.pointer.ttl_s:
            return known
        if self._unshared.get(path.key, 0.0) > time.monotonic():
            raise Unshared(path.target)
        return (await self._patiently(path, as_home=True))[0]

    def _known(self, path: Path) -> Known | None:
        """What we know, unless it names a body of unstated length that broke off or is no longer here: that can only
        come behind a new answer."""
        known = self._store.pointers.known(path)
        if known is not None and known.pointer.size is None and (version := known.pointer.version) is not None:
            held = self._store.held(version)
            if held is None or (held.metainfo.piece_count is None and not held.filling):
                self._store.pointers.doubt(path, version)
                return None
        return known

    async def _patiently(self, path: Path, *, as_home: bool) -> tuple[Known, bool]:
        """What the question comes to (True); what we know already (False), if that may stand in and the answer takes
        long. The question goes on, but an origin that swallows packets must not hold viewers for as long as it is
        hoped for."""
        asking = self._start(path, as_home=as_home)
        known = self._store.pointers.known(path)
        if known is None or not may_stand_in(known, time.monotonic()):
            return await asyncio.shield(asking), True
        done, _ = await asyncio.wait((asking,), timeout=PATIENCE_S)
        return (asking.result(), True) if done else (known, False)

    def learn(self, path: Path, frame: PointerFrame) -> Known:
        """Take a pointer that came along with a question. RemoteError if it does not verify, is too old or purged."""
        known, said = self._learn(path, frame, self._origins[path.site])
        if self._is_purged(path, said):
            raise RemoteError("it was purged")
        return known

    def restore(self, path: Path, record: PointerRecord) -> None:
        """A pointer read back from disk, its age counted by the wall clock while we were away."""
        origin = self._origins.get(path.site)
        if origin is None or self._store.pointers.known(path) is not None:
            return
        age_ms = max(0, round((time.time() - record.made_at) * 1000))
        try:
            self._learn(path, PointerFrame(record.signed, age_ms, record.trust), origin)
        except RemoteError as error:
            log.warning("left a stored pointer of %s out: %s", path.target, error)

    def _start(self, path: Path, *, as_home: bool) -> "asyncio.Task[Known]":
        key = (path.key, as_home)
        task = self._under_way.get(key)
        if task is None:
            work = self._ask_as_home(path) if as_home else self._ask(path)
            task = self._under_way[key] = asyncio.create_task(work, name=f"resolve {path.target}")
            task.add_done_callback(lambda done: self._on_done(key, done))
        return task

    def _on_done(self, key: tuple[str, bool], task: "asyncio.Task[Known]") -> None:
        del self._under_way[key]
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, OriginUnreachable | Unshared):
            log.error("resolving %s failed", key[0], exc_info=error)

    # --- asking

    async def _ask(self, path: Path) -> Known:
        """Home after home, then what this edge would do as home."""
        roster = self._roster
        if not roster.standalone:
            lost = set(roster.unusable())
            steps = pointer_rungs(roster.ranked(path), roster.me, lost)
            known = await self._ask_edges(path, steps, lost)
            if known is not None:
                return known
        return await asyncio.shield(self._start(path, as_home=True))

    async def _ask_edges(self, path: Path, steps: list[tuple[str, Role]], lost: set[str]) -> Known | None:
        """The first edge that knows. Refusals may name others; each is asked once."""
        asked: set[str] = set()
        while steps:
            node, role = steps.pop(0)
            if node in asked or node == self._roster.me:
                continue
            asked.add(node)
            try:
                return await self._ask_edge(path, node, role, tuple(sorted(lost)))
            except _Refused as refused:
                if refused.why is Why.NOT_HOME:
                    steps[:0] = [(other, Role.HOME) for other in refused.named]
            except (Unreachable, WrongSecret) as error:
                log.warning("peer %s: %s", node, error)
                self._roster.health.on_unreachable(node, time.monotonic())
                lost.add(node)
            except RemoteError as error:
                self._fills.on_rejected(node, error)
                lost.add(node)
        return None

    async def _ask_edge(self, path: Path, node: str, role: Role, lost: tuple[str, ...]) -> Known:
        peer = self._roster.peer(node)
        if peer is None:
            raise Unreachable(f"{node} is not in the view")
        origin = self._origins[path.site]
        known = self._store.pointers.known(path)
        ask = Ask(
            site=path.site,
            path=path.target,
            inline_bytes=origin.inline_bytes,
            known_sequence=known.pointer.sequence if known else None,
            known_version=self._held_whole(known),
            role=role,
            lost=lost,
        )
        return await self._read(path, self._asker.ask(peer.address, ask), node, ask)

    async def _ask_as_home(self, path: Path) -> Known:
        """The origin; if it does not answer, a stale pointer of ours, or whoever else has one."""
        try:
            return await self._ask_origin(path)
        except OriginUnreachable as error:
            known = self._store.pointers.known(path)
            if known is not None and may_stand_in(known, time.monotonic()):
                return known
            found = await self._ask_holders(path)
            if found is None:
                raise
            log.info("%s: the origin does not answer (%s); going on with a peer's copy", path.target, error)
            return found

    async def _ask_holders(self, path: Path) -> Known | None:
        if self._roster.standalone:
            return None
        lost = set(self._roster.unusable())
        steps = holder_rungs(self._roster.ranked(path), self._roster.me, lost)
        found = await self._ask_edges(path, steps, lost)
        if found is not None:
            found = self._store.pointers.known(path)  # stale or gone, if it was purged
        return found if found is not None and may_stand_in(found, time.monotonic()) else None

    async def _ask_origin(self, path: Path) -> Known:
        """Again, if what it answers was purged while it was asked."""
        while True:
            generation = self._book.generation
            try:
                return await self._ask_origin_once(path, self._book.newest)
            except _Refused:
                if generation == self._book.generation:  # it does not number so high: its clock is hours behind
                    return await self._ask_origin_once(path, 0)

    async def _ask_origin_once(self, path: Path, above: int) -> Known:
        """`above`: what it answers is numbered higher, so that no purge in force now covers it anywhere."""
        origin = self._origins[path.site]
        known = self._store.pointers.known(path)
        reason = self._reason(path, known)
        ask = Ask(
            site=path.site,
            path=path.target,
            inline_bytes=self._inline_bytes(path, origin, known),
            known_sequence=max(known.pointer.sequence if known else 0, above) or None,
            known_version=self._held_whole(known),
            pointer=PointerFrame(known.signed, 0, known.trust) if known else None,
            reason=reason,
        )
        self._metrics.origin_requests[reason] += 1
        return await self._read(path, origin.ask(ask), ORIGIN, ask)

    def _held_whole(self, known: Known | None) -> bytes | None:
        """The version whose body need not come again."""
        held = self._store.held(known.pointer.version) if known is not None and known.pointer.version else None
        return held.version if held is not None and held.complete else None

    def _reason(self, path: Path, known: Known | None) -> Reason:
        if self._roster.standalone:
            return Reason.STANDALONE
        if path.url_path.endswith(".m3u8"):
            return Reason.PLAYLIST
        return Reason.REVALIDATE if known is not None else Reason.FIRST_COPY

    def _inline_bytes(self, path: Path, origin: Origin, known: Known | None) -> int:
        """Small bodies come behind their pointer, unless another edge may have the body: then look there first."""
        if path.url_path.endswith(".m3u8") or origin.trust != "signed" or self._roster.standalone:
            return origin.inline_bytes
        young = self._roster.swarm_time() - self._roster.claim_at < YOUNG_CLAIM_S
        return 0 if young and len(self._roster.view.peers) > 1 else origin.inline_bytes

    # --- answers

    async def _read(self, path: Path, frames: AsyncGenerator[Frame, None], node: str, ask: Ask) -> Known:
        """The pointer at the head of an answer; a body that follows is handed to its fill."""
        began = time.monotonic()
        adopted, generation = False, self._book.generation
        try:
            async for frame in frames:
                match frame:
                    case WaitFrame():
                        continue
                    case PointerFrame():
                        known, said = self._learn(path, frame, self._origins[path.site])
                        self._judge(known, node, ask, generation)
                        # A sender may be behind what we know: then what follows is another version's body.
                        is_ours = said.version == known.pointer.version
                        adopted = is_ours and self._adopt(path, known, frames, node, ask, began)
                        if not adopted:
                            await self._read_rest(frames, node, ask)
                        return known
                    case UnchangedFrame(age_ms):
                        known = self._confirm(path, age_ms, node, ask, generation)
                        await self._read_rest(frames, node, ask)
                        return known
                    case RefusedFrame():
                        self._on_refused(path, node, frame)
                    case _:
                        raise RemoteError("an answer that does not begin with a pointer", Cause.UNEXPECTED)
            raise RemoteError("an answer without a pointer", Cause.TRUNCATED)
        except RemoteError as error:
            if node != ORIGIN:
                raise
            raise OriginUnreachable(f"origin's answer does not hold together: {error}") from error
        finally:
            if not adopted:
                await frames.aclose()

    async def _read_rest(self, frames: AsyncGenerator[Frame, None], node: str, ask: Ask) -> None:
        """END, as a rule; at most a small body that came from elsewhere meanwhile. Read, so that the connection serves
        again and every byte is counted where the sender counts it. A foreign origin's may be long: that is cut off."""
        if ask.inline_bytes > SMALL_BYTES:
            return
        try:
            async for frame in frames:
                if isinstance(frame, PieceFrame):
                    self._metrics.fetched_bytes[Source.ORIGIN if node == ORIGIN else Source.PEER] += len(frame.data)
                    if node == ORIGIN and ask.reason is not None:
                        self._metrics.origin_bytes[ask.reason] += len(frame.data)
        except (Unreachable, RemoteError, OriginUnreachable) as error:
            log.info("%s: an answer broke off behind its pointer, which stands: %s", ask.path, error)

    def _on_refused(self, path: Path, node: str, frame: RefusedFrame) -> None:
        if frame.why is Why.UNSHARED:
            if len(self._unshared) >= MOST_UNSHARED:
                self._unshared.clear()
            self._unshared[path.key] = time.monotonic() + UNSHARED_S
            raise Unshared(path.target)
        if node == ORIGIN:
            raise OriginUnreachable(f"origin refused: {frame.why} {frame.detail}".rstrip())
        raise _Refused(frame.why, frame.holders)

    def _learn(self, path: Path, frame: PointerFrame, origin: Origin) -> tuple[Known, Pointer]:
        """Verify a pointer and let it stand unless what stands is newer. What stands and what was said; RemoteError."""
        if frame.trust != origin.trust:
            raise RemoteError(f"pointer of trust {frame.trust} where {origin.trust} is required", Cause.SIGNATURE)
        pointer = open_pointer(frame.signed, origin.check)
        if (pointer.site, pointer.path) != (path.site, path.target):
            raise RemoteError(f"pointer of {pointer.path} for {path.target}", Cause.UNEXPECTED)
        self._book.on_seen(path.site, pointer.sequence)
        now = time.monotonic()
        known = Known(path, pointer, frame.signed, frame.trust, now - self._age_s(pointer, frame.age_ms))
        standing = self._store.pointers.known(path)
        if standing is not None and standing.pointer.sequence >= pointer.sequence:
            if standing.pointer.sequence == pointer.sequence and known.made_at > standing.made_at:
                standing.made_at = known.made_at
            return standing, pointer
        self._store.learn(known, time.time(), now)
        return known, pointer

    def _age_s(self, pointer: Pointer, age_ms: int) -> float:
        """How old a pointer is. A sender may understate that; it cannot unsign when the pointer was made."""
        by_signature_s = self._roster.swarm_time() - pointer.made - CLOCK_SLACK_S
        return max(0.0, age_ms / 1000, by_signature_s if self._roster.offset_s is not None else 0.0)

    def _is_purged(self, path: Path, pointer: Pointer) -> bool:
        return self._book.judge(path, pointer.sequence, pointer.headers) is not None

    def _judge(self, known: Known, node: str, ask: Ask, generation: int) -> None:
        """_Refused if it was purged. What the origin says after every purge is good, however it numbers it; a mere
        holder is asked for what may stand in, and a soft purge leaves that."""
        if node == ORIGIN and generation == self._book.generation:
            known.judged = generation
        elif (node == ORIGIN or ask.role is not Role.HOLDER) and self._is_purged(known.path, known.pointer):
            raise _Refused(Why.NOT_HELD, ())

    def _confirm(self, path: Path, age_ms: int, node: str, ask: Ask, generation: int) -> Known:
        """The pointer we have is the current one; its age is what the sender says."""
        known = self._store.pointers.known(path)
        if known is None:
            if node == ORIGIN and ask.pointer is None and ask.known_sequence is not None:
                raise _Refused(Why.NOT_HELD, ())  # only a number was told it, and it does not number so high
            raise RemoteError("unchanged, but from what?", Cause.UNEXPECTED)
        self._judge(known, node, ask, generation)
        known.made_at = max(known.made_at, time.monotonic() - self._age_s(known.pointer, age_ms))
        return known

    def _adopt(
        self, path: Path, known: Known, frames: AsyncGenerator[Frame, None], node: str, ask: Ask, began: float
    ) -> bool:
        """Whether the body follows its pointer; if so its fill reads on."""
        pointer = known.pointer
        if pointer.version is None or pointer.version == ask.known_version:
            return False
        if pointer.size is not None and pointer.size > ask.inline_bytes:
            return False
        held = self._store.hold(path, pointer, known.trust)
        if held.complete:
            return False
        self._fills.join(held, known).adopt(frames, node, ask.reason, began)
        return True

    async def close(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Refused(Exception):
    def __init__(self, why: Why, named: tuple[str, ...]) -> None:
        super().__init__(why)
        self.why = why
        self.named = named


def lifetime_of(pointer: Pointer) -> Lifetime:
    """The grace its headers grant, or the profile's where they are silent; `ttl` is the pointer's own."""
    life = lifetime(pointer.status, pointer.headers, received_at=pointer.made)
    if life.explicit:
        return life
    return hls_default(pointer.path.partition("?")[0], pointer.status) or life


def may_stand_in(known: Known, now: float) -> bool:
    """Whether a pointer past its lifetime may be served because nobody can renew it (RFC 5861 section 4)."""
    return known.age_s(now) < known.pointer.ttl_s + lifetime_of(known.pointer).sie_s
