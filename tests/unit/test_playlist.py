"""Playlists are read as players read them, and rewritten without touching a byte too many."""

from urllib.parse import urljoin

import m3u8
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import RemoteError
from swarm.playlist import (
    Alternative,
    ByteRange,
    Map,
    Media,
    Multivariant,
    Part,
    PreloadHint,
    Rendition,
    Segment,
    ServerControl,
    attributes,
    is_live,
    lifetime_s,
    named_uris,
    parse,
    query_slots,
    rewrite,
    tokenize,
)

LIVE = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:41
#EXT-X-MAP:URI="init.mp4"
#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:01:40.500Z
#EXTINF:2.000000,a title, with a comma
seg41.m4s
#EXTINF:1.5,
seg42.m4s
"""

FILM = """#EXTM3U
#EXT-X-TARGETDURATION:6
#EXT-X-PLAYLIST-TYPE:VOD
#EXTINF:6,
#EXT-X-BYTERANGE:1000@0
film.ts
#EXT-X-BYTERANGE:500
#EXTINF:4.25,
film.ts
#EXT-X-DISCONTINUITY
#EXT-X-GAP
#EXTINF:.5,
advert.ts
#EXT-X-ENDLIST
"""

RENDITIONS = """#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="Deutsch",LANGUAGE="de",URI="de.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="English, clear",LANGUAGE="en",DEFAULT=YES,AUTOSELECT=YES,URI="en.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=800000,AVERAGE-BANDWIDTH=700000,RESOLUTION=640x360,CODECS="avc1.4d401e,mp4a.40.2",AUDIO="aac"
360p.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=2500000,RESOLUTION=1280x720,FRAME-RATE=25.000
720p.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=90000,URI="iframes.m3u8"
"""

LOW_LATENCY = """#EXTM3U
#EXT-X-TARGETDURATION:4
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0,CAN-SKIP-UNTIL=24.0
#EXT-X-PART-INF:PART-TARGET=0.33334
#EXT-X-MEDIA-SEQUENCE:100
#EXT-X-SKIP:SKIPPED-SEGMENTS=3
#EXT-X-PART:DURATION=2.0,URI="seg103.mp4",BYTERANGE="300@0",INDEPENDENT=YES
#EXT-X-PART:DURATION=2.0,URI="seg103.mp4",BYTERANGE="200"
#EXTINF:4,
seg103.mp4
#EXT-X-PART:DURATION=0.33334,URI="seg104.0.mp4"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="seg104.1.mp4"
#EXT-X-RENDITION-REPORT:URI="../720p/live.m3u8",LAST-MSN=104,LAST-PART=0
"""


def test_a_live_playlist():
    first = Segment("seg41.m4s", 2.0, 41, map=Map("init.mp4"), program_date_at=100.5)
    second = Segment("seg42.m4s", 1.5, 42, map=Map("init.mp4"), program_date_at=102.5)
    media = parse(LIVE)
    assert media == Media(target_duration_s=2.0, media_sequence=41, segments=(first, second))
    assert is_live(media)
    assert media.next_sequence == 43
    assert media.duration_s == 3.5


def test_a_film_in_byte_ranges():
    media = parse(FILM)
    assert isinstance(media, Media)
    assert [segment.byterange for segment in media.segments] == [ByteRange(0, 1000), ByteRange(1000, 500), None]
    assert media.segments[2] == Segment("advert.ts", 0.5, 2, discontinuity=True, gap=True)
    assert not is_live(media)


def test_a_multivariant_playlist():
    playlist = parse(RENDITIONS)
    english = Alternative("AUDIO", "aac", "English, clear", "en.m3u8", "en", default=True, autoselect=True)
    low = Rendition("360p.m3u8", 800000, 700000, (640, 360), ("avc1.4d401e", "mp4a.40.2"), None, "aac")
    high = Rendition("720p.m3u8", 2500000, None, (1280, 720), (), 25.0)
    assert playlist == Multivariant((low, high), (Alternative("AUDIO", "aac", "Deutsch", "de.m3u8", "de"), english))
    assert playlist.audio_of(low) == english
    assert playlist.audio_of(high) is None


def test_a_delta_update_with_parts_and_a_hint():
    media = parse(LOW_LATENCY)
    assert isinstance(media, Media)
    assert (media.skipped, media.part_target_s, media.next_sequence) == (3, 0.33334, 104)
    assert media.segments[0].sequence == 103
    assert media.segments[0].parts[1] == Part("seg103.mp4", 2.0, ByteRange(300, 200))
    assert media.parts == (Part("seg104.0.mp4", 0.33334),)
    assert media.preload_hints == (PreloadHint("PART", "seg104.1.mp4"),)
    assert media.server_control == ServerControl(True, 24.0, None, 1.0)


@pytest.mark.parametrize("text", [LIVE, FILM, RENDITIONS, LOW_LATENCY])
def test_crlf_a_byte_order_mark_and_a_missing_newline_change_nothing(text):
    assert parse("\ufeff" + text.replace("\n", "\r\n").removesuffix("\r\n")) == parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>",
        "#EXTM3U8\n#EXT-X-TARGETDURATION:6\n",
        "#EXTM3U\nno-tags.ts\n",
        "#EXTM3U\n#EXTINF:6,\na.ts\n",  # no target duration
        "#EXTM3U\n#EXT-X-TARGETDURATION:six\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:6\na.ts\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:-6,\na.ts\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:nan,\na.ts\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:" + "9" * 5000,
        "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n#EXT-X-BYTERANGE:10\na.ts\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MAP:BYTERANGE=3\n",
        "#EXTM3U\n#EXT-X-STREAM-INF:CODECS=x\na.m3u8\n",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n#EXT-X-TARGETDURATION:6\n",
    ],
)
def test_nonsense_is_charged_to_the_other_side(text):
    with pytest.raises(RemoteError):
        parse(text)


@given(st.text(st.sampled_from('#EXTM3U-INFSTREAM:,="\r\n\ufeff 019@.x/'), max_size=80))
def test_whatever_comes_is_a_playlist_or_a_remote_error(tail):
    for head in ("", "#EXTM3U\n", "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1"):
        try:
            parse(head + tail)
            named_uris(head + tail)
        except RemoteError:
            continue


@given(st.text(st.characters(codec="utf-8")))
def test_the_tokenizer_loses_nothing(text):
    assert "".join(line.text + line.end for line in tokenize(text)) == text


def test_an_attribute_list_with_commas_in_quotes():
    found = attributes('CODECS="avc1,mp4a",NAME="a=b, c",X-EMPTY="",BANDWIDTH=12 , LAST=YES')
    assert found == {"CODECS": "avc1,mp4a", "NAME": "a=b, c", "X-EMPTY": "", "BANDWIDTH": "12", "LAST": "YES"}


@pytest.mark.parametrize("value", ["=1", 'A="1', "a=1", "A=1,,B=2", 'A="1"x'])
def test_a_broken_attribute_list(value):
    with pytest.raises(RemoteError):
        attributes(value)


SEGMENTS = st.lists(
    st.tuples(st.integers(1, 9999), st.booleans(), st.text("abc/-_.?=", min_size=1, max_size=12)), min_size=1
)


@given(SEGMENTS, st.integers(0, 2**40), st.booleans())
def test_the_m3u8_package_reads_the_same(segments, sequence, ended):
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:10", f"#EXT-X-MEDIA-SEQUENCE:{sequence}"]
    for thousandths, discontinuity, uri in segments:
        lines += ["#EXT-X-DISCONTINUITY"] * discontinuity + [f"#EXTINF:{thousandths / 1000:.3f},", uri]
    text = "\n".join([*lines, "#EXT-X-ENDLIST"] if ended else lines)
    oracle, media = m3u8.loads(text), parse(text)
    assert isinstance(media, Media)
    assert media.ended == oracle.is_endlist
    ours = [(one.uri, one.duration_s, one.sequence, one.discontinuity) for one in media.segments]
    theirs = [(one.uri, one.duration, one.media_sequence, one.discontinuity) for one in oracle.segments]
    assert ours == theirs


def test_the_m3u8_package_reads_the_same_renditions():
    oracle, playlist = m3u8.loads(RENDITIONS), parse(RENDITIONS)
    assert isinstance(playlist, Multivariant)
    ours = [(one.uri, one.bandwidth_bps, one.resolution, ",".join(one.codecs) or None) for one in playlist.renditions]
    theirs = [
        (one.uri, one.stream_info.bandwidth, one.stream_info.resolution, one.stream_info.codecs)
        for one in oracle.playlists
    ]
    assert ours == theirs


@pytest.mark.parametrize(
    "text, blocking, expected",
    [(LIVE, False, 1.0), (LOW_LATENCY, True, 24.0), (FILM, False, 3600.0), (RENDITIONS, False, 30.0)],
)
def test_how_long_a_playlist_lives(text, blocking, expected):
    assert lifetime_s(parse(text), blocking=blocking) == expected


def test_what_a_playlist_promises_to_exist():
    assert named_uris(LIVE) == ["init.mp4", "seg41.m4s", "seg42.m4s"]
    assert named_uris(FILM) == ["film.ts", "advert.ts"]
    assert named_uris(RENDITIONS) == ["de.m3u8", "en.m3u8", "360p.m3u8", "720p.m3u8", "iframes.m3u8"]
    assert named_uris(LOW_LATENCY) == ["seg103.mp4", "seg104.0.mp4"]  # neither the hint nor the report


def test_a_defined_variable_is_put_in():
    text = '#EXTM3U\n#EXT-X-DEFINE:NAME="at",VALUE="http://o/a"\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n{$at}/{$x}.ts\n'
    assert named_uris(text) == ["http://o/a/{$x}.ts"]
    assert rewrite(text, "http://o/a/live.m3u8", "http://o").endswith("\n{$x}.ts\n")


BASE, ORIGIN = "http://origin:8000/media/live/cup.m3u8", "http://origin:8000/media"


@pytest.mark.parametrize(
    "written, expected",
    [
        ("http://origin:8000/media/live/seg1.ts?x=1#f", "seg1.ts?x=1#f"),
        ("HTTP://ORIGIN:8000/media/live/seg1.ts", "seg1.ts"),
        ("//origin:8000/media/other/seg1.ts", "../other/seg1.ts"),
        ("/media/live/a/seg1.ts", "a/seg1.ts"),
        ("http://origin:8000/media/live/", "./"),
        ("http://origin:8000/media/live/12:30.ts", "./12:30.ts"),
        ("http://origin:8000/media/live//seg1.ts", ".//seg1.ts"),
        ("http://origin:8000/media/live/x/../seg1.ts", "seg1.ts"),
        # not under the origin, or already relative: untouched
        ("seg1.ts", "seg1.ts"),
        ("../../../seg1.ts", "../../../seg1.ts"),
        ("/elsewhere/seg1.ts", "/elsewhere/seg1.ts"),
        ("http://origin:8000/media", "http://origin:8000/media"),
        ("http://origin:8000/mediax/seg1.ts", "http://origin:8000/mediax/seg1.ts"),
        ("http://origin:8000/media/../seg1.ts", "http://origin:8000/media/../seg1.ts"),
        ("http://origin:8000/media/%2E%2e/seg1.ts", "http://origin:8000/media/%2E%2e/seg1.ts"),
        ("https://origin:8000/media/seg1.ts", "https://origin:8000/media/seg1.ts"),
        ("http://origin:8001/media/seg1.ts", "http://origin:8001/media/seg1.ts"),
        ("http://me@origin:8000/media/seg1.ts", "http://me@origin:8000/media/seg1.ts"),
        ("http://origin:99999/media/seg1.ts", "http://origin:99999/media/seg1.ts"),
        ("http://[bad/media/seg1.ts", "http://[bad/media/seg1.ts"),
        ("skd://key", "skd://key"),
        ("data:text/plain,x", "data:text/plain,x"),
    ],
)
def test_uris_under_the_origin_become_relative(written, expected):
    text = f'#EXTM3U\r\n#EXT-X-KEY:METHOD=AES-128,URI="{written}",IV=0x1\r\n#EXTINF:6,\r\n  {written} \n# {written}'
    same = text.replace(f'"{written}"', f'"{expected}"').replace(f"  {written} ", f"  {expected} ")
    assert rewrite(text, BASE, ORIGIN) == same


def test_an_origin_without_a_path_leaves_absolute_paths_alone():
    text = "#EXTM3U\n/live/seg1.ts\nhttp://origin/live/seg2.ts\nhttp://origin:80/seg3.ts"
    assert rewrite(text, "http://origin/live/cup.m3u8", "http://origin/") == (
        "#EXTM3U\n/live/seg1.ts\nseg2.ts\n../seg3.ts"
    )


PATHS = st.lists(st.text("ab:~", min_size=1, max_size=3), min_size=1, max_size=5).map("/".join)


@given(PATHS, PATHS)
def test_a_rewritten_uri_still_means_the_same(base, target):
    base_url, target_url = f"http://origin/{base}", f"http://origin/{target}"
    written = rewrite(f"#EXTM3U\n{target_url}", base_url, "http://origin").removeprefix("#EXTM3U\n")
    assert "origin" not in written
    assert urljoin(base_url, written) == target_url


@given(st.text(st.characters(codec="utf-8")))
def test_a_playlist_of_other_uris_is_untouched(tail):
    text = "#EXTM3U\n" + tail.replace("origin", "")
    assert rewrite(text, BASE, ORIGIN) == text


# ---- a parameter for every URI ----


TOKENLESS = """#EXTM3U
#EXT-X-TARGETDURATION:4
#EXT-X-DEFINE:NAME="cdn",VALUE="https://elsewhere/"
#EXT-X-DEFINE:NAME="dir",VALUE="sub"
#EXT-X-CONTENT-STEERING:SERVER-URI="/steer?video=1"
#EXT-X-KEY:METHOD=AES-128,URI="key.bin#f",IV=0x01
#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://key"
#EXT-X-MAP:URI="init.mp4",BYTERANGE="10@0"
#EXTINF:4,
seg1.m4s?a=b
#EXTINF:4,
{$dir}/seg2.m4s
#EXTINF:4,
{$cdn}seg3.m4s
#EXTINF:4,
{$unknown}seg4.m4s
#EXTINF:4,
//elsewhere/seg5.m4s
#EXTINF:4,
../seg6.m4s?t=old
#EXT-X-PART:DURATION=1,URI="seg7.0.m4s"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="seg7.1.m4s"
#EXT-X-RENDITION-REPORT:URI="../low/live.m3u8",LAST-MSN=7
#EXT-X-DATERANGE:ID="ad",X-ASSET-URI="ad.m3u8",X-OTHER="not.a.uri"
"""
TOKENISED = """#EXTM3U
#EXT-X-TARGETDURATION:4
#EXT-X-DEFINE:NAME="cdn",VALUE="https://elsewhere/"
#EXT-X-DEFINE:NAME="dir",VALUE="sub"
#EXT-X-CONTENT-STEERING:SERVER-URI="/steer?video=1&t=1"
#EXT-X-KEY:METHOD=AES-128,URI="key.bin?t=1#f",IV=0x01
#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://key"
#EXT-X-MAP:URI="init.mp4?t=1",BYTERANGE="10@0"
#EXTINF:4,
seg1.m4s?a=b&t=1
#EXTINF:4,
{$dir}/seg2.m4s?t=1
#EXTINF:4,
{$cdn}seg3.m4s
#EXTINF:4,
{$unknown}seg4.m4s
#EXTINF:4,
//elsewhere/seg5.m4s
#EXTINF:4,
../seg6.m4s?t=old
#EXT-X-PART:DURATION=1,URI="seg7.0.m4s?t=1"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="seg7.1.m4s?t=1"
#EXT-X-RENDITION-REPORT:URI="../low/live.m3u8?t=1",LAST-MSN=7
#EXT-X-DATERANGE:ID="ad",X-ASSET-URI="ad.m3u8?t=1",X-OTHER="not.a.uri"
"""


def test_a_parameter_goes_into_every_uri_that_leads_back_and_into_no_other():
    assert "t=1".join(query_slots(TOKENLESS, "t")) == TOKENISED


def test_and_into_the_tags_of_a_multivariant_playlist():
    text = (
        '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="de",URI="de.m3u8"\n'
        '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="i.m3u8"\n#EXT-X-SESSION-KEY:METHOD=AES-128,URI="k"\n'
        '#EXT-X-SESSION-DATA:DATA-ID="x",URI="x.json"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"\nv.m3u8'
    )
    assert "t=1".join(query_slots(text, "t")) == (
        '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="de",URI="de.m3u8?t=1"\n'
        '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="i.m3u8?t=1"\n#EXT-X-SESSION-KEY:METHOD=AES-128,URI="k?t=1"\n'
        '#EXT-X-SESSION-DATA:DATA-ID="x",URI="x.json?t=1"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"\nv.m3u8?t=1'
    )


@pytest.mark.parametrize(
    "uri", ["/\t/evil/x", "\\\\evil/x", "/\\evil/x", "http:x", " //evil/x", "//[evil/x", "data:,x"]
)
def test_what_browsers_might_take_elsewhere_gets_no_parameter(uri: str):
    text = f'#EXTM3U\n#EXT-X-MAP:URI="{uri}"\n'
    assert query_slots(text, "t") == (text,)


@pytest.mark.parametrize("text", ["", "hello", "#EXTM3U\na\0b.ts"])
def test_what_is_no_playlist_has_no_slots(text: str):
    with pytest.raises(RemoteError):
        query_slots(text, "t")
