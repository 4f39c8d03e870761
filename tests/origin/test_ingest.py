"""Live ingest: what a packager sends becomes visible whole or not at all, and playlists last."""

import contextlib
import socket
import time

import pytest

from tests.origin.running import hear, metric, running, say

pytestmark = pytest.mark.processes

PLAYLIST = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:{first}
#EXT-X-MAP:URI="init.mp4"
{segments}"""


def playlist(first: int, *names: str) -> str:
    return PLAYLIST.format(first=first, segments="".join(f"#EXTINF:2.0,\n{name}\n" for name in names))


def send(origin, method: str, target: str, body: str | bytes = b"", *headers: str) -> tuple[int, dict[str, str], bytes]:
    """One request over a connection of its own."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"{method} {target} HTTP/1.1", "Host: x", f"Content-Length: {len(data)}", *headers, "", ""]
    with origin.connect() as connection:
        say(connection, "\r\n".join(lines).encode() + data)
        return hear(connection, method)


def get(origin, target: str) -> tuple[int, bytes]:
    status, _, body = send(origin, "GET", target)
    return status, body


def until(fact, within_s: float = 10.0):
    """What `fact` returns once it is true."""
    ends_at = time.monotonic() + within_s
    while not (found := fact()):
        assert time.monotonic() < ends_at, "it never came true"
        time.sleep(0.01)
    return found


def files(directory) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_a_chunked_put_on_a_kept_connection_as_ffmpeg_sends_it(origin):
    with origin.connect() as connection:
        for name, body in (("a.m4s", b"first"), ("b.m4s", b"second")):
            say(connection, f"PUT /live/ff/{name} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            say(connection, b"%x\r\n%s\r\n" % (len(body), body))
            say(connection, "0\r\n\r\n")
            assert hear(connection)[0] == 201
            assert get(origin, f"/live/ff/{name}") == (200, body)
        say(connection, "DELETE /live/ff/a.m4s HTTP/1.1\r\nHost: x\r\n\r\n")
        assert hear(connection)[0] == 204
    assert get(origin, "/live/ff/a.m4s")[0] == 404
    assert send(origin, "DELETE", "/live/ff/a.m4s")[0] == 404


def test_a_packager_that_hangs_up_behind_its_last_request_is_heard(origin):
    for number in range(20):  # as ffmpeg ends a stream: it does not wait for the answer
        with origin.connect() as connection:
            say(connection, f"PUT /live/last/{number}.m4s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            say(connection, "4\r\nlast\r\n0\r\n\r\n")
    until(lambda: len(list((origin.ingested / "live" / "last").glob("*"))) == 20)


def test_a_client_that_ends_its_sending_half_gets_its_answers(origin):
    with origin.connect() as connection:
        for number in range(3):
            say(connection, f"PUT /live/half/{number} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")
        connection.shutdown(socket.SHUT_WR)
        heard = b""
        while more := connection.recv(65536):
            heard += more
    assert heard.count(b"HTTP/1.1 201 ") == 3


def test_put_and_post_create_then_replace(origin):
    assert send(origin, "PUT", "/live/r/x.m4s", "one")[0] == 201
    first = send(origin, "HEAD", "/live/r/x.m4s")[1]["etag"]
    assert send(origin, "POST", "/live/r/x.m4s", "two")[0] == 204
    assert get(origin, "/live/r/x.m4s") == (200, b"two")
    assert send(origin, "HEAD", "/live/r/x.m4s")[1]["etag"] != first  # same size, another version


def test_a_playlist_is_seen_only_after_what_it_names(origin):
    send(origin, "PUT", "/live/p/init.mp4", "init")
    send(origin, "PUT", "/live/p/seg0.m4s", "seg0")
    assert send(origin, "PUT", "/live/p/index.m3u8", playlist(0, "seg0.m4s"))[0] == 201
    assert send(origin, "PUT", "/live/p/index.m3u8", playlist(0, "seg0.m4s", "seg1.m4s"))[0] == 204
    assert get(origin, "/live/p/index.m3u8") == (200, playlist(0, "seg0.m4s").encode())
    newest = playlist(0, "seg0.m4s", "seg1.m4s", "seg2.m4s")
    send(origin, "PUT", "/live/p/index.m3u8", newest)  # supersedes the one held
    send(origin, "PUT", "/live/p/seg1.m4s", "seg1")
    assert get(origin, "/live/p/index.m3u8") == (200, playlist(0, "seg0.m4s").encode())
    send(origin, "PUT", "/live/p/seg2.m4s", "seg2")
    assert get(origin, "/live/p/index.m3u8") == (200, newest.encode())
    assert files(origin.received) == []


def test_a_held_playlist_is_dropped_for_a_newer_one_that_can_be_seen(origin):
    for name in ("init.mp4", "seg0.m4s"):
        send(origin, "PUT", f"/live/h/{name}", "x")
    send(origin, "PUT", "/live/h/index.m3u8", playlist(0, "seg0.m4s", "lost.m4s"))
    assert get(origin, "/live/h/index.m3u8")[0] == 404
    newer = playlist(0, "seg0.m4s")
    send(origin, "PUT", "/live/h/index.m3u8", newer)
    send(origin, "PUT", "/live/h/lost.m4s", "late")
    assert get(origin, "/live/h/index.m3u8") == (200, newer.encode())
    assert files(origin.received) == []


def test_a_multivariant_playlist_waits_for_its_renditions_which_wait_for_their_segments(origin):
    master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\nlow/index.m3u8\n"
    send(origin, "PUT", "/live/m/master.m3u8", master)
    send(origin, "PUT", "/live/m/low/index.m3u8", playlist(0, "s.m4s"))
    send(origin, "PUT", "/live/m/low/init.mp4", "init")
    assert get(origin, "/live/m/master.m3u8")[0] == 404
    send(origin, "PUT", "/live/m/low/s.m4s", "s")
    assert get(origin, "/live/m/low/index.m3u8")[0] == 200
    assert get(origin, "/live/m/master.m3u8") == (200, master.encode())


def test_what_lies_elsewhere_and_gaps_are_not_waited_for(origin):
    text = (
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://ads.example/ad.ts\n#EXT-X-GAP\n#EXTINF:2,\ngap.m4s\n"
        "#EXTINF:2,\n/elsewhere/x.ts\n#EXT-X-ENDLIST\n"
    )
    assert send(origin, "PUT", "/live/g/index.m3u8", text)[0] == 201
    assert get(origin, "/live/g/index.m3u8") == (200, text.encode())


def test_a_deleted_playlist_is_gone_held_or_not(origin):
    send(origin, "PUT", "/live/d/index.m3u8", playlist(0, "never.m4s"))
    assert send(origin, "DELETE", "/live/d/index.m3u8")[0] == 204
    assert files(origin.received) == []


@pytest.mark.parametrize("text", ["", "hello", "#EXTM3U\nseg.ts\n", b"#EXTM3U\n\xff\xfe"])
def test_what_is_called_a_playlist_and_is_none_is_refused(origin, text):
    assert send(origin, "PUT", "/live/bad/index.m3u8", text)[0] == 422
    assert get(origin, "/live/bad/index.m3u8")[0] == 404


def test_lifetimes_of_live_playlists_and_segments(origin):
    for name in ("init.mp4", "seg0.m4s"):
        send(origin, "PUT", f"/live/l/{name}", "x")
    send(origin, "PUT", "/live/l/index.m3u8", playlist(0, "seg0.m4s"))
    assert send(origin, "HEAD", "/live/l/index.m3u8")[1]["cache-control"] == "public, max-age=1, stale-if-error=6"
    assert send(origin, "HEAD", "/live/l/seg0.m4s")[1]["cache-control"] == "public, max-age=60, stale-if-error=86400"
    send(origin, "PUT", "/live/l/index.m3u8", playlist(0, "seg0.m4s") + "#EXT-X-ENDLIST\n")
    assert send(origin, "HEAD", "/live/l/index.m3u8")[1]["cache-control"] == "public, max-age=30, stale-if-error=86400"


TRUNCATED = {
    "fewer bytes than Content-Length": b"Content-Length: 100\r\n\r\nonly this",
    "a chunk cut short": b"Transfer-Encoding: chunked\r\n\r\n64\r\nonly this",
    "no last chunk": b"Transfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
    "no end of the last chunk": b"Transfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n0\r\n",
}


@pytest.mark.parametrize("rest", TRUNCATED.values(), ids=TRUNCATED)
@pytest.mark.parametrize("ending", ["closed", "reset", "half-closed"])
def test_a_body_that_breaks_off_leaves_nothing(origin, rest, ending):
    before, received_before = scraped(origin)
    with origin.connect() as connection:
        say(connection, b"PUT /live/cut/seg.m4s HTTP/1.1\r\nHost: x\r\n" + rest)
        until(lambda: scraped(origin)[1] > received_before)
        if ending == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if ending == "half-closed":
            connection.shutdown(socket.SHUT_WR)
            status, _, _ = hear(connection)
            assert status in (0, 400)
    until(lambda: scraped(origin)[0] == before + 1)
    assert files(origin.received) == []
    assert get(origin, "/live/cut/seg.m4s")[0] == 404


def scraped(origin) -> tuple[float, float]:
    """How many requests broke off, and how many bytes were received."""
    host, port = origin.admin.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        say(connection, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        text = hear(connection)[2].decode()
    broken = metric(text, "starling_ingest_requests_total", result="broken")
    return broken, metric(text, "starling_ingest_bytes_total")


@pytest.mark.parametrize(
    "rest", ["zz\r\nonly this\r\n0\r\n\r\n", "-5\r\nabcde\r\n0\r\n\r\n", "3\r\nonly this\r\n0\r\n\r\n"]
)
def test_broken_chunking_is_a_bad_request_and_leaves_nothing(origin, rest):
    with origin.connect() as connection:
        say(connection, f"PUT /live/chunk/seg.m4s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{rest}")
        assert hear(connection)[0] == 400
    until(lambda: files(origin.received) == [])
    assert get(origin, "/live/chunk/seg.m4s")[0] == 404


def test_a_body_longer_than_any_segment_is_refused_before_it_is_read(origin):
    with origin.connect() as connection:
        say(connection, f"PUT /live/long/seg.m4s HTTP/1.1\r\nHost: x\r\nContent-Length: {(256 << 20) + 1}\r\n\r\n")
        assert hear(connection)[0] == 413
    assert get(origin, "/live/long/seg.m4s")[0] == 404


def test_a_chunked_body_longer_than_any_segment_leaves_nothing(origin):
    chunk = b"800000\r\n" + bytes(8 << 20) + b"\r\n"
    with origin.connect() as connection:
        say(connection, "PUT /live/long/seg.m4s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(33):
                say(connection, chunk)
        assert hear(connection)[0] in (413, 0)  # 0: the reset overtook the answer
    until(lambda: files(origin.received) == [])
    assert get(origin, "/live/long/seg.m4s")[0] == 404


def test_bytes_beyond_content_length_are_not_part_of_the_body(origin):
    with origin.connect() as connection:
        say(connection, "PUT /live/over/seg.m4s HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbodyand more\r\n\r\n")
        assert hear(connection)[0] in (201, 400)
    assert get(origin, "/live/over/seg.m4s") in ((200, b"body"), (404, b"not found\n"))


CLIMBING = [
    *("/live/../escaped", "/live/%2e%2e/escaped", "/live/..%2fescaped", "/live/%2e%2e%2f%2e%2e%2fescaped"),
    *("/live/a/../../escaped", "/live/..%5cescaped", "/live/..\\escaped", "/live/%c0%ae%c0%ae/escaped"),
    *("/live/%00escaped", "/live/a%00b", "/live/a%0ab", "/live//escaped", "/live/./", "/live/", "/live"),
    *("/live/%zz", "/live/..", "/live/../../../../../../tmp/escaped", "/live/" + "a" * 300, "/live/a/"),
]


@pytest.mark.parametrize("target", CLIMBING)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_nothing_is_written_outside_the_prefix(tmp_path_factory, origin, method, target):
    outside = files(origin.directory)
    status, _, _ = send(origin, method, target, "escaped")
    assert status in (400, 404, 405)
    assert files(origin.directory) == outside


def test_an_odd_name_is_one_name_below_the_prefix(origin):
    assert send(origin, "PUT", "/live/odd/%252e%252e", "x")[0] == 201
    assert (origin.ingested / "live" / "odd" / "%2e%2e").read_text() == "x"


def test_a_file_where_a_directory_is_needed_is_a_conflict(origin):
    send(origin, "PUT", "/live/way/a", "x")
    assert send(origin, "PUT", "/live/way/a/b", "x")[0] == 409
    assert send(origin, "PUT", "/live/way", "x")[0] == 409
    assert files(origin.received) == []


def test_the_token_is_required_where_one_is_set(tmp_path):
    (tmp_path / "token").write_text("open-sesame\n")
    with running(tmp_path, ingest={"prefix": "/up/", "token_file": str(tmp_path / "token")}) as origin:
        assert send(origin, "PUT", "/up/x", "x")[0] == 401
        assert send(origin, "PUT", "/up/x", "x", "Authorization: Bearer wrong")[0] == 401
        assert send(origin, "PUT", "/up/x", "x", "Authorization: Basic open-sesame")[0] == 401
        assert send(origin, "PUT", "/up/x", "x", "Authorization: bearer open-sesame")[0] == 201
        assert send(origin, "PUT", "/live/x", "x", "Authorization: Bearer open-sesame")[0] == 405
        assert get(origin, "/up/x") == (200, b"x")


def test_without_ingest_nothing_can_be_written(tmp_path):
    with running(tmp_path, ingest=False) as origin:
        assert send(origin, "PUT", "/live/x", "x")[0] == 405
        assert not origin.ingested.exists()
