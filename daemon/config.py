"""Typed, frozen configuration from a YAML file and the environment.

A program describes its configuration as frozen msgspec structs whose field types say what is expected; `load` fills
them. The environment wins over the file: `STARLING__CACHE__MEMORY=1GiB` sets `cache.memory`, lists are separated by
commas, and `null` takes a key away. Every mistake is one `ConfigError`, one line, which names the key and the nearest
right one.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import msgspec

from daemon.config_file import read_tree
from daemon.config_reader import PREFIX, Reader, Variable, known_keys, overlay
from daemon.errors import ConfigError as ConfigError
from daemon.version import VERSION

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the command line said."""

    config: Path | None
    check: bool


def parse_arguments(prog: str, argv: Sequence[str] | None, description: str) -> Arguments:
    """--config, --check, --version and --help; argparse exits 2 on anything else, 0 after --version and --help."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML file; the environment (STARLING__…) wins over it"
    )
    parser.add_argument("--check", action="store_true", help="validate the configuration and exit")
    parser.add_argument("--version", action="version", version=f"{prog} {VERSION}")
    parsed = parser.parse_args(argv)
    return Arguments(config=parsed.config, check=parsed.check)


def load(path: Path | None, environ: Mapping[str, str], type_: type[T]) -> T:
    """The configuration in `path` (None: no file), with the `STARLING__` variables over it. ConfigError if wrong."""
    tree = read_tree(path) if path else {}
    variables = sorted(name for name in environ if name.startswith(PREFIX))
    for name in variables:  # sorted, so that a section's own variable comes before those of its keys
        overlay(tree, Variable(name, environ[name]))
    reader = Reader(source=path.name if path else "environment", known=tuple(known_keys(type_)))
    return cast("T", reader.read_struct(tree, type_, ""))
