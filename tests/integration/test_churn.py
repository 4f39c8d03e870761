"""Edges come and go, or lose their caches: what the swarm still holds does not cost the origin a second time."""

import pytest

from deploy.programs import running_swarm
from tests.shows.plays_9 import EDGES, MIB, SHARE_LIMIT, churn

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(240)]


def test_a_join_a_leave_and_restarts_with_an_empty_cache_cost_the_origin_next_to_nothing(tmp_path):
    with running_swarm(tmp_path, EDGES) as programs:
        churned = churn(programs, 48 * MIB, 8 * MIB)
    assert churned.wrong == []
    assert churned.cost.pop("cold") == pytest.approx(1.0, abs=0.02)
    assert {what: cost for what, cost in churned.cost.items() if cost > SHARE_LIMIT} == {}, churned.reasons
