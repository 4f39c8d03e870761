"""Line 8: three zones. What each takes in from others, and what crosses in all, of objects asked of all at once."""

import tempfile
from pathlib import Path

from tests.integration.downloads import MIB, download_everywhere, random_file, sent_by_origin, wrong
from tests.integration.zones import ZONES, crossed, zoned_swarm
from tests.shows.measured import Measured, all_held, at_most

EDGES_A_ZONE = 3
SIZE = 32 * MIB
OBJECTS = 6
MOST = 1.02


def run() -> list[Measured]:
    found, entered, total, copies = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="show-swarm-8-") as name, zoned_swarm(Path(name), EDGES_A_ZONE) as programs:
        for number in range(OBJECTS):
            sha256 = random_file(programs.media / f"{number}.bin", SIZE)
            before, sent = crossed(programs), sent_by_origin(programs)
            found += wrong(download_everywhere(programs, f"/{number}.bin"), sha256)
            copies.append((sent_by_origin(programs) - sent) / SIZE)
            into = [(crossed(programs)[zone] - before[zone]) / SIZE for zone in ZONES]
            entered.append(max(into))
            total.append(sum(into) / (len(ZONES) - 1))
    what = f"{len(ZONES)} zones of {EDGES_A_ZONE} edges, {SIZE // MIB} MiB"
    return [
        all_held(f"{what}: wrong bodies", found, OBJECTS * EDGES_A_ZONE * len(ZONES), OBJECTS),
        at_most(f"{what}: bytes from other zones into the zone that took most / F", entered, MOST),
        at_most(f"{what}: all crossings / ((zones - 1) F)", total, MOST),
        at_most(f"{what}: origin copies", copies, MOST),
    ]
