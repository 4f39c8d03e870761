"""An edge that keeps nothing in memory: hits come from disk by the hit path, and rot there is found."""

from pathlib import Path

import pytest

from tests.deploy.panels import wait_until
from tests.integration.alone import Alone, alone_config, running_alone
from tests.integration.by_hand import get
from tests.integration.disk_troubles import WITHIN_S, on_disk
from tests.integration.kills import body_of, is_right, origin_of_made, target_of

pytestmark = pytest.mark.processes
LARGE = 8  # 1.5 MB: 92 pieces
FLIPPED_AT = 700_000


@pytest.fixture
def edge(tmp_path):
    with origin_of_made() as (origin, _):
        config = alone_config(tmp_path, origin.url)
        config["cache"] = {"directory": str(tmp_path / "cache"), "memory": 0, "disk": "1GiB"}
        with running_alone(tmp_path, config) as edge:
            yield edge


def hits(edge: Alone) -> float:
    return edge.metrics()["starling_hit_path_total"]


def fetch_until_hit_from_disk(edge: Alone, number: int) -> None:
    """Written first, then read by a thread, then at hand."""
    wait_until(lambda: is_hit_from_disk(edge, number), WITHIN_S, lambda: str(edge.metrics()))


def is_hit_from_disk(edge: Alone, number: int) -> bool:
    before = hits(edge)
    answer = get(edge.url(target_of(number)))
    assert is_right(answer, number)
    return "hit; " in answer.cache_status and "detail=disk" in answer.cache_status and hits(edge) > before


@pytest.mark.parametrize("number", [2, 5, LARGE])
def test_with_no_memory_hits_are_sent_from_disk(edge, number):
    fetch_until_hit_from_disk(edge, number)
    metrics = edge.metrics()
    assert metrics['starling_viewer_bytes_total{source="disk"}'] >= len(body_of(number))
    assert metrics['starling_cache_bytes{tier="memory"}'] == 0
    assert on_disk(edge) >= len(body_of(number))


def test_rot_under_a_version_that_is_being_hit_reaches_nobody_and_is_fetched_again(edge, tmp_path):
    fetch_until_hit_from_disk(edge, LARGE)
    flip((tmp_path / "cache"), FLIPPED_AT)
    assert is_right(get(edge.url(target_of(LARGE))), LARGE)
    assert edge.metrics()['starling_origin_bytes_total{reason="rot"}'] > 0
    fetch_until_hit_from_disk(edge, LARGE)


def flip(cache: Path, at: int) -> None:
    [data] = (file for file in cache.rglob("*.data") if file.stat().st_size > at)
    with data.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x40]))
