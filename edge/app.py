"""The composition root of an edge: builds every part once, wires them, owns their tasks, takes them down in order."""

import asyncio
import logging
import math
import random
import ssl
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.typedefs import Handler

from daemon.addresses import Address
from daemon.asking import Asker
from daemon.directories import usable_directory
from daemon.errors import StartupError
from daemon.keys import Signer, checker, load_or_make_node_key
from daemon.listeners import BACKLOG, bound_address, listen, tls_context
from daemon.logs import fields
from daemon.pacing import Pacer
from daemon.peer_auth import Gatekeeper
from daemon.version import VERSION
from edge import config as settings
from edge import named_files
from edge.access_log import AccessLog
from edge.admin import Admin
from edge.audits import Audits
from edge.bans import FILE_NAME as BANS
from edge.bans import BanFile, Bans
from edge.cors import METHODS
from edge.disk import Logged
from edge.fills import Fills
from edge.front import Front
from edge.gossip import Gossiping
from edge.held import Held
from edge.hits import OFFERED, Hits
from edge.membership import Membership
from edge.metrics import EdgeMetrics
from edge.origins import Origin, SignedOrigin
from edge.pages import HLS_JS, Pages
from edge.passing import SERVER
from edge.peer_http import PeerHttp
from edge.plain_origin import Failed, PlainOrigin, Share
from edge.purge_requests import Naming
from edge.purges import FILE_NAME as PURGES
from edge.purges import PurgeFile, Purges
from edge.reload import differences, reloaded
from edge.resolver import Resolver
from edge.roster import Roster, ViewFile
from edge.sites import Sites
from edge.store import Store, restored
from edge.viewer_http import ViewerHttp
from swarm.errors import RemoteError
from swarm.evidence import BanBook
from swarm.http_dates import format_http_date
from swarm.metainfo import Page, Pointer, Signed, open_page
from swarm.names import Path as ContentPath
from swarm.names import token_like
from swarm.placement import SMALL_BYTES
from swarm.purging import PurgeBook
from swarm.tokens import Gate
from swarm.uploads import GOODPUT, LEAST_BPS, RecentRate

log = logging.getLogger(__name__)

FINISH_S = 30.0  # what is being sent when listeners close may take so long
SAMPLE_S = 1.0
VIEWERS_OVER_S = 0.2  # what viewers took in so long is left to them
MOST_LINE_BYTES = 16 << 10  # of a request line or header


class Edge:
    """One running edge."""

    def __init__(self, config: settings.EdgeConfig) -> None:
        self.config = config
        on_disk = bool(config.cache.disk)
        directory = usable_directory("cache.directory", config.cache.directory) if on_disk else None
        secrets, keys = named_files.secrets(config), named_files.public_keys(config)  # first: nothing to close yet
        self.sites = Sites(config, named_files.gates(config))
        key_path = directory / named_files.NODE_KEY if directory else None
        signer = load_or_make_node_key(key_path, config.node) if key_path else Signer.throwaway(config.node)
        self.metrics = EdgeMetrics(config.node, config.zone, VERSION)
        self.roster = Roster(config.node, config.zone, signer, in_swarm=config.swarm is not None)
        self.access_log = AccessLog(self.metrics, self.roster.swarm_time)
        self.asker = Asker(config.node, secrets)
        self.book = PurgeBook()
        self._anonymous = Asker(config.node, ())
        self._origins = {site: self._make_origin(origin, keys) for site, origin in config.origins().items()}
        cache = config.cache
        self.store = Store(directory, cache.memory, cache.disk, self.metrics, cache.min_free)
        self.fills = Fills(self.store, self.roster, self.asker, self._origins, self.metrics)
        self.fills.limits = lambda: (self.config.limits.down, self.config.limits.origin)
        self.resolver = Resolver(
            self.store, self.fills, self.roster, self.asker, self._origins, self.metrics, self.book
        )
        purge_file = PurgeFile(directory / PURGES) if directory else None
        self.purges = Purges(self.book, self.roster, self.asker, self.metrics, purge_file)
        self.store.pointers.allows = self.purges.allows
        self.roster.on_view = self.purges.on_view
        self.metrics.peers.read = self.roster.counts
        self.bans = Bans(BanBook(), self.roster, BanFile(directory / BANS) if directory else None)
        self.fills.accuse = self.bans.accuse
        rng = random.SystemRandom()
        self.audits = Audits(self._origins, self.roster, self.metrics, rng, self.fills.contest, self.bans.accuse)
        self.fills.on_attested = self.audits.on_piece
        self.bans.contradicts = self.audits.contradicts
        self.bans.on_banned = lambda ban: self.fills.on_banned(ban.node)
        self.membership: Membership | None = None
        self.gossip: Gossiping | None = None
        self._gatekeeper: Gatekeeper | None = None
        if config.swarm is not None:
            file = ViewFile(directory / "view") if directory else None
            swarm = config.swarm
            self._gatekeeper = gatekeeper = Gatekeeper(config.node, secrets)
            self.gossip = gossip = Gossiping(
                self.asker, gatekeeper, signer, self.metrics, swarm.seeds, topology=swarm.topology, role=swarm.role
            )
            self.membership = membership = Membership(
                swarm.tracker, self.asker, self.roster, file, self.metrics, gossip, swarm.role
            )
            self.purges.is_member = lambda: membership.settled
            self.metrics.peers.read = membership.counts
            gossip.hear("ban", self.bans.on_heard)
            self.bans.spread = lambda signed, keep_s: gossip.spread("ban", signed, keep_s)
            gatekeeper.refuses = self.bans.refusal
        self._viewer_http = ViewerHttp(
            config.node,
            self.sites,
            self.roster.swarm_time,
            self.store,
            self.fills,
            self.resolver,
            self._origins,
            self.metrics,
            self.access_log,
        )
        self.hits = Hits(self.sites, self.store, self.metrics, self.roster.swarm_time)
        self.metrics.settle = lambda: self.hits.settle(time.monotonic())
        self.purges.on_applied = self.hits.clear
        self._front: Front | None = None
        self._admin: Admin | None = None
        topology = config.swarm.topology if config.swarm else "none"
        self.pages = Pages(self.roster, self.store, self.sites, topology, self._unwell, lambda: self.metrics.settle())
        self._viewer_app = web.Application(client_max_size=0, middlewares=[about_the_server])
        self._viewer_app.on_response_prepare.append(self._on_response)
        self.pages.add_to(self._viewer_app)
        self._viewer_app.router.add_route("*", "/{path:.*}", self._viewer_http.handle)
        self.peers = None
        self._to_viewers = RecentRate(VIEWERS_OVER_S)
        self.pacer = Pacer(config.swarm.capacity if config.swarm else None, self._peers_ceiling_bps)
        if self._gatekeeper is not None:
            sites = frozenset(self._origins)
            self.peers = PeerHttp(
                self._gatekeeper,
                self.roster,
                self.store,
                self.fills,
                self.resolver,
                sites,
                self.metrics,
                self.purges,
                self.pacer,
            )
        self._draining = False
        self._drained = asyncio.Event()
        self._listening = False
        self._announcing: asyncio.Task[None] | None = None
        self._runners: list[web.AppRunner] = []
        self._addresses: dict[str, str] = {}
        self._peer_port = 0
        self.metrics.ready.read = lambda: float(not self._missing())

    def __repr__(self) -> str:
        return f"<Edge {self.config.node} {self._addresses}>"

    def _peers_ceiling_bps(self) -> float:
        """What `limits` leave for peers: viewers come first."""
        limits = self.config.limits
        given = [math.inf] if limits.peers_up is None else [float(limits.peers_up)]
        if limits.uplink is not None:
            self.metrics.settle()
            viewers_bps = self._to_viewers.rate_bps(sum(self.metrics.viewer_bytes.values()), time.monotonic())
            given.append(max(LEAST_BPS, limits.uplink - viewers_bps))
        return min(given)

    # --- building

    def _make_origin(self, origin: settings.Origin, keys: Mapping[Path, Mapping[str, bytes]]) -> Origin:
        def on_fault(fault: str) -> None:
            self.metrics.origin_failures[fault] += 1

        urls: Sequence[str] = [str(url) for url in origin.url]
        failed: Failed = on_fault
        if origin.trust == "signed":
            assert origin.public_key_file is not None
            check = checker(keys[origin.public_key_file].get)
            return SignedOrigin(
                urls, check, self.asker, self._anonymous, lambda: self.roster.standalone, SMALL_BYTES - 1, failed
            )

        def share_of(path: ContentPath, pointer: Pointer) -> Share | None:
            dealing = self.roster.dealing(path, pointer, "attested")
            if dealing.runs is None:
                return None
            capacity = self.config.origins()[path.site].capacity  # may be reloaded
            part = dealing.share_of(self.roster.me) or 1 / len(dealing.homes)  # of one that stands in for a lost home
            return Share(capacity * GOODPUT * part if capacity else None)

        return PlainOrigin(
            urls, self.roster.check, self.roster.signer, self.roster.swarm_time, failed, self.book, share_of
        )

    def _warn(self) -> None:
        """What the configuration says that may not do what its writer thinks."""
        config = self.config
        for name in config.cache.ignore_query:
            if token_like(name):
                log.warning("cache.ignore_query drops %r, which looks like a token, and nobody checks it here", name)
        if config.limits.uplink is not None:
            log.warning("limits.uplink: peers get what viewers leave of it; viewers themselves are not held to it yet")
        if not HLS_JS.is_file():
            log.warning("the page /-/player/ has no hls.js: run make setup (before pip install)")

    async def start(self) -> None:
        """StartupError for what the operator must mend; whatever was opened is closed again."""
        try:
            await self._start()
        except BaseException:
            await self._close()
            raise

    async def _start(self) -> None:
        config = self.config
        named_files.access_log(config)
        self.access_log.take(config.log)
        self._warn()
        if self.membership is not None:
            await self.membership.restore()
        await self.bans.open()
        await self.purges.open()
        try:
            await self.store.open(self._adopt, self.resolver.restore)
        except OSError as error:
            raise StartupError(f"cache.directory {config.cache.directory}: {error.strerror or error}") from error
        congestion = config.transport.congestion
        admin = self._admin = Admin(
            self.roster,
            self.store,
            self.fills,
            self.metrics,
            next(iter(self._origins)),
            self._missing,
            self._troubles,
            self._drained.set,
            config.admin.token_file,
            self.purges,
            Naming(tuple(self._origins), lambda host: self.sites.site_of(host), self.sites.path),
            self.bans,
            self.peers.to_peers if self.peers is not None else {},
        )
        await self._serve("admin", admin.app(), config.admin.listen, None)
        if self.peers is not None and self.gossip is not None:
            peer_app = self.peers.app()
            self.gossip.add_to(peer_app)
            await self._serve("peer", peer_app, config.peer.listen, congestion)
        await self._serve_viewers(config.viewer, congestion, _tls(config))
        self._listening = True

    async def _serve(self, name: str, app: web.Application, address: Address, congestion: str | None) -> None:
        listener = listen(f"{name}.listen", address, congestion)
        runner = await self._runner(app)
        await web.SockSite(runner, listener, backlog=BACKLOG).start()
        bound = bound_address(listener)
        self._addresses[name] = str(bound)
        if name == "peer":
            self._peer_port = bound.port

    async def _serve_viewers(
        self, viewer: settings.Viewer, congestion: str | None, context: ssl.SSLContext | None
    ) -> None:
        listener = listen("viewer.listen", viewer.listen, congestion)
        server = (await self._runner(self._viewer_app)).server
        assert server is not None
        unsent = self.store.memory_bytes // 4
        self._front = Front(
            viewer,
            server,
            self.hits,
            self.metrics,
            self.roster.swarm_time,
            unsent,
            self.access_log,
            self._viewer_http.rest_of,
        )
        self._front.start(listener, context)
        self._addresses["viewer"] = str(bound_address(listener))
        self.metrics.viewer_connections.read = lambda: float(self._front.count() if self._front else 0)

    async def _runner(self, app: web.Application) -> web.AppRunner:
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            keepalive_timeout=75.0,
            shutdown_timeout=FINISH_S,
            max_line_size=MOST_LINE_BYTES,
            max_field_size=MOST_LINE_BYTES,
        )
        await runner.setup()
        self._runners.append(runner)
        return runner

    def _adopt(self, logged: Logged) -> Held | None:
        """A version read back from disk, if its site is still ours and its pages verify."""
        origin = self._origins.get(logged.head.site)
        if origin is None or origin.trust != logged.head.trust:
            return None
        if origin.trust != "signed" and self._is_tainted(logged):
            return None
        check = origin.check

        def read_page(signed: Signed) -> Page:
            return open_page(signed, check)

        try:
            return restored(logged, read_page)
        except RemoteError as error:
            log.warning("dropping %s from the cache: %s", logged.head.url_path, error)
            return None

    def _is_tainted(self, logged: Logged) -> bool:
        """Whether an edge vouched for it that was banned after this one learned of it."""
        learned_at = logged.pointer.made_at if logged.pointer is not None else 0.0
        keys = (self.roster.key_of(signed.signer) for signed in logged.pages)
        return any(key is not None and self.bans.book.taints(key, learned_at) for key in keys)

    # --- living

    async def reload(self, config: settings.EdgeConfig) -> None:
        """Take up what can change while we run, all of it or (StartupError) none; cache and connections stay."""
        running = reloaded(self.config, config)
        gates, context = await asyncio.to_thread(_opened, running)
        applied = list(differences(self.config, running))
        self.config = running
        self.sites.take(running, gates)
        self.hits.clear()  # what was ready was made by the rules of before
        self.access_log.take(running.log)
        self.store.resize(running.cache.memory, running.cache.disk, running.cache.min_free)
        for site, origin in running.origins().items():
            self._origins[site].take_urls([str(url) for url in origin.url])
        if self._admin is not None:
            self._admin.token_file = running.admin.token_file
        if self._front is not None:
            self._front.take(running.viewer, context, self.store.memory_bytes // 4)
        self._warn()
        log.info("configuration reloaded", extra=fields(changed=",".join(applied) or "nothing"))
        if kept := list(differences(running, config)):
            log.warning("needs a restart, and is as before: %s", ", ".join(kept))

    def ready(self) -> dict[str, object]:
        return dict(self._addresses)

    async def run(self) -> None:
        """Announce, sample rates; returns when POST /drain asks for a stop."""
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(self._sample())]
            if self.membership is not None and self.config.swarm is not None:
                advertise = str(self.config.peer.advertise) if self.config.peer.advertise else None
                capacity = self.config.swarm.capacity
                announcing = self.membership.run(self._peer_port, advertise, float(capacity) if capacity else None)
                self._announcing = tasks.create_task(announcing)
                background.append(tasks.create_task(self.purges.run()))
                background.append(tasks.create_task(self.bans.run()))
            await self._drained.wait()
            for task in background:
                task.cancel()
            if self._announcing is not None:
                self._announcing.cancel()

    async def _sample(self) -> None:
        while True:
            now = time.monotonic()
            origin = {"origin": sum(self.metrics.origin_bytes.values())}
            self.pages.down.sample(now, self.fills.from_peers | origin)
            if self.peers is not None:
                self.pages.up.sample(now, self.peers.to_peers)
            await asyncio.sleep(SAMPLE_S)

    async def stop(self) -> None:
        """Health says 503 for the grace, the swarm is told goodbye, what is being sent is finished."""
        self._draining = True
        self.hits.close()
        if self._announcing is not None:
            self._announcing.cancel()
            await asyncio.wait((self._announcing,))
        if self.membership is not None:
            await self.membership.leave()
        await asyncio.sleep(self.config.drain.grace)
        await self._close()

    async def _close(self) -> None:
        if self._front is not None:
            await self._front.close(FINISH_S)
        for runner in reversed(self._runners):
            await runner.cleanup()
        self.pacer.close()
        if self.gossip is not None:
            await self.gossip.close()
        await self.purges.close()
        await self.audits.close()
        await self.bans.close()
        await self.resolver.close()
        await self.fills.close()
        await self.store.close()
        await asyncio.to_thread(self.access_log.close)
        for origin in self._origins.values():
            await origin.close()
        await self.asker.close()
        await self._anonymous.close()

    async def _on_response(self, request: web.Request, response: web.StreamResponse) -> None:
        if response.headers.get("Server") == SERVER_SOFTWARE:  # of ours; content bears its origin's
            response.headers["Server"] = SERVER
            response.headers["Date"] = _http_date(int(self.roster.swarm_time()))  # our own clock may be wrong
        if self._draining:  # so that nobody's next request meets a closed connection
            response.headers["Connection"] = "close"
            response.force_close()
        elif OFFERED in request:
            self.hits.offer(request, response, *request[OFFERED])

    # --- how it is

    def _missing(self) -> list[str]:
        """What keeps `/readyz` from 200."""
        missing = []
        if not self._listening:
            missing.append("listeners are not open yet")
        if self._draining:
            missing.append("draining")
        if self.membership is not None and not self.membership.settled:
            missing.append("no view of the swarm yet")
        return missing

    def _troubles(self) -> list[str]:
        """What is amiss but bearable."""
        troubles = []
        membership = self.membership
        if membership is not None:
            if self.roster.refused:
                troubles.append(f"standalone: {membership.why_leaf}")
            elif membership.why_leaf:
                troubles.append(f"leaf: {membership.why_leaf}")
            if membership.tracker_silent:
                troubles.append(f"tracker silent, going on with the last view: {membership.tracker_silent}")
        if self.purges.trouble:
            troubles.append(f"purges cannot be kept on disk: {self.purges.trouble}")
        if self.access_log.trouble:
            troubles.append(f"access log is not written: {self.access_log.trouble}")
        if self.store.disk_trouble:
            troubles.append(f"disk failing, serving from memory and peers: {self.store.disk_trouble}")
        return troubles

    def _unwell(self) -> str:
        return "; ".join(self._missing())


@web.middleware
async def about_the_server(request: web.Request, handler: Handler) -> web.StreamResponse:
    """`OPTIONS *` is about no path (RFC 9110 section 9.3.7), so that no route can have it."""
    if request.method == hdrs.METH_OPTIONS and request.raw_path == "*":
        return web.Response(status=HTTPStatus.NO_CONTENT, headers={"Allow": METHODS})
    return await handler(request)


_http_date = lru_cache(maxsize=2)(format_http_date)  # once a second, not once a response


def _tls(config: settings.EdgeConfig) -> ssl.SSLContext | None:
    tls = config.viewer.tls
    return tls_context(tls.certificate, tls.key) if tls else None


def _opened(config: settings.EdgeConfig) -> tuple[dict[str, Gate], ssl.SSLContext | None]:
    """The files that may have changed under the same names. StartupError; blocks."""
    return named_files.gates(config), _tls(config)


async def start(config: settings.EdgeConfig) -> Edge:
    edge = Edge(config)
    await edge.start()
    return edge
