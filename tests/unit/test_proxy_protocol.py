"""The PROXY protocol: whose connection it is, read to the byte, or refused."""

import pytest

from swarm.errors import RemoteError
from swarm.proxy_protocol import SIGNATURE, needed, source

IPV4 = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7]) + bytes([10, 0, 0, 1]) + b"\x9c\x40\x01\xbb"
IPV6 = SIGNATURE + b"\x21\x21\x00\x24" + bytes(15) + b"\x07" + bytes(16) + b"\x9c\x40\x01\xbb"
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
WITH_MORE = SIGNATURE + b"\x21\x11\x00\x10" + IPV4[16:] + b"\x04\x00\x01x"
LINE = b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\r\n"


@pytest.mark.parametrize(
    "head, address",
    [
        (IPV4, "192.0.2.7"),
        (IPV6, "::7"),
        (LOCAL, None),
        (WITH_MORE, "192.0.2.7"),
        (LINE, "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        (SIGNATURE + b"\x21\x31\x00\x00", None),  # over a Unix socket: nobody's address
    ],
)
def test_a_head_names_the_client(head, address):
    assert source(head) == address


@pytest.mark.parametrize("head", [IPV4, IPV6, LOCAL, WITH_MORE, LINE, b"PROXY UNKNOWN\r\n"])
def test_a_head_is_read_to_its_end_and_not_beyond(head):
    stream, read = head + b"GET / HTTP/1.1\r\n", b""
    while more := needed(read):
        read += stream[len(read) : len(read) + more]
    assert read == head


@pytest.mark.parametrize("head", [IPV4, LINE])
def test_bytes_that_come_one_by_one(head):
    for count in range(len(head)):
        assert needed(head[:count]) > 0
    assert needed(head) == 0


@pytest.mark.parametrize(
    "head",
    [
        b"PROXY TCP4 ::1 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 999.0.0.1 10.0.0.1 1 2\r\n",
        SIGNATURE + b"\x31\x11\x00\x0c" + IPV4[16:],
        SIGNATURE + b"\x21\x11\x00\x04" + bytes(4),
    ],
)
def test_a_malformed_head_is_refused(head):
    with pytest.raises(RemoteError):
        source(head)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"PROXX", b"PROXY " + b"x" * 200])
def test_what_is_no_head_is_refused_at_once(data):
    with pytest.raises(RemoteError):
        needed(data)


def test_a_head_that_claims_too_much_is_refused():
    with pytest.raises(RemoteError):
        needed(SIGNATURE + b"\x21\x11\xff\xff")
