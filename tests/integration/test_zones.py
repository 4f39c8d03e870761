"""Three zones: what all edges ask for leaves the origin once, and enters each other zone once."""

import pytest

from tests.integration.downloads import MIB, download_everywhere, random_file, sent_by_origin, wrong
from tests.integration.zones import ZONES, crossed, zoned_swarm

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


def test_each_body_enters_each_zone_once(tmp_path):
    with zoned_swarm(tmp_path, 2) as programs:
        for number, size in enumerate((8 * MIB, 300_000, 20_000)):
            sha256 = random_file(programs.media / f"{number}.bin", size)
            before, sent = crossed(programs), sent_by_origin(programs)
            assert wrong(download_everywhere(programs, f"/{number}.bin"), sha256) == []
            assert sent_by_origin(programs) - sent == size
            entered = sorted(crossed(programs)[zone] - before[zone] for zone in ZONES)
            assert entered == [0, size, size]
        programs.edges.pop("fra-1").kill()
        sha256 = random_file(programs.media / "after.bin", MIB)
        assert wrong(download_everywhere(programs, "/after.bin"), sha256) == []
