"""A real Prometheus scrapes three edges and an origin that play: every panel, rule and alert has something to show."""

import pytest

from tests.shows.plays_7 import playing, watched, without_data

pytestmark = [pytest.mark.processes, pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(300)]


def test_every_panel_rule_and_alert_has_data_while_the_swarm_plays(tmp_path):
    with playing(tmp_path / "swarm", film_s=60.0) as programs, watched(programs, tmp_path / "prometheus") as server:
        assert without_data(server) == {}
