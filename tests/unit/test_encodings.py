"""Which coding a viewer is sent, for what it says it accepts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.encodings import GZIP, IDENTITY, encoding_for


@pytest.mark.parametrize(
    "accepted, sent",
    [
        (None, IDENTITY),
        ("", IDENTITY),
        ("gzip", GZIP),
        ("GZIP", GZIP),
        ("x-gzip", GZIP),
        ("gzip, deflate, br, zstd", GZIP),  # Chrome
        ("deflate, br", IDENTITY),
        ("gzip;q=0", IDENTITY),
        ("gzip;q=0.000, *", IDENTITY),
        ("gzip ; q=0.001", GZIP),
        ("gzip;Q=0.5", GZIP),
        ("gzip;q=0.5, identity;q=0.4", GZIP),
        ("gzip;q=0.5, identity", IDENTITY),
        ("gzip;q=1.0, identity; q=0.5, *;q=0", GZIP),
        ("*", GZIP),
        ("*;q=0", IDENTITY),
        ("*;q=0.5, identity;q=0.8", IDENTITY),
        ("gzip;q=0.5, *;q=0.8", IDENTITY),  # the plain form is among the others
        ("gzip;q=0.5, *;q=0", GZIP),
        ("identity;q=0", IDENTITY),  # nothing we have: the plain form all the same
        ("gzip;q=2", IDENTITY),  # no such weight: not said
        ("gzip;q=0.1234", IDENTITY),
        ("gzip;level=9", IDENTITY),
        ("gzip, gzip;q=0", IDENTITY),
        (",, gzip ,", GZIP),
        ("gzipped", IDENTITY),
    ],
)
def test_what_is_sent(accepted: str | None, sent: str):
    assert encoding_for(accepted) == sent


@given(st.text())
def test_any_text_is_answered_with_a_coding_we_have(accepted: str):
    assert encoding_for(accepted) in (GZIP, IDENTITY)


@given(st.text(alphabet="gzip*;q=0.15, identy-x"))
def test_who_does_not_name_gzip_or_everything_is_not_sent_it(accepted: str):
    if "gzip" not in accepted.lower() and "*" not in accepted:
        assert encoding_for(accepted) == IDENTITY
