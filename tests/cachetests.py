"""`python -m tests.cachetests [DIRECTORY]`: the public HTTP caching suite through one edge, scored by group.

Runs the checkout of http-tests/cache-tests in DIRECTORY, else the npm package `http-cache-tests` (an older cut of it).
The suite's origin and its client are node programs; the edge between them is plain: `trust: attested`, no swarm.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.programs import ROOT, Swarm, die_with_parent

PACKAGE = ROOT / "node_modules" / "http-cache-tests"
WITHIN_S = 240.0
KINDS = ("required", "optimal", "check")
PASSED = ("pass", "yes")

# The suite's origin listens on every interface; here on loopback alone, on a port it is given by the system.
ON_LOOPBACK = """
import net from 'node:net'
const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (port, ...rest) {
  this.once('listening', () => console.log(`PORT ${this.address().port}`))
  return listen.call(this, Number(port), '127.0.0.1', ...rest)
}
"""


@dataclass(frozen=True)
class Verdict:
    """How one test of the suite came out: pass, fail, setup or dependency; yes or no for a `check`."""

    test: str
    group: str
    kind: str
    came_out: str
    detail: str


@contextlib.contextmanager
def _copied(suite: Path) -> Iterator[Path]:
    """The suite in a directory of its own, where node finds the packages it needs."""
    with tempfile.TemporaryDirectory(prefix="cachetests-") as name:
        copy = Path(name) / "suite"
        shutil.copytree(suite, copy, ignore=shutil.ignore_patterns("node_modules", ".git", "results"))
        own = suite / "node_modules"
        (copy / "node_modules").symlink_to(own if own.is_dir() else ROOT / "node_modules")
        (copy / "on-loopback.mjs").write_text(ON_LOOPBACK)
        yield copy


def _script(suite: Path, name: str) -> str:
    """Where this cut of the suite keeps one of its programs."""
    return next(str(file.relative_to(suite)) for file in (suite / "test-engine" / name, suite / name) if file.exists())


def _node(suite: Path, *arguments: str, **settings: str) -> "subprocess.Popen[str]":
    environ = {"npm_package_config_id": ""} | {f"npm_config_{name}": value for name, value in settings.items()}
    return subprocess.Popen(
        ["node", "--no-warnings", *arguments],
        cwd=suite,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=die_with_parent,
    )


@contextlib.contextmanager
def _origin(suite: Path) -> Iterator[str]:
    """The suite's own origin; its URL."""
    process = _node(
        suite, "--import", "./on-loopback.mjs", _script(suite, "server/server.mjs"),
        port="0", protocol="http", pidfile=str(suite / "pid"),
    )  # fmt: skip
    assert process.stdout is not None
    try:
        port = next((line.split()[1] for line in process.stdout if line.startswith("PORT ")), None)
        if port is None:
            raise RuntimeError("the suite's origin did not start")
        with _read_away(process):
            yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def _read_away(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Its chatter must not fill the pipe."""
    assert process.stdout is not None
    reader = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent)
    try:
        yield
    finally:
        reader.kill()
        reader.wait()


def _tests(suite: Path) -> list[Any]:
    """Every test there is, as the suite describes it, in its groups."""
    script = "import t from './tests/index.mjs'; console.log(JSON.stringify(t))"
    process = _node(suite, "--input-type=module", "--eval", script)
    out, _ = process.communicate(timeout=60)
    groups: list[Any] = json.loads(out)
    return groups


def _results(suite: Path, base: str) -> dict[str, Any]:
    process = _node(suite, _script(suite, "cli.mjs"), base=base)
    try:
        out, _ = process.communicate(timeout=WITHIN_S)
    finally:
        process.kill()
        process.wait()
    results: dict[str, Any] = json.loads(out[out.index("{\n") : out.rindex("}") + 1])
    return results


def judged(groups: Sequence[Any], results: Mapping[str, Any]) -> list[Verdict]:
    """Each test that ran and stands in the suite's index (an older cut also runs drafts that no RFC took up). One whose
    precondition was not met has no verdict of its own, as the suite's authors ask."""
    tests = {test["id"]: test for group in groups for test in group["tests"]}

    def came_out(name: str) -> str:
        result, test = results[name], tests[name]
        if any(came_out(other) not in PASSED for other in test.get("depends_on", ())):
            return "dependency"
        if result is not True and result[0] != "Assertion":
            return "setup"
        if test.get("kind", "required") == "check":
            return "yes" if result is True else "no"
        return "pass" if result is True else "fail"

    return [
        Verdict(
            test["id"],
            group["id"],
            test.get("kind", "required"),
            came_out(test["id"]),
            "" if results[test["id"]] is True else ": ".join(map(str, results[test["id"]])),
        )
        for group in groups
        for test in group["tests"]
        if test["id"] in results
    ]


def run(suite: Path) -> tuple[list[Verdict], float]:
    """The verdicts, and how many responses of the edge's own were errors although it was told of none."""
    with _copied(suite) as copy, _origin(copy) as url, tempfile.TemporaryDirectory(prefix="cachetests-") as name:
        programs = Swarm(Path(name), swarm=False)
        config = {
            "node": "edge-1",
            "viewer": {"listen": "127.0.0.1:0"},
            "admin": {"listen": "127.0.0.1:0"},
            "origin": {"url": url, "trust": "attested"},
            "cache": {"memory": "64MiB", "disk": 0},
            "drain": {"grace": "0s"},
        }
        try:
            programs.start_edge("edge-1", config)
            results = _results(copy, programs.url("edge-1"))
            failed = programs.metrics("edge-1")['starling_viewer_requests_total{outcome="failed"}']
        finally:
            programs.stop()
        return judged(_tests(copy), results), failed


def count(verdicts: Sequence[Verdict], kind: str) -> tuple[int, int]:
    """(passed, all) of one kind."""
    of_kind = [verdict for verdict in verdicts if verdict.kind == kind]
    return sum(verdict.came_out in PASSED for verdict in of_kind), len(of_kind)


def table(verdicts: Sequence[Verdict]) -> str:
    """By group, passed of all, for each kind."""
    groups = list(dict.fromkeys(verdict.group for verdict in verdicts))
    lines = [f"{'group':20} " + " ".join(f"{kind:>10}" for kind in KINDS)]
    for group in [*groups, "all"]:
        mine = [verdict for verdict in verdicts if group in (verdict.group, "all")]
        counts = [count(mine, kind) for kind in KINDS]
        lines.append(f"{group:20} " + " ".join(f"{passed:4d}/{of:<4d} " if of else " " * 10 for passed, of in counts))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cachetests", description=__doc__)
    parser.add_argument("suite", nargs="?", type=Path, default=PACKAGE)
    suite = parser.parse_args(argv).suite
    began = time.monotonic()
    verdicts, failed = run(suite)
    for verdict in verdicts:
        if verdict.came_out not in PASSED:
            print(f"{verdict.came_out:10} {verdict.kind:8} {verdict.test}: {verdict.detail}")
    print(Counter(verdict.came_out for verdict in verdicts))
    print(table(verdicts))
    print(f"{failed:.0f} requests failed at the edge; {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
