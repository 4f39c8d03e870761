"""`python -m tests.show plays-4`: runs a "must show" line at full length and records its figures.

`plays-n` imports `tests.shows.plays_n` and calls `run() -> list[Measured]`; `plays` runs all of them. Exit code 1 if a
promise is not kept. Never in CI: figures of a shared machine would fill docs/measurements.md with noise.
"""

import argparse
import importlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.shows.measured import Measured, append, table

SHOWS = Path(__file__).parent / "shows"
KEPT, BROKEN, BAD_USAGE = 0, 1, 2


def shows() -> dict[str, str]:
    """Name -> module of every show there is, in order."""
    found = {}
    for file in SHOWS.glob("*_*.py"):
        if match := re.fullmatch(r"([a-z]+)_(\d+)", file.stem):
            found[match[1], int(match[2])] = f"tests.shows.{file.stem}"
    return {f"{issue}-{number}": found[issue, number] for issue, number in sorted(found)}


def chosen(what: str) -> list[str]:
    """The shows that a word names: one, or all of an issue."""
    return [name for name in shows() if what in (name, name.partition("-")[0])]


def show(name: str, *, record: bool) -> bool:
    """Whether every promise was kept."""
    print(f"== {name}", flush=True)
    try:
        figures: list[Measured] = importlib.import_module(shows()[name]).run()
    except Exception as error:  # noqa: BLE001 - the other shows still have their say
        traceback.print_exc()
        figures = [Measured(f"{name} could not be shown", None, ok=False, detail=f"{type(error).__name__}: {error}")]
    else:
        if record:
            append(figures, f"make show WHAT={name}")
    print(table(figures), flush=True)
    return bool(figures) and all(figure.ok for figure in figures)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.show", description=__doc__)
    parser.add_argument("what", help=f"one of {', '.join(shows())}, or the word before the dash for all")
    parser.add_argument("--dry", action="store_true", help="do not record the figures in docs/measurements.md")
    arguments = parser.parse_args(argv)
    if os.environ.get("CI") == "true":
        print("show: never in CI, where figures mean nothing", file=sys.stderr)
        return BAD_USAGE
    names = chosen(arguments.what)
    if not names:
        print(f"show: no {arguments.what!r}; there are {', '.join(shows())}", file=sys.stderr)
        return BAD_USAGE
    results = [show(name, record=not arguments.dry) for name in names]
    return KEPT if all(results) else BROKEN


if __name__ == "__main__":
    sys.exit(main())
