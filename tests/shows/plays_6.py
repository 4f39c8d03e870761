"""A proxy that flips one byte in a thousand stands before one edge's peer port."""

import shutil
import tempfile
from pathlib import Path

from deploy.programs import Swarm, running_swarm
from deploy.streams import make_film
from tests.integration.broken_links import rejected, swarm_with_broken_link, wait_until_complained
from tests.integration.conftest import FILM, nodes
from tests.integration.downloads import MIB, WHOLE, download_everywhere, random_file, sent_by_origin, wrong
from tests.integration.ffmpeg import watch
from tests.shows.measured import Measured, all_held, at_least, at_most, told

EDGES = nodes(3)
SIZES = (1, 65_535, 65_536, 300_000, MIB + 1, 8 * MIB)
RUNS = 3
MOST_SLOWER = 5.0  # beyond reason: a viewer who waits more than five times as long, and more than GRACE_S longer
GRACE_S = 3.0


def run() -> list[Measured]:
    found: list[str] = []
    slower: list[float] = []
    counts: list[float] = []
    copies: list[float] = []
    unnamed: list[str] = []
    late: list[str] = []
    with tempfile.TemporaryDirectory(prefix="show-") as name:
        directory = Path(name)
        make_film(directory / "film", 20.0)
        clean = [_slowest_of_clean(directory / f"clean-{turn}") for turn in range(RUNS)]
        usual_s = sorted(clean)[RUNS // 2]
        turn = 0
        for how in ("every", "random"):
            for broken in EDGES:
                turn += 1
                place = directory / f"broken-{turn}"
                _lend_film(directory, place)
                with swarm_with_broken_link(place, EDGES, broken, how=how) as swarm:
                    found += _watch_all(swarm)
                    before = sent_by_origin(swarm)
                    amiss, took_s = _download(swarm)
                    found += amiss
                    copies.append((sent_by_origin(swarm) - before) / WHOLE)
                    slower.append(took_s / usual_s)
                    if took_s > MOST_SLOWER * usual_s and took_s > usual_s + GRACE_S:
                        late.append(f"{how}, {broken}: {took_s:.1f} s instead of {usual_s:.1f} s")
                    counts.append(rejected(swarm))
                    lines = wait_until_complained(swarm, broken)
                    if not lines or any("not a liar" not in line for line in lines):
                        unnamed.append(f"{how}, {broken}: {lines[:1]}")
    runs = len(counts)
    return [
        all_held("1 byte in 1000 flipped before one edge: wrong bodies, playback amiss", found, runs * 24, runs),
        at_least("1 byte in 1000 flipped before one edge: pieces rejected", counts, 1),
        all_held("1 byte in 1000 flipped before one edge: link not named as broken in the log", unnamed, runs, runs),
        all_held("1 byte in 1000 flipped before one edge: viewers slowed beyond reason", late, runs, runs),
        told("1 byte in 1000 flipped before one edge: time for 64 MiB everywhere, with / without", slower),
        at_most("1 byte in 1000 flipped before one edge: origin copies of 64 MiB", copies, 2.0),
    ]


def _lend_film(directory: Path, place: Path) -> None:
    (place / "media").mkdir(parents=True)
    shutil.copytree(directory / "film", place / "media" / "film")


def _slowest_of_clean(directory: Path) -> float:
    """The same without the proxy, the edges as warm."""
    with running_swarm(directory, EDGES) as swarm:
        for size in SIZES:
            random_file(swarm.media / f"{size}.bin", size)
            download_everywhere(swarm, f"/{size}.bin")
        return _download(swarm)[1]


def _download(swarm: Swarm) -> tuple[list[str], float]:
    sha256 = random_file(swarm.media / "whole.bin", WHOLE)
    got = download_everywhere(swarm, "/whole.bin")
    return wrong(got, sha256), max(one.took_s for one in got)


def _watch_all(swarm: Swarm) -> list[str]:
    found = []
    for size in SIZES:
        sha256 = random_file(swarm.media / f"{size}.bin", size)
        found += wrong(download_everywhere(swarm, f"/{size}.bin"), sha256)
    for node in swarm.edges:
        code, words = watch(swarm.url(node, FILM))
        if code or words:
            found.append(f"{node}{FILM}: exit code {code}, {words}")
    return found
