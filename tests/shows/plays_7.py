"""Line 7: the numbers are true. What edges count is what clients got and what the origin sent; dashboards show it.

Load: a live stream, a film and plain files through three edges, one of which is killed in the middle of it.
"""

import asyncio
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin

import aiohttp

from deploy.programs import ROOT, Program, Swarm, running_swarm
from deploy.streams import live_command, make_film
from tests.deploy.panels import Server, all_queries, prometheus, wait_until
from tests.integration.balancer import client, loop_in_thread
from tests.integration.by_hand import get
from tests.shows.measured import Measured, all_held, at_most

EDGES = ["edge-1", "edge-2", "edge-3"]
LIVE, FILM = "/live/master.m3u8", "/film/master.m3u8"
TOLERANCE = 0.01
WITHIN_S = 90.0
RELOAD_S = 0.5  # a viewer of a live stream asks again so often
THINK_S = 0.05


@contextmanager
def playing(directory: Path, film_s: float, nodes: list[str] = EDGES) -> Iterator[Swarm]:
    """A swarm with a film, plain files and a live stream that has begun."""
    with running_swarm(directory, nodes) as programs:
        make_film(programs.media / "film", film_s)
        make_plain_files(programs.media / "plain")
        url = f"http://{programs.origin_address}/live"
        live = Program("ffmpeg", live_command(url), directory / "ffmpeg.log", waits=False)
        try:
            wait_for_live(programs, nodes[0], live)
            yield programs
        finally:
            live.stop(within_s=5)


def wait_for_live(programs: Swarm, node: str, live: Program) -> None:
    """Until the stream can be watched through this edge; else what everybody says of it."""

    def shown() -> list[str]:
        origin = get(f"http://{programs.origin_address}{LIVE}")
        return [f"origin {origin.status}", f"{node} {get(programs.url(node, LIVE)).status}", live.said()[-500:]]

    wait_until(lambda: get(programs.url(node, LIVE)).status == 200, WITHIN_S, lambda: str(shown()))


def make_plain_files(directory: Path, seed: int = 7) -> None:
    """Of every size that is handled in a way of its own: empty, small, several pieces, several pages."""
    directory.mkdir(parents=True)
    rng = random.Random(seed)
    for number, size in enumerate((0, 1, 5_000, 65_535, 65_536, 200_000, 1_000_003, 9_000_000)):
        (directory / f"{number}.bin").write_bytes(rng.randbytes(size))


# --- viewers who count


@dataclass
class Seen:
    """What the viewers of one edge received."""

    bytes: int = 0
    requests: int = 0
    errors: list[str] = field(default_factory=list)


class Viewers:
    """Of one edge: one watches live, one the film, one reads plain files whole and in ranges, and asks amiss."""

    def __init__(self, url: str, plain: list[str]) -> None:
        self._url = url
        self._plain = plain
        self.seen = Seen()
        self._stop = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        watching = [asyncio.create_task(watch()) for watch in (self._watch_live, self._watch_film, self._read_plain)]
        try:
            yield
        finally:
            self._stop.set()
            await asyncio.gather(*watching)

    async def _get(self, session: aiohttp.ClientSession, url: str, method: str = "GET", **headers: str) -> bytes:
        """The body, every byte of which is counted; empty if it failed."""
        body = bytearray()
        try:
            async with session.request(method, url, headers=headers) as answer:
                async for chunk in answer.content.iter_any():
                    body += chunk
                    self.seen.bytes += len(chunk) if answer.status < 400 else 0
                self.seen.requests += 1
                if answer.status not in (200, 206, 304, 404, 412, 416):
                    self.seen.errors.append(f"{url}: {answer.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.seen.errors.append(f"{url}: {type(error).__name__} {error}")
        return bytes(body)

    async def _playlists(self, session: aiohttp.ClientSession, master: str) -> list[str]:
        url = urljoin(self._url, master)
        return [urljoin(url, line) for line in _named(await self._get(session, url))]

    async def _watch_live(self) -> None:
        fetched: set[str] = set()
        async with client() as session:
            while not self._stop.is_set():
                for playlist in await self._playlists(session, LIVE):
                    named = [urljoin(playlist, name) for name in _named(await self._get(session, playlist))]
                    for segment in named:
                        if segment not in fetched and not self._stop.is_set():
                            fetched.add(segment)
                            await self._get(session, segment)
                await asyncio.sleep(RELOAD_S)

    async def _watch_film(self) -> None:
        async with client() as session:
            while not self._stop.is_set():
                for playlist in await self._playlists(session, FILM):
                    for name in _named(await self._get(session, playlist)):
                        if self._stop.is_set():
                            return
                        await self._get(session, urljoin(playlist, name))
                        await asyncio.sleep(THINK_S)
                await asyncio.sleep(THINK_S)

    async def _read_plain(self) -> None:
        rng = random.Random(self._url)
        async with client() as session:
            while not self._stop.is_set():
                url = self._url + rng.choice(self._plain)
                first, last = sorted((rng.randrange(2_000_000), rng.randrange(2_000_000)))
                await self._get(session, url)
                await self._get(session, url, Range=f"bytes={first}-{last}")
                await self._get(session, url, "HEAD")
                await self._get(session, url, **{"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"})
                await self._get(session, f"{self._url}/plain/none-{rng.randrange(5)}")
                await asyncio.sleep(THINK_S)


def _named(playlist: bytes) -> list[str]:
    """The URIs of a playlist, and of its map."""
    lines = playlist.decode("utf-8", "replace").splitlines()
    maps = [line.partition('URI="')[2].partition('"')[0] for line in lines if line.startswith("#EXT-X-MAP:")]
    return maps + [line for line in lines if line and not line.startswith("#")]


# --- what was counted


@dataclass
class Accounts:
    """Pairs of figures that must agree: what an edge counted, and what the other side did."""

    viewer_bytes: dict[str, tuple[float, float]] = field(default_factory=dict)
    origin_bytes: dict[str, tuple[float, float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    direct_bytes: float = 0.0
    requests: int = 0

    def gap(self, pairs: dict[str, tuple[float, float]]) -> float:
        """The largest difference, as a part."""
        return max(
            (abs(ours - theirs) / max(ours, theirs) for ours, theirs in pairs.values() if ours or theirs), default=0
        )

    @property
    def total_gap(self) -> float:
        """Of all viewer bytes together."""
        ours, theirs = (sum(pair[side] for pair in self.viewer_bytes.values()) for side in (0, 1))
        return abs(ours - theirs) / max(theirs, 1)


def accounts_under_load(programs: Swarm, requests: int, victim: str | None) -> Accounts:
    """Everybody watches until so many requests of each edge are answered, and as many again once `victim` is killed."""
    plain = [f"/plain/{path.name}" for path in sorted((programs.media / "plain").iterdir())]
    viewers = {node: Viewers(programs.url(node), plain) for node in programs.edges}
    before = {node: programs.total(node, "starling_viewer_bytes_total") for node in programs.edges}
    living = [node for node in programs.edges if node != victim]

    def all_have(count: int) -> None:
        wait_until(
            lambda: all(viewers[node].seen.requests >= count for node in living),
            WITHIN_S,
            lambda: str({node: viewers[node].seen for node in viewers}),
        )

    with loop_in_thread() as loop:
        for node in viewers:
            loop.enter(viewers[node].running())
        all_have(requests)
        if victim is not None:
            programs.edges.pop(victim).kill()
            all_have(2 * requests)
    wait_until(lambda: not any(programs.status(node)["fills"] for node in living), WITHIN_S, lambda: "fills go on")
    return _compared(programs, {node: viewers[node].seen for node in living}, before)


def _compared(programs: Swarm, seen: dict[str, Seen], before: dict[str, float]) -> Accounts:
    accounts = Accounts()
    ledger = programs.metrics("origin")
    metrics = {node: programs.metrics(node) for node in seen}
    for node, received in seen.items():
        counted = programs.total(node, "starling_viewer_bytes_total") - before[node]
        accounts.viewer_bytes[node] = counted, received.bytes
        accounts.requests += received.requests
        accounts.errors += [f"{node}: {error}" for error in received.errors]
    reasons = [
        name.partition('reason="')[2].rstrip('"}') for name in metrics[EDGES[0]] if "origin_bytes_total{" in name
    ]
    for reason in reasons:
        ours = sum(metrics[node][f'starling_origin_bytes_total{{reason="{reason}"}}'] for node in seen)
        row = 'starling_origin_sent_bytes_total{{edge="{}",reason="{}"}}'
        theirs = sum(ledger.get(row.format(node, reason), 0.0) for node in seen)
        accounts.origin_bytes[reason] = ours, theirs
    accounts.direct_bytes = sum(v for name, v in ledger.items() if 'sent_bytes_total{edge="direct"' in name)
    return accounts


# --- exposition and dashboards


def check_metrics(programs: Swarm, node: str) -> str:
    """What promtool has to say about a live `/metrics`; empty if it is content."""
    page = get(programs.admin_url(node, "/metrics")).body
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    return (done.stdout + done.stderr).decode() or ("" if done.returncode == 0 else f"exit {done.returncode}")


@contextmanager
def watched(programs: Swarm, directory: Path) -> Iterator[Server]:
    """Players on both streams through every edge, and a real Prometheus that scrapes everybody each second."""
    assert programs.origin is not None
    directory.mkdir()
    targets = {
        "starling-edge": {node: str(edge.ready["admin"]) for node, edge in programs.edges.items()},
        "starling-origin": {"origin": str(programs.origin.ready["admin"])},
    }
    urls = [programs.url(node, path) for node in programs.edges for path in (LIVE, FILM)]
    command = [sys.executable, "-m", "player", *urls, "--json"]
    with ExitStack() as stack:
        out = stack.enter_context((directory / "players.json").open("wb"))
        players = subprocess.Popen(command, cwd=ROOT, stdout=out, stdin=subprocess.DEVNULL)
        stack.callback(players.wait)
        stack.callback(players.kill)
        yield stack.enter_context(prometheus(targets, directory))


def without_data(server: Server) -> dict[str, str]:
    """What still shows nothing once everything had time to be asked, fetched, scraped and evaluated."""
    server.wait_for_scrapes(5, WITHIN_S)
    missing = server.without_data()

    def all_there() -> bool:
        nonlocal missing
        missing = server.without_data()
        return not missing

    try:
        wait_until(all_there, WITHIN_S, lambda: "some have no data")
    except AssertionError:
        return missing
    return {}


def run() -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="starling-plays-7-") as name:
        directory = Path(name)
        with playing(directory / "swarm", film_s=120.0) as programs:
            unclean = {node: check_metrics(programs, node) for node in ("origin", *EDGES)}
            with watched(programs, directory / "prometheus") as server:
                missing = without_data(server)
                firing = server.firing()
            accounts = accounts_under_load(programs, 1000, victim="edge-3")
        shutil.rmtree(directory / "swarm")
    reasons = {reason: pair for reason, pair in accounts.origin_bytes.items() if any(pair)}
    return [
        all_held("/metrics as promtool sees them", [f"{node}: {text}" for node, text in unclean.items() if text], 4),
        all_held("panels, rules and alerts without data", list(missing), len(all_queries())),
        all_held("alerts that fire while all is well", firing, len(all_queries())),
        at_most("viewer bytes, counted against received", [accounts.total_gap], TOLERANCE),
        at_most("origin bytes by reason, edges against ledger", [accounts.gap(reasons)], TOLERANCE, "", str(reasons)),
        all_held("requests that failed", accounts.errors, accounts.requests),
    ]
