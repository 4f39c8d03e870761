"""The numbers are true, under load and with an edge killed in the middle: clients, edges and origin counted alike."""

import pytest

from tests.shows.plays_7 import TOLERANCE, accounts_under_load, check_metrics, playing

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    with playing(tmp_path_factory.mktemp("accounts"), film_s=20.0) as programs:
        yield programs


@pytest.fixture(scope="module")
def accounts(programs):
    return accounts_under_load(programs, 150, victim="edge-3")


def test_no_viewer_of_the_others_notices_the_death_of_an_edge(accounts):
    assert accounts.errors == []


def test_edges_count_the_bytes_that_their_viewers_received(accounts):
    assert min(received for _, received in accounts.viewer_bytes.values()) > 1_000_000
    for counted, received in accounts.viewer_bytes.values():
        assert counted == pytest.approx(received, rel=TOLERANCE)


def test_edges_and_origin_agree_on_every_reason(accounts):
    told = {reason: pair for reason, pair in accounts.origin_bytes.items() if any(pair)}
    assert {"first_copy", "playlist"} <= set(told)
    assert "verify_failed" not in told  # an edge that dies has gone away, it did not send nonsense
    for counted, sent in told.values():
        assert counted == pytest.approx(sent, rel=TOLERANCE)
    assert accounts.direct_bytes == 0


def test_outcomes_sum_to_requests_and_sources_to_bytes(accounts, programs):
    for node in programs.edges:
        metrics = programs.metrics(node)
        status = programs.status(node)
        assert sum(status["viewer_bytes"].values()) == programs.total(node, "starling_viewer_bytes_total")
        assert metrics['starling_fetched_bytes_total{source="origin"}'] == programs.total(
            node, "starling_origin_bytes_total"
        )
        assert metrics['starling_viewer_requests_total{outcome="failed"}'] == 0
        assert programs.total(node, "starling_pieces_rejected_total") == 0
        assert metrics["starling_live_segment_ready_seconds_count"] > 0
        assert metrics["starling_playlist_lag_seconds_count"] > 0


@pytest.mark.prometheus
@pytest.mark.parametrize("node", ["origin", "edge-1"])
def test_promtool_is_content_with_what_is_exposed(node, accounts, programs):
    assert check_metrics(programs, node) == ""
