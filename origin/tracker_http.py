"""The shell around `swarm.tracker`: announcements as long polls, dial-backs, one timer."""

import asyncio
import logging
import time
from collections.abc import Callable

from aiohttp import web

from daemon import keys
from daemon.addresses import parse_url, url_host
from daemon.answering import admit, message_response, read_body
from daemon.asking import Asker
from daemon.logs import fields
from daemon.peer_auth import Gatekeeper, WrongSecret
from swarm.accounting import Control
from swarm.errors import RemoteError, Unreachable
from swarm.members import (
    ANNOUNCEMENT_CONTEXT,
    FORMAT,
    Announcement,
    AnnounceReply,
    AnnounceRequest,
    State,
    read_announcement,
)
from swarm.tracker import Dial, Full, Heard, NameTaken, Tracker
from swarm.wire import decode_message

log = logging.getLogger(__name__)

MOST_HOLD_S = 1.0  # an edge that is held longer would be silent for too long
DIAL_S = 1.5
TIMER_SLACK_S = 0.005  # fire just after a deadline, never just before

Count = Callable[[dict[Control, int]], None]


class TrackerService:
    """Runs one tracker. `count` is told the control bytes sent."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        asker: Asker,
        count: Count,
        *,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.tracker = Tracker(generation=int(wall() * 1000))
        self._gatekeeper = gatekeeper
        self._asker = asker
        self._count = count
        self._now, self._wall = now, wall
        self._changed = asyncio.Event()
        self._dials: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._told: dict[str, State] = {}  # what the log last said of each member ...
        self._told_generation = self.tracker.generation  # ... and of which view
        self._closing = False
        self.held = 0  # announcements that wait for news

    def __repr__(self) -> str:
        return f"<TrackerService {self.tracker}, {len(self._dials)} dials>"

    async def handle_announce(self, request: web.Request) -> web.Response:
        """400 for nonsense, 401 unless the session proves the announced name, 503 when full."""
        came_at = self._now()
        body = await read_body(request)
        node = admit(self._gatekeeper, request, body)
        try:
            asked = decode_message(body, AnnounceRequest)
            said = _verified(asked)
        except RemoteError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        if said.node != node:
            log.warning(
                "announcement refused", extra=fields(node=said.node, session=node, why="another node's session")
            )
            raise web.HTTPUnauthorized(text="announce your own name\n")
        conflict = self._hear(asked, said, request.remote or "")
        if conflict is None and not asked.leaving:
            await self._hold(asked, min(asked.hold_ms / 1000, MOST_HOLD_S))
        response = message_response(self._reply(asked, said, request.remote or "", conflict, came_at))
        self._count({Control.VIEW: len(response.body) if isinstance(response.body, bytes) else 0})
        return response

    def members(self) -> list[tuple[str, State, str, str]]:
        """Name, state, address, and for a leaf why it is one; by name."""
        listed = [(member.signed.signer, member.state, member.address) for member in self.tracker.view()]
        return [(node, state, address, self.tracker.state_of(node)[1]) for node, state, address in sorted(listed)]

    async def close(self) -> None:
        """Answer whoever is held, give up dials."""
        self._closing = True
        self._changed.set()
        if self._timer is not None:
            self._timer.cancel()
        dials = list(self._dials)
        for task in dials:
            task.cancel()
        await asyncio.gather(*dials, return_exceptions=True)

    def _hear(self, asked: AnnounceRequest, said: Announcement, remote: str) -> str | None:
        """The address of the bearer of this name, if it is taken. HTTP 503 when full."""
        if said.leaving or (asked.leaving and not said.gossips):  # only older edges do not sign it
            self.tracker.on_left(said)
            self._after_change()
            return None
        outcome = self.tracker.on_announced(said, asked.signed, url_host(remote), self._now())
        self._after_change()
        match outcome:
            case Heard():
                return None
            case NameTaken(address):
                log.warning("name taken", extra=fields(node=said.node, bearer=address, sender=remote))
                return address
            case Full():
                raise web.HTTPServiceUnavailable(text="more members than this tracker keeps\n")

    async def _hold(self, asked: AnnounceRequest, hold_s: float) -> None:
        """Until the view is another than the asker knows, or the time is up."""
        self.held += 1
        try:
            async with asyncio.timeout(hold_s):
                # Not "newer": after a clock was set back, a tracker that restarted may count lower.
                while self.tracker.generation == asked.known_generation and not self._closing:
                    await self._changed.wait()
        except TimeoutError:
            return
        finally:
            self.held -= 1

    def _reply(
        self, asked: AnnounceRequest, said: Announcement, remote: str, conflict: str | None, came_at: float
    ) -> AnnounceReply:
        state, why = self.tracker.state_of(said.node)
        is_news = conflict is None and self.tracker.generation != asked.known_generation
        return AnnounceReply(
            generation=self.tracker.generation,
            now_ms=int(self._wall() * 1000),
            held_ms=int((self._now() - came_at) * 1000),
            members=self.tracker.view() if is_news else None,
            state=state,
            why=why,
            observed=remote,
            conflict=conflict,
        )

    def _after_change(self) -> None:
        """Forget who fell silent, dial who is due, tell of changes, arm the timer."""
        now = self._now()
        self.tracker.expire(now)
        for dial in self.tracker.due_dials(now):
            task = asyncio.create_task(self._dial(dial))
            self._dials.add(task)
            task.add_done_callback(self._dials.discard)
        self._tell()
        self._arm(now)

    def _tell(self) -> None:
        """Wake who is held and log who came and went, if the view is another than last time."""
        if self.tracker.generation == self._told_generation:
            return
        self._told_generation = self.tracker.generation
        self._changed.set()
        self._changed = asyncio.Event()
        members = {member.signed.signer: member for member in self.tracker.view()}
        for node in self._told.keys() - members.keys():
            log.info("member left or fell silent", extra=fields(node=node))
        for node, member in members.items():
            if self._told.get(node) is not member.state:
                _log_member(node, member.state, member.address, self.tracker.state_of(node)[1])
        self._told = {node: member.state for node, member in members.items()}

    def _arm(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.tracker.next_deadline()
        if deadline is not None and not self._closing:
            delay_s = max(0.0, deadline - now) + TIMER_SLACK_S
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._after_change)

    async def _dial(self, dial: Dial) -> None:
        why = await self._why_unreached(dial)
        if why is None:
            self.tracker.on_reached(dial)
        else:
            self.tracker.on_unreached(dial, why, self._now())
            log.info("leaf: not reached", extra=fields(node=dial.node, address=dial.address, why=why))
        if not self._closing:
            self._after_change()

    async def _why_unreached(self, dial: Dial) -> str | None:
        """None if the node itself answered at its address."""
        try:
            name = await self._asker.greet(dial.address, within_s=DIAL_S)
        except WrongSecret:
            return "who answers there does not know the swarm's secret"
        except (Unreachable, RemoteError) as error:
            return str(error)
        return None if name == dial.node else f"{name} answers there"


def _verified(asked: AnnounceRequest) -> Announcement:
    """RemoteError unless it is well-formed and signed with the key it states."""
    if asked.format != FORMAT:
        raise RemoteError(f"announcement of format {asked.format}; this program reads {FORMAT}")
    said = read_announcement(asked.signed)
    keys.verify(said.key, ANNOUNCEMENT_CONTEXT, asked.signed)
    if not 0 < said.port < 65536:
        raise RemoteError(f"announcement with port {said.port}")
    if said.address is not None:
        try:
            parse_url(said.address)
        except ValueError as error:
            raise RemoteError(f"announcement with an unusable address: {error}") from error
    return said


def _log_member(node: str, state: State, address: str, why: str) -> None:
    if state is State.ALIVE:
        log.info("member alive", extra=fields(node=node, address=address))
    else:
        log.info("member joined as a leaf", extra=fields(node=node, address=address, why=why))
