"""One file asked of all edges at the same instant: everybody gets it, and the origin sends it once."""

import hashlib
from functools import partial

import pytest

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

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

SIZES = (0, 1, 65535, 65536, 65537, MIB + 1)
MOST_COPIES = 1.10


@pytest.mark.slow
def test_64_mib_asked_of_three_cold_edges_at_once_leave_the_origin_once(swarm_of):
    swarm = swarm_of(3)
    sha256 = random_file(swarm.media / "whole.bin", WHOLE)
    assert wrong(download_everywhere(swarm, "/whole.bin"), sha256) == []
    assert sent_by_origin(swarm) <= MOST_COPIES * WHOLE


@pytest.mark.parametrize("edges", [1, 2, 5])
def test_files_of_any_size_at_any_number_of_edges(swarm_of, edges):
    swarm = swarm_of(edges)
    for size in SIZES:
        sha256 = random_file(swarm.media / f"{size}.bin", size)
        before = sent_by_origin(swarm)
        assert wrong(download_everywhere(swarm, f"/{size}.bin"), sha256) == []
        assert sent_by_origin(swarm) - before <= size


@pytest.mark.slow
def test_ranges_and_whole_files_asked_at_the_same_time(swarm_of):
    swarm = swarm_of(3)
    size = 8 * MIB + 17
    random_file(swarm.media / "some.bin", size)
    body = (swarm.media / "some.bin").read_bytes()
    spans = [(0, 1), (0, size), (5, 70_000), (MIB - 1, MIB + 1), (size - 1, size), (3 * MIB, 7 * MIB), (0, size)]
    asked = [(node, span) for node in swarm.edges for span in spans]

    def ask(node: str, start: int, end: int):
        return download(swarm.url(node, "/some.bin"), {"Range": f"bytes={start}-{end - 1}"})

    got = at_once([partial(ask, node, *span) for node, span in asked])
    for one, (_, (start, end)) in zip(got, asked, strict=True):
        assert (one.status, one.error) == (206, "")
        assert one.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert one.sha256 == hashlib.sha256(body[start:end]).hexdigest()
    assert sent_by_origin(swarm) <= MOST_COPIES * size
