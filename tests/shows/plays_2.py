"""`make test` on a fresh clone."""

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from tests.shows.measured import ROOT, Measured, at_most, told

LIMIT_S = 600.0
GIVE_UP_S = 3600.0


def run() -> list[Measured]:
    """One run: it takes minutes, and sets up a virtual environment of its own."""
    with tempfile.TemporaryDirectory(prefix="show-") as name:
        clone = Path(name) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "PYTEST"))}
        environ.pop("CI", None)
        began = time.monotonic()
        done = subprocess.run(
            ["make", "test"], cwd=clone, env=environ, capture_output=True, text=True, timeout=GIVE_UP_S, check=False
        )
        took_s = time.monotonic() - began
    if done.returncode:
        print(done.stdout[-8000:], done.stderr[-2000:])
    counts = [line for line in done.stdout.splitlines() if re.search(r"\d+ passed", line)]
    skipped = [int(count) for line in counts for count in re.findall(r"(\d+) skipped", line)]
    said_why = done.stdout.count("SKIPPED [")
    return [
        at_most("make test on a fresh clone: exit code", [done.returncode], 0, detail=" / ".join(counts)),
        at_most("make test on a fresh clone, set-up included", [took_s], LIMIT_S, "s"),
        told("make test on a fresh clone: tests skipped", [sum(skipped)], detail=f"{said_why} reasons given"),
    ]
