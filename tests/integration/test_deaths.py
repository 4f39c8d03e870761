"""Edges killed in the middle of a download; origin and tracker gone after a film was watched once."""

import shutil

import pytest

from tests.integration.conftest import FILM
from tests.integration.deaths import download_while_killing
from tests.integration.downloads import MIB, WHOLE, random_file, sent_by_origin, wrong
from tests.integration.ffmpeg import watch

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(180)]

MOST_COPIES = 1 + 1 / 3 + 0.07  # the dead edge's share once more, and what was on the wire


@pytest.mark.parametrize(
    "victim, after_bytes",
    [("edge-1", 0), ("edge-2", 1 * MIB), ("edge-3", 32 * MIB)],
)
def test_killing_one_of_three_edges_in_the_middle_harms_neither_of_the_others(swarm_of, victim, after_bytes):
    swarm = swarm_of(3)
    sha256 = random_file(swarm.media / "whole.bin", WHOLE)
    got = download_while_killing(swarm, "/whole.bin", victim, after_bytes)
    assert swarm.edges[victim].process.wait(10) == -9
    assert wrong([one for node, one in got.items() if node != victim], sha256) == []
    assert sent_by_origin(swarm) <= MOST_COPIES * WHOLE


def test_a_film_watched_once_outlives_origin_and_tracker(swarm_of, film):
    swarm = swarm_of(3, media=film)
    assert watch(swarm.url("edge-1", FILM)) == (0, "")
    swarm.origin.kill()
    assert watch(swarm.url("edge-1", FILM)) == (0, "")  # has it
    assert watch(swarm.url("edge-2", FILM)) == (0, "")  # gets it from a peer
    swarm.edges["edge-3"].kill()
    swarm.start_edge("edge-3")  # with what its cache directory holds: the last view
    assert watch(swarm.url("edge-3", FILM)) == (0, "")
    swarm.edges["edge-2"].kill()
    swarm.start_edge("edge-2")
    swarm.edges["edge-1"].kill()
    swarm.edges["edge-3"].kill()
    assert watch(swarm.url("edge-2", FILM)) == (0, "")  # from its own disk, with nobody else alive


def test_an_edge_that_lost_its_cache_but_not_the_view_plays_from_its_peers(swarm_of, film):
    swarm = swarm_of(2, media=film)
    assert watch(swarm.url("edge-1", FILM)) == (0, "")
    swarm.origin.kill()
    swarm.edges["edge-2"].kill()
    directory = swarm.directory / "edge-2"
    for entry in directory.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
    swarm.start_edge("edge-2")
    assert watch(swarm.url("edge-2", FILM)) == (0, "")
