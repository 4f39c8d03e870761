"""Playlists compressed by a real edge: for whom, and what validators and ranges then mean."""

import gzip
from collections.abc import Iterator

import pytest

from tests.integration.alone import Alone, alone_config, running_alone
from tests.integration.by_hand import get
from tests.integration.plain_origin import Stored, plain_origin

pytestmark = pytest.mark.processes

FRESH = {"Cache-Control": "max-age=60", "ETag": '"one"', "Last-Modified": "Sun, 22 Nov 2026 10:00:00 GMT"}
SEGMENTS = "".join(f"#EXTINF:4,\nseg{number}.m4s\n" for number in range(100))
PLAYLIST = f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n{SEGMENTS}#EXT-X-ENDLIST\n".encode()
CHROME = {"Accept-Encoding": "gzip, deflate, br, zstd"}


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    directory = tmp_path_factory.mktemp("edge")
    paths = {
        "/a.m3u8": Stored(PLAYLIST, FRESH | {"Vary": "Origin"}),
        "/short.m3u8": Stored(PLAYLIST[:400], FRESH),
        "/segment.m4s": Stored(PLAYLIST, FRESH),
        "/bare.m3u8": Stored(PLAYLIST, {"Cache-Control": "max-age=60, no-transform"}),
    }
    with plain_origin(paths) as origin, running_alone(directory, alone_config(directory, origin.url)) as running:
        yield running


def test_who_takes_gzip_is_sent_it_and_who_does_not_is_not(edge: Alone):
    for _ in range(2):  # a miss, a hit
        packed, plain = get(edge.url("/a.m3u8"), headers=CHROME), get(edge.url("/a.m3u8"))
        assert gzip.decompress(packed.body) == plain.body == PLAYLIST
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.headers["content-length"] == str(packed.size)
        assert "content-encoding" not in plain.headers
        for answer in (packed, plain):
            assert "Accept-Encoding" in answer.headers["vary"]
        assert (packed.headers["etag"], plain.headers["etag"]) == ('W/"one"', '"one"')
    assert "hit" in get(edge.url("/a.m3u8"), headers=CHROME).cache_status
    refused = get(edge.url("/a.m3u8"), headers={"Accept-Encoding": "gzip;q=0"})
    assert refused.body == PLAYLIST


def test_conditions_and_ranges(edge: Alone):
    get(edge.url("/a.m3u8"), headers=CHROME)
    for etag in ('"one"', 'W/"one"'):
        same = get(edge.url("/a.m3u8"), headers=CHROME | {"If-None-Match": etag})
        assert (same.status, same.headers["etag"], same.size) == (304, 'W/"one"', 0)
        assert "Accept-Encoding" in same.headers["vary"]
    since = get(edge.url("/a.m3u8"), headers=CHROME | {"If-Modified-Since": FRESH["Last-Modified"]})
    assert since.status == 304
    assert get(edge.url("/a.m3u8"), headers=CHROME | {"If-None-Match": '"two"'}).status == 200
    assert get(edge.url("/a.m3u8"), headers=CHROME | {"If-Match": 'W/"one"'}).status == 412
    part = get(edge.url("/a.m3u8"), headers=CHROME | {"Range": "bytes=10-19"})
    assert (part.status, part.body, part.headers["etag"]) == (206, PLAYLIST[10:20], '"one"')
    rest = get(edge.url("/a.m3u8"), headers=CHROME | {"Range": "bytes=10-19", "If-Range": 'W/"one"'})
    assert (rest.status, rest.body) == (200, PLAYLIST)
    whole = get(edge.url("/a.m3u8"), headers=CHROME)
    head = get(edge.url("/a.m3u8"), method="HEAD", headers=CHROME)
    assert (head.status, head.size) == (200, 0)
    for name in ("content-length", "content-encoding", "etag", "vary"):
        assert head.headers[name] == whole.headers[name]
    assert edge.metrics()["starling_hit_path_total"] >= 1


@pytest.mark.parametrize("path", ["/short.m3u8", "/segment.m4s", "/bare.m3u8"])
def test_what_is_short_or_no_playlist_or_not_ours_to_change_stays_as_it_is(edge: Alone, path: str):
    answer = get(edge.url(path), headers=CHROME)
    assert answer.status == 200
    assert "content-encoding" not in answer.headers
    assert "accept-encoding" not in answer.headers.get("vary", "").lower()
