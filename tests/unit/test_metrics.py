"""What a scrape shows: every word at 0 from the start, integers as counted, gauges as asked, names promtool likes."""

import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.metrics import Count, Exposition, Gauges, Histogram, Ledger, Tally
from edge.metrics import EdgeMetrics
from origin.metrics import OriginMetrics
from swarm.accounting import Cause, Outcome, PeerState, Reason, Source


def scraped(program) -> dict[str, float]:
    """The samples of a scrape as `name{label="value"}` -> value."""
    samples = {}
    for family in text_string_to_metric_families(program.render().decode()):
        for sample in family.samples:
            labels = ",".join(f'{label}="{value}"' for label, value in sample.labels.items())
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def edge_metrics() -> EdgeMetrics:
    return EdgeMetrics(node="edge-fra-1", zone="fra", version="0.1.0")


def test_a_new_edge_shows_every_outcome_source_reason_and_cause_at_0():
    samples = scraped(edge_metrics())
    assert all(samples[f'starling_viewer_requests_total{{outcome="{outcome}"}}'] == 0 for outcome in Outcome)
    assert all(samples[f'starling_viewer_bytes_total{{source="{source}"}}'] == 0 for source in Source)
    assert all(samples[f'starling_origin_bytes_total{{reason="{reason}"}}'] == 0 for reason in Reason)
    assert all(samples[f'starling_pieces_rejected_total{{cause="{cause}"}}'] == 0 for cause in Cause)
    assert samples["starling_zone_crossing_bytes_total"] == 0
    assert samples['starling_fetch_seconds_count{source="peer"}'] == 0


def test_what_was_counted_is_what_is_scraped():
    metrics = edge_metrics()
    metrics.viewer_bytes[Source.PEER] += 1000
    metrics.viewer_bytes[Source.PEER] += 24
    metrics.zone_crossing_bytes.value += 7
    metrics.peers.read = lambda: {PeerState.ALIVE: 2}
    metrics.ready.read = lambda: True
    samples = scraped(metrics)
    assert samples['starling_viewer_bytes_total{source="peer"}'] == 1024
    assert samples["starling_zone_crossing_bytes_total"] == 7
    assert samples['starling_peers{state="alive"}'] == 2
    assert samples['starling_peers{state="dead"}'] == 0
    assert samples["starling_ready"] == 1


def test_two_edges_in_one_process_count_apart():
    one, other = edge_metrics(), edge_metrics()
    one.viewer_bytes[Source.DISK] += 5
    assert other.viewer_bytes[Source.DISK] == 0


def test_a_scrape_tells_which_program_it_is():
    facts = 'node="edge-fra-1",program="edge",version="0.1.0",zone="fra"'
    info = [name for name in scraped(edge_metrics()) if name.startswith("starling_build_info")]
    assert [sorted(name.removeprefix("starling_build_info{").rstrip("}").split(",")) for name in info] == [
        sorted(facts.split(","))
    ]
    assert scraped(OriginMetrics("0.1.0"))['starling_build_info{program="origin",version="0.1.0"}'] == 1


def test_the_process_itself_is_measured_too():
    samples = scraped(edge_metrics())
    assert samples["process_resident_memory_bytes"] > 1 << 20
    assert samples["process_open_fds"] > 0


def test_the_ledger_starts_a_row_for_each_edge_with_all_reasons_at_0():
    metrics = OriginMetrics("0.1.0")
    metrics.sent_bytes["edge-1"][Reason.FIRST_COPY] += 5
    samples = scraped(metrics)
    assert samples['starling_origin_sent_bytes_total{edge="edge-1",reason="first_copy"}'] == 5
    assert samples['starling_origin_sent_bytes_total{edge="edge-1",reason="audit"}'] == 0
    assert samples['starling_origin_sent_bytes_total{edge="direct",reason="standalone"}'] == 0


def test_names_beyond_the_bound_share_one_row():
    ledger = Ledger("sent_bytes_total", "Sent.", ("edge", "reason"), Reason, most=2)
    for edge in ("a", "b", "c", "d", "a"):
        ledger[edge][Reason.AUDIT] += 1
    assert {edge: row[Reason.AUDIT] for edge, row in ledger.items()} == {"a": 2, "b": 1, "other": 2}


def test_a_word_outside_the_closed_set_is_an_error_where_it_is_counted():
    with pytest.raises(KeyError):
        edge_metrics().viewer_bytes["satellite"] += 1
    with pytest.raises(KeyError, match="zombie"):
        Gauges("peers", "Peers.", "state", PeerState, read=lambda: {"zombie": 1}).collect()


def test_an_observation_falls_in_the_first_bucket_that_holds_it():
    histogram = Histogram("wait_seconds", "Waits.", bounds=(0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 3.0):
        histogram.observe(seconds)
    assert histogram.cumulative() == [("0.1", 2), ("1.0", 3), ("+Inf", 4)]
    assert histogram.sum == pytest.approx(3.65)


def test_a_label_value_is_escaped():
    text = Exposition([Tally("x_total", "X.", "word", ['a"b\n'])]).render().decode()
    assert r'x_total{word="a\"b\n"} 0.0' in text


def test_a_counter_is_exposed_under_exactly_its_name():
    text = Exposition([Count("bytes_total", "Bytes.")]).render().decode()
    assert "# HELP bytes_total Bytes.\n# TYPE bytes_total counter\nbytes_total 0.0\n" in text


@pytest.mark.prometheus
@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian: prometheus) is not installed")
@pytest.mark.parametrize("program", [edge_metrics(), OriginMetrics("0.1.0")], ids=["edge", "origin"])
def test_promtool_finds_nothing_to_say_about_the_names(program):
    check = subprocess.run(["promtool", "check", "metrics"], input=program.render(), capture_output=True)
    assert (check.returncode, check.stdout + check.stderr) == (0, b"")
