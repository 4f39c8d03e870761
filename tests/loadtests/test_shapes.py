"""The crowd comes when it should, and leaves."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SIZES = """
from loadtests.shapes import crowd_size
def at(seconds):
    return crowd_size(seconds, before=10, peak=110, begins_s=20, within_s=10, stays_s=60)
print([at(seconds) for seconds in (0, 19.9, 20, 25, 30, 60, 90, 95, 99.9, 100)])
print(crowd_size(5, before=1, peak=9, begins_s=5, within_s=0, stays_s=1))
"""


def test_the_size_of_a_flash_crowd():
    """In a process of its own: importing locust brings gevent along, which other tests shall not meet."""
    run = subprocess.run(
        [sys.executable, "-c", SIZES], cwd=ROOT, capture_output=True, text=True, timeout=50, check=True
    )
    assert run.stdout.splitlines() == ["[10, 10, 10, 60, 110, 110, 110, 60, 11, None]", "9"]
