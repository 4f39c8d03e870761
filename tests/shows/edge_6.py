"""Line 6: a disk that fills up, turns read-only or fails: no viewer error for what the origin can serve, and recovery
without a restart.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.integration.disk_troubles import Troubled, failing, fill_up, small_file_system, through
from tests.shows.measured import Measured, all_held, at_least

OBJECTS = 90
FILLING = 900
WAYS = ("EIO", "EROFS", "ENOSPC")
MIN_FREE_SHARE = 0.25  # of a file system of 16 MiB, as configured
ON_THE_WAY_SHARE = 0.13  # what may be on its way there when its free room is looked at


def run() -> list[Measured]:
    return list(_all())


def _all() -> Iterator[Measured]:
    for how in WAYS:
        with tempfile.TemporaryDirectory(prefix="starling-edge-6-") as name:
            directory = Path(name)
            yield _verdict(f"disk fails with {how}", through(failing(directory, how), directory, OBJECTS))
    with tempfile.TemporaryDirectory(prefix="starling-edge-6-") as name, small_file_system(Path(name)) as disk:
        found = through(disk, Path(name), OBJECTS, min_free="12MiB")
        yield _verdict("tmpfs of 16 MiB filled by others", found)
    with tempfile.TemporaryDirectory(prefix="starling-edge-6-") as name, small_file_system(Path(name)) as disk:
        filled, free = fill_up(disk, Path(name), FILLING, min_free="4MiB")
    yield all_held("cache of 1 GiB on 16 MiB: viewer errors", filled.wrong, filled.answers)
    least = MIN_FREE_SHARE - ON_THE_WAY_SHARE
    yield at_least("cache of 1 GiB on 16 MiB: free share at its least, min_free a quarter", [min(free)], least)


def _verdict(what: str, found: Troubled) -> Measured:
    silent = {
        "no disk error was counted": not found.errors_counted,
        "the log says nothing": not found.logged,
        "it was not used again": not found.recovered or found.written_after <= 0,
    }
    wrong = found.wrong + [sentence for sentence, is_so in silent.items() if is_so]
    return all_held(f"{what}: viewer errors, silence, no recovery", wrong, found.answers)
