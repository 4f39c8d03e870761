"""How long a stored response may be used, as tables of RFC 9111 and RFC 5861."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.freshness import (
    Freshness,
    Lifetime,
    freshness,
    hls_default,
    initial_age_s,
    lifetime,
    parse_cache_control,
    parse_targeted,
)

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT
DATE = ("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
FRESH, STALE_OK, STALE_IF_ERROR, EXPIRED = Freshness


def of(cache_control: str | None, *more: tuple[str, str], status: int = 200, authorized: bool = False) -> Lifetime:
    headers = [("Cache-Control", cache_control)] if cache_control is not None else []
    return lifetime(status, [*headers, *more], received_at=NOW, authorized=authorized)


@pytest.mark.parametrize(
    "value, directives",
    [
        (None, {}),
        ("", {}),
        ("max-age=60", {"max-age": "60"}),
        ('Max-Age="60" , PUBLIC', {"max-age": "60", "public": None}),
        ("max-age=1, max-age=2", {"max-age": "1"}),
        ("max-age =5", {"max-age": "5"}),
        ('private="set-cookie, x", s-maxage=3', {"private": "set-cookie, x", "s-maxage": "3"}),
        ('ext="a, max-age=9", max-age=1', {"ext": "a, max-age=9", "max-age": "1"}),
        (",,no-store,", {"no-store": None}),
        ("=5, max-age=1", {"max-age": "1"}),
        ('"odd, max-age=1', {"max-age": "1"}),
        ("max-age=", {"max-age": ""}),
    ],
)
def test_cache_control_is_read(value: str | None, directives: dict[str, str | None]):
    assert parse_cache_control(value) == directives


@given(st.text(alphabet='abc=," \\;\t', max_size=40) | st.text(max_size=40))
def test_no_cache_control_breaks_the_reader(value: str):
    assert all(name == name.lower() for name in parse_cache_control(value))


@pytest.mark.parametrize(
    "cache_control, more, ttl_s",
    [
        ("max-age=60", [], 60.0),
        ("max-age=60, s-maxage=10", [], 10.0),
        ("s-maxage=0, max-age=60", [], 0.0),
        ("max-age=60", [("Expires", "Sun, 06 Nov 1994 09:49:37 GMT"), DATE], 60.0),
        (None, [("Expires", "Sun, 06 Nov 1994 09:49:37 GMT"), DATE], 3600.0),
        (None, [("Expires", "Sun, 06 Nov 1994 08:50:37 GMT")], 60.0),
        (None, [("Expires", "Sun, 06 Nov 1994 08:49:00 GMT"), DATE], 0.0),
        (None, [("Expires", "0"), DATE], 0.0),
        ("max-age=abc", [], 0.0),
        ("max-age=-1", [], 0.0),
        ("max-age=1.5", [], 0.0),
        ("max-age", [], 0.0),
        ("max-age=99999999999", [], 2.0**31),
        ("max-age=" + "9" * 400, [], 0.0),
        ("public", [], 0.0),
        (None, [], 0.0),
    ],
)
def test_the_lifetime_stated(cache_control: str | None, more: list[tuple[str, str]], ttl_s: float):
    assert of(cache_control, *more).ttl_s == ttl_s


@pytest.mark.parametrize(
    "cache_control, swr_s, sie_s",
    [
        ("max-age=1, stale-while-revalidate=30, stale-if-error=60", 30.0, 60.0),
        ("s-maxage=1, stale-while-revalidate=30", 30.0, 0.0),
        ("max-age=1, stale-while-revalidate=30, must-revalidate", 0.0, 0.0),
        ("max-age=1, stale-if-error=30, proxy-revalidate", 0.0, 0.0),
        ("max-age=1, stale-if-error=30, no-cache", 0.0, 0.0),
        ("max-age=1, stale-if-error=x", 0.0, 0.0),
        ("max-age=1", 0.0, 0.0),
    ],
)
def test_staleness_needs_the_origins_consent(cache_control: str, swr_s: float, sie_s: float):
    assert (of(cache_control).swr_s, of(cache_control).sie_s) == (swr_s, sie_s)


@pytest.mark.parametrize(
    "status, cache_control, authorized, storable",
    [
        (200, "max-age=60", False, True),
        (200, None, False, True),
        (200, "no-cache", False, True),
        (200, "no-store, max-age=60", False, False),
        (200, "private, max-age=60", False, False),
        (200, 'private="x", max-age=60', False, True),
        (200, "max-age=60", True, False),
        (200, "public, max-age=60", True, True),
        (200, "s-maxage=60", True, True),
        (200, "max-age=60, must-revalidate", True, True),
        (404, "max-age=2", False, True),
        (404, None, False, True),
        (503, None, False, False),
        (503, "max-age=2", False, True),
        (503, "public", False, True),
        (302, None, False, False),
        (302, "max-age=60", False, True),
        (206, "max-age=60", False, False),
        (304, "max-age=60", False, False),
        (100, "max-age=60", False, False),
        (299, "max-age=60", False, True),
    ],
)
def test_what_a_shared_cache_may_store(status: int, cache_control: str | None, authorized: bool, storable: bool):
    assert of(cache_control, status=status, authorized=authorized).storable is storable


def test_whether_the_origin_said_anything():
    assert of("max-age=0").explicit
    assert of(None, ("Expires", "0")).explicit
    assert not of(None, DATE).explicit


@pytest.mark.parametrize(
    "age_s, expected",
    [
        (0.0, FRESH),
        (9.999, FRESH),
        (10.0, STALE_OK),
        (14.999, STALE_OK),
        (15.0, STALE_IF_ERROR),
        (29.999, STALE_IF_ERROR),
        (30.0, EXPIRED),
    ],
)
def test_ttl_10_swr_5_and_sie_20(age_s: float, expected: Freshness):
    assert freshness(of("max-age=10, stale-while-revalidate=5, stale-if-error=20"), age_s) is expected


def test_without_a_lifetime_every_use_is_revalidated():
    assert freshness(of(None), 0.0) is EXPIRED
    assert freshness(of("no-cache, max-age=60"), 0.0) is EXPIRED


@pytest.mark.parametrize(
    "age, delay_s, expected_s",
    [(None, 0.25, 0.25), ("7", 0.25, 7.25), ("7, 9", 0.0, 7.0), ("x", 0.5, 0.5), ("-7", 0.0, 0.0), ("", -1.0, 0.0)],
)
def test_a_response_may_be_old_when_it_arrives(age: str | None, delay_s: float, expected_s: float):
    assert initial_age_s([("Age", age)] if age is not None else [], delay_s) == expected_s


@pytest.mark.parametrize(
    "url_path, status, target_s, live, ttl_s, sie_s",
    [
        ("/cup/720p/index.m3u8", 200, 6.0, True, 3.0, 15.0),
        ("/cup/720p/index.m3u8", 200, 1.0, True, 0.5, 5.5),
        ("/cup/720p/index.m3u8", 200, None, True, 2.0, 10.0),
        ("/film/720p/index.m3u8", 200, 6.0, False, 30.0, 86400.0),
        ("/cup/720p/index.m3u8", 404, 6.0, True, 6.0, 0.0),
        ("/cup/720p/seg1.m4s", 200, 6.0, True, 3600.0, 86400.0),
        ("/cup/720p/init.mp4", 200, None, False, 3600.0, 86400.0),
        ("/cup/720p/SEG1.TS", 200, None, False, 3600.0, 86400.0),
        ("/cup/720p/seg1.m4s", 404, 6.0, True, 3.0, 0.0),
    ],
)
def test_what_a_silent_streaming_origin_probably_means(
    url_path: str, status: int, target_s: float | None, live: bool, ttl_s: float, sie_s: float
):
    allowed = Lifetime(ttl_s=ttl_s, sie_s=sie_s, storable=True)
    assert hls_default(url_path, status, target_s=target_s, live=live) == allowed


@pytest.mark.parametrize("url_path, status", [("/setup.exe", 200), ("/", 200), ("/a.m3u8", 500), ("/a.m4s", 302)])
def test_the_profile_is_silent_on_anything_else(url_path: str, status: int):
    assert hls_default(url_path, status) is None


# --- targeted fields (RFC 9213), fields that are withheld, cookies


@pytest.mark.parametrize(
    "value, expected",
    [
        (None, {}),
        ("", {}),
        ("max-age=60", {"max-age": "60"}),
        ("no-store, s-maxage=99999999999", {"no-store": None, "s-maxage": "99999999999"}),
        ("max-age=1, max-age=2", {"max-age": "2"}),
        ("no-store=?0, private=?1", {"private": None}),
        ('private="set-cookie, x", max-age=3;a=b;c', {"private": "set-cookie, x", "max-age": "3"}),
        ('a=(1 "b" c);q=1.5, b=:YQ==:, c=@12, d=*/x, max-age=4', {"max-age": "4"}),
        ("max-age =60", {}),
        ("max-age= 60", {}),
        ("max-age=60,", {}),
        ("max-age=60 no-store", {}),
        ("Max-Age=60", {}),
        ('max-age="60"', {}),
        ("max-age=-1", {}),
        ("max-age=60, &&", {}),
        ("a=(1 2, max-age=60", {}),
    ],
)
def test_a_targeted_field_is_a_dictionary_or_nothing(value, expected):
    directives = parse_targeted(value)
    assert {name: directives[name] for name in expected} == expected
    assert bool(directives) is bool(expected)


@given(st.text(alphabet='ab-=*;,.()"\\?@: 019', max_size=40))
def test_no_targeted_field_takes_long_or_fails(value):
    parse_targeted(value)


@pytest.mark.parametrize(
    "headers, ttl_s, storable",
    [
        ([("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "no-store")], 60, True),
        ([("CDN-Cache-Control", "no-store"), ("Cache-Control", "max-age=60")], 0, False),
        ([("CDN-Cache-Control", "max-age=60"), ("Starling-Cache-Control", "max-age=5")], 5, True),
        ([("CDN-Cache-Control", "max-age=60"), ("Starling-Cache-Control", "&")], 60, True),
        ([("CDN-Cache-Control", "&"), ("Cache-Control", "max-age=7")], 7, True),
        ([("CDN-Cache-Control", "stale-if-error=9"), ("Expires", "Sun, 06 Nov 2094 08:49:37 GMT")], 0, True),
        ([("CDN-Cache-Control", "max-age=1"), ("CDN-Cache-Control", "max-age=2")], 2, True),
    ],
)
def test_the_first_well_formed_targeted_field_speaks_alone(headers, ttl_s, storable):
    life = lifetime(200, headers, received_at=0.0)
    assert (life.ttl_s, life.storable) == (ttl_s, storable)


@pytest.mark.parametrize(
    "cache_control, withheld, always, storable",
    [
        ('no-cache="a, B", max-age=9', {"a", "b"}, False, True),
        ('private="set-cookie", max-age=9', {"set-cookie"}, False, True),
        ('no-cache="a", no-cache, max-age=9', set(), True, True),
        ('no-cache, no-cache="a", max-age=9', set(), True, True),
        ('private="a", private, max-age=9', set(), False, False),
        ('no-cache="a", private="b", max-age=9', {"a", "b"}, False, True),
        ('private="", max-age=9', set(), False, False),
    ],
)
def test_named_fields_are_withheld_and_the_stricter_form_counts(cache_control, withheld, always, storable):
    life = lifetime(200, [("Cache-Control", cache_control)], received_at=0.0)
    assert (life.withheld, life.revalidate_always, life.storable) == (withheld, always, storable)


@pytest.mark.parametrize(
    "cache_control, storable",
    [("max-age=60", False), ("public, max-age=60", True), ("s-maxage=60", True), (None, False)],
)
def test_one_viewers_cookie_is_for_others_only_where_the_origin_speaks_of_shared_caches(cache_control, storable):
    said = [("Cache-Control", cache_control)] if cache_control else []
    assert lifetime(200, [*said, ("Set-Cookie", "session=1")], received_at=0.0).storable is storable


def test_several_expires_are_none():
    both = [("Expires", "Sun, 06 Nov 2094 08:49:37 GMT"), ("Expires", "Sun, 06 Nov 2094 08:49:38 GMT")]
    assert lifetime(200, both, received_at=0.0).ttl_s == 0
