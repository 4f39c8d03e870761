"""Runs of the netlab that stand: a void one is told, and another takes its place."""

import contextlib
from collections.abc import Generator
from itertools import islice
from typing import Any

from loadtests.netlab.results import line

SPARE = 5  # runs more at most, in place of void ones


def standing(runs: Generator[Any, None, None], wanted: int, name: str) -> list[Any]:
    """The first so many that stand, fewer if too many were void. Nothing that does not stand is a figure."""
    found: list[Any] = []
    with contextlib.closing(runs):
        for one in islice(runs, wanted + SPARE):
            print(f"{name}: {line(one)}", flush=True)
            if not one.void:
                found.append(one)
            if len(found) == wanted:
                break
    return found
