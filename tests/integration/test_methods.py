"""OPTIONS, unknown methods, what pages may read, and times on request: by the book, at a real edge."""

from collections.abc import Iterator

import pytest

from tests.integration.alone import Alone, alone_config, running_alone
from tests.integration.by_hand import get, raw, status_of
from tests.integration.plain_origin import PlainOrigin, Stored, plain_origin

pytestmark = pytest.mark.processes

PATHS = {
    "/a.m4s": Stored(b"segment", {"Cache-Control": "max-age=60", "ETag": '"one"', "Server-Timing": "db;dur=3"}),
    "/private": Stored(b"for one", {"Cache-Control": "no-store"}),
}
TRACE = {"Starling-Trace": "1"}


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Alone, PlainOrigin]]:
    directory = tmp_path_factory.mktemp("edge")
    with plain_origin(PATHS) as origin, running_alone(directory, alone_config(directory, origin.url)) as edge:
        yield edge, origin


@pytest.fixture
def edge(bed: tuple[Alone, PlainOrigin]) -> Alone:
    return bed[0]


@pytest.fixture
def origin(bed: tuple[Alone, PlainOrigin]) -> PlainOrigin:
    bed[1].asked.clear()
    return bed[1]


def ask(edge: Alone, line: str) -> bytes:
    request = f"{line} HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n"
    return raw(edge.program.ready["viewer"], request.encode())


def test_options_about_the_server_is_answered_by_the_edge(edge: Alone, origin: PlainOrigin):
    answer = ask(edge, "OPTIONS *")
    assert status_of(answer) == 204
    assert b"\r\nAllow: GET, HEAD, OPTIONS\r\n" in answer
    assert status_of(ask(edge, "GET *")) == 400
    assert origin.asked == []


@pytest.mark.parametrize("line", ["BREW /a.m4s", "get /a.m4s", "CONNECT e:80"])
def test_a_method_nobody_knows_is_not_implemented(edge: Alone, origin: PlainOrigin, line: str):
    assert status_of(ask(edge, line)) == 501
    assert origin.asked == []


def test_trace_would_show_what_proxies_added_and_is_not_allowed(edge: Alone, origin: PlainOrigin):
    answer = ask(edge, "TRACE /a.m4s")
    assert status_of(answer) == 405
    assert b"\r\nAllow: " in answer
    assert origin.asked == []


def test_options_goes_to_the_origin_as_far_as_max_forwards_lets_it(edge: Alone, origin: PlainOrigin):
    forwarded = [("5", "4"), (None, None), ("nonsense", "nonsense")]
    for sent, _ in forwarded:
        get(edge.url("/a.m4s"), method="OPTIONS", headers={"Max-Forwards": sent} if sent else {})
    assert [asked[2].get("max-forwards") for asked in origin.asked] == [seen for _, seen in forwarded]
    last = get(edge.url("/a.m4s"), method="OPTIONS", headers={"Max-Forwards": "0"})
    assert (last.status, last.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert len(origin.asked) == len(forwarded)


def test_a_preflight_to_read_is_ours_to_answer_and_one_to_write_the_origins(edge: Alone, origin: PlainOrigin):
    refused = 'starling_viewer_requests_total{outcome="refused"}'
    before = edge.metrics()[refused]
    asks = {"Origin": "http://page", "Access-Control-Request-Headers": "range, authorization"}
    reads = get(edge.url("/a.m4s"), method="OPTIONS", headers=asks | {"Access-Control-Request-Method": "GET"})
    assert (reads.status, reads.headers["access-control-allow-headers"]) == (204, "range, authorization")
    assert origin.asked == []
    get(edge.url("/a.m4s"), method="OPTIONS", headers=asks | {"Access-Control-Request-Method": "PUT"})
    assert [asked[0] for asked in origin.asked] == ["OPTIONS"]
    assert edge.metrics()[refused] == before


def test_pages_may_read_age_date_range_and_cache_status(edge: Alone):
    for headers in ({}, {"Range": "bytes=0-2"}, {"If-None-Match": '"one"'}, {"Range": "bytes=99-"}):
        answer = get(edge.url("/a.m4s"), headers=headers)
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {"Age", "Date", "Content-Range", "Cache-Status"} <= set(exposed)
        assert answer.headers["access-control-allow-origin"] == "*"
    assert get(edge.url("/%zz")).headers["access-control-allow-origin"] == "*"


def test_times_are_told_to_who_asks(edge: Alone):
    for _ in range(2):
        assert get(edge.url("/a.m4s")).headers["server-timing"] == "db;dur=3"
    for headers in ({}, {"Range": "bytes=0-2"}, {"If-None-Match": '"one"'}):
        answer = get(edge.url("/a.m4s"), headers=headers | TRACE)
        assert answer.headers["server-timing"].startswith("db;dur=3, edge;desc=hit;dur=")
        assert answer.headers["timing-allow-origin"] == "*"
    assert get(edge.url("/a.m4s"), method="HEAD", headers=TRACE).headers["server-timing"].count("edge;desc=hit") == 1
    assert "edge;desc=refused" in get(edge.url("/%zz"), headers=TRACE).headers["server-timing"]
    assert get(edge.url("/a.m4s")).headers["server-timing"] == "db;dur=3"
