"""Which bytes are new: worked examples, and the same answers as a set of byte numbers gives."""

from hypothesis import given
from hypothesis import strategies as st

from swarm.coverage import Coverage


def test_only_bytes_not_seen_before_are_new():
    coverage = Coverage()
    assert coverage.add("film", 0, 100) == 100
    assert coverage.add("film", 0, 100) == 0
    assert coverage.add("film", 50, 150) == 50
    assert coverage.add("film", 200, 300) == 100
    assert coverage.add("film", 0, 400) == 50 + 100
    assert coverage.add("other", 0, 10) == 10


def test_an_empty_run_is_nothing():
    assert Coverage().add("film", 7, 7) == 0


def test_the_version_longest_untouched_is_forgotten():
    coverage = Coverage(most_versions=2)
    coverage.add("a", 0, 10)
    coverage.add("b", 0, 10)
    coverage.add("a", 0, 10)
    coverage.add("c", 0, 10)
    assert coverage.add("a", 0, 10) == 0
    assert coverage.add("b", 0, 10) == 10


runs = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=30)


@given(runs)
def test_it_agrees_with_a_set_of_byte_numbers(runs):
    coverage = Coverage()
    seen: set[int] = set()
    for start, length in runs:
        wanted = set(range(start, start + length))
        assert coverage.add("v", start, start + length) == len(wanted - seen)
        seen |= wanted
