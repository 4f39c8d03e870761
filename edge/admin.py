"""The admin port: metrics, probes, the status page, and why a path would be fetched from whom."""

import hmac
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath

from aiohttp import web

from daemon.answering import read_body
from daemon.metrics import CONTENT_TYPE
from edge.bans import Bans
from edge.fills import Fills
from edge.metrics import EdgeMetrics
from edge.pointers import Known
from edge.purge_requests import BadPurge, Naming, read_purge
from edge.purges import Purges
from edge.roster import Roster
from edge.status_page import page
from edge.store import Store
from swarm import pieces
from swarm.accounting import Role
from swarm.ladder import pointer_rungs
from swarm.names import BadPath, normalise
from swarm.purging import BookFull, Purge

log = logging.getLogger(__name__)

PIECES_EXPLAINED = 4096
PURGES_TOLD = 20
MOST_PURGE_BYTES = 1 << 20


class Admin:
    """Handlers; `unready` says why `/readyz` is not 200, `troubles` what is amiss but bearable."""

    def __init__(
        self,
        roster: Roster,
        store: Store,
        fills: Fills,
        metrics: EdgeMetrics,
        default_site: str,
        unready: Callable[[], list[str]],
        troubles: Callable[[], list[str]],
        drain: Callable[[], None],
        token_file: FilePath | None,
        purges: Purges,
        naming: Naming,
        bans: Bans,
        to_peers: Mapping[str, int],
    ) -> None:
        self._roster = roster
        self._store = store
        self._fills = fills
        self._metrics = metrics
        self._default_site = default_site
        self._unready = unready
        self._troubles = troubles
        self._drain = drain
        self.token_file = token_file
        self._purges = purges
        self._naming = naming
        self._bans = bans
        self._to_peers = to_peers

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/metrics", self.handle_metrics)
        app.router.add_get("/livez", self.handle_livez)
        app.router.add_get("/readyz", self.handle_readyz)
        app.router.add_get("/status", self.handle_status)
        app.router.add_get("/explain", self.handle_explain)
        app.router.add_get("/", self.handle_page)
        app.router.add_post("/drain", self.handle_drain)
        app.router.add_post("/purge", self.handle_purge)
        return app

    async def handle_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def handle_livez(self, request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def handle_readyz(self, request: web.Request) -> web.Response:
        """200 or 503; the body names what is missing, and what is amiss but bearable."""
        missing = self._unready()
        lines = [f"missing: {what}" for what in missing] or ["ready"]
        lines += [f"note: {what}" for what in self._troubles()]
        return web.Response(status=503 if missing else 200, text="\n".join(lines) + "\n")

    async def handle_drain(self, request: web.Request) -> web.Response:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        self._drain()
        return web.Response(status=202, text="draining\n")

    def _refusal(self, request: web.Request) -> web.Response | None:
        """The answer to a POST by somebody who may not."""
        if may_post(request.remote, request.headers.get("Authorization", ""), self.token_file):
            return None
        return web.Response(status=403, text="POST needs the bearer token of admin.token_file, or loopback\n")

    async def handle_purge(self, request: web.Request) -> web.Response:
        """200 when it is in force at every member of the view; 202 when some have not answered within a second, and
        are told again and again; 400 for what cannot be read, 507 when too many are in force."""
        if (refusal := self._refusal(request)) is not None:
            return refusal
        try:
            wanted, soft = read_purge(await read_body(request, MOST_PURGE_BYTES), request.query.items(), self._naming)
            report = await self._purges.purge(wanted, soft=soft, by=request.remote or "somebody")
        except BadPurge as error:
            return web.Response(status=400, text=f"{error}\n")
        except BookFull as error:
            return web.Response(status=507, text=f"{error}\n")
        told = {
            "purged": [_told(purge) for purge in report.purges],
            "applied": report.applied,
            "failed": report.failed,
            "took_s": round(report.took_s, 4),
        }
        if report.unkept:
            told["not_kept_on_disk"] = report.unkept
        return web.Response(
            status=202 if report.failed else 200, text=json.dumps(told) + "\n", content_type="application/json"
        )

    # --- status

    def status(self) -> dict[str, object]:
        """Everything a person asks first, as JSON."""
        roster, metrics, now = self._roster, self._metrics, time.monotonic()
        metrics.settle()
        viewer = sum(metrics.viewer_bytes.values())
        origin = sum(metrics.origin_bytes.values())
        return {
            "node": roster.me,
            "zone": roster.zone,
            "ready": not self._unready(),
            "missing": self._unready(),
            "troubles": self._troubles(),
            "state": "standalone" if roster.standalone else str(roster.state()),
            "clock_offset_s": roster.offset_s,
            "peers": [
                {
                    "node": peer.node,
                    "address": peer.address,
                    "zone": peer.zone,
                    "state": str(peer.state),
                    "link": str(roster.health.state(peer.node, now)),
                    "received_bytes": self._fills.from_peers.get(peer.node, 0),
                    "sent_bytes": self._to_peers.get(peer.node, 0),
                }
                for peer in roster.others()
            ],
            "banned": self._banned(),
            "viewer_bytes": dict(metrics.viewer_bytes),
            "viewer_requests": dict(metrics.viewer_requests),
            "fetched_bytes": dict(metrics.fetched_bytes),
            "origin_bytes": {reason: size for reason, size in metrics.origin_bytes.items() if size},
            "origin_offload": 1 - origin / viewer if viewer else None,
            "versions": len(self._store),
            "purges": {"in_force": len(self._purges.book), "latest": self._latest_purges()},
            "fills": [repr(fill) for fill in self._fills.all()],
        }

    def _banned(self) -> list[dict[str, object]]:
        now = self._roster.swarm_time()
        members = {peer.key: peer.address for peer in self._roster.banned.values()}
        return [
            {
                "node": ban.node,
                "address": members.get(ban.key),
                "since_s": round(now - ban.began_at, 3),
                "for_s": round(ban.until - now, 3),
                "times": ban.lies,
            }
            for ban in self._bans.in_force()
        ]

    def _latest_purges(self) -> list[dict[str, object]]:
        now = self._roster.swarm_time()
        latest = self._purges.book.latest(PURGES_TOLD)
        return [_told(one) | {"age_s": round(now - one.made, 3), "issuer": one.issuer} for one in latest]

    async def handle_status(self, request: web.Request) -> web.Response:
        return web.Response(text=json.dumps(self.status(), indent=1), content_type="application/json")

    async def handle_page(self, request: web.Request) -> web.Response:
        return web.Response(text=page(self.status()), content_type="text/html")

    # --- explain

    async def handle_explain(self, request: web.Request) -> web.Response:
        """`?path=/x` (and `&site=`): who has it, who would be asked, in which order, why; and the last fetch plans."""
        if not request.query.get("path"):
            return web.Response(status=400, text="path: missing; ask /explain?path=/…\n")
        try:
            path = normalise(request.query.get("site", self._default_site), request.query.get("path", ""))
        except BadPath as error:
            return web.Response(status=400, text=f"path: {error}\n")
        roster, now = self._roster, time.monotonic()
        await self._store.recall(path)
        known = self._store.pointers.newest(path)
        role = roster.role(path)
        ranked = roster.ranked(path, role)
        lost = roster.unusable()
        told: dict[str, object] = {
            "path": path.target,
            "site": path.site,
            "homes_in_rank": [{"node": edge.node, "weight": edge.weight} for edge in ranked],
            "asked_as": str(role),
            "homes_in_first_zone": [edge.node for edge in roster.ranked(path)],
            "left_out": {node: str(roster.health.state(node, now)) for node in lost},
            "banned": sorted(roster.banned),
            "pointer_from": [node for node, _ in pointer_rungs(ranked, roster.me, lost, role)]
            or [
                f"the origin ({roster.me} is home)"
                if role is Role.HOME
                else f"the path's first zone ({roster.me} is home in this one)"
            ],
            "why": self._why(ranked[0].node, lost, role),
        }
        if known is not None:
            pointer, age_s = known.pointer, known.age_s(now)
            told["pointer"] = {
                "version": pointer.version.hex() if pointer.version else None,
                "status": pointer.status,
                "sequence": pointer.sequence,
                "trust": known.trust,
                "age_s": round(age_s, 3),
                "fresh_for_s": round(pointer.ttl_s - age_s, 3),
                "stale_if_error_s": known.life.sie_s,
            }
            if pointer.version is not None:
                told |= self._explain_version(known, pointer.version, lost)
        told["last_plans"] = [plan for plan in self._fills.recent if plan["path"] == path.target]
        return web.Response(text=json.dumps(told, indent=1), content_type="application/json")

    def _why(self, first: str, lost: list[str], role: Role) -> str:
        roster = self._roster
        if roster.standalone:
            return "standalone: no swarm, or refused by it; everything comes from the origin"
        if first == roster.me and role is Role.ZONE_HOME:
            return "this edge is the path's first home in its zone: it alone asks the path's first zone"
        if first == roster.me:
            return "this edge is the path's first home: it alone asks the origin"
        return f"{first} is the path's first home{' in this zone' if role is Role.ZONE_HOME else ''}" + (
            ", but it is left out for now" if first in lost else ""
        )

    def _explain_version(self, known: Known, version: bytes, lost: list[str]) -> dict[str, object]:
        held = self._store.held(version)
        if held is None:
            return {"held": None}
        dealing = self._roster.dealing(held.path, known.pointer, held.trust, self._roster.role(held.path))
        count = min(held.metainfo.known_pieces, PIECES_EXPLAINED)
        shares: dict[str, int] = {}
        for piece in range(count):
            home = dealing.home_of(piece, lost) or "the origin"
            shares[home] = shares.get(home, 0) + 1
        return {
            "held": {
                "pieces": held.metainfo.piece_count,
                "in_memory": pieces.count(held.in_memory),
                "on_disk": pieces.count(held.on_disk),
                "size": held.metainfo.size,
                "piece_bytes": held.metainfo.piece_bytes,
                "fetched_from": held.fetched,
            },
            "pieces_by_home": shares,
            "known_holders": {node: pieces.count(bitmap) for node, bitmap in held.providers.items()},
            "fill": repr(fill) if (fill := self._fills.under_way(held)) else None,
        }


def _told(purge: Purge) -> dict[str, object]:
    return {"kind": purge.kind, "site": purge.site or None, "value": purge.value, "soft": purge.soft}


def may_post(remote: str | None, authorization: str, token_file: FilePath | None) -> bool:
    """Loopback may; others with the bearer token of `admin.token_file`. A file that is gone or empty admits nobody."""
    if remote in ("127.0.0.1", "::1"):
        return True
    if token_file is None:
        return False
    try:
        token = token_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        log.error("admin.token_file %s cannot be read: %s", token_file, error)
        return False
    return bool(token) and hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode())
