"""What does a path mean now? Asked of the path's first home, which alone asks the origin (DESIGN 4)."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
import msgspec

from daemon.asking import Asker
from daemon.peer_auth import WrongSecret
from edge.disk import PointerRecord
from edge.fills import Fills
from edge.metrics import EdgeMetrics
from edge.origins import Origin
from edge.plain_origin import NotShared, PlainOrigin, is_watched_together
from edge.pointers import Known
from edge.roster import Roster
from edge.store import Store
from swarm.accounting import Cause, Reason, Role, Source
from swarm.cache_status import Forwarded
from swarm.errors import OriginUnreachable, RemoteError, Unreachable
from swarm.headers import Headers
from swarm.headers import first as first_of
from swarm.ladder import HOMES_TRIED, ORIGIN, holder_rungs, pointer_rungs
from swarm.metainfo import Pointer, open_pointer
from swarm.names import Path
from swarm.placement import SMALL_BYTES
from swarm.purging import Purge, PurgeBook
from swarm.reuse import Fields, agrees, for_the_whole, suits
from swarm.wire import Ask, Frame, PieceFrame, PointerFrame, RefusedFrame, UnchangedFrame, WaitFrame, Why

log = logging.getLogger(__name__)

CLOCK_SLACK_S = 3.0  # what clock offsets and queues may come to when ages are held against each other
UNSHARED_S = 60.0  # how long a path that HTTP forbids to share is remembered as such
MOST_UNSHARED = 10_000
MOST_JOINS = 3  # questions that turned out to be about other variants; then this request asks for itself
PATIENCE_S = 1.0  # a stale answer that may stand in for an error is held back no longer than this
TOGETHER_S = 0.5  # edges that ask within so long of each other about a large object ask one question
YOUNG_CLAIM_S = 600.0  # after the view changed, others may hold what this home does not know: look before fetching


Key = tuple[object, ...]  # of a question: its path's key first


class Unshared(Exception):
    """HTTP forbids to share what this path means. `answer`: the origin's to this very request, its body still to be
    read; whoever catches it closes that. None: ask the origin for this request alone. `lasting`: not a mere error."""

    def __init__(self, target: str, answer: aiohttp.ClientResponse | None = None, *, lasting: bool = True) -> None:
        super().__init__(target)
        self.answer = answer
        self.lasting = lasting


class Question:
    """One question under way. An answer that is for one viewer alone goes to whoever began the question, or to nobody:
    it was made for that viewer's request."""

    def __init__(self, path: Path, work: Coroutine[None, None, Known]) -> None:
        self.path = path
        self.task = asyncio.create_task(work, name=f"resolve {path.target}")
        self._is_awaited = True  # by whoever began it
        self.task.add_done_callback(self._on_done)

    def __repr__(self) -> str:
        return f"<Question {self.path.target}>"

    async def result(self, *, mine: bool, within_s: float | None = None) -> Known | None:
        """The answer, None if it takes longer. `mine`: by whoever began it. Raises what it came to instead."""
        try:
            done, _ = await asyncio.wait((self.task,), timeout=within_s)
        except asyncio.CancelledError:
            if mine:
                self.leave()
            raise
        if not done:
            if mine:
                self.leave()
            return None
        try:
            return self.task.result()
        except Unshared as unshared:
            if mine:
                raise
            raise Unshared(self.path.target, lasting=unshared.lasting) from None

    def leave(self) -> None:
        """Whoever began it does not wait any more."""
        self._is_awaited = False
        if self.task.done():
            self._on_done(self.task)

    def _on_done(self, task: "asyncio.Task[Known]") -> None:
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, Unshared):
            if not self._is_awaited and error.answer is not None:
                error.answer.close()
        elif error is not None and not isinstance(error, OriginUnreachable):
            log.error("resolving %s failed", self.path.target, exc_info=error)


@dataclass(frozen=True)
class Resolved:
    """A pointer good enough to serve. `stale`: within grace, not fresh. `asked`: others were asked for it, and
    `first`: by this request, which no other had begun; `why` they were."""

    known: Known
    stale: bool = False
    asked: bool = False
    first: bool = False
    why: Forwarded = Forwarded.STALE


class Resolver:
    """One question under way per path, role and likely variant; whoever else asks joins it."""

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
        self._under_way: dict[Key, Question] = {}
        self._outdated: set[asyncio.Task[Known]] = set()  # what they find out may be of before a change we know of
        self._unshared: dict[str, float] = {}  # paths whose answers are for one viewer each, and until when

    # --- for viewers

    async def resolve(self, path: Path, fields: Fields = ()) -> Resolved:
        """What the path means to a request with these (end-to-end) fields.

        OriginUnreachable if nobody knows and nothing stale may stand in; Unshared, with the answer if there is one.
        """
        await self._store.recall(path)
        known = self._known(path, fields)
        if known is not None:
            age_s = known.age_s(time.monotonic())
            if age_s < known.pointer.ttl_s:
                return Resolved(known)
            if age_s < known.pointer.ttl_s + known.life.swr_s:
                self._renew(path, fields)  # behind the viewer's back (RFC 5861 section 3)
                return Resolved(known, stale=True)
        promoted = False
        for _ in range(MOST_JOINS):
            if self._goes_alone(path, fields):
                break
            question, first = self._join(path, for_the_whole(fields))
            try:
                resolved = await self._together(question, fields, known, first=first)
            except OriginUnreachable as error:
                # One of those who waited tries again for all of them: it may have been a connection, not the origin.
                if first or promoted or error.timed_out or self._origins[path.site].trust == "signed":
                    raise
                promoted = True
                continue
            except Unshared as unshared:
                if unshared.answer is not None or self._origins[path.site].trust == "signed":
                    raise
                break
            if resolved is not None:
                return resolved
        return await self._alone(path, fields, known)

    def find(self, path: Path, fields: Fields) -> Resolved | None:
        """What may be served without asking anybody."""
        known = self._known(path, fields)
        if known is None:
            return None
        age_s = known.age_s(time.monotonic())
        if age_s < known.pointer.ttl_s + known.life.swr_s:
            return Resolved(known, stale=age_s >= known.pointer.ttl_s)
        return None

    def _renew(self, path: Path, fields: Fields) -> None:
        question, first = self._join(path, for_the_whole(fields))
        if first:
            question.leave()

    async def _together(
        self, question: Question, fields: Fields, known: Known | None, *, first: bool
    ) -> Resolved | None:
        """The answer that all who ask meanwhile share; None if this request selects another variant than it. Unshared
        without an answer: it is for whoever asked first."""
        path = question.path
        why = self._why(path, known)
        before = known.made_at if known is not None else None
        stands_in = known is not None and known.may_stand_in(time.monotonic())
        try:
            # An origin that swallows packets must not hold viewers for as long as it is hoped for.
            found = await question.result(mine=first, within_s=PATIENCE_S if stands_in else None)
        except OriginUnreachable:
            found = known = self._stand_in(path, fields)
            if known is None:
                raise
            before = known.made_at
        if found is None:
            assert known is not None
            return Resolved(known, stale=True)
        if not first and not self._suits(found, fields):
            return None
        if not first and not self._may_share(found):
            raise Unshared(path.target)
        is_news = found is not known or found.made_at != before
        if not is_news:
            return Resolved(found, stale=True)
        return Resolved(found, asked=True, first=first, why=why)

    async def _alone(self, path: Path, fields: Fields, known: Known | None) -> Resolved:
        """The origin, asked for this request and no other."""
        if self._origins[path.site].trust == "signed":
            raise Unshared(path.target)
        why = self._why(path, known)
        question = self._begin((path.key, object()), path, self._ask_as_home(path, fields))
        before = known.made_at if known is not None else None
        found = await question.result(mine=True)
        assert found is not None
        is_news = found is not known or found.made_at != before
        if not is_news:
            return Resolved(found, stale=True)
        return Resolved(found, asked=True, first=True, why=why)

    def _why(self, path: Path, known: Known | None) -> Forwarded:
        if known is not None:
            return Forwarded.STALE
        return Forwarded.VARY_MISS if self._store.pointers.newest(path) else Forwarded.URI_MISS

    def _goes_alone(self, path: Path, fields: Fields) -> bool:
        """Whether waiting for what others asked would be in vain."""
        if self._unshared.get(path.key, 0.0) > time.monotonic():
            return True
        return self._origins[path.site].trust != "signed" and first_of(fields, "Authorization") is not None

    def _may_share(self, found: Known) -> bool:
        """Whether an answer is for all who waited for it: what is stale when it comes was meant for one request, and is
        the next one's only where everybody watches the same."""
        if found.trust == "signed" or is_watched_together(found.path) or self._is_of_one_question(found):
            return True
        return found.age_s(time.monotonic()) < found.pointer.ttl_s + found.life.swr_s

    def _suits(self, found: Known, fields: Fields) -> bool:
        return suits(found.pointer.variant, fields, found.pointer.header("content-language"))

    def _stand_in(self, path: Path, fields: Fields) -> Known | None:
        known = self._store.pointers.known(path, fields)
        return known if known is not None and known.may_stand_in(time.monotonic()) else None

    # --- what viewers change

    async def invalidate(self, path: Path) -> None:
        """Whatever is stored of a path, or on its way here, may be of before a change (RFC 9111 section 4.4)."""
        await self._store.recall(path)
        self._store.invalidate(path)
        for key in [key for key in self._under_way if key[0] == path.key]:
            self._outdated.add(self._under_way.pop(key).task)

    def on_head(self, path: Path, fields: Fields, status: int, headers: Headers, asked_at: float) -> None:
        """The origin answered a HEAD: what is stored is renewed by it, or found to be of before a change (RFC 9111
        section 4.3.5). What came since the HEAD was asked, at `asked_at`, may be newer than its answer."""
        known, origin = self._store.pointers.known(path, fields), self._origins[path.site]
        if known is None or known.made_at > asked_at or not isinstance(origin, PlainOrigin):
            return
        if status == known.pointer.status and agrees(known.pointer.headers, known.pointer.size, headers):
            frame = origin.refreshed(path, fields, known.pointer, headers)
            if frame is not None:
                self._learn(path, frame, origin)
        elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self._store.pointers.doubt(path, known.pointer.version)

    # --- for edges

    async def resolve_as_home(self, path: Path, fields: Fields = (), role: Role = Role.HOME) -> Known:
        """Fresh, or as fresh as the origin's silence allows. OriginUnreachable, Unshared."""
        await self._store.recall(path)
        known = self._known(path, fields)
        if known is not None and known.age_s(time.monotonic()) < known.pointer.ttl_s:
            return known
        if known is not None and self._is_of_one_question(known):
            return known
        origin = self._origins[path.site]
        if isinstance(origin, PlainOrigin) and origin.has_seen(fields):
            raise OriginUnreachable(f"the origin leads back to the swarm: {path.target}")
        if self._goes_alone(path, fields):
            raise Unshared(path.target)
        question, first = self._join(path, for_the_whole(fields), role)
        if first:
            question.leave()  # an answer for its viewer alone cannot be passed on: that one's edge asks for it
        stands_in = known is not None and known.may_stand_in(time.monotonic())
        found = await question.result(mine=False, within_s=PATIENCE_S if stands_in else None)
        if found is None:
            assert known is not None
            return known
        if not self._suits(found, fields) or not (first or self._may_share(found)):
            raise Unshared(path.target)
        return found

    def _is_of_one_question(self, known: Known) -> bool:
        """All homes of a large object ask at once for what was just found out for the first of them: one request to
        the origin answers them, where it says nothing of a lifetime (RFC 9111 section 4)."""
        is_new = known.age_s(time.monotonic()) < TOGETHER_S
        return is_new and not known.life.explicit and self._in_runs(known)

    def _known(self, path: Path, fields: Fields) -> Known | None:
        """What we know, unless it names a body of unstated length that broke off or is no longer here: that can only
        come behind a new answer."""
        known = self._store.pointers.known(path, fields)
        if known is not None and known.pointer.size is None and (version := known.pointer.version) is not None:
            held = self._store.held(version)
            if held is None or (held.metainfo.piece_count is None and not held.filling):
                self._store.pointers.doubt(path, version)
                return None
        return known

    def learn(self, path: Path, frame: PointerFrame) -> Known:
        """Take a pointer that came along with a question. RemoteError if it does not verify, is too old or purged."""
        known, said = self._learn(path, frame, self._origins[path.site])
        if self._purge_of(path, said) is not None:
            raise RemoteError("it was purged")
        return known

    def restore(self, path: Path, record: PointerRecord) -> None:
        """A pointer read back from disk, its age counted by the wall clock while we were away."""
        origin = self._origins.get(path.site)
        if origin is None:
            return
        age_ms = max(0, round((time.time() - record.made_at) * 1000))
        try:
            self._learn(path, PointerFrame(record.signed, age_ms, record.trust), origin)
        except RemoteError as error:
            log.warning("left a stored pointer of %s out: %s", path.target, error)

    def _join(self, path: Path, fields: Fields, role: Role | None = None) -> tuple[Question, bool]:
        """The question under way, or a new one (True); `role`: as which home we answer, None for our own viewers."""
        key = (path.key, role, self._store.pointers.likely_variant(path, fields))
        question = self._under_way.get(key)
        if question is not None:
            return question, False
        work = self._ask_as_home(path, fields) if role is Role.HOME else self._ask(path, fields, role)
        return self._begin(key, path, work), True

    def _begin(self, key: Key, path: Path, work: Coroutine[None, None, Known]) -> Question:
        question = self._under_way[key] = Question(path, work)
        question.task.add_done_callback(lambda _: self._on_done(key, question))
        return question

    def _on_done(self, key: Key, question: Question) -> None:
        if self._under_way.get(key) is question:
            del self._under_way[key]
        self._outdated.discard(question.task)

    # --- asking

    async def _ask(self, path: Path, fields: Fields, role: Role | None) -> Known:
        """Home after home, then what this edge would do as home: the homes of our zone, unless we ask for it (`role`);
        then those of the path's first zone."""
        roster = self._roster
        of = roster.role(path) if role is None else Role.HOME
        if not roster.standalone:
            lost = set(roster.unusable())
            steps = pointer_rungs(roster.ranked(path, of), roster.me, lost, of)
            known = await self._ask_edges(path, fields, steps, lost)
            if known is not None:
                return known
        question, first = self._join(path, fields, of)
        stands_in = self._stand_in(path, fields)
        found = await question.result(mine=first, within_s=PATIENCE_S if stands_in is not None else None)
        if found is None:
            assert stands_in is not None
            return stands_in
        if not first and not (self._suits(found, fields) and self._may_share(found)):
            raise Unshared(path.target)
        return found

    async def _ask_edges(
        self, path: Path, fields: Fields, steps: list[tuple[str, Role]], lost: set[str]
    ) -> Known | None:
        """The first edge that knows. Refusals may name others; each is asked once. That a pointer past its lifetime is
        the best there is, for the origin does not answer, is not believed of one edge alone: it may be replayed."""
        asked: set[str] = set()
        late = 0
        while steps:
            node, role = steps.pop(0)
            if node in asked or node == self._roster.me:
                continue
            asked.add(node)
            try:
                known = await self._ask_edge(path, fields, node, role, tuple(sorted(lost)))
                late += self._is_late(known)
                if role is Role.HOLDER or not self._is_late(known) or late >= HOMES_TRIED:
                    return known
                lost.add(node)
            except _Refused as refused:
                if refused.why is Why.NOT_HOME:
                    steps[:0] = [(other, role) for other in refused.named]
            except (Unreachable, WrongSecret) as error:
                log.warning("peer %s: %s", node, error)
                self._roster.health.on_unreachable(node, time.monotonic())
                lost.add(node)
            except RemoteError as error:
                self._fills.on_rejected(node, error)
                lost.add(node)
        return None

    def _is_late(self, known: Known) -> bool:
        """Whether an edge that asked the origin, as homes do, would have brought something newer."""
        return known.age_s(time.monotonic()) >= known.pointer.ttl_s + CLOCK_SLACK_S

    async def _ask_edge(self, path: Path, fields: Fields, node: str, role: Role, lost: tuple[str, ...]) -> Known:
        peer = self._roster.peer(node)
        if peer is None:
            raise Unreachable(f"{node} is not in the view")
        origin = self._origins[path.site]
        known = self._store.pointers.known(path, fields)
        ask = Ask(
            site=path.site,
            path=path.target,
            fields=fields,
            inline_bytes=origin.inline_bytes,
            known_sequence=known.pointer.sequence if known else None,
            known_version=self._held_whole(known),
            role=role,
            lost=lost,
        )
        try:
            return await self._read(path, self._asker.ask(peer.address, ask), node, ask)
        except _Purged as purged:  # it has not heard of that yet: now it has
            ask = msgspec.structs.replace(ask, purges=(purged.by,))
            return await self._read(path, self._asker.ask(peer.address, ask), node, ask)

    async def _ask_as_home(self, path: Path, fields: Fields) -> Known:
        """The origin; if it does not answer, a stale pointer of ours, or whoever else has one."""
        try:
            return await self._ask_origin(path, fields)
        except OriginUnreachable as error:
            known = self._stand_in(path, fields)
            if known is not None:
                return known
            found = await self._ask_holders(path, fields)
            if found is None:
                raise
            log.info("%s: the origin does not answer (%s); going on with a peer's copy", path.target, error)
            return found

    async def _ask_holders(self, path: Path, fields: Fields) -> Known | None:
        if self._roster.standalone:
            return None
        lost = set(self._roster.unusable())
        steps = holder_rungs(self._roster.ranked(path), self._roster.me, lost)
        await self._ask_edges(path, fields, steps, lost)
        return self._stand_in(path, fields)  # stale or gone, if it was purged

    async def _ask_origin(self, path: Path, fields: Fields) -> Known:
        """Again, if what it answers was purged while it was asked."""
        while True:
            generation = self._book.generation
            try:
                return await self._ask_origin_once(path, fields, self._book.newest)
            except _Refused:
                if generation == self._book.generation:  # it does not number so high: its clock is hours behind
                    return await self._ask_origin_once(path, fields, 0)

    async def _ask_origin_once(self, path: Path, fields: Fields, above: int) -> Known:
        """`above`: what it answers is numbered higher, so that no purge in force now covers it anywhere."""
        origin = self._origins[path.site]
        known = self._store.pointers.known(path, fields)
        reason = self._reason(path, known)
        ask = Ask(
            site=path.site,
            path=path.target,
            fields=fields,
            inline_bytes=self._inline_bytes(path, origin, known),
            known_sequence=max(known.pointer.sequence if known else 0, above) or None,
            known_version=self._held_whole(known),
            pointer=PointerFrame(known.signed, 0, known.trust) if known else None,
            reason=reason,
        )
        self._metrics.origin_requests[reason] += 1
        # What comes run by run, each asked for by its validator, need not be whole to be found good still.
        standing = self._store.pointers.all(path)
        stored = [one.pointer for one in standing if self._held_whole(one) or self._in_runs(one)]
        frames = origin.ask(ask, stored, errors_are_silence=self._stand_in(path, fields) is not None)
        try:
            found = await self._read(path, frames, ORIGIN, ask)
        except NotShared as error:
            self._on_not_shared(path, fields, error.answer.status, known)
            lasting = error.answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
            raise Unshared(path.target, error.answer, lasting=lasting) from None
        if self._may_share(found):
            self._unshared.pop(path.key, None)
        else:
            self._remember_unshared(path)
        return found

    def _on_not_shared(self, path: Path, fields: Fields, status: int, known: Known | None) -> None:
        """An answer to who showed credentials says nothing of others, nor does an error last."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or first_of(fields, "Authorization") is not None:
            return
        self._remember_unshared(path)
        if known is not None and fields == for_the_whole(fields):
            self._store.pointers.doubt(path, known.pointer.version)  # the path means something else now

    def _remember_unshared(self, path: Path) -> None:
        if len(self._unshared) >= MOST_UNSHARED:
            self._unshared.clear()
        self._unshared[path.key] = time.monotonic() + UNSHARED_S

    def _in_runs(self, known: Known) -> bool:
        return self._roster.dealing(known.path, known.pointer, known.trust).runs is not None

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
            self._remember_unshared(path)
            raise Unshared(path.target)
        if frame.why is Why.ERRED:
            raise Unshared(path.target, lasting=False)
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
        if asyncio.current_task() in self._outdated:
            known.standing = False  # for those who asked before the change, and nobody else
            return known, pointer
        standing = self._store.pointers.variant(path, pointer.variant)
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

    def _purge_of(self, path: Path, pointer: Pointer) -> Purge | None:
        return self._book.judge(path, pointer.sequence, pointer.headers)

    def _judge(self, known: Known, node: str, ask: Ask, generation: int) -> None:
        """_Purged if it was. What the origin says after every purge is good, however it numbers it; a mere
        holder is asked for what may stand in, and a soft purge leaves that."""
        if node == ORIGIN and generation == self._book.generation:
            known.judged = generation
        elif node == ORIGIN or ask.role is not Role.HOLDER:
            purge = self._purge_of(known.path, known.pointer)
            if purge is not None:
                raise _Purged(purge)

    def _confirm(self, path: Path, age_ms: int, node: str, ask: Ask, generation: int) -> Known:
        """The pointer we have is the current one; its age is what the sender says."""
        known = self._store.pointers.known(path, ask.fields)
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
        if self._in_runs(known) or (node != ORIGIN and self._fills.is_contested(pointer.version)):
            return False
        held = self._store.hold(path, pointer, known.trust)
        if held.complete:
            return False
        self._fills.adopt(held, known, frames, node, ask.reason, began)
        return True

    async def close(self) -> None:
        questions = list(self._under_way.values())
        for question in questions:
            question.leave()
            question.task.cancel()
        await asyncio.gather(*(question.task for question in questions), return_exceptions=True)


class _Refused(Exception):
    def __init__(self, why: Why, named: tuple[str, ...]) -> None:
        super().__init__(why)
        self.why = why
        self.named = named


class _Purged(_Refused):
    """What was answered was purged before."""

    def __init__(self, by: Purge) -> None:
        super().__init__(Why.NOT_HELD, ())
        self.by = by
