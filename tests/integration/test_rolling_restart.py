"""Three edges restarted one after the other behind a strict balancer: no viewer notices."""

import pytest

from tests.shows.plays_9 import edges_with_grace, make_files, rolling_restart

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(240)]


def test_a_rolling_restart_behind_a_balancer_costs_no_viewer_an_error(tmp_path):
    with edges_with_grace(tmp_path, 2.5) as programs:
        make_files(programs.media / "files")
        rolled = rolling_restart(programs, [], readers=6, viewers=0, grace_s=2.5)
    assert rolled.wrong == []
    assert rolled.exit_codes == {"edge-1": 0, "edge-2": 0, "edge-3": 0}
