"""Ranges and conditions, as tables of RFC 9110 sections 13 and 14."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.http_dates import format_http_date, parse_http_date
from swarm.ranges import (
    Full,
    NotModified,
    NotSatisfiable,
    Partial,
    PreconditionFailed,
    RangeVerdict,
    evaluate,
    named_end,
    parse_range,
)

IGNORE, UNSATISFIABLE = RangeVerdict.IGNORE, RangeVerdict.UNSATISFIABLE
OLDER, DATE, LATER = (f"Sun, 22 Nov 2026 14:0{minute}:00 GMT" for minute in (0, 1, 2))


@pytest.mark.parametrize(
    "value, ranges",
    [
        ("bytes=0-499", [(0, 500)]),
        ("bytes=500-999", [(500, 1000)]),
        ("bytes=0-0", [(0, 1)]),
        ("bytes=999-", [(999, 1000)]),
        ("bytes=9-5000", [(9, 1000)]),
        ("bytes=-1", [(999, 1000)]),
        ("bytes=-1000", [(0, 1000)]),
        ("bytes=-5000", [(0, 1000)]),
        ("Bytes = 1-2", [(1, 3)]),
        ("bytes=0-0,-1", [(0, 1), (999, 1000)]),
        ("bytes= 0-0 , , 5-6", [(0, 1), (5, 7)]),
        ("bytes=0-0,1000-2000", [(0, 1)]),
        ("bytes=1000-", UNSATISFIABLE),
        ("bytes=1000-2000", UNSATISFIABLE),
        ("bytes=-0", UNSATISFIABLE),
        ("bytes=1000-,-0", UNSATISFIABLE),
        ("bytes=" + ",".join(["0-1"] * 65), IGNORE),
        ("bytes=5-4", IGNORE),
        ("bytes=0-1,5-4", IGNORE),
        ("bytes=", IGNORE),
        ("bytes=-", IGNORE),
        ("bytes=a-b", IGNORE),
        ("bytes=0x1-2", IGNORE),
        ("bytes=+1-2", IGNORE),
        ("bytes=--5", IGNORE),
        ("bytes=1-2-3", IGNORE),
        ("bytes=٣-4", IGNORE),
        ("bytes=" + "9" * 5000 + "-", IGNORE),
        ("bytes 0-1", IGNORE),
        ("seconds=0-1", IGNORE),
        ("", IGNORE),
        (None, IGNORE),
    ],
)
def test_ranges_of_a_body_of_1000_bytes(value: str | None, ranges: object):
    assert parse_range(value, 1000) == ranges


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=0-5", "bytes=-5"])
def test_an_empty_body_satisfies_no_range(value: str):
    assert parse_range(value, 0) is UNSATISFIABLE


@given(st.text(alphabet="bytes=0123456789-, ", max_size=30) | st.text(max_size=30), st.integers(0, 1000))
def test_every_range_lies_in_the_body(value: str, size: int):
    ranges = parse_range(value, size)
    if isinstance(ranges, list):
        assert ranges
        assert all(0 <= start < end <= size for start, end in ranges)


@pytest.mark.parametrize(
    "headers, answer",
    [
        ({}, Full()),
        ({"Range": "bytes=1-2"}, Partial(1, 3)),
        ({"range": "bytes=1-2"}, Partial(1, 3)),
        ({"Range": "bytes=1-2,5-6"}, Full()),
        ({"Range": "bytes=1-2,1000-"}, Partial(1, 3)),
        ({"Range": "bytes=1000-"}, NotSatisfiable()),
        ({"Range": "lines=1-2"}, Full()),
        # If-None-Match: weak comparison, lists, the star; it silences If-Modified-Since.
        ({"If-None-Match": '"a"'}, NotModified()),
        ({"If-None-Match": 'W/"a"'}, NotModified()),
        ({"If-None-Match": '"x", W/"a" , "y"'}, NotModified()),
        ({"If-None-Match": ', "a",,'}, NotModified()),
        ({"If-None-Match": "*"}, NotModified()),
        ({"If-None-Match": '"b"'}, Full()),
        ({"If-None-Match": '"x,"a"'}, Full()),
        ({"If-None-Match": "a"}, Full()),
        ({"If-None-Match": '"b"', "If-Modified-Since": DATE}, Full()),
        ({"If-None-Match": '"a"', "If-Modified-Since": OLDER}, NotModified()),
        ({"If-None-Match": '"a"', "Range": "bytes=1-2"}, NotModified()),
        ({"If-Modified-Since": DATE}, NotModified()),
        ({"If-Modified-Since": LATER}, NotModified()),
        ({"If-Modified-Since": OLDER}, Full()),
        ({"If-Modified-Since": "yesterday"}, Full()),
        # If-Match: strong comparison; it silences If-Unmodified-Since.
        ({"If-Match": '"a"'}, Full()),
        ({"If-Match": '"b", "a"'}, Full()),
        ({"If-Match": "*"}, Full()),
        ({"If-Match": 'W/"a"'}, PreconditionFailed()),
        ({"If-Match": '"b"'}, PreconditionFailed()),
        ({"If-Match": '"b"', "If-None-Match": '"a"'}, PreconditionFailed()),
        ({"If-Match": '"a"', "If-Unmodified-Since": OLDER}, Full()),
        ({"If-Unmodified-Since": OLDER}, PreconditionFailed()),
        ({"If-Unmodified-Since": DATE}, Full()),
        ({"If-Unmodified-Since": "never"}, Full()),
        # If-Range: strong comparison or the very same date.
        ({"If-Range": '"a"', "Range": "bytes=1-2"}, Partial(1, 3)),
        ({"If-Range": '"b"', "Range": "bytes=1-2"}, Full()),
        ({"If-Range": 'W/"a"', "Range": "bytes=1-2"}, Full()),
        ({"If-Range": DATE, "Range": "bytes=1-2"}, Partial(1, 3)),
        ({"If-Range": LATER, "Range": "bytes=1-2"}, Full()),
        ({"If-Range": "a", "Range": "bytes=1-2"}, Full()),
        ({"If-Range": '"b"', "Range": "bytes=1000-"}, Full()),
        ({"If-Range": '"b"'}, Full()),
    ],
)
def test_a_get_of_1000_bytes_with_etag_a_and_a_date(headers: dict[str, str], answer: object):
    assert evaluate("GET", headers.items(), '"a"', DATE, 1000) == answer


@pytest.mark.parametrize(
    "method, headers, etag, date, size, answer",
    [
        ("HEAD", {"Range": "bytes=1-2"}, '"a"', DATE, 1000, Full()),
        ("HEAD", {"If-None-Match": '"a"'}, '"a"', DATE, 1000, NotModified()),
        ("PUT", {"If-None-Match": "*"}, '"a"', DATE, 1000, PreconditionFailed()),
        ("PUT", {"If-Modified-Since": LATER}, '"a"', DATE, 1000, Full()),
        ("GET", {"Range": "bytes=1-2"}, '"a"', DATE, None, Full()),
        ("GET", {"If-None-Match": '"a"'}, 'W/"a"', None, 1000, NotModified()),
        ("GET", {"If-Match": 'W/"a"'}, 'W/"a"', None, 1000, PreconditionFailed()),
        ("GET", {"If-Range": 'W/"a"', "Range": "bytes=1-2"}, 'W/"a"', None, 1000, Full()),
        ("GET", {"If-None-Match": '"a"', "If-Modified-Since": LATER}, None, DATE, 1000, Full()),
        ("GET", {"If-Modified-Since": DATE}, None, None, 1000, Full()),
        ("GET", {"If-Modified-Since": DATE}, None, "rubbish", 1000, Full()),
        ("GET", {"If-Range": "rubbish", "Range": "bytes=1-2"}, None, "rubbish", 1000, Full()),
    ],
)
def test_other_methods_and_bodies(method, headers, etag, date, size, answer):
    assert evaluate(method, headers.items(), etag, date, size) == answer


def test_a_long_malformed_list_is_answered_soon():
    headers = {"If-None-Match": '"a"' + "," * 8000 + "x"}
    assert evaluate("GET", headers.items(), '"a"', None, 10) == Full()


def test_several_lines_of_a_list_are_one_list():
    lines = [("If-None-Match", '"x"'), ("if-none-match", '"a"')]
    assert evaluate("GET", lines, '"a"', None, 10) == NotModified()


def test_content_range():
    assert Partial(0, 500).content_range(1000) == "bytes 0-499/1000"
    assert Partial(0, 500).content_range(None) == "bytes 0-499/*"
    assert NotSatisfiable().content_range(1000) == "bytes */1000"


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        ("Thursday, 01-Jan-70 00:00:00 GMT", 0),
        ("Sun, 22 Nov 2026 14:01:41 GMT", 1795356101),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228799),
        ("Sun, 06 Nov 1994 08:49:37 UTC", None),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 25:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:61 GMT", None),
        ("0", None),
        ("-1", None),
        ("", None),
    ],
)
def test_http_dates(text: str, seconds: float | None):
    assert parse_http_date(text) == seconds


def test_http_dates_are_written_in_the_preferred_form():
    assert format_http_date(784111777.9) == "Sun, 06 Nov 1994 08:49:37 GMT"


@given(st.integers(0, 4_000_000_000))
def test_a_written_date_reads_the_same(at: int):
    assert parse_http_date(format_http_date(at)) == at


@pytest.mark.parametrize(
    "value, end",
    [
        ("bytes=0-0", 1),
        ("Bytes = 5-9", 10),
        ("bytes=9-5", None),
        ("bytes=5-", None),
        ("bytes=-5", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        (None, None),
    ],
)
def test_how_far_a_body_must_have_come_for_a_range(value: str | None, end: int | None):
    assert named_end(value) == end
