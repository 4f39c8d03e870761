"""The source of a response is what the nearest cache says."""

import pytest

from player.cache_status import source_of


@pytest.mark.parametrize(
    "header, expected",
    [
        ("edge-1; hit; detail=memory", "memory"),
        ("edge-1;hit;detail=disk", "disk"),
        ('"edge, one"; fwd=miss; fwd-status=200; detail="peer"', "peer"),
        ("shield; hit; detail=memory, edge-1; fwd=miss; detail=peer", "peer"),
        ("edge-1; fwd=uri-miss; detail=origin; stored", "origin"),
        ("edge-1; hit; detail=memory, laptop; fwd=miss", "memory"),
        ("edge-1; hit; detail=memorable", "origin"),
        ("edge-1; hit", "origin"),
        ("", "origin"),
        (None, "origin"),
    ],
)
def test_where_a_response_came_from(header, expected):
    assert source_of(header) == expected
