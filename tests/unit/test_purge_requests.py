"""What may be asked of POST /purge, spelt as people and scripts spell it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.purge_requests import BadPurge, Naming, Wanted, read_purge
from swarm.accounting import PurgeKind
from swarm.names import normalise
from swarm.purging import EVERY_SITE

ONE = Naming(("default",), lambda host: "default", lambda site, target: normalise(site, target, ("utm",)))
HOSTS = {"a.example", "b.example"}
TWO = Naming(HOSTS, lambda host: host.partition(":")[0] if host.partition(":")[0] in HOSTS else None, normalise)
URL, PREFIX, KEY = PurgeKind.URL, PurgeKind.PREFIX, PurgeKind.KEY


@pytest.mark.parametrize(
    "body, query, wanted, soft",
    [
        ('{"url": "http://host:8080/a?x=1"}', {}, [Wanted(URL, "default", "/a?x=1")], False),
        ("", {"url": "/a"}, [Wanted(URL, "default", "/a")], False),
        ("url=/a&soft=1", {}, [Wanted(URL, "default", "/a")], True),
        ('{"url": "/%61/../b?utm=7&CMCD=x"}', {}, [Wanted(URL, "default", "/b")], False),
        ('{"prefix": "/a/", "soft": true}', {}, [Wanted(PREFIX, "default", "/a/")], True),
        ('{"prefix": "/a?"}', {}, [Wanted(PREFIX, "default", "/a?")], False),
        ('{"prefix": "/a?x="}', {}, [Wanted(PREFIX, "default", "/a?x=")], False),
        ('{"prefix": "http://host"}', {}, [Wanted(PREFIX, "default", "/")], False),
        ('{"key": "cup final"}', {}, [Wanted(KEY, EVERY_SITE, "cup final")], False),
        ('{"key": "cup", "site": "host"}', {"soft": "no"}, [Wanted(KEY, "default", "cup")], False),
        (
            '{"url": ["/a", "/b"], "key": ["k"]}',
            {"prefix": "/c"},
            [Wanted(URL, "default", "/a"), Wanted(URL, "default", "/b"), Wanted(PREFIX, "default", "/c"),
             Wanted(KEY, EVERY_SITE, "k")],
            False,
        ),
    ],
)  # fmt: skip
def test_what_is_to_be_purged(body: str, query: dict[str, str], wanted: list[Wanted], soft: bool):
    assert read_purge(body.encode(), query.items(), ONE) == (wanted, soft)


@pytest.mark.parametrize(
    "body, wanted",
    [
        ({"url": "http://a.example/x"}, Wanted(URL, "a.example", "/x")),
        ({"url": "https://b.example:8443/x", "site": "b.example"}, Wanted(URL, "b.example", "/x")),
        ({"prefix": "/x", "site": "b.example"}, Wanted(PREFIX, "b.example", "/x")),
    ],
)
def test_a_url_leads_to_its_site(body: dict[str, str], wanted: Wanted):
    assert read_purge(json.dumps(body).encode(), (), TWO) == ([wanted], False)


@pytest.mark.parametrize(
    "body, complaint",
    [
        ("", "nothing to purge: give url, prefix or key"),
        ('{"site": "a.example"}', "nothing to purge"),
        ('{"ulr": "/a"}', "'ulr': no such field, did you mean url?"),
        ('{"everything": true}', "everything"),
        ('{"url": 3}', "url: expected a string, not 3"),
        ('{"url": "film/a.mp4"}', "url: expected http://host/path or /path"),
        ('{"url": "ftp://a.example/x"}', "url: expected http://host/path or /path"),
        ('{"url": "/%zz", "site": "a.example"}', "url: '/%zz': a percent sign"),
        ('{"url": "/x"}', "site: which of a.example, b.example?"),
        ('{"url": "http://c.example/x"}', "no site 'c.example' here; there are a.example, b.example"),
        ('{"url": "http://a.example/x", "site": "b.example"}', "'b.example' given beside a URL of 'a.example'"),
        ('{"key": ""}', "key: '' is no surrogate key"),
        ('{"key": "a", "soft": "perhaps"}', "soft: expected true or false, not 'perhaps'"),
        ('{"key": "a", "site": ["a.example", "b.example"]}', "site: given 2 times"),
        ('{"url": "/x"', "the body is no JSON"),
        ("[1]", "the body is no JSON object"),
        ('{"key": "%s"}' % ("k" * 9000), "key: longer than 8192 bytes"),
        (json.dumps({"key": [str(number) for number in range(1001)]}), "1001 at once"),
        ("\udcff", "the body is not UTF-8"),
    ],
)
def test_errors_name_what_is_wrong(body: str, complaint: str):
    with pytest.raises(BadPurge) as raised:
        read_purge(body.encode("utf-8", "surrogateescape"), (), TWO)
    assert complaint in str(raised.value)


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner), max_leaves=5)
FIELDS = st.sampled_from(["url", "prefix", "key", "site", "soft"]) | st.text()


@given(st.binary() | st.dictionaries(FIELDS, JSON).map(lambda said: json.dumps(said).encode()))
def test_any_body_is_read_or_complained_about_in_words_that_can_be_sent(body: bytes):
    complaint = ""
    wanted: list[Wanted] = []
    try:
        wanted, _ = read_purge(body, (), TWO)
    except BadPurge as error:
        complaint = str(error)
    assert bool(wanted) != bool(complaint.encode())
