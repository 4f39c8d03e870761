"""A streaming audience before one edge: collapsing, growing bodies, blocking reloads, grace, ranges."""

import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

import uvloop

from tests.integration.alone import alone_config, running_alone
from tests.integration.streaming import SCENES, VIEWERS, Origin, Row, at_once, stored
from tests.shows.measured import Measured, all_held, text_of

RUNS = 5
WARM_UP = 5


def run() -> list[Measured]:
    rows: dict[str, list[Row]] = defaultdict(list)
    for _ in range(RUNS):
        for row in uvloop.run(_all_scenes()):
            rows[row.name].append(row)
    return [figure for name, runs in rows.items() for figure in _figures(name, runs)]


async def _all_scenes() -> list[Row]:
    """Each before an edge that knows nothing of its paths yet, but has answered others: objects are cold here, not the
    program."""
    with tempfile.TemporaryDirectory(prefix="show-") as name:
        async with Origin().running() as origin:
            config = alone_config(Path(name), f"http://{origin.address}")
            config["origin"] = {"url": f"http://{origin.address}", "trust": "attested"}
            with running_alone(Path(name), config) as edge:
                address = str(edge.program.ready["viewer"])
                origin.behaviours["/others"] = stored(b"x" * 4096, "max-age=60, stale-while-revalidate=30")
                for _ in range(WARM_UP):
                    await at_once(VIEWERS, address, "/others")
                return [await scene(origin, address) for scene in SCENES]


def _figures(name: str, runs: list[Row]) -> list[Measured]:
    """Counts must hold in every run; of times the median is compared, for the machine is not ours alone."""
    wrong = [what for row in runs for what, held in row.held.items() if not held]
    figures = [all_held(name, wrong, sum(len(row.held) for row in runs), len(runs))]
    for at, (what, _, limit_s) in enumerate(runs[0].times):
        found = [1000 * row.times[at][1] for row in runs]
        spread = f"{text_of(min(found))} to {text_of(max(found))}"
        typical, limit = median(found), 1000 * limit_s
        figures.append(Measured(f"{name}: {what}", typical, "ms", limit, typical <= limit, spread, len(runs)))
    return figures
