"""What every test may rely on: Hypothesis profiles, and marks that say what a test needs of the machine."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent
HLS_JS = ROOT / "player" / "web" / "vendor" / "hls.min.mjs"
CACHE_TESTS = ROOT / "node_modules" / "http-cache-tests" / "package.json"

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")


def lacks_browser() -> str:
    """What a browser test lacks, as a sentence; empty if nothing."""
    if shutil.which("chromium") is None:
        return "Debian package chromium is not installed"
    return "" if HLS_JS.exists() else "player/web/vendor/hls.min.mjs is missing: run make setup (needs npm)"


def lacks_prometheus() -> str:
    """The same for a test that runs a real Prometheus."""
    both = shutil.which("prometheus") and shutil.which("promtool")
    return "" if both else "Debian package prometheus (with promtool) is not installed"


def lacks_root() -> str:
    """The same for a test that mounts file systems or shapes networks."""
    return "" if os.geteuid() == 0 else "needs root"


def lacks_node() -> str:
    """The same for a test that runs programs of Node.js from node_modules."""
    if shutil.which("node") is None:
        return "Node.js is not installed"
    return "" if CACHE_TESTS.exists() else "node_modules/http-cache-tests is missing: run make setup (needs npm)"


LACKS: dict[str, Callable[[], str]] = {
    "browser": lacks_browser,
    "node": lacks_node,
    "prometheus": lacks_prometheus,
    "root": lacks_root,
}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test the machine cannot run, before its fixtures start; in CI (CI=true) that is a failure."""
    for mark, lacks in LACKS.items():
        if item.get_closest_marker(mark) is None:
            continue
        if lack := lacks():
            if os.environ.get("CI") == "true":
                pytest.fail(f"{lack}, and CI must run every test", pytrace=False)
            pytest.skip(lack)
