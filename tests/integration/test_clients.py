"""Programs that know nothing of Starling: ffmpeg and curl."""

import shutil

import pytest

from tests.integration.conditions import CASES, check_all, check_several_ranges
from tests.integration.conftest import FILM
from tests.integration.curl import curl
from tests.integration.ffmpeg import watch
from tests.integration.live import LIVE, live_stream

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(240)]

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def test_ffmpeg_plays_live_and_film_through_every_edge_without_a_word(swarm_of, film):
    swarm = swarm_of(3, media=film)
    with live_stream(swarm):
        for node in swarm.edges:
            assert watch(swarm.url(node, FILM)) == (0, "")
            assert watch(swarm.url(node, LIVE), seconds=4) == (0, "")


@needs_curl
def test_ranges_and_conditions_are_answered_as_rfc_9110_says_cold_and_warm(swarm_of, tmp_path):
    swarm = swarm_of(2)
    assert check_all(swarm, ["edge-1", "edge-2"], tmp_path) == []
    assert check_several_ranges(swarm, "edge-1", tmp_path) == []
    assert len(CASES) > 35


@needs_curl
def test_methods_and_paths_that_are_not_there(swarm_of, tmp_path):
    swarm = swarm_of(1)
    posted = curl(tmp_path, swarm.url("edge-1", "/a"), "-X", "POST", "-d", "x")
    assert (posted.status, posted.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert curl(tmp_path, swarm.url("edge-1", "/not-there")).status == 404
    assert curl(tmp_path, swarm.url("edge-1", "/not-there"), "-I").status == 404
