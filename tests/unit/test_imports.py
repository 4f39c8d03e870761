"""Imports point one way, towards the rules; and the rules in `swarm` stay pure (docs/design.md, section 2)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MAY_IMPORT = {
    "swarm": {"swarm"},
    "daemon": {"daemon", "swarm"},
    "edge": {"edge", "swarm", "daemon"},
    "origin": {"origin", "swarm", "daemon"},
    "player": {"player", "swarm", "daemon"},
    "deploy": {"deploy", "swarm", "daemon"},
    "loadtests": {"loadtests", "swarm", "deploy"},
}
OURS = {*MAY_IMPORT, "tests"}

# Modules that only compute values. Anything that touches the machine (os, socket, asyncio, time, ...) is not here.
SWARM_STDLIB = {
    *("__future__", "abc", "array", "base64", "binascii", "bisect", "collections", "contextlib", "copy", "dataclasses"),
    *("datetime", "decimal", "email", "enum", "fractions", "functools", "hashlib", "heapq", "hmac", "html", "http"),
    *("ipaddress", "itertools", "json", "math", "operator", "random", "re", "statistics", "string", "struct"),
    *("types", "typing", "unicodedata", "urllib", "zlib"),
}
SWARM_THIRD_PARTY = {"msgspec", "xxhash"}
# Of these packages only the part that computes values.
SWARM_ONLY_PART = {"urllib": "urllib.parse", "email": "email.utils", "http": "http"}

FORBIDDEN_CALLS = {
    "open": "does I/O",
    "print": "does I/O",
    "input": "does I/O",
    "hash": "differs in every process",
}
CLOCK_METHODS = {"now", "utcnow", "today", "localtime"}


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, full module name) of every import, wherever it stands; relative ones belong to `package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, package if node.level else node.module or package


def wrong_imports(source: str, package: str) -> list[str]:
    """Sentences about imports that `package` must not make."""
    found = []
    for line, module in imported(ast.parse(source), package):
        top = module.partition(".")[0]
        if top in OURS:
            if top not in MAY_IMPORT[package]:
                found.append(f"line {line}: {package} imports {module}")
        elif package == "swarm" and not value_like(module):
            found.append(f"line {line}: swarm imports {module}, which is not value-like")
    return found


def value_like(module: str) -> bool:
    """Whether the pure rules may import it."""
    top = module.partition(".")[0]
    return top in SWARM_THIRD_PARTY or (top in SWARM_STDLIB and module == SWARM_ONLY_PART.get(top, module))


def impure_calls(source: str) -> list[str]:
    """Sentences about clocks, global randomness and I/O in a module of the rules."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            found += [f"line {node.lineno}: random.{a.name} is global" for a in node.names if a.name != "Random"]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "random" and node.attr != "Random":
            found.append(f"line {node.lineno}: random.{node.attr} is global")
        if isinstance(node, ast.Call):
            found += [f"line {node.lineno}: {why}" for why in impure_call(node)]
    return found


def impure_call(call: ast.Call) -> Iterator[str]:
    """Why this one call is impure, if it is."""
    match call.func:
        case ast.Name(id=name) if name in FORBIDDEN_CALLS:
            yield f"{name}() {FORBIDDEN_CALLS[name]}"
        case ast.Attribute(attr=name) if name in CLOCK_METHODS:
            yield f".{name}() reads a clock"
        case ast.Name(id="Random") | ast.Attribute(attr="Random") if not call.args:
            yield "Random() without a seed is global randomness"


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_each_package_imports_only_what_the_design_lets_it(package: str):
    wrong = [
        f"{path.relative_to(ROOT)} {sentence}"
        for path in modules(package)
        for sentence in wrong_imports(path.read_text(), package)
    ]
    assert wrong == []


def test_the_rules_read_no_clock_no_global_randomness_and_do_no_io():
    impure = [
        f"{path.relative_to(ROOT)} {sentence}"
        for path in modules("swarm")
        for sentence in impure_calls(path.read_text())
    ]
    assert impure == []


@pytest.mark.parametrize(
    "package, source, sentences",
    [
        ("edge", "from origin.app import run", ["line 1: edge imports origin.app"]),
        ("edge", "def f():\n    import player", ["line 2: edge imports player"]),
        ("edge", "from . import store\nimport aiohttp\nfrom daemon import metrics", []),
        ("daemon", "import edge.app", ["line 1: daemon imports edge.app"]),
        ("loadtests", "import daemon", ["line 1: loadtests imports daemon"]),
        ("deploy", "import tests.show", ["line 1: deploy imports tests.show"]),
        ("swarm", "import time", ["line 1: swarm imports time, which is not value-like"]),
        (
            "swarm",
            "from urllib.request import urlopen",
            ["line 1: swarm imports urllib.request, which is not value-like"],
        ),
        ("swarm", "from urllib.parse import quote\nimport msgspec.msgpack\nfrom swarm import errors", []),
    ],
)
def test_what_the_import_rule_catches(package: str, source: str, sentences: list[str]):
    assert wrong_imports(source, package) == sentences


@pytest.mark.parametrize(
    "source, sentences",
    [
        ("datetime.now(UTC)", ["line 1: .now() reads a clock"]),
        ("x = random.choice(edges)", ["line 1: random.choice is global"]),
        ("from random import shuffle", ["line 1: random.shuffle is global"]),
        ("rng = random.Random()", ["line 1: Random() without a seed is global randomness"]),
        ("open('x')", ["line 1: open() does I/O"]),
        ("home = edges[hash(path) % 3]", ["line 1: hash() differs in every process"]),
        ("def delay(rng: random.Random, now: float): return rng.uniform(0, now)", []),
    ],
)
def test_what_the_purity_rule_catches(source: str, sentences: list[str]):
    assert impure_calls(source) == sentences
