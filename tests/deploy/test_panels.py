"""A real Prometheus scrapes the programs' own metrics: all panels, rules and alerts have data, and no alert fires."""

import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError

import pytest

from daemon.metrics import CONTENT_TYPE
from edge.metrics import EdgeMetrics
from origin.metrics import OriginMetrics
from swarm.accounting import Control, IngestResult, Outcome, PeerState, Reason, Role, Source, Tier
from tests.deploy.panels import prometheus

pytestmark = [pytest.mark.prometheus, pytest.mark.slow]
SEGMENT = 100_000


@contextmanager
def served(metrics, between_scrapes):
    """The metrics on a free port of their own; `between_scrapes` is what happens before each scrape."""

    class Scrape(BaseHTTPRequestHandler):
        def do_GET(self):
            between_scrapes(metrics)
            page = metrics.render()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Scrape) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def an_edge(name: str) -> EdgeMetrics:
    metrics = EdgeMetrics(node=name, zone="fra", version="0.1.0")
    metrics.ready.read = lambda: 1
    metrics.peers.read = lambda: {PeerState.ALIVE: 1}
    metrics.cache_limit_bytes.read = lambda: {Tier.MEMORY: 1 << 28, Tier.DISK: 1 << 33}
    return metrics


def a_segment_is_watched(metrics: EdgeMetrics, source: Source) -> None:
    """One viewer gets a segment as it comes from `source`, another from memory."""
    metrics.viewer_requests[Outcome.MISS] += 1
    metrics.viewer_requests[Outcome.HIT] += 1
    metrics.viewer_bytes[source] += SEGMENT
    metrics.viewer_bytes[Source.MEMORY] += SEGMENT
    metrics.fetched_bytes[source] += SEGMENT
    metrics.fetch[source].observe(0.02)
    metrics.viewer_ttfb.observe(0.02)
    metrics.viewer_ttfb.observe(0.0005)
    metrics.playlist_lag.observe(0.0)
    metrics.live_segment_ready.observe(0.3)
    metrics.control_bytes[Control.POINTER] += 300


def at_the_home(metrics: EdgeMetrics) -> None:
    a_segment_is_watched(metrics, Source.ORIGIN)
    metrics.origin_bytes[Reason.FIRST_COPY] += SEGMENT
    metrics.origin_requests[Reason.FIRST_COPY] += 1
    metrics.peer_sent_bytes[Role.HOME] += SEGMENT


def at_the_other_edge(metrics: EdgeMetrics) -> None:
    a_segment_is_watched(metrics, Source.PEER)


def at_the_origin(metrics: OriginMetrics) -> None:
    metrics.sent_bytes["edge-1"][Reason.FIRST_COPY] += SEGMENT
    metrics.answers["edge-1"][Reason.FIRST_COPY] += 1
    metrics.distinct_bytes.value += SEGMENT
    metrics.ingest_requests[IngestResult.STORED] += 1
    metrics.ingest_bytes.value += SEGMENT


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    origin = OriginMetrics("0.1.0")
    origin.ready.read = lambda: 1
    with ExitStack() as stack:
        edges = {
            "edge-1": stack.enter_context(served(an_edge("edge-1"), at_the_home)),
            "edge-2": stack.enter_context(served(an_edge("edge-2"), at_the_other_edge)),
        }
        targets = {
            "starling-edge": edges,
            "starling-origin": {"origin": stack.enter_context(served(origin, at_the_origin))},
        }
        server = stack.enter_context(prometheus(targets, tmp_path_factory.mktemp("prometheus")))
        server.wait_for_scrapes(5)
        yield server


def test_every_panel_rule_and_alert_has_data_while_all_is_well(server):
    assert server.without_data() == {}


def test_no_alert_fires_while_all_is_well(server):
    assert server.firing() == []


def test_the_figures_of_the_first_row_are_those_of_two_edges_with_two_viewers_each(server):
    assert server.query("starling:peer_share:ratio5m") == [pytest.approx(1 / 2, abs=0.1)]
    assert server.query("starling:origin_copies:ratio5m") == [pytest.approx(1.0, abs=0.1)]
    assert server.query("starling:origin_offload:ratio5m") == [pytest.approx(3 / 4, abs=0.1)]
    assert server.query("starling:origin_offload_without_swarm:ratio5m") == [pytest.approx(1 / 2, abs=0.1)]


def test_a_misspelt_metric_would_be_noticed(server):
    assert server.query("sum(rate(starling_viewer_byte_total[1m]))") == []
    with pytest.raises(HTTPError):
        server.query("sum(rate(")
