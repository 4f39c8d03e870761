"""Viewer tokens: only what was made with a key of the site opens a path, only that path, and only in time."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from swarm.names import normalise
from swarm.tokens import (
    PARAMETER,
    Gate,
    Refusal,
    TokenRefused,
    covers,
    hide,
    hmac_signer,
    hmac_verifier,
    make_token,
    open_token,
    values_in,
)

SECRET = bytes(range(32))
NOW = 1_764_000_000
GATE = Gate({"web-1": hmac_verifier(SECRET), "old": hmac_verifier(b"another secret of some length")})
# From OpenSSL: base64url of HMAC-SHA256(SECRET, "starling viewer token 1", NUL, "web-1.1764003600.L2xpdmUv").
LIVE = "web-1.1764003600.L2xpdmUv.UlVplw4evsSy2FXyeiwokH6Mxspi0XtTCt9aSZCnmi4"


def token(prefix: str = "/live/", expires_at: int = NOW + 3600, key: str = "web-1", secret: bytes = SECRET) -> str:
    return make_token(key, expires_at, prefix, hmac_signer(secret))


def refusal(target: str, url_path: str = "/live/a.m3u8", now: float = NOW) -> Refusal | None:
    """Why the gate says no; None if it says yes."""
    try:
        GATE.admit(target, url_path, now)
    except TokenRefused as refused:
        return refused.why
    return None


def test_a_token_written_down_opens_what_it_says():
    assert token() == LIVE
    opened = GATE.admit(f"/live/a.m3u8?_HLS_msn=3&{PARAMETER}={LIVE}", "/live/a.m3u8", NOW)
    assert (opened.key, opened.expires_at, opened.prefix) == ("web-1", NOW + 3600, "/live/")
    assert repr(GATE) == "<Gate of web-1, old>"


@pytest.mark.parametrize(
    "target, url_path, now, why",
    [
        (f"/live/a?{PARAMETER}={LIVE}", "/live/a", NOW + 3599.9, None),
        (f"/live/a?{PARAMETER}={LIVE}", "/live/a", NOW + 3600, Refusal.EXPIRED),
        (f"/film/a?{PARAMETER}={LIVE}", "/film/a", NOW, Refusal.PATH),
        ("/live/a", "/live/a", NOW, Refusal.MISSING),
        ("/live/a?token=" + LIVE, "/live/a", NOW, Refusal.MISSING),
        (f"/live/a?{PARAMETER}=", "/live/a", NOW, Refusal.SIGNATURE),
        (f"/live/a?{PARAMETER}", "/live/a", NOW, Refusal.SIGNATURE),
        (f"/live/a?%73tarling%5ftoken={LIVE.replace('.', '%2E')}", "/live/a", NOW, None),
        (f"/live/a?{PARAMETER}={LIVE}&{PARAMETER}={LIVE}", "/live/a", NOW, Refusal.SIGNATURE),
        (f"/live/a?{PARAMETER}=web-2{LIVE[5:]}", "/live/a", NOW, Refusal.SIGNATURE),
        (f"/live/a?{PARAMETER}={token(secret=b'not that secret, but one as long')}", "/live/a", NOW, Refusal.SIGNATURE),
        (f"/live/a?{PARAMETER}={token(key='old')}", "/live/a", NOW, Refusal.SIGNATURE),  # another key's name
        (f"/live/a?{PARAMETER}=" + "a" * 3000, "/live/a", NOW, Refusal.SIGNATURE),
    ],
)
def test_who_is_let_in(target: str, url_path: str, now: float, why: Refusal | None):
    assert refusal(target, url_path, now) is why


def test_expiry_and_path_are_told_only_of_genuine_tokens():
    forged = token("/film/", NOW - 1, secret=b"not that secret, but one as long")
    assert refusal(f"/live/a?{PARAMETER}={forged}") is Refusal.SIGNATURE


@pytest.mark.parametrize(
    "prefix, url_path, is_covered",
    [
        ("/", "/anything/at/all", True),
        ("/live/", "/live/a", True),
        ("/live/", "/live", False),
        ("/live", "/live", True),
        ("/live", "/live/a", True),
        ("/live", "/live2/a", False),
        ("/film/a.mp4", "/film/a.mp4", True),
        ("/film/a.mp4", "/film/a.mp4.m3u8", False),
    ],
)
def test_what_a_prefix_covers(prefix: str, url_path: str, is_covered: bool):
    assert covers(prefix, url_path) is is_covered


@pytest.mark.parametrize("target", ["/live/../film/a", "/live/%2e%2E/film/a", "/live/x/../../film/a"])
def test_no_spelling_of_a_path_climbs_out_of_its_prefix(target: str):
    path = normalise("default", f"{target}?{PARAMETER}={LIVE}", (PARAMETER,))
    assert (path.url_path, path.query) == ("/film/a", "")
    assert refusal(f"{target}?{PARAMETER}={LIVE}", path.url_path) is Refusal.PATH


@given(st.integers(0, len(LIVE) - 1), st.characters(codec="ascii"))
def test_a_token_changed_anywhere_never_opens(at: int, character: str):
    changed = LIVE[:at] + character + LIVE[at + 1 :]
    assume(changed != LIVE)
    with pytest.raises(TokenRefused):
        open_token(changed, {"web-1": hmac_verifier(SECRET), "web-2": hmac_verifier(SECRET[1:])})


@given(st.integers(0, len(LIVE)), st.integers(0, len(LIVE)), st.text(max_size=5))
def test_nor_one_cut_or_grown(start: int, end: int, more: str):
    changed = LIVE[:start] + more + LIVE[end:]
    assume(changed != LIVE)
    with pytest.raises(TokenRefused):
        open_token(changed, {"web-1": hmac_verifier(SECRET)})


@given(st.text())
def test_any_target_is_answered_with_a_refusal(text: str):
    assert isinstance(refusal(f"/live/a?{text}"), Refusal)


@given(
    st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    st.integers(1, 10**12 - 1),
    st.from_regex(r"/[!-~]{0,300}", fullmatch=True),
)
def test_what_is_made_can_be_opened_and_needs_no_encoding(key: str, expires_at: int, prefix: str):
    made = make_token(key, expires_at, prefix, hmac_signer(SECRET))
    opened = open_token(made, {key: hmac_verifier(SECRET)})
    assert (opened.text, opened.key, opened.expires_at, opened.prefix) == (made, key, expires_at, prefix)
    assert values_in(f"/x?{PARAMETER}={made}") == [made]
    assert normalise("s", f"/x?a={made}").query == f"a={made}"


@pytest.mark.parametrize(
    "key, expires_at, prefix",
    [("a.b", 1, "/"), ("", 1, "/"), ("a", 0, "/"), ("a", 10**12, "/"), ("a", 1, "live/"), ("a", 1, "/" + "x" * 2000)],
)
def test_what_no_token_can_say(key: str, expires_at: int, prefix: str):
    with pytest.raises(ValueError):
        make_token(key, expires_at, prefix, hmac_signer(SECRET))


def test_logs_see_only_whose_key_it_was():
    assert hide(f"/live/a?x=1&{PARAMETER}={LIVE}&y=2") == f"/live/a?x=1&{PARAMETER}=web-1....&y=2"
    assert (
        hide(f'"http://e/live/a?%73tarling%5Ftoken={LIVE}" 403') == '"http://e/live/a?%73tarling%5Ftoken=web-1...." 403'
    )
    assert hide(f"{PARAMETER}={LIVE[-43:]} and on") == f"{PARAMETER}=... and on"
    assert hide("/live/a?x=1") == "/live/a?x=1"
    page = "http://e/-/player/?src=/live/a.m3u8%3Fx%3D1%26starling_token%3D"
    assert hide(f"{page}{LIVE}%26y&z=1") == f"{page}web-1....&z=1"
    twice = "http://f/?back=http%253A%252F%252Fe%252F%253Fstarling%255Ftoken%253D"
    assert hide(f"{twice}{LIVE}") == f"{twice}web-1...."


@given(st.text(alphabet="a.&=?%/ ", max_size=20), st.text(alphabet="a.&=?%/ ", max_size=20))
def test_no_signature_is_left_in_what_a_log_sees(before: str, after: str):
    assert LIVE[-43:] not in hide(f"{before}{PARAMETER}={LIVE}{after}")
