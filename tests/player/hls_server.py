"""A small HTTP server of real HLS, made by ffmpeg, that answers as an edge does; for tests of the players."""

import asyncio
import contextlib
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import imageio_ffmpeg
from aiohttp import web

ROOT = Path(__file__).parents[2]
WEB = ROOT / "player" / "web"
SOURCES = ("origin", "peer", "disk", "memory")  # of the first, second, third and every further response of a path
POLICY = "default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'"
INPUTS = ["-f", "lavfi", "-i", "testsrc2=size={size}:rate=25", "-f", "lavfi", "-i", "sine=frequency=330:beep_factor=4"]
CODECS = [
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-pix_fmt",
    "yuv420p",
    "-c:a",
    "aac",
    "-b:a",
    "64k",
    "-threads",
    "1",
]
LADDER = {"high": ("320x180", 400), "low": ("160x90", 120)}


def _encode(size: str, kbit: int, segment_s: float) -> list[str]:
    frames = str(int(25 * segment_s))
    return [argument.format(size=size) for argument in INPUTS] + [
        *CODECS,
        *("-b:v", f"{kbit}k", "-maxrate", f"{kbit}k", "-bufsize", f"{kbit}k"),
        *("-g", frames, "-keyint_min", frames, "-sc_threshold", "0"),
        *("-f", "hls", "-hls_time", str(segment_s), "-hls_segment_type", "fmp4"),
    ]


def _ffmpeg(*arguments: str) -> list[str]:
    return [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *arguments]


def make_film(directory: Path, seconds: int = 12) -> None:
    """A film of two renditions: `film/main.m3u8`."""
    main = "#EXTM3U\n"
    for name, (size, kbit) in LADDER.items():
        folder = directory / "film" / name
        folder.mkdir(parents=True)
        output = ["-hls_playlist_type", "vod", "-t", str(seconds), str(folder / "index.m3u8")]
        subprocess.run(_ffmpeg(*_encode(size, kbit, 2), *output), check=True, timeout=50, cwd=folder)
        main += f'#EXT-X-STREAM-INF:BANDWIDTH={(kbit + 80) * 1000},RESOLUTION={size},CODECS="avc1.42c00d,mp4a.40.2"\n'
        main += f"{name}/index.m3u8\n"
    (directory / "film" / "main.m3u8").write_text(main)


@contextlib.asynccontextmanager
async def live_encoder(directory: Path) -> AsyncIterator[None]:
    """An encoder that makes `live/index.m3u8` in real time, one segment a second; the block begins with the first."""
    folder = directory / "live"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    output = ["-hls_list_size", "8", "-hls_flags", "delete_segments+program_date_time+independent_segments"]
    command = _ffmpeg("-re", *_encode("320x180", 300, 1), *output, str(folder / "index.m3u8"))
    encoder = await asyncio.create_subprocess_exec(*command, cwd=folder)
    try:
        async with asyncio.timeout(30):
            while not (folder / "index.m3u8").exists():
                await asyncio.sleep(0.02)
        yield
    finally:
        encoder.terminate()
        await encoder.wait()


class HlsServer:
    """Serves a directory with the headers of an edge, and what the page asks of one; counts what it sent."""

    def __init__(self, directory: Path, broken: Mapping[str, int] | None = None) -> None:
        self.directory = directory
        self.broken = dict(broken or {})  # path -> status to answer instead
        self.requests: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.headers: list[Mapping[str, str]] = []
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["HlsServer"]:
        app = web.Application()
        app.router.add_get("/-/player/{name:.*}", self._page)
        app.router.add_get("/-/sources", self._sources)
        app.router.add_get("/-/swarm", self._swarm)
        app.router.add_get("/{path:.*}", self._media)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def _source(self, path: str) -> str:
        return SOURCES[min(self.requests[path], len(SOURCES)) - 1]

    async def _media(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        file = self.directory / path[1:]
        if path in self.broken:
            return web.Response(status=self.broken[path])
        if not file.is_file():
            return web.Response(status=404)
        self.requests[path] += 1
        self.headers.append(request.headers)
        body = file.read_bytes()
        source = self._source(path)
        self.sent[source] += len(body)
        is_hit = source in ("memory", "disk")
        types = {".m3u8": "application/vnd.apple.mpegurl", ".m4s": "video/iso.segment", ".mp4": "video/mp4"}
        status = f"edge-1; {'hit' if is_hit else 'fwd=miss'}; detail={source}"
        headers = {"Cache-Status": status, "Content-Type": types.get(file.suffix, "application/octet-stream")}
        return web.Response(body=body, headers=headers)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        file = WEB / (request.match_info["name"] or "index.html")
        if not file.is_file():
            return web.Response(status=404)
        types = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css"}
        headers = {"Content-Security-Policy": POLICY, "Content-Type": types.get(file.suffix, "image/svg+xml")}
        return web.Response(body=file.read_bytes(), headers=headers)

    async def _sources(self, request: web.Request) -> web.Response:
        path = request.query["path"]
        size = (self.directory / path[1:]).stat().st_size if (self.directory / path[1:]).is_file() else 0
        counts = [min(self.requests[path], 1), *(int(self.requests[path] > n) for n in (1, 2)), self.requests[path] - 3]
        served = {source: max(0, count) * size for source, count in zip(SOURCES, counts, strict=True)}
        peers = {"edge-2": size * 2 // 3, "edge-3": size - size * 2 // 3} if self._source(path) != "origin" else {}
        fetched = {"peer": sum(peers.values()), "origin": 0 if peers else size}
        return web.json_response({"path": path, "size": size, "served": served, "fetched": fetched, "from": peers})

    async def _swarm(self, _: web.Request) -> web.Response:
        rates = [("edge-2", "fra", "alive", 3_200_000, 900_000), ("edge-3", "fra", "alive", 1_100_000, 2_400_000)]
        rates += [("edge-4", "ams", "leaf", 0, 400_000), ("edge-5", "ams", "suspect", 0, 0)]
        keys = ("node", "zone", "state", "down_bps", "up_bps")
        members = [dict(zip(keys, row, strict=True)) for row in rates]
        own = {"node": "edge-1", "zone": "fra", "topology": "hybrid", "origin": {"down_bps": 800_000}}
        return web.json_response({**own, "members": members})
