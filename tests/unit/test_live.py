import pytest

from edge.live import FORGOTTEN_S, LiveStreams
from swarm.names import Path


def path(url_path: str, site: str = "default") -> Path:
    return Path(site, url_path)


@pytest.fixture
def streams() -> LiveStreams:
    """`/cup/720p.m3u8` is watched from second 100 to second 110."""
    streams = LiveStreams()
    streams.on_playlist(path("/cup/720p.m3u8"), 100.0)
    streams.on_playlist(path("/cup/720p.m3u8"), 110.0)
    return streams


@pytest.mark.parametrize(
    "url_path, born, awaited",
    [
        ("/cup/7.m4s", 105.0, True),
        ("/cup/720p/7.m4s", 105.0, True),
        ("/cup/7.m4s", 99.0, False),  # it was there when the first viewer came: nobody had waited for it
        ("/cups/7.m4s", 105.0, False),
        ("/7.m4s", 105.0, False),
    ],
)
def test_a_segment_is_awaited_if_it_is_born_under_a_playlist_that_is_watched(url_path, born, awaited, streams):
    assert streams.was_awaited(path(url_path), born, 111.0) is awaited


def test_another_site_is_another_stream(streams):
    assert not streams.was_awaited(path("/cup/7.m4s", "other"), 105.0, 111.0)


def test_a_stream_that_nobody_watches_any_more_awaits_nothing_until_somebody_does(streams):
    later = 110.0 + FORGOTTEN_S + 1
    assert not streams.was_awaited(path("/cup/7.m4s"), later - 1, later)
    streams.on_playlist(path("/cup/720p.m3u8"), later)
    assert not streams.was_awaited(path("/cup/7.m4s"), later - 1, later)
    assert streams.was_awaited(path("/cup/8.m4s"), later + 1, later + 2)
