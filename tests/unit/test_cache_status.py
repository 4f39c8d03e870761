"""Cache-Status: one member of this edge's, as RFC 9211 has it."""

import pytest

from player.cache_status import source_of
from swarm.accounting import Outcome, Source
from swarm.cache_status import Forwarded, cache_status


@pytest.mark.parametrize(
    "said, expected",
    [
        (cache_status("edge-1", Outcome.HIT, source=Source.MEMORY, ttl_s=59.9), "edge-1; hit; ttl=59; detail=memory"),
        (cache_status("edge-1", Outcome.STALE_HIT, source=Source.DISK, ttl_s=-0.1), "edge-1; hit; ttl=-1; detail=disk"),
        (
            cache_status("e", Outcome.MISS, source=Source.ORIGIN, status=200, ttl_s=60.0),
            "e; fwd=uri-miss; fwd-status=200; stored; ttl=60; detail=origin",
        ),
        (
            cache_status("e", Outcome.JOINED, why=Forwarded.VARY_MISS, status=404),
            "e; fwd=vary-miss; fwd-status=404; collapsed; stored",
        ),
        (cache_status("e", Outcome.REVALIDATED, status=200, ttl_s=0), "e; fwd=stale; fwd-status=304; ttl=0"),
        (cache_status("e", Outcome.PASSED, why=Forwarded.METHOD, status=999), "e; fwd=method; fwd-status=999"),
        (cache_status("e", Outcome.FAILED), "e; fwd=uri-miss"),
        (cache_status('1 "quoted\\"', Outcome.FAILED), '"1 \\"quoted\\\\\\""; fwd=uri-miss'),
    ],
)
def test_what_is_said_of_an_answer(said, expected):
    assert said == expected


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("source", Source)
def test_the_player_reads_the_source_from_every_member(outcome, source):
    said = cache_status('odd, "node"', outcome, source=source, status=200, ttl_s=1.0)
    assert source_of(f"shield; hit; detail=memory, {said}") == source
