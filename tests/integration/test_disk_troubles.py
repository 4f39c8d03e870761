"""A disk that fails under an edge: no viewer learns of it, the operator does, and nothing has to be restarted."""

import pytest

from tests.integration.disk_troubles import Troubled, failing, fill_up, lacks_compiler, small_file_system, through

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(240)]
OBJECTS = 18
BATCH_SHARE = 0.13  # what may be on its way to a disk of 16 MiB when its free room is looked at


def check(found: Troubled) -> None:
    assert found.wrong == []
    assert found.errors_counted > 0
    assert found.logged
    assert found.recovered
    assert found.written_after > 0


@pytest.mark.skipif(bool(lacks_compiler()), reason=lacks_compiler())
@pytest.mark.parametrize("how", ["EIO", "EROFS", "ENOSPC"])
def test_a_failing_disk_costs_no_viewer_an_answer_and_is_used_again(tmp_path, how):
    check(through(failing(tmp_path, how), tmp_path, OBJECTS))


@pytest.mark.root
def test_a_disk_that_others_fill_costs_no_viewer_an_answer_and_is_used_again(tmp_path):
    with small_file_system(tmp_path) as disk:
        check(through(disk, tmp_path, OBJECTS, min_free="12MiB"))


@pytest.mark.root
def test_a_cache_larger_than_its_disk_leaves_free_what_it_shall(tmp_path):
    with small_file_system(tmp_path) as disk:
        found, free = fill_up(disk, tmp_path, 15 * OBJECTS, min_free="4MiB")
    assert found.wrong == []
    assert min(free) >= 0.25 - BATCH_SHARE
