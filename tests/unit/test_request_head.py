"""The head of a request: read as the RFC has it, or refused; and where a chunked body ends, however it comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.request_head import BadHead, ChunkedBody, check_beginning, parse_head, without


def head(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def test_a_browsers_request():
    read = parse_head(head(b"GET /a/b.m4s?x=1 HTTP/1.1", b"Host: video.example:8080", b"Accept:  */* \t", b"X-Empty:"))
    assert (read.method, read.target, read.minor) == ("GET", "/a/b.m4s?x=1", 1)
    assert read.fields == (("host", "video.example:8080"), ("accept", "*/*"), ("x-empty", ""))
    assert (read.body_bytes, read.chunked) == (0, False)


@pytest.mark.parametrize(
    "fields, body_bytes, chunked",
    [
        ([b"Content-Length: 12"], 12, False),
        ([b"content-length: 0"], 0, False),
        ([b"Transfer-Encoding: chunked"], 0, True),
        ([b"TRANSFER-ENCODING: Chunked"], 0, True),
    ],
)
def test_how_long_a_body_is(fields, body_bytes, chunked):
    read = parse_head(head(b"POST / HTTP/1.1", b"Host: a", *fields))
    assert (read.body_bytes, read.chunked) == (body_bytes, chunked)


@pytest.mark.parametrize(
    "fields",
    [
        [b"Content-Length: 3", b"Content-Length: 3"],
        [b"Content-Length: 3, 3"],
        [b"Content-Length: +3"],
        [b"Content-Length: -3"],
        [b"Content-Length: 3 3"],
        [b"Content-Length: 0x3"],
        [b"Content-Length:"],
        [b"Content-Length: 1234567890123456789"],
        [b"Content-Length: \xb2"],  # a digit to Python, not to HTTP
        [b"Content-Length: 3", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding:"],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer-Encoding: chun", b" ked"],
    ],
)
def test_a_body_of_doubtful_length_is_refused(fields):
    with pytest.raises(BadHead):
        parse_head(head(b"POST / HTTP/1.1", b"Host: a", *fields))


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1 ", b"GET  / HTTP/1.1", b" GET / HTTP/1.1", b"GET /a b HTTP/1.1", b"GET / http/1.1", b"GET /",
        b"GET / HTTP/11", b"GE(T / HTTP/1.1", b"GET a HTTP/1.1", b"GET * HTTP/1.1", b"GET //\x7f HTTP/1.1", b"",
        b"GET http:/// HTTP/1.1",
    ],
)  # fmt: skip
def test_a_malformed_request_line_is_refused(line):
    with pytest.raises(BadHead):
        parse_head(head(line, b"Host: a"))


@pytest.mark.parametrize(
    "fields",
    [
        [], [b"Host: a", b"Host: a"], [b"Host: a b"], [b"Host: a/b"], [b"Host: u@a"], [b"Host: a:b"], [b"Host: [::1"],
        [b"Host : a"], [b"Host: a", b": b"], [b"Host: a", b"no colon"], [b"Host: a", b"X: \0"], [b"Host: a", b"X\t: b"],
        [b"Host: a", b" folded"], [b"Host: a", b"X: a\rb"], [b"Host: a", b"X: a\nb"],
    ],
)  # fmt: skip
def test_malformed_fields_are_refused(fields):
    with pytest.raises(BadHead):
        parse_head(head(b"GET / HTTP/1.1", *fields))


@pytest.mark.parametrize("host", [b"a", b"a:80", b"a.b-c_d", b"[2001:db8::1]:8080", b"127.0.0.1", b""])
def test_hosts(host):
    assert parse_head(head(b"GET / HTTP/1.1", b"Host: " + host)).all("host") == [host.decode()]


def test_http_1_0_needs_no_host_and_has_no_chunks():
    assert parse_head(head(b"GET / HTTP/1.0")).minor == 0
    with pytest.raises(BadHead):
        parse_head(head(b"POST / HTTP/1.0", b"Transfer-Encoding: chunked"))


@pytest.mark.parametrize(
    "line, status",
    [(b"GET / HTTP/2.0", 505), (b"CONNECT a:1 HTTP/1.1", 501), (b"GET /%s HTTP/1.1" % (b"a" * 17_000), 414)],
)
def test_some_refusals_have_a_status_of_their_own(line, status):
    with pytest.raises(BadHead) as refused:
        parse_head(head(line, b"Host: a"))
    assert refused.value.status == status


def test_what_cannot_become_a_head_is_refused_before_its_end():
    for data in (b"GET / HTTP/1.1\nHost", b"GET /\rx", b"a" * 17_000, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 6_000):
        with pytest.raises(BadHead):
            check_beginning(data)
    check_beginning(b"GET / HTTP/1.1\r")  # its line feed may be next


def test_a_field_is_taken_out():
    given_head = head(b"GET / HTTP/1.1", b"Host: a", b"UPGRADE: h2c", b"X: upgrade")
    assert without(given_head, b"upgrade") == head(b"GET / HTTP/1.1", b"Host: a", b"X: upgrade")


# --- chunked bodies

BODY = b"5;name=value\r\nhello\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"


@given(st.lists(st.integers(0, len(BODY)), max_size=8), st.binary(max_size=10))
def test_a_chunked_body_ends_where_it_ends_however_it_is_cut(places, behind):
    stream = BODY + behind
    body, taken = ChunkedBody(), 0
    cuts = sorted(places)
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found = body.feed(stream[start:end])
        if found is not None:
            taken = start + found
            break
    assert taken == len(BODY)


@pytest.mark.parametrize(
    "data",
    [
        b"zz\r\n", b"\r\n", b"-1\r\n", b"5 \r\nhello\r\n", b"5\r\nhello!\r\n", b"5\r\nhello\n", b"5\nhello\r\n",
        b"0\r\nno colon\r\n\r\n", b"0\r\n folded: x\r\n\r\n", b"1" * 5_000, b"0x5\r\n", b"1234567890abcdef0\r\n",
        b"0\r\n" + b"X: y\r\n" * 3_000, b"5\r\nhello\r\r\n",
    ],
)  # fmt: skip
def test_a_malformed_chunked_body_is_refused_however_it_is_cut(data):
    with pytest.raises(BadHead):
        ChunkedBody().feed(data)
    with pytest.raises(BadHead):
        feed_byte_by_byte(data)


def feed_byte_by_byte(data: bytes) -> None:
    body = ChunkedBody()
    for at in range(len(data)):
        body.feed(data[at : at + 1])
