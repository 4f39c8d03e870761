"""What the viewer port serves under `/-/`: health, where bytes came from, the picture of the swarm, the player."""

import json
import mimetypes
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath

from aiohttp import web

from edge.roster import Roster
from edge.sites import Sites
from edge.store import Store
from swarm.accounting import Source
from swarm.health import Link
from swarm.members import State
from swarm.names import BadPath

PLAYER = FilePath(__file__).parent.parent / "player" / "web"
HLS_JS = PLAYER / "vendor" / "hls.min.mjs"  # fetched by make setup, carried by a wheel built after it
RATE_WINDOW = 5  # samples, one a second
POLICY = (
    "default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; img-src 'self' data:; "
    "style-src 'self'; object-src 'none'; base-uri 'none'"
)
_TYPES = {".mjs": "text/javascript", ".js": "text/javascript", ".LICENSE": "text/plain"}


class Rates:
    """Bytes a second over the last few seconds, from counters sampled once a second."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, dict[str, int]]] = deque(maxlen=RATE_WINDOW + 1)

    def sample(self, now: float, totals: Mapping[str, int]) -> None:
        self._samples.append((now, dict(totals)))

    def of(self, name: str) -> float:
        """In bytes a second; 0 until two samples are there."""
        if len(self._samples) < 2:
            return 0.0
        (began, first), (ended, last) = self._samples[0], self._samples[-1]
        return (last.get(name, 0) - first.get(name, 0)) / max(ended - began, 1e-9)


class Pages:
    """The handlers of `/-/` on the viewer port. Names, zones and rates; never addresses."""

    def __init__(
        self,
        roster: Roster,
        store: Store,
        sites: Sites,
        topology: str,
        unwell: Callable[[], str],
        settle: Callable[[], None],
    ) -> None:
        self._roster = roster
        self._store = store
        self._sites = sites
        self._topology = topology
        self._unwell = unwell
        self._settle = settle  # counts what the hit path did
        self.down = Rates()  # by peer; "origin" for all origins
        self.up = Rates()
        self._files = _player_files()

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/-/health", self.handle_health)
        app.router.add_get("/-/sources", self.handle_sources)
        app.router.add_get("/-/swarm", self.handle_swarm)
        app.router.add_get("/-/player", self.handle_player_without_slash)
        app.router.add_get("/-/player/{name:.*}", self.handle_player)
        app.router.add_get("/-/{rest:.*}", self.handle_unknown)

    async def handle_health(self, request: web.Request) -> web.Response:
        why = self._unwell()
        return web.Response(status=503 if why else 200, text=f"{why or 'ok'}\n", headers={"Cache-Control": "no-store"})

    async def handle_sources(self, request: web.Request) -> web.Response:
        """Where a body's bytes came from: `?path=/film/seg1.m4s`."""
        self._settle()
        site = self._sites.site_of(request.host)
        try:
            path = self._sites.path(site or "", request.query.get("path", ""))
        except BadPath as error:
            return web.Response(status=400, text=f"{error}\n")
        await self._store.recall(path)
        known = self._store.pointers.newest(path)
        held = self._store.held(known.pointer.version) if known and known.pointer.version else None
        if held is None:
            return _json({"error": f"{path.target} is not in this edge's cache"}, status=404)
        from_nodes = {node: size for node, size in held.fetched.items() if node != "origin"}
        return _json(
            {
                "path": path.target,
                "version": held.version.hex(),
                "trust": held.trust,
                "size": held.metainfo.size,
                "served": held.served,
                "fetched": {Source.PEER: sum(from_nodes.values()), Source.ORIGIN: held.fetched.get("origin", 0)},
                "from": from_nodes,
            }
        )

    async def handle_swarm(self, request: web.Request) -> web.Response:
        roster = self._roster
        members = [
            {
                "node": peer.node,
                "zone": peer.zone,
                "state": _state(roster, peer.node, peer.state),
                "down_bps": round(self.down.of(peer.node) * 8),
                "up_bps": round(self.up.of(peer.node) * 8),
            }
            for peer in sorted(roster.others(), key=lambda peer: peer.node)
        ]
        return _json(
            {
                "node": roster.me,
                "zone": roster.zone,
                "state": "refused" if roster.refused else roster.state() if roster.in_swarm else "standalone",
                "topology": self._topology,
                "members": members,
                "origin": {"down_bps": round(self.down.of("origin") * 8)},
            }
        )

    async def handle_player_without_slash(self, request: web.Request) -> web.Response:
        raise web.HTTPPermanentRedirect("/-/player/" + (f"?{request.query_string}" if request.query_string else ""))

    async def handle_player(self, request: web.Request) -> web.Response:
        name = request.match_info["name"] or "index.html"
        if name not in self._files:
            return web.Response(status=404, text=f"the player has no file {name!r}\n")
        body, kind = self._files[name]
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=body, content_type=kind, headers=headers)

    async def handle_unknown(self, request: web.Request) -> web.Response:
        return web.Response(status=404, text="nothing here under /-/\n")


def _state(roster: Roster, node: str, state: State) -> str:
    link = roster.health.state(node, time.monotonic())
    return str(state) if link is Link.OK else "suspect"


def _json(value: object, status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"}
    return web.Response(status=status, text=json.dumps(value), content_type="application/json", headers=headers)


def _player_files() -> dict[str, tuple[bytes, str]]:
    """The page and its scripts, read once; nothing else can be asked for."""
    if not PLAYER.is_dir():
        return {}
    files = {}
    for path in sorted(PLAYER.rglob("*")):
        if path.is_file():
            kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            files[path.relative_to(PLAYER).as_posix()] = (path.read_bytes(), kind)
    return files
