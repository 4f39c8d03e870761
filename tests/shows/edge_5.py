"""Line 5: `kill -9` twenty times under write load; no torn or wrong body is ever served afterwards."""

import tempfile
from pathlib import Path

from tests.integration.kills import kill_again_and_again
from tests.shows.measured import Measured, all_held, at_least

KILLS = 20
SEEDS = (1, 2, 3)


def run() -> list[Measured]:
    found = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory(prefix="starling-edge-5-") as name:
            found.append(kill_again_and_again(Path(name), KILLS, seed))
    wrong = [one for run in found for one in run.wrong]
    failed = [one for run in found for one in run.errors_with_origin]
    checked, asked = sum(run.checked for run in found), sum(run.asked for run in found)
    return [
        all_held(f"bodies after {KILLS} times kill -9 under load, SHA-256 of each", wrong, checked, len(found)),
        all_held("bodies that failed though the origin could serve them", failed, asked, len(found)),
        at_least("bodies still there after a kill, without the origin", [run.kept for run in found], 1, "bodies"),
    ]
