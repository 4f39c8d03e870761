"""Viewer tokens at a real edge: who is let in, and how playlists carry the token on."""

import gzip
import http.client
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.programs import ROOT, Swarm
from tests.integration.alone import Alone, alone_config, check, running_alone
from tests.integration.by_hand import get
from tests.integration.plain_origin import PlainOrigin, Stored, plain_origin

pytestmark = pytest.mark.processes

SECRET = "00112233445566778899aabbccddeeff"
FRESH = {"Cache-Control": "max-age=60", "ETag": '"one"', "Last-Modified": "Sun, 22 Nov 2026 10:00:00 GMT"}
SEGMENT = bytes(range(256)) * 40
SEGMENTS = "".join(f"#EXTINF:4,\nseg{number}.m4s\n" for number in range(40))
PLAYLIST = f'#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI="init.mp4?v=1"\n{SEGMENTS}#EXT-X-ENDLIST\n'
PATHS = {
    "/live/a.m3u8": Stored(PLAYLIST.encode(), FRESH),
    "/live/private.m3u8": Stored(PLAYLIST.encode(), {"Cache-Control": "private", "ETag": '"one"'}),
    "/live/seg1.m4s": Stored(SEGMENT, FRESH),
    "/live/private.m4s": Stored(SEGMENT, {"Cache-Control": "no-store"}),
    "/other/seg1.m4s": Stored(SEGMENT, FRESH),
}


@pytest.fixture
def origin() -> Iterator[PlainOrigin]:
    with plain_origin(PATHS) as running:
        yield running


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.keys"
    file.write_text(f"web-1 hmac-sha256 {SECRET}\n")
    return file


@pytest.fixture
def edge(tmp_path: Path, origin: PlainOrigin, keys: Path) -> Iterator[Alone]:
    config = alone_config(tmp_path, origin.url)
    config["origin"]["tokens"] = {"keys_file": str(keys)}
    with running_alone(tmp_path, config) as running:
        yield running


def parameter(keys: Path, prefix: str = "/live/", expires: str = "1h") -> str:
    """`starling_token=...`, as the command makes it."""
    command = [sys.executable, "-m", "edge", "token", "--keys", str(keys), "--prefix", prefix, "--expires", expires]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_only_a_right_token_opens_a_path_whatever_the_cache_holds(edge: Alone, origin: PlainOrigin, keys: Path):
    live, other, expired = parameter(keys), parameter(keys, "/other/"), parameter(keys, "/live/", "0s")
    assert get(edge.url(f"/live/seg1.m4s?{live}")).body == SEGMENT
    hit = get(edge.url(f"/live/seg1.m4s?{parameter(keys, '/', '2h')}"))
    assert (hit.status, "hit" in hit.cache_status) == (200, True)  # another token, the same object
    refused = {
        "": "this path needs a token",
        f"?{other}": "another path",
        f"?{expired}": "expired",
        f"?{live[:-1]}{'A' if live[-1] != 'A' else 'Q'}": "not one that was made with a key",
        f"?{live}&{live}": "not one that was made with a key",
    }
    for query, said in refused.items():
        answer = get(edge.url(f"/live/seg1.m4s{query}"))
        assert (answer.status, answer.headers["cache-control"]) == (403, "no-store")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert said in answer.body.decode()
        assert SECRET not in answer.body.decode()
        assert get(edge.url(f"/live/seg1.m4s{query}"), method="HEAD").status == 403
        assert get(edge.url(f"/live/seg1.m4s{query}"), method="POST").status == 403
    ranged = get(edge.url(f"/live/seg1.m4s?{live}"), headers={"Range": "bytes=10-19"})
    assert (ranged.status, ranged.body) == (206, SEGMENT[10:20])
    assert get(edge.url(f"/live/seg1.m4s?{live}"), headers={"If-None-Match": '"one"'}).status == 304
    head = get(edge.url(f"/live/seg1.m4s?{live}"), method="HEAD")
    assert (head.status, head.headers["content-length"]) == (200, str(len(SEGMENT)))
    assert [asked[1] for asked in origin.asked] == ["/live/seg1.m4s"]


def test_the_hit_path_looks_at_every_token(edge: Alone, origin: PlainOrigin, keys: Path):
    live, other, expired = parameter(keys), parameter(keys, "/other/"), parameter(keys, "/live/", "0s")
    host, _, port = edge.program.ready["viewer"].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)  # one, with the same headers each time
    statuses = []
    for query in (live, live, live, other, live, expired, live, "", f"{live}&{live}", f"x=1&{live}", live):
        connection.request("GET", f"/live/seg1.m4s?{query}")
        answer = connection.getresponse()
        assert (answer.read() == SEGMENT) is (answer.status == 200)
        statuses.append(answer.status)
    connection.close()
    assert statuses == [200, 200, 200, 403, 200, 403, 200, 403, 403, 200, 200]
    assert edge.metrics()["starling_hit_path_total"] >= 4
    assert [target for _, target, _ in origin.asked] == ["/live/seg1.m4s", "/live/seg1.m4s?x=1"]


def test_the_origin_never_sees_a_token(edge: Alone, origin: PlainOrigin, keys: Path):
    live = parameter(keys)
    page = {"referer": f"http://edge/live/a.m3u8?{live}"}
    for path in ("seg1.m4s", "private.m4s", "a.m3u8", "private.m3u8"):
        assert get(edge.url(f"/live/{path}?a=1&{live}"), headers=page).status == 200
    assert get(edge.url(f"/live/seg1.m4s?%73tarling_token={live.partition('=')[2]}")).status == 200
    assert len(origin.asked) >= 5
    signature = live.rpartition(".")[2]
    assert signature not in repr(origin.asked)
    assert "starling_token" not in " ".join(target for _, target, _ in origin.asked)
    assert signature not in edge.program.said()


def test_a_playlist_carries_the_viewers_own_token(edge: Alone, keys: Path):
    one, two = parameter(keys), parameter(keys, "/live/", "3h")
    for path in ("a.m3u8", "private.m3u8"):
        first, second = get(edge.url(f"/live/{path}?{one}")), get(edge.url(f"/live/{path}?{two}"))
        for answer, token in ((first, one), (second, two)):
            text = answer.body.decode()
            assert text == PLAYLIST.replace("init.mp4?v=1", f"init.mp4?v=1&{token}").replace(
                ".m4s\n", f".m4s?{token}\n"
            )
            assert answer.headers["content-length"] == str(len(text))
            assert "last-modified" not in answer.headers
        assert first.headers["etag"] != second.headers["etag"] != '"one"'
    listed = get(edge.url(f"/live/a.m3u8?{one}")).body.decode().splitlines()
    (segment,) = [line for line in listed if line.startswith("seg1.m4s")]
    assert get(edge.url(f"/live/{segment}")).body == SEGMENT


def test_a_validator_is_of_one_viewers_playlist(edge: Alone, keys: Path):
    one, two = parameter(keys), parameter(keys, "/live/", "3h")
    first = get(edge.url(f"/live/a.m3u8?{one}"))
    same = {"If-None-Match": first.headers["etag"]}
    again = get(edge.url(f"/live/a.m3u8?{one}"), headers=same)
    assert (again.status, again.headers["etag"], again.size) == (304, first.headers["etag"], 0)
    assert get(edge.url(f"/live/a.m3u8?{two}"), headers=same).status == 200
    for stale in ({"If-None-Match": '"one"'}, {"If-Modified-Since": FRESH["Last-Modified"]}):
        assert get(edge.url(f"/live/a.m3u8?{one}"), headers=stale).status == 200
    assert get(edge.url(f"/live/a.m3u8?{one}"), headers={"If-Match": '"one"'}).status == 412
    part = get(edge.url(f"/live/a.m3u8?{one}"), headers={"Range": "bytes=5-30", "Accept-Encoding": "gzip"})
    assert (part.status, part.body) == (206, first.body[5:31])
    beyond = get(edge.url(f"/live/a.m3u8?{one}"), headers={"Range": "bytes=99999-"})
    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{first.size}")
    packed = get(edge.url(f"/live/a.m3u8?{one}"), headers={"Accept-Encoding": "gzip"})
    assert gzip.decompress(packed.body) == first.body
    assert packed.headers["etag"] == f"W/{first.headers['etag']}"
    head = get(edge.url(f"/live/a.m3u8?{one}"), method="HEAD")
    assert (head.headers["content-length"], head.headers["etag"]) == (str(first.size), first.headers["etag"])


def test_head_says_what_get_would_bring_even_before_it_is_cached(edge: Alone, keys: Path):
    for path in ("a.m3u8", "private.m3u8"):
        target = edge.url(f"/live/{path}?{parameter(keys)}")
        head, whole = get(target, method="HEAD"), get(target)
        assert (head.status, head.size) == (200, 0)
        assert head.headers["etag"] == whole.headers["etag"]
        assert head.headers["content-length"] == str(whole.size)


def test_a_preflight_needs_no_token(edge: Alone):
    asks = {"Origin": "http://page", "Access-Control-Request-Method": "GET"}
    assert get(edge.url("/live/seg1.m4s"), method="OPTIONS", headers=asks).status == 204


def test_a_player_plays_a_film_of_two_edges_with_the_token_of_its_first_url(tmp_path: Path, film: Path, keys: Path):
    swarm = Swarm(tmp_path / "swarm")
    try:
        shutil.copytree(film, swarm.media / "film")
        swarm.start_origin()
        for node in ("edge-1", "edge-2"):
            config = swarm.edge_config(node)
            swarm.start_edge(node, config | {"origin": config["origin"] | {"tokens": {"keys_file": str(keys)}}})
        swarm.wait_joined()
        token = parameter(keys, "/film/")
        urls = [swarm.url(node, f"/film/master.m3u8?{token}") for node in swarm.edges]
        command = [sys.executable, "-m", "player", *urls, "--seconds", "3", "--json"]
        played = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        report = json.loads(played.stdout)
        assert (played.returncode, report["errors"], report["viewers"]) == (0, 0, 2), played.stdout
        assert report["bytes"]["peer"] > 0  # one copy left the origin, whoever's token asked
        refused = subprocess.run([*command[:3], urls[0].partition("?")[0], *command[5:]], cwd=ROOT, capture_output=True)
        assert refused.returncode == 1
    finally:
        swarm.stop()


def test_a_wrong_key_file_is_one_line_and_exit_2(tmp_path: Path, keys: Path):
    config = alone_config(tmp_path, "http://127.0.0.1:1")
    config["origin"]["tokens"] = {"keys_file": str(keys)}
    file = tmp_path / "edge.yaml"
    file.write_text(yaml.safe_dump(config))
    assert (check(file).returncode, check(file).stdout) == (0, "configuration ok\n")
    keys.write_text("web-1 hmac-sha256 secret\n")
    checked = check(file)
    assert checked.returncode == 2
    line = f"origin.tokens.keys_file {keys}: line 1: the secret is not hexadecimal\n"
    assert checked.stderr.endswith(line)
    assert checked.stderr.count("\n") == 1
