"""One edge before a plain HTTP origin, request by request: a shared cache by RFC 9111 and its neighbours."""

from collections.abc import Callable, Iterator

import pytest

from tests.integration.alone import Alone, alone_config, running_alone
from tests.integration.by_hand import Answer, get, get_all
from tests.integration.played import Played, played
from tests.integration.streaming import Request

pytestmark = pytest.mark.processes

LASTING = "max-age=60"


@pytest.fixture(scope="module")
def origin() -> Iterator[Played]:
    with played() as running:
        yield running


@pytest.fixture(scope="module")
def edge(origin: Played, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    directory = tmp_path_factory.mktemp("edge")
    config = alone_config(directory, f"http://{origin.address}")
    config["origin"] = {"url": f"http://{origin.address}", "trust": "attested"}
    with running_alone(directory, config) as running:
        yield running


Ask = Callable[..., Answer]


@pytest.fixture
def ask(edge: Alone) -> Ask:
    """`ask("/path", method="GET", Header_Name="value")`."""

    def one(path: str, method: str = "GET", **headers: str) -> Answer:
        return get(edge.url(path), method=method, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return one


# --- what goes to the origin


def test_the_origin_is_asked_in_the_viewers_name_without_what_is_the_connections(origin: Played, ask: Ask):
    origin.at("/asked", (200, {"Cache-Control": LASTING}, b"x"))
    ask("/asked", Cookie="a=b", X_Mine="1", Connection="keep-alive, X-Mine", TE="trailers", Range="bytes=0-0")
    sent = origin.last().headers
    assert sent["cookie"] == "a=b"
    assert sent["cdn-loop"] == sent["via"].removeprefix("1.1 ") == "alone"
    assert sent.keys().isdisjoint({"x-mine", "te", "range", "accept", "user-agent"})
    assert sent["host"] == origin.address


def test_cookies_of_one_answer_are_not_sent_with_the_next_request(origin: Played, ask: Ask):
    origin.at("/cookie", (200, {"Set-Cookie": "session=1; Path=/", "Cache-Control": LASTING}, b"x"))
    assert ask("/cookie").headers["set-cookie"] == "session=1; Path=/"
    ask("/cookie")
    assert (origin.hits["/cookie"], origin.last().headers.get("cookie")) == (2, None)


def test_a_request_that_has_been_here_is_refused(origin: Played, ask: Ask):
    origin.at("/loop", (200, {"Cache-Control": LASTING}, b"x"))
    assert ask("/loop", CDN_Loop="other, alone").status == 508
    assert ask("/loop", CDN_Loop="other, alone-2; a=b").status == 200


def test_an_answer_with_odd_status_is_passed_on_as_it_is(origin: Played, ask: Ask):
    origin.at("/odd", (599, {"X-Why": "so", "Server": "theirs"}, b"odd"))
    answer = ask("/odd")
    assert (answer.status, answer.headers["x-why"], answer.headers["server"], answer.body) == (
        599,
        "so",
        "theirs",
        b"odd",
    )
    assert answer.cache_status == "alone; fwd=bypass; fwd-status=599; detail=origin"


# --- what is stored


def test_date_and_server_are_the_origins_and_age_is_counted_on(origin: Played, ask: Ask):
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    origin.at("/dated", (200, {"Cache-Control": LASTING, "Date": date, "Server": "theirs", "Age": "7"}, b"x"))
    for _ in range(3):
        answer = ask("/dated")
        assert (answer.headers["date"], answer.headers["server"]) == (date, "theirs")
        assert int(answer.headers["age"]) >= 7
    assert origin.hits["/dated"] == 1


def test_our_member_of_cache_status_follows_the_origins(origin: Played, ask: Ask):
    origin.at("/told", (200, {"Cache-Control": LASTING, "Cache-Status": "shield; hit; ttl=5"}, b"x"))
    assert ask("/told").cache_status.startswith("shield; hit; ttl=5, alone; fwd=uri-miss; fwd-status=200; stored; ttl=")
    for _ in range(2):  # the second from the hit path
        ours = ask("/told").cache_status.removeprefix("shield; hit; ttl=5, ")
        assert ours.startswith("alone; hit; ttl=")


def test_an_uncacheable_answer_costs_one_request_each_also_the_first(origin: Played, edge: Alone):
    origin.at("/private", (200, {"Cache-Control": "private"}, b"mine"))
    got = get_all([edge.url("/private")] * 8)
    assert {answer.body for answer in got} == {b"mine"}
    assert origin.hits["/private"] == 8


def test_what_becomes_cacheable_is_stored_at_once(origin: Played, ask: Ask):
    private, public = {"Cache-Control": "no-store"}, {"Cache-Control": LASTING}
    origin.at("/turning", (200, private, b"1"), (200, private, b"2"), (200, public, b"3"))
    assert [ask("/turning").body for _ in range(5)] == [b"1", b"2", b"3", b"3", b"3"]
    assert origin.hits["/turning"] == 3


def test_what_says_nothing_of_caching_is_never_another_viewers(origin: Played, ask: Ask):
    origin.at("/silent", (200, {}, b"x"))
    for _ in range(2):
        assert "stored" not in ask("/silent").cache_status
    assert origin.hits["/silent"] == 2


def test_an_answer_to_who_showed_credentials_is_his_unless_the_origin_says_otherwise(origin: Played, ask: Ask):
    for name, cache_control, hits in (("mine", LASTING, 2), ("ours", "public, max-age=60", 1)):
        origin.at(f"/{name}", (200, {"Cache-Control": cache_control}, b"x"))
        ask(f"/{name}", Authorization="Basic eDp5")
        assert origin.last().headers["authorization"] == "Basic eDp5"
        ask(f"/{name}")
        assert origin.hits[f"/{name}"] == hits
    ask("/mine", Authorization="Basic eDp5")
    assert origin.hits["/mine"] == 2, "but what all may have, he may have too"


# --- variants


def test_each_variant_is_stored_and_answers_its_own(origin: Played, ask: Ask):
    async def by_language(request: Request) -> None:
        language = request.headers.get("accept-language", "none")
        headers = {"Cache-Control": LASTING, "Vary": "Accept-Language", "ETag": f'"{language}"'}
        await request.answer(language.encode(), headers)

    origin.behaviours["/varies"] = by_language
    for _ in range(2):
        assert ask("/varies", Accept_Language="de").body == b"de"
        assert ask("/varies", Accept_Language="fr").body == b"fr"
        assert ask("/varies").body == b"none"
    assert origin.hits["/varies"] == 3


def test_another_variants_tag_may_be_confirmed_and_its_body_serves(origin: Played, ask: Ask):
    same = {"Cache-Control": LASTING, "Vary": "X-Any", "ETag": '"same"'}
    origin.at("/same", (200, same, b"one for all"))
    assert ask("/same", X_Any="1").body == b"one for all"
    again = ask("/same", X_Any="2")
    assert (again.status, again.body) == (200, b"one for all")
    assert origin.last().headers["if-none-match"] == '"same"'
    assert origin.sent["/same"] == len(b"one for all")
    assert "; hit" in ask("/same", X_Any="2").cache_status


def test_a_playlist_is_taken_plain_and_varies_by_no_coding_of_the_origins(origin: Played, ask: Ask):
    text = b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n" + b"#EXTINF:4,\n1.ts\n" * 100
    origin.at("/varies.m3u8", (200, {"Cache-Control": LASTING, "Vary": "Accept-Encoding"}, text))
    codings = ("gzip", "br", "gzip, br", "identity")
    got = [ask("/varies.m3u8", Accept_Encoding=coding).headers.get("content-encoding") for coding in codings]
    assert got == ["gzip", None, "gzip", None]
    assert origin.hits["/varies.m3u8"] == 1
    assert "accept-encoding" not in origin.last().headers


# --- validation


def test_a_304_renews_what_is_stored_and_its_headers(origin: Played, ask: Ask):
    origin.at(
        "/renewed",
        (200, {"Cache-Control": "max-age=0", "ETag": '"1"', "X": "old"}, b"body"),
        (200, {"Cache-Control": LASTING, "ETag": '"1"', "X": "new"}, b"body"),
    )
    assert ask("/renewed").headers["x"] == "old"
    for _ in range(3):
        answer = ask("/renewed")
        assert (answer.status, answer.headers["x"], answer.body) == (200, "new", b"body")
    assert origin.hits["/renewed"] == 2


def test_a_viewers_conditions_are_answered_from_what_is_stored(origin: Played, ask: Ask):
    origin.at("/conditional", (200, {"Cache-Control": LASTING, "ETag": '"1"'}, b"body"))
    assert ask("/conditional").status == 200
    assert ask("/conditional", If_None_Match='"0", "1"').status == 304
    assert ask("/conditional", If_Match='"0"').status == 412
    assert origin.hits["/conditional"] == 1


def test_nothing_is_asked_where_only_what_is_cached_will_do(origin: Played, ask: Ask):
    origin.at("/only", (200, {"Cache-Control": LASTING}, b"x"))
    refused = ask("/only", Cache_Control="only-if-cached")
    assert (refused.status, refused.cache_status) == (504, "alone; fwd=request")
    ask("/only")
    assert ask("/only", Cache_Control="only-if-cached").status == 200
    assert origin.hits["/only"] == 1


# --- HEAD


def test_head_is_answered_from_what_is_stored_and_else_asked_as_head(origin: Played, ask: Ask):
    origin.at("/head", (200, {"Cache-Control": LASTING, "ETag": '"1"'}, b"body"))
    first = ask("/head", method="HEAD")
    assert (first.status, first.headers["content-length"], origin.last().method) == (200, "4", "HEAD")
    ask("/head")
    stored = ask("/head", method="HEAD")
    assert (stored.headers["content-length"], origin.hits["/head"]) == ("4", 2)


@pytest.mark.parametrize("etag, is_same", [('"1"', True), ('"2"', False)])
def test_what_a_head_says_renews_what_is_stored_or_ends_it(origin: Played, ask: Ask, etag: str, is_same: bool):
    path = f"/head-{is_same}"
    origin.at(
        path,
        (200, {"Cache-Control": "max-age=0", "ETag": '"1"'}, b"body"),
        (200, {"Cache-Control": LASTING, "ETag": etag}, b"body"),
    )
    ask(path)
    ask(path, method="HEAD")
    assert ask(path).body == b"body"
    assert origin.hits[path] == (2 if is_same else 3)


# --- unsafe methods


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"])
def test_what_changes_a_resource_ends_what_is_stored_of_it(origin: Played, ask: Ask, method: str):
    for path in ("/res", "/res/list"):
        origin.at(
            f"{path}-{method}", (200, {"Cache-Control": LASTING, "Content-Location": f"/res/list-{method}"}, b"x")
        )
        ask(f"{path}-{method}")
        ask(f"{path}-{method}")
    changed = ask(f"/res-{method}", method=method)
    assert (changed.status, changed.cache_status) == (200, "alone; fwd=method; fwd-status=200; detail=origin")
    assert origin.last().method == method
    ask(f"/res-{method}")
    ask(f"/res/list-{method}")
    assert (origin.hits[f"/res-{method}"], origin.hits[f"/res/list-{method}"]) == (3, 2)


def test_a_change_that_failed_changes_nothing(origin: Played, ask: Ask):
    origin.at(
        "/kept", (200, {"Cache-Control": LASTING}, b"x"), (500, {}, b"no"), (200, {"Cache-Control": LASTING}, b"y")
    )
    ask("/kept")
    assert ask("/kept", method="POST").status == 500
    assert ask("/kept").body == b"x"


def test_trace_is_refused_for_it_would_tell_what_others_added(ask: Ask):
    assert ask("/x", method="TRACE").status == 405


# --- errors


def test_an_error_with_a_lifetime_is_stored_and_without_passed_on_each_time(origin: Played, ask: Ask):
    origin.at("/down", (503, {"Retry-After": "7"}, b"down"))
    origin.at("/down-a-while", (503, {"Cache-Control": LASTING}, b"down"))
    for path, hits in (("/down", 2), ("/down-a-while", 1)):
        for _ in range(2):
            answer = ask(path)
            assert (answer.status, answer.body) == (503, b"down")
        assert origin.hits[path] == hits
    assert ask("/down").headers["retry-after"] == "7"


def test_an_error_is_not_remembered_against_a_path(origin: Played, ask: Ask):
    origin.at("/back", (503, {}, b"down"), (200, {"Cache-Control": LASTING}, b"up"))
    assert [ask("/back").status for _ in range(3)] == [503, 200, 200]
    assert origin.hits["/back"] == 2


def test_what_an_origin_sends_beyond_its_own_length_is_left_out(origin: Played, ask: Ask):
    async def too_much(request: Request) -> None:
        await request.begin({"Content-Length": "4", "Cache-Control": LASTING})
        await request.send(b"bodyHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    origin.behaviours["/more"] = too_much
    assert [ask("/more").body for _ in range(2)] == [b"body", b"body"]
    assert origin.hits["/more"] == 1
