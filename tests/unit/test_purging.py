"""Purges: what they cover, how books join, and that what is fetched after a purge is never covered by it."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm import purging
from swarm.accounting import PurgeKind
from swarm.errors import RemoteError
from swarm.names import Path
from swarm.purging import (
    EVERY_SITE,
    LIFETIME_S,
    MOST_LEAD_MS,
    SLACK_MS,
    BookFull,
    Purge,
    PurgeBook,
    greeters,
    missing_there,
    surrogate_keys,
)

NOW = 1_800_000_000.0
HERE = Path("default", "/film/a.mp4", "")
KEYED = (("Content-Type", "video/mp4"), ("Surrogate-Key", "film-7 cup"))


def purge(kind: str = "url", value: str = "/film/a.mp4", sequence: int = 100, **changes: object) -> Purge:
    bare = Purge(kind=kind, site="default", value=value, sequence=sequence, made=NOW, issuer="edge-1")
    return msgspec.structs.replace(bare, **changes)


def book_of(*purges: Purge) -> PurgeBook:
    book = PurgeBook()
    for one in purges:
        book.take(one, NOW)
    return book


@pytest.mark.parametrize(
    "made, path, covers",
    [
        (purge(), HERE, True),
        (purge(), Path("default", "/film/a.mp4", "t=1"), False),
        (purge(value="/film/a.mp4?t=1"), Path("default", "/film/a.mp4", "t=1"), True),
        (purge(), Path("other", "/film/a.mp4", ""), False),
        (purge(site=EVERY_SITE), Path("other", "/film/a.mp4", ""), True),
        (purge("prefix", "/film/"), HERE, True),
        (purge("prefix", "/fil"), HERE, True),
        (purge("prefix", "/film/a.mp4?"), HERE, False),
        (purge("prefix", "/film/a.mp4?"), Path("default", "/film/a.mp4", "t=1"), True),
        (purge("prefix", "/films/"), HERE, False),
        (purge("prefix", "/", site=EVERY_SITE), HERE, True),
        (purge("key", "cup"), HERE, True),
        (purge("key", "cup", site=EVERY_SITE), HERE, True),
        (purge("key", "cup", site="other"), HERE, False),
        (purge("key", "Cup"), HERE, False),
        (purge("key", "film"), HERE, False),
    ],
)
def test_a_purge_covers_what_it_names_in_any_variant(made: Purge, path: Path, covers: bool):
    assert (book_of(made).judge(path, 100, KEYED) == made) is covers


@pytest.mark.parametrize("sequence, covered", [(99, True), (100, True), (101, False)])
def test_a_purge_covers_pointers_up_to_its_own_number(sequence: int, covered: bool):
    assert (book_of(purge(sequence=100)).judge(HERE, sequence, ()) is not None) is covered


@pytest.mark.parametrize(
    "headers, keys",
    [
        ((("Surrogate-Key", " a  b "), ("surrogate-key", "c")), ["a", "b", "c"]),
        ((("Cache-Tag", "a, b c,,"),), ["a", "b c"]),
        ((("X-Key", "a"),), []),
    ],
)
def test_surrogate_keys_of_a_response(headers: tuple[tuple[str, str], ...], keys: list[str]):
    assert list(surrogate_keys(headers)) == keys


def test_a_hard_purge_says_more_than_a_soft_one():
    soft, hard = purge("prefix", "/film/", 300, soft=True), purge(sequence=200)
    book = book_of(soft, hard)
    assert [book.judge(HERE, sequence, ()) for sequence in (150, 250, 350)] == [hard, soft, None]


def test_a_purge_made_anew_replaces_the_old_one_and_a_newer_hard_one_the_soft_one():
    book = book_of(purge(sequence=1), purge(sequence=2), purge(sequence=3, soft=True))
    assert sorted(one.sequence for one in book) == [2, 3]
    assert not book.take(purge(sequence=2), NOW)
    assert book.take(purge(sequence=4), NOW)
    assert [one.sequence for one in book] == [4]
    assert not book.take(purge(sequence=3, soft=True), NOW)


def test_each_purge_taken_raises_the_generation():
    book = book_of(purge(sequence=5))
    before = book.generation
    book.take(purge(sequence=5), NOW)
    assert book.generation == before
    book.take(purge(sequence=6), NOW)
    assert book.generation > before


def test_purges_are_forgotten_after_their_lifetime():
    book = book_of(purge(), purge("prefix", "/x", made=NOW - LIFETIME_S + 1))
    empty = PurgeBook()
    assert book.expire(NOW) == 0
    assert book.expire(NOW + 1) == 1
    assert book.expire(NOW + LIFETIME_S) == 1
    assert (len(book), book.digest) == (0, empty.digest)
    assert not book.take(purge(), NOW + LIFETIME_S)


def test_what_a_forgotten_purge_covered_is_asked_about_if_it_was_never_met():
    book = book_of(purge(value="/other", sequence=100))
    generation = book.generation
    assert book.judge(HERE, 100, ()) is None
    book.expire(NOW + LIFETIME_S)
    covering = book.judge(HERE, 100, ())
    assert covering is not None
    assert covering.soft
    assert book.judge(HERE, 101, ()) is None
    assert book.generation == generation  # what was judged while it was in force is good


def test_a_book_is_restored_from_what_was_kept_of_it():
    book = book_of(purge(), purge("key", "k", 120, soft=True), purge("prefix", "/x", 90, made=NOW - LIFETIME_S + 1))
    book.expire(NOW + 1)
    again = PurgeBook()
    for one in book.kept():
        again.restore(one, NOW + 2)
    assert again.digest == book.digest
    assert again.forgotten is not None
    assert again.forgotten.sequence == 90
    late = PurgeBook()
    for one in book.kept():
        late.restore(one, NOW + LIFETIME_S)
    assert (len(late), late.forgotten and late.forgotten.sequence) == (0, 120)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"kind": "regex"},
        {"value": ""},
        {"value": "/" * 9000},
        {"site": "a/b"},
        {"sequence": -1},
        {"sequence": int(NOW * 1000) + MOST_LEAD_MS + 601_000},
        {"made": NOW + 3601},
        {"made": float("nan")},
        {"issuer": purging.NOBODY},
    ],
)
def test_what_no_honest_edge_made_is_refused(changes: dict[str, object]):
    with pytest.raises(RemoteError):
        PurgeBook().take(msgspec.structs.replace(purge(), **changes), NOW)


def test_a_full_book_refuses_what_is_new_and_takes_what_replaces(monkeypatch):
    monkeypatch.setattr(purging, "MOST_PURGES", 2)
    book = book_of(purge(value="/1"), purge(value="/2"))
    with pytest.raises(BookFull):
        book.take(purge(value="/3"), NOW)
    with pytest.raises(BookFull):
        book.check_room([purge(value="/2"), purge(value="/4")])
    with pytest.raises(BookFull):
        book.check_room([purge(value="/2", soft=True)])
    book.check_room([purge(value="/2"), purge(value="/1")])
    assert book.take(purge(value="/2", sequence=200), NOW)


def test_a_book_fits_into_a_message(monkeypatch):
    monkeypatch.setattr(purging, "MOST_BYTES", 10)
    book = book_of(purge(value="/123456"))
    with pytest.raises(BookFull):
        book.take(purge(value="/123"), NOW)
    assert book.take(purge(value="/12"), NOW)


def test_a_purge_is_numbered_above_the_clock_and_above_what_was_seen():
    book = PurgeBook()
    now_ms = int(NOW * 1000)
    assert book.sequence_for("default", NOW) == now_ms + SLACK_MS
    book.on_seen("default", now_ms + 60_000)
    assert book.sequence_for("default", NOW) == now_ms + 60_000
    assert book.sequence_for("other", NOW) == now_ms + SLACK_MS
    assert book.sequence_for(EVERY_SITE, NOW) == now_ms + 60_000
    book.on_seen("default", now_ms * 2)
    assert book.sequence_for("default", NOW) == now_ms + MOST_LEAD_MS


def test_who_was_away_for_too_long_asks_about_all_it_held_and_tells_nobody():
    book = PurgeBook()
    digest = book.digest
    book.on_away_too_long(NOW)
    covering = book.judge(HERE, int(NOW * 1000), ())
    assert covering is not None
    assert covering.soft
    assert book.judge(HERE, book.newest + 1, ()) is None
    assert (list(book), book.digest) == ([], digest)


@pytest.mark.parametrize("sequence", [0, 2**62])
def test_an_empty_book_covers_nothing(sequence: int):
    assert PurgeBook().judge(HERE, sequence, KEYED) is None


NAMES = st.sampled_from([("url", "/a"), ("url", "/b"), ("prefix", "/a"), ("prefix", "/"), ("key", "k")])
PURGES = st.builds(
    lambda name, sequence, soft, site: purge(name[0], name[1], sequence, soft=soft, site=site),
    NAMES,
    st.integers(1, 9),
    st.booleans(),
    st.sampled_from(["default", "other", EVERY_SITE]),
)
PATHS = [Path(site, target, "") for site in ("default", "other") for target in ("/a", "/b", "/ab", "/c")]


def verdicts(book: PurgeBook) -> list[bool | None]:
    """hard, soft or nothing, for every path, number and key there may be."""
    found = []
    for path, sequence, headers in itertools.product(PATHS, range(11), ((), (("Surrogate-Key", "k"),))):
        covering = book.judge(path, sequence, headers)
        found.append(None if covering is None else covering.soft)
    return found


@given(st.lists(PURGES, max_size=8), st.randoms(use_true_random=False))
def test_books_that_took_the_same_purges_in_any_order_are_equal(purges: list[Purge], rng):
    shuffled = purges + purges[::2]
    rng.shuffle(shuffled)
    one, other = book_of(*purges), book_of(*shuffled)
    assert one.digest == other.digest
    assert verdicts(one) == verdicts(other)


@given(st.lists(PURGES, max_size=8))
def test_a_book_forgets_no_verdict(purges: list[Purge]):
    """Against a list of all purges ever made, looked through from end to end."""
    book = book_of(*purges)
    for path, sequence, headers in itertools.product(PATHS, range(11), ((), (("Cache-Tag", "k"),))):
        covering = [one for one in purges if one.sequence >= sequence and _names(one, path, headers)]
        expected = None if not covering else all(one.soft for one in covering)
        found = book.judge(path, sequence, headers)
        assert (None if found is None else found.soft) == expected


def _names(one: Purge, path: Path, headers: tuple[tuple[str, str], ...]) -> bool:
    if one.site not in (path.site, EVERY_SITE):
        return False
    match PurgeKind(one.kind):
        case PurgeKind.URL:
            return one.value == path.target
        case PurgeKind.PREFIX:
            return path.target.startswith(one.value)
        case PurgeKind.KEY:
            return bool(headers)


@given(st.lists(PURGES, max_size=8), st.lists(PURGES, max_size=8))
def test_two_books_are_equal_once_each_took_what_it_lacked(mine: list[Purge], theirs: list[Purge]):
    one, other = book_of(*mine), book_of(*theirs)
    sent = tuple(other)
    for purge_ in sent:
        one.take(purge_, NOW)
    for purge_ in missing_there(one, sent):
        other.take(purge_, NOW)
    assert one.digest == other.digest
    assert sorted(map(str, one)) == sorted(map(str, other))


@given(st.lists(PURGES, max_size=8), st.lists(PURGES, max_size=8))
def test_different_books_have_different_digests(mine: list[Purge], theirs: list[Purge]):
    one, other = book_of(*mine), book_of(*theirs)
    same = {(p.name, p.soft, p.sequence) for p in one} == {(p.name, p.soft, p.sequence) for p in other}
    assert (one.digest == other.digest) is same


@given(st.lists(PURGES, max_size=8))
def test_nothing_numbered_above_the_newest_purge_is_covered(purges: list[Purge]):
    book = book_of(*purges)
    assert all(book.judge(path, book.newest + 1, (("Surrogate-Key", "k"),)) is None for path in PATHS)


def test_everybody_names_the_same_few_greeters_and_never_the_newcomer():
    nodes = [f"edge-{number}" for number in range(20)]
    chosen = greeters("edge-7", nodes)
    assert chosen == greeters("edge-7", reversed(nodes))
    assert len(set(chosen)) == 3
    assert "edge-7" not in chosen
    assert greeters("a", ["a", "b"]) == ["b"]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error_of_the_format(data: bytes):
    try:
        message = msgspec.msgpack.decode(data, type=purging.PurgeMessage)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    for one in message.purges:
        try:
            PurgeBook().take(one, NOW)
        except RemoteError:
            continue
