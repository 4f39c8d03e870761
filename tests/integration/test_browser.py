"""hls.js in headless Chromium, on the page that an edge serves."""

import pytest

from tests.integration.browsing import chromium, watch_page
from tests.integration.conftest import FILM
from tests.integration.live import LIVE, live_stream

pytestmark = [pytest.mark.processes, pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = 10.0


async def test_the_page_plays_live_and_film_and_shows_where_segments_came_from(swarm_of, film):
    swarm = swarm_of(2, media=film)
    with live_stream(swarm):
        async with chromium() as browser:
            for node, stream in (("edge-1", FILM), ("edge-2", LIVE)):
                seen = await watch_page(browser, swarm.url(node, f"/-/player/?src={stream}"), SECONDS)
                assert seen.amiss(SECONDS) == []
                assert (seen.figures["latency_s"] is None) == (stream == FILM)
                assert all(name in seen.totals for name in ("memory", "disk", "peers", "origin"))
