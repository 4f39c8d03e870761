"""One announcement is always open at a tracker: it says that we live, and is answered when the view changes."""

import asyncio
import logging
import random
import time
from collections.abc import Sequence

import msgspec

from daemon.asking import ANNOUNCE_PATH, Asker
from daemon.errors import StartupError
from daemon.keys import Signer
from daemon.peer_auth import WrongSecret
from edge.metrics import EdgeMetrics
from edge.roster import Roster, ViewFile
from swarm.accounting import Control
from swarm.errors import RemoteError, Unreachable
from swarm.members import ANNOUNCEMENT_CONTEXT, Announcement, AnnounceReply, AnnounceRequest, Member, State
from swarm.metainfo import Signed

log = logging.getLogger(__name__)

HOLD_MS = 1000
REFUSED_PAUSE_S = 5.0
SILENT_PAUSE_S = (0.2, 1.0)  # jittered, so that edges do not return to a tracker all at once
CONFLICT_S = 5.0  # longer than a tracker remembers an edge that died: then the name is really somebody else's
FIRST_VIEW_S = 3.0  # ready without a view after so long (DESIGN 8)


class Membership:
    """Keeps the roster's view current. Tracker after tracker is tried; with none left the last view goes on."""

    def __init__(
        self, trackers: Sequence[str], asker: Asker, roster: Roster, file: ViewFile | None, metrics: EdgeMetrics
    ) -> None:
        self._trackers = list(trackers)
        self._asker = asker
        self._roster = roster
        self._file = file
        self._metrics = metrics
        self._generation = 0
        self._request: AnnounceRequest | None = None
        self._conflict_since: float | None = None
        self._began_at = time.monotonic()
        self.why_leaf = "no view yet"
        self.tracker_silent = ""
        self.has_view = False

    @property
    def settled(self) -> bool:
        """A view was received, or long enough spent trying."""
        return self.has_view or self._roster.refused or time.monotonic() - self._began_at >= FIRST_VIEW_S

    async def restore(self) -> None:
        """Begin with the last view kept on disk, until a tracker answers."""
        if self._file is None:
            return
        members = await asyncio.to_thread(self._file.read)
        if members:
            self._roster.take_view(0, members)

    async def run(self, port: int, advertise: str | None, capacity_bps: float | None) -> None:
        """Until cancelled. StartupError if another living edge bears our name."""
        self._began_at = time.monotonic()
        self._request = AnnounceRequest(
            signed=_announcement(self._roster, self._roster.signer, port, advertise, capacity_bps), hold_ms=HOLD_MS
        )
        at = 0
        while True:
            tracker = self._trackers[at % len(self._trackers)]
            pause_s = await self._announce_once(tracker)
            if pause_s:
                at += 1
                self._generation = 0
                await asyncio.sleep(pause_s)

    async def _announce_once(self, tracker: str) -> float:
        """One round; how long to pause before the next tracker, 0 if all is well."""
        assert self._request is not None
        request = msgspec.structs.replace(self._request, known_generation=self._generation)
        began = time.monotonic()
        try:
            reply = await self._asker.message(
                tracker, ANNOUNCE_PATH, request, AnnounceReply, within_s=HOLD_MS / 1000 + 2
            )
        except WrongSecret as error:
            self._on_wrong_secret(tracker, error)
            return REFUSED_PAUSE_S
        except (Unreachable, RemoteError) as error:
            if not self.tracker_silent:
                log.warning("tracker %s does not answer (%s): going on with the last view", tracker, error)
            self.tracker_silent = str(error)
            return random.uniform(*SILENT_PAUSE_S)  # noqa: S311
        await self._on_reply(tracker, reply, time.monotonic() - began)
        return SILENT_PAUSE_S[1] if reply.conflict else 0.0

    def _on_wrong_secret(self, tracker: str, error: WrongSecret) -> None:
        if not self._roster.refused:
            log.error("tracker %s refused us: %s; serving from the origin, standalone", tracker, error)
        self._roster.refused = True
        self.why_leaf = f"wrong swarm secret: {error}"

    async def _on_reply(self, tracker: str, reply: AnnounceReply, took_s: float) -> None:
        if reply.conflict is not None:
            self._on_conflict(tracker, reply)
            return
        self._conflict_since = None
        if self.tracker_silent or self._roster.refused:
            log.info("tracker %s answers again", tracker)
        self.tracker_silent = ""
        self._roster.refused = False
        rtt_s = max(0.0, took_s - reply.held_ms / 1000)
        self._roster.offset_s = reply.now_ms / 1000 + rtt_s / 2 - time.time()
        self._on_state(reply)
        if reply.members is not None:
            self._generation = reply.generation
            self._metrics.control_bytes[Control.VIEW] += len(msgspec.msgpack.encode(reply))
            self._roster.take_view(reply.generation, reply.members)
            self.has_view = True
            await self._keep(reply.members)

    def _on_state(self, reply: AnnounceReply) -> None:
        why = "" if reply.state is State.ALIVE else reply.why or "not reached yet"
        if why and why != self.why_leaf:
            log.warning("we are a leaf, home for nothing: %s", why)
        elif not why and self.why_leaf:
            log.info("reachable: we carry weight")
        self.why_leaf = why

    def _on_conflict(self, tracker: str, reply: AnnounceReply) -> None:
        now = time.monotonic()
        self._conflict_since = self._conflict_since or now
        self.why_leaf = f"another edge named {self._roster.me} lives at {reply.conflict}"
        if now - self._conflict_since >= CONFLICT_S:
            raise StartupError(
                f"node name {self._roster.me!r} is taken: {reply.conflict} bears it, and this edge ({reply.observed}) "
                f"may not (says tracker {tracker}); give each edge a name of its own"
            )

    async def _keep(self, members: Sequence[Member]) -> None:
        if self._file is None:
            return
        try:
            await asyncio.to_thread(self._file.write, members)
        except OSError as error:
            log.warning("the view cannot be kept on disk: %s", error.strerror)

    async def leave(self) -> None:
        """Say goodbye, so that nobody waits for us; best effort within a second."""
        if self._request is None or self._roster.refused:
            return
        goodbye = msgspec.structs.replace(self._request, leaving=True, hold_ms=0)
        for tracker in self._trackers:
            try:
                await self._asker.message(tracker, ANNOUNCE_PATH, goodbye, AnnounceReply, within_s=1.0)
                return
            except (Unreachable, RemoteError, WrongSecret) as error:
                log.warning("could not say goodbye to tracker %s: %s", tracker, error)


def _announcement(
    roster: Roster, signer: Signer, port: int, advertise: str | None, capacity_bps: float | None
) -> Signed:
    said = Announcement(
        node=roster.me,
        key=signer.public,
        address=advertise,
        port=port,
        zone=roster.zone,
        capacity_bps=capacity_bps,
        incarnation=int(time.time() * 1000),
    )
    return signer.sign(ANNOUNCEMENT_CONTEXT, msgspec.msgpack.encode(said))
