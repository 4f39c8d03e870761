"""The dashboard is what its script writes, fits on the grid, and asks only for metrics that exist."""

import json
import re
import runpy

import promql_parser
import pytest

from edge.metrics import EdgeMetrics
from origin.metrics import OriginMetrics
from tests.deploy.panels import DASHBOARD, DEPLOY, all_queries, panel_queries, rules, without_variables

PANELS = json.loads(DASHBOARD.read_text())["panels"]
ASKED = {**all_queries(), **{f"rule {name}": expr for name, expr in rules("record").items()}}


def existing_series() -> set[str]:
    """The names of all series the two programs expose, what rules record, and Prometheus' own `up`."""
    pages = (EdgeMetrics("edge-1", "", "0").render(), OriginMetrics("0").render())
    exposed = {
        line.split("{")[0].split(" ")[0] for page in pages for line in page.decode().splitlines() if line[0] != "#"
    }
    return exposed | set(rules("record")) | {"up"}


def series_in(expr: str) -> set[str]:
    names: set[str] = set()

    def note(node):
        if isinstance(node, promql_parser.VectorSelector) and node.name:
            names.add(node.name)

    promql_parser.walk(promql_parser.parse(expr), note)
    return names


def test_the_committed_json_is_what_the_script_writes():
    build = runpy.run_path(str(DEPLOY / "grafana" / "build.py"))
    assert DASHBOARD.read_text() == build["text"]()


def test_the_first_row_answers_what_the_origin_did_not_have_to_send():
    titles = [panel["title"] for panel in PANELS]
    assert titles[:7] == [
        "How much did the origin not have to send?",
        "Origin copies",
        "Peer share",
        "Origin offload",
        "… without the swarm",
        "Not sent by the origin",
        "Sent by the origin",
    ]


def test_panel_ids_are_unique():
    ids = [panel["id"] for panel in PANELS]
    assert len(ids) == len(set(ids))


def test_panels_fit_on_24_columns_and_none_covers_another():
    covered: dict[tuple[int, int], str] = {}
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for cell in [(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])]:
            assert cell not in covered, f"{panel['title']} covers {covered[cell]}"
            covered[cell] = panel["title"]


def test_every_panel_has_a_unit_a_sentence_and_the_chosen_data_source():
    for panel in (panel for panel in PANELS if panel["type"] != "row"):
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


@pytest.mark.parametrize("name", panel_queries())
def test_no_variable_is_left_in_a_panel_query(name):
    assert "$" not in without_variables(panel_queries()[name])


@pytest.mark.parametrize("name", ASKED)
def test_it_asks_only_for_series_that_exist(name):
    series = series_in(ASKED[name])
    assert series
    assert series - existing_series() == set()


def test_every_metric_of_the_programs_is_used_by_a_panel_a_rule_or_an_alert():
    used = {re.sub(r"_(bucket|count|sum)$", "", name) for expr in ASKED.values() for name in series_in(expr)}
    exposed = {re.sub(r"_(bucket|count|sum)$", "", name) for name in existing_series() if name.startswith("starling_")}
    looked_up_by_hand = {"starling_build_info", "starling_origin_answers_total", "starling_ingest_bytes_total"}
    assert exposed - used == looked_up_by_hand
