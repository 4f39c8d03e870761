"""What other edges ask of this one: pointers, and pieces as they land (DESIGN 4: no waiting in circles).

Asked as home, this edge sends what it has, else fetches it from the origin; asked as holder, only what it has or is
already receiving from the origin. What is not its to fetch it refuses at once, naming whom it would ask.
"""

import logging
import time
from collections import Counter

from aiohttp import web

from daemon.answering import FrameStream, admit, hello_handler, message_response, read_ask, read_body
from daemon.asking import ASK_PATH, MOST_MESSAGE_BYTES, PURGE_PATH
from daemon.pacing import Pacer
from daemon.peer_auth import HELLO_PATH, Gatekeeper
from daemon.vouching import Vouching
from edge.fills import Fills, VersionGone
from edge.held import EVERYTHING, Awaits, Held, Waiter
from edge.metrics import EdgeMetrics
from edge.pointers import Known
from edge.purges import Purges
from edge.resolver import Resolver, Unshared
from edge.roster import Roster
from edge.store import Store
from swarm import pieces
from swarm.accounting import Control, Role
from swarm.errors import OriginUnreachable, RemoteError
from swarm.ladder import judge
from swarm.names import BadPath, Path, normalise
from swarm.placement import Dealing, Edge
from swarm.purging import PurgeMessage
from swarm.wire import Ask, PageFrame, PointerFrame, RefusedFrame, UnchangedFrame, Why, decode_message

log = logging.getLogger(__name__)

MOST_QUESTIONS = 1000  # of one asker at a time: a flood is refused, not queued
NAMED = 3  # holders named in a refusal
READ_AHEAD_BYTES = 1 << 20


class PeerHttp:
    """The handlers of the peer port."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        roster: Roster,
        store: Store,
        fills: Fills,
        resolver: Resolver,
        sites: frozenset[str],
        metrics: EdgeMetrics,
        purges: Purges,
        pacer: Pacer | None = None,
    ) -> None:
        self._pacer = pacer
        self._gatekeeper = gatekeeper
        self._roster = roster
        self._store = store
        self._fills = fills
        self._resolver = resolver
        self._sites = sites
        self._metrics = metrics
        self._purges = purges
        self._answering: Counter[str] = Counter()  # questions of each asker under way
        self.to_peers: dict[str, int] = {}  # bytes sent to each peer, for the picture of the swarm

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post(HELLO_PATH, hello_handler(self._gatekeeper))
        app.router.add_post(ASK_PATH, self.handle_ask)
        app.router.add_post(PURGE_PATH, self.handle_purge)
        return app

    async def handle_ask(self, request: web.Request) -> web.StreamResponse:
        ask, body = await read_ask(request)
        asker = admit(self._gatekeeper, request, body)
        if self._answering[asker] >= MOST_QUESTIONS:
            raise web.HTTPTooManyRequests(text=f"{MOST_QUESTIONS} of your questions are being answered\n")
        path = self._path(ask)
        self._answering[asker] += 1
        try:
            return await self._answer(request, path, ask, asker)
        finally:
            self._answering[asker] -= 1
            if not self._answering[asker]:
                del self._answering[asker]

    async def _answer(self, request: web.Request, path: Path, ask: Ask, asker: str) -> web.StreamResponse:
        if ask.purges:
            await self._purges.on_message(PurgeMessage(purges=ask.purges), asker)
        stream = FrameStream(request, self._pacer)
        stream.vouching = Vouching(self._roster.signer, self._roster.swarm_time)
        try:
            await stream.open()
            await stream.waiting(self._store.recall(path))
            if ask.version is None:
                await self._answer_path(stream, path, ask, asker)
            else:
                await self._answer_pieces(stream, path, ask, asker)
            return await stream.end()
        except (ConnectionError, TimeoutError):
            return stream.cut()  # the asker went away, or takes nothing any more
        finally:
            self._count(stream, asker, ask.role)

    async def handle_purge(self, request: web.Request) -> web.Response:
        """Purges that another edge has, or was asked for; answered when they are in force here."""
        body = await read_body(request, MOST_MESSAGE_BYTES)
        sender = admit(self._gatekeeper, request, body)
        try:
            message = decode_message(body, PurgeMessage)
        except RemoteError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        reply = message_response(await self._purges.on_message(message, sender))
        self._metrics.control_bytes[Control.GOSSIP] += len(reply.body)  # type: ignore[arg-type]
        return reply

    def _path(self, ask: Ask) -> Path:
        """HTTP 400 unless the path is spelt as this edge would: two spellings must not become two entries."""
        try:
            path = normalise(ask.site, ask.path)
        except BadPath as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        if path.site not in self._sites or path.target != ask.path:
            raise web.HTTPBadRequest(text="no such site, or a path not in its normal form\n")
        return path

    def _count(self, stream: FrameStream, asker: str, role: Role) -> None:
        self._metrics.peer_sent_bytes[role] += stream.sent_bytes
        self.to_peers[asker] = self.to_peers.get(asker, 0) + stream.sent_bytes
        for kind, size in stream.control.items():
            self._metrics.control_bytes[kind] += size

    def _role(self, path: Path, ask: Ask) -> Role:
        """In which role it is asked, by our view too: in the path's first zone a zone's home is its home."""
        return self._roster.role(path) if ask.role is Role.ZONE_HOME else ask.role

    # --- what a path means

    async def _answer_path(self, stream: FrameStream, path: Path, ask: Ask, asker: str) -> None:
        known = await self._pointer(stream, path, ask)
        if known is None:
            return
        age_ms = round(known.age_s(time.monotonic()) * 1000)
        if ask.known_sequence is not None and ask.known_sequence >= known.pointer.sequence:
            await stream.send(UnchangedFrame(age_ms))
            return
        await stream.send(PointerFrame(known.signed, age_ms, known.trust))
        size = known.pointer.size
        version = known.pointer.version
        if version is None or version == ask.known_version or (size is not None and size > ask.inline_bytes):
            return
        if self._roster.dealing(path, known.pointer, known.trust).runs is not None:
            return  # the asker has homes to ask for their runs
        held = self._store.hold(path, known.pointer, known.trust)
        await self._send_all(stream, held, known, ask, asker)

    async def _pointer(self, stream: FrameStream, path: Path, ask: Ask) -> Known | None:
        """What the path means, or None after a refusal was sent."""
        if ask.role is Role.HOLDER:
            known = self._store.pointers.known(path, ask.fields)
            if known is None:
                await stream.send(RefusedFrame(Why.NOT_HELD))
            return known
        role = self._role(path, ask)
        ranked = self._roster.ranked(path, role)
        first = next((edge.node for edge in ranked if edge.node not in ask.lost or edge.node == self._roster.me), None)
        if first != self._roster.me:
            await stream.send(RefusedFrame(Why.NOT_HOME, holders=(first,) if first else ()))
            return None
        try:
            return await stream.waiting(self._resolver.resolve_as_home(path, ask.fields, role))
        except OriginUnreachable as error:
            await stream.send(RefusedFrame(Why.ORIGIN, detail=str(error)))
        except Unshared as unshared:
            await stream.send(RefusedFrame(Why.UNSHARED if unshared.lasting else Why.ERRED))
        return None

    async def _send_all(self, stream: FrameStream, held: Held, known: Known, ask: Ask, asker: str) -> None:
        """A whole body behind its pointer: its pieces in order, while it may still be growing."""
        fill = self._fills.under_way(held)
        may_wait = ask.role is not Role.HOLDER
        if fill is None and not held.complete and may_wait:
            if held.metainfo.piece_count is None:
                may_wait = False  # what breaks off while open is forgotten: nobody would bring the rest
            else:
                fill = self._fills.join(held, known)
        role = self._role(held.path, ask)
        waiter = held.wait_for(EVERYTHING, _awaits(role))
        try:
            if fill is not None and may_wait:
                fill.want_as_home(held.all_pieces, ask.lost, role)
            await self._send_in_order(stream, held, waiter if may_wait else None)
        except (OriginUnreachable, VersionGone) as error:
            await stream.send(RefusedFrame(Why.ORIGIN, detail=str(error)))
        finally:
            held.stop_waiting(waiter)
        held.note_provider(asker, held.all_pieces)

    async def _send_in_order(self, stream: FrameStream, held: Held, waiter: Waiter | None) -> None:
        """Every piece from the first on; what is not here and not waited for ends it with a refusal of the rest."""
        told: set[int] = set()
        piece = 0
        while (count := held.metainfo.piece_count) is None or piece < count:
            if held.have >> piece & 1 and await self._send_piece(stream, held, piece, told):
                piece += 1
            elif waiter is None or held.have >> piece & 1 or waiter.has_had(piece):
                await stream.send(RefusedFrame(Why.NOT_HELD))  # not here, or evicted before it could be sent
                return
            else:
                await stream.waiting(waiter.changed())
        await self._send_page_at_end(stream, held, told)

    async def _send_page_at_end(self, stream: FrameStream, held: Held, told: set[int]) -> None:
        """The page that states the size may hold no piece of its own."""
        for page, signed in held.metainfo.pages():
            if page.size is not None and page.first_piece not in told:
                await stream.send(PageFrame(signed))

    # --- pieces

    async def _answer_pieces(self, stream: FrameStream, path: Path, ask: Ask, asker: str) -> None:
        held = self._held(path, ask)
        if held is None:
            await stream.send(RefusedFrame(Why.UNKNOWN, want=ask.want))
            return
        want = ask.wanted()
        held.note_provider(asker, pieces.unpack(ask.have))
        mine = want & held.have
        fetch = self._to_fetch(held, ask, want & ~mine)
        # Before anything is sent: what is on its way may fail meanwhile, and would not be told to who waits later.
        role = self._role(path, ask)
        waiter = held.wait_for(mine | fetch, _awaits(role))
        try:
            if fetch and ask.role is not Role.HOLDER:
                known = self._store.pointers.naming(path, held.version)
                assert known is not None
                self._fills.join(held, known).want_as_home(fetch, ask.lost, role)
            await self._refuse(stream, held, ask, want & ~mine & ~fetch, asker)
            await self._send_landing(stream, held, waiter, mine | fetch)
        finally:
            held.stop_waiting(waiter)
        held.note_provider(asker, want)

    def _held(self, path: Path, ask: Ask) -> Held | None:
        """The version asked for; the asker's pointer makes it known to a home that never heard of it."""
        assert ask.version is not None
        known = self._store.pointers.naming(path, ask.version)  # first: it may be purged, and its version with it
        held = self._store.held(ask.version)
        if ask.pointer is not None and (held is None or known is None):
            try:
                known = self._resolver.learn(path, ask.pointer)
            except RemoteError as error:
                log.warning("a pointer that came with a question: %s", error)
        if held is None and known is not None and known.pointer.version == ask.version and ask.role is not Role.HOLDER:
            held = self._store.hold(path, known.pointer, known.trust)
        return held

    def _to_fetch(self, held: Held, ask: Ask, missing: int) -> int:
        """Of what is missing here, what this edge sees to: its share as home, or what is already on its way to it."""
        if ask.role is Role.HOLDER:
            fill = self._fills.under_way(held)
            return missing & fill.from_origin if fill else 0
        if held.metainfo.piece_count is None and self._fills.under_way(held) is None:
            return 0  # it broke off: nobody would bring the rest
        if self._store.pointers.naming(held.path, held.version) is None:
            return 0
        dealing, ranked, me = self._dealing(held, ask), self._ranked(held, ask), self._roster.me
        return pieces.of(p for p in pieces.each(missing) if judge(p, dealing, me, ask.lost, ranked) == me)

    def _ranked(self, held: Held, ask: Ask) -> tuple[Edge, ...]:
        return self._roster.ranked(held.path, self._role(held.path, ask))

    def _dealing(self, held: Held, ask: Ask) -> Dealing:
        """Who is home for which of its pieces, in the role that was asked in, as far as this edge knows what it is."""
        role = self._role(held.path, ask)
        known = self._store.pointers.naming(held.path, held.version)
        if known is None:
            return Dealing(self._roster.homes(held.path, held.metainfo.size, held.trust, role))
        return self._roster.dealing(held.path, known.pointer, held.trust, role)

    async def _refuse(self, stream: FrameStream, held: Held, ask: Ask, want: int, asker: str) -> None:
        """Refusal is routing: who holds these, or whom this edge would ask as home."""
        if not want:
            return
        holders = held.holders_of(want, but=(asker, *ask.lost))
        known_holders = [node for node in holders if self._roster.peer(node) is not None][:NAMED]  # no superpeer's leaf
        if ask.role is Role.HOLDER:
            await stream.send(RefusedFrame(Why.NOT_HELD, tuple(pieces.spans(want)), tuple(known_holders)))
            return
        dealing, ranked = self._dealing(held, ask), self._ranked(held, ask)
        by_home: dict[str, int] = {}
        for piece in pieces.each(want):
            home = judge(piece, dealing, self._roster.me, ask.lost, ranked) or ""
            by_home[home] = by_home.get(home, 0) | 1 << piece
        for home, bitmap in by_home.items():
            named = (home,) if home and home != self._roster.me else ()
            await stream.send(RefusedFrame(Why.NOT_HOME, tuple(pieces.spans(bitmap)), named))

    async def _send_landing(self, stream: FrameStream, held: Held, waiter: Waiter, want: int) -> None:
        """Each piece as it lands. What can no longer be had is refused."""
        stream.expected_bytes = pieces.count(want) * held.metainfo.piece_bytes
        told: set[int] = set()
        left = want
        while left:
            try:
                landed = waiter.take()
                piece = await stream.waiting(waiter.next()) if landed is None else landed
            except (OriginUnreachable, VersionGone) as error:
                why = Why.UNKNOWN if isinstance(error, VersionGone) else Why.ORIGIN
                await stream.send(RefusedFrame(why, tuple(pieces.spans(left)), detail=str(error)))
                return
            if await self._send_piece(stream, held, piece, told):
                left &= ~(1 << piece)
            else:
                await stream.send(RefusedFrame(Why.NOT_HELD, ((piece, piece + 1),)))
                left &= ~(1 << piece)

    async def _send_piece(self, stream: FrameStream, held: Held, piece: int, told: set[int]) -> bool:
        """A piece behind the page that covers it; False if it was evicted or rotten meanwhile."""
        data = self._store.peek(held, piece)
        if data is None:
            data = (await stream.waiting(self._store.load(held, self._next_on_disk(held, piece)))).get(piece)
            if data is None:
                return False
        page = held.metainfo.signed_page_of(piece)
        if page is not None and page[0] not in told:
            told.add(page[0])
            await stream.send(PageFrame(page[1]))
        await stream.send_piece(piece, data)
        await stream.vouch(held.metainfo, piece)
        return True

    def _next_on_disk(self, held: Held, piece: int) -> list[int]:
        """This piece and its neighbours on disk, up to 1 MiB: one read for all."""
        most = max(1, READ_AHEAD_BYTES // held.metainfo.piece_bytes)
        return [number for number in range(piece, piece + most) if held.on_disk & ~held.in_memory & 1 << number]


def _awaits(role: Role) -> Awaits:
    """What whoever asks in that role waits for."""
    return {Role.HOLDER: Awaits.ORIGIN, Role.ZONE_HOME: Awaits.ZONE}.get(role, Awaits.DUTY)
