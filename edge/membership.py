"""How this edge learns who is in the swarm: from trackers, from other edges (`edge/gossip.py`), from the last view.

One announcement is always open at each tracker: it says that we live, and is answered when the view changes. Gossip
runs beside it in every topology, so that what a tracker would have said still comes when there is none left.
"""

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from daemon.asking import ANNOUNCE_PATH, Asker
from daemon.errors import StartupError
from daemon.peer_auth import WrongSecret
from edge.gossip import Gossiping
from edge.metrics import EdgeMetrics
from edge.roster import Roster, ViewFile
from swarm.accounting import Control, PeerState
from swarm.errors import RemoteError, Unreachable
from swarm.members import (
    ANNOUNCEMENT_CONTEXT,
    EDGE,
    Announcement,
    AnnounceReply,
    AnnounceRequest,
    Member,
    State,
    read_announcement,
)

log = logging.getLogger(__name__)

HOLD_MS = 1000
REFUSED_PAUSE_S = 5.0
SILENT_PAUSE_S = (0.2, 1.0)  # jittered, so that edges do not return to a tracker all at once
CONFLICT_S = 8.0  # longer than a tracker remembers an edge that died: then the name is really somebody else's
FIRST_VIEW_S = 3.0  # ready without a view after so long (DESIGN 8)


@dataclass
class _Tracker:
    """What one tracker last said."""

    url: str
    generation: int = 0
    members: tuple[Member, ...] = ()
    answers: bool = False
    refuses: str = ""
    silent: str = ""
    why_leaf: str = "no view yet"
    conflict_since: float | None = None


class Membership:
    """Keeps the roster's view current: the union of what all trackers that answer say and of what gossip knows, without
    those whom gossip knows to be dead. Until anybody has answered the last view goes on."""

    def __init__(
        self,
        trackers: Sequence[str],
        asker: Asker,
        roster: Roster,
        file: ViewFile | None,
        metrics: EdgeMetrics,
        gossip: Gossiping,
        role: str = EDGE,
    ) -> None:
        self._trackers = [_Tracker(url) for url in trackers]
        self._gossip = gossip
        self._role = role
        gossip.on_change = self._on_gossip
        self._asker = asker
        self._roster = roster
        self._file = file
        self._metrics = metrics
        self._request: AnnounceRequest | None = None
        self._began_at = time.monotonic()
        self._views = 0  # that came from somebody
        self._has_trackers_clock = False
        self._restored: tuple[Member, ...] = ()
        self._unkept: tuple[Member, ...] = ()
        self._has_unkept = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Membership of {self._roster.me}: {self._trackers}>"

    # --- how it stands

    @property
    def settled(self) -> bool:
        """A view was received, or long enough spent trying. While its name is disputed an edge is not ready: either it
        soon has a view (it died without goodbye and lost its key), or it must end. Without a view it would fetch
        from the origin what the swarm holds."""
        is_disputed = any(tracker.conflict_since is not None for tracker in self._trackers) or self._gossip.is_disputed
        waited = time.monotonic() - self._began_at >= FIRST_VIEW_S or self._is_first
        return self._views > 0 or self._roster.refused or (waited and not is_disputed)

    @property
    def _is_first(self) -> bool:
        """There is nobody to wait for."""
        return not self._trackers and self._gossip.is_alone

    @property
    def why_leaf(self) -> str:
        """Why this edge carries no weight; empty if it does."""
        if (self._roster.state() is State.ALIVE or self._gossip.observes) and not self._roster.refused:
            return ""
        told = [tracker.refuses or tracker.silent or tracker.why_leaf for tracker in self._trackers]
        return "; ".join(filter(None, [*told, "" if self._heard_by_tracker else self._gossip.why_leaf]))

    @property
    def _heard_by_tracker(self) -> bool:
        return any(tracker.answers for tracker in self._trackers)

    @property
    def tracker_silent(self) -> str:
        return "; ".join(f"{tracker.url}: {tracker.silent}" for tracker in self._trackers if tracker.silent)

    async def restore(self) -> None:
        """Begin with the last view kept on disk, until somebody answers."""
        if self._file is None:
            return
        self._restored = await asyncio.to_thread(self._file.read)
        if self._restored:
            self._gossip.on_contacts(_gossiping(self._restored))
            self._show()

    # --- announcing

    async def run(self, port: int, advertise: str | None, capacity_bps: float | None) -> None:
        """Until cancelled. StartupError if another living edge bears our name."""
        self._began_at = time.monotonic()
        said = _announcement(self._roster, port, advertise, capacity_bps, self._role, gossips=not self._gossip.observes)
        signed = self._roster.signer.sign(ANNOUNCEMENT_CONTEXT, msgspec.msgpack.encode(said))
        self._request = AnnounceRequest(signed=signed, hold_ms=HOLD_MS)
        self._gossip.begin(said)
        async with asyncio.TaskGroup() as following:
            following.create_task(self._gossip.run())
            following.create_task(self._keep_views())
            for tracker in self._trackers:
                following.create_task(self._follow(tracker, self._request))

    async def _follow(self, tracker: _Tracker, request: AnnounceRequest) -> None:
        while True:
            pause_s = await self._announce(tracker, request)
            if pause_s:
                await asyncio.sleep(pause_s)

    async def _announce(self, tracker: _Tracker, request: AnnounceRequest) -> float:
        """One round; how long to pause before the next, 0 if all is well."""
        request = msgspec.structs.replace(request, known_generation=tracker.generation)
        self._metrics.control_bytes[Control.VIEW] += len(msgspec.msgpack.encode(request))
        began = time.monotonic()
        within_s = HOLD_MS / 1000 + 2
        try:
            reply = await self._asker.message(tracker.url, ANNOUNCE_PATH, request, AnnounceReply, within_s=within_s)
        except WrongSecret as error:
            self._on_refused(tracker, error)
            return REFUSED_PAUSE_S
        except (Unreachable, RemoteError) as error:
            self._on_silent(tracker, error)
            return random.uniform(*SILENT_PAUSE_S)  # noqa: S311
        if reply.conflict is not None:
            self._on_conflict(tracker, reply)
            return SILENT_PAUSE_S[1]
        await self._on_reply(tracker, reply, time.monotonic() - began)
        return 0.0

    def _on_refused(self, tracker: _Tracker, error: WrongSecret) -> None:
        if not tracker.refuses:
            log.error("tracker %s refused us: %s", tracker.url, error)
        tracker.refuses, tracker.answers = f"wrong swarm secret: {error}", False
        self._judge_refusal()

    def _on_silent(self, tracker: _Tracker, error: Exception) -> None:
        if not tracker.silent:
            log.warning("tracker %s does not answer (%s): going on with the last view", tracker.url, error)
        tracker.silent, tracker.answers, tracker.generation = str(error), False, 0
        tracker.conflict_since = None
        if any(other.answers for other in self._trackers):
            tracker.members = ()  # somebody else knows better than its last word
        self._show()

    def _judge_refusal(self) -> None:
        """Refused by somebody and accepted by none: standalone."""
        refuses = any(t.refuses for t in self._trackers) or bool(self._gossip.refuses)
        refused = refuses and not self._heard_by_tracker and not self._gossip.has_met
        if refused and not self._roster.refused:
            log.error("refused by the swarm: serving from the origin, standalone")
        self._roster.refused = refused

    async def _on_reply(self, tracker: _Tracker, reply: AnnounceReply, took_s: float) -> None:
        if tracker.silent or tracker.refuses:
            log.info("tracker %s answers again", tracker.url)
        tracker.silent = tracker.refuses = ""
        tracker.answers, tracker.conflict_since = True, None
        self._judge_refusal()
        rtt_s = max(0.0, took_s - reply.held_ms / 1000)
        self._roster.offset_s = reply.now_ms / 1000 + rtt_s / 2 - time.time()
        self._has_trackers_clock = True
        self._on_state(tracker, reply)
        self._gossip.on_observed(reply.observed)
        if reply.members is not None:
            tracker.generation, tracker.members = reply.generation, reply.members
            self._views += 1
            self._gossip.on_contacts(_gossiping(one for other in self._trackers for one in other.members))
            self._show()

    def _on_gossip(self) -> None:
        """Other edges told us something."""
        self._judge_refusal()
        self._views += self._gossip.has_met
        if not self._has_trackers_clock:
            self._roster.offset_s = self._gossip.clock_offset_s
        self._show()

    def _show(self) -> None:
        """Make the roster's view what is known now."""
        members = self._known()
        self._roster.take_view(self._views, members)
        if self._views:
            self._unkept = members
            self._has_unkept.set()

    def _known(self) -> tuple[Member, ...]:
        """Trackers that answer and gossip know better than the last word of trackers that do not, and than the file."""
        gossip = self._gossip.view()
        views = [tracker.members for tracker in self._trackers if tracker.answers]
        if not views:
            last = self._restored if not self._views else ()
            last += tuple(member for tracker in self._trackers for member in tracker.members)
            is_known = self._gossip.has_met or self._roster.refused
            views = [tuple(member for member in last if not (is_known and _gossips(member)))]
        # Whom we knew to be reached in this life need not wait until others vouch for it anew.
        living = {(member.signed.signer, _incarnation(member)) for member in gossip}
        views.append(tuple(one for one in self._restored if (one.signed.signer, _incarnation(one)) in living))
        merged = _merged([*views, gossip])
        return tuple(member for member in merged if self._belongs(member))

    def _belongs(self, member: Member) -> bool:
        """Whether it lives, and is one that this topology lets an edge know: in `superpeer`, superpeers."""
        said = read_announcement(member.signed)
        only = self._gossip.only_role
        return only in (None, said.role) and not self._gossip.is_dead(said.node, said.incarnation)

    def counts(self) -> dict[str, float]:
        """For the metric `peers{state}`."""
        counts = self._roster.counts()
        counts[PeerState.DEAD] += self._gossip.died_lately()
        return counts

    def _on_state(self, tracker: _Tracker, reply: AnnounceReply) -> None:
        why = "" if reply.state is State.ALIVE else reply.why or "not reached yet"
        if why and why != tracker.why_leaf:
            log.warning("we are a leaf, home for nothing: %s", why)
        elif not why and tracker.why_leaf:
            log.info("reachable: we carry weight")
        tracker.why_leaf = why

    def _on_conflict(self, tracker: _Tracker, reply: AnnounceReply) -> None:
        now = time.monotonic()
        tracker.conflict_since = tracker.conflict_since or now
        tracker.why_leaf = f"another edge named {self._roster.me} lives at {reply.conflict}"
        if tracker.conflict_since == now:
            log.warning("tracker %s: %s", tracker.url, tracker.why_leaf)
        if now - tracker.conflict_since >= CONFLICT_S:
            raise StartupError(
                f"node name {self._roster.me!r} is taken: {reply.conflict} bears it, and this edge at "
                f"{self._address_seen(reply)} may not (says tracker {tracker.url}); give each edge a name of its own"
            )

    def _address_seen(self, reply: AnnounceReply) -> str:
        """This edge's own address, as it advertises it or as the tracker sees it."""
        assert self._request is not None
        said = read_announcement(self._request.signed)
        return said.address or f"http://{reply.observed}:{said.port}"

    async def _keep_views(self) -> None:
        """The latest view, on disk; several that come while one is written are one."""
        while True:
            await self._has_unkept.wait()
            self._has_unkept.clear()
            if self._file is None:
                continue
            try:
                await asyncio.to_thread(self._file.write, self._unkept)
            except OSError as error:
                log.warning("the view cannot be kept on disk: %s", error.strerror)

    async def leave(self) -> None:
        """Say goodbye to every tracker that knows us, and to some edges, so that nobody waits for us; best effort
        within a second."""
        if self._request is None:
            return
        said = read_announcement(self._request.signed)
        body = msgspec.msgpack.encode(msgspec.structs.replace(said, refutation=said.refutation + 1, leaving=True))
        signed = self._roster.signer.sign(ANNOUNCEMENT_CONTEXT, body)
        goodbye = AnnounceRequest(signed=signed, leaving=True)
        known_to = [tracker.url for tracker in self._trackers if tracker.answers]
        await asyncio.gather(self._gossip.leave(), *(self._say_goodbye(url, goodbye) for url in known_to))

    async def _say_goodbye(self, url: str, goodbye: AnnounceRequest) -> None:
        try:
            await self._asker.message(url, ANNOUNCE_PATH, goodbye, AnnounceReply, within_s=1.0)
        except (Unreachable, RemoteError, WrongSecret) as error:
            log.warning("could not say goodbye to tracker %s: %s", url, error)


def _merged(views: Iterable[tuple[Member, ...]]) -> tuple[Member, ...]:
    """The union of several trackers' views: of one node the latest incarnation, and reached by one is reached."""
    best: dict[str, tuple[tuple[int, bool], Member]] = {}
    for member in (member for view in views for member in view):
        node = member.signed.signer
        try:
            rank = (read_announcement(member.signed).incarnation, member.state is State.ALIVE)
        except RemoteError as error:
            log.warning("left %s out of the view: %s", node, error)
            continue
        if node not in best or rank > best[node][0]:
            best[node] = (rank, member)
    return tuple(member for _, (_, member) in sorted(best.items()))


def _incarnation(member: Member) -> int:
    try:
        return read_announcement(member.signed).incarnation
    except RemoteError:
        return -1


def _gossips(member: Member) -> bool:
    try:
        return read_announcement(member.signed).gossips
    except RemoteError:
        return False


def _gossiping(members: Iterable[Member]) -> list[str]:
    """Where those of them are that gossip."""
    return [member.address for member in members if _gossips(member)]


def _announcement(
    roster: Roster, port: int, advertise: str | None, capacity_bps: float | None, role: str, *, gossips: bool
) -> Announcement:
    return Announcement(
        node=roster.me,
        key=roster.signer.public,
        address=advertise,
        port=port,
        zone=roster.zone,
        capacity_bps=capacity_bps,
        incarnation=int(time.time() * 1000),
        gossips=gossips,
        role=role,
    )
