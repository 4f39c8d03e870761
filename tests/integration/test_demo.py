"""`make demo`, the first thing a newcomer types."""

import pytest

from tests.integration.demo_runs import DemoRun, interrupt_group, interrupt_make, wait_for_nothing_left

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(400)]

KEYS = {"viewer_bytes", "origin_bytes", "distinct_bytes", "origin_copies", "offload", "peer_share", "stalls", "errors"}


def test_it_ends_by_itself_with_one_origin_copy_no_stall_and_no_error(tmp_path):
    with DemoRun(tmp_path / "demo.txt", {"DEMO_SECONDS": "10"}) as demo:
        code = demo.wait()
        assert code == 0, demo.said()
        figures = demo.figures()
        assert figures.keys() >= KEYS
        assert (figures["stalls"], figures["errors"]) == (0, 0), demo.said()
        assert figures["origin_copies"] <= 1.15
        assert figures["viewers"] >= 6
        assert figures["viewer_bytes"] >= 2.5 * figures["distinct_bytes"]  # each stream through all three edges
        assert demo.left() == {}
        for page in ("/-/player/?src=/live/", "/-/player/?src=/film/", "status"):
            assert page in demo.said()


@pytest.mark.parametrize("way", [interrupt_group, interrupt_make])
def test_ended_during_start_up_it_leaves_no_process_behind(tmp_path, way):
    with DemoRun(tmp_path / "demo.txt", {}) as demo:
        demo.wait_until_said("making a film")
        way(demo)
        assert wait_for_nothing_left(demo) == {}
        demo.wait()
