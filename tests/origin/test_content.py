"""Plain HTTP at the origin: ranges, conditions, methods, and paths that must lead nowhere."""

import os
import socket
from email.utils import formatdate

import pytest

from tests.origin.running import hear, metric, running, say

pytestmark = pytest.mark.processes

BODY = bytes(range(256)) * 4  # 1024 bytes
MODIFIED_AT = 1_700_000_000
MODIFIED = formatdate(MODIFIED_AT, usegmt=True)
BEFORE, AFTER = formatdate(MODIFIED_AT - 1, usegmt=True), formatdate(MODIFIED_AT + 1, usegmt=True)


@pytest.fixture(scope="module")
def served(origin):
    """The origin with one file of known content and time, and one outside that must never be read."""
    file = origin.media / "cup" / "seg1.m4s"
    file.parent.mkdir()
    file.write_bytes(BODY)
    os.utime(file, (MODIFIED_AT, MODIFIED_AT))
    (origin.directory / "secret.txt").write_text("outside")
    (origin.media / "out").symlink_to(origin.directory / "secret.txt")
    (origin.media / "outdir").symlink_to(origin.directory)
    (origin.media / "within.m4s").symlink_to(file)
    os.mkfifo(origin.media / "pipe")
    return origin


async def etag_of(served, http) -> str:
    async with http.head(f"{served.base}/cup/seg1.m4s") as response:
        return str(response.headers["ETag"])


async def test_headers_of_a_segment(served, http):
    async with http.get(f"{served.base}/cup/seg1.m4s") as response:
        assert await response.read() == BODY
        headers = response.headers
    assert headers["Content-Type"] == "video/iso.segment"
    assert headers["Content-Length"] == "1024"
    assert headers["Last-Modified"] == MODIFIED
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["ETag"].startswith('"')


@pytest.mark.parametrize(
    "asked, status, content_range, body",
    [
        ("bytes=0-0", 206, "bytes 0-0/1024", BODY[:1]),
        ("bytes=1000-", 206, "bytes 1000-1023/1024", BODY[1000:]),
        ("bytes=-24", 206, "bytes 1000-1023/1024", BODY[1000:]),
        ("bytes=1000-9999", 206, "bytes 1000-1023/1024", BODY[1000:]),
        ("bytes=1024-", 416, "bytes */1024", None),
        ("bytes=0-0,5-6", 200, None, BODY),
        ("bytes=5-1", 200, None, BODY),
        ("chars=0-1", 200, None, BODY),
    ],
)
async def test_ranges(served, http, asked, status, content_range, body):
    async with http.get(f"{served.base}/cup/seg1.m4s", headers={"Range": asked}) as response:
        got = await response.read()
        assert (response.status, response.headers.get("Content-Range")) == (status, content_range)
    if body is not None:
        assert got == body


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"If-None-Match": "ETAG"}, 304),
        ({"If-None-Match": "W/ETAG"}, 304),
        ({"If-None-Match": '"other", ETAG'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-None-Match": '"other"', "If-Modified-Since": AFTER}, 200),
        ({"If-Modified-Since": MODIFIED}, 304),
        ({"If-Modified-Since": BEFORE}, 200),
        ({"If-Modified-Since": "nonsense"}, 200),
        ({"If-Match": "ETAG"}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Unmodified-Since": BEFORE}, 412),
        ({"If-Unmodified-Since": MODIFIED}, 200),
        ({"If-Range": "ETAG", "Range": "bytes=0-0"}, 206),
        ({"If-Range": '"other"', "Range": "bytes=0-0"}, 200),
        ({"If-Range": MODIFIED, "Range": "bytes=0-0"}, 206),
        ({"If-None-Match": "ETAG", "Range": "bytes=0-0"}, 304),
    ],
)
async def test_conditions(served, http, headers, status):
    etag = await etag_of(served, http)
    headers = {name: value.replace("ETAG", etag) for name, value in headers.items()}
    async with http.get(f"{served.base}/cup/seg1.m4s", headers=headers) as response:
        body = await response.read()
        assert response.status == status
        if status == 304:
            assert body == b""
            assert response.headers["ETag"] == etag
            assert "Cache-Control" in response.headers


async def test_head_answers_as_get_without_a_body(served, http):
    async with http.head(f"{served.base}/cup/seg1.m4s") as response:
        assert (response.status, response.headers["Content-Length"], await response.read()) == (200, "1024", b"")


async def test_a_query_names_the_same_file(served, http):
    async with http.get(f"{served.base}/cup/seg1.m4s?token=1&CMCD=x") as response:
        assert await response.read() == BODY


async def test_absolute_form_is_understood(served):
    with served.connect() as connection:
        say(connection, f"GET http://{served.listen}/cup/seg1.m4s HTTP/1.1\r\nHost: x\r\n\r\n")
        status, _, body = hear(connection)
    assert (status, body) == (200, BODY)


async def test_a_preflight_is_allowed(served, http):
    async with http.options(f"{served.base}/cup/seg1.m4s") as response:
        assert response.status == 204
        assert "Range" in response.headers["Access-Control-Allow-Headers"]


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "TRACE"])
async def test_content_cannot_be_written(served, http, method):
    async with http.request(
        method, f"{served.base}/cup/seg1.m4s", data=None if method == "TRACE" else b"x"
    ) as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


CLIMBING = [
    *("/../secret.txt", "/cup/../../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/%2e%2e%2fsecret.txt"),
    *("/cup/%2E%2E/%2E%2E/secret.txt", "/cup%2f..%2f..%2fsecret.txt", "/..%5csecret.txt", "/..\\secret.txt"),
    *("/%252e%252e/secret.txt", "/%c0%ae%c0%ae/secret.txt", "/%e0%80%ae%e0%80%ae/secret.txt", "/....//secret.txt"),
    *("/./../secret.txt", "//../secret.txt", "/cup/..;/..;/secret.txt", "/%00/../secret.txt", "/secret.txt%00.m4s"),
    *("/out", "/outdir/secret.txt", "/outdir/signing.key", "/%2fetc%2fpasswd", "//etc/passwd", "/file:///etc/passwd"),
    *("/cup/seg1.m4s/../../../secret.txt", "/cup/seg1.m4s/", "/cup/", "/cup", "/", "/pipe", "/-/secret.txt", "/%zz"),
    *("/" + "../" * 40 + "etc/passwd", "/" + "a" * 300, "/-/swarm/hello/../../../secret.txt"),
]


@pytest.mark.parametrize("target", CLIMBING)
def test_no_path_leads_outside_or_to_anything_but_a_file(served, target):
    with served.connect() as connection:
        say(connection, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        status, _, body = hear(connection)
    assert status in (400, 404), (status, body)
    assert b"outside" not in body
    assert b"root:" not in body
    assert b"PRIVATE KEY" not in body


async def test_a_link_to_a_file_within_is_served(served, http):
    async with http.get(f"{served.base}/within.m4s") as response:
        assert await response.read() == BODY


def test_a_media_directory_that_is_itself_a_link_may_be_swapped(tmp_path):
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "a.txt").write_text(release)
    (tmp_path / "current").symlink_to("one")
    with running(tmp_path, media=str(tmp_path / "current")) as origin:

        def body() -> bytes:
            with origin.connect() as connection:
                say(connection, "GET /a.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return hear(connection)[2]

        assert body() == b"one"
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(tmp_path / "current")
        assert body() == b"two"


async def test_only_complete_bodies_stand_in_the_ledger(tmp_path, http):
    with running(tmp_path) as origin:
        size = 64 << 20
        with (origin.media / "film.mp4").open("wb") as file:
            file.truncate(size)
        with origin.connect() as connection:  # takes the head, then leaves
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            say(connection, "GET /film.mp4 HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.recv(1000)
        async with http.get(f"{origin.base}/film.mp4", headers={"Starling-Reason": "prefetch"}) as response:
            assert len(await response.read()) == size
        async with http.get(f"{origin.base}/film.mp4", headers={"Range": "bytes=0-99"}) as response:
            assert len(await response.read()) == 100
        async with http.get(f"http://{origin.admin}/metrics") as response:
            scraped = await response.text()
    sent = "starling_origin_sent_bytes_total"
    assert metric(scraped, sent, edge="direct", reason="prefetch") == size
    assert metric(scraped, sent, edge="direct", reason="standalone") == 100
    assert metric(scraped, sent) == size + 100
    assert metric(scraped, "starling_origin_distinct_bytes_total") == size


async def test_a_body_that_changes_under_our_hands_breaks_off(tmp_path):
    with running(tmp_path) as origin:
        file = origin.media / "film.mp4"
        with file.open("wb") as writing:
            writing.truncate(64 << 20)
        with origin.connect() as connection:
            say(connection, "GET /film.mp4 HTTP/1.1\r\nHost: x\r\n\r\n")
            got = len(connection.recv(1000))
            os.truncate(file, 1000)
            try:
                while more := connection.recv(1 << 20):
                    got += len(more)
            except ConnectionResetError:
                pass
        assert got < 64 << 20
        assert "broke off a body" in origin.log()
