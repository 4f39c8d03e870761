"""The public HTTP caching suite through one edge: never worse than it was."""

import pytest

from tests.cachetests import PACKAGE, count, run

pytestmark = [pytest.mark.processes, pytest.mark.node, pytest.mark.slow]

# The npm package is an older cut of the suite: nine of its Age tests ask for what RFC 9111 section 5.1 no longer says.
LEAST_REQUIRED, REQUIRED = 140, 157
LEAST_OPTIMAL, OPTIMAL = 69, 86


@pytest.mark.timeout(300)
def test_one_edge_before_a_plain_origin_passes_what_it_passed_before():
    verdicts, _ = run(PACKAGE)
    failed = [f"{one.test}: {one.detail}" for one in verdicts if one.came_out in ("fail", "setup")]
    required, optimal = count(verdicts, "required"), count(verdicts, "optimal")
    assert (required[1], optimal[1]) == (REQUIRED, OPTIMAL)
    assert required[0] >= LEAST_REQUIRED, failed
    assert optimal[0] >= LEAST_OPTIMAL, failed
