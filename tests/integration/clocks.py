"""Edges whose wall clock is wrong: a module that Python imports before everything else shifts it."""

import sys
from pathlib import Path

import yaml

from deploy.programs import Program, Swarm

SHIFT = """import os, time
_off = float(os.environ["CLOCK_OFF_S"])
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _off
time.time_ns = lambda: _time_ns() + int(_off * 1e9)
"""


def start_edge(programs: Swarm, node: str, off_s: float) -> Program:
    """An edge whose clock is off by so many seconds; it belongs to `programs` like any other."""
    directory = programs.directory / "shifted"
    directory.mkdir(exist_ok=True)
    (directory / "sitecustomize.py").write_text(SHIFT)
    file = Path(programs.directory / f"{node}.yaml")
    file.write_text(yaml.safe_dump(programs.edge_config(node)))
    command = [sys.executable, "-m", "edge", "--config", str(file)]
    environ = {"PYTHONPATH": str(directory), "CLOCK_OFF_S": str(off_s)}
    programs.edges[node] = Program(node, command, programs.directory / f"{node}.log", environ=environ)
    return programs.edges[node]
