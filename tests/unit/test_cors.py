"""What pages of other hosts are allowed, and what they may read."""

import pytest
from multidict import CIMultiDict

from edge.cors import expose, preflight

ASKS = {"Origin": "http://page", "Access-Control-Request-Method": "GET"}


@pytest.mark.parametrize(
    "asked, allowed",
    [
        (None, "*"),
        ("range", "range"),
        ("authorization, x-a", "authorization, x-a"),
        ("x\r\nSet-Cookie: a", "*"),
        ("", "*"),
    ],
)
def test_a_page_may_read_with_the_headers_it_names(asked: str | None, allowed: str):
    headers = ASKS | ({} if asked is None else {"Access-Control-Request-Headers": asked})
    answer = preflight("OPTIONS", CIMultiDict(headers))
    assert answer == {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
        "Access-Control-Allow-Headers": allowed,
        "Access-Control-Max-Age": "86400",
    }


@pytest.mark.parametrize(
    "method, headers",
    [
        ("GET", ASKS),
        ("OPTIONS", {"Origin": "http://page"}),
        ("OPTIONS", ASKS | {"Access-Control-Request-Method": "PUT"}),
    ],
)
def test_what_is_not_ours_to_allow(method: str, headers: dict[str, str]):
    assert preflight(method, CIMultiDict(headers)) is None


def test_what_pages_may_read_is_what_the_origin_says_and_what_we_add():
    headers = CIMultiDict(
        [
            ("Access-Control-Allow-Origin", "http://page"),
            ("Access-Control-Expose-Headers", "X-Mine, etag"),
            ("Access-Control-Expose-Headers", "X-Too"),
        ]
    )
    expose(headers)
    assert headers["Access-Control-Allow-Origin"] == "http://page"
    assert headers.getall("Access-Control-Expose-Headers") == [
        "Age, Date, Content-Length, Content-Range, etag, Cache-Status, Server-Timing, X-Mine, X-Too"
    ]
    bare: CIMultiDict[str] = CIMultiDict()
    expose(bare)
    assert dict(bare) == {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Expose-Headers": "Age, Date, Content-Length, Content-Range, ETag, Cache-Status, Server-Timing",
    }
