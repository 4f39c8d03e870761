"""`kill -9` under write load: what is served afterwards is right, or honestly an error."""

import pytest

from tests.integration.kills import kill_again_and_again

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(240)]


def test_killed_while_it_writes_an_edge_serves_no_wrong_body_afterwards(tmp_path):
    found = kill_again_and_again(tmp_path, kills=3, seed=1)
    assert found.wrong == []
    assert found.errors_with_origin == []
    assert found.kept > 0, "the cache outlives its edge"
