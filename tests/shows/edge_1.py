"""The public HTTP caching suite through one edge; `SUITE=DIR` names a newer checkout, whose figure counts."""

import os
from pathlib import Path

from tests.cachetests import PACKAGE, count, table
from tests.cachetests import run as run_suite
from tests.shows.measured import Measured, at_least, told

OF_THE_CHECKOUT = {"required": 152, "optimal": 85}
OF_THE_PACKAGE = {
    "required": 138,
    "optimal": 69,
}  # an older cut: nine tests ask for what RFC 9111 dropped


def run() -> list[Measured]:
    suite = os.environ.get("SUITE")
    verdicts, failed = run_suite(Path(suite) if suite else PACKAGE)
    print(table(verdicts))
    floors = OF_THE_CHECKOUT if suite else OF_THE_PACKAGE
    cut = "http-tests/cache-tests" if suite else "npm http-cache-tests"
    figures = []
    for kind, floor in floors.items():
        passed, of = count(verdicts, kind)
        figures.append(at_least(f"{cut}: {kind} tests passed", [passed], floor, detail=f"of {of}"))
    return [*figures, told(f"{cut}: answers of 502 or 504", [failed], detail="where the origin gave none")]
