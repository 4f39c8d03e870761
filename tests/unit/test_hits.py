"""Answers that are ready: what they say at which moment, to whom, and until when."""

from typing import Any

import pytest

from edge.held import Held
from edge.hits import Hits, Ready
from edge.metrics import EdgeMetrics
from edge.pointers import Known
from swarm.http_dates import format_http_date
from swarm.metainfo import Metainfo, Pointer, Signed
from swarm.names import Path

PATH = Path("default", "/a.m4s")
HEAD = (
    b"HTTP/1.1 200 OK\r\nCache-Control: max-age=10\r\nAge: 0\r\nCache-Status: edge-1; hit; ttl=9; detail=memory\r\n"
    b"Content-Length: 3\r\nDate: Sun, 22 Nov 2026 17:00:00 GMT\r\n\r\n"
)
MADE_AT, UNIX = 100.25, 1_800_000_000.0  # monotonic, and the swarm's time at monotonic 100


def ready(ttl_s: float = 10.0) -> Ready:
    pointer = Pointer(
        site="default", path=PATH.target, version=bytes(16), status=200, headers=(), sequence=1, made=UNIX,
        expires=UNIX + ttl_s, born=UNIX, size=3,
    )  # fmt: skip
    known = Known(PATH, pointer, Signed(b"", b"", "origin"), "attested", MADE_AT)
    held = Held(PATH, Metainfo(bytes(16), 16384, 3), "attested", UNIX)
    return Ready((PATH.key, None, None), known, held, HEAD, 3)


@pytest.mark.parametrize(
    "now, age, ttl, until",
    [
        (100.25, 0, 10, 101.0),  # the date changes first
        (101.0, 0, 9, 101.25),  # then the age
        (105.5, 5, 4, 106.0),
        (110.1, 9, 0, 110.25),  # then it is not fresh any more
    ],
)
def test_the_head_says_what_is_so_now_and_for_how_long(now, age, ttl, until):
    one = ready()
    assert one.renew(now, UNIX + now - 100.0)
    fields = one.head.decode().split("\r\n")
    assert f"Age: {age}" in fields
    assert f"Cache-Status: edge-1; hit; ttl={ttl}; detail=memory" in fields
    assert f"Date: {format_http_date(int(UNIX + now - 100.0))}" in fields
    assert one.until == pytest.approx(until)


def test_the_rest_of_the_head_is_as_the_slow_path_wrote_it():
    one = ready()
    one.renew(100.3, UNIX)
    assert len(one.head.split(b"\r\n")) == len(HEAD.split(b"\r\n"))
    assert one.head.startswith(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=10\r\nAge: ")
    assert one.head.endswith(b" GMT\r\n\r\n")


def test_past_its_lifetime_it_is_no_answer():
    assert ready().renew(110.24, UNIX)
    assert not ready().renew(110.25, UNIX)


def test_a_pointer_that_fell_takes_its_answer_along():
    one = ready()
    one.known.standing = False
    assert not one.renew(100.3, UNIX)


def test_what_is_forgotten_is_sent_by_no_connection_that_still_knows_it():
    nobody: Any = None  # neither sites nor store are asked
    hits = Hits(nobody, nobody, EdgeMetrics("edge-1", "", "0"), lambda: UNIX)
    one = ready()
    one.renew(100.3, UNIX)
    hits._ready[one.key] = one
    hits.clear()  # a purge
    assert one.until == 0.0
    assert not hits.renew(one, 100.3)
