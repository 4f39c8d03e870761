"""One name for each meaning, and none that escapes."""

import os.path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swarm.names import BadPath, Path, file_parts, normalise, split_target, token_like, version_id


def target_of(target: str, *ignored: str) -> str:
    return normalise("default", target, ignored).target


@pytest.mark.parametrize(
    "target, normalised",
    [
        ("/", "/"),
        ("/cup/720p/seg1.m4s", "/cup/720p/seg1.m4s"),
        ("/%7Euser/%41%2d", "/~user/A-"),
        ("/a%2fb%3a", "/a%2Fb%3A"),
        ("/a,b%2Cc", "/a,b%2Cc"),
        ("/a/./b/../c", "/a/c"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/a/%2E%2e/b", "/b"),
        ("/a/...", "/a/..."),
        ("//a//b/", "//a//b/"),
        ("/caf\u00e9 [1]|", "/caf%C3%A9%20%5B1%5D%7C"),
        ("/caf\udcc3\udca9", "/caf%C3%A9"),
        ("/%252e%252e/x", "/%252e%252e/x"),
        ("/a%0Ab", "/a%0Ab"),
        ("/a?", "/a"),
        ("/a?b=%41&a=1", "/a?b=A&a=1"),
        ("/a?q=100%&r=%zz", "/a?q=100%25&r=%25zz"),
        ("/a?p=/../x?y", "/a?p=/../x?y"),
        ("/a?_HLS_msn=7&_HLS_part=2", "/a?_HLS_msn=7&_HLS_part=2"),
    ],
)
def test_spellings_of_one_meaning_become_one_name(target: str, normalised: str):
    assert target_of(target) == normalised


@pytest.mark.parametrize(
    "target, normalised",
    [
        ("/a?CMCD=bl%3D1", "/a"),
        ("/a?x=1&CMCD=bl%3D1&y=2", "/a?x=1&y=2"),
        ("/a?%43MCD=x", "/a"),
        ("/a?cmcd=x", "/a?cmcd=x"),
        ("/a?session=1&x=2&session=3", "/a?x=2"),
        ("/a?session", "/a"),
        ("/a?my+id=1&my%20id=2", "/a"),
    ],
)
def test_cmcd_and_the_ignored_parameters_leave_the_name(target: str, normalised: str):
    assert target_of(target, "session", "my id") == normalised


@pytest.mark.parametrize(
    "target",
    [
        "",
        "a/b",
        "*",
        "http://other/a",
        "/..",
        "/../etc/passwd",
        "/a/../../etc",
        "/%2e%2e/etc",
        "/.%2E/etc",
        "/a/..%2f..%2fetc",
        "/%2e%2e%2fetc",
        "/x%2f..",
        "/a\\..\\b",
        "/a%5cb",
        "/a%00b",
        "/a\0b",
        "/a?b\0c",
        "/%c0%ae%c0%ae/etc",
        "/%c0%afetc",
        "/%e0%80%af",
        "/%f0%80%80%af",
        "/%ff",
        "/\udcff",
        "/%ed%a0%80",
        "/%",
        "/%4",
        "/%zz",
        "/a#b",
        "/a?b#c",
        "/" + "a" * 4096,
        "/" + "\u00e9" * 1000,
        "/a?" + "b" * 4097,
    ],
)
def test_what_names_nothing_here(target: str):
    with pytest.raises(BadPath):
        normalise("default", target)


def test_text_that_no_request_line_can_carry_names_nothing():
    with pytest.raises(BadPath):
        normalise("default", "/\ud800")


def test_a_key_holds_site_path_and_query():
    assert normalise("video.example", "/a/%62?q=1").key == "video.example/a/b?q=1"
    assert Path("default", "/a").key == "default/a"


PIECES = [
    "/",
    "//",
    ".",
    "..",
    "%2e",
    "%2E%2e",
    "%252e",
    "%2f",
    "%5c",
    "\\",
    "%00",
    "%c0%ae",
    "%c0%af",
    "a",
    "b.m4s",
    ":",
    "é",
]
HOSTILE = st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: "/" + "".join(pieces))


@given(st.one_of(HOSTILE, st.text(max_size=40).map("/".__add__)))
@example("/a%2f%2e%2e%2fb")
def test_nothing_escapes(target: str):
    try:
        path = normalise("default", target)
    except BadPath:
        return
    assert path.url_path.isascii()
    assert path.url_path.startswith("/")
    assert not {".", ".."} & set(path.url_path.split("/"))
    assert normalise("default", path.target) == path, "a normalised name is its own normal form"
    try:
        parts = file_parts(path.url_path)
    except BadPath:
        return
    joined = os.path.normpath(os.path.join("/srv/media", *parts))
    assert joined == "/srv/media/" + "/".join(parts)


@given(HOSTILE)
def test_file_parts_alone_let_nothing_escape_either(url_path: str):
    try:
        parts = file_parts(url_path)
    except BadPath:
        return
    assert parts
    assert all(part not in ("", ".", "..") and not set(part) & set("/\\\0") for part in parts)


@pytest.mark.parametrize(
    "url_path, parts",
    [
        ("/cup/seg%201.m4s", ("cup", "seg 1.m4s")),
        ("/caf%C3%A9", ("café",)),
        ("/%252e%252e/x", ("%2e%2e", "x")),
        ("/...", ("...",)),
    ],
)
def test_file_parts(url_path: str, parts: tuple[str, ...]):
    assert file_parts(url_path) == parts


@pytest.mark.parametrize(
    "url_path",
    [
        "",
        "a",
        "/",
        "/a/",
        "//a",
        "/a//b",
        "/.",
        "/a/..",
        "/%2e%2e",
        "/a%2Fb",
        "/a%5Cb",
        "/%00",
        "/a%0Ab",
        "/%ff",
        "/" + "a" * 256,
    ],
)
def test_what_is_no_file(url_path: str):
    with pytest.raises(BadPath):
        file_parts(url_path)


def test_a_version_id_is_fixed_for_good():
    # Literal, because ids stand in file names and on the wire: a changed encoding needs a new format number.
    assert version_id("default/a", "", '"5-1"', 5).hex() == "c8d584a60419e44a92b891ae3fc5ed0b"


def test_version_ids_tell_every_field_apart():
    ids = {
        version_id("default/a", "", "v", 5),
        version_id("default/b", "", "v", 5),
        version_id("default/a", "gzip", "v", 5),
        version_id("default/a", "", "w", 5),
        version_id("default/a", "", "v", 6),
        version_id("default/av", "", "", 5),
    }
    assert len(ids) == 6


@pytest.mark.parametrize(
    "name, expected",
    [
        ("token", True),
        ("access_token", True),
        ("accessToken", True),
        ("X-Amz-Signature", True),
        ("Key-Pair-Id", True),
        ("hdnts", True),
        ("__token__", True),
        ("md5", True),
        ("Policy", True),
        ("session", False),
        ("design", False),
        ("signal", False),
        ("utm_source", False),
        ("_HLS_msn", False),
        ("quality", False),
    ],
)
def test_which_parameters_look_like_tokens(name: str, expected: bool):
    assert token_like(name) is expected


@pytest.mark.parametrize(
    "raw, authority, target",
    [
        ("/a/b?c=http://d/e", None, "/a/b?c=http://d/e"),
        ("http://edge:8080/a/../b?c", "edge:8080", "/a/../b?c"),
        ("HTTP://edge", "edge", "/"),
        ("ftp://edge/a", None, "ftp://edge/a"),
        ("*", None, "*"),
    ],
)
def test_only_absolute_form_names_an_authority_in_the_request_line(raw, authority, target):
    assert split_target(raw) == (authority, target)
