"""kill -9 of any edge in the middle of a download; a film after the death of origin and tracker."""

import re
import shutil
import signal
import tempfile
import time
import urllib.request
from pathlib import Path

from deploy.programs import Swarm, running_swarm
from deploy.streams import make_film
from tests.integration.conftest import FILM, nodes
from tests.integration.deaths import download_while_killing
from tests.integration.downloads import MIB, WHOLE, random_file, sent_by_origin, wrong
from tests.integration.ffmpeg import watch
from tests.shows.measured import Measured, all_held, at_most, told

EDGES = nodes(3)
MOMENTS = (0, 1, MIB, 8 * MIB, 24 * MIB, 48 * MIB, 63 * MIB)  # bytes that the victim's own viewer had got
MOST_COPIES = 1.34 + 0.06  # the dead edge's third once more, and what was on the wire
FILM_S = 30.0


def run() -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="show-") as name:
        directory = Path(name)
        runs = [_killed(directory / f"{victim}-{moment}", victim, moment) for victim in EDGES for moment in MOMENTS]
        copies, took_s, amiss = zip(*runs, strict=True)
        make_film(directory / "film", FILM_S)
        survived, cases = _orphaned(directory)
        silent_s = [_silenced(directory / f"silent-{turn}", directory / "film", survived) for turn in range(3)]
    return [
        all_held("kill -9 of one of 3 edges: wrong bodies at the others", [o for a in amiss for o in a], 2 * len(runs)),
        at_most("kill -9 of one of 3 edges: origin copies", copies, MOST_COPIES),
        told("kill -9 of one of 3 edges: time of the slowest survivor", took_s, "s", f"at most {max(took_s):.1f} s"),
        all_held("origin and tracker dead or silent: films that do not play", survived, cases + 9),
        told(
            "origin and tracker silent (SIGSTOP), playlists stale: longest time for ffmpeg to read 30 s", silent_s, "s"
        ),
    ]


def _killed(directory: Path, victim: str, moment: int) -> tuple[float, float, list[str]]:
    with running_swarm(directory, EDGES) as swarm:
        sha256 = random_file(swarm.media / "whole.bin", WHOLE)
        got = download_while_killing(swarm, "/whole.bin", victim, moment)
        left = [one for node, one in got.items() if node != victim]
        found = [f"{victim} killed at {moment}: {one}" for one in wrong(left, sha256)]
        return sent_by_origin(swarm) / WHOLE, max(one.took_s for one in left), found


def _orphaned(directory: Path) -> tuple[list[str], int]:
    """The film at every edge, with ffmpeg, while ever more of the swarm is gone."""
    place = directory / "orphans"
    (place / "media").mkdir(parents=True)
    shutil.copytree(directory / "film", place / "media" / "film")
    found: list[str] = []
    cases = 0

    def plays(swarm: Swarm, node: str, when: str) -> None:
        nonlocal cases
        cases += 1
        code, words = watch(swarm.url(node, FILM))
        if code or words:
            found.append(f"{node}, {when}: exit code {code}, {words}")

    with running_swarm(place, EDGES) as swarm:
        plays(swarm, "edge-1", "while the origin lives")
        assert swarm.origin is not None
        swarm.origin.kill()
        plays(swarm, "edge-1", "which has it")
        plays(swarm, "edge-2", "which must get it from a peer")
        _outlive_playlists(swarm, "edge-1")
        plays(swarm, "edge-1", "its playlists stale")
        plays(swarm, "edge-3", "which never watched it, playlists stale everywhere")
        _restart(swarm, "edge-3", empty=False)
        plays(swarm, "edge-3", "restarted with its cache")
        _restart(swarm, "edge-2", empty=True)
        plays(swarm, "edge-2", "restarted with nothing but key and last view")
        swarm.edges["edge-1"].kill()
        plays(swarm, "edge-2", "edge-1 dead too")
        swarm.edges["edge-3"].kill()
        plays(swarm, "edge-2", "alone in the world")
        _restart(swarm, "edge-2", empty=False)
        plays(swarm, "edge-2", "alone in the world, restarted with its cache")
    return found, cases


def _silenced(directory: Path, film: Path, found: list[str]) -> float:
    """The longest time an edge took over the film while the origin accepts connections and says nothing."""
    shutil.copytree(film, directory / "media" / "film")
    took_s = []
    with running_swarm(directory, EDGES) as swarm:
        assert swarm.origin is not None
        found += [f"{words}" for code, words in [watch(swarm.url("edge-1", FILM))] if code or words]
        swarm.origin.process.send_signal(signal.SIGSTOP)
        _outlive_playlists(swarm, "edge-1")
        for node in EDGES:
            began = time.monotonic()
            code, words = watch(swarm.url(node, FILM))
            took_s.append(time.monotonic() - began)
            if code or words:
                found.append(f"{node}, the origin silent: exit code {code}, {words}")
        swarm.origin.process.send_signal(signal.SIGCONT)
    return max(took_s)


def _outlive_playlists(swarm: Swarm, node: str) -> None:
    """Wait until what the edge knows of the film's playlists is no longer fresh."""
    with urllib.request.urlopen(swarm.url(node, FILM), timeout=30) as answer:
        stated = re.search(r"max-age=(\d+)", answer.headers["Cache-Control"] or "")
    time.sleep(float(stated[1]) if stated else 0.0)


def _restart(swarm: Swarm, node: str, *, empty: bool) -> None:
    """kill -9 and start again; `empty`: the cache is lost, the node's key and its last view are not."""
    swarm.edges[node].kill()
    if empty:
        for entry in (swarm.directory / node).iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
    swarm.start_edge(node)
