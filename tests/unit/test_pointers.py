"""What paths mean to whom: variants, newest first, and what becomes of those that no longer stand."""

import time
from collections.abc import Sequence

import msgspec
import pytest

from edge import pointers as module
from edge.pointers import Known, Pointers
from swarm.metainfo import Pointer, Signed
from swarm.names import Path

PATH = Path("default", "/page", "")
UNSIGNED = Signed(b"", b"", "")


def known(variant: str = "", version: bytes | None = b"v1", path: Path = PATH, **changes: object) -> Known:
    now = time.time()
    bare = Pointer(
        site=path.site, path=path.target, variant=variant, version=version, status=200, headers=(), sequence=1,
        made=now, expires=now + 60, born=now,
    )  # fmt: skip
    return Known(path, msgspec.structs.replace(bare, **changes), UNSIGNED, "attested", 0.0)


class Table:
    """Pointers, and the versions that were retired."""

    def __init__(self) -> None:
        self.retired: list[bytes] = []
        self.pointers = Pointers(self.retired.append)

    def learn(self, *all_known: Known) -> None:
        for one in all_known:
            self.pointers.learn(one)


@pytest.fixture
def table() -> Table:
    return Table()


def asked(**fields: str) -> Sequence[tuple[str, str]]:
    return list(fields.items())


def test_each_request_gets_the_variant_it_selects_and_the_newest_of_several(table: Table):
    one, two, other = known("foo: 1", b"v1"), known("foo: 2", b"v2"), known("bar: 1", b"v3")
    table.learn(one, two, other)
    assert table.pointers.known(PATH, asked(foo="1")) is one
    assert table.pointers.known(PATH, asked(foo="2")) is two
    assert table.pointers.known(PATH, asked(foo="2", bar="1")) is other
    assert table.pointers.known(PATH, asked(foo="3")) is None
    assert table.pointers.newest(PATH) is other
    assert table.pointers.likely_variant(PATH, asked(foo="2", bar="9")) == "bar: 9"


def test_a_newer_pointer_replaces_its_variant_alone(table: Table):
    old, kept, new = known("foo: 1", b"v1"), known("foo: 2", b"v2"), known("foo: 1", b"v3")
    table.learn(old, kept, new)
    assert (old.standing, kept.standing, new.standing) == (False, True, True)
    assert table.retired == [b"v1"]


def test_what_does_not_vary_answers_everybody_from_then_on(table: Table):
    old, new = known("foo: 1", b"v1"), known("", b"v2")
    table.learn(old, new)
    assert table.pointers.known(PATH, asked(foo="1")) is new
    assert not old.standing


def test_a_version_is_retired_only_when_no_variant_means_it(table: Table):
    one, same, new = known("foo: 1", b"v1"), known("foo: 2", b"v1"), known("foo: 1", b"v2")
    table.learn(one, same, new)
    assert table.retired == []
    table.pointers.doubt(PATH, b"v1")
    assert table.retired == [b"v1"]
    assert not same.standing


def test_confirmed_pointers_stay_what_they_are(table: Table):
    one = known("foo: 1")
    table.learn(one, one)
    assert one.standing
    assert table.retired == []


def test_of_a_path_only_so_many_variants_are_kept(table: Table):
    every = [known(f"foo: {number}", b"%d" % number) for number in range(module.MOST_VARIANTS + 2)]
    table.learn(*every)
    assert [one.standing for one in every] == [False, False] + [True] * module.MOST_VARIANTS
    assert table.retired == [b"0", b"1"]


def test_the_path_used_longest_ago_is_forgotten_first(table: Table, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_POINTERS", 2)
    first, second, third = (known(path=Path("default", f"/{number}", "")) for number in range(3))
    table.learn(first, second)
    assert table.pointers.known(first.path) is first
    table.learn(third)
    assert (first.standing, second.standing, third.standing) == (True, False, True)
    assert table.retired == [], "what it meant may still be recalled"


def test_what_was_purged_is_dropped_when_it_is_met(table: Table):
    purged, good = known("foo: 1", b"v1"), known("foo: 2", b"v2")
    table.learn(purged, good)
    table.pointers.allows = lambda one: one is good
    assert table.pointers.known(PATH, asked(foo="1")) is None
    assert table.pointers.known(PATH, asked(foo="2")) is good
    assert (purged.standing, table.retired) == (False, [b"v1"])


def test_everything_of_a_path_may_be_doubted(table: Table):
    one, two = known("foo: 1", b"v1"), known("foo: 2", None)
    table.learn(one, two)
    table.pointers.doubt_all(PATH)
    assert table.pointers.all(PATH) == ()
    assert (table.retired, len(table.pointers)) == ([b"v1"], 0)
