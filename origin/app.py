"""Builds an origin out of its parts, once, and owns their life."""

import asyncio
import fcntl
import logging
import os
import socket
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web

from daemon.addresses import Address
from daemon.answering import hello_handler
from daemon.asking import ANNOUNCE_PATH, ASK_PATH, Asker
from daemon.directories import check_directory, usable_directory
from daemon.errors import StartupError
from daemon.keys import Signer, load_secrets, load_signing_key
from daemon.listeners import bound_address, listen
from daemon.logs import fields
from daemon.pacing import Pacer
from daemon.peer_auth import HELLO_PATH, Gatekeeper
from daemon.version import VERSION
from origin.admin_http import Status, admin_app
from origin.ask_http import AskHandler
from origin.config import Ingest as IngestConfig
from origin.config import OriginConfig
from origin.content_http import READING, ContentHandler
from origin.digests import Digests, sweep
from origin.disk import Disk, Tree
from origin.ingest import Ingest
from origin.ingest_http import IngestHandler, read_token
from origin.ledger import OriginLedger
from origin.library import Library
from origin.metrics import OriginMetrics
from origin.patient_server import Handler, PatientServer
from origin.sequences import Sequences, read_ceiling, write_ceiling
from origin.tracker_http import TrackerService
from swarm.accounting import PeerState
from swarm.members import State
from swarm.names import split_target

log = logging.getLogger(__name__)

NAME = "origin"  # under which it proves the secret to edges
STOP_S = 5.0  # what is being sent has so long to end
CEILING_EVERY_S = 20.0
KEEPALIVE_S = 75.0


class Content:
    """Everything that serves and signs; a tracker alone has none of it."""

    def __init__(self, config: OriginConfig, signer: Signer, disk: Disk) -> None:
        self._ceiling = config.state / "sequence"
        self.sequences = Sequences(time.time, read_ceiling(self._ceiling))
        self.digests = Digests(config.state / "digests", disk)
        self.media = config.media
        self.ingest: Ingest | None = None
        trees = {"/": Tree(config.media, disk)} if config.media else {}
        if rules := config.ingest_rules:
            self.ingest = Ingest(config.state / "ingest", rules.prefix, disk)
            trees[rules.prefix] = Tree(self.ingest.visible, disk)
        self.library = Library(
            trees, self.digests, signer, self.sequences, ingest_prefix=rules.prefix if rules else None
        )

    def prepare(self, state: Path) -> None:
        """Blocking; before serving. StartupError if the state directory cannot be used."""
        try:
            (state / "digests").mkdir(exist_ok=True)
            sweep(state / "digests")
            if self.ingest is not None:
                self.ingest.prepare()
            self.write_ceiling()
        except OSError as error:
            raise StartupError(f"state {state}: {_reason(error)}") from error

    def write_ceiling(self) -> None:
        write_ceiling(self._ceiling, self.sequences.ceiling())


class Origin:
    """A running origin; `start` makes it."""

    def __init__(
        self,
        config: OriginConfig,
        metrics: OriginMetrics,
        ledger: OriginLedger,
        disk: Disk,
        content: Content | None,
        tracker: TrackerService | None,
        where: Mapping[str, Address],
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._ledger = ledger
        self._disk = disk
        self._content = content
        self._tracker = tracker
        self._where = where
        self.owned = AsyncExitStack()  # what `stop` closes, last opened first
        self._started_at = time.monotonic()
        self._stopping = False

    def ready(self) -> Mapping[str, object]:
        return {name: str(address) for name, address in self._where.items()}

    async def run(self) -> None:
        """Keeps the sequence's ceiling on disk above the numbers in use."""
        while True:
            await asyncio.sleep(CEILING_EVERY_S)
            if self._content is not None:
                try:
                    await self._disk.run(self._content.write_ceiling)
                except OSError as error:
                    log.error("state cannot be written", extra=fields(why=error.strerror))

    async def stop(self) -> None:
        self._stopping = True
        await self.owned.aclose()

    def missing(self) -> list[str]:
        """What keeps it from being ready."""
        lacks = ["stopping"] if self._stopping else []
        media = self._config.media
        if media is not None and not os.access(media, os.R_OK | os.X_OK):
            lacks.append(f"media {media} cannot be read")
        return lacks

    def status(self) -> Status:
        """For the status page."""
        status: Status = {
            "origin": {
                "version": VERSION,
                "listen": str(self._where["listen"]),
                "media": str(self._config.media or "none"),
                "up_s": round(time.monotonic() - self._started_at, 1),
            },
            "sent_bytes": self._ledger.by_reason(),
            "sent_bytes_by_asker": {asker: sum(row.values()) for asker, row in self._metrics.sent_bytes.items()},
            "distinct_bytes": self._metrics.distinct_bytes.value,
        }
        if self._tracker is not None:
            status["tracker"] = {"generation": self._tracker.tracker.generation, "held": self._tracker.held}
            status["members"] = [
                {"node": node, "state": str(state), "address": address, "why": why}
                for node, state, address, why in self._tracker.members()
            ]
        if self._content is not None and self._content.ingest is not None:
            status["ingest"] = {
                "prefix": self._content.ingest.prefix,
                "requests": ", ".join(f"{word} {count}" for word, count in self._metrics.ingest_requests.items()),
                "received_bytes": self._metrics.ingest_bytes.value,
                "held_back": self._content.ingest.held(),
            }
        return status


async def start(config: OriginConfig) -> Origin:
    """An origin that listens. StartupError for what the operator must mend."""
    async with AsyncExitStack() as opened:
        metrics = OriginMetrics(VERSION)
        ledger = OriginLedger(metrics)
        disk = Disk()
        opened.callback(disk.close)
        content = _content(config, disk, opened)
        if content is not None:
            opened.push_async_callback(_close_content, content, disk)
        gatekeeper, tracker = _swarm(config, ledger, opened)
        pacer = Pacer(config.swarm.capacity if config.swarm else None)
        opened.callback(pacer.close)
        handler = _viewer_handler(config, ledger, content, gatekeeper, tracker, pacer)
        viewers = listen("listen", config.listen)
        opened.callback(viewers.close)
        admin = listen("admin.listen", config.admin.listen)
        opened.callback(admin.close)
        where = {"listen": bound_address(viewers), "admin": bound_address(admin)}
        origin = Origin(config, metrics, ledger, disk, content, tracker, where)
        metrics.ready.read = lambda: not origin.missing()
        if tracker is not None:
            metrics.tracker_members.read = lambda: _counted(tracker)
        operators = web.AppRunner(admin_app(metrics, origin.status, origin.missing), access_log=None)
        await _serve(operators, admin, opened)
        server = PatientServer(handler, access_log=None, keepalive_timeout=KEEPALIVE_S)
        await _serve(web.ServerRunner(server, shutdown_timeout=STOP_S), viewers, opened)
        if tracker is not None:
            opened.push_async_callback(tracker.close)  # first of all: it holds long polls
        await origin.owned.enter_async_context(opened.pop_all())
        return origin


def check(config: OriginConfig) -> None:
    """For `--check`: StartupError for what `start` would refuse, ports apart; leaves no trace and takes no lock."""
    if config.has_content and config.signing_key_file is not None:
        load_signing_key(config.signing_key_file, "signing_key_file")
        if config.media is not None:
            _check_media(config.media)
        check_directory("state", config.state)
    _secrets(config)
    _token(config.ingest_rules)


def _content(config: OriginConfig, disk: Disk, opened: AsyncExitStack) -> Content | None:
    if not config.has_content or config.signing_key_file is None:
        return None
    signer = Signer(load_signing_key(config.signing_key_file, "signing_key_file"))
    if config.media is not None:
        _check_media(config.media)
    usable_directory("state", config.state)
    _lock(config.state, opened)
    content = Content(config, signer, disk)
    content.prepare(config.state)
    if content.ingest is not None and config.media is not None:
        shadowed = config.media / content.ingest.prefix.strip("/")
        if shadowed.exists():
            log.warning("ingest hides a part of media", extra=fields(hidden=shadowed, prefix=content.ingest.prefix))
    return content


async def _close_content(content: Content, disk: Disk) -> None:
    if content.ingest is not None:
        await content.ingest.close()
    await content.digests.close()
    try:
        await disk.run(content.write_ceiling)
    except OSError as error:
        log.error("state cannot be written", extra=fields(why=error.strerror))


def _check_media(media: Path) -> None:
    """StartupError unless it is a directory that can be read."""
    try:
        with os.scandir(media):
            pass
    except OSError as error:
        raise StartupError(f"media {media}: {_reason(error)}") from error


def _lock(state: Path, opened: AsyncExitStack) -> None:
    """Two origins in one state directory would sign over each other. StartupError if another is there."""
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    opened.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise StartupError(f"state {state}: another origin uses it") from error


def _swarm(
    config: OriginConfig, ledger: OriginLedger, opened: AsyncExitStack
) -> tuple[Gatekeeper | None, TrackerService | None]:
    """Who may ask under a name, and the tracker; neither without a secret."""
    known = _secrets(config)
    if not known:
        return None, None
    gatekeeper = Gatekeeper(NAME, known)
    if not config.runs_tracker:
        return gatekeeper, None
    asker = Asker(NAME, known)
    opened.push_async_callback(asker.close)
    return gatekeeper, TrackerService(gatekeeper, asker, ledger.on_control)


def _secrets(config: OriginConfig) -> tuple[bytes, ...]:
    return load_secrets(config.swarm.secret_file, "swarm.secret_file") if config.swarm else ()


def _counted(tracker: TrackerService) -> Mapping[str, float]:
    counts = tracker.tracker.counts()
    return {PeerState.ALIVE: counts[State.ALIVE], PeerState.SUSPECT: counts[State.LEAF]}


def _viewer_handler(
    config: OriginConfig,
    ledger: OriginLedger,
    content: Content | None,
    gatekeeper: Gatekeeper | None,
    tracker: TrackerService | None,
    pacer: Pacer,
) -> Handler:
    """Content, ingest, asks and the tracker on one port."""
    own: dict[str, Handler] = {}
    if gatekeeper is not None:
        own[HELLO_PATH] = hello_handler(gatekeeper)
    if tracker is not None:
        own[ANNOUNCE_PATH] = tracker.handle_announce
    if content is not None:
        own[ASK_PATH] = AskHandler(content.library, ledger, gatekeeper, pacer).handle_ask
    reading = ContentHandler(content.library if content else None, ledger)
    writing = IngestHandler(content.ingest if content else None, _token(config.ingest_rules), ledger.metrics)

    async def handle_any(request: web.Request) -> web.StreamResponse:
        if split_target(request.raw_path)[1].startswith("/-/"):
            handler = own.get(request.path)
            if handler is None:
                raise web.HTTPNotFound(text="not found\n")
            if request.method != "POST":
                raise web.HTTPMethodNotAllowed(request.method, ["POST"])
            return await handler(request)
        if request.method in READING:
            return await reading.handle_content(request)
        return await writing.handle_write(request)

    return handle_any


def _token(rules: IngestConfig | None) -> str | None:
    return read_token(rules.token_file) if rules and rules.token_file else None


async def _serve(runner: web.BaseRunner, listener: socket.socket, opened: AsyncExitStack) -> None:
    await runner.setup()
    opened.push_async_callback(runner.cleanup)
    await web.SockSite(runner, listener).start()


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


__all__ = ["Origin", "check", "start"]
