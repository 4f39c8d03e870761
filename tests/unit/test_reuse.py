"""Which stored response answers a request, and what of both is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.reuse import (
    agrees,
    end_to_end,
    fields_of,
    for_the_whole,
    has_preconditions,
    invalidated,
    likely_variant,
    suits,
    updated,
    variant_of,
)

# --- fields


def test_what_concerns_one_connection_ends_there_also_what_connection_names():
    came = [("Connection", "close, X-Mine"), ("x-mine", "1"), ("TE", "trailers"), ("Keep-Alive", "5"), ("Yours", "2")]
    assert end_to_end(came) == (("Yours", "2"),)


def test_bytes_that_are_no_utf_8_do_not_stop_a_request():
    assert end_to_end([("A", b"caf\xe9".decode("utf-8", "surrogateescape"))]) == (("A", "caf\ufffd"),)


def test_what_is_stored_is_asked_for_whole():
    asked = (("Range", "bytes=0-1"), ("If-None-Match", '"a"'), ("If-Range", '"a"'), ("Accept", "*/*"))
    assert for_the_whole(asked) == (("Accept", "*/*"),)
    assert has_preconditions(asked)
    assert not has_preconditions((("Range", "bytes=0-1"),))


# --- Vary


@pytest.mark.parametrize(
    "vary, request_fields, variant",
    [
        (None, [("Foo", "1")], ""),
        ("", [("Foo", "1")], ""),
        ("Foo", [("foo", "1")], "foo: 1"),
        ("Foo", [], "foo"),
        ("Foo", [("Foo", "")], "foo: "),
        ("Foo, Bar", [("Bar", "2"), ("Foo", "1")], "bar: 2\nfoo: 1"),
        ("foo,FOO", [("Foo", "1")], "foo: 1"),
        ("Foo", [("Foo", "1"), ("Foo", "2")], "foo: 1,2"),
        ("Foo", [("Foo", " 1 ,  2 ")], "foo: 1,2"),
        ("Foo", [("Foo", '"a, b"')], 'foo: "a, b"'),
        ("*", [], None),
        ("Foo, *", [("Foo", "1")], None),
        (", *", [], None),
        ("Accept-Encoding", [("Accept-Encoding", "gzip, deflate, br")], "accept-encoding: br,deflate,gzip"),
        ("Accept-Encoding", [("Accept-Encoding", "br;q=1.0, gzip;q=0.8, *;q=0")], "accept-encoding: br,gzip"),
        ("Accept-Encoding", [("Accept-Encoding", "identity")], "accept-encoding: "),
        ("Accept-Language", [("Accept-Language", "EN, de;q=0.50")], "accept-language: de;q=0.5,en"),
    ],
)
def test_what_a_response_was_selected_by(vary, request_fields, variant):
    assert variant_of(vary, request_fields) == variant


@pytest.mark.parametrize(
    "variant, request_fields, language, expected",
    [
        ("", [("Foo", "1")], None, True),
        ("foo: 1", [("Foo", "1"), ("Other", "2")], None, True),
        ("foo: 1", [("Foo", "2")], None, False),
        ("foo: 1", [], None, False),
        ("foo", [("Foo", "1")], None, False),
        ("foo", [], None, True),
        ("foo: ", [], None, False),
        ("bar: 2\nfoo: 1", [("Foo", "1"), ("Bar", "2")], None, True),
        ("bar: 2\nfoo: 1", [("Foo", "1")], None, False),
        ("accept-language: de,en", [("Accept-Language", "en,de")], None, True),
        ("accept-language: de,en", [("Accept-Language", "fr;q=0.5, de")], "de", True),
        ("accept-language: de,en", [("Accept-Language", "fr, de")], "de", False),
        ("accept-language: de,en", [("Accept-Language", "fr, de;q=0.5")], "de", False),
        ("accept-language: de,en", [("Accept-Language", "de;q=0")], "de", False),
        ("accept-language: de,en", [], "de", False),
    ],
)
def test_which_requests_a_variant_answers(variant, request_fields, language, expected):
    assert suits(variant, request_fields, language) is expected


NAMES = st.sampled_from(["Foo", "Accept-Encoding", "Accept-Language"])
VALUES = st.text(alphabet='abz,;q=0.5 *"-', max_size=12)
REQUESTS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
VARIES = st.sampled_from(["Foo", "Accept-Encoding", "Accept-Language", "Foo, Accept-Encoding", "accept-language,foo"])


@given(vary=VARIES, asked=REQUESTS)
def test_a_request_made_from_a_variant_selects_it_again(vary, asked):
    variant = variant_of(vary, asked)
    assert variant is not None
    assert suits(variant, asked)
    assert variant_of(vary, fields_of(variant)) == variant
    assert likely_variant(variant, asked) == variant


@given(vary=VARIES, one=REQUESTS, other=REQUESTS)
def test_two_requests_share_a_variant_if_and_only_if_it_suits_both(vary, one, other):
    variant = variant_of(vary, one)
    assert variant is not None
    assert suits(variant, other) is (variant_of(vary, other) == variant)


# --- responses


def test_a_304_replaces_what_it_says_but_nothing_that_tells_how_the_stored_body_reads():
    stored = (("ETag", '"a"'), ("Cache-Control", "max-age=1"), ("Content-Encoding", "gzip"), ("X", "1"))
    fresh = (("cache-control", "max-age=9"), ("Content-Encoding", "br"), ("Content-Length", "0"), ("Y", "2"))
    assert updated(stored, fresh) == (
        ("ETag", '"a"'),
        ("Content-Encoding", "gzip"),
        ("X", "1"),
        ("cache-control", "max-age=9"),
        ("Y", "2"),
    )


@pytest.mark.parametrize(
    "head, expected",
    [
        ([], True),
        ([("ETag", '"a"'), ("Content-Length", "5")], True),
        ([("ETag", '"b"')], False),
        ([("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")], False),
        ([("Content-Length", "6")], False),
    ],
)
def test_a_head_is_about_the_stored_body_unless_something_differs(head, expected):
    assert agrees([("ETag", '"a"')], 5, head) is expected


@pytest.mark.parametrize(
    "response, expected",
    [
        ([], ["/a/b"]),
        ([("Location", "/c")], ["/a/b", "/c"]),
        ([("Location", "c?d=e#f")], ["/a/b", "/a/c?d=e"]),
        ([("Content-Location", "http://host:1/c")], ["/a/b", "/c"]),
        ([("Location", "http://host:1")], ["/a/b", "/"]),
        ([("Location", "http://other/c"), ("Content-Location", "/a/b")], ["/a/b"]),
        ([("Location", "http://[")], ["/a/b"]),
    ],
)
def test_what_an_unsafe_request_makes_out_of_date(response, expected):
    assert invalidated("host:1", "/a/b", response) == expected
