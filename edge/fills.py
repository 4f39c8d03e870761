"""Fills: getting a version into this edge's cache. One a version, owned by the cache; performs `swarm.ladder`'s plans.

Three plans, three kinds of waiters: the viewers' (any edge, then the origin), the duty of a zone's home (homes of
another zone), and the duty of a home (holders that answer at once, then the origin); for these two other edges wait.
Whatever lands serves all. Verify, then store, then tell.
"""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping

from daemon.asking import Asker
from daemon.peer_auth import WrongSecret
from edge.hearing import Hearings
from edge.held import EVERYTHING, Awaits, Held
from edge.live import LiveStreams
from edge.metrics import EdgeMetrics
from edge.origins import Origin
from edge.pointers import Known
from edge.roster import Roster
from edge.store import Store
from edge.windows import Windows
from swarm import pieces
from swarm.accounting import Cause, Reason, Role, Source
from swarm.errors import OriginUnreachable, RemoteError, Unreachable
from swarm.evidence import Heard, SentWrong
from swarm.ladder import (
    ORIGIN,
    AskEdge,
    AskOrigin,
    FetchAsHome,
    GiveUp,
    Order,
    Plan,
    home_rungs,
    viewer_rungs,
    zone_rungs,
)
from swarm.metainfo import CheckSignature, RecordsDiffer, open_page
from swarm.metering import Meter
from swarm.placement import Dealing, Edge
from swarm.wire import Ask, Frame, PageFrame, PieceFrame, PointerFrame, RefusedFrame, SentFrame, Why

log = logging.getLogger(__name__)

SETTLE_S = 5.0  # whoever waited for a fill has seen its end by then
RECENT_PLANS = 100
SEGMENTS = (".m4s", ".ts", ".mp4", ".cmfv", ".cmfa", ".aac", ".m4a", ".vtt")  # the names that media segments bear
MOST_NOTES = 50  # orders remembered of one fill
MOST_CONTESTED = 10_000
ORIGIN_ATTEMPTS = 3  # an origin that broke off in the middle of a body is asked for the rest


class VersionGone(Exception):
    """The origin no longer has this version: ask again what the path means."""


class Fill:
    """One version under way."""

    def __init__(self, fills: "Fills", held: Held, known: Known) -> None:
        self._fills = fills
        self._is_void = False
        self.held = held
        self.known = known
        self.began_at = time.monotonic()
        roster = fills.roster
        is_contested = fills.is_contested(held.version)
        alone = Dealing((Edge(roster.me),))  # what differing records are told of is taken from the origin
        self.dealing = alone if is_contested else roster.dealing(held.path, known.pointer, held.trust)
        previous = roster.previous_dealing(held.path, known.pointer, held.trust)
        lost = roster.unusable()
        otherwise = Reason.VERIFY_FAILED if is_contested else self._default_reason(roster, previous)
        role = Role.HOME if is_contested else roster.role(held.path)
        near = self._near = alone if is_contested else roster.dealing(held.path, known.pointer, held.trust, role)
        check_holders = not is_contested and roster.claim_is_newer_than(held.born)
        ranked_near = alone.homes if is_contested else roster.ranked(held.path, role)
        self.viewers = Plan(roster.me, viewer_rungs(near, ranked_near, role), lost)
        before = roster.previous_dealing(held.path, known.pointer, held.trust, role)
        ranked = roster.ranked(held.path)
        across = zone_rungs(near.homes, before, self.dealing, ranked, check_holders=check_holders)
        self.zone = Plan(roster.me, across, lost)
        self.duty = Plan(
            roster.me,
            home_rungs(
                roster.ranked(held.path),
                previous,
                check_holders=check_holders,
                otherwise=otherwise,
            ),
            lost,
        )
        self._origin_under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.failure: Exception | None = None
        self.asked: list[str] = []  # every order, as it was given

    def __repr__(self) -> str:
        return f"<Fill {self.held!r} viewers: {self.viewers!r} duty: {self.duty!r}>"

    def _default_reason(self, roster: Roster, previous: Dealing) -> Reason:
        if roster.standalone:
            return Reason.STANDALONE
        if self.held.path.url_path.endswith(".m3u8"):
            return Reason.PLAYLIST
        moved = previous.homes and previous.homes != self.dealing.homes and roster.claim_is_newer_than(self.held.born)
        return Reason.REHOMED if moved else Reason.FIRST_COPY

    @property
    def idle(self) -> bool:
        return not self._tasks

    @property
    def from_origin(self) -> int:
        """Pieces on their way here from the origin: joining them closes no circle."""
        return self._origin_under_way & ~self.held.have

    # --- what is asked of a fill

    def want(self, want: int) -> None:
        """A viewer needs these pieces."""
        self._want(self.viewers, want, None)

    def want_as_home(self, want: int, lost: tuple[str, ...] = (), role: Role = Role.HOME) -> None:
        """Another edge asked this one as their home, or, those edges being lost to it, in their home's place."""
        plan, dealing = (self.zone, self._near) if role is Role.ZONE_HOME else (self.duty, self.dealing)
        me = plan.me
        plan.lost.update(node for node in lost if node != me)
        want &= ~self.held.have
        mine = pieces.of(piece for piece in pieces.each(want) if dealing.home_of(piece) == me) if lost else want
        self._want(plan, mine, None)
        self._want(plan, want & ~mine, Reason.HOME_LOST)

    def _want(self, plan: Plan, want: int, reason: Reason | None) -> None:
        """Pieces that our own disk gave back wrong are wanted for that reason, whoever waits for them."""
        want &= ~self.held.have
        rotten = want & self.held.rotten
        self._perform(plan, plan.on_wanted(rotten, Reason.ROT))
        self._perform(plan, plan.on_wanted(want & ~rotten, reason))

    def adopt(self, frames: AsyncGenerator[Frame, None], node: str, reason: Reason | None, began: float) -> None:
        """Pieces follow on a stream that was opened for the pointer; `node` is ORIGIN or an edge."""
        is_open = self.held.metainfo.piece_count is None
        want = self.held.all_pieces & ~self.held.have
        self.viewers.on_expected(node, want)
        if node == ORIGIN:
            self._origin_under_way |= want
            self.zone.on_expected(node, want)
            self.duty.on_expected(node, want)
            self._start(self._take_adopted_from_origin(frames, want, reason or Reason.FIRST_COPY, began))
            return
        plan = self.viewers
        if self._near.homes != self.dealing.homes and any(edge.node == node for edge in self.dealing.homes):
            plan = self.zone  # asked across zones: on behalf of this one
            self.zone.on_expected(node, want)
            self.viewers.on_expected(ORIGIN, want)
        self._start(self._take_adopted_from_edge(plan, frames, node, EVERYTHING if is_open else want, began))

    # --- orders

    def _perform(self, plan: Plan, orders: list[Order]) -> None:
        for order in orders:
            self._note(order)
            match order:
                case AskEdge():
                    self._start(self._ask_edge(plan, order))
                case FetchAsHome(want, reason, role):
                    duty = self.zone if role is Role.ZONE_HOME else self.duty
                    self._perform(duty, duty.on_wanted(want & ~self.held.have, reason))
                case AskOrigin(want, reason):
                    self._start(self._ask_origin(want, reason))
                case GiveUp(want):
                    self._give_up(plan, want)

    def _note(self, order: Order) -> None:
        if len(self.asked) < MOST_NOTES:
            self.asked.append(str(order))

    def void(self) -> None:
        """What is under way is of a record that is no good."""
        self._is_void = True
        self._fail(EVERYTHING, VersionGone(self.held.path.target))
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        if self._is_void:
            work.close()
            return
        task = asyncio.create_task(work, name=f"fill {self.held.path.target}")
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("fill of %s failed", self.held.path.target, exc_info=error)
            self._fail(EVERYTHING, OriginUnreachable(f"internal error: {error}"))
        if self.idle:
            self._fills.on_idle(self)

    def _give_up(self, plan: Plan, want: int) -> None:
        why = self.failure or OriginUnreachable(f"nobody could supply {self.held.path.target}")
        self._fail_those(self.awaits(plan), want, why)
        if plan is self.zone:
            self._perform(self.viewers, self.viewers.on_origin_failed(want))

    def awaits(self, plan: Plan) -> Awaits:
        return Awaits.DUTY if plan is self.duty else Awaits.ZONE if plan is self.zone else Awaits.PLAN

    def _fail_those(self, awaits: Awaits, want: int, why: Exception) -> None:
        for waiter in self.held.waiters:
            if waiter.awaits is awaits:
                waiter.on_failed(want, why)

    def _fail(self, want: int, why: Exception) -> None:
        self.failure = why
        for waiter in self.held.waiters:
            waiter.on_failed(want, why)

    # --- edges

    async def _ask_edge(self, plan: Plan, order: AskEdge) -> None:
        peer = self._fills.roster.peer(order.node)
        if peer is None:
            self._perform(plan, plan.on_failed(order.node))
            return
        pointer = PointerFrame(self.known.signed, round(self.known.age_s(time.monotonic()) * 1000), self.known.trust)
        ask = Ask(
            site=self.held.path.site,
            path=self.held.path.target,
            version=self.held.version,
            want=tuple(pieces.spans(order.want)),
            have=pieces.pack(self.held.have),
            role=order.role,
            lost=order.lost,
            pointer=pointer,
        )
        began = time.monotonic()
        frames = self._fills.asker.ask(peer.address, ask)
        await self._take_from_edge(plan, frames, order.node, order.want, began)

    async def _take_from_edge(
        self, plan: Plan, frames: AsyncGenerator[Frame, None], node: str, want: int, began: float
    ) -> None:
        fills, now = self._fills, time.monotonic
        try:
            has_sent = await self._take(plan, frames, node, want, None, began)
        except Unreachable as error:
            log.warning("peer %s: %s", node, error)
            fills.roster.health.on_unreachable(node, now())
            self._perform(plan, plan.on_failed(node))
        except WrongSecret as error:
            log.warning("peer %s: %s", node, error)
            fills.roster.health.on_unreachable(node, now())
            self._perform(plan, plan.on_failed(node))
        except RemoteError as error:
            fills.on_rejected(node, error)
            self._perform(plan, plan.on_failed(node, rejected=True))
        else:
            fills.roster.health.on_good(node) if has_sent else fills.roster.health.on_answered(node)
            left = plan.expected_from(node) & want
            if left:
                self._perform(plan, plan.on_refused(node, left, Why.NOT_HELD))

    # --- the origin

    async def _ask_origin(self, want: int, reason: Reason) -> None:
        want &= ~self._origin_under_way
        if not want:
            return
        self._origin_under_way |= want
        try:
            await self._origin_until_done(want, reason)
        finally:
            self._origin_under_way &= ~want

    async def _origin_until_done(self, want: int, reason: Reason) -> None:
        origin = self._fills.origin_of(self.held.path.site)
        problem = OriginUnreachable(f"the origin did not send all of {self.held.path.target}")
        for _ in range(ORIGIN_ATTEMPTS):
            left = want & self._missing
            if not left:
                return
            ask = Ask(
                site=self.held.path.site,
                path=self.held.path.target,
                variant=self.known.pointer.variant,
                version=self.held.version,
                want=tuple(pieces.spans(left)),
                reason=reason,
            )
            self._fills.metrics.origin_requests[reason] += len(ask.want) if self.dealing.runs is not None else 1
            try:
                await self._take(
                    self.duty, origin.ask(ask, (self.known.pointer,)), ORIGIN, left, reason, time.monotonic()
                )
            except OriginUnreachable as error:
                problem = error
                if want & self._missing == left:
                    break
        self._on_origin_done(want, problem)

    @property
    def _missing(self) -> int:
        """What has not landed yet, for either plan. What landed and was evicted since did come."""
        return self.duty.missing | self.zone.missing | self.viewers.missing

    def _on_origin_done(self, want: int, problem: OriginUnreachable) -> None:
        left = want & self._missing
        if left:
            if not isinstance(self.failure, VersionGone):
                self.failure = problem
            log.warning("origin: %s", problem)
            self._origin_under_way &= ~want
            self._fail_those(Awaits.ORIGIN, left, problem)
            self._perform(self.duty, self.duty.on_origin_failed(left))
            self._perform(self.zone, self.zone.on_origin_failed(left))
            self._perform(self.viewers, self.viewers.on_origin_failed(left & ~self.zone.missing))

    async def _take_adopted_from_origin(
        self, frames: AsyncGenerator[Frame, None], want: int, reason: Reason, began: float
    ) -> None:
        problem = OriginUnreachable(f"the origin did not send all of {self.held.path.target}")
        try:
            await self._take(self.duty, frames, ORIGIN, want, reason, began)
        except OriginUnreachable as error:
            problem = error
        finally:
            self._origin_under_way &= ~want
        if self._still_open(problem):
            return
        left = want & self._missing
        if left:
            await self._ask_origin(left, reason)

    async def _take_adopted_from_edge(
        self, plan: Plan, frames: AsyncGenerator[Frame, None], node: str, want: int, began: float
    ) -> None:
        await self._take_from_edge(plan, frames, node, want, began)
        self._still_open(OriginUnreachable(f"{node} did not send all of {self.held.path.target}"))

    def _still_open(self, problem: OriginUnreachable) -> bool:
        """A stream ended and nobody knows the version's size: what is held of it is a truncated body, never kept."""
        if self.held.metainfo.piece_count is not None:
            return False
        self._fail(EVERYTHING, problem)
        return True

    # --- frames

    async def _take(
        self,
        plan: Plan,
        frames: AsyncGenerator[Frame, None],
        node: str,
        want: int,
        reason: Reason | None,
        began: float,
    ) -> bool:
        """Read one answer to its end: whether pieces came. Unreachable, RemoteError, WrongSecret, OriginUnreachable as
        they come."""
        source = Source.ORIGIN if node == ORIGIN else Source.PEER
        metrics = self._fills.metrics
        first, heard, is_ours = True, Heard(), True
        try:
            async for frame in frames:
                match frame:
                    case PieceFrame(piece, data):
                        if first:
                            metrics.fetch[source].observe(time.monotonic() - began)
                            first = False
                        self._count(source, node, len(data), reason)
                        digest = None if self.held.have >> piece & 1 else hashlib.sha256(data).digest()
                        heard.on_piece(piece, digest)
                        self._accept(piece, data, digest, node, source, want)
                        await self._fills.store.room(self.held, piece)
                        await self._fills.throttle(source, len(data))
                    case SentFrame():
                        heard.on_all_verified()
                    case PageFrame(signed):
                        heard.on_page(signed)
                        check = self._fills.check_of(self.held)
                        self._fills.store.add_page(self.held, open_page(signed, check), signed)
                        self.held.on_grown()
                    case RefusedFrame(why):
                        self._on_refused(plan, node, frame, why)
                    case _:
                        pass
            return not first
        except RemoteError as error:
            if isinstance(error, RecordsDiffer) and self.held.trust != "signed":
                log.error("%s: %s: all of it is taken from the origin", self.held.path.target, error)
                self._fills.contest(self.held)
                return False
            if node != ORIGIN:
                is_ours = not self._fills.hearings.hear_out(node, heard, frames)
                raise
            raise OriginUnreachable(f"origin's answer does not hold together: {error}") from error
        finally:
            if is_ours:
                await frames.aclose()

    def _count(self, source: Source, node: str, size: int, reason: Reason | None) -> None:
        metrics = self._fills.metrics
        metrics.fetched_bytes[source] += size
        if source is Source.ORIGIN:
            metrics.origin_bytes[reason or Reason.FIRST_COPY] += size
        else:
            peer = self._fills.roster.peer(node)
            if peer is not None and peer.zone != self._fills.roster.zone:
                metrics.zone_crossing_bytes.value += size
            self._fills.on_from_peer(node, size)

    def _accept(self, piece: int, data: bytes, digest: bytes | None, node: str, source: Source, want: int) -> None:
        """Verify, store, tell. The one place where bytes enter the cache. `digest` None: the piece is held."""
        held = self.held
        if not want >> piece & 1 and source is Source.PEER:
            raise RemoteError(f"piece {piece} was not asked for", Cause.UNEXPECTED)
        if digest is None:
            return
        try:
            held.metainfo.check_digest(piece, digest)
        except KeyError:
            raise RemoteError(f"piece {piece} came before its page", Cause.UNEXPECTED) from None
        self._fills.store.put(held, piece, data, source, node or "origin")
        if held.trust != "signed" and source is Source.PEER:
            self._fills.on_attested(held, self.known, piece)
        for plan in (self.viewers, self.zone, self.duty):
            plan.on_held(piece)
        self._origin_under_way &= ~(1 << piece)  # if it is evicted, it may be asked for again
        if held.complete:
            self._fills.on_complete(self)

    def _on_refused(self, plan: Plan, node: str, frame: RefusedFrame, why: Why) -> None:
        if node == ORIGIN:
            if why is Why.UNKNOWN:
                self._fills.store.pointers.doubt(self.held.path, self.held.version)
                self._fail(EVERYTHING, VersionGone(self.held.path.target))
            raise OriginUnreachable(f"origin refused: {why} {frame.detail}".rstrip())
        refused = frame.wanted() or plan.expected_from(node)
        self._perform(plan, plan.on_refused(node, refused, why, frame.holders))


class Fills:
    """All fills under way at one edge."""

    def __init__(
        self,
        store: Store,
        roster: Roster,
        asker: Asker,
        origins: Mapping[str, Origin],
        metrics: EdgeMetrics,
    ) -> None:
        self.store = store
        self.roster = roster
        self.asker = asker
        self._origins = origins
        self.metrics = metrics
        self.accuse: Callable[[str, SentWrong], None] = lambda node, case: None
        self.on_attested: Callable[[Held, Known, int], None] = lambda held, known, piece: None
        self._contested: OrderedDict[bytes, None] = OrderedDict()  # versions that no edge's word is taken for
        self.hearings = Hearings(metrics, lambda node, case: self.accuse(node, case))
        self._under_way: dict[bytes, Fill] = {}
        self.from_peers: dict[str, int] = {}  # bytes received from each peer, for the picture of the swarm
        self.live = LiveStreams()
        self._windows = Windows()
        self.limits: Callable[[], tuple[float | None, float | None]] = lambda: (
            None,
            None,
        )  # all that is fetched; origin
        self._meters = Meter(), Meter()
        self.recent: deque[dict[str, object]] = deque(maxlen=RECENT_PLANS)  # finished fills, for /explain

    def __repr__(self) -> str:
        return f"<Fills {list(self._under_way.values())}>"

    def __len__(self) -> int:
        return len(self._under_way)

    def under_way(self, held: Held) -> Fill | None:
        return self._under_way.get(held.version)

    def join(self, held: Held, known: Known) -> Fill:
        """The fill of a version: the one under way, or a new one. VersionGone if its size is not known and no stream
        brings it any more: what is held of it is a truncated body, and the rest can only come behind a new answer."""
        fill = self._under_way.get(held.version)
        if fill is None and held.metainfo.piece_count is None:
            raise VersionGone(held.path.target)
        return fill or self._begin(held, known)

    def adopt(
        self,
        held: Held,
        known: Known,
        frames: AsyncGenerator[Frame, None],
        node: str,
        reason: Reason | None,
        began: float,
    ) -> None:
        """A version's pieces follow on a stream that was opened for its pointer."""
        fill = self._under_way.get(held.version) or self._begin(held, known)
        fill.adopt(frames, node, reason, began)

    def _begin(self, held: Held, known: Known) -> Fill:
        fill = self._under_way[held.version] = Fill(self, held, known)
        held.filling = True
        return fill

    def is_contested(self, version: bytes) -> bool:
        return version in self._contested

    def contest(self, held: Held) -> None:
        """What is recorded of it is wrong, or two records differ: this edge takes it from the origin itself."""
        self._contested[held.version] = None
        if len(self._contested) > MOST_CONTESTED:
            self._contested.popitem(last=False)
        self.void(held)

    def void(self, held: Held) -> None:
        """Forget it, also what is under way of it."""
        fill = self._under_way.pop(held.version, None)
        held.filling = False
        if fill is not None:
            fill.void()
        self.store.forget(held)

    def on_banned(self, node: str) -> None:
        """What an edge vouched for that turned out to be a liar is worth nothing."""
        self.store.pointers.forget_signed_by(node)
        for held in self.store.versions():
            if held.trust != "signed" and any(signed.signer == node for _, signed in held.metainfo.pages()):
                log.warning("%s is forgotten: %s vouched for it", held.path.target, node)
                self.void(held)

    def all(self) -> list[Fill]:
        return list(self._under_way.values())

    def origin_of(self, site: str) -> Origin:
        return self._origins[site]

    def check_of(self, held: Held) -> CheckSignature:
        return self._origins[held.path.site].check

    async def throttle(self, source: Source, size: int) -> None:
        """`limits.down` and `limits.origin`: who reads no faster is not sent more."""
        down_bps, origin_bps = self.limits()
        now, pauses_s = time.monotonic(), [0.0]
        if down_bps is not None:
            pauses_s.append(self._meters[0].pause_s(size, down_bps, now))
        if origin_bps is not None and source is Source.ORIGIN:
            pauses_s.append(self._meters[1].pause_s(size, origin_bps, now))
        if any(pauses_s):
            await asyncio.sleep(max(pauses_s))

    def on_from_peer(self, node: str, size: int) -> None:
        self.from_peers[node] = self.from_peers.get(node, 0) + size

    def on_rejected(self, node: str, error: RemoteError) -> None:
        """Bad bytes without the sender's signature over them: a broken link, not a liar; a local pause, no ban."""
        self.metrics.pieces_rejected[error.cause] += 1
        broken = self.roster.health.on_bad(node, time.monotonic())
        log.warning("peer %s: %s; a broken link, not a liar%s", node, error, ": pausing it" if broken else "")

    def on_complete(self, fill: Fill) -> None:
        held, now = fill.held, self.roster.swarm_time()
        if held.path.url_path.endswith(SEGMENTS) and self.live.was_awaited(held.path, held.born, now):
            self.metrics.live_segment_ready.observe(max(0.0, now - held.born))
        if held.path.url_path.endswith(".m3u8"):
            body = b"".join(self.store.peek(held, piece) or b"" for piece in range(held.metainfo.known_pieces))
            for left in self._windows.on_playlist(held.path, body):
                self.store.expire(left)

    def on_idle(self, fill: Fill) -> None:
        """Nothing is under way any more: what is left was given up, and told to whoever waited."""
        if self._under_way.get(fill.held.version) is fill:
            del self._under_way[fill.held.version]
        held = fill.held
        held.filling = False
        asyncio.get_running_loop().call_later(SETTLE_S, held.settle)
        self.recent.append(
            {
                "path": held.path.target,
                "took_s": round(time.monotonic() - fill.began_at, 4),
                "complete": held.complete,
                "fetched_from": dict(held.fetched),
                "asked": fill.asked,
                "failure": str(fill.failure) if fill.failure else None,
            }
        )
        if held.metainfo.piece_count is None:
            self.store.forget(held)
        elif not held.have and not held.complete and not held.waiters:
            self.store.drop(held)

    async def close(self) -> None:
        tasks = [task for fill in self._under_way.values() for task in fill._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.hearings.close()
