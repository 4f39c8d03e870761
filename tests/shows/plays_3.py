"""Real clients: ffmpeg, hls.js in Chromium, curl."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from deploy.programs import Swarm, running_swarm
from deploy.streams import make_film
from tests.integration.browsing import Watched, chromium, watch_page
from tests.integration.conditions import CASES, check_all, check_several_ranges
from tests.integration.conftest import FILM, nodes
from tests.integration.ffmpeg import watch
from tests.integration.live import LIVE, live_stream
from tests.shows.measured import Measured, all_held, told

EDGES = nodes(3)
FILM_S = 30.0
SECONDS = 12.0
RUNS = 3


def run() -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="show-") as name:
        directory = Path(name)
        make_film(directory / "film", FILM_S)
        played: list[str] = []
        pages: list[tuple[str, Watched]] = []
        for turn in range(RUNS):
            _play(directory, turn, played, pages)
        with running_swarm(directory / "curl", EDGES) as swarm:
            wrong = check_all(swarm, EDGES, directory)
            wrong += [one for node in EDGES for one in check_several_ranges(swarm, node, directory)]
    smooth = [f"{url}: {one}" for url, seen in pages for one in seen.amiss(SECONDS)]
    startup_s = [seen.figures["startup_s"] for _, seen in pages if seen.figures["startup_s"] is not None]
    return [
        all_held("ffmpeg: live and film through every edge, a word said or exit code not 0", played, RUNS * 6, RUNS),
        all_held("hls.js in Chromium: fatal errors, stalls, too little played", smooth, len(pages), RUNS),
        told("hls.js in Chromium: start-up", startup_s, "s"),
        all_held("curl: ranges and conditions by RFC 9110, cold and warm", wrong, len(CASES) * 4 + 3),
    ]


def _play(directory: Path, turn: int, played: list[str], pages: list[tuple[str, Watched]]) -> None:
    """One cold swarm: every edge's streams by ffmpeg, then by the page."""
    place = directory / f"swarm-{turn}"
    shutil.copytree(directory / "film", place / "media" / "film")
    with running_swarm(place, EDGES) as swarm, live_stream(swarm):
        for node in EDGES:
            for stream, seconds in ((FILM, None), (LIVE, 10.0)):
                code, words = watch(swarm.url(node, stream), seconds)
                if code or words:
                    played.append(f"{node}{stream}: exit code {code}, {words}")
        pages += asyncio.run(_watch_pages(swarm))


async def _watch_pages(swarm: Swarm) -> list[tuple[str, Watched]]:
    async with chromium() as browser:
        urls = [swarm.url(node, f"/-/player/?src={stream}") for node in EDGES for stream in (LIVE, FILM)]
        return [(url, await watch_page(browser, url, SECONDS)) for url in urls]
