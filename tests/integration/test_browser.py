"""hls.js in headless Chromium, on the page that an edge serves."""

import pytest

from tests.integration.browsing import chromium, watch_page
from tests.integration.conftest import FILM
from tests.integration.live import LIVE, live_stream

pytestmark = [pytest.mark.processes, pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS, BRIEFLY = 10.0, 4.0
LEAST_ON_HIT_PATH = 0.95


async def test_the_page_plays_live_and_film_and_shows_where_segments_came_from(swarm_of, film):
    swarm = swarm_of(2, media=film)
    with live_stream(swarm):
        async with chromium() as browser:
            for node, stream in (("edge-1", FILM), ("edge-2", LIVE)):
                seen = await watch_page(browser, swarm.url(node, f"/-/player/?src={stream}"), SECONDS)
                assert seen.amiss(SECONDS) == []
                assert (seen.figures["latency_s"] is None) == (stream == FILM)
                assert all(name in seen.totals for name in ("memory", "disk", "peers", "origin"))


async def test_what_a_browser_asks_for_again_is_answered_on_the_hit_path(swarm_of, film):
    swarm = swarm_of(1, media=film)
    page = swarm.url("edge-1", f"/-/player/?src={FILM}")
    async with chromium() as browser:
        for _ in range(2):  # the first brings it here, the second is the first hit of each
            assert (await watch_page(browser, page, BRIEFLY)).amiss(BRIEFLY) == []
        before = swarm.metrics("edge-1")
        assert (await watch_page(browser, page, BRIEFLY)).amiss(BRIEFLY) == []
    after = swarm.metrics("edge-1")
    hits, on_hit_path = (
        after[name] - before[name]
        for name in ('starling_viewer_requests_total{outcome="hit"}', "starling_hit_path_total")
    )
    assert hits > 5
    assert on_hit_path >= LEAST_ON_HIT_PATH * hits
