"""The closed sets say what the design says, and the three ratios mean what their names say."""

import pytest

from swarm import accounting
from swarm.accounting import Outcome, PeerState, Reason, Source, origin_copies, origin_offload, peer_share

SETS = [kind for kind in vars(accounting).values() if isinstance(kind, type) and issubclass(kind, accounting.Word)]
MEMBERS = [word for kind in SETS for word in kind]


def test_the_public_words_are_those_of_the_design():
    assert {*Outcome} == {"hit", "stale_hit", "joined", "miss", "revalidated", "passed", "refused", "failed"}
    assert {*Source} == {"memory", "disk", "peer", "origin"}
    assert {*PeerState} == {"alive", "suspect", "dead", "banned", "refused"}
    assert " ".join(Reason) == (
        "first_copy home_lost rehomed deadline no_holder verify_failed changed rot audit metainfo playlist prefetch "
        "revalidate not_cacheable standalone"
    )


@pytest.mark.parametrize("word", MEMBERS, ids=repr)
def test_each_word_has_a_sentence_of_its_own(word):
    assert " " in word.meaning
    assert "_" not in word.meaning


def test_a_word_is_its_text_on_the_wire_and_back():
    assert f"{Reason.HOME_LOST}" == "home_lost"
    assert Reason("home_lost") is Reason.HOME_LOST
    assert {"peer": 1}[Source.PEER] == 1


def test_three_edges_and_two_viewers_on_each_watch_the_same_mebibyte():
    # Each edge fetches 1 MiB, one of the three from the origin; six viewers get 6 MiB.
    mib = 1 << 20
    assert origin_copies(origin_bytes=mib, distinct_bytes=mib) == 1.0
    assert peer_share(peer_bytes=2 * mib, origin_bytes=mib) == pytest.approx(2 / 3)
    assert origin_offload(origin_bytes=mib, viewer_bytes=6 * mib) == pytest.approx(5 / 6)
    assert origin_offload(origin_bytes=3 * mib, viewer_bytes=6 * mib) == 0.5  # three plain caches


def test_before_anybody_watched_there_is_no_ratio():
    assert origin_copies(0, 0) is None
    assert peer_share(0, 0) is None
    assert origin_offload(0, 0) is None
