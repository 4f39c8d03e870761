"""The forms of a playlist: compressed, with a token, or both; made once where one serves all."""

import asyncio
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.playlists import Playlists, coding, personal, varies, weak
from swarm.encodings import GZIP, IDENTITY
from swarm.tokens import Token

TOKEN = Token("web-1.2.Lw.c2ln", "web-1", 2, "/")
LONG = ("#EXTM3U\n" + "".join(f"#EXTINF:4,\nseg{number}.ts\n" for number in range(100))).encode()


async def test_a_compressed_playlist_is_the_same_under_a_weak_validator():
    form = await Playlists().form(b"v1", LONG, '"one"', GZIP, None)
    assert gzip.decompress(form.body) == LONG
    assert (form.encoding, form.etag, form.personal) == (GZIP, 'W/"one"', False)
    assert len(form.body) < len(LONG) / 4


@given(st.text(alphabet="#EXTM3U:,seg.ts?\n\r\0\x7fé", max_size=3000))
def test_every_body_comes_back_whole(text: str):
    body = text.encode()
    form = asyncio.run(Playlists().form(b"v", body, None, GZIP, None))
    assert (gzip.decompress(form.body) if form.encoding == GZIP else form.body) == body
    assert len(form.body) <= len(body)


async def test_it_is_made_once_however_many_ask(monkeypatch: pytest.MonkeyPatch):
    packed: list[int] = []
    compress = gzip.compress

    def counted(body: bytes, level: int, *, mtime: int) -> bytes:
        packed.append(len(body))
        return compress(body, level, mtime=mtime)

    monkeypatch.setattr(gzip, "compress", counted)
    kept = Playlists()
    huge = LONG * 100  # in a thread
    for body, version in ((LONG, b"small"), (huge, b"huge")):
        forms = await asyncio.gather(*[kept.form(version, body, None, GZIP, None) for _ in range(5)])
        assert len({form.body for form in forms}) == 1
    await kept.form(b"small", LONG, None, GZIP, None)
    assert packed == [len(LONG), len(huge)]


async def test_what_is_kept_has_a_bound_and_the_oldest_goes():
    kept = Playlists(most_bytes=3 * len(LONG))
    for version in (b"1", b"2", b"1", b"3", b"4"):
        await kept.form(version, LONG, None, IDENTITY, TOKEN)
    assert repr(kept) == f"<Playlists: 3 forms, {3 * len(LONG)} bytes>"


async def test_a_token_makes_another_body_with_a_validator_of_its_own():
    kept = Playlists()
    other = Token("web-1.3.Lw.c2ln", "web-1", 3, "/")
    mine = await kept.form(b"v", LONG, '"one"', IDENTITY, TOKEN)
    yours = await kept.form(b"v", LONG, '"one"', IDENTITY, other)
    assert mine.body == LONG.replace(b".ts\n", b".ts?starling_token=web-1.2.Lw.c2ln\n")
    assert (mine.personal, mine.encoding) == (True, IDENTITY)
    assert len({mine.etag, yours.etag, '"one"'}) == 3
    packed = await kept.form(b"v", LONG, '"one"', GZIP, TOKEN)
    assert gzip.decompress(packed.body) == mine.body
    assert (packed.etag, packed.personal) == (f"W/{mine.etag}", True)
    assert personal(LONG, TOKEN) == mine


@pytest.mark.parametrize(
    "body", [b"not a playlist", b"\xff\xfe", b"#EXTM3U\n#EXTINF:4,\nhttps://elsewhere/a.ts\n", b""]
)
async def test_where_no_token_can_go_the_body_is_everybodys(body: bytes):
    form = await Playlists().form(b"v", body, '"one"', IDENTITY, TOKEN)
    assert (form.body, form.etag, form.personal) == (body, '"one"', False)


@pytest.mark.parametrize(
    "url_path, size, headers, expected",
    [
        ("/live/a.m3u8", 5000, (), True),
        ("/live/a.m3u8", 500, (), False),
        ("/live/a.m3u8", None, (), False),
        ("/live/a.m3u8", 9 << 20, (), False),
        ("/live/a.ts", 5000, (), False),
        ("/live/a.m3u8", 5000, (("content-encoding", "gzip"),), False),
        ("/live/a.m3u8", 5000, (("Cache-Control", "max-age=2, No-Transform"),), False),
    ],
)
def test_which_bodies_are_compressed(
    url_path: str, size: int | None, headers: tuple[tuple[str, str], ...], expected: bool
):
    assert varies(url_path, size, headers) is expected


def test_ranges_are_of_the_plain_form():
    assert (coding("gzip", asks_for_range=True), coding("gzip", asks_for_range=False)) == (IDENTITY, GZIP)


@pytest.mark.parametrize("etag, expected", [(None, None), ('"a"', 'W/"a"'), ('W/"a"', 'W/"a"')])
def test_a_weak_validator(etag: str | None, expected: str | None):
    assert weak(etag) == expected
