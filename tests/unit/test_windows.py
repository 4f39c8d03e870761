"""Segments leave a live playlist's window; whatever else may look like that is none."""

from edge.windows import MOST_BYTES, Windows
from swarm.names import Path

LIVE = Path("default", "/live/720p.m3u8")


def playlist(*segments: str, more: str = "") -> bytes:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", '#EXT-X-MAP:URI="init.mp4"']
    for segment in segments:
        lines += ["#EXTINF:2.0,", segment]
    return "\n".join([*lines, more]).encode()


def targets(left: list[Path]) -> list[str]:
    return sorted(path.target for path in left)


def test_what_a_playlist_no_longer_names_has_left():
    windows = Windows()
    assert windows.on_playlist(LIVE, playlist("1.m4s", "2.m4s", "3.m4s")) == []
    assert targets(windows.on_playlist(LIVE, playlist("3.m4s", "4.m4s"))) == ["/live/1.m4s", "/live/2.m4s"]
    assert windows.on_playlist(LIVE, playlist("3.m4s", "4.m4s", "5.m4s")) == []


def test_what_another_playlist_still_names_has_not_left():
    windows, archive = Windows(), Path("default", "/live/archive.m3u8")
    windows.on_playlist(archive, playlist("1.m4s", "2.m4s"))
    windows.on_playlist(LIVE, playlist("1.m4s"))
    assert windows.on_playlist(LIVE, playlist("2.m4s")) == []
    assert targets(windows.on_playlist(archive, playlist("2.m4s"))) == ["/live/1.m4s"]


def test_an_end_a_delta_and_what_is_no_playlist_say_nothing_has_left():
    windows = Windows()
    windows.on_playlist(LIVE, playlist("1.m4s", "2.m4s"))
    assert windows.on_playlist(LIVE, playlist("2.m4s", more="#EXT-X-SKIP:SKIPPED-SEGMENTS=1")) == []
    assert windows.on_playlist(Path("default", LIVE.url_path, "_HLS_msn=3"), playlist("2.m4s")) == []
    assert windows.on_playlist(LIVE, b"#EXTINF:torn") == []
    assert windows.on_playlist(LIVE, playlist("2.m4s", "x" * MOST_BYTES)) == []
    assert windows.on_playlist(LIVE, playlist("2.m4s", more="#EXT-X-ENDLIST")) == []


def test_segments_of_other_hosts_are_left_alone():
    windows = Windows()
    windows.on_playlist(LIVE, playlist("http://other.example/1.m4s", "//other.example/2.m4s", "../3.m4s?a=1"))
    assert targets(windows.on_playlist(LIVE, playlist("4.m4s"))) == ["/3.m4s?a=1"]
