"""The locks follow pyproject.toml and package.json, and name no index, so that any mirror serves them."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN = PROJECT["dependencies"]
EXTRAS = [wanted for extra in PROJECT["optional-dependencies"].values() for wanted in extra]


def pins(lock: str) -> dict[str, str]:
    """Name to version of every package in a lock."""
    text = (ROOT / "requirements" / lock).read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^ \\]+)", text, re.MULTILINE))


@pytest.mark.parametrize("lock, wanted", [("run.txt", RUN), ("dev.txt", [*RUN, *EXTRAS])])
def test_a_lock_pins_what_the_project_asks_for(lock: str, wanted: list[str]):
    pinned = pins(lock)
    requirements = [Requirement(line) for line in wanted if not line.startswith(PROJECT["name"])]
    unmet = [str(r) for r in requirements if not r.specifier.contains(pinned.get(r.name.lower(), "0"))]
    assert unmet == [], "run make lock"


def test_programs_run_on_the_versions_they_are_tested_on():
    tested = pins("dev.txt")
    assert {name: version for name, version in pins("run.txt").items() if tested[name] != version} == {}


@pytest.mark.parametrize("lock", ["requirements/run.txt", "requirements/dev.txt", "package-lock.json"])
def test_a_lock_names_no_index(lock: str):
    assert re.findall(r"https?://|file:|--[a-z-]*index|--find-links|\"resolved\"", (ROOT / lock).read_text()) == []


def test_hls_js_is_pinned_to_one_version():
    wanted = json.loads((ROOT / "package.json").read_text())["dependencies"]["hls.js"]
    locked = json.loads((ROOT / "package-lock.json").read_text())["packages"]["node_modules/hls.js"]
    assert (locked["version"], locked["integrity"].partition("-")[0]) == (wanted, "sha512")
