"""One file, asked of cold edges at the same instant."""

import hashlib
import tempfile
from functools import partial
from pathlib import Path

from deploy.programs import Swarm, running_swarm
from tests.integration.conftest import nodes
from tests.integration.downloads import (
    MIB,
    WHOLE,
    at_once,
    download,
    download_everywhere,
    random_file,
    sent_by_origin,
    wrong,
)
from tests.shows.measured import Measured, all_held, at_most, told

RUNS = 5
MOST_COPIES = 1.10
SIZES = (0, 1, 16_383, 16_384, 65_535, 65_536, MIB - 1, MIB, MIB + 1, 8 * MIB + 1, 200 * MIB)


def run() -> list[Measured]:
    figures = []
    with tempfile.TemporaryDirectory(prefix="show-") as name:
        directory = Path(name)
        for edges in (3, 1, 2, 5):
            runs = [_whole(directory / f"{edges}-{turn}", edges) for turn in range(RUNS)]
            copies, took_s, amiss = zip(*runs, strict=True)
            title = f"64 MiB asked of {edges} cold edge{'s' if edges > 1 else ''} at once"
            figures.append(at_most(f"{title}: origin copies", copies, MOST_COPIES))
            figures.append(all_held(f"{title}: wrong bodies", [one for found in amiss for one in found], edges, RUNS))
            figures.append(told(f"{title}: time of the slowest", took_s, "s"))
        with running_swarm(directory / "sizes", nodes(3)) as swarm:
            figures += [_sizes(swarm), _ranges(swarm)]
    return figures


def _whole(directory: Path, edges: int) -> tuple[float, float, list[str]]:
    with running_swarm(directory, nodes(edges)) as swarm:
        sha256 = random_file(swarm.media / "whole.bin", WHOLE)
        got = download_everywhere(swarm, "/whole.bin")
        return sent_by_origin(swarm) / WHOLE, max(one.took_s for one in got), wrong(got, sha256)


def _sizes(swarm: Swarm) -> Measured:
    """Other sizes, around every boundary."""
    found = []
    for size in SIZES:
        sha256 = random_file(swarm.media / f"{size}.bin", size)
        before = sent_by_origin(swarm)
        found += wrong(download_everywhere(swarm, f"/{size}.bin"), sha256)
        if (sent := sent_by_origin(swarm) - before) > MOST_COPIES * size:
            found.append(f"{size} bytes: the origin sent {sent}")
    return all_held("other sizes asked of 3 edges at once: wrong bodies or too many copies", found, 3 * len(SIZES))


def _ranges(swarm: Swarm) -> Measured:
    """Whole files and ranges that overlap, asked of all edges at the same instant."""
    size = 32 * MIB + 17
    random_file(swarm.media / "ranges.bin", size)
    body = (swarm.media / "ranges.bin").read_bytes()
    spans = [(0, 1), (0, size), (size // 3, size // 2), (5 * MIB, 25 * MIB), (size - 1, size), (size - MIB, size)]
    asked = [(node, span) for node in swarm.edges for span in spans]
    before = sent_by_origin(swarm)
    calls = [
        partial(download, swarm.url(node, "/ranges.bin"), {"Range": f"bytes={start}-{end - 1}"})
        for node, (start, end) in asked
    ]
    got = at_once(calls)
    found = []
    for one, (_, (start, end)) in zip(got, asked, strict=True):
        found += wrong([one], hashlib.sha256(body[start:end]).hexdigest())
    if (sent := sent_by_origin(swarm) - before) > MOST_COPIES * size:
        found.append(f"the origin sent {sent / size:.2f} copies")
    return all_held("overlapping ranges asked of 3 edges at once: wrong bodies or too many copies", found, len(asked))
